"""fimi.generator_node.service.node: a real node with a real model, over a real broker."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from run_contract import DIGITS as CONTRACT

from fimi.generator_node.generators.base import Provenance, Seeds
from fimi.generator_node.generators.diffusion import DiffusionGenerator
from fimi.generator_node.service.node import GeneratorNode
from fimi.generator_node.service.service import BatchService
from fimi.learning.data.batches import decode, decode_unlabelled
from fimi.learning.data.contract import Contract
from fimi.learning.data.dataset import Images, Labels
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import UpdateReady
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.messages.synthesis import (
    SamplePicture,
    SyntheticBatch,
    SyntheticProgress,
    SyntheticRequest,
    SyntheticSamples,
)
from fimi.messaging.topics import COORDINATOR

COUNTS = (2, 0, 1, 0, 0, 0, 0, 0, 0, 1)


class Counting:
    """A generator that counts what it is asked for, and fails when told to."""

    def __init__(self, inner: DiffusionGenerator) -> None:
        self.inner = inner
        self.made = 0
        self.fails = False

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def classes(self) -> int:
        return self.inner.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.inner.image_shape

    @property
    def provenance(self) -> Provenance:
        return self.inner.provenance

    def generate(self, class_ids: Labels, seeds: Seeds) -> Images:
        if self.fails:
            raise RuntimeError("not enough memory: you tried to allocate 1 TB")
        self.made += len(class_ids)
        return self.inner.generate(class_ids, seeds)


class Bench:
    """A node in a thread, with the coordinator's and a device's end of the line."""

    def __init__(self, broker: EmbeddedBroker, fleet: str, generator: DiffusionGenerator) -> None:
        self.generator = Counting(generator)
        self.peer = Peer(broker.address, fleet=fleet, peer="generator", role="generator")
        self.desk = Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator")
        self.device = Peer(broker.address, fleet=fleet, peer="device-1", role="device")
        self.answers: list[SyntheticBatch] = []
        self.stop = threading.Event()
        service = BatchService(self.generator, images_max=100)
        self.node = GeneratorNode(
            self.peer, service, contract=CONTRACT, on_answer=self.answers.append
        )
        self.thread = threading.Thread(target=self.node.run, args=(self.stop,))

    def __enter__(self) -> Bench:
        for peer in (self.peer, self.desk, self.device):
            peer.connect()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for peer in (self.peer, self.desk, self.device):
            peer.close()

    def end(self) -> None:
        self.stop.set()
        self.thread.join()

    def ask(
        self,
        counts: tuple[int, ...] = COUNTS,
        *,
        device: str = "device-1",
        run: str = "r1",
        contract: Contract = CONTRACT,
        skip: tuple[int, ...] = (),
    ) -> SyntheticRequest:
        request = SyntheticRequest(
            run=run, device=device, counts=counts, seed=7, contract=contract, skip=skip
        )
        self.desk.send("generator", request)
        return request

    def answer(self, timeout_s: float = 10.0) -> SyntheticBatch:
        limit = time.monotonic() + timeout_s
        while (left := limit - time.monotonic()) > 0:
            received = self.desk.receive(timeout_s=left)
            if received is not None and isinstance(received[1], SyntheticBatch):
                assert received[0] == "generator"
                return received[1]
        raise AssertionError(f"no answer within {timeout_s} s")

    def fetch(self, offer: Offer | None) -> bytes:
        assert offer is not None
        return self.device.transfers.fetch(offer, 5.0)


def test_the_coordinator_hears_of_progress(
    a_broker: EmbeddedBroker, fleet_name: str, tiny_generator: DiffusionGenerator
) -> None:
    """Every chunk here; by default no more than one message a second."""
    stop = threading.Event()
    service = BatchService(tiny_generator, chunk=4)
    with (
        Peer(a_broker.address, fleet=fleet_name, peer="generator", role="generator") as peer,
        Peer(a_broker.address, fleet=fleet_name, peer=COORDINATOR, role="coordinator") as desk,
    ):
        node = GeneratorNode(peer, service, progress_every_s=0.0)
        for device in ("device-1", "device-2"):
            counts = (8,) + (0,) * 9
            request = SyntheticRequest(run="r1", device=device, counts=counts, seed=7)
            desk.send("generator", request)
        thread = threading.Thread(target=node.run, args=(stop,))
        thread.start()
        heard: list[SyntheticProgress] = []
        batches = 0
        while batches < 2:
            received = desk.receive(timeout_s=10.0)
            assert received is not None
            batches += isinstance(received[1], SyntheticBatch)
            if isinstance(received[1], SyntheticProgress):
                heard.append(received[1])
        stop.set()
        thread.join()
    assert {message.run for message in heard} == {"r1"}
    assert [message.lacking for message in heard][-1] == 4
    assert [message.devices_done for message in heard][-1] == 1
    assert heard[-1].devices_asked == 2
    assert all(message.images_per_s > 0 for message in heard)


@pytest.fixture
def bench(
    a_broker: EmbeddedBroker, fleet_name: str, tiny_generator: DiffusionGenerator
) -> Iterator[Bench]:
    with Bench(a_broker, fleet_name, tiny_generator) as bench:
        yield bench


class TestRequests:
    def test_a_device_gets_its_images(self, bench: Bench) -> None:
        bench.ask()
        answer = bench.answer()
        assert (answer.run, answer.device, answer.error) == ("r1", "device-1", "")
        assert answer.delivered == COUNTS
        assert answer.generator == "tiny (dpm++, 2 steps, guidance 1)"
        assert answer.seconds > 0
        data = bench.fetch(answer.offer)
        batch = decode(data, classes=10, image_shape=(1, 8, 8), contract=CONTRACT.digest)
        assert batch.labels.tolist() == [0, 0, 2, 9]

    def test_an_image_of_each_class_is_shown_once(self, bench: Bench) -> None:
        shown: list[SamplePicture] = []
        bench.ask()
        bench.ask((1,) * 10, device="device-2")
        while len(shown) < 10:
            received = bench.desk.receive(timeout_s=10.0)
            assert received is not None
            if isinstance(received[1], SyntheticSamples):
                assert received[1].run == "r1"
                shown += received[1].pictures
        assert sorted(each.class_index for each in shown) == list(range(10))
        first = decode(bench.fetch(bench.answers[0].offer), classes=10, image_shape=(1, 8, 8))
        for each in shown[:3]:  # of the first batch, which has three classes
            picture = Image.open(io.BytesIO(each.png))
            of_class = first.images[first.labels == each.class_index]
            assert any((np.asarray(picture) == image[0]).all() for image in of_class)

    def test_devices_are_answered_one_by_one(self, bench: Bench) -> None:
        for number in range(1, 4):
            bench.ask(device=f"device-{number}")
        answers = [bench.answer() for _ in range(3)]
        assert [a.device for a in answers] == ["device-1", "device-2", "device-3"]
        assert len({bench.fetch(a.offer) for a in answers}) == 3
        assert bench.answers == answers

    def test_asked_again_nothing_is_made_twice(self, bench: Bench) -> None:
        bench.ask()
        first = bench.answer()
        bench.ask()
        assert bench.answer() == first
        assert bench.generator.made == sum(COUNTS)

    def test_another_request_replaces_the_first(self, bench: Bench) -> None:
        bench.ask()
        first = bench.answer()
        bench.ask((0,) * 9 + (3,))
        second = bench.answer()
        assert second.delivered == (0,) * 9 + (3,)
        assert decode(bench.fetch(second.offer), classes=10).labels.tolist() == [9, 9, 9]
        with pytest.raises(TransferError, match="no longer serves"):
            bench.fetch(first.offer)

    def test_nothing_asked(self, bench: Bench) -> None:
        bench.ask((0,) * 10)
        answer = bench.answer()
        assert (answer.offer, answer.error) == (None, "")

    def test_only_the_coordinator_is_served(self, bench: Bench) -> None:
        request = SyntheticRequest(run="r1", device="device-1", counts=COUNTS, seed=7)
        bench.device.send("generator", request)
        bench.ask(device="device-2")
        assert bench.answer().device == "device-2"
        assert bench.generator.made == sum(COUNTS)


class TestTopUps:
    """Further images of a device are offered beside its first ones; those of the server are not."""

    MORE = (1, 2, 0, 0, 0, 0, 0, 0, 0, 0)

    def test_both_batches_of_a_device_are_offered(self, bench: Bench) -> None:
        bench.ask()
        first = bench.answer()
        bench.ask(self.MORE, skip=COUNTS)
        second = bench.answer()
        assert (first.skip, second.skip) == ((), COUNTS)
        assert (second.device, second.delivered) == ("device-1", self.MORE)
        images = []
        for answer, labels in ((first, [0, 0, 2, 9]), (second, [0, 1, 1])):
            batch = decode(bench.fetch(answer.offer), classes=10)
            assert batch.labels.tolist() == labels
            images += [image.tobytes() for image in batch.images]
        assert len({*images}) == 7, "the second one goes on where the first one ended"

    def test_asked_again_both_are_as_they_were(self, bench: Bench) -> None:
        bench.ask()
        bench.ask(self.MORE, skip=COUNTS)
        answers = [bench.answer(), bench.answer()]
        made = bench.generator.made
        bench.ask()
        bench.ask(self.MORE, skip=COUNTS)
        assert [bench.answer(), bench.answer()] == answers
        assert bench.generator.made == made

    def test_another_one_after_the_same_images_replaces_it_alone(self, bench: Bench) -> None:
        bench.ask()
        first = bench.answer()
        bench.ask(self.MORE, skip=COUNTS)
        second = bench.answer()
        other = (0,) * 8 + (2, 0)
        bench.ask(other, skip=COUNTS)
        third = bench.answer()
        assert decode(bench.fetch(third.offer), classes=10).labels.tolist() == [8, 8]
        assert len(bench.fetch(first.offer)) > 0
        with pytest.raises(TransferError, match="no longer serves"):
            bench.fetch(second.offer)

    def test_a_part_of_the_server_drops_the_one_before(self, bench: Bench) -> None:
        bench.ask(device=COORDINATOR)
        first = bench.answer()
        assert len(bench.fetch(first.offer)) > 0
        bench.ask(self.MORE, device=COORDINATOR, skip=COUNTS)
        second = bench.answer()
        assert decode(bench.fetch(second.offer), classes=10).labels.tolist() == [0, 1, 1]
        with pytest.raises(TransferError, match="no longer serves"):
            bench.fetch(first.offer)

    def test_the_end_of_the_run_frees_both(self, bench: Bench) -> None:
        bench.ask()
        bench.ask(self.MORE, skip=COUNTS)
        answers = [bench.answer(), bench.answer()]
        bench.desk.send("generator", RunEnded(run="r1", reason="completed"))
        bench.ask(device="device-9", run="r2")
        bench.answer()
        for answer in answers:
            with pytest.raises(TransferError, match="no longer serves"):
                bench.fetch(answer.offer)


class TestContracts:
    def test_what_only_devices_care_for_may_differ(self, bench: Bench) -> None:
        other = replace(CONTRACT, devices=3, alpha=0.5, partition_digest=None)
        bench.ask(contract=other)
        batch = decode(bench.fetch(bench.answer().offer), classes=10, contract=other.digest)
        assert batch.labels.tolist() == [0, 0, 2, 9]

    def test_other_public_data_are_refused_and_their_keys_named(self, bench: Bench) -> None:
        bench.ask()
        first = bench.answer()
        bench.ask(
            device="device-2",
            run="r2",
            contract=replace(CONTRACT, split_seed=5, public_digest="e" * 64),
        )
        refused = bench.answer()
        assert (refused.run, refused.offer, refused.delivered) == ("r2", None, (0,) * 10)
        assert "data.split_seed is 0, in the run 5" in refused.error
        assert (
            "digest of the public part is cccccccccccc…, in the run eeeeeeeeeeee…" in refused.error
        )
        assert bench.generator.made == sum(COUNTS)
        assert len(bench.fetch(first.offer)) > 0  # the run that goes on has lost nothing

    def test_without_labels(self, bench: Bench) -> None:
        request = SyntheticRequest(
            run="r1", device="device-1", counts=COUNTS, seed=7, unlabelled=True, contract=CONTRACT
        )
        bench.desk.send("generator", request)
        data = bench.fetch(bench.answer().offer)
        images = decode_unlabelled(data, image_shape=(1, 8, 8), contract=CONTRACT.digest)
        assert len(images) == sum(COUNTS)


class TestErrors:
    def test_a_bad_request_is_answered_and_ends_nothing(self, bench: Bench) -> None:
        bench.ask((101,) + (0,) * 9)
        refused = bench.answer()
        assert refused.error.startswith(
            "request for device 'device-1' asks for 101 images, the limit"
        )
        assert (refused.offer, refused.delivered) == (None, (0,) * 10)
        bench.ask((1, 2, 3))
        assert "names 3 classes" in bench.answer().error
        bench.ask()
        assert bench.answer().error == ""

    def test_a_failure_is_tried_again_when_asked_again(self, bench: Bench) -> None:
        bench.generator.fails = True
        bench.ask()
        assert "RuntimeError: not enough memory" in bench.answer().error
        bench.generator.fails = False
        bench.ask()
        assert bench.answer().delivered == COUNTS


class TestRuns:
    def test_the_end_of_a_run_frees_it_and_the_next_is_served(self, bench: Bench) -> None:
        bench.ask()
        first = bench.answer()
        bench.fetch(first.offer)
        bench.desk.send("all", RunEnded(run="r1", reason="completed"))
        bench.ask(run="r2")
        second = bench.answer()
        assert second.run == "r2"
        assert bench.generator.made == 2 * sum(COUNTS)
        assert len(bench.peer.transfers.served()) == 1

    def test_a_run_that_never_ended_is_freed_by_the_next(self, bench: Bench) -> None:
        bench.ask()
        bench.ask(device="device-2")
        for _ in range(2):
            bench.answer()
        bench.ask(device="device-2", run="r2")
        assert bench.answer().run == "r2"
        assert len(bench.peer.transfers.served()) == 1

    def test_the_end_of_another_run_frees_nothing(self, bench: Bench) -> None:
        bench.ask()
        offer = bench.answer().offer
        bench.desk.send("all", RunEnded(run="r0", reason="completed"))
        bench.ask()
        assert bench.answer().offer == offer
        assert len(bench.fetch(offer)) > 0

    def test_stopping_frees_everything(self, bench: Bench) -> None:
        bench.ask()
        bench.answer()
        bench.end()
        assert bench.peer.transfers.served() == ()

    def test_once(
        self, a_broker: EmbeddedBroker, fleet_name: str, tiny_generator: DiffusionGenerator
    ) -> None:
        bench = Bench(a_broker, fleet_name, tiny_generator)
        bench.thread = threading.Thread(
            target=bench.node.run, args=(bench.stop,), kwargs={"once": True}
        )
        with bench:
            bench.ask()
            bench.answer()
            bench.desk.send("all", RunEnded(run="r1", reason="completed"))
            bench.thread.join(timeout=10)
            assert not bench.thread.is_alive()


class TestCoordinatorVanishes:
    def test_what_it_asked_for_waits_for_it(
        self, bench: Bench, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        bench.ask()
        assert bench.desk.flush(5)
        bench.desk.close()
        bench.desk = Peer(a_broker.address, fleet=fleet_name, peer=COORDINATOR, role="coordinator")
        bench.desk.connect()
        bench.ask()
        answer = bench.answer()
        assert answer.delivered == COUNTS
        assert len(bench.fetch(answer.offer)) > 0
        assert bench.generator.made == sum(COUNTS)


class TestPrivacy:
    def test_counts_are_all_that_is_taken_from_a_device(self, bench: Bench) -> None:
        """Whatever a device offers the node is not fetched; a request has no room for data."""
        update = bench.device.transfers.serve(b"local images", "safetensors")
        bench.device.send(
            "generator", UpdateReady(run="r1", device="device-1", round=1, update=update)
        )
        bench.ask()
        assert bench.answer().error == ""
        assert bench.device.transfers.counters.sent == 0
        assert bench.peer.transfers.counters.received == 0
        assert SyntheticRequest.__struct_fields__ == (
            "run",
            "device",
            "instance",
            "contract",
            "counts",
            "seed",
            "unlabelled",
            "skip",
        )

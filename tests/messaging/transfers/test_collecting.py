"""Collecting from many devices at once: real peers, and some that offer and never send."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import wait

import msgspec
import numpy as np
import pytest

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.collecting import Collector

SIZE = 300_000


def noise(seed: int, size_bytes: int = SIZE) -> bytes:
    return np.random.default_rng(seed).bytes(size_bytes)


class Mute:
    """A device that is online, offers a payload and answers no request for it, until it does."""

    def __init__(self, peer: Peer, data: bytes) -> None:
        self.peer, self.data = peer, data
        self.asked = threading.Event()
        self.heard: list[tuple[str, bytes]] = []
        self.answers = peer.transfers.on_request
        peer.transfers.on_request = self.hear  # type: ignore[method-assign]
        self.offer = peer.transfers.serve(data, "noise")

    def hear(self, asker: str, payload: bytes) -> None:
        self.heard.append((asker, payload))
        self.asked.set()

    def speak(self) -> None:
        self.peer.transfers.on_request = self.answers  # type: ignore[method-assign]
        for asker, payload in self.heard:
            self.answers(asker, payload)


@pytest.fixture
def coordinator(join) -> Peer:
    return join(COORDINATOR)


@pytest.fixture
def collect(coordinator: Peer) -> Iterator[type[Collector]]:
    """Make collectors that are closed at the end."""
    made: list[Collector] = []

    def make(**options: float) -> Collector:
        made.append(Collector(coordinator.transfers, **options))
        return made[-1]

    yield make  # type: ignore[misc]
    for collector in made:
        collector.close()


class TestManyAtOnce:
    def test_all_arrive(self, join, collect) -> None:
        devices = [join(f"d{n}") for n in range(12)]
        offers = [d.transfers.serve(noise(n), "noise") for n, d in enumerate(devices)]
        collector = collect()
        futures = [collector.pull(offer) for offer in offers]
        assert [future.result(30.0) for future in futures] == [noise(n) for n in range(12)]
        for device, offer in zip(devices, offers, strict=True):
            assert device.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=5.0)

    def test_four_that_never_send_cost_the_others_nothing(self, join, collect) -> None:
        """They come first, and the others arrive while they still hold their places."""
        mute = [Mute(join(f"m{n}"), noise(n)) for n in range(4)]
        devices = [join(f"d{n}") for n in range(4)]
        offers = [d.transfers.serve(noise(n), "noise") for n, d in enumerate(devices)]
        collector = collect(halt_s=3600.0)
        stuck = [collector.pull(device.offer) for device in mute]
        futures = [collector.pull(offer) for offer in offers]
        assert [future.result(30.0) for future in futures] == [noise(n) for n in range(4)]
        assert not any(future.done() for future in stuck)
        assert set(collector.waiting()) == {f"m{n}" for n in range(4)}
        for device in mute:
            assert device.asked.wait(10.0)
            device.speak()
        assert [future.result(30.0) for future in stuck] == [noise(n) for n in range(4)]

    def test_an_error_that_nobody_foresaw_costs_one_pull(
        self, join, coordinator: Peer, collect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        devices = [join(f"d{n}") for n in range(3)]
        offers = [d.transfers.serve(noise(n), "noise") for n, d in enumerate(devices)]
        complete = coordinator.transfers.complete

        def without_memory(download) -> bool:
            if download.offer.holder == "d0":
                raise MemoryError
            return complete(download)

        monkeypatch.setattr(coordinator.transfers, "complete", without_memory)
        collector = collect()
        bad, *good = [collector.pull(offer) for offer in offers]
        with pytest.raises(TransferError, match="d0: MemoryError"):
            bad.result(30.0)
        assert [future.result(30.0) for future in good] == [noise(1), noise(2)]

    def test_without_room_a_halted_pull_gives_its_place(self, join, collect) -> None:
        mute = [Mute(join(f"m{n}"), noise(n)) for n in range(4)]
        devices = [join(f"d{n}") for n in range(4)]
        offers = [d.transfers.serve(noise(n), "noise") for n, d in enumerate(devices)]
        collector = collect(halt_s=0.01, budget_bytes=1)
        stuck = [collector.pull(device.offer) for device in mute]
        for device in mute:
            assert device.asked.wait(10.0)
        futures = [collector.pull(offer) for offer in offers]
        assert [future.result(30.0) for future in futures] == [noise(n) for n in range(4)]
        for device in mute:
            device.speak()
        assert [future.result(30.0) for future in stuck] == [noise(n) for n in range(4)]

    def test_budget_of_memory(self, join, coordinator: Peer, collect) -> None:
        """Six that fit by twos: never more at a time, and all in the end."""
        devices = [Mute(join(f"d{n}"), noise(n)) for n in range(6)]
        collector = collect(halt_s=3600.0, budget_bytes=2 * SIZE, at_least=1)
        futures = [collector.pull(device.offer) for device in devices]
        for pair in (devices[0:2], devices[2:4], devices[4:6]):
            for device in pair:
                assert device.asked.wait(10.0)
            assert len(coordinator.transfers._downloads) <= 2
            later = devices[devices.index(pair[1]) + 1 :]
            assert not any(device.asked.is_set() for device in later)
            for device in pair:
                device.speak()
        assert [future.result(30.0) for future in futures] == [noise(n) for n in range(6)]


class TestEnds:
    def test_too_large_is_refused_at_once(self, join, collect) -> None:
        offer = join("d1").transfers.serve(noise(1), "noise")
        with pytest.raises(TransferError, match="300000 B, the limit here is 10 B"):
            collect().pull(offer, max_bytes=10).result(0.0)

    def test_no_longer_served(self, join, collect) -> None:
        device = join("d1")
        offer = device.transfers.serve(noise(1), "noise")
        device.transfers.withdraw(offer.digest)
        with pytest.raises(TransferError, match="no longer serves"):
            collect().pull(offer).result(30.0)

    def test_something_else_than_offered(self, join, collect) -> None:
        device = Mute(join("d1"), noise(1))
        lie = msgspec.structs.replace(device.offer, digest=hashlib.sha256(b"other").hexdigest())
        shelf = device.peer.transfers._shelf
        for table in (shelf._payloads, shelf._have_it, shelf._asked_for):
            table[lie.digest] = table.pop(device.offer.digest)
        device.speak()
        with pytest.raises(TransferError, match="something else"):
            collect().pull(lie).result(30.0)

    def test_cancelled_by_holder(self, join, collect) -> None:
        first, second = (Mute(join(f"d{n}"), noise(n)) for n in range(2))
        collector = collect()
        gone, kept = collector.pull(first.offer), collector.pull(second.offer)
        collector.cancel("d0")
        with pytest.raises(TransferCancelled, match="d0 is no longer wanted"):
            gone.result(30.0)
        second.speak()
        assert kept.result(30.0) == noise(1)

    def test_cancelled_while_it_waits_for_a_place(self, join, collect) -> None:
        first, second = (Mute(join(f"d{n}"), noise(n)) for n in range(2))
        collector = collect(budget_bytes=1, at_least=1, halt_s=3600.0)
        futures = [collector.pull(first.offer), collector.pull(second.offer)]
        assert first.asked.wait(10.0)
        collector.cancel()
        assert len(wait(futures, 30.0).done) == 2
        assert not second.asked.is_set()
        assert collector.waiting() == ()

    def test_closing_ends_all(self, join, coordinator: Peer) -> None:
        device = Mute(join("d1"), noise(1))
        before = set(threading.enumerate())
        with Collector(coordinator.transfers) as collector:
            future = collector.pull(device.offer)
        with pytest.raises(TransferCancelled):
            future.result(0.0)
        with pytest.raises(TransferCancelled):
            collector.pull(device.offer).result(0.0)
        assert set(threading.enumerate()) <= before

    def test_closing_the_peer_ends_all(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        device = Mute(join("d1"), noise(1))
        with Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as peer:
            future = Collector(peer.transfers).pull(device.offer)
            assert device.asked.wait(10.0)
        with pytest.raises(TransferCancelled):
            future.result(30.0)

    def test_what_follows_runs_when_it_has_come(self, join, collect) -> None:
        offer = join("d1").transfers.serve(noise(1), "noise")
        said: list[bytes] = []
        done = threading.Event()
        future = collect().pull(offer)
        future.add_done_callback(lambda f: (said.append(f.result()), done.set()))
        assert done.wait(30.0)
        assert said == [noise(1)]


class TestLoss:
    def test_goes_on_after_a_broker_restart(
        self, mortal: EmbeddedBroker, fleet: str, until
    ) -> None:
        """What has arrived is kept, even if the broker is away for longer than a halt."""
        with (
            Peer(mortal.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as desk,
            Peer(mortal.address, fleet=fleet, peer="d1", role="device", chunk_bytes=1024) as d1,
            Peer(mortal.address, fleet=fleet, peer="d2", role="device") as d2,
            Collector(desk.transfers, at_least=1, budget_bytes=1, halt_s=0.01) as collector,
        ):
            d1.set_pacing(8 * SIZE / 2)  # two seconds
            offers: list[Offer] = [d.transfers.serve(noise(1), "noise") for d in (d1, d2)]
            first = collector.pull(offers[0])
            until(lambda: desk.transfers.counters.received >= 10)
            mortal.close()
            until(lambda: not desk.online)
            second = collector.pull(offers[1])
            mortal.start()
            assert first.result(30.0) == noise(1)
            assert second.result(30.0) == noise(1)
            assert d1.transfers.counters.sent_bytes < SIZE + 100_000

"""A device takes part with the data of the run, or says which keys differ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bench import CONTRACT, DEVICE, DIGITS, LOCAL, Bench, Device
from msgspec.structs import replace

from fimi.learning.data import data_file, leak, shares
from fimi.learning.data.contract import PROTOCOL, Contract
from fimi.learning.data.dataset import Dataset
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import Profile, Refusal
from fimi.messaging.messages.orders import Invitation, RunEnded


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[Bench]:
    with Bench(a_broker, fleet_name, joins=False) as bench:
        yield bench


def refusal(bench: Bench, invitation: Invitation) -> str:
    bench.desk.order(invitation)
    return bench.desk.hear(Refusal).reason


def held_out(bench: Bench, images: np.ndarray, contract: Contract = CONTRACT) -> dict[str, object]:
    found = leak.HeldOut(
        test=np.sort(leak.image_hashes(images, bench.desk.instance)),
        public=np.zeros(0, np.uint64),
    )
    payload = leak.encode(found, contract)
    return {"hashes": bench.serve(payload, leak.MEDIA)}


class TestContract:
    def test_another_version_of_the_conversation(self, bench: Bench) -> None:
        newer = replace(CONTRACT, protocol=PROTOCOL + 1)
        reason = refusal(bench, replace(bench.invitation(), contract=newer))
        assert f"has version {PROTOCOL} of the protocol, the run has version {PROTOCOL + 1}" in (
            reason
        )

    def test_other_images(self, bench: Bench) -> None:
        other = replace(CONTRACT, samples_digest="e" * 64)
        share = shares.encode_indices(np.arange(40), other)
        reason = refusal(
            bench,
            replace(
                bench.invitation(),
                contract=other,
                share=bench.serve(share, shares.INDICES_MEDIA),
            ),
        )
        assert "digest of the training samples" in reason

    def test_a_share_of_another_run(self, bench: Bench) -> None:
        other = replace(CONTRACT, seed=5)
        reason = refusal(bench, replace(bench.invitation(), contract=other))
        assert "belongs to another run" in reason

    def test_a_board_that_nobody_describes(self, bench: Bench) -> None:
        assert "--host-profile FILE" in refusal(bench, replace(bench.invitation(), emulated=None))

    def test_after_a_refusal_another_run_is_welcome(self, bench: Bench) -> None:
        refusal(bench, replace(bench.invitation(), emulated=None))
        bench.another_run("r2")
        assert bench.join().contract == CONTRACT.digest


class TestWays:
    def test_as_shipped(self, bench: Bench) -> None:
        share = shares.encode_samples(LOCAL, CONTRACT)
        offer = bench.serve(share, shares.SAMPLES_MEDIA)
        bench.desk.order(replace(bench.invitation(), way="shipped", share=offer))
        assert bench.desk.hear(Profile).label_counts == LOCAL.label_counts()
        np.testing.assert_array_equal(bench.data.local.images, LOCAL.images)

    def test_from_a_file_of_its_own(
        self, a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
    ) -> None:
        data_file.save(LOCAL, tmp_path / "own.npz")
        with Bench(a_broker, fleet_name, joins=False, place=tmp_path / "own.npz") as bench:
            bench.desk.order(replace(bench.invitation(), way="file", share=None))
            profile = bench.desk.hear(Profile)
        own = leak.image_hashes(LOCAL.images, bench.desk.instance)
        assert profile.fingerprint == leak.fingerprint(own)
        assert profile.label_counts == LOCAL.label_counts()

    def test_a_file_that_does_not_fit_names_what_differs(
        self, a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
    ) -> None:
        cats = Dataset(
            name="cats",
            images=np.zeros((3, 1, 8, 8), np.uint8),
            labels=np.zeros(3, np.int64),
            class_names=("cat", "dog"),
        )
        data_file.save(cats, tmp_path / "own.npz")
        with Bench(a_broker, fleet_name, joins=False, place=tmp_path / "own.npz") as bench:
            reason = refusal(bench, replace(bench.invitation(), way="file", share=None))
        assert "class names" in reason

    def test_equal_images_have_one_fingerprint(
        self, a_broker: EmbeddedBroker, fleet_name: str, bench: Bench
    ) -> None:
        """By which the coordinator refuses the second of two devices with one data file."""
        first = bench.join().fingerprint
        bench.device.__exit__()
        bench.device = Device(bench.broker, bench.fleet)
        bench.device.__enter__()
        assert bench.desk.hear(Profile).fingerprint == first


class TestLeak:
    def test_images_that_are_tested_on(self, bench: Bench) -> None:
        """Brute force: 17 of its 40 images are test images."""
        test = np.concatenate([LOCAL.images[:17], DIGITS.images[500:600]])
        leaked = sum(any((own == other).all() for other in test) for own in LOCAL.images)
        reason = refusal(bench, bench.invitation(**held_out(bench, test)))
        assert reason.startswith(f"{leaked} of 40 images of this device are held out")

    def test_as_many_as_the_contract_declares(self, bench: Bench) -> None:
        allowed = replace(CONTRACT, overlap_max=17 / 40)
        share = shares.encode_indices(np.arange(40), allowed)
        bench.desk.order(
            replace(
                bench.invitation(**held_out(bench, LOCAL.images[:17], allowed)),
                contract=allowed,
                share=bench.serve(share, shares.INDICES_MEDIA),
            )
        )
        assert bench.desk.hear(Profile).device == DEVICE

    def test_hashes_of_another_run_are_refused(self, bench: Bench) -> None:
        other = replace(CONTRACT, seed=9)
        reason = refusal(bench, bench.invitation(**held_out(bench, LOCAL.images, other)))
        assert "belongs to another run" in reason


def test_what_it_waits_for_before_it_joined(bench: Bench) -> None:
    invitation = bench.invitation()
    assert invitation.share is not None
    bench.desk.peer.transfers.withdraw(invitation.share.digest)
    bench.desk.order(invitation)
    words = f"coordinator, which does not serve {shares.INDICES_MEDIA} yet"
    bench.desk.until(lambda reported: reported.waits_for == words, "it waits")
    assert bench.join().device == DEVICE


def test_whoever_stands_at_the_board_reads_why_it_is_not_used(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the coordinator refuses a device that was willing."""
    caplog.set_level("INFO")
    bench.join()
    ended = RunEnded(run=bench.desk.run, reason="the same images as device-7")
    bench.desk.order(ended)
    assert bench.desk.is_answered()
    bench.desk.order(ended)
    (said,) = [r.getMessage() for r in caplog.records if "device-7" in r.getMessage()]
    assert said == f"{DEVICE}: done with run r1: the same images as device-7"

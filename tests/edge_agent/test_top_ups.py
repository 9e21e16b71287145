"""Images that come within a run, beside those that a device has: once, and in the round after.

The labels of batches tell them apart: the first one has ones and twos, the top-up threes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bench import DIGITS, LOCAL, Bench, Device, encode, slower
from msgspec.structs import replace
from test_waiting import Machine

from fimi.energy.hardware import Hardware
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import PlanApplied, Profile, RoundReport
from fimi.messaging.messages.orders import DevicePlan, TopUp

FIRST = (0, 4, 6, 0, 0, 0, 0, 0, 0, 0)
MORE = (0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
BOTH = (0, 4, 6, 7, 0, 0, 0, 0, 0, 0)
OWN = Counter(LOCAL.labels.tolist())
ROUND = ["model-download", "compute", "upload"]


def batch(counts: tuple[int, ...]) -> bytes:
    labels = np.repeat(np.arange(10), counts)
    return encode(DIGITS.images[100 : 100 + len(labels)], labels)


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[Bench]:
    with Bench(a_broker, fleet_name) as bench:
        yield bench


def filled(bench: Bench) -> DevicePlan:
    return replace(bench.plan(bench.serve(batch(FIRST))), synthetic_counts=FIRST)


def topped_up(
    plan: DevicePlan, offer: Offer, *, at_s: float = 20.0, booked: bool = False
) -> DevicePlan:
    top_up = TopUp(skip=FIRST, counts=MORE, batch=offer, fleet_time_s=at_s, booked=booked)
    return replace(plan, synthetic_counts=BOTH, top_ups=(top_up,), fleet_time_s=at_s, booked=True)


def synthetic(bench: Bench) -> tuple[int, ...]:
    """Samples of each class beside its own that a device would train on now."""
    held = Counter(bench.data.training_set()[1].tolist())
    return tuple(held[label] - OWN[label] for label in range(10))


def phases(answer: PlanApplied | RoundReport) -> list[str]:
    """Phases that an answer tells of, but waiting for the next round."""
    return [phase.phase for phase in answer.phases if phase.phase != "idle"]


def bytes_of(answer: PlanApplied | RoundReport) -> list[int]:
    """Sizes of the batches that an answer says were received."""
    return [each.size_bytes for each in answer.transfers if each.phase == "synthetic-download"]


def first_round(bench: Bench, plan: DevicePlan) -> RoundReport:
    """Follow a plan, and all of round 1, which ends at 20 s."""
    assert bench.follow(plan).error == ""
    _, report = bench.round(bench.start(1))
    bench.close(1, 20.0)
    return report


def started_again(bench: Bench, plan: DevicePlan, hardware: Hardware | None = None) -> PlanApplied:
    """A new start of the device, which finds a plan."""
    bench.device.__exit__()
    bench.desk.order(plan)
    bench.device = Device(bench.broker, bench.fleet, hardware=hardware)
    bench.device.__enter__()
    assert bench.desk.hear(Profile).boot_id == bench.device.peer.boot_id
    return bench.desk.hear(PlanApplied)


class TestOnce:
    def test_it_comes_beside_what_is_there_and_belongs_to_the_next_round(
        self, bench: Bench
    ) -> None:
        report = first_round(bench, plan := filled(bench))
        assert (report.synthetic_samples, phases(report)) == (10, ROUND)
        assert plan.batch is not None
        bench.desk.peer.transfers.withdraw(plan.batch.digest)  # it is not fetched again
        payload = batch(MORE)
        more = topped_up(plan, bench.serve(payload))
        reply = bench.follow(more)
        assert (reply.error, reply.phases, reply.transfers) == ("", (), ())
        assert synthetic(bench) == BOTH
        _, report = bench.round(bench.start(2, 20.0))
        assert report.synthetic_samples == 17
        assert phases(report) == ["synthetic-download", *ROUND]
        assert bytes_of(report) == [len(payload)]
        (received,) = (p for p in report.phases if p.phase == "synthetic-download")
        assert received.duration_s == pytest.approx(
            8 * len(payload) / bench.board.truth.link.downlink_rate_bps
        )
        assert received.energy is not None
        assert received.energy.value_j > 0
        assert report.busy_s == pytest.approx(sum(p.duration_s for p in report.phases))

    def test_a_later_plan_receives_nothing(self, bench: Bench) -> None:
        first_round(bench, plan := filled(bench))
        more = topped_up(plan, bench.serve(batch(MORE)))
        bench.follow(more)
        _, report = bench.round(bench.start(2, 20.0))
        bench.close(2, 20.0 + report.busy_s)
        bench.desk.peer.transfers.withdraw(more.top_ups[0].batch.digest)
        assert bench.follow(slower(more)).error == ""
        _, report = bench.round(bench.start(3, 20.0 + report.busy_s))
        assert (phases(report), bytes_of(report)) == (ROUND, [])
        assert synthetic(bench) == BOTH

    def test_a_device_that_had_none(self, bench: Bench) -> None:
        first_round(bench, plan := bench.plan())
        top_up = TopUp(skip=(), counts=MORE, batch=bench.serve(batch(MORE)), fleet_time_s=20.0)
        assert bench.follow(replace(plan, synthetic_counts=MORE, top_ups=(top_up,))).error == ""
        assert synthetic(bench) == MORE
        _, report = bench.round(bench.start(2, 20.0))
        assert phases(report) == ["synthetic-download", *ROUND]


class TestRestarts:
    def test_an_emulated_board_has_received_both_before(self, bench: Bench) -> None:
        first_round(bench, plan := filled(bench))
        more = topped_up(plan, bench.serve(batch(MORE)))
        bench.follow(more)
        _, report = bench.round(bench.start(2, 20.0))
        bench.close(2, end_s := 20.0 + report.busy_s)
        booked = replace(topped_up(plan, more.top_ups[0].batch, booked=True), fleet_time_s=end_s)
        reply = started_again(bench, booked)
        assert (reply.error, reply.phases, reply.transfers) == ("", (), ())
        assert synthetic(bench) == BOTH
        _, report = bench.round(bench.start(3, end_s))
        assert phases(report) == ROUND

    def test_a_start_in_the_round_after_receives_the_top_up_within_it(self, bench: Bench) -> None:
        """Its first batch is in the record, the other one is predicted for this round."""
        first_round(bench, plan := filled(bench))
        payload = batch(MORE)
        reply = started_again(bench, topped_up(plan, bench.serve(payload)))
        assert (reply.error, reply.phases) == ("", ())
        _, report = bench.round(bench.start(2, 20.0))
        assert phases(report) == ["synthetic-download", *ROUND]
        assert bytes_of(report) == [len(payload)]
        assert report.synthetic_samples == 17

    def test_a_real_board_receives_both_again(
        self, a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
    ) -> None:
        sizes = [len(batch(FIRST)), len(batch(MORE))]
        folders = [tmp_path / "first", tmp_path / "second"]
        for folder in folders:
            folder.mkdir()
        with (
            Machine(folders[0]) as machine,
            Machine(folders[1]) as again,
            Bench(a_broker, fleet_name, hardware=machine) as bench,
        ):
            plan = filled(bench)
            assert bytes_of(bench.follow(plan)) == sizes[:1]
            bench.round(bench.start(1))
            bench.close(1, 20.0)
            more = topped_up(plan, bench.serve(batch(MORE)), booked=True)
            bench.follow(more)
            _, report = bench.round(bench.start(2, 20.0))
            assert bytes_of(report) == sizes[1:]
            bench.close(2, 40.0)
            reply = started_again(bench, more, again)
            assert (phases(reply), bytes_of(reply)) == (["synthetic-download"], sizes[:1])
            assert synthetic(bench) == BOTH
            _, report = bench.round(bench.start(3, 40.0))
            assert (phases(report)[0], bytes_of(report)) == ("synthetic-download", sizes[1:])


class TestTrouble:
    def test_one_that_cannot_be_read_is_said_so_and_nothing_is_lost(self, bench: Bench) -> None:
        first_round(bench, plan := filled(bench))
        assert plan.batch is not None
        bench.desk.peer.transfers.withdraw(plan.batch.digest)
        bad = bench.follow(topped_up(plan, bench.serve(b"no batch")))
        assert "BatchError" in bad.error
        assert (bad.applied, bad.phases) == (None, ())
        assert synthetic(bench) == FIRST
        good = bench.follow(topped_up(plan, bench.serve(batch(MORE))))
        assert good.error == ""
        assert synthetic(bench) == BOTH
        _, report = bench.round(bench.start(2, 20.0))
        sizes = [len(b"no batch"), len(batch(MORE))]
        assert phases(report) == ["synthetic-download"] * 2 + ROUND, "both were received"
        assert bytes_of(report) == sizes

    def test_one_that_does_not_come_leaves_the_first_batch_where_it_is(self, bench: Bench) -> None:
        first_round(bench, plan := filled(bench))
        assert plan.batch is not None
        offer = bench.serve(batch(MORE))
        for each in (plan.batch, offer):
            bench.desk.peer.transfers.withdraw(each.digest)
        bench.desk.order(topped_up(plan, offer))
        bench.desk.until(lambda reported: "does not serve" in reported.waits_for, "it waits")
        assert bench.follow(slower(plan)).error == ""
        assert synthetic(bench) == FIRST

    def test_another_first_batch_replaces_all(self, bench: Bench) -> None:
        first_round(bench, plan := filled(bench))
        bench.follow(topped_up(plan, bench.serve(batch(MORE))))
        bench.round(bench.start(2, 20.0))
        bench.close(2, 40.0)
        other = replace(plan, batch=bench.serve(batch(MORE)), synthetic_counts=MORE)
        reply = bench.follow(other)
        assert phases(reply) == ["synthetic-download"]
        assert synthetic(bench) == MORE


class TestUse:
    def test_a_share_fetches_and_drops_nothing(self, bench: Bench) -> None:
        plan = topped_up(filled(bench), bench.serve(batch(MORE)))
        assert bench.follow(plan).error == ""
        assert plan.batch is not None
        for offer in (plan.batch, plan.top_ups[0].batch):
            bench.desk.peer.transfers.withdraw(offer.digest)
        samples, at_s = [], 20.0
        for number, use in enumerate((0.5, 0.0, 1.0), 1):
            reply = bench.follow(replace(plan, synthetic_use=use))
            assert (reply.error, reply.phases) == ("", ())
            _, report = bench.round(bench.start(number, at_s))
            bench.close(number, at_s := at_s + report.busy_s)
            assert report.local_samples == len(LOCAL)
            samples.append(report.synthetic_samples)
        assert samples == [2 + 3 + 4, 0, 17]  # halves of 4, 6 and 7, rounded up

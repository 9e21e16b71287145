"""Data that change within a dry run: images that are lacking, and a schedule of those in use.

What the record says of rounds is held against what the generator node delivered, and the times of
phases against the fleet's clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest
from commandline import SharedRun, rows

from fimi.energy.ledger import PhaseRecord
from fimi.record.events import BatchDelivered, LearningRefitted
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.results import DeviceRound, RoundResult
from fimi.record.summary import summarise

NO_IMAGES = (
    "plan.curve_alpha=2", "plan.curve_beta=0.93", "plan.curve_delta0=0.002", "plan.error_max=0.05",
)  # fmt: skip
"""A curve by which local data are enough; they are not, classes are lacking."""
DOWNLOAD = "synthetic-download"


def settings(*assignments: str) -> list[str]:
    return [word for each in assignments for word in ("--set", each)]


@pytest.fixture(scope="module")
def topped_up(shared_run: Callable[..., SharedRun]) -> SharedRun:
    return shared_run("topped-up", "--devices", "4", "--rounds", "5", *settings(*NO_IMAGES))


@pytest.fixture(scope="module")
def fading(shared_run: Callable[..., SharedRun]) -> SharedRun:
    return shared_run("fading", *settings("plan.synthetic_schedule=[1, 0.5, 0]"))


def the_refit(run: RunData) -> LearningRefitted:
    (refit,) = run.learning_refits
    return refit


def delivered(shared: SharedRun) -> dict[str, int]:
    """Images that each device was made, by the log; each got one batch at most."""
    found: dict[str, int] = {}
    query = "SELECT body FROM event WHERE event = 'batch-delivered'"
    for (body,) in rows(shared.run_folder / "run.sqlite", query):
        batch = msgspec.json.decode(body, type=BatchDelivered)
        assert batch.device not in found
        found[batch.device] = batch.delivered
    return found


def by_device(result: RoundResult) -> dict[str, DeviceRound]:
    return {entry.device: entry for entry in result.devices}


def is_one_stretch(phases: tuple[PhaseRecord, ...], from_s: float, to_s: float) -> bool:
    """Whether phases, all metered, fill a time without holes."""
    at_s = from_s
    for phase in phases:
        if phase.energy is None or not math.isclose(phase.start_s, at_s, abs_tol=1e-6):
            return False
        at_s = phase.start_s + phase.duration_s
    return math.isclose(at_s, to_s, abs_tol=1e-6)


class TestTopUps:
    def test_errors_that_drift_are_told_once(self, topped_up: SharedRun) -> None:
        assert topped_up.code == 0, topped_up.err
        run = read_run(topped_up.run_folder)
        refit = the_refit(run)
        assert refit.round == 3, "a whole window"
        assert refit.before < 0.05 < 0.3 < refit.measured
        assert refit.planned <= 0.05 * (1 + 1e-6)
        assert refit.reason == ""
        assert f"{refit.images} further images" in " ".join(topped_up.out.split())
        measured = [result.local_error or 0.0 for result in run.rounds]
        assert max(measured[3:]) < 0.5 < min(measured[:3])

    def test_devices_train_on_what_was_delivered_from_the_next_round_on(
        self, topped_up: SharedRun
    ) -> None:
        run, had = read_run(topped_up.run_folder), delivered(topped_up)
        refit = the_refit(run)
        assert sum(had.values()) == refit.images > 100
        for result in run.rounds:
            assert all(entry.status == "accepted" for entry in result.devices)
            for device, entry in by_device(result).items():
                expected = had.get(device, 0) if result.number > refit.round else 0
                assert entry.synthetic_samples == expected
        for device, plan in run.device_plans.items():
            assert sum(plan.synthetic_counts) == had.get(device, 0)

    def test_receiving_is_predicted_and_metered_in_the_round_after(
        self, topped_up: SharedRun
    ) -> None:
        run, had = read_run(topped_up.run_folder), delivered(topped_up)
        refit = the_refit(run)
        for result in run.rounds:
            for device, entry in by_device(result).items():
                receives = device in had and result.number == refit.round + 1
                for phases in (entry.phases, entry.predicted, entry.transfers):
                    of_it = [each for each in phases if each.phase == DOWNLOAD]
                    assert len(of_it) == receives, (result.number, device)
                if receives:
                    (metered,) = (p for p in entry.phases if p.phase == DOWNLOAD)
                    (cost,) = (p for p in entry.predicted if p.phase == DOWNLOAD)
                    (moved,) = (t for t in entry.transfers if t.phase == DOWNLOAD)
                    (top_up,) = run.device_plans[device].top_ups
                    assert moved.size_bytes == top_up.batch.size_bytes
                    rate_bps = run.profiles[device].board.link.downlink_rate_bps
                    assert cost.duration_s == pytest.approx(8 * moved.size_bytes / rate_bps)
                    assert metered.duration_s == pytest.approx(cost.duration_s, rel=0.2)
                    assert metered.energy is not None
                    assert metered.energy.value_j == pytest.approx(cost.board_j, rel=0.2)
        assert not any(p.phases or p.predicted for p in run.preparations)

    def test_joules_have_no_holes(self, topped_up: SharedRun) -> None:
        run = read_run(topped_up.run_folder)
        joules = []
        for result in run.rounds:
            for entry in result.devices:
                end_s = result.start_s + result.duration_s
                assert is_one_stretch(entry.phases, result.start_s, end_s), entry
                joules += [p.energy.value_j for p in entry.phases if p.energy is not None]
        energy = summarise(run).energy.value
        assert energy is not None
        assert energy.value_j == pytest.approx(math.fsum(joules))


class TestSchedule:
    def test_rounds_train_on_the_share_and_the_last_one_stays(self, fading: SharedRun) -> None:
        assert fading.code == 0, fading.err
        run, had = read_run(fading.run_folder), delivered(fading)
        assert sum(had.values()) > 100
        for result, share in zip(run.rounds, (1.0, 0.5, 0.0), strict=True):
            for device, entry in by_device(result).items():
                counts = run.device_plans[device].synthetic_counts
                assert sum(counts) == had.get(device, 0), "nothing is thrown away"
                assert entry.synthetic_samples == sum(math.ceil(share * n) for n in counts)
                assert entry.status == "accepted"

    def test_joules_of_computing_fall_with_it(self, fading: SharedRun) -> None:
        """As many cycles fewer; what frequency does to the joules of one is the plan's business."""
        run = read_run(fading.run_folder)
        filled = [d for d, plan in run.device_plans.items() if sum(plan.synthetic_counts) > 20]
        assert filled
        for device in filled:
            spent = []
            for result in run.rounds:
                entry = by_device(result)[device]
                (compute,) = (p for p in entry.phases if p.phase == "compute")
                (cost,) = (p for p in entry.predicted if p.phase == "compute")
                assert compute.energy is not None
                assert compute.energy.value_j == pytest.approx(cost.board_j, rel=0.2)
                spent.append(compute.energy.value_j)
            assert spent[0] > spent[1] > spent[2], device

    def test_no_error_is_planned_for_a_part_of_the_images(self, fading: SharedRun) -> None:
        run = read_run(fading.run_folder)
        assert [r.planned_error is not None for r in run.rounds] == [True, False, False]
        assert all(r.local_error is not None for r in run.rounds)
        assert run.learning_refits == ()

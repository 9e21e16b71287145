"""The plan's own round against the rounds that were run by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fimi.optim.learning_curve import LearningCurve
from fimi.record.events import LearningRefitted
from fimi.record.planned import plan_held
from fimi.record.reader import read_run
from fimi.record.record import Enrolment, RunData
from fimi.record.summary import summarise

BOARD_J, DYNAMIC_J = 10.1, 4.0


def held(run: RunData) -> Any:
    found = summarise(run).held
    assert found is not None
    return found


def test_a_mean_round_with_its_share_of_the_preparation(run_dir: Path, build: Any) -> None:
    run = read_run(run_dir)
    found, summary = held(run), summarise(run)
    assert (found.rounds, found.round_s, found.planned_round_s) == (3, 7.5, 7.5)
    assert found.board.measured is not None
    assert summary.energy.value is not None
    assert found.board.measured.value_j == pytest.approx(summary.energy.value.value_j / 3)
    assert found.board.measured.uncertainty_j == pytest.approx(
        summary.energy.value.uncertainty_j / 3
    )
    assert found.board.measured.kind == "emulated"
    assert found.board.predicted_j == BOARD_J
    assert found.board.error_percent == pytest.approx(
        100 * (BOARD_J / found.board.measured.value_j - 1)
    )
    assert found.dynamic.measured is not None
    assert found.dynamic.measured.value_j == pytest.approx(2 * build.dynamic_j)
    assert found.dynamic.predicted_j == DYNAMIC_J


def test_only_rounds_since_the_plan_was_changed_count(run_dir: Path, build: Any) -> None:
    run = read_run(run_dir)
    refitted = held(replace(run, refits=(1, 2)))
    assert refitted.rounds == 1
    assert refitted.board.measured.value_j == pytest.approx(2 * build.measured_j)
    late = Enrolment(device="device-1", device_index=1, since_round=2, why_not="")
    assert held(replace(run, enrolments=(late,))).rounds == 2
    assert summarise(replace(run, refits=(3,))).held is None  # no round since


def test_a_plan_for_other_data_is_another_one(run_dir: Path, build: Any) -> None:
    """Top-ups, and a schedule of synthetic samples: no board was fitted."""
    run = read_run(run_dir)
    assert held(run).rounds == 3

    def with_samples(*counts: int, looked: int = 0) -> RunData:
        rounds = tuple(
            replace(
                result,
                devices=tuple(
                    replace(d, synthetic_samples=count, unlabelled_samples=looked)
                    for d in result.devices
                ),
            )
            for result, count in zip(run.rounds, counts, strict=True)
        )
        return replace(run, rounds=rounds)

    assert held(with_samples(0, 0, 90)).rounds == 1
    assert held(with_samples(90, 45, 45)).rounds == 2
    assert held(with_samples(90, 45, 45)).board.measured.value_j == pytest.approx(
        2 * build.measured_j
    )
    assert held(with_samples(10, 20, 30, looked=40)).rounds == 3  # pseudo-labels: one plan

    # k of n: after a top-up in round 1, a device that is drawn in round 3 first tells nothing new
    topped = with_samples(0, 0, 90)
    first, second, third = topped.rounds
    resting = tuple(replace(d, status="resting") for d in second.devices)
    topped = replace(topped, rounds=(first, replace(second, devices=resting), third))
    event = LearningRefitted(
        round=1,
        before=0.1,
        measured=0.3,
        planned=0.1,
        curve=LearningCurve(alpha=2.0, beta=0.5, delta0=0.0),
        images=90,
    )
    assert held(replace(topped, learning_refits=(event,))).rounds == 2
    none = replace(event, round=2, images=0)
    assert held(replace(with_samples(0, 0, 0), learning_refits=(none,))).rounds == 3


def test_a_round_of_k_of_n_has_its_share_of_the_plan(run_dir: Path) -> None:
    run = read_run(run_dir)
    drawn = replace(run, info=replace(run.info, config={"rounds.participants": 1}))
    found = held(drawn)
    assert (found.board.predicted_j, found.dynamic.predicted_j) == (BOARD_J / 2, DYNAMIC_J / 2)
    assert found.board.measured == held(run).board.measured


def test_a_missing_part_makes_the_mean_unknown(tmp_path: Path, build: Any) -> None:
    rounds = [
        build.round_result(1, [build.device_round("a")], 0.5),
        build.round_result(2, [build.device_round("a", unread=("idle",))], 0.6),
    ]
    build.write(tmp_path / "a-run", names=("a",), rounds=rounds)
    found = held(read_run(tmp_path / "a-run"))
    assert (found.board.measured, found.board.error_percent) == (None, None)
    assert [(gap.round, gap.phase) for gap in found.board.missing] == [(2, "idle")]
    assert found.board.predicted_j == BOARD_J
    assert found.dynamic.measured is not None  # nobody needs idling for it


def test_nothing_without_a_plan_or_a_round(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert summarise(replace(run, plan=None)).held is None
    assert summarise(replace(run, rounds=())).held is None


def test_an_energy_that_the_store_does_not_have_is_unknown(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert run.plan is not None
    older = replace(run, plan=replace(run.plan, board=type(run.plan.board)(), round_s=None))
    found = plan_held(older, [], {})
    assert found is not None
    assert (found.board.predicted_j, found.planned_round_s) == (None, None)
    assert found.dynamic.predicted_j == DYNAMIC_J

from __future__ import annotations

import pytest

from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages import Goodput
from fimi.record.results import DeviceRound, Preparation, RoundResult
from fimi.record.targets import costs_to_targets


def phase(joules: float | None) -> PhaseRecord:
    energy = Energy(value_j=joules, kind="emulated", source="s") if joules is not None else None
    return PhaseRecord(
        phase="compute",
        start_s=0.0,
        duration_s=1.0,
        energy=energy,
        sample_count=2,
        largest_gap_s=0.1,
    )


def moved(size: int) -> tuple[Goodput, ...]:
    return (Goodput(phase="upload", size_bytes=size, duration_s=1.0),)


def result(number: int, accuracy: float, joules: float | None = 10.0) -> RoundResult:
    device = DeviceRound(
        device="a", status="accepted", phases=(phase(joules),), transfers=moved(100)
    )
    return RoundResult(
        number=number,
        start_s=2.0 + 5.0 * (number - 1),
        duration_s=5.0,
        evaluation=Evaluation(accuracy=accuracy, loss=1.0, class_accuracy=(), samples=4),
        devices=(device,),
    )


PREPARATION = Preparation(device="a", phases=(phase(3.0),), predicted=(), transfers=moved(7))


def test_what_came_before_the_first_round_counts() -> None:
    (cost,) = costs_to_targets([0.5], [PREPARATION], [result(1, 0.4), result(2, 0.6)])
    assert (cost.rounds, cost.energy_j, cost.duration_s, cost.size_bytes) == (2, 23.0, 12.0, 207)


def test_a_target_that_is_never_reached_has_no_price() -> None:
    (cost,) = costs_to_targets([0.9], [PREPARATION], [result(1, 0.4)])
    assert (cost.rounds, cost.energy_j, cost.duration_s, cost.size_bytes) == (None,) * 4


def test_joules_are_unknown_where_a_device_was_not_metered() -> None:
    (cost,) = costs_to_targets([0.5], [], [result(1, 0.4, joules=None), result(2, 0.6)])
    assert (cost.rounds, cost.energy_j) == (2, None)
    assert cost.duration_s == pytest.approx(12.0)

"""What a round begins with after a pause: real boards have idled, which is foreseen."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from scripted import record

from fimi.coordinator.round_end import AtJoules, SoFar
from fimi.coordinator.round_order import RoundOrder
from fimi.coordinator.round_verdict import draws
from fimi.energy.cost_model import Phase, PhaseCost
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.facts import RoundReport

PHASES: tuple[Phase, ...] = ("model-download", "compute", "upload", "idle")
numbers = st.integers(0, 1000).map(float)


def cost(phase: Phase, duration_s: float, board_j: float) -> PhaseCost:
    return PhaseCost(phase=phase, duration_s=duration_s, dynamic_j=board_j / 2, board_j=board_j)


def order(predicted: tuple[PhaseCost, ...], pause: PhaseCost | None) -> RoundOrder:
    return RoundOrder(
        number=2,
        start_s=0.0,
        wall_timeout_s=1.0,
        plans={},
        predicted={"a": predicted},
        training=TrainingSettings(),
        members={},
        paused={} if pause is None else {"a": pause},
    )


@given(st.lists(st.tuples(st.sampled_from(PHASES), numbers, numbers), max_size=6), numbers, numbers)
def test_a_pause_is_added_to_the_idling_that_is_foreseen(
    phases: list[tuple[Phase, float, float]], pause_s: float, pause_j: float
) -> None:
    predicted = tuple(cost(*each) for each in phases)
    assert order(predicted, None).foreseen("a") == predicted
    found = order(predicted, cost("idle", pause_s, pause_j)).foreseen("a")
    assert [each for each in found if each.phase != "idle"] == [
        each for each in predicted if each.phase != "idle"
    ]
    assert [each.phase for each in found].count("idle") == 1
    for name, more in (("duration_s", pause_s), ("board_j", pause_j), ("dynamic_j", pause_j / 2)):
        before = math.fsum(getattr(each, name) for each in predicted)
        assert math.fsum(getattr(each, name) for each in found) == before + more


def test_joules_of_a_pause_end_no_round() -> None:
    """The board idled for 50 J before the round and worked for 6 J in it, of a budget of 20 J."""
    report = RoundReport(
        run="r",
        device="a",
        round=2,
        local_samples=1,
        synthetic_samples=0,
        training_loss=None,
        training_accuracy=None,
        frequency_hz=None,
        busy_s=3.0,
        phases=(record("idle", 50.0, 25.0), *(record(phase) for phase in PHASES[:3])),
    )
    predicted = tuple(cost(phase, 1.0, 2.0) for phase in PHASES[:3])

    def ends_s(pause: PhaseCost | None) -> float:
        found = draws(order(predicted, pause), {"a": report})
        return AtJoules(20.0).ends_s(SoFar(invited=1, draws=found))

    assert ends_s(cost("idle", 25.0, 50.0)) == math.inf
    assert ends_s(None) == 10.0  # as such idling is counted where the run did not pause

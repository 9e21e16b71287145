"""fimi.coordinator.learning_adaptation: planned errors against measured ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from fimi.coordinator.learning_adaptation import Holding, LearningAdaptation, begin
from fimi.coordinator.settings import PlanSettings
from fimi.learning.training.trainer import Evaluation
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.target import RoundsModel
from fimi.record.results import DeviceRound, RoundResult

CURVE = LearningCurve(alpha=3.0, beta=0.8, delta0=0.02)
ROUNDS = RoundsModel(scale=0.36, sensitivity=19.4)
SAMPLES = 180
PLANNED = float(CURVE.error(SAMPLES))
EVEN = Holding(now=SAMPLES, even=1.2 * SAMPLES)
UNEVEN = Holding(now=70.0, even=320.0)


def learning(**settings: float) -> LearningAdaptation:
    plan = PlanSettings(**({"error_drift": 0.02, "refit_window": 3} | settings))  # type: ignore[arg-type]
    return LearningAdaptation(plan, begin(CURVE, ROUNDS, PLANNED, 10))


def device(error: float | None, *, own: float = 0.0, name: str = "a") -> DeviceRound:
    return DeviceRound(
        device=name,
        status="accepted",
        local_samples=80,
        synthetic_samples=100,
        local_error=error,
        training_accuracy=1.0 - own,
    )


def result(number: int, devices: Sequence[DeviceRound], accuracy: float = 0.6) -> RoundResult:
    judged = Evaluation(accuracy=accuracy, loss=1.0, class_accuracy=(), samples=100)
    return RoundResult(
        number=number,
        start_s=0.0,
        duration_s=1.0,
        evaluation=judged,
        validation=judged,
        devices=tuple(devices),
    )


def falling(to: float, rounds: int, *, tau: float = 1.6) -> list[float]:
    return [to + (0.9 - to) * math.exp(-t / tau) for t in range(rounds)]


class TestPlanned:
    def test_before_the_first_round_by_the_curve_and_the_rounds_to_an_accuracy(self) -> None:
        found = learning()
        falls = 0.36 * math.exp(19.4 * PLANNED)
        for number in (1, 2, 5):
            expected = PLANNED + (0.9 - PLANNED) * math.exp(-(number - 1) / falls)
            assert found.planned(number, device(None)) == pytest.approx(expected)

    def test_who_has_less_is_expected_to_err_more(self) -> None:
        few = DeviceRound(device="b", status="accepted", local_samples=40)
        assert learning().planned(9, few) > learning().planned(9, device(None))

    def test_synthetic_samples_count_as_much_as_they_are_worth(self) -> None:
        less = learning(synthetic_value=0.5)
        assert less.planned(9, device(None)) > learning().planned(9, device(None))

    def test_it_follows_what_was_measured(self) -> None:
        found = learning()
        errors = falling(0.04, 8)
        for number, error in enumerate(errors, 1):
            found.learn(result(number, [device(error, own=error)]))
        assert found.planned(9, device(None)) == pytest.approx(
            0.04 + 0.86 * math.exp(-8 / 1.6), abs=0.01
        )


class TestLevel:
    def test_none_where_errors_fall_as_planned(self) -> None:
        found = learning()
        for number, error in enumerate(falling(PLANNED, 15), 1):
            found.learn(result(number, [device(error, own=0.8 * error)]))
            assert found.level is None

    def test_another_level_is_seen_once_it_is_told_from_a_slow_fall(self) -> None:
        found = learning()
        seen = []
        for number, error in enumerate(falling(0.2, 15), 1):
            found.learn(result(number, [device(error, own=error)]))
            seen.append(found.level)
        assert seen[1] is None
        assert seen[-1] == pytest.approx(0.2, rel=0.1)

    def test_right_on_ones_own_and_wrong_on_others_is_seen_after_the_window(self) -> None:
        found = learning()
        for number in (1, 2):
            found.learn(result(number, [device(0.85, own=0.05)]))
            assert found.level is None
        found.learn(result(3, [device(0.85, own=0.05)]))
        assert found.level == pytest.approx(0.8)

    def test_a_gap_that_falls_is_learning(self) -> None:
        """As in runs of many local epochs: right on one's own at once, on others by and by."""
        found = learning()
        for number, error in enumerate((0.8, 0.5, 0.3, 0.2, 0.12), 1):
            found.learn(result(number, [device(error, own=0.02)]))
            assert found.level is None

    def test_slow_learning_lacks_no_data(self) -> None:
        """Devices are as wrong on their own samples as on others."""
        found = learning()
        for number in (1, 2, 3):
            found.learn(result(number, [device(0.85, own=0.8)]))
        assert found.level is None

    def test_off(self) -> None:
        found = learning(error_drift=0.0)
        for number in range(1, 6):
            found.learn(result(number, [device(0.85, own=0.05)]))
        assert found.level is None

    def test_a_round_without_measured_errors_is_no_round(self) -> None:
        found = learning()
        for number in (1, 2, 3):
            found.learn(result(number, [device(None)]))
        assert found.state.numbers == ()
        assert len(found.state.accuracies) == 3


class TestRefit:
    def test_even_classes_scale_the_curve(self) -> None:
        found = learning().refit(2.0 * PLANNED, EVEN)
        for samples in (50, 180, 900):
            assert float(found.curve.error(samples)) == pytest.approx(
                2.0 * float(CURVE.error(samples))
            )

    def test_uneven_classes_leave_the_curve_where_they_would_be_even(self) -> None:
        found = learning().refit(0.6, UNEVEN)
        assert float(found.curve.error(UNEVEN.now)) == pytest.approx(0.6)
        assert float(found.curve.error(UNEVEN.even)) == pytest.approx(
            float(CURVE.error(UNEVEN.even))
        )

    def test_a_level_below_the_plan_scales_even_uneven_classes(self) -> None:
        found = learning().refit(0.5 * PLANNED, UNEVEN)
        assert found.curve.beta == CURVE.beta
        assert float(found.curve.error(100)) == pytest.approx(0.5 * float(CURVE.error(100)))

    def test_a_level_of_nearly_all_wrong_gives_a_curve(self) -> None:
        for held in (EVEN, UNEVEN):
            found = learning().refit(1.0, held)
            assert 0.0 < float(found.curve.error(1000)) < 1.0

    def test_rounds_as_they_were_taken(self) -> None:
        """The global model is twice as slow as (34) says."""
        found = learning()
        for number, accuracy in enumerate((0.3, 0.7, 0.7, 0.9), 1):
            found.learn(result(number, [device(0.5, own=0.5)], accuracy))
        state = found.refit(PLANNED, EVEN)
        ratios = [n / ROUNDS.rounds(PLANNED, a) for n, a in ((2, 0.7), (4, 0.9))]
        mean = math.exp(sum(map(math.log, ratios)) / 3)  # the scale before is the third
        assert state.rounds.scale == pytest.approx(ROUNDS.scale * mean)


class TestAgain:
    def test_errors_fall_on_from_the_last_one(self) -> None:
        found = learning()
        for number in (1, 2, 3):
            found.learn(result(number, [device(0.85, own=0.05)]))
        found.refit(0.8, UNEVEN)
        found.begin_again(0.05)
        assert found.state.expected.error(3) == pytest.approx(0.85)
        assert found.state.expected.error(30) == pytest.approx(0.05)
        assert found.level is None

    def test_a_run_that_goes_on_plans_the_same(self) -> None:
        found = learning()
        for number, error in enumerate(falling(0.1, 5), 1):
            found.learn(result(number, [device(error, own=error)]))
        again = LearningAdaptation(PlanSettings(), found.state)
        assert again.planned(6, device(None)) == found.planned(6, device(None))

"""Plans for a number of steps: the least synthetic data, and resources for the steps' samples."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.coordinator.fixed_steps import FixedSteps, around, least_synthetic
from fimi.energy.emulation.boards import fleet
from fimi.learning.training.trainer import TrainingSettings
from fimi.optim import planner
from fimi.optim.board_problem import from_boards
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem, InfeasibleError, tfl
from fimi.optim.unplanned import equal_shares

CURVE = LearningCurve(alpha=5.8, beta=0.93, delta0=0.027)


def problem(counts: list[list[int]], error_max: float = 0.1, most: float = 500.0) -> FimiProblem:
    boards = fleet(len(counts), 0, cycles_per_sample=4e6)
    names = [f"d{i}" for i in range(len(counts))]
    return from_boards(
        {name: board.model for name, board in zip(names, boards, strict=True)},
        local_counts=dict(zip(names, counts, strict=True)),
        epochs=5,
        deadline_s=10.0,
        upload_bits=1.2e6,
        download_bits=1.2e6,
        bandwidth_hz=20e3 * len(counts),
        generated_max=most,
        error_max=error_max,
        curve=CURVE,
    )


def solve(fixed: FimiProblem) -> planner.Plan:
    return planner.plan(fixed, seed=0)


class TestLeastSynthetic:
    @settings(max_examples=60, deadline=None)
    @given(
        local=st.lists(st.integers(0, 120), min_size=1, max_size=5),
        error_max=st.floats(0.08, 0.4),
        value=st.sampled_from([1.0, 0.5]),
    )
    def test_it_meets_the_limit_and_no_sample_can_be_spared(
        self, local: list[int], error_max: float, value: float
    ) -> None:
        fleet_problem = problem([[n, 0] for n in local], error_max)
        made = least_synthetic(fleet_problem, value)

        def error(amounts: np.ndarray) -> float:
            return float(np.mean(CURVE.error(np.array(local) + value * amounts)))

        assert error(made) <= error_max
        for i in np.flatnonzero(made):
            fewer = made.copy()
            fewer[i] -= 1
            assert error(fewer) > error_max

    def test_of_three_devices_it_is_the_least_there_is(self) -> None:
        small = problem([[4, 0], [9, 0], [30, 0]], error_max=0.5, most=30)
        made = least_synthetic(small)
        best = min(
            a + b + c
            for a in range(31)
            for b in range(31)
            for c in range(31)
            if np.mean(CURVE.error(np.array([4 + a, 9 + b, 30 + c]))) <= 0.5
        )
        assert made.sum() == best

    def test_more_than_may_be_given(self) -> None:
        given = problem([[5, 5]], error_max=0.1, most=10)
        with pytest.raises(InfeasibleError, match="with 10 synthetic samples") as caught:
            least_synthetic(given)
        least, most = caught.value.smallest_error_max, caught.value.generated_max_needed
        assert least is not None
        assert most is not None
        least_synthetic(msgspec.structs.replace(given, error_max=least))
        least_synthetic(msgspec.structs.replace(given, generated_max=np.asarray(most)))
        with pytest.raises(InfeasibleError):
            least_synthetic(msgspec.structs.replace(given, generated_max=np.asarray(most - 1)))

    def test_an_error_below_the_floor_is_reached_with_no_amount(self) -> None:
        with pytest.raises(InfeasibleError) as caught:
            least_synthetic(problem([[5, 5]], error_max=1e-9, most=10))
        assert caught.value.generated_max_needed is None

    def test_without_a_limit_there_are_none(self) -> None:
        assert least_synthetic(tfl(problem([[5, 5], [1, 0]]))).tolist() == [0, 0]


class TestPlan:
    training = TrainingSettings(steps=30, batch_size=20)

    def test_cycles_are_those_of_the_steps(self) -> None:
        fleet_problem = problem([[40, 0], [3, 2]], error_max=0.12)
        plan = FixedSteps(training=self.training).plan(fleet_problem, solve)
        made = least_synthetic(fleet_problem)
        assert [sum(d.synthetic_counts) for d in plan.devices] == made.tolist()
        assert [d.samples for d in plan.devices] == [40 + made[0], 5 + made[1]]
        for share, cycles in zip(plan.devices, fleet_problem.cycles_per_sample, strict=True):
            assert share.compute_s == pytest.approx(30 * 20 * cycles / share.point.frequency_hz)
        assert plan.error is not None
        assert plan.error <= 0.12
        assert plan.bound_j is not None
        assert plan.energy_j >= plan.bound_j

    def test_a_device_with_less_than_a_batch_has_smaller_steps(self) -> None:
        alone = tfl(problem([[3, 2]]))
        plan = FixedSteps(training=self.training).plan(alone, solve)
        (share,) = plan.devices
        cycles = float(alone.cycles_per_sample[0])
        assert share.compute_s == pytest.approx(30 * 5 * cycles / share.point.frequency_hz)
        assert (share.samples, share.synthetic_counts) == (5, (0, 0))

    def test_more_data_costs_no_more_to_train(self) -> None:
        few, many = (
            FixedSteps(training=self.training).plan(tfl(problem([[n, 0]])), solve).energy_j
            for n in (40, 400)
        )
        assert few == pytest.approx(many)

    def test_resources_that_are_not_planned(self) -> None:
        plan = around(equal_shares, self.training, 1.0)(problem([[40, 0], [3, 2]]))
        assert all(sum(d.synthetic_counts) > 0 for d in plan.devices)
        assert math.isfinite(plan.energy_j)

    def test_where_epochs_decide_nothing_changes(self) -> None:
        epochs = msgspec.structs.replace(self.training, steps=0)
        assert around(solve, epochs, 1.0) is solve

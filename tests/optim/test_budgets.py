"""Budgets of joules: a battery's, or the fleet's."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from fimi.optim.budgets import keep_budgets
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.planner import plan
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.spending import spent_j
from tests.optim.remedies import followed
from tests.optim.truth_costs import Costs, cost_of, trial_of
from tests.optim.truth_enumeration import enumerate_plans
from tests.optim.truth_problems import Kind, Problem, planted, problems


@pytest.fixture
def problem(fleet: Any) -> FimiProblem:
    """Four boards that take 2 W at rest, for ten rounds."""
    made: FimiProblem = fleet(
        0,
        4,
        idle_power_w=np.full(4, 2.0),
        synthetic_j=np.full(4, 0.02),
        receive_s=np.ones(4),
        receive_power_w=np.full(4, 0.5),
        rounds=10.0,
    )
    return made


def costs_of(problem: FimiProblem) -> Costs:
    costs = cost_of(problem, trial_of(plan(problem, seed=0)))
    assert costs.broken == {}
    return costs


def one_budget(problem: FimiProblem, device: int, joules: float) -> FimiProblem:
    budget_j = np.full(problem.size, math.inf)
    budget_j[device] = joules
    return replace(problem, budget_j=budget_j)


class TestDevice:
    def test_a_budget_is_kept_and_has_its_price(self, problem: FimiProblem) -> None:
        """The price is what one joule more would save, by the optimum with one joule more."""
        free = costs_of(problem)
        device = int(np.argmax(free.compute_j))
        used_j = problem.rounds * float(free.device_board_j[device])
        above_idle_j = used_j - problem.rounds * 2.0 * free.round_s
        limit_j = used_j - 0.15 * above_idle_j
        limited = one_budget(problem, device, limit_j)
        kept = plan(limited, seed=0)
        costs = cost_of(limited, trial_of(kept))
        assert costs.broken == {}
        assert problem.rounds * costs.device_board_j[device] > 0.95 * limit_j
        assert costs.board_j > free.board_j
        assert kept.bound_j is not None
        assert free.board_j < kept.bound_j <= costs.board_j
        prices = [share.budget_price for share in kept.devices]
        assert [i for i, price in enumerate(prices) if price > 0] == [device]
        more = keep_budgets(one_budget(problem, device, limit_j * 1.002))
        saved_j = problem.rounds * (
            objective_j(problem, keep_budgets(limited)) - objective_j(problem, more)
        )
        assert saved_j / (0.002 * limit_j) == pytest.approx(prices[device], rel=0.05)
        assert kept.budget_cost_j == pytest.approx(
            kept.search_energy_j - solve(InnerSolver(problem)).energy_j, rel=1e-6
        )
        assert kept.budget_cost_j > 0

    def test_a_budget_that_is_not_used_up_changes_nothing(self, problem: FimiProblem) -> None:
        free = plan(problem, seed=0)
        large = plan(replace(problem, budget_j=np.full(4, 1e6), fleet_budget_j=1e7), seed=0)
        assert large.devices == free.devices
        assert large.board == free.board
        assert large.budget_cost_j == 0.0

    def test_below_idle(self, problem: FimiProblem) -> None:
        """No plan has rounds so short: the error says who, and what would be enough is."""
        hopeless = one_budget(problem, 2, 1.0)
        with pytest.raises(
            InfeasibleError, match=r"device-2 takes .* J \(modelled\) without training and has 1 J"
        ) as caught:
            plan(hopeless, seed=0)
        assert caught.value.constraint == "energy budget"
        assert caught.value.devices == ("device-2",)
        enough = re.search(r"budget_j of at least ([\d.e+]+) for device-2", str(caught.value))
        assert enough
        assert costs_of(one_budget(problem, 2, float(enough[1]))).board_j > 0


class TestFleet:
    def test_less_than_the_least_is_refused(self, problem: FimiProblem) -> None:
        """With the board's objective the fleet already takes the least that it can."""
        least_j = problem.rounds * solve(InnerSolver(problem)).energy_j
        with pytest.raises(InfeasibleError, match="fleet_budget_j is") as caught:
            plan(replace(problem, fleet_budget_j=0.97 * least_j), seed=0)
        assert caught.value.constraint == "energy budget"
        assert costs_of(replace(problem, fleet_budget_j=1.05 * least_j)).board_j > 0

    def test_a_fleet_s_budget_shortens_the_rounds_of_the_paper_s_plan(
        self, problem: FimiProblem
    ) -> None:
        paper = replace(problem, objective="dynamic")
        free = costs_of(paper)
        least_j = problem.rounds * solve(InnerSolver(problem)).energy_j
        limit_j = 0.5 * (least_j + problem.rounds * free.board_j)
        limited = replace(paper, fleet_budget_j=limit_j)
        kept = plan(limited, seed=0)
        costs = cost_of(limited, trial_of(kept))
        assert costs.broken == {}
        assert costs.round_s < free.round_s
        assert problem.rounds * costs.board_j > 0.98 * limit_j
        assert costs.dynamic_j > free.dynamic_j
        assert kept.bound_j is not None
        assert free.dynamic_j < kept.bound_j <= costs.dynamic_j
        assert kept.gap_percent is not None
        assert kept.gap_percent < 1.0


@given(problems(sizes=(1, 4), processors="laws", budgets=True))
@settings(max_examples=6, deadline=None)
def test_plans_of_laws_keep_budgets(made: Problem) -> None:
    problem, trial = made
    result = plan(problem, seed=0)
    costs = cost_of(problem, trial_of(result))
    assert costs.broken == {}
    truth = cost_of(problem, trial)
    assert result.bound_j is not None
    assert result.bound_j <= truth.energy_j(problem) * (1 + 1e-9)
    assert result.bound_j <= result.energy_j * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_two_devices_with_steps_against_complete_enumeration(seed: int) -> None:
    """Bounds are below the best plan that keeps the budgets, plans keep them."""
    problem, _ = planted(
        seed, 2, Kind(processors="points", generated_max=10, steps_max=4, budgets=True)
    )
    best = enumerate_plans(problem)
    result = plan(problem, seed=0)
    assert cost_of(problem, trial_of(result)).broken == {}
    assert result.bound_j is not None
    assert result.bound_j <= best.energy_j * (1 + 1e-9)
    assert result.energy_j >= best.energy_j * (1 - 1e-6)


def test_spent_by_hand(fleet: Any) -> None:
    problem = fleet(
        0,
        1,
        local_counts=np.array([[10]]),
        idle_power_w=np.array([2.0]),
        synthetic_j=np.array([0.5]),
        receive_s=np.array([3.0]),
        receive_power_w=np.array([0.25]),
        energy_per_bit_j=np.array([1e-6]),
        payload_bits=np.array([4e6]),
        rounds=5.0,
    )
    # Five rounds of 7 J worn, 4 J of bits, 0.75 J of receiving and 2 W × 20 s; six images.
    spent = spent_j(problem, np.array([7.0]), np.array([16.0]), 20.0)
    assert spent.tolist() == pytest.approx([5 * (7.0 + 4.0 + 0.75 + 40.0) + 6 * 0.5])


def objective_j(problem: FimiProblem, kept: Any) -> float:
    """Board energy of an optimum in real numbers, every joule counted once, J in a round."""
    found = kept.solution.evaluation
    base = InnerSolver(problem)
    return float(
        base.objective_j(
            found.compute.energy_j, found.upload.energy_j, found.compute.samples, found.round_s
        )[0]
    )


class TestLimitsToo:
    """Limits without a plan, and budgets that are too small for the remedies of these."""

    @pytest.mark.parametrize("seed", range(2))
    @pytest.mark.parametrize(("limit", "factor"), [("t_max_s", 0.2), ("bandwidth_hz", 0.02)])
    def test_remedies_name_the_budgets_that_they_need(
        self, seed: int, limit: str, factor: float
    ) -> None:
        kind = Kind(processors="laws", empty=False)
        planned, _ = planted(seed, 2, kind)
        tight = replace(planned, **{limit: factor * getattr(planned, limit)}, fleet_budget_j=1e-3)
        with pytest.raises(InfeasibleError) as caught:
            plan(tight, seed=0)
        if caught.value.constraint == "energy budget":  # this limit alone leaves a plan
            assert "fleet_budget_j of at least" in str(caught.value)
        remedies = list(followed(tight, str(caught.value)))
        assert remedies
        for text, changed in remedies:
            assert "fleet_budget_j of at least " in text
            assert plan(changed, seed=0).energy_j > 0

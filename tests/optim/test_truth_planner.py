"""Plans and bounds against the truths: enumeration, the convex program, the plan that was hidden.

Every problem is random, of every kind of processor, radio and limit (:mod:`truth_problems`).
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.certificate import solve_program
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.planner import plan
from fimi.optim.plans import Plan
from fimi.optim.problem import FimiProblem
from tests.optim.truth_costs import cost_of, trial_of
from tests.optim.truth_enumeration import enumerate_plans
from tests.optim.truth_problems import Problem, any_kind, planted, problems

ALLOWED = 1e-3
"""Above the best of all plans, relatively."""
ROUNDING = 1e-6
SEEDS = st.integers(0, 2**32 - 1)


def is_what_it_says(problem: FimiProblem, found: Plan) -> None:
    """The plan keeps every limit, and both of its energies are those of the cost model."""
    costs = cost_of(problem, trial_of(found))
    assert costs.broken == {}
    assert found.board.energy_j == pytest.approx(costs.board_j, rel=1e-9)
    assert found.dynamic.energy_j == pytest.approx(costs.dynamic_j, rel=1e-9)
    for share, compute_s, upload_s in zip(
        found.devices, costs.compute_s, costs.upload_s, strict=True
    ):
        assert share.compute_s == pytest.approx(compute_s, rel=1e-9)
        assert share.upload_s == pytest.approx(upload_s, rel=1e-6)


def is_nearly_the_best(problem: FimiProblem, found: Plan) -> None:
    """The bound is below the best of all plans, and the plan is not far above it."""
    best_j = enumerate_plans(problem).energy_j
    assert found.bound_j is not None
    assert found.bound_j <= best_j * (1 + ROUNDING)
    assert best_j * (1 - ROUNDING) <= found.energy_j <= best_j * (1 + ALLOWED)


@given(problems((1, 12), processors="laws", budgets=False))
@settings(max_examples=20)
def test_laws_plan_and_bound_are_the_programs_optimum(drawn: Problem) -> None:
    problem, _ = drawn
    program = solve_program(problem)
    solution = solve(InnerSolver(problem))
    assert solution.evaluation.violation[0] == 0
    assert solution.energy_j == pytest.approx(program.energy_j, rel=3e-6)
    assert solution.bound_j == pytest.approx(program.energy_j, rel=1e-5)
    assert solution.bound_j <= solution.energy_j


@given(problems((2, 2), budgets=False))
@settings(max_examples=12)
def test_two_devices_of_any_kind(drawn: Problem) -> None:
    problem, _ = drawn
    found = plan(problem, seed=0)
    is_what_it_says(problem, found)
    is_nearly_the_best(problem, found)


@pytest.mark.parametrize("processors", ["steps", "points"])
@given(SEEDS)
@settings(max_examples=5)
def test_three_devices_with_steps(processors: str, seed: int) -> None:
    kind = any_kind(seed, processors=processors, budgets=False, generated_max=20)
    problem, _ = planted(seed, 3, kind)
    found = plan(problem, seed=0)
    is_what_it_says(problem, found)
    is_nearly_the_best(problem, found)


@pytest.mark.slow
@given(SEEDS)
@settings(max_examples=4)
def test_budgets(seed: int) -> None:
    problem, _ = planted(seed, 2, any_kind(seed, budgets=True, generated_max=6))
    found = plan(problem, seed=0)
    is_what_it_says(problem, found)
    assert found.bound_j is not None
    assert found.bound_j <= enumerate_plans(problem).energy_j * (1 + ROUNDING)


@given(problems((1, 2), budgets=False))
@settings(max_examples=8)
def test_the_bound_of_the_other_energy(drawn: Problem) -> None:
    """A plan also says how little of the energy it does not aim at would be possible."""
    problem, _ = drawn
    found = plan(problem, seed=0)
    aims_at_board = problem.objective == "board"
    other = found.dynamic if aims_at_board else found.board
    objective = "dynamic" if aims_at_board else "board"
    best_j = enumerate_plans(msgspec.structs.replace(problem, objective=objective)).energy_j
    assert other.bound_j is not None
    assert other.bound_j <= best_j * (1 + ROUNDING)
    assert other.energy_j >= best_j * (1 - ROUNDING)


@given(problems((4, 30), budgets=False))
@settings(max_examples=8)
def test_larger_fleets_against_the_plan_that_is_hidden_in_them(drawn: Problem) -> None:
    """The limits were laid around a plan: the bound is below it, and the found plan is too."""
    problem, trial = drawn
    hidden_j = cost_of(problem, trial).energy_j(problem)
    found = plan(problem, seed=0)
    is_what_it_says(problem, found)
    assert found.bound_j is not None
    assert found.bound_j <= hidden_j
    assert found.energy_j <= hidden_j * (1 + ROUNDING)

"""Dual decomposition against CVXPY, against random plans, and at sizes CVXPY cannot do."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import Array
from fimi.optim.certificate import solve_program
from fimi.optim.device_optimum import DeviceSolver
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import prices_of, solve
from fimi.optim.planner import SearchSettings, plan
from fimi.optim.problem import InfeasibleError
from fimi.optim.roots import Balance
from tests.optim.truth_costs import Trial, cost_of
from tests.optim.truth_enumeration import enumerate_plans
from tests.optim.truth_problems import Problem, any_kind, planted, problems

SEEDS = st.integers(0, 2**32 - 1)
GAP = 5e-6
"""Of plan and bound, and to Clarabel, where the length of the round is a variable."""


@pytest.mark.parametrize(("seed", "size"), [(0, 1), (1, 3), (2, 20), (3, 60)])
def test_agrees_with_clarabel(fleet: Any, seed: int, size: int) -> None:
    inner = InnerSolver(fleet(seed, size))
    solution = solve(inner)
    assert solution.energy_j == pytest.approx(solve_program(inner.problem).energy_j, rel=1e-6)


@given(SEEDS, st.integers(1, 12), st.sampled_from([0.02, 1.0]))
@settings(max_examples=30, deadline=None)
def test_plan_and_proof_meet(fleet: Any, seed: int, size: int, room: float) -> None:
    """The plan is feasible and its energy is the bound's, to 1e-8."""
    problem = fleet(seed, size, generated_max=np.asarray(1500.0 * room))
    inner = InnerSolver(problem)
    try:
        solution = solve(inner)
    except InfeasibleError:
        return
    assert solution.evaluation.violation[0] == 0
    assert solution.bound_j <= solution.energy_j
    assert solution.relative_gap < 1e-8


@pytest.mark.parametrize("fixed", [False, True])
@given(SEEDS, st.floats(2, 14), st.floats(-15, -7))
@settings(max_examples=40, deadline=None)
def test_balance_has_the_slope_it_says(
    fleet: Any, fixed: bool, seed: int, log_lam: float, log_mu: float
) -> None:
    problem = fleet(seed, 6)
    if fixed:
        problem = fleet(seed, 6, frequency_min_hz=problem.frequency_max_hz)
    inner = InnerSolver(problem)
    devices = DeviceSolver(inner)
    assert inner.lanes.fixed.all() == fixed
    rows = np.arange(6)
    total_s, log_mus = problem.t_max_s, np.full(6, log_mu)
    low = inner.lanes.log_low - inner.log_fast
    room_s = total_s - inner.radio.full_power_s(problem.bandwidth_hz)
    high = np.maximum(np.log(room_s), low)
    share = np.random.default_rng(seed).uniform(0.01, 0.99, 6)
    at = low + share * (high - low)
    step = 1e-6

    def balance(x: Array) -> Balance:
        of = devices._step_balance if fixed else devices._law_balance
        return of(x, rows, total_s, log_lam, log_mus)

    here, above, below = balance(at), balance(at + step), balance(at - step)
    # No kink in between.
    smooth = np.abs(above.slope - below.slope) < 1e-3 * (1 + np.abs(here.slope))
    smooth &= np.abs(here.value) < 600
    measured = (above.value - below.value) / (2 * step)
    np.testing.assert_allclose(measured[smooth], here.slope[smooth], rtol=1e-3, atol=1e-3)
    assert (here.slope <= 1e-9).all()


def test_devices_at_full_speed_do_not_stay_at_the_edge(fleet: Any) -> None:
    """All frequencies fixed: the split decides D alone."""
    problem = fleet(
        1, 5, frequency_min_hz=np.full(5, 1e9), frequency_max_hz=np.full(5, 1e9), error_max=0.4
    )
    assert solve(InnerSolver(problem)).relative_gap < 1e-8


def test_without_learning_constraint_or_work(fleet: Any) -> None:
    problem = fleet(2, 4, error_max=math.inf)
    assert solve(InnerSolver(problem)).relative_gap < 1e-8
    idle = fleet(2, 3, error_max=math.inf, local_counts=np.zeros((3, 2), int))
    solution = solve(InnerSolver(idle))
    assert solution.relative_gap < 1e-8
    assert (solution.window_s == 0).all()


def test_infeasible_says_so(fleet: Any) -> None:
    with pytest.raises(InfeasibleError):
        solve(InnerSolver(fleet(0, 4, bandwidth_hz=1e4)))


def test_a_start_saves_steps(fleet: Any) -> None:
    inner = InnerSolver(fleet(3, 30))
    cold = solve(inner)
    warm = solve(inner, start=prices_of(cold))
    assert warm.steps < 0.7 * cold.steps
    assert warm.energy_j == pytest.approx(cold.energy_j, rel=1e-9)


def test_a_start_that_is_near_saves_more_where_devices_have_steps(fleet: Any) -> None:
    asked = {"cold": 0, "near": 0}
    for seed in range(3):
        laws = fleet(seed, 8, idle_power_w=np.full(8, 3.0))
        ends = zip(laws.frequency_min_hz, laws.frequency_max_hz, strict=True)
        steps = tuple(tuple(np.linspace(low, high, 7)) for low, high in ends)
        stepped = msgspec.structs.replace(laws, frequency_steps_hz=steps)
        similar = msgspec.structs.replace(stepped, error_max=0.995 * stepped.error_max)
        inner, start = InnerSolver(stepped), prices_of(solve(InnerSolver(similar)))
        cold, near = solve(inner), solve(inner, start=start, near=True)
        assert near.energy_j == pytest.approx(cold.energy_j, rel=5e-3)
        assert near.bound_j <= min(near.energy_j, cold.energy_j)
        asked["cold"] += cold.steps
        asked["near"] += near.steps
    assert asked["near"] < 0.85 * asked["cold"]


def test_memory_is_linear(fleet: Any) -> None:
    peaks = []
    for size in (500, 2000):
        inner = InnerSolver(fleet(0, size))
        solve(inner)
        tracemalloc.start()
        assert solve(inner).relative_gap < 1e-8
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5.0 * peaks[0]


def test_the_planner_plans_large_fleets_with_it(fleet: Any) -> None:
    problem = fleet(0, 25)
    large = plan(problem, seed=0)
    assert large.search in ("dual decomposition", "cross-entropy from the dual decomposition")
    assert large.status == "optimal"
    searched = plan(problem, seed=0, settings=SearchSettings(start="cold"))
    assert searched.search == "cross-entropy"
    assert large.search_energy_j == pytest.approx(searched.search_energy_j, rel=1e-4)
    assert large.energy_j == pytest.approx(searched.energy_j, rel=1e-3)


@given(problems((1, 6), processors="laws", budgets=False))
@settings(max_examples=8)
def test_agrees_with_clarabel_on_every_sort_of_board_and_radio(drawn: Problem) -> None:
    """Electronics, caps, powers that are fixed, idle power, free rounds, synthetic downloads."""
    problem, trial = drawn
    solution = solve(InnerSolver(problem))
    program = solve_program(problem)
    assert solution.evaluation.violation[0] == 0
    assert solution.bound_j <= solution.energy_j
    assert solution.relative_gap < GAP
    assert solution.energy_j == pytest.approx(program.energy_j, rel=GAP)
    assert solution.energy_j <= cost_of(problem, trial).energy_j(problem) * (1 + GAP)


@given(problems((1, 6), budgets=False))
@settings(max_examples=10)
def test_its_plan_costs_what_it_says(drawn: Problem) -> None:
    """By the cost model, with every limit kept; steps are set exactly."""
    problem, _ = drawn
    solution = solve(InnerSolver(problem))
    compute, upload = solution.evaluation.compute, solution.evaluation.upload
    trial = Trial(
        samples=compute.samples[0],
        speed_hz=compute.frequency_hz[0],
        bandwidth_hz=upload.bandwidth_hz[0],
        transmit_power_w=upload.power_w[0],
        round_s=solution.round_s,
    )
    costs = cost_of(problem, trial, whole=False)
    assert not {limit: by for limit, by in costs.broken.items() if by > 1e-8}
    assert costs.energy_j(problem) == pytest.approx(solution.energy_j, rel=1e-8)
    assert solution.bound_j <= solution.energy_j


@pytest.mark.parametrize("seed", range(6))
def test_bound_and_plan_lie_around_the_enumerated_plan(seed: int) -> None:
    """Two devices with laws: whole samples cost more than real ones, which are at the bound."""
    kind = any_kind(seed, processors="laws", budgets=False, generated_max=3)
    problem, _ = planted(seed, 2, kind)
    solution, found = solve(InnerSolver(problem)), enumerate_plans(problem)
    assert solution.energy_j <= found.energy_j * (1 + GAP)
    assert solution.bound_j <= found.energy_j


@pytest.mark.parametrize(
    ("seed", "size", "fixed"),
    [(5, 2, {"objective": "board", "idle": True}), (35, 1, {}), (60, 1, {}), (68, 4, {})],
)
def test_prices_that_the_limits_leave_open(seed: int, size: int, fixed: dict[str, Any]) -> None:
    """All devices at full power: many μ meet the band, and the length of the round picks one."""
    problem, _ = planted(seed, size, any_kind(seed, processors="mixed", budgets=False, **fixed))
    inner = InnerSolver(problem)
    assert inner.lanes.single
    assert solve(inner).relative_gap < GAP

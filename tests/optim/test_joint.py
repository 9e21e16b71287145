"""Dual decomposition against CVXPY, against random plans, and at sizes CVXPY cannot do."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.certificate import certify
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import DeviceSolver, solve
from fimi.optim.planner import SearchSettings, plan
from fimi.optim.problem import InfeasibleError

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(("seed", "size"), [(0, 1), (1, 3), (2, 20), (3, 60)])
def test_agrees_with_clarabel(fleet: Any, seed: int, size: int) -> None:
    inner = InnerSolver(fleet(seed, size))
    solution = solve(inner)
    assert solution.energy_j == pytest.approx(certify(inner).program_j, rel=1e-6)


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


@given(SEEDS, st.floats(2, 14), st.floats(-15, -7))
@settings(max_examples=40, deadline=None)
def test_balance_has_the_slope_it_says(
    fleet: Any, seed: int, log_lam: float, log_mu: float
) -> None:
    devices = DeviceSolver(InnerSolver(fleet(seed, 6)))
    rows = np.arange(6)
    share = np.random.default_rng(seed).uniform(0.01, 0.99, 6)
    at = devices._low + share * (devices._high - devices._low)
    step = 1e-6
    value, slope = devices._balance(at, rows, log_lam, log_mu)
    above, below = (devices._balance(at + h, rows, log_lam, log_mu) for h in (step, -step))
    smooth = np.abs(above[1] - below[1]) < 1e-3 * (1 + np.abs(slope))  # no kink in between
    smooth &= np.abs(value) < 600
    measured = (above[0] - below[0]) / (2 * step)
    np.testing.assert_allclose(measured[smooth], slope[smooth], rtol=1e-3, atol=1e-3)
    assert (slope <= 1e-9).all()


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
    assert (solution.tau == 0).all()


def test_infeasible_says_so(fleet: Any) -> None:
    with pytest.raises(InfeasibleError):
        solve(InnerSolver(fleet(0, 4, bandwidth_hz=1e4)))


def test_a_start_saves_steps(fleet: Any) -> None:
    inner = InnerSolver(fleet(3, 30))
    cold = solve(inner)
    warm = solve(inner, start=(cold.learning_multiplier, cold.band_multiplier))
    assert warm.steps < 0.7 * cold.steps
    assert warm.energy_j == pytest.approx(cold.energy_j, rel=1e-9)


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
    large = plan(problem, seed=0, settings=SearchSettings(devices_max=20))
    assert large.search == "dual decomposition"
    assert large.status == "optimal"
    searched = plan(problem, seed=0)
    assert large.search_energy_j == pytest.approx(searched.search_energy_j, rel=1e-4)
    assert large.energy_j == pytest.approx(searched.energy_j, rel=1e-3)

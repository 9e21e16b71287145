"""The fast inner solvers against CVXPY's answers to the same problems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.inner import InnerSolver
from fimi.optim.planner import SearchSettings, plan
from fimi.optim.problem import tfl
from fimi.optim.reference import ReferenceSolver


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=12, deadline=None)
def test_the_fast_solvers_find_the_same_optima(fleet: Any, seed: int, size: int) -> None:
    problem = fleet(seed, size)
    tau = np.random.default_rng(seed).uniform(0.35, 0.9, (8, size))
    fast = InnerSolver(problem).evaluate(tau)
    slow = ReferenceSolver(problem).evaluate(tau)
    rows = slow.violation == 0
    assert not np.isnan(slow.energy_j).any()
    assert (fast.violation[rows] == 0).all()
    # CVXPY may be a little above the optimum, and below it only by its own tolerance.
    np.testing.assert_allclose(slow.energy_j[rows], fast.energy_j[rows], rtol=3e-6)
    np.testing.assert_allclose(
        slow.upload.energy_j[rows].sum(axis=1), fast.upload.energy_j[rows].sum(axis=1), rtol=3e-6
    )
    both = (fast.violation == 0) & ~rows
    assert both.sum() <= 1  # Clarabel may give up now and then


def test_infeasible_rows_are_ranked_alike(fleet: Any) -> None:
    problem = fleet(0, 3)
    tau = np.array([[0.999999] * 3, [0.01] * 3])
    fast, slow = InnerSolver(problem).evaluate(tau), ReferenceSolver(problem).evaluate(tau)
    assert (fast.violation > 0).all()
    np.testing.assert_array_equal(fast.violation, slow.violation)


def test_multipliers_agree(fleet: Any) -> None:
    problem = fleet(3, 5)
    tau = np.full((1, 5), 0.7)
    fast, slow = InnerSolver(problem).evaluate(tau), ReferenceSolver(problem).evaluate(tau)
    assert slow.compute.log_multiplier[0] == pytest.approx(fast.compute.log_multiplier[0], abs=1e-3)
    assert slow.upload.log_multiplier[0] == pytest.approx(fast.upload.log_multiplier[0], abs=1e-3)


def test_nothing_to_choose(fleet: Any) -> None:
    problem = tfl(fleet(1, 3))
    tau = np.full((2, 3), 0.6)
    fast, slow = InnerSolver(problem).evaluate(tau), ReferenceSolver(problem).evaluate(tau)
    np.testing.assert_allclose(slow.energy_j, fast.energy_j, rtol=1e-6)


def test_the_planner_can_be_told_to_use_it(fleet: Any) -> None:
    few = SearchSettings(samples=12, iterations=12)
    problem = fleet(0, 2)
    fast = plan(problem, seed=0, settings=few)
    slow = plan(
        problem, seed=0, settings=SearchSettings(samples=12, iterations=12, inner="reference")
    )
    assert slow.search_energy_j == pytest.approx(fast.search_energy_j, rel=1e-4)

"""Thousands of random inner problems: the fast optimum is proved optimal to 1e-9.

For any multiplier the dual function is a lower bound on the optimum: where a feasible plan's energy
meets it, both are right. The dual function here is a golden-section search per device over the cost
model's formulas; it shares nothing with the solvers, so that it holds them to more digits than a
conic solver reaches. CVXPY answers the same problems to its own accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import compute_energy_j, transmit_power_w, upload_energy_j
from fimi.optim.inner import ComputeSolution, InnerSolver, UploadSolution
from fimi.optim.problem import FimiProblem
from fimi.optim.reference import ReferenceSolver

PROVED = 1e-9
ROUNDING = 1e-11
SEEDS = st.integers(0, 2**32 - 1)


def least(function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> Any:
    """Least values of unimodal functions between two ends; infinite values lie to the left."""
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    best = np.minimum(function(low), function(high))
    for _ in range(75):
        left, right = high - golden * (high - low), low + golden * (high - low)
        at_left, at_right = function(left), function(right)
        best = np.minimum(best, np.minimum(at_left, at_right))
        go_left = np.isfinite(at_left) & (at_left <= at_right)
        low, high = np.where(go_left, low, left), np.where(go_left, right, high)
    return best


def compute_bound(problem: FimiProblem, window_s: np.ndarray, log_lam: np.ndarray) -> np.ndarray:
    """Dual function of (P2): Σ min_D e_cmp + λ w α D^−β, less λ (Δ_max − δ0); (S,)."""
    assert problem.curve is not None
    curve, weights = problem.curve, problem.weights
    best_hz = np.cbrt(problem.active_power_w / (2 * problem.capacitance_w_per_hz3))
    lam = np.exp(log_lam)[:, None]

    def value(log_d: np.ndarray) -> np.ndarray:
        cycles = problem.cycles_per_pass * np.exp(log_d)
        lowest = np.maximum(cycles / window_s, problem.frequency_min_hz)
        frequency = np.minimum(np.maximum(lowest, best_hz), problem.frequency_max_hz)
        energy = compute_energy_j(
            cycles, frequency, problem.capacitance_w_per_hz3, problem.active_power_w
        )
        return np.asarray(energy + lam * weights * curve.alpha * np.exp(-curve.beta * log_d))

    most = np.minimum(
        problem.local_samples + problem.generated_max,
        problem.frequency_max_hz * window_s / problem.cycles_per_pass,
    )
    low = np.broadcast_to(np.log(problem.local_samples), most.shape)
    terms = least(value, low, np.maximum(np.log(most), low))
    return np.asarray(terms.sum(axis=1) - lam[:, 0] * problem.error_budget)


def upload_bound(problem: FimiProblem, window_s: np.ndarray, log_mu: np.ndarray) -> np.ndarray:
    """Dual function of (P3): Σ min_b e_com + μ b over p ≤ p_max, less μ B; (S,)."""
    link = (problem.channel_gain, problem.noise_density_w_per_hz)
    mu = np.exp(log_mu)[:, None]

    def value(log_b: np.ndarray) -> np.ndarray:
        band = np.exp(log_b)
        power = transmit_power_w(problem.payload_bits / window_s, band, *link)
        energy = upload_energy_j(problem.payload_bits, window_s, band, *link)
        good = power <= problem.transmit_power_max_w
        return np.where(good, energy + mu * band, np.inf)

    high = np.full(window_s.shape, math.log(problem.bandwidth_hz))
    return np.asarray(least(value, high - 12.0, high).sum(axis=1) - mu[:, 0] * problem.bandwidth_hz)


def instances(fleet: Any, seed: int, size: int, count: int) -> tuple[FimiProblem, np.ndarray]:
    """A fleet with loose or tight limits, and compute windows, s, of which most are feasible."""
    rng = np.random.default_rng(seed)
    problem = fleet(
        seed,
        size,
        error_max=rng.uniform(0.26, 0.45),
        bandwidth_hz=size * 10 ** rng.uniform(5.4, 6.5),
        generated_max=rng.choice([200.0, 1500.0], size),
        payload_bits=10 ** rng.uniform(6.0, 7.6, size),
    )
    return problem, rng.uniform(0.35, 0.9, (count, size)) * problem.t_max_s


def proves(bound_j: np.ndarray, found: ComputeSolution | UploadSolution, rows: Any = None) -> None:
    """The bound is one, and the solution is at it."""
    rows = found.violation == 0 if rows is None else rows
    energy_j = found.energy_j[rows].sum(axis=1)
    assert (bound_j[rows] <= energy_j * (1 + ROUNDING)).all()
    np.testing.assert_allclose(bound_j[rows], energy_j, rtol=PROVED)


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_optimal_by_its_own_multipliers(fleet: Any, seed: int, size: int) -> None:
    """8,000 problems: the fast solver's multiplier proves the fast solver's optimum."""
    problem, window_s = instances(fleet, seed, size, 40)
    fast = InnerSolver(problem).evaluate(window_s)
    used_s = np.minimum(fast.compute.time_s, window_s)
    rest_s = problem.t_max_s - used_s  # a device that is done early uploads longer
    proves(compute_bound(problem, window_s, fast.compute.log_multiplier), fast.compute)
    proves(upload_bound(problem, rest_s, fast.upload.log_multiplier), fast.upload)


@pytest.mark.slow
@given(SEEDS, st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_optimal_by_cvxpy(fleet: Any, seed: int, size: int) -> None:
    """1,200 problems, each solved by CVXPY as well, hence the seconds.

    What Clarabel reaches decides how near they must be: nearly always 1e-9 for (P2); where its
    exponential cones for (P3) make no more progress, now and then only 1e-7.
    """
    problem, window_s = instances(fleet, seed, size, 10)
    rest_s = problem.t_max_s - window_s
    fast, slow = InnerSolver(problem), ReferenceSolver(problem)
    for mine, reference, near in (
        (fast.compute(window_s), slow.compute(window_s), 1e-8),
        (fast.upload(rest_s), slow.upload(rest_s), 1e-6),
    ):
        found = reference.violation == 0
        assert (mine.violation[found] == 0).all()
        assert (~found & (mine.violation == 0)).sum() <= 2  # Clarabel gave up
        np.testing.assert_allclose(
            reference.energy_j[found].sum(axis=1), mine.energy_j[found].sum(axis=1), rtol=near
        )

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.certificate import certify
from fimi.optim.dual import ascend, dual
from fimi.optim.inner import InnerSolver

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(1, 6), st.floats(-6, 6), st.floats(-6, 6))
@settings(max_examples=60, deadline=None)
def test_bounds_every_feasible_plan_whatever_the_multipliers(
    fleet: Any, seed: int, size: int, more: float, less: float
) -> None:
    problem = fleet(seed, size)
    inner = InnerSolver(problem)
    tau = np.random.default_rng(seed).uniform(0.2, 0.95, (200, size))
    found = inner.evaluate(tau)
    feasible = np.flatnonzero(found.violation == 0)
    if not feasible.size:
        return
    best = feasible[np.argmin(found.energy_j[feasible])]
    point = dual(
        inner,
        math.exp(found.compute.log_multiplier[best] + more),
        math.exp(found.upload.log_multiplier[best] + less),
    )
    assert point.bound_j <= found.energy_j[best]


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_device_minimum_against_a_dense_grid(fleet: Any, seed: int) -> None:
    """One device: the dual function by brute force over t_cmp, D and b."""
    problem = fleet(seed, 1)
    assert problem.curve is not None
    inner = InnerSolver(problem)
    rng = np.random.default_rng(seed)
    lam, mu = 10 ** rng.uniform(0, 4), 10 ** rng.uniform(-7, -3)
    point = dual(inner, lam, mu)
    t = np.linspace(0.02, 0.98, 97)[:, None, None] * problem.t_max_s[0]
    d = np.linspace(inner.samples_min[0], inner.samples_max[0], 97)[None, :, None]
    b = problem.bandwidth_hz * np.logspace(-1.5, 0, 97)[None, None, :]
    f = np.clip(problem.cycles_per_pass * d / t, inner.floor_hz, None)
    f = np.where(f <= problem.frequency_max_hz, f, np.nan)
    cycles = problem.cycles_per_pass * d
    power = problem.capacitance_w_per_hz3 * f**3 + problem.active_power_w
    left = problem.t_max_s - t
    with np.errstate(over="ignore"):
        p = np.expm1(problem.payload_bits * math.log(2) / (b * left)) * b * inner.noise_over_gain
    p = np.where(p <= problem.transmit_power_max_w, p, np.nan)
    if np.isnan(p + f).all():
        return  # no feasible point on the grid
    value = (
        power * cycles / f
        + p * left
        + lam * problem.weights * problem.curve.alpha * d**-problem.curve.beta
        + mu * b
    )
    grid = float(np.nanmin(value)) - lam * problem.error_budget - mu * problem.bandwidth_hz
    scale = float(np.nanmin(value)) + lam * problem.error_budget + mu * problem.bandwidth_hz
    assert point.bound_j <= grid
    assert point.bound_j >= grid - 0.05 * scale


def test_is_tight_at_the_multipliers_of_the_optimum(fleet: Any) -> None:
    inner = InnerSolver(fleet(4, 1))
    tau = np.linspace(0.01, 0.99, 20001)[:, None]
    found = inner.evaluate(tau)
    best = int(np.lexsort((found.energy_j, found.violation))[0])
    point = dual(
        inner,
        math.exp(found.compute.log_multiplier[best]),
        math.exp(found.upload.log_multiplier[best]),
    )
    assert point.bound_j <= found.energy_j[best]
    assert point.bound_j == pytest.approx(found.energy_j[best], rel=1e-6)
    assert point.tau[0] == pytest.approx(tau[best, 0], abs=2e-3)


def test_no_multipliers_no_claim(fleet: Any) -> None:
    """With λ = μ = 0 the bound is the cheapest imaginable fleet: positive, and far too low."""
    inner = InnerSolver(fleet(4, 3))
    point = dual(inner, 0.0, 0.0)
    assert math.isfinite(point.bound_j)
    assert point.bound_j >= 0


@pytest.mark.parametrize("seed", range(2))
def test_ascent_from_nothing_closes_the_gap(fleet: Any, seed: int) -> None:
    """The best bound without any solver is what CVXPY and Clarabel find to be the optimum."""
    inner = InnerSolver(fleet(seed, 4))
    best = ascend(inner, 0.0, 0.0)
    assert best.bound_j == pytest.approx(certify(inner).program_j, rel=3e-6)
    found = inner.evaluate(best.tau[None])
    assert found.energy_j[0] >= best.bound_j


def test_ascent_without_learning_constraint(fleet: Any) -> None:
    inner = InnerSolver(fleet(1, 4, error_max=math.inf))
    best = ascend(inner, 0.0, 0.0)
    assert best.learning_multiplier == 0
    assert best.bandwidth_hz.sum() == pytest.approx(inner.problem.bandwidth_hz, rel=1e-5)
    assert best.bound_j == pytest.approx(certify(inner).program_j, rel=3e-6)

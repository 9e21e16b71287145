"""Three references: CVXPY on the problems as stated, scalar root finders, and random search."""

from __future__ import annotations

import math
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import lambertw

from fimi.energy.cost_model import (
    compute_energy_j,
    transmit_power_w,
    uplink_rate_bps,
    upload_energy_j,
)
from fimi.optim.inner import InnerSolver
from fimi.optim.problem import FimiProblem

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 12)


def candidates(problem: FimiProblem, seed: int, count: int = 8) -> np.ndarray:
    """Compute windows, s, (count, I)."""
    share = np.random.default_rng(seed).uniform(0.3, 0.9, (count, problem.size))
    return share * problem.t_max_s


def cvxpy_compute(problem: FimiProblem, window_s: np.ndarray) -> float:
    """(P2) in log D and log t_cmp."""
    n = problem.size
    log_d, log_t = cp.Variable(n), cp.Variable(n)
    per_pass = np.log(problem.cycles_per_pass)
    log_f = per_pass + log_d - log_t
    energy = cp.sum(cp.exp(np.log(problem.capacitance_w_per_hz3) + 3 * log_f + log_t))
    active = np.flatnonzero(problem.active_power_w)
    if active.size:
        energy += cp.sum(cp.exp(np.log(problem.active_power_w[active]) + log_t[active]))
    assert problem.curve is not None
    share = np.log(problem.weights * problem.curve.alpha / problem.error_budget)
    program = cp.Problem(
        cp.Minimize(energy),
        [
            log_t <= np.log(window_s),
            log_f <= np.log(problem.frequency_max_hz),
            log_f >= np.log(problem.frequency_min_hz),
            log_d >= np.log(problem.local_samples),
            log_d <= np.log(problem.local_samples + problem.generated_max),
            cp.sum(cp.exp(share - problem.curve.beta * log_d)) <= 1,
        ],
    )
    program.solve(solver=cp.CLARABEL)
    return float(program.value)


def cvxpy_upload(problem: FimiProblem, window_s: np.ndarray) -> float:
    """(P3) exactly: u (e^(a/u) − 1) with the perspective of the exponential, u = b t / scale."""
    n = problem.size
    scale = problem.bandwidth_hz * window_s
    share = cp.Variable(n)  # b / B
    growth = cp.Variable(n)
    nats = problem.payload_bits * math.log(2) / scale
    noise = problem.noise_density_w_per_hz / problem.channel_gain * scale
    energy = cp.multiply(noise, growth - share)
    program = cp.Problem(
        cp.Minimize(cp.sum(energy)),
        [
            cp.ExpCone(nats * np.ones(n), share, growth),
            cp.sum(share) <= 1,
            energy <= problem.transmit_power_max_w * window_s,
        ],
    )
    program.solve(solver=cp.CLARABEL)
    return float(program.value)


@pytest.mark.parametrize("seed", range(8))
def test_compute_agrees_with_cvxpy(fleet: Any, seed: int) -> None:
    problem = fleet(seed, 6)
    window_s = np.full((1, 6), 0.8) * problem.t_max_s
    fast = InnerSolver(problem).compute(window_s)
    assert fast.violation[0] == 0
    reference = cvxpy_compute(problem, window_s[0])
    assert fast.energy_j[0].sum() == pytest.approx(reference, rel=2e-6)


@pytest.mark.parametrize("seed", range(8))
def test_upload_agrees_with_cvxpy(fleet: Any, seed: int) -> None:
    problem = fleet(seed, 6)
    window_s = np.random.default_rng(seed).uniform(0.3, 0.7, 6) * problem.t_max_s
    fast = InnerSolver(problem).upload(window_s[None])
    assert fast.violation[0] == 0
    assert fast.energy_j[0].sum() == pytest.approx(cvxpy_upload(problem, window_s), rel=2e-6)


@given(SEEDS, SIZES)
@settings(max_examples=60, deadline=None)
def test_compute_agrees_with_scalar_roots(fleet: Any, seed: int, size: int) -> None:
    """Marginal energy by the cost model's own formula, D and λ by Brent's method."""
    problem: FimiProblem = fleet(seed, size)
    assert problem.curve is not None
    curve, weights = problem.curve, problem.weights
    solver = InnerSolver(problem)
    windows = candidates(problem, seed)
    fast = solver.compute(windows)
    for row in np.flatnonzero(fast.violation == 0)[:2]:
        window_s = windows[row]
        low = problem.local_samples
        high = np.minimum(
            low + problem.generated_max,
            problem.frequency_max_hz * window_s / problem.cycles_per_pass,
        )

        def sample_at(i: int, lam: float, window_s=window_s, low=low, high=high) -> float:
            floor = np.clip(
                (problem.active_power_w[i] / 2 / problem.capacitance_w_per_hz3[i]) ** (1 / 3),
                problem.frequency_min_hz[i],
                problem.frequency_max_hz[i],
            )
            per = problem.cycles_per_pass[i]
            kink = floor * window_s[i] / per
            kappa, active = problem.capacitance_w_per_hz3[i], problem.active_power_w[i]

            def net(d: float) -> float:
                if d <= kink * (1 + 1e-12):
                    cost = per * (kappa * floor**2 + active / floor)
                else:
                    cost = 3 * kappa * per**3 * d**2 / window_s[i] ** 2
                return float(
                    cost - lam * weights[i] * curve.alpha * curve.beta * d ** (-curve.beta - 1)
                )

            if net(low[i]) >= 0:
                return float(low[i])
            return (
                float(high[i])
                if net(high[i]) <= 0
                else float(brentq(net, low[i], high[i], xtol=1e-13))
            )

        def excess(log_lam: float, sample_at=sample_at) -> float:
            d = np.array([sample_at(i, math.exp(log_lam)) for i in range(size)])
            return problem.error(d) - problem.error_max

        if excess(-60.0) <= 0:
            np.testing.assert_allclose(fast.samples[row], low)
            continue
        log_lam = brentq(excess, -60.0, 60.0, xtol=1e-14, maxiter=300)
        samples = np.array([sample_at(i, math.exp(log_lam)) for i in range(size)])
        np.testing.assert_allclose(fast.samples[row], samples, rtol=1e-9)


@given(SEEDS, SIZES, st.floats(0.5, 100.0))
@settings(max_examples=100, deadline=None)
def test_upload_agrees_with_lambert_w(fleet: Any, seed: int, size: int, wide: float) -> None:
    """x by scipy's Lambert W, b_min and μ by Brent's method."""
    problem: FimiProblem = fleet(seed, size, bandwidth_hz=4e5 * size * wide)
    window_s = problem.t_max_s - candidates(problem, seed, 3)
    fast = InnerSolver(problem).upload(window_s)
    for row in np.flatnonzero(fast.violation == 0):
        t = window_s[row]
        noise = problem.noise_density_w_per_hz / problem.channel_gain
        reach = problem.transmit_power_max_w / noise
        rate = problem.payload_bits / t

        def spare_rate(log_b: float, reach: float, rate: float) -> float:
            return math.exp(log_b) * math.log2(1 + reach / math.exp(log_b)) - rate

        narrowest = np.array(
            [
                brentq(
                    spare_rate,
                    math.log(1e-3 * rate[i]),
                    math.log(1e9 * rate[i]),
                    args=(reach[i], rate[i]),
                    xtol=1e-14,
                )
                for i in range(size)
            ]
        )

        def band(log_mu: float, t=t, noise=noise, narrowest=narrowest) -> np.ndarray:
            q = math.exp(log_mu) / (noise * t)
            x = 1 + lambertw((q - 1) / math.e).real
            return np.maximum(problem.payload_bits * math.log(2) / (x * t), np.exp(narrowest))

        log_mu = brentq(
            lambda m, band=band: math.log(band(m).sum() / problem.bandwidth_hz), -38, 20, xtol=1e-13
        )
        expected = upload_energy_j(
            problem.payload_bits, t, band(log_mu), problem.channel_gain, 4e-21
        )
        np.testing.assert_allclose(fast.energy_j[row], expected, rtol=1e-9)


@given(SEEDS, SIZES)
@settings(max_examples=100, deadline=None)
def test_a_feasible_row_meets_every_constraint(fleet: Any, seed: int, size: int) -> None:
    problem: FimiProblem = fleet(seed, size)
    found = InnerSolver(problem).evaluate(candidates(problem, seed))
    for row in np.flatnonzero(found.violation == 0):
        compute, upload = found.compute, found.upload
        f, d = compute.frequency_hz[row], compute.samples[row]
        b, p = upload.bandwidth_hz[row], upload.power_w[row]
        tol = 1 + 1e-9
        assert (f <= problem.frequency_max_hz * tol).all()
        assert (f * tol >= problem.frequency_min_hz).all()
        assert (d * tol >= problem.local_samples).all()
        assert (d <= (problem.local_samples + problem.generated_max) * tol).all()
        assert problem.error(d) <= problem.error_max * tol
        assert b.sum() <= problem.bandwidth_hz * tol
        assert (p <= problem.transmit_power_max_w * tol).all()
        rate = uplink_rate_bps(b, p, problem.channel_gain, problem.noise_density_w_per_hz)
        upload_s = problem.payload_bits / rate
        assert (compute.time_s[row] + upload_s <= problem.t_max_s * tol).all()
        np.testing.assert_allclose(upload.time_s[row], upload_s, rtol=1e-9)
        compute_j = compute_energy_j(
            problem.cycles_per_pass * d, f, problem.capacitance_w_per_hz3, problem.active_power_w
        )
        np.testing.assert_allclose(compute.energy_j[row], compute_j, rtol=1e-12)
        np.testing.assert_allclose(upload.energy_j[row], p * upload_s, rtol=1e-9)


@given(SEEDS, st.integers(2, 8))
@settings(max_examples=50, deadline=None)
def test_no_feasible_exchange_is_better(fleet: Any, seed: int, size: int) -> None:
    """Random feasible D and b in the same windows never need less energy."""
    problem: FimiProblem = fleet(seed, size)
    windows = candidates(problem, seed, 1)
    found = InnerSolver(problem).evaluate(windows)
    if found.violation[0] > 0:
        return
    rng = np.random.default_rng(seed)
    window_s = windows[0]
    upload_s = problem.t_max_s - found.compute.time_s[0]
    high = np.minimum(
        problem.local_samples + problem.generated_max,
        problem.frequency_max_hz * window_s / problem.cycles_per_pass,
    )
    for _ in range(50):
        d = found.compute.samples[0] * np.exp(rng.normal(0, 0.05, size))
        d = np.clip(d, problem.local_samples, high)
        if problem.error(d) <= problem.error_max:
            f = np.clip(
                problem.cycles_per_pass * d / window_s,
                problem.frequency_min_hz,
                problem.frequency_max_hz,
            )
            needed = compute_energy_j(
                problem.cycles_per_pass * d,
                f,
                problem.capacitance_w_per_hz3,
                problem.active_power_w,
            ).sum()
            assert needed >= found.compute.energy_j[0].sum() * (1 - 1e-12)
        b = found.upload.bandwidth_hz[0] * np.exp(rng.normal(0, 0.05, size))
        b *= problem.bandwidth_hz / b.sum()
        p = transmit_power_w(problem.payload_bits / upload_s, b, problem.channel_gain, 4e-21)
        if (p <= problem.transmit_power_max_w).all():
            assert (p * upload_s).sum() >= found.upload.energy_j[0].sum() * (1 - 1e-12)


def test_race_to_idle(fleet: Any) -> None:
    """(14) worked by hand: (P_act / 2κ)^(1/3) = 1 GHz, whatever the window."""
    problem = fleet(
        3,
        2,
        active_power_w=np.full(2, 0.2),
        capacitance_w_per_hz3=np.full(2, 1e-28),
        error_max=math.inf,
    )
    slow = InnerSolver(problem).compute(np.full((1, 2), 1e4))
    np.testing.assert_allclose(slow.frequency_hz[0], 1e9, rtol=1e-12)
    assert (slow.time_s[0] < 100).all()


def test_the_learning_constraint_raises_data_only_as_far_as_needed(fleet: Any) -> None:
    problem = fleet(5, 4)
    found = InnerSolver(problem).compute(0.8 * problem.t_max_s[None])
    assert problem.error(problem.local_samples) > problem.error_max
    assert problem.error(found.samples[0]) == pytest.approx(problem.error_max, rel=1e-11)


def test_all_the_band_is_given_away(fleet: Any) -> None:
    problem = fleet(5, 7)
    found = InnerSolver(problem).upload(0.4 * problem.t_max_s[None])
    assert found.bandwidth_hz.sum() == pytest.approx(problem.bandwidth_hz, rel=1e-14)


@pytest.mark.parametrize(
    ("changes", "share"), [({"bandwidth_hz": 1e3}, 0.5), ({}, 1e-4), ({}, 1 - 1e-6)]
)
def test_infeasible_rows_are_ranked_and_finite(
    fleet: Any, changes: dict[str, Any], share: float
) -> None:
    problem = fleet(1, 4, **changes)
    tau = np.full((2, 4), share)
    tau[1] += (0.5 - share) * 0.01  # a little nearer to feasible
    found = InnerSolver(problem).evaluate(tau * problem.t_max_s)
    assert (found.violation > 0).all()
    assert np.isfinite(found.violation).all()
    assert np.isfinite(found.energy_j).all()
    if share != 0.5:
        assert found.violation[1] < found.violation[0]


def test_rows_do_not_influence_each_other(fleet: Any) -> None:
    problem = fleet(2, 5)
    windows = candidates(problem, 0, 6)
    solver = InnerSolver(problem)
    together = solver.evaluate(windows)
    alone = np.array([solver.evaluate(row[None]).energy_j[0] for row in windows])
    np.testing.assert_allclose(together.energy_j, alone, rtol=1e-12)

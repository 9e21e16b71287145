"""A lower bound without trust in a solver: Lagrange's dual function, docs/model.md (22)-(24).

Only two constraints couple the devices: the band Σ b ≤ B and the mean error. For *any*
multipliers μ, λ ≥ 0 the sum over devices of the least of

    e_cmp + e_com + λ w α D^(−β) + μ b        over t_cmp + t_com ≤ T, D, f, b, p in their bounds

less λ (Δ_max − δ0) + μ B is a lower bound on (P1), convex or not. Given t_cmp the inner minimum
has a closed form (the inner problems' own formulas at a fixed multiplier), and what is left is
convex in log t_cmp, so that a golden-section search finds the minimum to the last digit. Good
multipliers make the bound tight; bad ones only make it low.

* :func:`dual`    the bound at given multipliers
* :func:`ascend`  the best bound, from any start
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.roots import price_root
from fimi.optim.special import LOG_X_MAX, inverse_psi, log_theta

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_STEPS = 90
_NEAR, _FAR = 1e-4, 4.0
_MARGIN = 1e-11
"""Taken off the bound, relative to its terms, for rounding errors."""


class DualPoint(Struct, frozen=True, eq=False):
    """The dual function at one pair of multipliers.

    Attributes:
        bound_j: lower bound on the fleet's dynamic energy, less rounding errors.
        learning_multiplier: λ ≥ 0, J per unit of mean error.
        band_multiplier: μ ≥ 0, J/Hz.
        tau: (I,) time splits that attain it; 0 for devices without work.
        samples: D that attains it, (I,).
        bandwidth_hz: b that attains it, (I,).
        terms_j: each device's least Lagrangian, (I,); −inf if a device has no feasible point.
    """

    bound_j: float
    learning_multiplier: float
    band_multiplier: float
    tau: Array
    samples: Array
    bandwidth_hz: Array
    terms_j: Array


def dual(
    inner: InnerSolver,
    learning_multiplier: float,
    band_multiplier: float,
    *,
    resolution: float = 1e-13,
) -> DualPoint:
    """(22) The dual function.

    Args:
        inner: the problem's inner solver.
        learning_multiplier: λ ≥ 0, J per unit of mean error; ignored without a learning constraint.
        band_multiplier: μ ≥ 0, J/Hz.
        resolution: resolution of log t_cmp. A coarser one than the default gives the minimisers
            quickly, but the bound is then not reliable.

    Returns:
        The bound; −inf if a device has no feasible point at all.
    """
    problem = inner.problem
    lam = max(learning_multiplier, 0.0) if inner.bound_by_error else 0.0
    mu = max(band_multiplier, 0.0)
    with np.errstate(divide="ignore"):
        log_lam, log_mu = float(np.log(lam)), float(np.log(mu))
    work = inner.has_work
    total_s = problem.t_max_s
    # Bounds on t_cmp: the least data at full speed; the time an upload takes with all the band.
    earliest = inner.earliest_s
    latest = total_s - inner.full_power_s(problem.bandwidth_hz)
    if (latest < earliest * (1.0 - 1e-12)).any():
        half = np.where(work, 0.5, 0.0)
        none = np.full(problem.size, -np.inf)
        return DualPoint(-math.inf, lam, mu, half, inner.samples_min, 0.0 * total_s, none)
    low = np.log(np.where(work, earliest, 1.0))
    high = np.maximum(np.log(np.where(work, np.maximum(latest, earliest), 1.0)), low)

    def value(log_t: Array) -> tuple[Array, Array, Array]:
        return _device_terms(inner, log_t, log_lam, log_mu)

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(left)[0], value(right)[0]
    for _ in range(_STEPS):
        go_left = at_left <= at_right
        low, high = np.where(go_left, low, left), np.where(go_left, right, high)
        probe = np.where(go_left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_probe = value(probe)[0]
        left, right = np.where(go_left, probe, right), np.where(go_left, left, probe)
        at_left, at_right = (
            np.where(go_left, at_probe, at_right),
            np.where(go_left, at_left, at_probe),
        )
        if (high - low).max() < resolution:
            break
    ends = np.stack([low, (low + high) / 2.0, high])
    values = np.array([value(log_t) for log_t in ends])  # (ends, term or D or b, I)
    pick, columns = np.argmin(values[:, 0], axis=0), np.arange(problem.size)
    terms, samples, bandwidth_hz = values[pick, :, columns].T
    charges = [lam * problem.error_budget if lam else 0.0, mu * problem.bandwidth_hz]
    margin = _MARGIN * (float(np.abs(terms).sum()) + sum(charges))
    return DualPoint(
        bound_j=math.fsum(terms) - math.fsum(charges) - margin,
        learning_multiplier=lam,
        band_multiplier=mu,
        tau=np.where(work, np.exp(ends[pick, columns]) / total_s, 0.0),
        samples=samples,
        bandwidth_hz=bandwidth_hz,
        terms_j=terms,
    )


def ascend(inner: InnerSolver, learning_multiplier: float, band_multiplier: float) -> DualPoint:
    """The best bound: the dual function, which is concave, maximised from given multipliers.

    One root inside the other: for each μ the λ at which the least-cost samples just meet the
    learning constraint, and the μ at which the least-cost bandwidths then add up to B. Both
    excesses are the dual function's own slopes, so a point where they vanish is its maximum.

    λ and μ to start from are 0 where nothing is known.
    """
    problem = inner.problem
    best = dual(inner, learning_multiplier, band_multiplier)
    learns = inner.bound_by_error and bool((problem.weights > 0).any())
    log_lam, lam_step = _start(best.learning_multiplier)
    log_mu, mu_step = _start(best.band_multiplier)

    def visit(lam: float, log_m: float) -> DualPoint:
        return dual(inner, lam, math.exp(log_m), resolution=1e-8)

    def at_band(log_m: float) -> DualPoint:
        """The best point with this μ."""
        nonlocal log_lam, lam_step
        if not learns:
            return visit(0.0, log_m)

        def too_large(log_l: float) -> float:
            with np.errstate(divide="ignore"):
                log_d = np.log(visit(math.exp(log_l), log_m).samples)
            return float(np.log(inner.error_above_floor(log_d) / problem.error_budget))

        log_lam = price_root(too_large, log_lam, step=lam_step, tolerance=1e-7)
        lam_step = _NEAR
        return visit(math.exp(log_lam), log_m)

    def too_wide(log_m: float) -> float:
        return math.log(float(at_band(log_m).bandwidth_hz.sum()) / problem.bandwidth_hz)

    coarse = at_band(price_root(too_wide, log_mu, step=mu_step, tolerance=1e-7))
    found = dual(inner, coarse.learning_multiplier, coarse.band_multiplier)
    return found if found.bound_j > best.bound_j else best


def _start(multiplier: float) -> tuple[float, float]:
    """The first guess of a multiplier, as a logarithm, and the first step around it."""
    return (math.log(multiplier), _NEAR) if multiplier > 0 else (0.0, _FAR)


def _device_terms(
    inner: InnerSolver, log_t: Array, log_lam: float, log_mu: float
) -> tuple[Array, Array, Array]:
    """(23) Each device's least Lagrangian with t_cmp = exp(log_t): value, D and b, (I,) each."""
    problem = inner.problem
    work = inner.has_work
    window_s = np.exp(log_t)
    every = np.arange(problem.size)
    with np.errstate(divide="ignore"):
        log_low, log_high = np.log(inner.samples_min), np.log(inner.samples_max)
    cap = np.log(problem.frequency_max_hz / problem.cycles_per_pass) + log_t
    best = inner.log_samples(log_t, np.asarray(log_lam), every)[0]
    best = np.clip(best, log_low, np.maximum(np.minimum(log_high, cap), log_low))
    samples = np.where(work, np.exp(best), inner.samples_min)
    cycles = problem.cycles_per_pass * samples
    frequency = np.clip(cycles / window_s, inner.floor_hz, problem.frequency_max_hz)
    term = problem.compute_j(cycles, frequency)
    if inner.bound_by_error:
        counted = problem.weights > 0
        worth = inner.log_weight[counted] - inner.beta[counted] * best[counted]
        term[counted] += np.exp(log_lam + worth)
    least_s = inner.full_power_s(problem.bandwidth_hz)  # rounding may leave less than this
    rest_s = np.maximum(problem.t_max_s - np.where(work, window_s, 0.0), least_s)
    log_rest = np.log(rest_s)
    limit = inner.narrowest(log_rest)[0]
    log_a = inner.log_nats - log_rest
    widest = np.minimum(log_a - math.log(problem.bandwidth_hz), limit)  # b ≤ B is implied
    offset = inner.log_k + log_rest
    log_x = np.clip(inverse_psi(np.maximum(log_mu - offset, -700.0))[0], widest, limit)
    band = np.exp(log_a - log_x)
    energy = inner.noise_over_gain * np.exp(
        inner.log_nats + log_theta(np.minimum(log_x, LOG_X_MAX))[0]
    )
    return term + energy + np.exp(log_mu) * band, samples, band

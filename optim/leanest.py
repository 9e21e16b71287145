"""The least bandwidth of any plan, in real numbers of samples.

Feasibility does not depend on energy, so devices can be taken at full speed and full power. What is
left is one convex problem: the least bandwidth Σ b_min(T − E C D / f_max) over the data amounts
that meet the learning constraint, docs/model.md (25)-(26). Its multiplier is one scalar root, each
device's D another.

* :func:`least_bandwidth`  the least total bandwidth, and the split that needs no more
* :class:`Leanest`         the result
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.problem import FimiProblem
from fimi.optim.roots import falling_root, price_root
from fimi.optim.special import log_theta

_SLACK = 1e-9


class Leanest(Struct, frozen=True, eq=False):
    """The plan that needs the least bandwidth.

    Attributes:
        bandwidth_hz: Σ b; infinite if none suffices.
        samples: its D, (I,).
        window_s: its compute times, s, (I,).
        error: Σ w α D^(−β) of it.
    """

    bandwidth_hz: float
    samples: Array
    window_s: Array
    error: float


def least_bandwidth(
    problem: FimiProblem, *, band_limit_hz: float = math.inf, synthetic_value: float = 1.0
) -> Leanest:
    """The least total bandwidth at full speed and power that meets every other constraint.

    Args:
        problem: the problem.
        band_limit_hz: if finite, the result has the least *error* whose bandwidth is within this
            limit; the learning constraint is then ignored.
        synthetic_value: q, what a synthetic sample is worth in real ones, (43).
    """
    inner = InnerSolver(problem)
    per_sample = problem.cycles_per_pass / problem.frequency_max_hz  # s per sample
    radio = inner.radio
    no_band_s = np.maximum(
        np.exp(radio.log_nats + radio.log_k) / problem.transmit_power_max_w, radio.shortest_s
    )
    latest = problem.t_max_s - no_band_s * (1.0 + 1e-9)
    turned = math.isfinite(band_limit_hz)
    low = problem.local_samples if turned else inner.samples_min
    high = np.minimum(inner.samples_max, latest / per_sample)
    local, q = problem.local_samples, synthetic_value
    nothing = Leanest(math.inf, local, np.zeros(problem.size), math.inf)
    if (latest <= 0).any() or (high < low * (1 - _SLACK)).any():
        return nothing
    high = np.maximum(high, low)
    counted = problem.weights > 0
    constrained = problem.curve is not None and (turned or inner.bound_by_error)
    first = inner.lanes.starts
    beta, log_weight = inner.lanes.beta[first], inner.lanes.log_weight[first]

    def error(samples: Array) -> float:
        if not constrained:
            return 0.0
        with np.errstate(divide="ignore"):
            return float(inner.error_above_floor(np.log(local + q * (samples - local))))

    def band(samples: Array) -> Array:
        log_t = np.log(np.maximum(problem.t_max_s - per_sample * samples, no_band_s))
        return np.asarray(np.exp(radio.log_nats - log_t - radio.narrowest(log_t)[0]))

    moving = counted & (high > low)
    log_low = np.log(np.where(moving, np.maximum(low, high * 1e-12), 1.0))
    log_high = np.log(np.where(moving, high, 1.0))

    def samples_at(log_price: float) -> Array:
        """The D of every device at which a sample's worth (error) equals its cost (bandwidth)."""

        def balance(log_samples: Array) -> tuple[Array, Array]:
            busy = per_sample * np.exp(log_samples)
            rest = np.maximum(problem.t_max_s - busy, no_band_s)
            log_t = np.log(rest)
            log_x = radio.narrowest(log_t)[0]
            x = np.exp(log_x)
            # db/dt = −(R/t) / (dR/db) with R = S/t and dR/db = (x − 1 + e^−x)/ln 2, (26).
            spread = np.maximum(x + np.expm1(-x), 1e-300)
            cost = radio.log_nats - 2.0 * log_t - np.log(spread) + np.log(per_sample)
            by_log_t = -2.0 + np.expm1(-x) / (spread * log_theta(log_x)[1])
            taught = local + q * (np.exp(log_samples) - local)
            worth = log_price + log_weight + np.log(beta) - (beta + 1.0) * np.log(taught)
            share = q * np.exp(log_samples) / taught
            slope = -(beta + 1.0) * share + by_log_t * busy / rest
            return np.where(moving, worth - cost, -1.0), np.where(moving, slope, -1.0)

        root = falling_root(balance, log_low, log_high, tolerance=1e-12)
        return np.asarray(np.where(moving, np.exp(root), low))

    def result(samples: Array) -> Leanest:
        total_hz = float(band(samples).sum())
        return Leanest(total_hz, samples, per_sample * samples, error(samples))

    if not constrained or not moving.any():
        return result(low) if turned or error(low) <= _loose(problem) else nothing
    if turned:
        if band(np.where(moving, np.exp(log_low), low)).sum() > band_limit_hz:
            return nothing
        if band(high).sum() <= band_limit_hz:
            return result(high)

        def spare(log_price: float) -> float:
            return math.log(band_limit_hz / float(band(samples_at(log_price)).sum()))

        return result(samples_at(_price(spare) - 1e-9))
    if error(high) > _loose(problem):
        return nothing
    if error(low) <= problem.error_budget:
        return result(low)

    def excess(log_price: float) -> float:
        return math.log(error(samples_at(log_price)) / problem.error_budget)

    return result(samples_at(_price(excess) + 1e-9))


def _price(falling: Callable[[float], float]) -> float:
    return price_root(falling, 0.0, step=4.0, tolerance=1e-11)


def _loose(problem: FimiProblem) -> float:
    return problem.error_budget * (1.0 + _SLACK)

"""Whether a plan exists; if not, which constraint prevents it and what would help.

Feasibility does not depend on energy, so devices can be taken at full speed and full power. What is
left is one convex problem: the least bandwidth Σ b_min(T − E C D / f_max) over the data amounts
that meet the learning constraint, docs/model.md (25)-(26). Its multiplier is one scalar root, each
device's D another.

* :func:`time_windows`      bounds on t_cmp that every feasible plan keeps: the range of a search
* :func:`least_bandwidth`   the least total bandwidth, and the split that needs no more
* :func:`require_reachable_error`  checks the learning constraint alone, in no time
* :func:`require_feasible`  raises :class:`~fimi.optim.problem.InfeasibleError` with the remedies
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.problem import Constraint, FimiProblem, InfeasibleError
from fimi.optim.roots import falling_root, price_root
from fimi.optim.special import log_theta

_SLACK = 1e-9
_LOG_MAX = 690.0
"""Its exponential is still a finite double."""


class Leanest(Struct, frozen=True, eq=False):
    """The plan that needs the least bandwidth.

    Attributes:
        bandwidth_hz: Σ b; infinite if none suffices.
        window_s: its compute times, s, (I,).
        error: Σ w α D^(−β) of it.
    """

    bandwidth_hz: float
    window_s: Array
    error: float


def time_windows(inner: InnerSolver) -> tuple[Array, Array]:
    """Shortest and longest t_cmp, (I,) each, in any feasible plan.

    The shortest trains the least data at full speed. The longest leaves the upload the time that it
    takes at full power with the band that is left when the other devices have the least they need.
    Where the second is below the first the problem is infeasible.
    """
    problem = inner.problem
    spare = problem.t_max_s - inner.earliest_s
    log_spare = np.log(np.where(spare > 0, spare, 1.0))
    limit, late = inner.radio.narrowest(log_spare)
    log_least = np.minimum(inner.radio.log_nats - log_spare - limit, _LOG_MAX)
    least = np.where((late > 0) | (spare <= 0), np.inf, np.exp(log_least))
    left = problem.bandwidth_hz - (least.sum() - least) if np.isfinite(least).all() else None
    band = problem.bandwidth_hz if left is None else np.maximum(left, least)
    return inner.earliest_s, problem.t_max_s - inner.radio.full_power_s(band)


def least_bandwidth(problem: FimiProblem, *, band_limit_hz: float = math.inf) -> Leanest:
    """The least total bandwidth at full speed and power that meets every other constraint.

    With a finite ``band_limit_hz`` it is the least *error* whose bandwidth is within the limit; the
    learning constraint is then ignored.
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
    nothing = Leanest(math.inf, np.zeros(problem.size), math.inf)
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
            return float(inner.error_above_floor(np.log(samples)))

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
            worth = log_price + log_weight + np.log(beta) - (beta + 1.0) * log_samples
            slope = -(beta + 1.0) + by_log_t * busy / rest
            return np.where(moving, worth - cost, -1.0), np.where(moving, slope, -1.0)

        root = falling_root(balance, log_low, log_high, tolerance=1e-12)
        return np.asarray(np.where(moving, np.exp(root), low))

    def result(samples: Array) -> Leanest:
        return Leanest(float(band(samples).sum()), per_sample * samples, error(samples))

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


def require_feasible(inner: InnerSolver) -> Leanest:
    """The leanest feasible plan.

    Raises:
        InfeasibleError: there is none; the error says what would make one possible.
    """
    problem = inner.problem
    require_reachable_error(inner)
    leanest = least_bandwidth(problem)
    if leanest.bandwidth_hz <= problem.bandwidth_hz * (1.0 + _SLACK):
        return leanest
    longer_s = _extra_time_s(problem)
    error_max = _smallest_error(problem)
    relaxed = msgspec.structs.replace(problem, error_max=math.inf)
    local = InnerSolver(relaxed)
    radio = local.radio
    sending_s = np.exp(radio.log_nats + radio.log_k) / problem.transmit_power_max_w
    shortest = local.earliest_s + np.maximum(sending_s, radio.shortest_s)
    late = np.flatnonzero(shortest >= problem.t_max_s)
    remedies = [f"every deadline extended by {longer_s:.4g} s"] if longer_s is not None else []
    if error_max is not None:
        remedies.append(f"error_max of at least {error_max:.6g}")
    needed = leanest.bandwidth_hz if math.isfinite(leanest.bandwidth_hz) else None
    if needed is not None:
        remedies.append(
            f"bandwidth_hz of at least {needed:.6g} ({needed - problem.bandwidth_hz:.4g} Hz more)"
        )
    advice = "; feasible with " + ", or ".join(remedies) if remedies else ""
    constraint: Constraint = "learning error"
    concerned = problem.devices
    if late.size:
        constraint, concerned = "deadline", tuple(problem.devices[i] for i in late)
        rows = ", ".join(
            f"{problem.devices[i]} needs {shortest[i]:.4g} s and has {problem.t_max_s[i]:.4g} s"
            for i in late
        )
        what = (
            "at full speed and power, with all the bandwidth there is, training on the local data "
            f"and uploading takes too long: {rows}"
        )
    elif (alone := least_bandwidth(relaxed).bandwidth_hz) > problem.bandwidth_hz * (1.0 + _SLACK):
        constraint = "bandwidth"
        what = (
            f"to upload in time at full power the fleet needs {alone:.6g} Hz even without "
            f"synthetic data; bandwidth_hz is {problem.bandwidth_hz:.6g}"
        )
    else:
        what = (
            f"error_max {problem.error_max:.6g} asks for more data than the fleet can train on and "
            f"upload in time with bandwidth_hz {problem.bandwidth_hz:.6g}"
        )
    raise InfeasibleError(
        f"{constraint}: {what}{advice}",
        constraint=constraint,
        devices=concerned,
        smallest_t_max_s=None if longer_s is None else problem.t_max_s + longer_s,
        smallest_error_max=error_max,
        bandwidth_needed_hz=needed,
    )


def _loose(problem: FimiProblem) -> float:
    return problem.error_budget * (1.0 + _SLACK)


def require_reachable_error(inner: InnerSolver) -> None:
    """Check that the largest possible amounts of data meet the learning constraint.

    Raises:
        InfeasibleError: they do not, so that no deadline and no band helps; names the devices that
            can have no data, or the smallest error.
    """
    problem = inner.problem
    if not inner.bound_by_error or problem.curve is None:
        return
    counted = problem.weights > 0
    without = [problem.devices[i] for i in np.flatnonzero(counted & (inner.samples_max <= 0))]
    if without:
        raise InfeasibleError(
            "learning error: without any data the error has no bound, and generated_max is 0 for "
            f"{', '.join(without)}; allow synthetic data, leave them out, or set their weight to 0",
            constraint="learning error",
            devices=without,
        )
    best = problem.error(inner.samples_max)
    if best > problem.error_max * (1.0 + _SLACK) or problem.error_budget <= 0.0:
        smallest = f"{best:.6g}"
        raise InfeasibleError(
            f"learning error: error_max is {problem.error_max:.6g}, but with all the synthetic "
            f"data that generated_max allows the mean error is still {smallest} (its floor δ0 is "
            f"{problem.curve.delta0:.6g}); feasible with error_max of at least {smallest}, or with "
            "a larger generated_max",
            constraint="learning error",
            devices=problem.devices,
            smallest_error_max=best,
        )


def _extra_time_s(problem: FimiProblem) -> float | None:
    """By how much every deadline must be later, all else equal, s; ``None`` if it cannot help."""

    def feasible(extra_s: float) -> bool:
        longer = msgspec.structs.replace(problem, t_max_s=problem.t_max_s + extra_s)
        return least_bandwidth(longer).bandwidth_hz <= problem.bandwidth_hz

    return _smallest(feasible, float(problem.t_max_s.max()) * 1e-3)


def _smallest_error(problem: FimiProblem) -> float | None:
    """The smallest Δ_max, all else equal; ``None`` if no Δ_max is feasible."""
    if problem.curve is None or not math.isfinite(problem.error_max):
        return None
    leanest = least_bandwidth(problem, band_limit_hz=problem.bandwidth_hz)
    if not math.isfinite(leanest.error):
        return None
    return leanest.error + problem.curve.delta0


def _smallest(holds: Callable[[float], bool], first: float) -> float | None:
    """The smallest positive number (to 1e-6 of itself) for which a monotone condition holds."""
    low, high = 0.0, first
    for _ in range(60):
        if holds(high):
            break
        low, high = high, high * 2.0
    else:
        return None
    while high - low > 1e-6 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high

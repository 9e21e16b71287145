"""Whether a plan exists; if not, which constraint prevents it and what would help.

* :func:`time_windows`      bounds on t_cmp that every feasible plan keeps: the range of a search
* :func:`require_reachable_error`  checks the learning constraint alone, in no time
* :func:`is_feasible`       whether there is a plan in real numbers of samples
* :func:`require_feasible`  the leanest plan in real numbers of samples, or the error
* :func:`refusal`           the error for a problem without a plan, with the remedies
* :func:`refusal_with`      the same with remedies that are known already
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.advice import Check, Remedies, remedies
from fimi.optim.inner import InnerSolver
from fimi.optim.leanest import Leanest, least_bandwidth
from fimi.optim.problem import Constraint, FimiProblem, InfeasibleError
from fimi.optim.whole import FullSpeed
from fimi.optim.wording import listed, named

_SLACK = 1e-9
_LOG_MAX = 690.0
"""Its exponential is still a finite double."""


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


def require_feasible(inner: InnerSolver) -> Leanest:
    """The leanest plan in real numbers of samples.

    Raises:
        InfeasibleError: there is none; the error says what would make one possible.
    """
    leanest = _leanest(inner)
    if leanest is None:
        raise refusal(inner.problem)
    return leanest


def is_feasible(inner: InnerSolver) -> bool:
    """Whether there is a plan in real numbers of samples; nothing is advised."""
    return _leanest(inner) is not None


def _leanest(inner: InnerSolver) -> Leanest | None:
    """The leanest plan in real numbers of samples; ``None`` if there is no plan."""
    if _misses_error(inner):
        return None
    leanest = least_bandwidth(inner.problem)
    fits = leanest.bandwidth_hz <= inner.problem.bandwidth_hz * (1.0 + _SLACK)
    return leanest if fits else None


def require_reachable_error(inner: InnerSolver) -> None:
    """Check that the largest possible amounts of data meet the learning constraint.

    Raises:
        InfeasibleError: they do not, so that no deadline and no band helps; names the devices that
            can have no data, or the smallest error.
    """
    if _misses_error(inner):
        raise refusal(inner.problem)


def _misses_error(inner: InnerSolver) -> bool:
    """Whether not even the largest possible amounts of data meet the learning constraint."""
    problem = inner.problem
    if not inner.bound_by_error or problem.curve is None:
        return False
    counted = problem.weights > 0
    without = (counted & (inner.samples_max <= 0)).any()
    return bool(
        without
        or problem.error(inner.samples_max) > problem.error_max * (1.0 + _SLACK)
        or problem.error_budget <= 0.0
    )


def refusal(
    problem: FimiProblem, synthetic_value: float = 1.0, *, also: Check | None = None
) -> InfeasibleError:
    """The error for a problem without a plan: which constraint is in the way, what would help.

    Args:
        problem: the problem; budgets of joules are not what prevents a plan.
        synthetic_value: q, what a synthetic sample is worth in real ones.
        also: what a remedy must reach besides a plan in whole samples.
    """
    found = remedies(problem, synthetic_value, also=also)
    return refusal_with(problem, found, synthetic_value)


def refusal_with(
    problem: FimiProblem, found: Remedies, synthetic_value: float = 1.0
) -> InfeasibleError:
    """The error for a problem without a plan whose remedies are known already."""
    constraint, devices, what = _cause(problem, synthetic_value)
    if synthetic_value < 1.0:
        what += f"; a synthetic sample counts as {synthetic_value:g} real ones (synthetic_value)"
    return InfeasibleError(
        f"{constraint}: {what}",
        constraint=constraint,
        devices=devices,
        remedies=[remedy.text for remedy in found.each],
        smallest_t_max_s=None if found.extra_s is None else problem.t_max_s + found.extra_s,
        smallest_error_max=found.error_max,
        bandwidth_needed_hz=found.bandwidth_hz,
        generated_max_needed=found.generated_max,
        together=found.together,
    )


def _cause(problem: FimiProblem, value: float) -> tuple[Constraint, tuple[str, ...], str]:
    """The constraint that cannot be met, the devices that it concerns, and the words."""
    fleet = FullSpeed(problem, value)
    most = problem.local_samples + problem.generated_max
    if without := _names(problem, fleet.low > most):
        what = "without any data the error has no bound, and generated_max is 0 for "
        return "learning error", without, what + named(without)
    best = float(fleet.error(most).sum()) if fleet.constrained else 0.0
    if best > fleet.limit:
        return (
            "learning error",
            problem.devices,
            f"error_max is {problem.error_max:.6g}, but with all the synthetic data that "
            f"generated_max allows the mean error is still {best + problem.error_floor:.6g} (its "
            f"floor δ0 is {problem.error_floor:.6g})",
        )
    shortest_s = fleet.shortest_s(fleet.low)
    if late := _names(problem, shortest_s > problem.t_max_s):
        rows = [
            f"{device} needs {s:.4g} s and has {t:.4g} s"
            for device, s, t in zip(problem.devices, shortest_s, problem.t_max_s, strict=True)
            if s > t
        ]
        return (
            "deadline",
            late,
            "at full speed and power, with all the bandwidth there is, training on the local data "
            f"and uploading takes too long: {listed(rows, ', ')}",
        )
    alone = float(fleet.band_hz(fleet.low).sum())
    if alone > problem.bandwidth_hz:
        return (
            "bandwidth",
            problem.devices,
            f"to upload in time at full power the fleet needs {alone:.6g} Hz even without "
            f"synthetic data; bandwidth_hz is {problem.bandwidth_hz:.6g}",
        )
    what = (
        f"error_max {problem.error_max:.6g} asks for more data than the fleet can train on and "
        f"upload in time with bandwidth_hz {problem.bandwidth_hz:.6g}"
    )
    real = least_bandwidth(problem, synthetic_value=value)
    if real.bandwidth_hz <= problem.bandwidth_hz * (1.0 + _SLACK):
        what += "; there would be a plan with fractions of samples, and there is none in whole ones"
    return "learning error", problem.devices, what


def _names(problem: FimiProblem, which: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(problem.devices[i] for i in np.flatnonzero(which))

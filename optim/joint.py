"""(P1) solved whole by dual decomposition, for fleets of any size; docs/model.md (27)-(30).

Only two constraints couple the devices, so that two prices are enough: λ of the learning error
and μ of the band. At given prices each device minimises on its own
(:mod:`fimi.optim.device_optimum`). The prices are the root of two excesses, each decreasing in its
own price. Time and memory are linear in the number of devices.

:func:`solve` finds the prices, a plan from them, and the proved bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.device_optimum import DeviceSolver
from fimi.optim.dual import DualPoint, ascend, dual
from fimi.optim.feasibility import require_feasible, require_reachable_error, time_windows
from fimi.optim.inner import InnerSolver, SplitCosts
from fimi.optim.roots import LOG_LIMIT, price_root

_STEP_MAX = 2.0
_DIFFERENCE = 1e-6
_CLOSE, _CLOSE_ENOUGH = 1e-10, 1e-8
_LOOSE, _FINE = 0.05, 1e-12
_ROUNDS = 4
_NEWTON_STEPS = 15
_HALVINGS = 4
_BLENDS = np.logspace(-9, 0, 37)

JointStatus = Literal["optimal", "feasible"]
"""``optimal``: plan and bound agree to 1e-6. ``feasible``: they do not."""


class JointSolution(Struct, frozen=True, eq=False):
    """A plan in real numbers, and the bound that says how good it is.

    Attributes:
        status: whether it is proved to be optimal.
        energy_j: dynamic energy of the fleet in one round.
        bound_j: no feasible plan uses less.
        tau: (I,) time splits; 0 for devices without work.
        evaluation: the inner problems solved at these splits, one row.
        learning_multiplier: λ, J per unit of mean error.
        band_multiplier: μ, J/Hz.
        steps: number of price pairs at which the devices were solved.
    """

    status: JointStatus
    energy_j: float
    bound_j: float
    tau: Array
    evaluation: SplitCosts
    learning_multiplier: float
    band_multiplier: float
    steps: int

    @property
    def relative_gap(self) -> float:
        """(energy − bound) / bound."""
        return (self.energy_j - self.bound_j) / self.bound_j if self.bound_j > 0 else math.inf


def solve(inner: InnerSolver, *, start: tuple[float, float] | None = None) -> JointSolution:
    """The optimum of (P1) in real numbers, with its proof.

    ``start``: λ and μ of a similar problem; not used where a price that is needed is 0.

    Raises:
        InfeasibleError: no plan meets the constraints.
    """
    require_reachable_error(inner)
    earliest, latest = time_windows(inner)
    if (latest < earliest).any():
        require_feasible(inner)  # nearly always raises, with the remedies
    devices = DeviceSolver(inner)
    lam, mu = _prices(devices, inner, start)
    point: DualPoint = dual(inner, lam, mu)
    tau, found = nearest_feasible(inner, devices.tau)
    if float(found.energy_j[0]) - point.bound_j > 1e-6 * point.bound_j:
        better = ascend(inner, lam, mu) if inner.problem.size <= 300 else point
        other_tau, other = nearest_feasible(inner, better.tau)
        point = max(point, better, key=lambda p: p.bound_j)
        if other.energy_j[0] < found.energy_j[0]:
            tau, found = other_tau, other
    energy_j = float(found.energy_j[0])
    bound_j = max(point.bound_j, 0.0)
    return JointSolution(
        status="optimal" if energy_j - bound_j <= 1e-6 * bound_j else "feasible",
        energy_j=energy_j,
        bound_j=bound_j,
        tau=tau,
        evaluation=found,
        learning_multiplier=point.learning_multiplier,
        band_multiplier=point.band_multiplier,
        steps=devices.steps,
    )


def _prices(
    devices: DeviceSolver, inner: InnerSolver, start: tuple[float, float] | None
) -> tuple[float, float]:
    """λ and μ at which both excesses are zero: Newton in two logarithms, else two nested roots."""
    learns = inner.bound_by_error and _error_at_least(inner) > _CLOSE
    if start is None or start[1] <= 0 or (learns and start[0] <= 0):
        log_lam, log_mu = _guess(inner)
    else:
        log_lam, log_mu = math.log(start[0]) if learns else 0.0, math.log(start[1])
    if not learns:
        return 0.0, math.exp(_price(devices.wide_at(-math.inf), log_mu))
    for _ in range(_ROUNDS):
        log_lam = price_root(devices.short_at(log_mu), log_lam, step=0.5, tolerance=_LOOSE)
        log_mu = price_root(devices.wide_at(log_lam), log_mu, step=0.5, tolerance=_LOOSE)
        log_lam, log_mu, found = _newton(devices, log_lam, log_mu)
        if found:
            return math.exp(log_lam), math.exp(log_mu)
    require_feasible(inner)  # in an infeasible problem the prices grow without limit
    return _nested(devices, log_lam, log_mu)


def _newton(devices: DeviceSolver, log_lam: float, log_mu: float) -> tuple[float, float, bool]:
    """Newton's method for both prices as long as it makes progress; whether it converged."""
    point = np.array([log_lam, log_mu])
    here = np.array(devices.excess(*point))
    for _ in range(_NEWTON_STEPS):
        if np.abs(here).max() < _CLOSE:
            break
        jacobian = np.empty((2, 2))
        for k in range(2):
            moved = point.copy()
            moved[k] += _DIFFERENCE
            jacobian[:, k] = (np.array(devices.excess(*moved)) - here) / _DIFFERENCE
        if not np.isfinite(jacobian).all() or abs(np.linalg.det(jacobian)) < 1e-12:
            break
        step = np.linalg.solve(jacobian, -here)
        step *= min(1.0, _STEP_MAX / float(np.abs(step).max()))
        for _ in range(_HALVINGS):
            there = np.array(devices.excess(*(point + step)))
            if np.abs(there).max() < np.abs(here).max() * (1.0 - 1e-3):
                break
            step *= 0.5
        else:
            break
        point, here = point + step, there
    return float(point[0]), float(point[1]), bool(np.abs(here).max() < _CLOSE_ENOUGH)


def _nested(devices: DeviceSolver, log_lam: float, log_mu: float) -> tuple[float, float]:
    """One root inside the other: slower, but always possible with two monotone functions."""
    lam = min(max(log_lam, -LOG_LIMIT / 2), LOG_LIMIT / 2)

    def too_wide(m: float) -> float:
        nonlocal lam
        lam = _price(devices.short_at(m), lam)
        return devices.excess(lam, m)[1]

    mu = _price(too_wide, min(max(log_mu, -LOG_LIMIT / 2), LOG_LIMIT / 2))
    too_wide(mu)
    return math.exp(lam), math.exp(mu)


def _price(falling: Callable[[float], float], guess: float) -> float:
    return price_root(falling, guess, step=1e-3, tolerance=_FINE)


def _error_at_least(inner: InnerSolver) -> float:
    """Log of the error over its budget with the least data."""
    with np.errstate(divide="ignore"):
        error = inner.error_above_floor(np.log(inner.samples_min))
        return float(np.log(error / inner.problem.error_budget))


def _guess(inner: InnerSolver) -> tuple[float, float]:
    """Prices of the inner problems at half the time each."""
    found = inner.evaluate(np.full((1, inner.problem.size), 0.5))
    lam = float(found.compute.log_multiplier[0])
    mu = float(found.upload.log_multiplier[0])
    return (lam if math.isfinite(lam) else 0.0), (mu if math.isfinite(mu) else 0.0)


def nearest_feasible(inner: InnerSolver, tau: Array) -> tuple[Array, SplitCosts]:
    """A feasible plan, and its splits, (I,), at or next to given ones, (I,).

    An optimum that is infeasible by rounding is moved a little towards the leanest plan.
    """
    found = inner.evaluate(tau[None])
    if found.violation[0] == 0:
        return tau, found
    lean = require_feasible(inner).tau
    for blend in _BLENDS:
        nearer = tau + blend * (lean - tau)
        found = inner.evaluate(nearer[None])
        if found.violation[0] == 0:
            return nearer, found
    return lean, found

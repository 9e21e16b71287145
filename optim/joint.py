"""(P1) solved whole by dual decomposition, for fleets of any size; docs/model.md (27)-(30).

Only the error, the band and the length of the round couple the devices. At a price λ of the error,
a price μ of the band and a length R each device minimises on its own
(:mod:`fimi.optim.device_optimum`). λ and μ are the root of two excesses, each falling with its own
price; R is where a second less costs the devices what it saves in idle power. Time and memory are
linear in the number of devices.

For laws the problem is convex: the devices' optima at that root are the plan, and the bound meets
it. With steps the optima jump. The prices are then those of the highest bound
(:mod:`fimi.optim.ascent`); the plan is the best of those that meet the limits at prices near them.

:func:`solve` finds the prices, a plan from them in real numbers of samples, and the proved bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.cost_model import Array
from fimi.optim.ascent import of_jumps, of_steps
from fimi.optim.device_optimum import DeviceSolver, Optima
from fimi.optim.dual import dual
from fimi.optim.feasibility import (
    is_feasible,
    require_feasible,
    require_reachable_error,
    time_windows,
)
from fimi.optim.inner import InnerSolver, SplitCosts
from fimi.optim.prices import NO_BAND, Prices, error_binds, guess
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.roots import LOG_LIMIT, price_root

_STEP_MAX = 2.0
_DIFFERENCE = 1e-6
_CLOSE, _CLOSE_ENOUGH = 1e-10, 1e-8
_LOOSE, _FINE, _COARSE = 0.05, 1e-12, 1e-6
_ROUNDS = 4
_NEWTON_STEPS = 15
_HALVINGS = 4
_BLENDS = np.logspace(-9, 0, 37)
_TOO_SHORT = 50.0
"""The excess of a round's price of time where a device cannot work in so short a round."""
_HASTIEST = 0.99 * _TOO_SHORT
"""The excess of a round's price of time is at most this where devices can work."""
_PROVED = 1e-6
"""A plan is optimal if it differs from its bound by less, relatively; where a fleet with laws does
not reach it, prices are looked for by cutting planes."""
_NEARBY = np.concatenate([[0.0], np.logspace(-6.0, -0.3, 24)])
"""By how much log λ is raised to find a plan that meets the error, where devices have steps."""
_STRETCHES = (1.0, 1.002, 1.006, 1.02, 1.06, 1.2, 1.5)
"""Lengths of the round, relative to that of the highest bound, at which a plan is looked for."""

JointStatus = Literal["optimal", "feasible"]
"""``optimal``: plan and bound agree to 1e-6. ``feasible``: they do not."""


class JointSolution(Struct, frozen=True, eq=False):
    """A plan in real numbers of samples, and the bound that says how good it is.

    Attributes:
        status: whether it is proved to be optimal.
        energy_j: objective of the fleet in one round.
        bound_j: no feasible plan uses less.
        window_s: (I,) longest compute times; 0 for devices without work.
        round_s: length of the round.
        evaluation: the inner problems solved at these windows, one row.
        learning_multiplier: λ, J per unit of mean error.
        band_multiplier: μ, J/Hz.
        steps: number of times that the devices were solved.
    """

    status: JointStatus
    energy_j: float
    bound_j: float
    window_s: Array
    round_s: float
    evaluation: SplitCosts
    learning_multiplier: float
    band_multiplier: float
    steps: int

    @property
    def relative_gap(self) -> float:
        """(energy − bound) / bound."""
        return (self.energy_j - self.bound_j) / self.bound_j if self.bound_j > 0 else math.inf


def prices_of(solution: JointSolution) -> Prices:
    """The prices of a solution, to begin a similar problem with."""
    return Prices.of(solution.learning_multiplier, solution.band_multiplier, solution.round_s)


def solve(inner: InnerSolver, *, start: Prices | None = None, near: bool = False) -> JointSolution:
    """The optimum of (P1) in real numbers of samples, with its proof.

    Args:
        inner: the inner problems.
        start: prices of a similar problem; not used where one that is needed is missing.
        near: whether that problem is nearly the same. Where devices have steps, the length of the
            round is then looked for close to that of the start.

    Raises:
        InfeasibleError: no plan meets the constraints.
    """
    require_reachable_error(inner)
    earliest, latest = time_windows(inner)
    if (latest < earliest).any():
        require_feasible(inner)  # nearly always raises, with the remedies
    devices = DeviceSolver(inner)
    if inner.lanes.single:
        prices = _smooth(devices, inner, start)
    else:
        learning = error_binds(inner)
        if start is not None and start.log_mu <= NO_BAND:
            start = None
        if start is not None and learning and start.log_lam <= NO_BAND:
            start = None
        near = near and start is not None
        prices = of_steps(devices, inner, start or guess(inner), learns=learning, near=near)
    lam, mu = (math.exp(log) if log > NO_BAND else 0.0 for log in (prices.log_lam, prices.log_mu))
    point = dual(inner, lam, mu, prices.round_s, solver=devices)
    window_s, found = _plan_at(devices, inner, prices, point.optima)
    energy_j = float(found.energy_j[0])
    if inner.lanes.single and energy_j - point.bound_j > _PROVED * abs(energy_j):
        log_lam = prices.log_lam if lam > 0 else -math.inf
        higher = of_jumps(devices, inner, Prices(log_lam, prices.log_mu, prices.round_s))
        other = dual(
            inner, math.exp(higher.log_lam), math.exp(higher.log_mu), higher.round_s, solver=devices
        )
        if other.bound_j > point.bound_j:
            point, lam, mu = other, other.learning_multiplier, other.band_multiplier
            window, again = nearest_feasible(inner, point.optima.compute_s, point.round_s)
            if again.violation[0] == 0 and again.energy_j[0] < energy_j:
                window_s, found, energy_j = window, again, float(again.energy_j[0])
    bound_j = max(point.bound_j, 0.0)
    return JointSolution(
        status="optimal" if energy_j - bound_j <= _PROVED * bound_j else "feasible",
        energy_j=energy_j,
        bound_j=bound_j,
        window_s=window_s,
        round_s=float(found.round_s[0]),
        evaluation=found,
        learning_multiplier=lam,
        band_multiplier=mu,
        steps=devices.steps,
    )


def _plan_at(
    devices: DeviceSolver, inner: InnerSolver, prices: Prices, optima: Optima
) -> tuple[Array, SplitCosts]:
    """The plan of the devices' optima; with steps, the best that meets the error next to them."""
    if inner.lanes.single or not math.isfinite(prices.log_lam):
        return nearest_feasible(inner, optima.compute_s, prices.round_s)
    longest = inner.problem.round_max_s
    best: SplitCosts | None = None
    best_window, best_j = optima.compute_s, math.inf
    for stretch in _STRETCHES if inner.free_round else (1.0,):
        round_s = min(prices.round_s * stretch, longest)
        windows = np.unique(
            [
                devices.optima(prices.log_lam + more, prices.log_mu, round_s).compute_s
                for more in _NEARBY
            ],
            axis=0,
        )
        found = inner.evaluate(windows, np.full(len(windows), round_s))
        energy = np.where(found.violation == 0, found.energy_j, np.inf)
        first = int(np.argmin(energy))
        if energy[first] < best_j:
            best_window, best_j = windows[first], float(energy[first])
            best = inner.evaluate(windows[first : first + 1], np.array([round_s]))
        elif best is not None or round_s >= longest:
            break
    if best is None:
        return nearest_feasible(inner, best_window, prices.round_s)
    return best_window, best


# Laws: the root of the excesses.


def _excesses(
    devices: DeviceSolver, inner: InnerSolver, log_lam: float, log_mu: float, round_s: float
) -> tuple[float, float, float]:
    """(28) Logarithms: error over budget, bandwidth over B, price of a second over idle power."""
    optima = devices.optima(log_lam, log_mu, round_s)
    wide = math.log(float(optima.bandwidth_hz.sum()) / inner.problem.bandwidth_hz)
    short = -math.inf
    if inner.bound_by_error:
        with np.errstate(divide="ignore"):
            error = inner.error_above_floor(np.log(optima.samples))
        short = math.log(float(error) / inner.problem.error_budget)
    if not np.isfinite(optima.least_j[optima.lane]).all():
        return short, wide, _TOO_SHORT
    worth_w = math.fsum(optima.time_price_w)
    hasty = math.log(worth_w / inner.round_w) if inner.round_w > 0 and worth_w > 0 else -_TOO_SHORT
    return short, wide, max(min(hasty, _HASTIEST), -_TOO_SHORT)


def _smooth(devices: DeviceSolver, inner: InnerSolver, start: Prices | None) -> Prices:
    """λ, μ and R at which all three excesses are zero."""
    learning = error_binds(inner)
    longest = inner.problem.round_max_s
    if start is None or (learning and not math.isfinite(start.log_lam)):
        start = guess(inner)
    lam = start.log_lam if learning else -math.inf
    mu = start.log_mu if math.isfinite(start.log_mu) else 0.0
    if not inner.free_round:
        return _at_round(devices, inner, Prices(lam, mu, longest), learning)
    first = Prices(lam, mu, min(start.round_s, longest))
    found = _newton(devices, inner, first, learning, free_round=True)
    if found is None:
        try:
            first = _at_round(devices, inner, first, learning)
        except InfeasibleError:
            first = _at_round(devices, inner, Prices(lam, mu, longest), learning)
        found = _newton(devices, inner, first, learning, free_round=True)
    return found or _nested_round(devices, inner, first, learning)


def _nested_round(devices: DeviceSolver, inner: InnerSolver, start: Prices, learns: bool) -> Prices:
    """R by a root around those of the prices: slower, but always possible."""
    longest = math.log(inner.problem.round_max_s)
    last = start

    def too_short(log_r: float) -> float:
        """The excess of the price of time; falls with log R."""
        nonlocal last
        if log_r > longest:
            return -_TOO_SHORT - (log_r - longest)
        try:
            last = _at_round(
                devices, inner, Prices(last.log_lam, last.log_mu, math.exp(log_r)), learns
            )
        except InfeasibleError:
            return _TOO_SHORT + (longest - log_r)
        return _excesses(devices, inner, last.log_lam, last.log_mu, last.round_s)[2]

    root = price_root(too_short, math.log(start.round_s), step=0.1, tolerance=_COARSE)
    for log_r in (root, root + 10.0 * _COARSE, longest):
        try:
            at = Prices(last.log_lam, last.log_mu, math.exp(min(log_r, longest)))
            return _at_round(devices, inner, at, learns)
        except InfeasibleError:
            continue
    require_feasible(inner)
    return last


def _at_round(devices: DeviceSolver, inner: InnerSolver, start: Prices, learns: bool) -> Prices:
    """λ and μ at a given R.

    Raises:
        InfeasibleError: no plan has so short a round, or none meets the constraints.
    """
    log_lam, log_mu, round_s = start.log_lam, start.log_mu, start.round_s

    def short_at(mu: float) -> Callable[[float], float]:
        return lambda lam: _excesses(devices, inner, lam, mu, round_s)[0]

    def wide_at(lam: float) -> Callable[[float], float]:
        return lambda mu: _excesses(devices, inner, lam, mu, round_s)[1]

    if not math.isfinite(_excesses(devices, inner, log_lam, log_mu, round_s)[1]) or (
        _excesses(devices, inner, log_lam, log_mu, round_s)[2] >= _TOO_SHORT
    ):
        raise _too_short(inner.problem)
    if not learns:
        mu = price_root(wide_at(-math.inf), log_mu, step=1e-3, tolerance=_FINE)
        if mu >= LOG_LIMIT:
            _refuse(inner, round_s)
        return Prices(-math.inf, mu if mu > NO_BAND else -math.inf, round_s)
    for _ in range(_ROUNDS):
        log_lam = price_root(short_at(log_mu), log_lam, step=0.5, tolerance=_LOOSE)
        log_mu = price_root(wide_at(log_lam), log_mu, step=0.5, tolerance=_LOOSE)
        if log_mu <= NO_BAND:
            lam = price_root(short_at(-LOG_LIMIT), log_lam, step=1e-3, tolerance=_FINE)
            if wide_at(lam)(-LOG_LIMIT) <= 0.0 and lam < LOG_LIMIT:
                return Prices(lam, -math.inf, round_s)
        found = _newton(devices, inner, Prices(log_lam, log_mu, round_s), learns, free_round=False)
        if found:
            return found
    _refuse(inner, round_s)  # in an infeasible problem the prices grow without limit
    lam = min(max(log_lam, -LOG_LIMIT / 2), LOG_LIMIT / 2)

    def too_wide(m: float) -> float:
        nonlocal lam
        lam = price_root(short_at(m), lam, step=1e-3, tolerance=_FINE)
        return _excesses(devices, inner, lam, m, round_s)[1]

    first = min(max(log_mu, -LOG_LIMIT / 2), LOG_LIMIT / 2)
    mu = price_root(too_wide, first, step=1e-3, tolerance=_FINE)
    too_wide(mu)
    return Prices(lam, mu if mu > NO_BAND else -math.inf, round_s)


def _refuse(inner: InnerSolver, round_s: float) -> None:
    """Raise if no plan has rounds of this length."""
    problem = inner.problem
    if round_s >= problem.round_max_s:
        require_feasible(inner)
        return
    shorter = replace(problem, t_max_s=np.minimum(problem.t_max_s, round_s - problem.receive_s))
    if not is_feasible(InnerSolver(shorter, inner.weights)):
        raise _too_short(problem)


def _too_short(problem: FimiProblem) -> InfeasibleError:
    """Of a length of the round that was tried: nobody is told of it."""
    return InfeasibleError(
        "deadline: the round is too short", constraint="deadline", devices=problem.devices
    )


def _newton(
    devices: DeviceSolver, inner: InnerSolver, start: Prices, learns: bool, *, free_round: bool
) -> Prices | None:
    """Newton's method in the logarithms of what is free; ``None`` if it does not converge.

    A round that would be longer than the longest is that one.
    """
    longest = math.log(inner.problem.round_max_s)
    which = [k for k, free in enumerate((learns, True, free_round)) if free]
    point = np.array([start.log_lam, start.log_mu, math.log(start.round_s)])

    def excess(at: Array) -> Array:
        if not -LOG_LIMIT < at[1] < LOG_LIMIT:
            return np.full(len(which), np.nan)
        found = _excesses(devices, inner, at[0], at[1], math.exp(min(at[2], longest)))
        value = np.array(found)[which]
        if free_round:
            if found[2] >= _TOO_SHORT:
                return np.full(len(which), np.nan)
            if at[2] >= longest:
                value[-1] = max(found[2], 0.0) * 0.0 + min(found[2], 0.0) if found[2] < 0 else 0.0
        return value

    here = excess(point)
    if not np.isfinite(here).all():
        return None
    for _ in range(_NEWTON_STEPS):
        if np.abs(here).max() < _CLOSE:
            break
        jacobian = np.empty((len(which), len(which)))
        for column, k in enumerate(which):
            moved = point.copy()
            moved[k] += -_DIFFERENCE if k == 2 else _DIFFERENCE
            jacobian[:, column] = (excess(moved) - here) / (moved[k] - point[k])
        if free_round and point[2] >= longest and here[-1] == 0.0:
            jacobian[-1], jacobian[-1, -1] = 0.0, -1.0
        if not np.isfinite(jacobian).all() or abs(np.linalg.det(jacobian)) < 1e-12:
            break
        step = np.linalg.solve(jacobian, -here)
        limits = np.array([_STEP_MAX, _STEP_MAX, 0.5])[which]
        step *= min(1.0, float((limits / np.maximum(np.abs(step), 1e-300)).min()))
        for _ in range(_HALVINGS):
            target = point.copy()
            target[which] += step
            target[2] = min(target[2], longest)
            there = excess(target)
            if np.isfinite(there).all() and np.abs(there).max() < np.abs(here).max() * (1.0 - 1e-3):
                break
            step *= 0.5
        else:
            break
        point, here = target, there
    if not np.abs(here).max() < (_COARSE if free_round else _CLOSE_ENOUGH):
        return None
    return Prices(float(point[0]), float(point[1]), math.exp(min(float(point[2]), longest)))


def nearest_feasible(
    inner: InnerSolver, window_s: Array, round_s: float
) -> tuple[Array, SplitCosts]:
    """A feasible plan, and its windows, (I,), at or next to given ones, (I,).

    An optimum that is infeasible by rounding is moved a little towards the leanest plan.
    """
    found = inner.evaluate(window_s[None], np.array([round_s]))
    if found.violation[0] == 0:
        return window_s, found
    lean = require_feasible(inner).window_s
    longest = inner.problem.round_max_s
    near = window_s + _BLENDS[:, None] * (lean - window_s)
    rounds = round_s + _BLENDS * (longest - round_s)
    for window, length in zip(near, rounds, strict=True):
        found = inner.evaluate(window[None], np.array([length]))
        if found.violation[0] == 0:
            return window, found
    return lean, found

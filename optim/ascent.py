"""The prices of the highest bound where roots of excesses are not those; docs/model.md (28).

Where devices have steps, or all of them send with all their power at a speed that is set, band and
samples jump with the prices or do not move at all. The dual function is concave in λ and μ all the
same, with the two excesses as its slopes, and its top is found by cutting planes.

* :func:`of_steps`  λ and μ for each length of the round, and the length at which the bound is least
* :func:`of_jumps`  λ and μ of the highest bound over all lengths, for fleets with one lane a device
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fimi.energy.cost_model import Array
from fimi.optim.device_optimum import DeviceSolver, Optima
from fimi.optim.inner import InnerSolver
from fimi.optim.prices import Prices
from fimi.optim.summit import Plane, climb

_CLOSE, _CLOSER, _LOOSE = 1e-6, 1e-8, 1e-2
_ERROR_MAX = 1e12
_FAR, _LOG_MU = 60.0, -20.0
"""Logarithms of prices to begin with are no further from 0; of a band that had no price: this."""
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_FAR_STEPS, _NEAR_STEPS = (0.15, 1.3), (0.015, 1.6)
"""The first step in the logarithm of a length, and how much longer every next one is."""
_VALLEY_CLOSE, _JUMP_CLOSE = 3e-3, 1e-8
"""How exactly the logarithm of a length is found, in a valley and at a jump."""


def of_steps(
    devices: DeviceSolver, inner: InnerSolver, start: Prices, *, learns: bool, near: bool
) -> Prices:
    """λ and μ of the highest dual function, and the R at which that is least.

    Args:
        devices: a solver of the fleet.
        inner: its inner problems.
        start: prices to begin with.
        learns: whether the error has a price.
        near: whether the start is that of a similar problem: its R is hardly another one.
    """
    longest = inner.problem.round_max_s
    if not inner.free_round:
        return _highest(devices, inner, Prices(start.log_lam, start.log_mu, longest), learns)[1]
    tried: dict[float, tuple[float, Prices]] = {}
    last = start

    def energy(log_r: float) -> float:
        nonlocal last
        log_r = min(log_r, math.log(longest))
        if log_r not in tried:
            at = Prices(last.log_lam, last.log_mu, math.exp(log_r))
            value, prices = _highest(devices, inner, at, learns)
            # In rounds that are too short the prices grow without limit: they are no start.
            if value < min((each for each, _ in tried.values()), default=math.inf):
                last = prices
            tried[log_r] = (value, prices)
        return tried[log_r][0]

    steps = _NEAR_STEPS if near else _FAR_STEPS
    _golden(energy, math.log(min(start.round_s, longest)), math.log(longest), *steps)
    return min(tried.values(), key=lambda each: each[0])[1]


def of_jumps(devices: DeviceSolver, inner: InnerSolver, start: Prices) -> Prices:
    """λ, μ and R at which the dual function of a fleet with one lane a device is highest.

    Args:
        devices: a solver of the fleet.
        inner: its inner problems.
        start: prices to begin with; −inf where the error has none.
    """
    learns = math.isfinite(start.log_lam)
    round_s = start.round_s

    def planes_at(prices: Array) -> list[Plane]:
        nonlocal round_s
        at = _prices(prices, round_s)
        planes = [
            plane
            for length_s, optima in _around_best_length(devices, inner, at)
            if (plane := _plane(inner, optima, prices, length_s, learns)) is not None
        ]
        if planes:
            round_s = min(planes, key=lambda plane: plane.value_j).round_s
        return planes

    log_mu = start.log_mu if start.log_mu > -_FAR else _LOG_MU
    top = climb(planes_at, _first(start.log_lam, log_mu), np.array([learns, True]), close=_CLOSER)
    if not math.isfinite(top.value_j):
        return start
    return _prices(top.prices, top.round_s)


def _highest(
    devices: DeviceSolver, inner: InnerSolver, start: Prices, learns: bool
) -> tuple[float, Prices]:
    """The maximum of the dual function at a given R, and its prices.

    The maximum is infinite where a device cannot work in so short a round.
    """

    def planes_at(prices: Array) -> list[Plane]:
        at = _prices(prices, start.round_s)
        optima = devices.optima(at.log_lam, at.log_mu, at.round_s)
        plane = _plane(inner, optima, prices, start.round_s, learns)
        return [] if plane is None else [plane]

    first = _first(start.log_lam, start.log_mu)
    top = climb(planes_at, first, np.array([learns, True]), close=_CLOSE)
    if top.outside or top.endless or top.open_j > _LOOSE * max(top.value_j, 0.0):
        return math.inf, start
    return top.value_j, _prices(top.prices, start.round_s)


def _prices(lam_mu: Array, round_s: float) -> Prices:
    return Prices.of(float(lam_mu[0]), float(lam_mu[1]), round_s)


def _first(log_lam: float, log_mu: float) -> Array:
    logs = [log_lam if math.isfinite(log_lam) else 0.0, log_mu]
    return np.asarray(np.exp(np.clip(logs, -_FAR, _FAR)))


def _plane(
    inner: InnerSolver, optima: Optima, prices: Array, round_s: float, learns: bool
) -> Plane | None:
    """What the devices' optima at prices say about the dual function; ``None`` if they have none.

    The slopes are the error and the band, each less its limit.
    """
    problem = inner.problem
    value = math.fsum(optima.least_j[optima.lane]) + inner.round_w * round_s
    slope = np.array([0.0, float(optima.bandwidth_hz.sum()) - problem.bandwidth_hz])
    if learns:
        with np.errstate(divide="ignore"):
            error = float(inner.error_above_floor(np.log(optima.samples)))
        slope[0] = min(error, _ERROR_MAX) - problem.error_budget
        value -= prices[0] * problem.error_budget
    value -= prices[1] * problem.bandwidth_hz
    if not (math.isfinite(value) and np.isfinite(slope).all()):
        return None
    return Plane(slope, float(value), round_s)


def _golden(
    function: Callable[[float], float], guess: float, top: float, step: float, longer: float
) -> None:
    """Visits the least of a function with one valley: steps to a bracket, then the golden section.

    Values are infinite below some point. ``step`` is the first one, each next one ``longer`` times
    the one before.
    """
    low, middle, high = guess - step, guess, min(guess + step, top)
    function(middle)
    for _ in range(30):
        if function(low) < function(middle):
            low, middle, high = low - step, low, middle
        elif high < top and function(high) <= function(middle):
            low, middle, high = middle, high, min(high + step, top)
        else:
            break
        step *= longer
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    while high - low > _VALLEY_CLOSE:
        if function(left) <= function(right) and math.isfinite(function(left)):
            high, right = right, left
            left = high - _GOLDEN * (high - low)
        else:
            low, left = left, right
            right = low + _GOLDEN * (high - low)


def _around_best_length(
    devices: DeviceSolver, inner: InnerSolver, prices: Prices
) -> list[tuple[float, Optima]]:
    """The devices just below and just above the R of least cost at prices.

    What the devices save by more time falls with log R: the R is a root, maybe at a jump.
    """
    longest = inner.problem.round_max_s

    def at(log_r: float) -> tuple[float, Optima]:
        length_s = min(math.exp(log_r), longest)
        return length_s, devices.optima(prices.log_lam, prices.log_mu, length_s)

    def rising(found: tuple[float, Optima]) -> bool:
        """Whether a longer round costs more."""
        length_s, optima = found
        if not np.isfinite(optima.least_j[optima.lane]).all():
            return False
        return math.fsum(optima.slope_j[optima.lane]) + inner.round_w * length_s >= 0

    last = at(math.log(longest))
    if not inner.free_round or not rising(last):
        return [last]
    high, step = math.log(min(prices.round_s, longest)), 0.01
    while high < math.log(longest) and not rising(last := at(high)):
        high, step = high + step, 3.0 * step
    high = min(high, math.log(longest))
    last, low, step = at(high), high - 0.01, 0.01
    while rising(first := at(low)):
        high, last, low, step = low, first, low - step, 3.0 * step
    while high - low > _JUMP_CLOSE:
        middle = (low + high) / 2.0
        found = at(middle)
        if rising(found):
            high, last = middle, found
        else:
            low, first = middle, found
    return [first, last]

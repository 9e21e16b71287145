"""Roots of monotone functions, by which multipliers, prices and break-even points are found.

* :func:`falling_root`  many decreasing functions at once, each inside a bracket
* :func:`falling_roots` the same, where a few are slow
* :func:`price_root`    one decreasing function of a logarithm, without a bracket
* :func:`root_between`  one function whose values at two points are known
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.optimize import brentq

from fimi.energy.cost_model import Array

LOG_LIMIT = 200.0
"""Beyond e^±200 a price is zero or infinite: the search for it ends."""
_WIDEN = 4.0
SETTLED = 1e-13
"""Arguments and values below this are zero."""
_BESIDE = 1e-9
"""So near to an end that was tried, a step of Newton's aims at that end."""
_ITERATIONS = 120


class Balance(Struct, frozen=True, eq=False):
    """Functions at points, (n,) each.

    Attributes:
        value: their values.
        slope: their derivatives, ≤ 0.
        net_j: what the difference behind each value is in joules, for bounds.
    """

    value: Array
    slope: Array
    net_j: Array


def falling_root(
    function: Callable[[Array], tuple[Array, Array]],
    low: Array,
    high: Array,
    *,
    start: Array | None = None,
    tolerance: float = 1e-13,
    iterations: int = 200,
) -> Array:
    """Roots of n decreasing functions of one variable: Newton inside a bracket, else bisection.

    Args:
        function: maps n arguments to n values and n derivatives (≤ 0).
        low: shape (n,), where the value is ≥ 0.
        high: shape (n,), where the value is ≤ 0.
        start: shape (n,), first guesses; the middle of the bracket if left out or outside of it.
        tolerance: relative (absolute below 1) accuracy of the argument.
        iterations: bisections alone need about 50 to the last digit.

    Returns:
        Shape (n,). Where the value does not change sign, the end of the bracket nearest to a root.
    """
    low, high = np.array(low, float), np.array(high, float)
    if low.size == 0:
        return low
    x = (low + high) / 2.0
    if start is not None:
        x = np.where((start > low) & (start < high), start, x)
    before = np.full_like(x, np.inf)
    settled = np.zeros_like(x, bool)
    for _ in range(iterations):
        value, slope = function(x)
        low = np.where(value > 0.0, x, low)
        high = np.where(value <= 0.0, x, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            # A step beyond the bracket tries its end: without a root, the iteration ends there.
            newton = np.clip(x - value / slope, low, high)
            newton = np.where(slope < 0.0, newton, np.nan)  # a flat part is bisected
        # A Newton step must have made progress since the last one.
        good = np.isfinite(newton) & (np.abs(value) <= 0.5 * before)
        step = np.where(good, newton, (low + high) / 2.0)
        step = np.where(value == 0.0, x, step)
        before = np.where(good, np.abs(value), np.inf)
        # A root that is found stays: the rest of its bracket would only lead away from it.
        step = np.where(settled, x, step)
        settled |= np.abs(step - x) <= tolerance * np.maximum(1.0, np.abs(x))
        x = step
        if settled.all():
            break
    return x


def falling_roots(
    balance: Callable[[Array, NDArray[np.intp]], Balance],
    low: Array,
    high: Array,
    start: Array,
    *,
    tolerance: float = SETTLED,
) -> tuple[Array, Array]:
    """Roots of n falling functions, each leaving the iteration as it settles.

    As :func:`falling_root`, for many functions of which a few are slow.

    Args:
        balance: called with arguments and with the numbers of the functions that they are for.
        low: (n,), where a value is ≥ 0.
        high: (n,), where a value is ≤ 0.
        start: (n,) first guesses; the middle of the bracket where they are not finite.
        tolerance: absolute accuracy of arguments and values.

    Returns:
        The roots, and how far from each the true root can be, (n,) both.
    """
    middle = (low + high) / 2.0
    x = np.where(np.isfinite(start), np.clip(start, low, high), middle)
    result, width = x.copy(), high - low
    active = np.arange(x.size)
    bottom, top = low.copy(), high.copy()
    before = np.full_like(x, np.inf)
    tried_low, tried_high = np.zeros_like(x, bool), np.zeros_like(x, bool)
    looked = np.zeros_like(x, bool)
    for _ in range(_ITERATIONS):
        found = balance(x, active)
        value = found.value
        rises = value > 0.0
        bottom, top = np.where(rises, x, bottom), np.where(rises, top, x)
        tried_low, tried_high = tried_low | rises, tried_high | ~rises
        aim = x - value / np.minimum(found.slope, -1e-12)
        newton = np.clip(aim, bottom, top)
        # At a jump of the derivative Newton's steps return to an end that was tried before.
        back = np.where(rises, tried_high & (newton >= top), tried_low & (newton <= bottom))
        good = (np.abs(value) <= 0.5 * before) & ~back
        step = np.where(good, newton, (bottom + top) / 2.0)
        # One that aims at just this end means the jump there: the root is beside it. That is looked
        # at once, for other functions only halves can be trusted.
        look = back & (np.abs(aim - newton) <= _BESIDE) & ~looked
        beside = np.where(rises, top - tolerance / 2.0, bottom + tolerance / 2.0)
        step, looked = np.where(look, beside, step), looked | look
        before = np.where(good, np.abs(value), np.inf)
        done = (np.abs(step - x) <= tolerance) | (np.abs(value) <= tolerance)
        result[active[done]] = step[done]
        width[active[done]] = (top - bottom)[done]
        left = ~done
        if not left.any():
            break
        active, x, before = active[left], step[left], before[left]
        bottom, top = bottom[left], top[left]
        tried_low, tried_high, looked = tried_low[left], tried_high[left], looked[left]
    else:
        result[active] = x
        width[active] = top - bottom
    return result, width


def price_root(
    falling: Callable[[float], float], guess: float, *, step: float, tolerance: float
) -> float:
    """Root of a decreasing function of a logarithm; the last point tried if there is none.

    Args:
        falling: one function, with a value for every argument.
        guess: where to start.
        step: length of the first step; each next step is longer.
        tolerance: absolute accuracy of the argument.
    """
    x, value = guess, falling(guess)
    while value != 0.0 and abs(x) < LOG_LIMIT:
        beyond = x + math.copysign(step, value)
        there = falling(beyond)
        if there == 0.0:
            return beyond
        if (there > 0) != (value > 0):
            return root_between(falling, (x, value), (beyond, there), tolerance=tolerance)
        x, value, step = beyond, there, _WIDEN * step
    return x


def root_between(
    function: Callable[[float], float],
    first: tuple[float, float],
    second: tuple[float, float],
    *,
    tolerance: float,
) -> float:
    """Brent's method between two points where the function has different signs.

    Args:
        function: a monotone function.
        first: a point and the value there. It is not evaluated again, because the functions here
            start from their last result, and a second call may differ in its last digit.
        second: another point and its value.
        tolerance: absolute accuracy of the argument.
    """
    known = dict((first, second))
    low, high = sorted(known)
    return float(
        brentq(lambda x: known[x] if x in known else function(x), low, high, xtol=tolerance)
    )

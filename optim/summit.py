"""The top of a concave function of prices, by cutting planes; docs/model.md (28).

A dual function is concave in its prices, wherever it is smooth or not. Any choice of the devices
gives a plane above it, and the next prices are those where the planes that are known are highest.

* :func:`climb`   the highest point
* :class:`Plane`  what one choice of the devices says about the function
* :class:`Summit` the result
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.optimize import linprog

from fimi.energy.cost_model import Array

_CUTS_MAX = 60
_REACH = 30.0
"""Prices are looked for up to so many times the best ones so far."""
_EDGE = 0.99
_ENDLESS = 1e7
"""Where all prices grow so far beyond the first guess, the function has no top."""


class Plane(Struct, frozen=True, eq=False):
    """A linear function that is nowhere below the dual function.

    Attributes:
        slope: (n,), J per unit of each price.
        value_j: its value at the prices that were asked for, J.
        round_s: length of the round of the choice that it is of, s.
    """

    slope: Array
    value_j: float
    round_s: float


class Summit(Struct, frozen=True, eq=False):
    """The highest point that was found.

    Attributes:
        value_j: the function there; −inf if it was finite nowhere.
        prices: (n,).
        round_s: length of the round there, s.
        open_j: how much higher the top can be at most, J.
        endless: whether the function grows as far as was looked.
        outside: whether it has no value at some prices that were tried: no choice is possible.
    """

    value_j: float
    prices: Array
    round_s: float
    open_j: float
    endless: bool
    outside: bool


def climb(
    planes_at: Callable[[Array], list[Plane]],
    first: Array,
    free: NDArray[np.bool_],
    *,
    close: float,
) -> Summit:
    """The highest point of a concave function of n prices ≥ 0.

    Args:
        planes_at: the planes of the devices' choices at prices, (n,); the least of their values is
            the function there. None: there is no choice.
        first: prices to begin with, > 0, (n,).
        free: which of them may move; the others are 0.
        close: relative difference from the top at which the search ends.
    """
    at = np.where(free, first, 0.0)
    units, known = first, list[tuple[Array, float]]()
    value_j, best_at, round_s, open_j = -math.inf, at, math.nan, math.inf
    for _ in range(_CUTS_MAX):
        planes = planes_at(at)
        if not planes:
            return Summit(value_j, best_at, round_s, open_j, endless=False, outside=True)
        known += [(plane.slope, plane.value_j - float(plane.slope @ at)) for plane in planes]
        least = min(planes, key=lambda plane: plane.value_j)
        if least.value_j > value_j:
            value_j, best_at, round_s = least.value_j, at, least.round_s
            # Prices are counted in units of the best ones, whatever the first guess was.
            units = np.where(best_at > 0, best_at, units)
        highest = linprog(
            np.append(np.zeros(free.size), -1.0),
            A_ub=np.array([[*(-slope * units), 1.0] for slope, _ in known]),
            b_ub=np.array([offset for _, offset in known]),
            bounds=[*((0.0, _REACH if moves else 0.0) for moves in free), (None, None)],
        )
        if highest.status != 0:
            break
        open_j = -highest.fun - value_j
        inside = (best_at < _EDGE * _REACH * units)[free].all()
        if inside and open_j <= close * max(value_j, 0.0):  # an energy is not below 0
            break
        if (best_at > _ENDLESS * first)[free].all():
            return Summit(value_j, best_at, round_s, open_j, endless=True, outside=False)
        # A part of the way back to the best keeps the steps short where few planes are known.
        at = 0.7 * highest.x[:-1] * units + 0.3 * best_at
    return Summit(value_j, best_at, round_s, open_j, endless=False, outside=False)

"""Words and numbers in messages: how many devices are named, how a limit is rounded.

* :func:`named`      at most five devices by name, the rest counted
* :func:`listed`     the same for clauses about devices
* :func:`outwards`   a short decimal that is not below a number
* :func:`smallest`   the smallest short decimal for which something holds
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, Decimal

NAMED = 5
"""Devices that a message names."""
_DIGITS = 4
_DOUBLINGS = 30


def named(devices: Sequence[str]) -> str:
    """The first five devices, and how many there are besides."""
    return listed(devices, ", ")


def listed(clauses: Sequence[str], separator: str = "; ") -> str:
    """The first five clauses, and of how many more devices there would be one."""
    shown = separator.join(clauses[:NAMED])
    rest = len(clauses) - NAMED
    return shown if rest <= 0 else f"{shown} and {rest} more"


def outwards(value: float, digits: int = _DIGITS) -> float:
    """The smallest decimal with so many digits that is not below a positive value.

    Printed with ``:g`` and read again it is the same number.
    """
    if not (value > 0 and math.isfinite(value)):
        return value
    exact = Decimal(value)
    unit = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    nearest = float(exact.quantize(unit))
    return nearest if nearest >= value else float(exact.quantize(unit, rounding=ROUND_CEILING))


def smallest(estimate: float, holds: Callable[[float], bool]) -> float | None:
    """The smallest short decimal from an estimate on for which a monotone condition holds.

    Args:
        estimate: no value below it is tried; > 0.
        holds: false, then true, as its argument grows.

    Returns:
        A decimal of four digits for which the condition was tried and holds; ``None`` if it does
        not up to a billion times the estimate's last digit.
    """
    first = outwards(estimate)
    if not (first > 0 and math.isfinite(first)):
        return None
    if holds(first):
        return first
    unit = 10.0 ** (Decimal(first).adjusted() - _DIGITS + 1)
    failed, steps = 0, 1
    for _ in range(_DOUBLINGS):
        if holds(outwards(first + steps * unit)):
            break
        failed, steps = steps, 2 * steps
    else:
        return None
    while steps - failed > 1 and outwards(first + failed * unit) < outwards(first + steps * unit):
        middle = (failed + steps) // 2
        if holds(outwards(first + middle * unit)):
            steps = middle
        else:
            failed = middle
    return outwards(first + steps * unit)

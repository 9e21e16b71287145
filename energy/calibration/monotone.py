"""Order in a table of measured points: with the clock, seconds fall and power rises.

* :func:`chains`         points that differ by one clock only, slowest clock first
* :func:`order_breaks`   pairs of points that break the order by more than their errors
* :func:`in_order`       the table with its order restored where that is within the errors
* :func:`pool_adjacent`  isotonic regression by pooling adjacent violators

Two points that break the order within their errors are one point as far as can be told: both get
their weighted mean, by least squares under the constraint of order. The errors are those that
the worst of all pairs of a chain exceeds on less than one of twenty boards whose table is in order
(Bonferroni), and at least half a percent, because clocks and times are known no better. A pair that
breaks the order by more is measured again by :mod:`fimi.energy.calibration.sweep`. If it still
does, that is how the board is (heat, a step of the voltage, other work): it stays as it was
measured, and a note says so. Plans take every point by its own seconds and watts; they need no
order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from fimi.energy.calibration import student_t
from fimi.energy.calibration.fit import CONFIDENCE, Estimate
from fimi.energy.calibration.points import MeasuredPoint

Quantity = Literal["seconds", "power"]
LEAST = 0.005
"""Relative difference of two points that is none."""
_UNIT: dict[Quantity, tuple[float, str]] = {"seconds": (1e3, "ms a sample"), "power": (1.0, "W")}


class OrderBreak(NamedTuple):
    """Two points of a chain that break its order by more than their errors.

    Attributes:
        quantity: seconds, which must fall, or power, which must rise.
        slower: name of the point with the lower clock.
        faster: name of the point with the higher clock.
        by: how far they break the order, s or W; above 0.
        error: what they may break it by, s or W.
        again: whether both were measured again.
    """

    quantity: Quantity
    slower: str
    faster: str
    by: float
    error: float
    again: bool = False

    @property
    def sentence(self) -> str:
        """What is wrong, in words."""
        scale, unit = _UNIT[self.quantity]
        more, less = (
            (self.faster, self.slower) if self.quantity == "seconds" else (self.slower, self.faster)
        )
        takes = "takes" if self.quantity == "seconds" else "draws"
        return (
            f"{more!r} {takes} {scale * self.by:.3g} {unit} more than {less!r}, against the order "
            f"of their clocks; their errors explain {scale * self.error:.3g}"
        )


def chains(points: Sequence[MeasuredPoint]) -> list[list[MeasuredPoint]]:
    """Points that differ by one clock only, in the order of that clock; two points at least each.

    A point with a clock of the GPU belongs to the chain of that clock, any other one to that of the
    CPU. Caps of several clusters are in order if all of them are.
    """
    groups: dict[str, list[MeasuredPoint]] = {}
    for point in points:
        setting = point.setting
        if setting.gpu_hz is not None:
            rest = replace(setting, gpu_hz=None)
        elif setting.cpu_hz:
            rest = replace(setting, cpu_hz=dict.fromkeys(sorted(setting.cpu_hz), 1.0))
        else:
            continue
        groups.setdefault(f"{setting.gpu_hz is None} {rest}", []).append(point)
    found = []
    for group in groups.values():
        chain: list[MeasuredPoint] = []
        for point in sorted(group, key=_clocks):
            rises = not chain or all(
                low <= high for low, high in zip(_clocks(chain[-1]), _clocks(point), strict=True)
            )
            if rises:
                chain.append(point)
        if len(chain) > 1:
            found.append(chain)
    return found


def order_breaks(points: Sequence[MeasuredPoint]) -> tuple[OrderBreak, ...]:
    """The pair of each disorder that breaks the order most, beyond its errors."""
    return tuple(
        worst
        for chain in chains(points)
        for quantity in _UNIT
        for block in _blocks(chain, quantity)
        if (worst := _worst(chain, block, quantity)) is not None
    )


def in_order(
    points: Sequence[MeasuredPoint],
) -> tuple[tuple[MeasuredPoint, ...], tuple[str, ...]]:
    """The table with its order restored within the errors.

    Returns:
        The points, slowest first, and notes: which pairs break the order by more than their errors
        and stay as measured, and which points cannot be told apart.
    """
    found = {point.name: point for point in points}
    notes, pooled = [], []
    for chain in chains(points):
        for quantity in _UNIT:
            for block in _blocks(chain, quantity):
                if worst := _worst(chain, block, quantity):
                    notes.append(
                        "the table is not in the order of its clocks"
                        f"{', also when measured again' if worst.again else ''}: {worst.sentence}. "
                        "The points stay as measured"
                    )
                    continue
                mean = _pooled(chain, block, quantity)
                names = [chain[place].name for place in block]
                pooled.append(f"{' = '.join(map(repr, names))} in {quantity}")
                for name in names:
                    found[name] = _with(found[name], quantity, mean)
    if pooled:
        notes.append(f"no different within their errors, and given their mean: {'; '.join(pooled)}")
    ordered = sorted(found.values(), key=lambda point: -point.seconds_per_sample.value)
    return tuple(ordered), tuple(notes)


def pool_adjacent(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The values, none of which is below the one before it, that are nearest by weighted squares.

    Args:
        values: n numbers.
        weights: n weights, above 0.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] >= block[0]:
            mean, mass, count = blocks.pop()
            both = mass + block[1]
            block = ((mean * mass + block[0] * block[1]) / both, both, count + block[2])
        blocks.append(block)
    return [mean for mean, _, count in blocks for _ in range(count)]


def _clocks(point: MeasuredPoint) -> tuple[float, ...]:
    if point.setting.gpu_hz is not None:
        return (point.setting.gpu_hz,)
    return tuple(point.setting.cpu_hz[name] for name in sorted(point.setting.cpu_hz))


def _value(point: MeasuredPoint, quantity: Quantity) -> float:
    return (point.seconds_per_sample if quantity == "seconds" else point.power_w).value


def _error(point: MeasuredPoint, quantity: Quantity) -> float:
    return point.seconds_error if quantity == "seconds" else point.power_error_w


def _least(point: MeasuredPoint, quantity: Quantity) -> float:
    """Half a percent of what the meter or the clock has read."""
    return LEAST * (point.seconds_per_sample.value if quantity == "seconds" else point.board_w)


def _rising(chain: Sequence[MeasuredPoint], quantity: Quantity) -> tuple[list[float], list[float]]:
    """Values that must not fall along a chain, and their weights."""
    sign = -1.0 if quantity == "seconds" else 1.0
    known = [max(_error(point, quantity), _least(point, quantity), 1e-12) for point in chain]
    weights = [(min(known) / error) ** 2 for error in known]
    return [sign * _value(point, quantity) for point in chain], weights


def _blocks(chain: Sequence[MeasuredPoint], quantity: Quantity) -> list[list[int]]:
    """The places of a chain, in blocks, whose order is broken."""
    values, weights = _rising(chain, quantity)
    fitted = pool_adjacent(values, weights)
    blocks: list[list[int]] = []
    for place, value in enumerate(fitted):
        if blocks and fitted[blocks[-1][-1]] == value:
            blocks[-1].append(place)
        else:
            blocks.append([place])
    return [block for block in blocks if any(values[k] != fitted[k] for k in block)]


def _worst(
    chain: Sequence[MeasuredPoint], block: Sequence[int], quantity: Quantity
) -> OrderBreak | None:
    values, _ = _rising(chain, quantity)
    pairs = len(chain) * (len(chain) - 1)  # of both quantities
    degrees = min(point.degrees for point in chain) or math.inf
    one = student_t.quantile(0.5 + CONFIDENCE / 2.0, degrees)
    widen = student_t.quantile(1.0 - (1.0 - CONFIDENCE) / (2.0 * pairs), degrees) / one

    def apart(low: int, high: int) -> float:
        errors = [_error(chain[place], quantity) for place in (low, high)]
        least = max(_least(chain[place], quantity) for place in (low, high))
        return max(widen * math.hypot(*errors), least)

    found = [
        OrderBreak(
            quantity,
            chain[low].name,
            chain[high].name,
            values[low] - values[high],
            apart(low, high),
            chain[low].again and chain[high].again,
        )
        for low in block
        for high in block
        if low < high
    ]
    beyond = [each for each in found if each.by > each.error and each.by > 0.0]
    return max(beyond, key=lambda each: each.by - each.error, default=None)


def _pooled(chain: Sequence[MeasuredPoint], block: Sequence[int], quantity: Quantity) -> float:
    values, weights = _rising(chain, quantity)
    mass = math.fsum(weights[k] for k in block)
    return abs(math.fsum(values[k] * weights[k] for k in block) / mass)


def _with(point: MeasuredPoint, quantity: Quantity, value: float) -> MeasuredPoint:
    seconds, power_w = point.seconds_per_sample, point.power_w
    if quantity == "seconds":
        return replace(point, seconds_per_sample=_moved(seconds, value))
    return replace(point, power_w=_moved(power_w, value))


def _moved(estimate: Estimate, value: float) -> Estimate:
    return Estimate(value=value, low=min(estimate.low, value), high=max(estimate.high, value))

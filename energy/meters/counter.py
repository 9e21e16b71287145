"""Energy counters that wrap, stand still and are reset.

A counter's register runs from 0 to its range and begins again. If it is read often enough, a step
backwards is a wrap. If a wrap would mean more power than the device can draw, the counter was reset
(a reboot of the plug, a driver that was loaded again), and the sum does not continue.
"""

from __future__ import annotations

import math

from fimi.energy.meters import NOTHING, Look
from fimi.energy.sysfs import complete


class Counter:
    """One register, unwrapped.

    Args:
        unit_j: joules per step of the register.
        range_steps: its largest value; ``None`` for one that never wraps.
        power_limit_w: the device draws no more than this, W; a counter that shows more was reset.
        refresh_s: how old a value may be when it is read.
        return_limit_w: where it has fallen and is back at once, with more than this, W, it was the
            fall that was wrong; both are left out.
    """

    def __init__(
        self,
        unit_j: float,
        *,
        range_steps: int | None,
        power_limit_w: float,
        refresh_s: float,
        return_limit_w: float = math.inf,
    ) -> None:
        self._unit_j = unit_j
        self._range_steps = range_steps
        self._power_limit_w = power_limit_w
        self._refresh_s = refresh_s
        self._last: tuple[float, int] | None = None
        self._total_steps = 0
        self._return_limit_w = return_limit_w
        self._fell_from: int | None = None

    def advance(self, raw: int | None, time_s: float) -> Look:
        """Joules since the first reading.

        Args:
            raw: value of the register; ``None`` if it could not be read.
            time_s: time of the reading, s.
        """
        if raw is None or raw < 0 or (self._range_steps is not None and raw > self._range_steps):
            return NOTHING
        last, self._last = self._last, (time_s, raw)
        if last is None:
            return Look(counter_j=0.0)
        steps = raw - last[1]
        if steps < 0 and self._range_steps is not None:
            steps += self._range_steps + 1
        limit_w = self._power_limit_w
        if self._fell_from is not None and raw >= self._fell_from:
            limit_w, self._fell_from = min(limit_w, self._return_limit_w), None
        # One refresh more than the time between the readings: the register moves in steps.
        most_j = limit_w * (time_s - last[0] + self._refresh_s)
        if not 0 <= steps * self._unit_j <= most_j:
            if raw < last[1]:
                self._fell_from = max(last[1], self._fell_from or 0)
            return Look(counter_j=self._total_steps * self._unit_j, reset=True)
        self._total_steps += steps
        return Look(counter_j=self._total_steps * self._unit_j)


def add(looks: list[Look]) -> Look:
    """The sum of several counters: empty if one could not be read, reset if one was reset."""
    known_j = complete(look.counter_j for look in looks)
    reset = any(look.reset for look in looks)
    return Look(counter_j=sum(known_j), reset=reset) if known_j else NOTHING


class Adder:
    """Sums of several counters that keep a reset until there is a sum to say it with."""

    def __init__(self) -> None:
        self._reset = False

    def add(self, looks: list[Look], *, reset: bool = False) -> Look:
        """The sum as :func:`add` gives it; ``reset`` if it does not continue for another reason."""
        self._reset = self._reset or reset or any(look.reset for look in looks)
        found = add(looks)
        if found.counter_j is None:
            return NOTHING
        found, self._reset = found._replace(reset=self._reset), False
        return found

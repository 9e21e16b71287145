"""Energy counters that wrap, stand still and are reset.

A counter's register runs from 0 to its range and begins again. If it is read often enough, a step
backwards is a wrap. If a wrap would mean more power than the device can draw, the counter was reset
(a reboot of the plug, a driver that was loaded again), and the sum does not continue.
"""

from __future__ import annotations

import math

from fimi.energy.meters import NOTHING, Look
from fimi.energy.sysfs import complete


class Falls:
    """What falls, and is back at once: then it was the fall that was wrong.

    Args:
        limit_w: more than this, W, is "at once".
    """

    def __init__(self, limit_w: float) -> None:
        self._limit_w = limit_w
        self._from_j: float | None = None

    def see(self, before_j: float, now_j: float, seconds: float) -> bool:
        """Whether a counter does not continue from one value to the next, so many s later."""
        if now_j < before_j:
            self._from_j = max(before_j, self._from_j or 0.0)
            return True
        if self._from_j is None or now_j < self._from_j:
            return False
        self._from_j = None
        return now_j - before_j > self._limit_w * seconds


class Counter:
    """One register, unwrapped.

    Args:
        unit_j: joules per step of the register.
        range_steps: its largest value; ``None`` for one that never wraps.
        power_limit_w: the device draws no more than this, W; a counter that shows more was reset.
        refresh_s: how old a value may be when it is read.
        return_limit_w: of one that never wraps, the limit of :class:`Falls`, W.
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
        self._falls = Falls(return_limit_w)

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
        # One refresh more than the time between the readings: the register moves in steps.
        seconds = time_s - last[0] + self._refresh_s
        if self._range_steps is None:
            leaps = self._falls.see(last[1] * self._unit_j, raw * self._unit_j, seconds)
        else:
            leaps = False
            steps += (self._range_steps + 1) * (steps < 0)
        if leaps or steps * self._unit_j > self._power_limit_w * seconds:
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

"""A meter that sees power only at its readings.

:class:`SampledMeter` reads on a time grid of its own, whatever the board is doing. It misses what
happens between two readings, as a slow meter does. Readings have constant noise and noise in
proportion to the power, are rounded to the resolution, and may be lost.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any

import numpy as np

from fimi.energy.emulation.meter import EmulatedMeter
from fimi.energy.meters import MeterDescription, Reading

READINGS_MAX = 2000
"""Readings kept between two marks; beyond it the meter averages, as a logger does."""


class SampledMeter(EmulatedMeter):
    """An emulated meter with a sampling grid.

    Args:
        relative_noise: one standard deviation of a reading's noise over the power.
        dropped: probability that a reading on the grid is lost; those forced at the edges of a
            phase are not.
        others: those of :class:`fimi.energy.emulation.meter.EmulatedMeter`.
    """

    sees_steps = False

    def __init__(
        self,
        description: MeterDescription,
        *,
        relative_noise: float = 0.0,
        dropped: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(description, **others)
        self._relative_noise = relative_noise
        self._dropped = dropped
        self._since_s = self._until_s
        self._ends_s: list[float] = []
        self._powers_w: list[float] = []

    def begin_at(self, now_s: float) -> None:
        """Go on from this time of the clock as a new meter would, without readings."""
        super().begin_at(now_s)
        self._since_s = now_s
        self._ends_s, self._powers_w = [], []

    def mark(self) -> list[Reading]:
        """Readings since the last mark: one at either edge, and those on the grid in between."""
        self._rest()
        if not self._ends_s:
            return self._look(np.array([self._until_s]), np.array([self._resting_power_w]), 1.0)
        rate_hz = self._description.rate_hz
        first = math.floor(self._since_s * rate_hz) + 1
        last = math.ceil(self._until_s * rate_hz) - 1
        due = max(0, last - first + 1)
        kept = min(due, READINGS_MAX)
        grid = np.linspace(first, last, kept) / rate_hz if kept else np.zeros(0)
        grid = grid[self._random.random(kept) >= self._dropped]
        power = [self._powers_w[bisect_right(self._ends_s, at)] for at in grid.tolist()]
        times = np.concatenate([[self._since_s], grid, [self._until_s]])
        powers = np.array([self._powers_w[0], *power, self._powers_w[-1]])
        self._since_s = self._until_s
        self._ends_s, self._powers_w = [], []
        return self._look(times, powers, max(1.0, due / max(kept, 1)))

    def _watch(self, power_w: float) -> None:
        duration_s = self._clock.now_s() - self._until_s
        self._until_s = self._clock.now_s()
        if duration_s <= 0.0:
            return
        self.power_w = power_w
        self.true_energy_j += power_w * duration_s
        if self._powers_w and self._powers_w[-1] == power_w:
            self._ends_s[-1] = self._until_s
        else:
            self._ends_s.append(self._until_s)
            self._powers_w.append(power_w)

    def _look(self, times_s: np.ndarray, powers_w: np.ndarray, averaged: float) -> list[Reading]:
        spread_w = np.hypot(self._noise_w, self._relative_noise * powers_w) / math.sqrt(averaged)
        return self._read(times_s, powers_w, spread_w * self._random.normal(size=len(times_s)))

"""An emulated meter that shows a power late, seldom, or as a mean; or that counts.

:class:`LateMeter` has the response that its description says. It remembers what the board has drawn
as long as a reading can show it, makes a new value at every refresh, and is read as a
:class:`fimi.energy.meters.sampler.Sampler` reads: once a period at a random place in it, or in step
where a value is the mean of the period, and at every edge of a phase.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from fimi.energy.emulation.meter import EmulatedMeter
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.sampler import DEFAULT_RATE_HZ, places

READINGS_MAX = 4096
"""Readings kept between two marks; beyond it they are taken less often."""
_WHOLE = 0.95  # of a period that a mean covers, to be read in step


class LateMeter(EmulatedMeter):
    """An emulated meter with a response.

    Args:
        description: its response is the emulated one; one that counts shows joules.
        relative_noise: one standard deviation of a value's noise over the power.
        refresh_from_s: a time at which a new value is made, s.
        others: those of :class:`fimi.energy.emulation.meter.EmulatedMeter`.
    """

    sees_steps = False

    def __init__(
        self,
        description: MeterDescription,
        *,
        relative_noise: float = 0.0,
        refresh_from_s: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(description, **others)
        self._relative_noise = relative_noise
        self._refresh_from_s = refresh_from_s
        self._marked_s = self._until_s
        self._knots_s = [self._until_s]
        self._knots_j = [0.0]
        self._spread: Iterator[float] = places(Random(0))
        self._period, self._next_s = 0, 0.0
        self._begin_looks()
        self._last: Reading | None = None
        self._shown: tuple[int, float] | None = None

    @property
    def _rate_hz(self) -> float:
        """How often it is read, Hz."""
        return min(DEFAULT_RATE_HZ, self._description.rate_hz)

    def begin_at(self, now_s: float) -> None:
        """The clock shows this time from here on; what is still to be shown goes along.

        New values are made at the same times of the clock as before.
        """
        shift_s = now_s - self._until_s
        self._clock.show(now_s)
        self._knots_s = [at_s + shift_s for at_s in self._knots_s]
        self._marked_s += shift_s
        self._until_s = now_s
        self._last = None
        self._begin_looks()

    def mark(self) -> list[Reading]:
        """Readings since the last mark, a forced one at its end; the next list begins with it."""
        self._rest()
        times = [*self._looks_s(), self._until_s]
        readings = self._shows(np.array(times))
        if self._last is not None:
            readings.insert(0, self._last)
        self._last, self._marked_s = readings[-1], self._until_s
        self._forget()
        return readings

    def _watch(self, power_w: float) -> None:
        start_s, self._until_s = self._until_s, self._clock.now_s()
        duration_s = self._until_s - start_s
        if duration_s <= 0.0:
            return
        self.power_w = power_w
        self.true_energy_j += power_w * duration_s
        self._knots_s.append(self._until_s)
        self._knots_j.append(self._knots_j[-1] + power_w * duration_s)

    def reseed(self, random: np.random.Generator) -> None:
        """Draw the noise of later readings, and when they are taken, from ``random``."""
        super().reseed(random)
        self._spread = places(Random(int(random.integers(2**32))))
        if self._marked_s == self._until_s:  # no look is due yet
            self._shown = None
            self._begin_looks()

    def _begin_looks(self) -> None:
        self._period = math.floor(self._until_s * self._rate_hz)
        self._next_s = (self._period + self._place()) / self._rate_hz

    def _looks_s(self) -> list[float]:
        """When it is read between the last mark and now."""
        rate_hz = self._rate_hz
        due = (self._until_s - self._marked_s) * rate_hz
        stride = max(1, math.ceil(due / READINGS_MAX))
        found = []
        while self._next_s < self._until_s:
            if self._next_s > self._marked_s:
                found.append(self._next_s)
            self._period += stride
            self._next_s = (self._period + self._place()) / rate_hz
        return found

    def _place(self) -> float:
        """Where in its period to read it, from 0 to 1."""
        described = self._description
        in_step = described.counts or described.response.window_s * self._rate_hz >= _WHOLE
        return 1.0 if in_step else next(self._spread)

    def _shows(self, times_s: np.ndarray) -> list[Reading]:
        """What it shows at these times."""
        described, response = self._description, self._description.response
        made_s = times_s
        numbers = np.arange(len(times_s))
        if response.refresh_s:
            turns = np.floor((times_s - self._refresh_from_s) / response.refresh_s + 1e-9)
            numbers = turns.astype(np.int64)
            made_s = self._refresh_from_s + turns * response.refresh_s
        end_s = made_s - response.delay_s
        if described.counts:
            joules = self._gain * self._energy_j(end_s)
            if described.resolution_j:
                joules = np.floor(joules / described.resolution_j) * described.resolution_j
            return [
                Reading(time_s=at_s, counter_j=value_j)
                for at_s, value_j in zip(times_s.tolist(), joules.tolist(), strict=True)
            ]
        if window_s := response.window_s:
            true_w = (self._energy_j(end_s) - self._energy_j(end_s - window_s)) / window_s
        else:
            true_w = self._power_w(end_s)
        return self._read(times_s, true_w, self._noise(numbers, true_w))

    def _noise(self, numbers: np.ndarray, power_w: np.ndarray) -> np.ndarray:
        """Noise of each value, W; a value that is shown again has the same."""
        _, first, which = np.unique(numbers, return_index=True, return_inverse=True)
        drawn = self._random.normal(size=len(first))
        if self._description.response.refresh_s:
            if self._shown is not None and self._shown[0] == numbers[0]:
                drawn[0] = self._shown[1]
            self._shown = (int(numbers[-1]), float(drawn[-1]))
        spread_w = np.hypot(self._noise_w, self._relative_noise * power_w)
        return np.asarray(spread_w * drawn[which])

    def _energy_j(self, at_s: np.ndarray) -> np.ndarray:
        """True energy until these times, J; before what is remembered, at resting power."""
        found = np.interp(at_s, self._knots_s, self._knots_j)
        before_s = np.minimum(at_s - self._knots_s[0], 0.0)
        return np.asarray(found + before_s * self._resting_power_w)

    def _power_w(self, at_s: np.ndarray) -> np.ndarray:
        """True power just before these times, W; before what is remembered, at rest."""
        powers_w = np.diff(self._knots_j) / np.diff(self._knots_s)
        powers_w = np.concatenate([[self._resting_power_w], powers_w, [self._resting_power_w]])
        return np.asarray(powers_w[np.searchsorted(self._knots_s, at_s)])

    def _forget(self) -> None:
        """Drop what no reading can show any more."""
        oldest_s = self._until_s - self._description.response.settling_s - 1.0
        while len(self._knots_s) > 2 and self._knots_s[1] < oldest_s:
            del self._knots_s[0], self._knots_j[0]

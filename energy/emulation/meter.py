"""The power meter of an emulated board: gain error, noise and resolution, in virtual time."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from msgspec.structs import replace

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import MeterDescription, Reading

READINGS_PER_SEGMENT = 40
"""Most readings kept of a time of constant power; beyond it the meter averages as a logger does."""


class EmulatedMeter:
    """A power meter of an emulated board.

    Its gain is wrong by a factor that is drawn once. Each reading has noise and is rounded to the
    resolution. A time of constant power is read at its beginning, at the meter's rate and at its
    end, so that a step of power never lies between two readings at the edge of a phase.

    Args:
        noise_w: one standard deviation of a reading's noise, W.
        gain: reading over truth.
        resting_power_w: power of the board when no work is reported, W.
    """

    sees_steps: ClassVar[bool] = True
    """Whether its readings scatter about the power of a phase by nothing but its noise."""

    def __init__(
        self,
        description: MeterDescription,
        *,
        noise_w: float,
        gain: float,
        resting_power_w: float,
        clock: VirtualClock,
    ) -> None:
        self._description = description
        if self.sees_steps:
            self._description = replace(description, noise_w=noise_w)
        self._noise_w = noise_w
        self._gain = gain
        self._resting_power_w = resting_power_w
        self._clock = clock
        self._until_s = clock.now_s()
        self._readings: list[Reading] = []
        self._random = np.random.default_rng(0)
        self.power_w = resting_power_w
        """What the board drew last, W."""
        self.true_energy_j = 0.0
        """True energy since the beginning, J: for tests; a real board does not know it."""

    def describe(self) -> MeterDescription:
        """What it says of itself."""
        return self._description

    def reseed(self, random: np.random.Generator) -> None:
        """Draw the noise of later readings from ``random``."""
        self._random = random

    def observe(self, duration_s: float, power_w: float) -> None:
        """Let ``duration_s`` pass, in which the board draws ``power_w``."""
        self._rest()
        self._clock.advance(duration_s)
        self._watch(power_w)

    def observe_until(self, instant_s: float, power_w: float) -> None:
        """Let time pass until ``instant_s`` exactly, in which the board draws ``power_w``."""
        self._rest()
        self._clock.show(instant_s)
        self._watch(power_w)

    def begin_at(self, now_s: float) -> None:
        """Go on from this time of the clock as a new meter would, without readings."""
        self._clock.show(now_s)
        self._until_s = now_s
        self._readings = []

    def mark(self) -> list[Reading]:
        """Readings since the last mark; the next list begins with a new reading."""
        self._rest()
        if not self._readings:
            self._keep(np.array([self._until_s]), self._resting_power_w, 1.0)
        readings, self._readings = self._readings, []
        return readings

    def _rest(self) -> None:
        if self._clock.now_s() > self._until_s:
            self._watch(self._resting_power_w)

    def _watch(self, power_w: float) -> None:
        start_s, self._until_s = self._until_s, self._clock.now_s()
        duration_s = self._until_s - start_s
        if duration_s <= 0.0:
            return
        self.power_w = power_w
        self.true_energy_j += power_w * duration_s
        due = max(1, math.ceil(duration_s * self._description.rate_hz))
        kept = min(due, READINGS_PER_SEGMENT)
        times = start_s + np.arange(kept + 1) * (duration_s / kept)
        times[-1] = self._until_s
        self._keep(times, power_w, due / kept)

    def _keep(self, times_s: np.ndarray, power_w: float, averaged: float) -> None:
        noise_w = self._random.normal(0.0, self._noise_w / math.sqrt(averaged), len(times_s))
        self._readings += self._read(times_s, power_w, noise_w)

    def _read(
        self, times_s: np.ndarray, power_w: np.ndarray | float, noise_w: np.ndarray
    ) -> list[Reading]:
        """Readings of a power, with the error of the gain, noise and resolution, all (n,)."""
        power = np.maximum(self._gain * power_w + noise_w, 0.0)
        step_w = self._description.resolution_w
        if step_w:
            power = np.rint(power / step_w) * step_w
        return [
            Reading(time_s=time_s, power_w=reading_w)
            for time_s, reading_w in zip(times_s.tolist(), power.tolist(), strict=True)
        ]

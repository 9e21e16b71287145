"""Recorders of made-up meters that wander, fail now and then, and are of one seed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.combine import Beside
from fimi.energy.meters.response import MeterResponse

METERS = {
    "at once": MeterDescription(
        source="m", kind="measured", scope="board", rate_hz=10.0, resolution_w=0.01
    ),
    "late": MeterDescription(
        source="plug",
        kind="measured",
        scope="wall",
        rate_hz=2.0,
        response=MeterResponse(delay_s=0.4, window_s=1.0, refresh_s=1.0, delay_sd_s=0.1),
    ),
    "counter": MeterDescription(
        source="rapl", kind="measured", scope="cpu", rate_hz=50.0, counts=True, resolution_j=1e-6
    ),
}


class Recorded:
    """A recorder that reads a wandering power at its rate; the last reading begins a list."""

    def __init__(self, meter: MeterDescription, clock: VirtualClock, seed: int) -> None:
        self._meter, self._clock = meter, clock
        self._random = random.Random(seed)
        self._last: Reading | None = None
        self._until_s, self._joules = clock.now_s(), 0.0
        self.power_w = 3.0

    def describe(self) -> MeterDescription:
        return self._meter

    def mark(self) -> list[Reading]:
        found = [] if self._last is None else [self._last]
        now_s, step_s = self._clock.now_s(), 1.0 / self._meter.rate_hz
        while self._until_s + step_s < now_s:
            found.append(self._look(self._until_s + step_s * self._random.uniform(0.9, 1.0)))
        if self._last is None or now_s > self._until_s:
            found.append(self._look(now_s))
        self._last = found[-1]
        return found

    def _look(self, at_s: float) -> Reading:
        power_w = self.power_w * self._random.uniform(0.9, 1.1)
        self._joules += power_w * (at_s - self._until_s)
        self._until_s = at_s
        if self._meter.counts:
            return Reading(time_s=at_s, counter_j=math.floor(self._joules * 1e6) * 1e-6)
        if self._random.random() < 0.02:
            return Reading(time_s=at_s)
        return Reading(time_s=at_s, power_w=round(power_w / 0.01) * 0.01)


class Several(Recorded):
    """The same with other meters beside it, each named as in :data:`METERS`."""

    def __init__(
        self, meter: MeterDescription, clock: VirtualClock, seed: int, others: Mapping[Beside, str]
    ) -> None:
        super().__init__(meter, clock, seed)
        self.beside = {
            name: Recorded(METERS[other], clock, seed + place)
            for place, (name, other) in enumerate(others.items(), 1)
        }
        self.readings_beside: dict[Beside, list[Reading]] = {}

    def mark(self) -> list[Reading]:
        self.readings_beside = {name: each.mark() for name, each in self.beside.items()}
        return super().mark()

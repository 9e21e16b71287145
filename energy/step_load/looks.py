"""Meters that are read as fast as they may be, while a load is on.

Nothing here thins or spreads readings as :class:`fimi.energy.meters.sampler.Sampler` does: what is
looked for are the times at which values change.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence

from fimi.energy.clock import Clock
from fimi.energy.meters import Meter, MeterDescription, Reading

FASTEST_S, SLOWEST_S = 0.01, 0.25
"""Shortest and longest time between two looks, s."""
_PER_REFRESH = 10.0
_DUTY = 0.3
"""Most of the time that looking may take."""


class Looks:
    """The readings of a meter, read by a thread until :meth:`close`.

    Attributes:
        readings: those that hold a value, in order; a value that comes with a time of its own is
            kept once.
        failed: how many looks gave nothing.
    """

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self.meter = meter
        self._clock = clock
        self._over = threading.Event()
        self.readings: list[Reading] = []
        self.failed = 0
        self.period_s = period_s(meter.describe())
        self._thread = threading.Thread(target=self._watch, name="looks", daemon=True)
        self._thread.start()

    @property
    def description(self) -> MeterDescription:
        """The meter's."""
        return self.meter.describe()

    def close(self) -> None:
        """Look no more; the meter stays open."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        dice = random.Random()
        while True:
            began_s = self._clock.now_s()
            try:
                look = self.meter.look(began_s)
            except Exception:  # a meter that fails costs this look
                look = None
            ended_s = self._clock.now_s()
            reading = look.reading((began_s + ended_s) / 2.0) if look is not None else None
            if reading is None or not reading.holds:
                self.failed += 1
            elif not self.readings or reading.time_s > self.readings[-1].time_s:
                self.readings.append(reading)
            # At random, so that looks do not keep in step with the meter's refreshes.
            wait_s = self.period_s * dice.uniform(0.6, 1.4) - (ended_s - began_s)
            if self._over.wait(max(wait_s, (ended_s - began_s) / _DUTY, 1e-3)):
                return


def period_s(meter: MeterDescription) -> float:
    """How often to look at a meter, s."""
    refresh_s = meter.response.refresh_s
    return min(SLOWEST_S, max(FASTEST_S, refresh_s / _PER_REFRESH))


@contextlib.contextmanager
def looking(meters: Sequence[Meter], clock: Clock) -> Iterator[list[Looks]]:
    """Look at meters within a ``with`` block."""
    found: list[Looks] = []
    try:
        for meter in meters:
            found.append(Looks(meter, clock))
        yield found
        time.sleep(0.0)
    finally:
        for each in found:
            each.close()

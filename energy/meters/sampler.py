"""The recorder of a meter that a thread reads at its rate, and what this costs.

* :class:`Sampler`      reads a :class:`fimi.energy.meters.Meter` at its rate and at every edge
* :class:`MonitorCost`  the CPU time that this took
* :func:`thin`          fewer readings with the same joules

There is one reading in each period, at a random place in it (:func:`places`), unless a reading is
the mean of the whole period: ``benchmarks/integration_error.py`` compares both. A reading is
stamped with the middle of the time that it took. Where the meter knows the time of its value, that
is taken: such a reading may lie before the edge at which it was forced. A failed reading is kept as
a reading without a value. So is a time in which the thread did not run (the machine slept or was
too busy), so that no straight line across it is taken for a measurement.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, Reading
from fimi.energy.meters.plausibility import BoardLimits
from fimi.energy.meters.watch import Watch
from fimi.energy.sysfs import complete

log = logging.getLogger(__name__)

DEFAULT_RATE_HZ = 10.0
MOST_READINGS = 4096
"""Most readings kept of one phase; beyond it they are thinned, which does not change the joules."""

_POWER_OVER_S = 1.0
_OVERDUE_PERIODS, _OVERDUE_S = 10.0, 2.0
_WHOLE = 1.05  # a mean counts as that of the whole period if it is shorter by up to this factor

STRATA = 64
"""Number of parts of the period; each is visited once in so many periods. More change nothing on
the loads of ``benchmarks/integration_error.py``; 16 leave a third more error."""

_Amount = Annotated[float, Meta(ge=0, le=1e9)]


class MonitorCost(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What reading a meter took.

    Attributes:
        cpu_s: CPU time of the readings and of the thread between them, s.
        wall_s: wall time in which this was taken, s.
        looks: how often the meter was read.
        failed: how many of these readings failed.
    """

    cpu_s: _Amount
    wall_s: _Amount
    looks: Annotated[int, Meta(ge=0, le=2**48)]
    failed: Annotated[int, Meta(ge=0, le=2**48)]

    @property
    def cpu_percent(self) -> float | None:
        """Share of one core, %; ``None`` if no time has passed."""
        return 100.0 * self.cpu_s / self.wall_s if self.wall_s > 0.0 else None


def places(dice: random.Random) -> Iterator[float]:
    """Where in each period to read, from 0 to 1, without end.

    A load that repeats in step with the readings would be read at the same place of every turn, and
    no number of readings would show it. So places are random. Any two periods in a row have one in
    each half, any four one in each quarter, up to :data:`STRATA`, so that such a load is seen
    evenly however short the phase is: nested uniform scrambling (Owen 1995), with the order within
    each pair drawn again. For a load that is not in step, the places are as good as independent.
    """
    while True:
        for stratum in _balanced(range(STRATA), dice):
            yield (stratum + dice.random()) / STRATA


def _balanced(strata: Sequence[int], dice: random.Random) -> list[int]:
    """The strata, ordered so that any aligned 2, 4, 8 … lie in different halves, quarters …."""
    if len(strata) == 1:
        return list(strata)
    middle = len(strata) // 2
    halves = (_balanced(strata[:middle], dice), _balanced(strata[middle:], dice))
    return [each for pair in zip(*halves, strict=True) for each in dice.sample(pair, 2)]


class Sampler:
    """Reads a meter and keeps the readings of the open phase.

    Args:
        meter: the meter to read; belongs to the sampler, which closes it.
        clock: clock of the readings.
        rate_hz: how often to read, Hz, at most as often as the meter has a new value; 0 for
            readings at the edges only, without a thread.
        board: what the board can draw; what it cannot is doubted.
    """

    def __init__(
        self,
        meter: Meter,
        clock: Clock,
        *,
        rate_hz: float = DEFAULT_RATE_HZ,
        board: BoardLimits | None = None,
    ) -> None:
        self.meter = meter
        """The meter that is read."""
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._readings: list[Reading] = []
        self._suspicion = Watch(meter, board)
        self.last: Look = NOTHING
        """What the meter showed last."""
        self.power_w: float | None = None
        """The power that it showed last, W: of a counter the mean of a second at least."""
        self._counted: tuple[float, float] | None = None
        self._spent_s = 0.0
        self._looks = self._failed = 0
        self._cost_since_s = clock.now_s()
        described = meter.describe()
        news_hz = described.rate_hz
        rate_hz = min(rate_hz, news_hz) if news_hz > 0.0 else rate_hz
        patience_s = max(meter.longest_period_s, 1e-3)
        self._period_s = min(1.0 / rate_hz if rate_hz > 0.0 else math.inf, patience_s)
        # A mean that is shorter than the period misses most of it, as an instant does.
        window_s = described.response.window_s
        self.in_step = described.counts or 0.0 < self._period_s <= _WHOLE * window_s
        """Whether readings cover the whole period, so that they need not be spread."""
        self._thread: threading.Thread | None = None
        self.poll()
        if self._period_s <= threading.TIMEOUT_MAX and rate_hz > 0.0:
            self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
            self._thread.start()

    def describe(self) -> MeterDescription:
        """The meter's description."""
        return self.meter.describe()

    def poll(self) -> None:
        """Read the meter now."""
        began_s = time.thread_time()
        with self._lock:
            self._look()
            self._spent_s += time.thread_time() - began_s

    def mark(self) -> list[Reading]:
        """Readings since the last mark, both edges included; the last one begins the next list."""
        began_s = time.thread_time()
        with self._lock:
            self._look()
            self._suspicion.edge()
            readings, self._readings = self._readings, self._readings[-1:]
            self._spent_s += time.thread_time() - began_s
            return readings

    def take_cost(self) -> MonitorCost:
        """What reading the meter took since the last call."""
        with self._lock:
            now_s = self._clock.now_s()
            cost = MonitorCost(
                cpu_s=self._spent_s,
                wall_s=max(0.0, now_s - self._cost_since_s),
                looks=self._looks,
                failed=self._failed,
            )
            self._spent_s, self._looks, self._failed = 0.0, 0, 0
            self._cost_since_s = now_s
            return cost

    def take_doubts(self) -> tuple[str, ...]:
        """What is doubtful about the meter since the last call, a sentence each."""
        with self._lock:
            return self._suspicion.take()

    @property
    def trouble(self) -> str:
        """That the meter shows nothing, or that it reads again; empty if it always did."""
        return self._suspicion.trouble

    @property
    def power_age_s(self) -> float:
        """How long ago, on average, the board drew :attr:`power_w`, s."""
        described = self.describe()
        if described.counts:  # the mean of so long a time, which stays for as long
            return described.response.lag_s + _POWER_OVER_S
        return described.response.lag_s + min(self._period_s, _POWER_OVER_S) / 2.0

    def release(self) -> Meter:
        """End the thread and give up the meter, which stays open."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self.meter

    def close(self) -> None:
        """End the thread and close the meter; may be called again."""
        self.release().close()

    def _look(self) -> None:
        before_s = self._clock.now_s()
        look = self._suspicion.read(before_s)
        time_s = (before_s + self._clock.now_s()) / 2.0
        self._looks += 1
        reading = look.reading(time_s)
        self._failed += not reading.holds
        self.last = look
        self._see_power(reading)
        self._suspicion.see(time_s, look)
        last_s = self._readings[-1].time_s if self._readings else reading.time_s
        if look.time_s is not None and self._readings and reading.time_s <= last_s:
            return  # the value before, once more
        time_s = reading.time_s
        if time_s < last_s:
            # No clock of ours runs backwards; if one does, earlier readings have no place in time.
            self._readings = [Reading(time_s=time_s)]
        elif time_s - last_s > self._overdue_s and look.counter_j is None:
            self._readings.append(Reading(time_s=(last_s + time_s) / 2.0))
        self._readings.append(reading)
        if len(self._readings) > MOST_READINGS:
            self._readings = thin(self._readings)

    def _see_power(self, reading: Reading) -> None:
        if reading.counter_j is None:
            self.power_w, self._counted = reading.power_w, None
        elif self._counted is None or reading.reset or reading.time_s < self._counted[0]:
            self._counted = (reading.time_s, reading.counter_j)
        elif (passed_s := reading.time_s - self._counted[0]) >= _POWER_OVER_S:
            self.power_w = (reading.counter_j - self._counted[1]) / passed_s
            self._counted = (reading.time_s, reading.counter_j)

    @property
    def _overdue_s(self) -> float:
        if self._thread is None:
            return math.inf
        return max(_OVERDUE_PERIODS * self._period_s, _OVERDUE_S)

    def _watch(self) -> None:
        spent_s = time.thread_time()
        spread = places(random.Random())
        period_begins_s = time.monotonic()
        while True:
            # One reading in every period, so that the time a reading takes does not lower the rate.
            place = 1.0 if self.in_step else next(spread)
            due_s = period_begins_s + place * self._period_s
            if self._closed.wait(max(0.0, due_s - time.monotonic())):
                return
            late_s = time.monotonic() - self._period_s
            period_begins_s = max(period_begins_s + self._period_s, late_s)
            with self._lock:
                self._look()
                now_s = time.thread_time()
                self._spent_s += now_s - spent_s
                spent_s = now_s


def thin(readings: Sequence[Reading]) -> list[Reading]:
    """About half of the readings; the first, the last and the energy between them stay the same.

    Args:
        readings: in order of time. Those without a value separate parts that are thinned by
            themselves; of several such in a row one stays.
    """
    kept: list[Reading] = []
    stretch: list[Reading] = []
    for reading in readings:
        if reading.holds and not reading.reset:
            stretch.append(reading)
            continue
        kept += _halve(stretch)
        stretch = [reading] if reading.holds else []
        if not reading.holds and (not kept or kept[-1].holds):
            kept.append(reading)
    return kept + _halve(stretch)


def _halve(stretch: list[Reading]) -> list[Reading]:
    kept = stretch[:1]
    place = 0
    while place + 4 < len(stretch):
        five = stretch[place : place + 5]
        kept += [_middle(five), five[4]]
        place += 4
    return kept + stretch[place + 1 :]


def _middle(five: Sequence[Reading]) -> Reading:
    """The third of five readings, with a power that keeps the energy the same."""
    first, _, middle, _, last = five
    watts = complete(reading.power_w for reading in five)
    if not watts or last.time_s <= first.time_s:
        return middle
    times_s = [reading.time_s for reading in five]
    twice_j = sum(
        (times_s[i + 1] - times_s[i]) * (watts[i] + watts[i + 1]) for i in range(len(five) - 1)
    )
    ends_j = (times_s[2] - times_s[0]) * watts[0] + (times_s[4] - times_s[2]) * watts[4]
    return Reading(
        time_s=middle.time_s,
        power_w=(twice_j - ends_j) / (times_s[4] - times_s[0]),
        counter_j=middle.counter_j,
    )

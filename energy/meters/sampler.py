"""A meter, read at its rate by a thread, as the recorder of a ledger; and what that costs.

* :class:`Sampler`      looks at a :class:`fimi.energy.meters.Meter` now and then and at every edge
* :class:`MonitorCost`  the CPU time it took for that

Looks are spread, one in each period (:func:`places`), unless a reading is the mean of the whole
period: ``benchmarks/integration_error.py`` shows what either is worth. A reading is stamped with
the middle of the time that the look took. What could not be read is kept as a reading that holds
nothing; so is a stretch in which the thread did not run (the machine slept, or something held it
up), so that nobody takes a straight line across it for a measurement.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.meters import Meter, MeterDescription, Reading

DEFAULT_RATE_HZ = 10.0
MOST_READINGS = 4096
"""Readings kept of one phase; beyond it they are thinned, without a joule changing."""

_OVERDUE_PERIODS, _OVERDUE_S = 10.0, 2.0
_WHOLE = 1.05  # a mean over this much less than the period is over all of it

STRATA = 64
"""So many parts of the period are visited in so many periods; more change nothing on the loads of
``benchmarks/integration_error.py``, 16 leave a third more error."""

_Amount = Annotated[float, Meta(ge=0, le=1e9)]


class MonitorCost(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What watching a meter took.

    Attributes:
        cpu_s: CPU time of the looks, and of the thread between them, s.
        wall_s: over this long, s.
        looks: how often the meter was looked at.
        failed: how many of them gave nothing.
    """

    cpu_s: _Amount
    wall_s: _Amount
    looks: Annotated[int, Meta(ge=0, le=2**48)]
    failed: Annotated[int, Meta(ge=0, le=2**48)]

    @property
    def cpu_percent(self) -> float | None:
        """Share of one core, %; ``None`` over no time."""
        return 100.0 * self.cpu_s / self.wall_s if self.wall_s > 0.0 else None


def places(dice: random.Random) -> Iterator[float]:
    """Where to look in each period, from 0 to 1, for ever.

    A load that repeats in step with the looks would be read at the same place of every turn, and no
    number of readings would show it. So places are random; and any two periods in a row have one in
    each half, any four one in each quarter, up to :data:`STRATA`, so that such a load is seen
    evenly however short the phase is: nested uniform scrambling (Owen 1995), with the order within
    each pair drawn anew. A load in no step with the looks sees places that are as good as
    independent.
    """
    while True:
        for stratum in _balanced(range(STRATA), dice):
            yield (stratum + dice.random()) / STRATA


def _balanced(strata: Sequence[int], dice: random.Random) -> list[int]:
    """The strata in an order of which any aligned 2, 4, 8 … lie one in each half, quarter, …."""
    if len(strata) == 1:
        return list(strata)
    middle = len(strata) // 2
    halves = (_balanced(strata[:middle], dice), _balanced(strata[middle:], dice))
    return [each for pair in zip(*halves, strict=True) for each in dice.sample(pair, 2)]


class Sampler:
    """Looks at a meter and keeps the readings of the open phase.

    Args:
        meter: what to look at; belongs to the sampler, which closes it.
        clock: of the readings.
        rate_hz: how often to look, at most as often as the meter has something new; 0 for looks
            at the edges only, without a thread.
    """

    def __init__(self, meter: Meter, clock: Clock, *, rate_hz: float = DEFAULT_RATE_HZ) -> None:
        self._meter = meter
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._readings: list[Reading] = []
        self._spent_s = 0.0
        self._looks = self._failed = 0
        self._cost_since_s = clock.now_s()
        described = meter.describe()
        news_hz = described.rate_hz
        rate_hz = min(rate_hz, news_hz) if news_hz > 0.0 else rate_hz
        self._period_s = min(1.0 / rate_hz if rate_hz > 0.0 else float("inf"), _patience_s(meter))
        # A mean that is shorter than the period leaves most of it unseen, as an instant does.
        whole = described.counts or self._period_s * news_hz <= _WHOLE
        self.in_step = described.averages and whole
        """Whether readings leave nothing of the period out, so that looks need not be spread."""
        self._thread: threading.Thread | None = None
        self.poll()
        if self._period_s <= threading.TIMEOUT_MAX and rate_hz > 0.0:
            self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
            self._thread.start()

    def describe(self) -> MeterDescription:
        """What is being read."""
        return self._meter.describe()

    @property
    def meter(self) -> Meter:
        """What is being read."""
        return self._meter

    def poll(self) -> None:
        """Look at the meter now."""
        began_s = time.thread_time()
        with self._lock:
            self._look()
            self._spent_s += time.thread_time() - began_s

    def mark(self) -> list[Reading]:
        """Readings since the last mark, both edges included; the last one opens the next list."""
        began_s = time.thread_time()
        with self._lock:
            self._look()
            readings, self._readings = self._readings, self._readings[-1:]
            self._spent_s += time.thread_time() - began_s
            return readings

    def take_cost(self) -> MonitorCost:
        """What watching took since the last time this was asked."""
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

    def close(self) -> None:
        """End the thread and close the meter; may be repeated."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._meter.close()

    def _look(self) -> None:
        before_s = self._clock.now_s()
        look = self._meter.look(before_s)
        time_s = (before_s + self._clock.now_s()) / 2.0
        self._looks += 1
        reading = Reading(
            time_s=time_s, power_w=look.power_w, counter_j=look.counter_j, reset=look.reset
        )
        self._failed += not reading.holds
        last_s = self._readings[-1].time_s if self._readings else time_s
        if time_s < last_s:
            # No clock of ours does this; if one does, what came before cannot be placed.
            self._readings = [Reading(time_s=time_s)]
        elif time_s - last_s > self._overdue_s and look.counter_j is None:
            self._readings.append(Reading(time_s=(last_s + time_s) / 2.0))
        self._readings.append(reading)
        if len(self._readings) > MOST_READINGS:
            self._readings = thin(self._readings)

    @property
    def _overdue_s(self) -> float:
        if self._thread is None:
            return float("inf")
        return max(_OVERDUE_PERIODS * self._period_s, _OVERDUE_S)

    def _watch(self) -> None:
        spent_s = time.thread_time()
        spread = places(random.Random())
        period_begins_s = time.monotonic()
        while True:
            # One look in every period, so that the time a look takes does not lower the rate.
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


def _patience_s(meter: Meter) -> float:
    return max(meter.longest_period_s, 1e-3)


def thin(readings: Sequence[Reading]) -> list[Reading]:
    """About half of the readings, with the first, the last and the energy between them kept.

    Args:
        readings: in order of time. Those that hold nothing split them into stretches; of several
            such in a row one stays.
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
    """The third of five readings, with the power that keeps the energy."""
    first, _, middle, _, last = five
    power = [reading.power_w for reading in five]
    if None in power or last.time_s <= first.time_s:
        return middle
    watts = [float(value) for value in power if value is not None]
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

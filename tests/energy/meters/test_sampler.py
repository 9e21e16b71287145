"""A meter read by a thread: rate, gaps, clocks that jump, its own cost; fewer readings."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_span import energy_of

from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, Reading
from fimi.energy.meters.counter import Counter, add
from fimi.energy.meters.response import MeterResponse
from fimi.energy.meters.sampler import MOST_READINGS, STRATA, Sampler, places, thin

METER = MeterDescription(source="m:1", kind="measured", scope="board", rate_hz=100.0)


class Steady(Meter):
    """A meter whose power the test decides; ``None`` cannot be read."""

    def __init__(
        self,
        power_w: float | None = 5.0,
        rate_hz: float = 100.0,
        *,
        resolution_w: float = 0.01,
        counts: bool = False,
        window_s: float = 0.0,
    ) -> None:
        self.power_w = power_w
        self.looks = 0
        self.closed = 0
        self.looked = threading.Condition()
        self._description = MeterDescription(
            source="m:1",
            kind="measured",
            scope="board",
            rate_hz=rate_hz,
            resolution_w=resolution_w,
            counts=counts,
            response=MeterResponse(window_s=window_s),
        )

    def describe(self) -> MeterDescription:
        return self._description

    def look(self, time_s: float) -> Look:
        with self.looked:
            self.looks += 1
            self.looked.notify_all()
        return NOTHING if self.power_w is None else Look(power_w=self.power_w)

    def close(self) -> None:
        self.closed += 1

    def wait_for(self, looks: int) -> None:
        with self.looked:
            assert self.looked.wait_for(lambda: self.looks >= looks, 10.0)


class TestThread:
    def test_looks_at_the_slower_of_both_rates(self) -> None:
        meter = Steady(rate_hz=50.0)
        began_s = time.monotonic()
        sampler = Sampler(meter, MonotonicClock(), rate_hz=1000.0)
        sampler.mark()
        meter.wait_for(12)  # the first, the marked one, and ten of as many periods
        assert time.monotonic() - began_s > 9 / 50.0
        readings = sampler.mark()
        sampler.close()
        assert len(readings) >= 10
        assert all(a.time_s <= b.time_s for a, b in pairwise(readings))

    @pytest.mark.parametrize(
        ("news_hz", "averages", "in_step"),
        [(10.0, True, True), (5.0, True, True), (55.0, True, False), (10.0, False, False)],
    )
    def test_looks_in_step_only_where_readings_leave_nothing_out(
        self, news_hz: float, averages: bool, in_step: bool
    ) -> None:
        """An INA226 as the kernel sets it up averages 36 ms: read at 10 Hz it misses the rest."""
        meter = Steady(rate_hz=news_hz, window_s=1.0 / news_hz if averages else 0.0)
        sampler = Sampler(meter, MonotonicClock(), rate_hz=10.0)
        sampler.close()
        assert sampler.in_step is in_step

    def test_a_counter_leaves_nothing_out_however_seldom_it_is_read(self) -> None:
        meter = Steady(rate_hz=1000.0, resolution_w=0.0, counts=True)
        sampler = Sampler(meter, MonotonicClock(), rate_hz=10.0)
        sampler.close()
        assert meter.describe().counts
        assert sampler.in_step

    def test_reports_its_own_cost_once(self) -> None:
        meter = Steady()
        sampler = Sampler(meter, MonotonicClock(), rate_hz=100.0)
        meter.wait_for(10)
        meter.power_w = None
        meter.wait_for(13)
        sampler.close()
        cost = sampler.take_cost()
        assert cost.looks >= 13
        assert cost.failed >= 2
        assert 0.0 < cost.cpu_s < cost.wall_s
        assert cost.cpu_percent is not None
        again = sampler.take_cost()
        assert (again.looks, again.cpu_s) == (0, 0.0)


class TestPlaces:
    @given(st.integers(0, 2**32))
    def test_every_part_of_the_period_is_visited_in_turn(self, seed: int) -> None:
        dice = places(random.Random(seed))
        for _ in range(5):
            block = sorted(next(dice) for _ in range(STRATA))
            assert [int(place * STRATA) for place in block] == list(range(STRATA))

    @given(st.integers(0, 2**32), st.sampled_from([2, 4, 8, 16, 32]))
    def test_a_few_looks_are_spread_as_evenly_as_many(self, seed: int, parts: int) -> None:
        dice = places(random.Random(seed))
        for _ in range(2 * STRATA // parts):
            row = sorted(next(dice) for _ in range(parts))
            assert [int(place * parts) for place in row] == list(range(parts))

    def test_a_load_in_step_with_the_looks_is_seen_evenly(self) -> None:
        """2 and 8 W at 10 Hz, read at 10 Hz over 10 s: 1.9 % rms.

        6 % if looks were independent, 60 % if they were in step (benchmarks/integration_error.py).
        """
        errors = []
        for seed in range(300):
            spread, dice = places(random.Random(seed)), random.Random(-seed - 1)
            start_s, turn_s = dice.uniform(0.0, 0.1), dice.uniform(0.0, 0.1)
            ticks = [start_s + 0.1 * (k - 1 + next(spread)) for k in range(103)]
            times = [0.0, *(t for t in ticks if 0.0 < t < 10.0), 10.0]
            readings = [
                Reading(time_s=t, power_w=8.0 if (t + turn_s) % 0.1 < 0.05 else 2.0) for t in times
            ]
            energy = energy_of(readings, 0.0, 10.0, METER)
            assert energy is not None
            errors.append(energy.value_j / 50.0 - 1.0)
            assert abs(errors[-1]) < 4.0 * energy.uncertainty_j / 50.0
        assert math.sqrt(math.fsum(e * e for e in errors) / len(errors)) < 0.025
        assert abs(math.fsum(errors) / len(errors)) < 0.006


class TestGaps:
    def test_time_without_looks_is_no_measurement(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = VirtualClock()
        sampler = Sampler(Steady(), clock, rate_hz=0.0)
        monkeypatch.setattr(Sampler, "_overdue_s", 2.0)
        sampler.mark()
        for step_s in (1.0, 1.0, 60.0, 1.0):  # as after a sleep of the machine
            clock.advance(step_s)
            sampler.poll()
        readings = sampler.mark()
        assert sum(not reading.holds for reading in readings) == 1
        assert energy_of(readings, 0.0, 63.0, METER) is None

    def test_a_clock_that_jumps_back_leaves_nothing_to_integrate(self) -> None:
        class Jumping(VirtualClock):
            offset_s = 0.0

            def now_s(self) -> float:
                return super().now_s() + self.offset_s

        clock = Jumping(1000.0)
        sampler = Sampler(Steady(), clock, rate_hz=0.0)
        clock.advance(5.0)
        sampler.poll()
        clock.offset_s = -100.0
        clock.advance(1.0)
        readings = sampler.mark()
        assert [reading.time_s for reading in readings] == [906.0, 906.0]
        assert energy_of(readings, 900.0, 906.0, METER) is None
        clock.advance(2.0)
        energy = energy_of(sampler.mark(), 906.0, 908.0, METER)
        assert energy is not None
        assert energy.value_j == pytest.approx(10.0)

    def test_the_time_of_day_plays_no_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        sampler = Sampler(Steady(), MonotonicClock(), rate_hz=0.0)
        first = sampler.mark()[-1].time_s
        assert sampler.mark()[-1].time_s >= first > 0.0

    def test_a_day_of_idling_does_not_fill_the_memory(self) -> None:
        clock = VirtualClock()
        meter = Steady()
        sampler = Sampler(meter, clock, rate_hz=0.0)
        sampler.mark()
        for step in range(3 * MOST_READINGS):
            clock.advance(0.1)
            meter.power_w = 5.0 + step % 3
            sampler.poll()
        readings = sampler.mark()
        assert len(readings) <= MOST_READINGS + 1
        energy = energy_of(readings, 0.0, clock.now_s(), METER)
        assert energy is not None
        assert energy.value_j == pytest.approx(6.0 * clock.now_s(), rel=1e-3)


gaps = st.lists(
    st.tuples(st.floats(0.01, 10.0), st.one_of(st.none(), st.floats(0.0, 100.0))),
    min_size=2,
    max_size=40,
)


def joules(readings: list[Reading]) -> float:
    held = [r for r in readings if r.power_w is not None]
    return math.fsum(
        (b.time_s - a.time_s) * ((a.power_w or 0) + (b.power_w or 0)) / 2 for a, b in pairwise(held)
    )


class TestThinning:
    @given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 100)), min_size=2, max_size=40))
    def test_no_joule_changes(self, steps: list[tuple[float, float]]) -> None:
        time_s, readings = 0.0, []
        for gap_s, power_w in steps:
            time_s += gap_s
            readings.append(Reading(time_s=time_s, power_w=power_w))
        thinned = thin(readings)
        assert joules(thinned) == pytest.approx(joules(readings), abs=1e-6)
        assert (thinned[0], thinned[-1]) == (readings[0], readings[-1])
        assert len(thinned) <= len(readings) / 2 + 4

    @given(gaps)
    def test_holes_stay(self, steps: list[tuple[float, float | None]]) -> None:
        readings = [
            Reading(time_s=float(i), power_w=power_w) for i, (_, power_w) in enumerate(steps)
        ]
        end_s = float(len(readings))
        before = energy_of(readings, 0.0, end_s, METER)
        after = energy_of(thin(readings), 0.0, end_s, METER)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert after.value_j == pytest.approx(before.value_j, abs=1e-6)


class TestCounter:
    @given(
        st.integers(1, 2**40),
        st.integers(0, 2**40),
        st.lists(st.integers(0, 10**6), min_size=1, max_size=30),
    )
    def test_wraps_never_lose_a_step(self, range_steps: int, start: int, steps: list[int]) -> None:
        steps = [step % (range_steps + 1) for step in steps]
        counter = Counter(1e-6, range_steps=range_steps, power_limit_w=1e9, refresh_s=0.001)
        raw = start % (range_steps + 1)
        assert counter.advance(raw, 0.0) == Look(counter_j=0.0)
        look = NOTHING
        for second, step in enumerate(steps, 1):
            raw = (raw + step) % (range_steps + 1)
            look = counter.advance(raw, float(second))
        assert look.counter_j == pytest.approx(sum(steps) * 1e-6)
        assert not look.reset

    def test_a_counter_without_a_range_that_steps_back_was_reset(self) -> None:
        counter = Counter(1e-3, range_steps=None, power_limit_w=100.0, refresh_s=0.1)
        counter.advance(5000, 0.0)
        assert counter.advance(100, 1.0).reset
        assert counter.advance(1100, 2.0) == Look(counter_j=1.0)

    @pytest.mark.parametrize("raw", [None, -1, 11])
    def test_what_cannot_be_is_nothing(self, raw: int | None) -> None:
        counter = Counter(1.0, range_steps=10, power_limit_w=100.0, refresh_s=0.1)
        assert counter.advance(raw, 0.0) == NOTHING

    def test_sums(self) -> None:
        whole = [Look(counter_j=1.0), Look(counter_j=2.0, reset=True)]
        assert add(whole) == Look(counter_j=3.0, reset=True)
        assert add([*whole, NOTHING]) == NOTHING


def test_the_thread_of_a_counter_is_fast_enough_for_its_wraps() -> None:
    class Fast(Steady):
        longest_period_s = 0.01

    meter = Fast(rate_hz=1000.0)
    sampler = Sampler(meter, MonotonicClock(), rate_hz=0.5)
    meter.wait_for(5)  # within the patience of a second and not of two
    sampler.close()


class Timed(Meter):
    """A meter whose values have times of their own."""

    def __init__(self, *, counts: bool = False) -> None:
        self.now = Look(power_w=1.0, time_s=0.0)
        self._description = MeterDescription(
            source="m:1", kind="measured", scope="board", rate_hz=1.0, counts=counts
        )

    def look(self, time_s: float) -> Look:
        return self.now


class TestValuesWithTimesOfTheirOwn:
    def sampler(self, meter: Timed, clock: VirtualClock) -> Sampler:
        return Sampler(meter, clock, rate_hz=0.0)

    def test_a_reading_stands_at_the_time_of_its_value_and_once(self) -> None:
        meter, clock = Timed(), VirtualClock(0.5)
        sampler = self.sampler(meter, clock)
        for at_s, power_w, value_s in [(1.0, 1.0, 0.0), (2.0, 2.0, 1.25), (3.0, 2.0, 1.25)]:
            clock.show(at_s)
            meter.now = Look(power_w=power_w, time_s=value_s)
            sampler.poll()
        readings = sampler.mark()
        assert [(r.time_s, r.power_w) for r in readings] == [(0.0, 1.0), (1.25, 2.0)]

    def test_a_list_begins_with_the_last_reading_of_the_one_before(self) -> None:
        """A value of before an edge that comes behind it belongs to the next list."""
        meter, clock = Timed(), VirtualClock(10.0)
        meter.now = Look(power_w=4.0, time_s=9.0)
        sampler = self.sampler(meter, clock)
        first = sampler.mark()
        assert [r.time_s for r in first] == [9.0]
        clock.show(12.0)
        meter.now = Look(power_w=8.0, time_s=9.9)
        sampler.poll()
        meter.now = Look(power_w=6.0, time_s=11.0)
        second = sampler.mark()
        assert [r.time_s for r in second] == [9.0, 9.9, 11.0]
        assert second[0] is first[-1]

    def test_a_failure_stands_at_the_time_of_the_look(self) -> None:
        meter, clock = Timed(), VirtualClock(10.0)
        meter.now = Look(power_w=4.0, time_s=9.0)
        sampler = self.sampler(meter, clock)
        clock.show(11.0)
        meter.now = NOTHING
        sampler.poll()
        clock.show(12.0)
        meter.now = Look(power_w=4.0, time_s=10.5)  # older than the failure
        sampler.poll()
        readings = sampler.mark()
        assert [(r.time_s, r.holds) for r in readings] == [(9.0, True), (11.0, False)]

    @pytest.mark.parametrize("seed", range(5))
    def test_late_values_stay_in_their_phase(self, seed: int) -> None:
        """Readings come up to 2 s late: with their times phases keep their joules.

        The truth: each phase draws one power, which every reading of that time shows.
        """
        dice = random.Random(seed)
        powers_w = [dice.uniform(2.0, 10.0) for _ in range(20)]
        edges_s = [0.0]
        for _ in powers_w:
            edges_s.append(edges_s[-1] + dice.uniform(5.0, 15.0))

        def power_w(at_s: float) -> float:
            return next(p for p, end_s in zip(powers_w, edges_s[1:], strict=True) if at_s <= end_s)

        made_s = [0.5 * n + dice.uniform(0.0, 0.1) for n in range(int(edges_s[-1] / 0.5))]
        came = sorted((at_s + dice.uniform(0.0, 2.0), at_s) for at_s in made_s)
        off_w = [self.errors_w(t, powers_w, edges_s, came, power_w) for t in (False, True)]
        assert max(off_w[1]) < 1e-9, "no phase has a part of its neighbours' power"
        assert max(off_w[0]) > 0.1

    def errors_w(
        self,
        timed: bool,
        powers_w: list[float],
        edges_s: list[float],
        came: list[tuple[float, float]],
        power_w: Callable[[float], float],
    ) -> list[float]:
        """By how much the mean power of each phase is wrong, W."""
        meter, clock = Timed(), VirtualClock(0.0)
        meter.now = Look(power_w=powers_w[0], time_s=-1.0 if timed else None)
        sampler = self.sampler(meter, clock)
        ledger = Ledger(clock, sampler)
        events = sorted([*came, *((at_s, -1.0) for at_s in edges_s)])
        newest_s = -1.0
        found: list[PhaseRecord] = []
        for at_s, source_s in events:
            if at_s > edges_s[-1]:
                break
            clock.show(at_s)
            if source_s < 0.0:
                ledger.close()
                for number, (corrected,) in ledger.corrections().items():
                    found[number - 1] = corrected
                found += ledger.take(len(found) + 1)
                ledger.begin("compute")
            elif source_s > newest_s:  # as a sequence number tells
                newest_s = source_s
                meter.now = Look(power_w=power_w(source_s), time_s=source_s if timed else None)
                sampler.poll()
        off_w = []
        for number, record in enumerate(found[:-1]):  # readings of the last one are missing
            assert record.energy is not None and record.final
            off_w.append(abs(record.energy.value_j / record.duration_s - powers_w[number]))
        assert len(off_w) == len(powers_w) - 1
        return off_w


class Shown(Meter):
    """A meter that shows one look after another."""

    def __init__(self, *looks: Look) -> None:
        self._looks = iter(looks)
        self._description = METER

    def look(self, time_s: float) -> Look:
        return next(self._looks)


class TestPowerNow:
    """What people are shown of it; no joules are made of it."""

    def seen(self, *looks: tuple[float, Look]) -> list[float | None]:
        clock = VirtualClock()
        with contextlib.closing(
            Sampler(Shown(looks[0][1], *(look for _, look in looks[1:])), clock, rate_hz=0.0)
        ) as sampler:
            found = [sampler.power_w]
            for at_s, _ in looks[1:]:
                clock.show(at_s)
                sampler.poll()
                found.append(sampler.power_w)
        return found

    def test_of_a_meter_of_power_it_is_the_last_one(self) -> None:
        looks = [(0.0, Look(power_w=3.0)), (0.1, Look(power_w=4.0)), (0.2, NOTHING)]
        assert self.seen(*looks) == [3.0, 4.0, None]

    def test_of_a_counter_it_is_the_mean_of_a_second(self) -> None:
        counted = [(0.0, 10.0), (0.5, 12.0), (1.0, 16.0), (1.5, 17.0), (3.0, 22.0)]
        looks = [(at_s, Look(counter_j=joules)) for at_s, joules in counted]
        assert self.seen(*looks) == [None, None, 6.0, 6.0, 3.0]

    def test_a_counter_that_was_reset_is_no_power(self) -> None:
        looks = [
            (0.0, Look(counter_j=10.0)),
            (2.0, Look(counter_j=1.0, reset=True)),
            (4.0, Look(counter_j=9.0)),
        ]
        assert self.seen(*looks) == [None, None, 4.0]

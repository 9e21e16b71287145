from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.clock import VirtualClock
from fimi.energy.emulation.late_meter import LateMeter
from fimi.energy.joules import total
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import MeterResponse
from fimi.energy.phase_energy import PhaseMeter
from fimi.energy.phase_readings import PhaseEnergy, Stretch
from fimi.energy.resting import enough_s


def meter(**settings: Any) -> MeterDescription:
    fixed = {"source": "m:1", "kind": "measured", "scope": "board", "rate_hz": 10.0}
    return MeterDescription(**{**fixed, **settings})


CHIP = meter()
MEANS = meter(response=MeterResponse(window_s=0.1, refresh_s=0.1))
PLUG = meter(rate_hz=1.0, response=MeterResponse(delay_s=1.0, window_s=1.0, refresh_s=1.0))
GAUGE = meter(rate_hz=1.0, response=MeterResponse(refresh_s=2.0))
COUNTER = meter(counts=True, response=MeterResponse(refresh_s=0.1))
FAMILIES = {"chip": CHIP, "means": MEANS, "plug": PLUG, "gauge": GAUGE, "counter": COUNTER}
every_family = pytest.mark.parametrize("family", FAMILIES)

Plan = list[tuple[str, float, float]]
"""Kind, length and power of each phase; no kind: between phases."""
BASE_W = {"compute": 5.5, "upload": 4.4, "idle": 3.0, "model-download": 3.6}
plans = st.lists(
    st.tuples(
        st.sampled_from(sorted(BASE_W)),
        st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0, 3.0, 8.0, 20.0]),
        st.floats(1.0, 9.0),
    ),
    min_size=1,
    max_size=8,
)


class Seen:
    """A meter that has watched phases: readings are made first, so that they can be changed."""

    def __init__(
        self,
        description: MeterDescription,
        plan: Plan,
        *,
        seed: int = 0,
        start_s: float = 0.0,
        after_s: float = 40.0,
        change: Callable[[Reading], Reading] = lambda reading: reading,
        **emulated: Any,
    ) -> None:
        clock = VirtualClock(start_s)
        fixed = {"noise_w": 0.0, "gain": 1.0, "resting_power_w": 3.0, **emulated}
        fixed.setdefault("refresh_from_s", start_s - 0.37)
        late = LateMeter(description, clock=clock, **fixed)
        late.reseed(np.random.default_rng(seed))
        self.meter = PhaseMeter(description)
        self.true_j: list[float] = []
        self.stretches: list[Stretch] = []
        self.early: list[PhaseEnergy] = []
        self.readings: list[Reading] = []

        def mark() -> None:
            new = [change(each) for each in late.mark()[1 if self.readings else 0 :]]
            self.readings += self.meter.add(new)

        late.observe(10.0, 3.0)
        mark()
        for kind, seconds, power_w in plan:
            if not kind:  # no phase goes on
                late.observe(seconds, power_w)
                mark()
                continue
            begin_s, first, before_j = clock.now_s(), self.meter.count, late.true_energy_j
            late.observe(seconds, power_w)
            mark()
            stretch = Stretch(kind, begin_s, clock.now_s(), first, self.meter.count)
            self.stretches.append(stretch)
            self.true_j.append(late.true_energy_j - before_j)
            self.early.append(self.meter.end(stretch))
        late.observe(after_s, 3.0)
        mark()
        self.found = [self.meter.energy(stretch) for stretch in self.stretches]

    @property
    def joules(self) -> list[float | None]:
        return [each.energy.value_j if each.energy is not None else None for each in self.found]


def own_readings(seen: Seen, description: MeterDescription, stretch: Stretch) -> list[int]:
    """Which readings show nothing but a phase: by the definition, one by one."""
    response, found = description.response, []
    marks = {s.last - 1 for s in seen.stretches} | {s.first - 1 for s in seen.stretches}
    marks |= {len(seen.readings) - 1}
    for place, reading in enumerate(seen.readings):
        newest_s = reading.time_s - response.delay_s
        oldest_s = newest_s - response.window_s - response.refresh_s
        inside = oldest_s >= stretch.start_s - 1e-9 and newest_s <= stretch.end_s + 1e-9
        taken = stretch.first <= place < stretch.last
        if inside and (taken or (place >= stretch.last and newest_s < stretch.end_s - 1e-9)):
            found.append(place)
    spread = [place for place in found if place not in marks or response.settling_s == 0.0]
    return spread or found


class TestReadingsOfItsOwn:
    @every_family
    @given(plan=plans)
    @settings(max_examples=40)
    def test_are_those_that_show_nothing_else(self, family: str, plan: Plan) -> None:
        if family == "counter":
            return
        description = FAMILIES[family]
        seen = Seen(description, plan)
        for stretch, found in zip(seen.stretches, seen.found, strict=True):
            own = own_readings(seen, description, stretch)
            assert found.sample_count == len(own)
            if not own and stretch.duration_s:
                assert not found.resolved

    @every_family
    def test_a_long_phase_of_constant_power_is_exact(self, family: str) -> None:
        plan = [("compute", 60.0, 5.5), ("upload", 50.0, 4.4)]
        seen = Seen(FAMILIES[family], plan)
        assert all(each.resolved and each.final for each in seen.found)
        assert seen.joules == pytest.approx([330.0, 220.0], rel=1e-2)
        if family != "counter":  # a counter is up to a refresh old at its edges
            assert seen.joules == pytest.approx([330.0, 220.0], rel=1e-9)

    def test_a_ramp_is_exact_between_its_first_and_last_reading(self) -> None:
        """Trapezoids on a fine grid are the truth; what is beyond them holds."""
        table = PhaseMeter(CHIP)
        times_s = np.sort(np.random.default_rng(0).uniform(0.0, 10.0, 60))
        power_w = 3.0 + 0.4 * times_s
        rows = zip(times_s.tolist(), power_w.tolist(), strict=True)
        table.add([Reading(time_s=0.0, power_w=3.0)])
        table.add([Reading(time_s=t, power_w=p) for t, p in rows])
        table.add([Reading(time_s=10.0, power_w=7.0)])
        found = table.end(Stretch("compute", 0.0, 10.0, 1, 62))
        fine_s = np.linspace(0.0, 10.0, 1_000_001)
        first_w, last_w = power_w[0], 7.0
        held_w = np.interp(fine_s, [*times_s, 10.0], [*power_w, 7.0], left=first_w, right=last_w)
        assert found.energy is not None
        assert found.energy.value_j == pytest.approx(np.trapezoid(held_w, fine_s), rel=1e-6)

    def test_what_comes_later_makes_it_final(self) -> None:
        seen = Seen(PLUG, [("compute", 20.5, 5.5)])
        (early,), (late,) = seen.early, seen.found
        assert not early.final
        assert late.final
        assert late.sample_count > early.sample_count

    def test_the_first_short_phases_of_a_kind_are_not_believed(self) -> None:
        """Two equal readings do not prove that nothing happened between them."""
        seen = Seen(CHIP, [("compute", 0.3, 5.5), ("idle", 2.0, 3.0)] * 12)
        compute = seen.found[::2]
        assert not compute[0].resolved
        assert compute[-1].resolved
        assert all(each.most_j is not None for each in compute if not each.resolved)

    def test_looking_again_changes_nothing(self) -> None:
        seen = Seen(CHIP, [("compute", 0.3, 5.5), ("idle", 2.0, 3.0)] * 6, noise_w=0.3)
        again = [seen.meter.energy(stretch) for stretch in seen.stretches]
        assert again == [seen.meter.energy(stretch) for stretch in seen.stretches]
        assert again[-1] == seen.found[-1]


class TestInvariants:
    @every_family
    @given(plan=plans, shift_s=st.sampled_from([-1e4, 3.0, 1e6]))
    @settings(max_examples=25)
    def test_the_clock_may_begin_anywhere(self, family: str, plan: Plan, shift_s: float) -> None:
        one = Seen(FAMILIES[family], plan)
        # Looks are at random places of a period, so the readings themselves are moved.
        found = []
        readings = [replace(r, time_s=r.time_s + shift_s) for r in one.readings]
        first = one.stretches[0].first
        moved = PhaseMeter(FAMILIES[family])
        moved.add(readings[:first])
        for stretch in one.stretches:
            moved.add(readings[stretch.first : stretch.last])
            found.append(
                stretch._replace(start_s=stretch.start_s + shift_s, end_s=stretch.end_s + shift_s)
            )
            moved.end(found[-1])
        moved.add(readings[one.stretches[-1].last :])
        other = [moved.energy(stretch) for stretch in found]
        for a, b in zip(one.found, other, strict=True):
            assert (a.energy is None) == (b.energy is None)
            assert (a.sample_count, a.final) == (b.sample_count, b.final)
            if a.energy is not None and b.energy is not None:
                assert b.energy.value_j == pytest.approx(a.energy.value_j, rel=1e-4, abs=1e-4)

    @every_family
    @given(plan=plans, factor=st.sampled_from([0.01, 0.5, 30.0]))
    @settings(max_examples=25)
    def test_scales_with_the_power(self, family: str, plan: Plan, factor: float) -> None:
        def larger(reading: Reading) -> Reading:
            power_w, counter_j = reading.power_w, reading.counter_j
            return replace(
                reading,
                power_w=None if power_w is None else power_w * factor,
                counter_j=None if counter_j is None else counter_j * factor,
            )

        one = Seen(FAMILIES[family], plan, noise_w=0.1)
        other = Seen(FAMILIES[family], plan, noise_w=0.1, change=larger)
        for a, b in zip(one.found, other.found, strict=True):
            assert (a.energy is None, a.final) == (b.energy is None, b.final)
            if a.energy is not None and b.energy is not None:
                assert b.energy.value_j == pytest.approx(
                    factor * a.energy.value_j, rel=1e-6, abs=1e-9
                )
                assert b.energy.uncertainty_j == pytest.approx(
                    factor * a.energy.uncertainty_j, rel=1e-6, abs=1e-9
                )

    @every_family
    @given(plan=plans)
    @settings(max_examples=40)
    def test_phases_are_the_whole(self, family: str, plan: Plan) -> None:
        """Their sum is what was drawn, but for what straight lines and late edges leave."""
        plan = [("idle", 20.0, 3.0), *plan, ("idle", 20.0, 3.0)]
        description = FAMILIES[family]
        seen = Seen(description, plan)
        joules = [each or 0.0 for each in seen.joules]
        highest_w = max(p for _, _, p in plan)
        period_s = description.response.spread_s + 1.0 / description.rate_hz
        slack_j = 2.0 * highest_w * period_s * math.sqrt(len(plan))
        assert math.fsum(joules) == pytest.approx(math.fsum(seen.true_j), abs=slack_j)
        assert all(each >= 0.0 for each in joules)

    @given(plan=plans, seed=st.integers(0, 99))
    @settings(max_examples=40)
    def test_neighbours_that_no_reading_tells_apart_share_the_rest(
        self, plan: Plan, seed: int
    ) -> None:
        """Of phases that are too short for a plug, the sum is the area that the others leave."""
        short = [(kind, min(seconds, 0.5), power_w) for kind, seconds, power_w in plan]
        seen = Seen(PLUG, [("idle", 30.0, 3.0), *short, ("idle", 30.0, 3.0)], seed=seed)
        first, last = seen.stretches[0], seen.stretches[-1]
        edges = {s.last - 1 for s in seen.stretches} | {0, len(seen.readings) - 1, first.first - 1}
        spread = [r for place, r in enumerate(seen.readings) if place not in edges]
        fine_s = np.linspace(first.start_s, last.end_s, 400_001)
        shown_w = np.interp(
            fine_s,
            [r.time_s - PLUG.response.lag_s for r in spread],
            [r.power_w or 0.0 for r in spread],
        )
        whole_j = float(np.trapezoid(shown_w, fine_s))
        joules = [each for each in seen.joules if each is not None]
        # The first and last hold to the outer edges, where the power is the same as beyond. Where
        # a dip is seen longer than it was, what is left is less than nothing, and none is given.
        held_j = (seen.joules[0] or 0.0) + (seen.joules[-1] or 0.0)
        assert math.fsum(joules) == pytest.approx(max(whole_j, held_j), abs=0.02)

    @given(
        lengths_s=st.lists(
            st.tuples(st.floats(0.05, 4.0), st.floats(0.0, 3.0)), min_size=1, max_size=8
        )
    )
    @settings(max_examples=40)
    def test_what_is_drawn_between_phases_is_in_none(
        self, lengths_s: list[tuple[float, float]]
    ) -> None:
        """A topic that says the same all the time: each phase has just that, however short."""
        topic = meter(
            rate_hz=2.0, response=MeterResponse(delay_s=0.5, refresh_s=0.5, delay_sd_s=0.5)
        )
        plan = [
            each
            for phase_s, gap_s in lengths_s
            for each in (("compute", phase_s, 3.0), ("", gap_s, 3.0))
        ]
        seen = Seen(topic, plan)
        assert seen.joules == pytest.approx([3.0 * s.duration_s for s in seen.stretches], rel=1e-9)

    @every_family
    @given(
        gap_w=st.floats(0.5, 12.0),
        gap_s=st.floats(0.01, 20.0),
        short_s=st.floats(0.02, 0.5),
        is_before=st.booleans(),
    )
    @settings(max_examples=40)
    def test_a_short_phase_has_nothing_of_a_time_beside_it(
        self, family: str, gap_w: float, gap_s: float, short_s: float, is_before: bool
    ) -> None:
        gap, short = ("", gap_s, gap_w), ("upload", short_s, 3.0)
        between = [gap, short] if is_before else [short, gap]
        plan: Plan = [("compute", 10.0, 3.0), *between, ("idle", 10.0, 3.0)]
        seen = Seen(FAMILIES[family], plan)
        found = seen.found[1]
        if found.most_j is not None:
            assert found.energy is not None
            assert found.energy.value_j <= found.most_j + 1e-9

    @every_family
    @given(plan=plans, seed=st.integers(0, 999))
    @settings(max_examples=30)
    def test_bounds_hold(self, family: str, plan: Plan, seed: int) -> None:
        seen = Seen(FAMILIES[family], plan, seed=seed)
        for found, true_j in zip(seen.found, seen.true_j, strict=True):
            if not found.resolved and found.most_j is not None and family != "gauge":
                slack_j = 10.0 if family == "chip" and not found.sample_count else 1e-6
                assert true_j <= found.most_j * (1.0 + 1e-6) + slack_j

    @given(seed=st.integers(0, 99))
    @settings(max_examples=20)
    def test_thinned_readings_say_the_same(self, seed: int) -> None:
        """A recorder that keeps every other reading loses precision and no joules."""
        one = Seen(CHIP, [("compute", 60.0, 5.5)], seed=seed, noise_w=0.2)
        stretch = one.stretches[0]
        thinned = PhaseMeter(CHIP)
        thinned.add(one.readings[: stretch.first])
        kept = one.readings[stretch.first : stretch.last]
        thinned.add([*kept[:-1:2], kept[-1]])
        found = thinned.end(stretch._replace(last=thinned.count))
        (whole,) = one.found
        assert found.energy is not None
        assert whole.energy is not None
        assert found.energy.value_j == pytest.approx(
            whole.energy.value_j, abs=4.0 * found.energy.uncertainty_j
        )
        assert found.energy.uncertainty_j > whole.energy.uncertainty_j


def fails(start_s: float, end_s: float) -> Callable[[Reading], Reading]:
    def change(reading: Reading) -> Reading:
        failed = start_s <= reading.time_s <= end_s
        return Reading(time_s=reading.time_s) if failed else reading

    return change


class TestReadingsThatFail:
    @every_family
    def test_for_all_of_a_phase_it_has_none(self, family: str) -> None:
        plan = [("idle", 30.0, 3.0), ("compute", 30.0, 5.5), ("idle", 30.0, 3.0)]
        seen = Seen(FAMILIES[family], plan, change=fails(39.0, 75.0), after_s=60.0)
        assert seen.found[1].energy is None
        assert not seen.found[1].resolved
        assert seen.found[1].final
        assert seen.joules[0] == pytest.approx(90.0, rel=0.05)

    @every_family
    def test_for_a_quarter_of_a_phase_it_has_the_mean_and_more_doubt(self, family: str) -> None:
        plan = [("idle", 30.0, 3.0), ("compute", 40.0, 5.5), ("idle", 30.0, 3.0)]
        whole = Seen(FAMILIES[family], plan)
        holed = Seen(FAMILIES[family], plan, change=fails(55.0, 65.0))
        one, other = whole.found[1].energy, holed.found[1].energy
        assert one is not None
        assert other is not None
        assert other.value_j == pytest.approx(220.0, rel=0.02)
        if family != "counter":  # it counts on while it cannot be read
            assert other.uncertainty_j > one.uncertainty_j + 10.0

    @every_family
    def test_never_one_gives_no_number(self, family: str) -> None:
        plan = [("compute", 5.0, 5.5), ("upload", 0.0, 1.0), ("idle", 5.0, 3.0)]
        seen = Seen(FAMILIES[family], plan, change=fails(-1e9, 1e9))
        assert seen.joules == [None] * 3
        assert all(each.final for each in seen.found)

    @given(
        st.lists(st.sampled_from([None, math.nan, math.inf, -50.0, 0.0, 5.0, 1e5]), max_size=40),
        st.sampled_from([CHIP, MEANS, PLUG, GAUGE]),
    )
    def test_whatever_is_shown_no_figure_is_impossible(
        self, powers_w: list[float | None], description: MeterDescription
    ) -> None:
        table = PhaseMeter(description)
        readings = [Reading(time_s=0.25 * k, power_w=p) for k, p in enumerate(powers_w)]
        table.add([Reading(time_s=-1.0, power_w=3.0)])
        table.add(readings)
        found = table.end(Stretch("compute", 0.5, 8.0, 1, table.count))
        if found.energy is not None:
            assert found.energy.value_j >= 0.0
            PhaseRecord(
                phase="compute",
                start_s=0.5,
                duration_s=7.5,
                energy=found.energy,
                sample_count=found.sample_count,
                largest_gap_s=1.0,
            )

    def test_a_negative_glitch_is_doubt_and_no_energy(self) -> None:
        count = iter(range(1_000))

        def glitch(reading: Reading) -> Reading:
            return replace(reading, power_w=-50.0) if next(count) == 150 else reading

        seen = Seen(CHIP, [("compute", 10.0, 5.5)], change=glitch)
        (found,) = seen.found
        assert found.energy is not None
        assert abs(found.energy.value_j - 55.0) <= 2.0 * found.energy.uncertainty_j
        assert found.energy.uncertainty_j > 2.0
        below = Seen(CHIP, [("compute", 10.0, 5.5)], change=lambda r: replace(r, power_w=-0.1))
        assert below.joules == [0.0]
        assert not below.found[0].resolved


class TestClocks:
    @every_family
    def test_a_clock_that_is_set_back_loses_what_was_before(self, family: str) -> None:
        description = FAMILIES[family]
        seen = Seen(description, [("compute", 30.0, 5.5)])
        later = Seen(description, [("compute", 30.0, 5.5)], start_s=-500.0)
        table, old = seen.meter, seen.stretches[0]
        base = table.count
        table.add(later.readings[: later.stretches[0].first])
        stretch = later.stretches[0]
        table.add(later.readings[stretch.first : stretch.last])
        moved = stretch._replace(first=base + stretch.first, last=base + stretch.last)
        table.end(moved)
        table.add(later.readings[stretch.last :])
        found = table.energy(moved)
        assert found.resolved
        assert found.energy is not None
        assert found.energy.value_j == pytest.approx(165.0, rel=0.01)
        # Readings at the old phase's times come again; they are not of it.
        again = [replace(r, time_s=r.time_s + 500.0) for r in later.readings[stretch.first :]]
        table.add(again)
        assert table.energy(old) == PhaseEnergy(None, resolved=False)


class TestCounters:
    def readings(self, joules: list[float], **resets: Any) -> list[Reading]:
        return [
            Reading(time_s=0.1 * k, counter_j=j, reset=k in resets.get("at", ()))
            for k, j in enumerate(joules)
        ]

    def test_a_reset_inside_is_none_and_before_it_is_no_power(self) -> None:
        rising = [0.5 * k for k in range(60)]
        again = [*rising[:20], *(rising[k - 20] for k in range(20, 60))]
        table = PhaseMeter(COUNTER)
        table.add(self.readings(again, at={20}))
        assert table.end(Stretch("compute", 1.0, 3.0, 0, 30)).energy is None
        found = table.end(Stretch("compute", 2.1, 5.5, 21, 56))
        assert found.resolved
        assert found.energy is not None
        assert found.energy.value_j == pytest.approx(17.0, rel=0.02)

    def test_a_counter_that_runs_backwards_is_none(self) -> None:
        table = PhaseMeter(COUNTER)
        table.add(self.readings([0.0, 1.0, 2.0, 1.5, 3.0, 4.0]))
        assert table.end(Stretch("compute", 0.0, 0.5, 0, 6)).energy is None

    def test_a_counter_that_stands_still_is_none(self) -> None:
        table = PhaseMeter(COUNTER)
        table.add(self.readings([7.0] * 40))
        assert table.end(Stretch("compute", 0.0, 3.9, 0, 40)).energy is None

    def test_what_cannot_be_told_is_not_chosen_by_its_count(self) -> None:
        """Phases of 2.5 refreshes count two or three of them: both or none are resolved."""
        resolved = {
            Seen(COUNTER, [("idle", 2.0, 3.0), ("compute", 0.25, 5.5)], refresh_from_s=-offset)
            .found[1]
            .resolved
            for offset in np.linspace(0.0, 0.1, 23)
        }
        assert len(resolved) == 1

    def test_the_power_before_corrects_for_its_age(self) -> None:
        """Over all places of its refreshes, a short phase has no bias."""
        errors = []
        for offset in np.linspace(0.0, 0.1, 40, endpoint=False):
            seen = Seen(
                COUNTER, [("idle", 5.0, 3.0), ("compute", 0.73, 9.0)], refresh_from_s=-offset
            )
            assert seen.found[1].energy is not None
            errors.append(seen.found[1].energy.value_j / 6.57 - 1.0)
        assert abs(np.mean(errors)) < 0.01
        assert max(map(abs, errors)) < 0.15


class TestWhatRealMetersDo:
    def test_values_that_come_in_bursts(self) -> None:
        """A plug behind a bad network: nothing for five seconds, then five at once."""
        seen = Seen(meter(rate_hz=1.0), [("compute", 60.0, 5.5)])
        times = [r.time_s for r in seen.readings]
        bunched = PhaseMeter(meter(rate_hz=1.0))
        (stretch,) = seen.stretches
        bunched.add(seen.readings[: stretch.first])
        late = [math.ceil(t / 5.0) * 5.0 + 0.01 * (t % 5.0) for t in times]
        bunched.add(
            [
                replace(r, time_s=min(t, stretch.end_s))
                for r, t in zip(seen.readings, late, strict=True)
            ][stretch.first : stretch.last]
        )
        found = bunched.end(stretch)
        assert found.energy is not None
        assert found.energy.value_j == pytest.approx(330.0, rel=0.01)

    def test_a_constant_value_in_coarse_steps_is_as_sure_as_its_step(self) -> None:
        coarse = replace(PLUG, resolution_w=1.0)
        (found,) = Seen(coarse, [("compute", 100.0, 5.4)]).found
        assert found.energy is not None
        assert found.energy.value_j == pytest.approx(500.0)
        assert found.energy.uncertainty_j == pytest.approx(100.0 / math.sqrt(12.0), rel=0.01)

    def test_values_that_repeat_are_counted_once(self) -> None:
        """Fifty looks at one value are not fifty values."""
        once = meter(rate_hz=1.0, response=MeterResponse(refresh_s=1.0))
        often = replace(once, rate_hz=10.0)
        one = Seen(once, [("compute", 40.0, 5.5)], noise_w=0.5, refresh_from_s=0.0)
        ten = Seen(often, [("compute", 40.0, 5.5)], noise_w=0.5, refresh_from_s=0.0)
        (a,), (b,) = one.found, ten.found
        assert a.energy is not None
        assert b.energy is not None
        assert b.energy.uncertainty_j == pytest.approx(a.energy.uncertainty_j, rel=0.5)
        assert abs(b.energy.value_j - 220.0) <= 3.0 * b.energy.uncertainty_j

    def test_polls_that_are_slower_than_the_meter(self) -> None:
        fast = meter(rate_hz=2.0, response=MeterResponse(window_s=0.05, refresh_s=0.05))
        seen = Seen(fast, [("compute", 30.0, 5.5), ("upload", 30.0, 4.4)])
        assert all(each.resolved for each in seen.found)
        assert seen.joules == pytest.approx([165.0, 132.0], rel=1e-6)

    def test_one_reading_in_a_phase_is_not_resolved(self) -> None:
        seen = Seen(CHIP, [("compute", 0.06, 5.5), ("idle", 5.0, 3.0)] * 30)
        short = seen.found[::2]
        assert any(each.sample_count == 1 for each in short)
        # Nothing is known of what a kind of phase scatters until some had several values.
        assert not any(each.resolved for each in short[:10])
        assert all(each.energy is not None for each in short)

    def test_a_chip_at_10_hz_and_phases_of_20_ms(self) -> None:
        seen = Seen(MEANS, [("compute", 0.02, 5.5), ("upload", 0.02, 4.4)] * 100)
        assert not any(each.resolved for each in seen.found)
        joules = [each for each in seen.joules if each is not None]
        assert math.fsum(joules) == pytest.approx(math.fsum(seen.true_j), rel=0.1)

    def test_coverage_of_a_wandering_power(self) -> None:
        """Monte Carlo through the emulated meter, with a power that is not constant."""
        scores = []
        for seed in range(30):
            rng = np.random.default_rng(seed)
            clock = VirtualClock(0.0)
            late = LateMeter(
                PLUG,
                clock=clock,
                noise_w=0.02,
                gain=1.0,
                resting_power_w=3.0,
                refresh_from_s=-rng.uniform(),
            )
            late.reseed(rng)
            ledger, truth, state = Ledger(clock, late), [], 0.0
            for kind in ("idle", "compute", "upload") * 4:
                before_j = late.true_energy_j
                with ledger.phase(kind):  # type: ignore[arg-type]
                    for _ in range(120):
                        state = 0.9 * state + 0.44 * rng.normal()
                        late.observe(0.1, max(0.5, BASE_W[kind] * (1.0 + 0.1 * state)))
                truth.append(late.true_energy_j - before_j)
            late.observe(20.0, 3.0)
            records = ledger.take(1)
            ledger.begin("idle")
            corrected = ledger.corrections().get(1, ())
            records = (*(r for r in records if r.final), *corrected)
            assert len(records) == len(truth)
            for record, true_j in zip(sorted(records, key=lambda r: r.start_s), truth, strict=True):
                if record.resolved and record.energy is not None:
                    scores.append((record.energy.value_j - true_j) / record.energy.uncertainty_j)
        assert len(scores) > 250
        assert 0.92 <= np.mean(np.abs(scores) <= 2.0) <= 0.99
        assert abs(np.mean(scores)) < 0.5


@pytest.mark.parametrize(
    ("family", "length_s", "least"),
    [("plug", 4.0, 4.0 * 6.0 / math.sqrt(12.0)), ("gauge", 3.0, 13.5)],
)
def test_a_phase_of_one_value_may_have_had_any_power_around_it(
    family: str, length_s: float, least: float
) -> None:
    """Of a mean, what was shown around it; of an instant, half of the figure."""
    description = replace(FAMILIES[family], relative_uncertainty=0.0)
    plan = [("idle", 20.0, 3.0), ("compute", length_s, 9.0), ("idle", 20.0, 3.0)]
    alone = 0
    for seed in range(20):
        found = Seen(description, plan, seed=seed).found[1]
        if found.sample_count != 1:
            continue
        alone += 1
        assert found.energy is not None and not found.resolved
        assert found.energy.uncertainty_j >= 0.99 * least
    assert alone


def test_the_sum_of_a_run_is_as_sure_as_its_parts() -> None:
    """Phases of which a plug shows one mean each: their sum is known far better than they are."""
    rng, plan = np.random.default_rng(5), []
    for _ in range(20):
        powers_w = {kind: base_w * rng.uniform(0.8, 1.2) for kind, base_w in BASE_W.items()}
        plan += [("compute", 4.0, powers_w["compute"]), ("upload", 2.5, powers_w["upload"])]
        plan += [("idle", rng.uniform(2.0, 4.0), BASE_W["idle"])]
    seen = Seen(replace(PLUG, relative_uncertainty=0.01), plan)
    whole = total([each.energy for each in seen.found if each.energy], one_meter=True)
    assert whole is not None
    true_j = math.fsum(seen.true_j)
    assert abs(whole.value_j - true_j) < 2.0 * whole.uncertainty_j < 0.05 * true_j


@every_family
def test_the_time_that_is_enough_measures_the_resting_power(family: str) -> None:
    for description in (
        FAMILIES[family],
        meter(rate_hz=1.0, response=MeterResponse(refresh_s=3.0)),
    ):
        clock = VirtualClock(0.0)
        late = LateMeter(description, clock=clock, noise_w=0.02, gain=1.0, resting_power_w=3.0)
        ledger = Ledger(clock, late)
        with ledger.resting("before"):
            late.observe(enough_s(description), 3.0)
        evidence = ledger.take_evidence()
        assert evidence is not None
        (rest,) = evidence.rests
        assert rest.power_w == pytest.approx(3.0, abs=0.2)


class TestCost:
    @every_family
    def test_thousands_of_tiny_phases_are_not_kept(self, family: str) -> None:
        clock, ledger, late = self._ledger(FAMILIES[family])
        most = 0
        for number in range(1_000):
            with ledger.phase("compute" if number % 2 else "upload"):
                late.observe(0.01, 5.0)
            most = max(most, ledger._meter.kept)
        # Some seconds of readings and phases: of 5,700 after 2,000 phases, as after 8,000.
        assert most < 6_000
        records = ledger.take()
        assert len(records) == 1_000
        assert clock.now_s() == pytest.approx(10.0)

    @every_family
    def test_a_phase_that_is_never_resolved_does_not_hold_readings(self, family: str) -> None:
        """Nobody takes the records, and the meter has died."""
        _, ledger, late = self._ledger(FAMILIES[family], dies_at_s=5.0)
        for _ in range(3_000):
            with ledger.phase("compute"):
                late.observe(1.0, 5.0)
        assert ledger._meter.kept < 3_000
        assert ledger._powers.take() is None or len(ledger._powers._edges_s) < 500
        assert not ledger._waiting or len(ledger._waiting) < 100
        records = ledger.take()
        assert len(records) == 3_000
        assert all(each.energy is None for each in records[100:])

    def _ledger(
        self, description: MeterDescription, dies_at_s: float = math.inf
    ) -> tuple[VirtualClock, Ledger, LateMeter]:
        class Dying(LateMeter):
            def mark(self) -> list[Reading]:
                return [
                    r if r.time_s < dies_at_s else Reading(time_s=r.time_s) for r in super().mark()
                ]

        clock = VirtualClock(0.0)
        late = Dying(description, clock=clock, noise_w=0.0, gain=1.0, resting_power_w=3.0)
        return clock, Ledger(clock, late), late

"""A meter watched during a run: what is doubted, when it is said, and what is not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from worlds import Ina226, OdroidXu3, write

from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription
from fimi.energy.meters.detect import MeterSettings, detect, open_meter, open_recorder
from fimi.energy.meters.hwmon import open_hwmon
from fimi.energy.meters.plausibility import BoardLimits, implausible, limits
from fimi.energy.meters.response import MeterResponse
from fimi.energy.meters.sampler import Sampler
from fimi.energy.meters.sums import MIRRORED_LOOKS, MeterSum
from fimi.energy.meters.watch import DOUBTS_MAX, Watch

PI = BoardLimits("Raspberry Pi 5", 1.2, 30.0)


class Scripted(Meter):
    """A meter whose looks the test decides."""

    def __init__(
        self,
        *,
        resolution_w: float = 0.001,
        refresh_s: float = 0.1,
        scope: Scope = "board",
        counts: bool = False,
        name: str = "x",
    ) -> None:
        self.now: Look = Look(power_w=5.0)
        self.why = "the cable is out"
        self.own: tuple[str, ...] = ()
        self.made_of = frozenset({f"hwmon:{name}"})
        self._description = MeterDescription(
            source=f"hwmon:{name}",
            kind="measured",
            scope=scope,
            rate_hz=1.0 / refresh_s,
            resolution_w=0.0 if counts else resolution_w,
            counts=counts,
            response=MeterResponse(refresh_s=refresh_s),
        )

    def look(self, time_s: float) -> Look:
        return self.now

    def doubts(self) -> tuple[str, ...]:
        return self.own

    def why_nothing(self) -> str:
        return self.why


def told(watch: Watch, looks: Iterator[Look] | list[Look], *, every_s: float, edges: int) -> str:
    """Doubts after these looks, with edges of phases spread among them."""
    looks = list(looks)
    for place, look in enumerate(looks):
        if edges and place % max(1, len(looks) // edges) == 0:
            watch.edge()
        watch.see(place * every_s, look)
    return "; ".join(watch.take())


def power(watts: float, times: int) -> list[Look]:
    return [Look(power_w=watts)] * times


class TestSilence:
    def test_is_said_once_and_again_when_it_is_over(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        watch = Watch(Scripted())
        for place in range(10):
            watch.see(0.1 * place, Look(power_w=5.0))
        for place in range(10, 60):
            watch.see(0.1 * place, NOTHING)
        assert [r.message for r in caplog.records] == [
            "the meter hwmon:x shows nothing any more: the cable is out"
        ]
        (doubt,) = watch.take()
        assert doubt.startswith("hwmon:x: it showed nothing for")
        (goes_on,) = watch.take()
        assert "the cable is out" in goes_on, "an outage that goes on is told in each report"
        watch.see(6.0, Look(power_w=5.0))
        assert caplog.records[-1].message.startswith("the meter hwmon:x reads again, after 5")
        (over,) = watch.take()
        assert over == "hwmon:x: it showed nothing for 5 s: the cable is out"
        assert watch.take() == ()
        assert len(caplog.records) == 2

    def test_comes_within_seconds(self, caplog: pytest.LogCaptureFixture) -> None:
        watch = Watch(Scripted())
        watch.see(0.0, Look(power_w=5.0))
        for place in range(1, 4):
            assert not caplog.records
            watch.see(float(place), NOTHING)
        assert len(caplog.records) == 1

    def test_a_lost_answer_is_no_outage(self, caplog: pytest.LogCaptureFixture) -> None:
        watch = Watch(Scripted())
        looks = ([Look(power_w=5.0)] * 5 + [NOTHING] * 2) * 20
        assert told(watch, looks, every_s=1.0, edges=0) == ""
        assert not caplog.records

    def test_a_meter_that_raises_costs_its_readings_and_not_the_thread(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Faulty(Scripted):
            fails = False

            def look(self, time_s: float) -> Look:
                if self.fails:
                    raise RuntimeError("a bug of a driver")
                return self.now

        meter = Faulty()
        sampler = Sampler(meter, MonotonicClock(), rate_hz=10.0)
        meter.fails = True
        wait_until(lambda: "nothing any more: RuntimeError: a bug of a driver" in caplog.text)
        meter.fails = False
        wait_until(lambda: "reads again" in caplog.text)
        sampler.close()
        assert caplog.text.count("cannot be read") == 1

    def test_on_the_thread_of_a_sampler(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = Ina226(tmp_path, VirtualClock())
        recorder = open_recorder(MeterSettings(rate_hz=50.0), tmp_path, MonotonicClock())
        assert isinstance(recorder, Sampler)
        world.break_("vanish")
        wait_until(lambda: "shows nothing any more" in caplog.text)
        assert "power1_input does not exist" in caplog.text
        world.mend()
        wait_until(lambda: "reads again" in caplog.text)
        recorder.close()
        (doubt,) = recorder.take_doubts()
        assert "power1_input does not exist" in doubt


def wait_until(done: object) -> None:
    import threading

    pause = threading.Event()
    for _ in range(3000):
        if done():  # type: ignore[operator]
            return
        pause.wait(0.01)
    raise AssertionError("never")


class TestFrozen:
    def test_the_same_to_the_last_digit_over_phases(self) -> None:
        watch = Watch(Scripted(), PI)
        said = told(watch, power(4.123, 700), every_s=0.1, edges=10)
        assert "4.123 W to the last digit" in said

    @pytest.mark.parametrize(
        ("resolution_w", "watts", "times", "edges"),
        [
            (1.0, 6.0, 5000, 50),  # a plug that shows whole watts
            (0.1, 9.3, 5000, 50),
            (0.001, 4.123, 700, 2),  # nothing changes: the board rests
            (0.001, 4.123, 80, 40),  # too short
        ],
    )
    def test_constant_power_is_not_frozen(
        self, resolution_w: float, watts: float, times: int, edges: int
    ) -> None:
        watch = Watch(Scripted(resolution_w=resolution_w), PI)
        assert told(watch, power(watts, times), every_s=0.1, edges=edges) == ""

    def test_a_slow_meter_is_waited_for(self) -> None:
        watch = Watch(Scripted(refresh_s=10.0), PI)
        assert told(watch, power(4.123, 900), every_s=1.0, edges=20) == ""
        assert "last digit" in told(watch, power(4.123, 1100), every_s=1.0, edges=20)

    @given(st.lists(st.floats(2.0, 20.0), min_size=2, max_size=200), st.integers(0, 20))
    def test_what_moves_is_never_doubted(self, watts: list[float], edges: int) -> None:
        looks = [Look(power_w=w + 1e-9 * place) for place, w in enumerate(watts)]
        watch = Watch(Scripted(), PI)
        assert told(watch, looks * 5, every_s=0.5, edges=edges) == ""

    def test_a_counter_that_stands_still(self) -> None:
        meter = Scripted(counts=True)
        watch = Watch(meter)
        assert told(watch, [Look(counter_j=7.0)] * 150, every_s=0.1, edges=3) == ""
        meter.step_j = 1e-3
        assert "stands still" in told(watch, [Look(counter_j=7.0)] * 150, every_s=0.1, edges=3)
        coarse = Scripted(counts=True)
        coarse.step_j = 3600.0  # whole watt-hours
        watch = Watch(coarse)
        assert told(watch, [Look(counter_j=7.0)] * 1500, every_s=0.1, edges=3) == ""


class TestImplausible:
    @pytest.mark.parametrize("scope", ["cpu", "gpu", "module", "board", "wall"])
    def test_zero_never_passes(self, scope: Scope, caplog: pytest.LogCaptureFixture) -> None:
        meter = Scripted(scope=scope)
        assert "0 W" in implausible(meter.describe(), 0.0, PI)[0]
        said = told(Watch(meter, PI), power(0.0, 30), every_s=0.1, edges=0)
        assert "it shows 0 W" in said
        assert caplog.text.count("0 W") == 1

    def test_more_and_less_than_the_board_draws(self) -> None:
        watch = Watch(Scripted(), PI)
        assert "more than a Raspberry Pi 5" in told(watch, power(30.5, 20), every_s=0.1, edges=0)
        watch = Watch(Scripted(), PI)
        assert "less than a Raspberry Pi 5" in told(watch, power(0.3, 20), every_s=0.1, edges=0)
        watch = Watch(Scripted(scope="cpu"), PI)
        assert told(watch, power(0.3, 20), every_s=0.1, edges=0) == ""

    @pytest.mark.parametrize(
        ("watts", "said"), [(500.0, "more than a"), (0.3, "less than a"), (6.0, "")]
    )
    def test_a_counter_of_what_the_board_cannot_draw(self, watts: float, said: str) -> None:
        watch = Watch(Scripted(counts=True, refresh_s=0.01), PI)
        looks = [Look(counter_j=watts * 0.1 * place) for place in range(250)]
        found = told(watch, looks, every_s=0.1, edges=0)
        assert said in found and bool(said) == bool(found)

    @pytest.mark.parametrize("every_s", [0.3, 1.3, 7.0])
    def test_a_counter_that_moves_seldom_is_judged_from_move_to_move(self, every_s: float) -> None:
        """28 W are near the most of this board, whatever the looks catch."""
        watch = Watch(Scripted(counts=True, refresh_s=0.01), PI)
        times_s = [0.1 * place for place in range(600)]
        looks = [Look(counter_j=28.0 * every_s * (at_s // every_s)) for at_s in times_s]
        assert "can draw" not in told(watch, looks, every_s=0.1, edges=0)

    def test_a_counter_in_coarse_steps_is_not_doubted_for_its_steps(self) -> None:
        """Watt-hours of 5 W: nothing for minutes, then 3600 J at once."""
        coarse = Scripted(counts=True, refresh_s=1.0)
        coarse.step_j = 3600.0
        coarse._description = replace(coarse._description, resolution_j=3600.0)
        looks = [Look(counter_j=3600.0 * (place // 720)) for place in range(3000)]
        assert told(Watch(coarse, PI), looks, every_s=1.0, edges=0) == ""

    def test_the_model_of_the_board(self, tmp_path: Path) -> None:
        assert limits(tmp_path).most_w > 1000.0
        write(tmp_path / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        found = limits(tmp_path)
        assert found.model == "Raspberry Pi 4 Model B Rev 1.4"
        assert found.most_w < 30.48 < limits_of(tmp_path, "NVIDIA Jetson AGX Orin").most_w

    def test_what_a_meter_says_itself_is_bounded(self) -> None:
        meter = Scripted()
        meter.own = tuple(f"{number:030d} is odd" + "x" * 900 for number in range(40))
        watch = Watch(meter)
        for place in range(5):
            watch.see(float(place), Look(power_w=5.0))
        found = watch.take()
        assert 1 <= len(found) <= DOUBTS_MAX
        assert max(map(len, found)) <= 300

    def test_a_doubt_whose_numbers_move_is_one(self, caplog: pytest.LogCaptureFixture) -> None:
        meter = Scripted()
        watch = Watch(meter)
        for place in range(20):
            meter.own = (f"{9.6 + 0.1 * place:.3g} W: odd", "part 1: wet", "part 2: wet")
            watch.see(float(place), Look(power_w=5.0))
        assert len(watch.take()) == 3
        assert caplog.text.count("odd") == 1

    def test_two_parts_that_always_show_the_same(self) -> None:
        one, other = Scripted(name="a"), Scripted(name="b")
        both = MeterSum([one, other])
        for place in range(MIRRORED_LOOKS + 3):
            assert both.doubts() == ()
            one.now = other.now = Look(power_w=3.0 + place)
            if both.look(float(place)).power_w and place >= MIRRORED_LOOKS:
                break
        assert "counted twice" in both.doubts()[0]
        other.now = Look(power_w=1.0)
        both.look(99.0)
        assert both.doubts() == ()


def limits_of(root: Path, model: str) -> BoardLimits:
    write(root / "proc/device-tree/model", f"{model}\0")
    return limits(root)


class TestChips:
    def shunt(self, root: Path, watts: float, micro_ohm: int = 10_000, amperes: int = 0) -> Path:
        folder = root / "sys/class/hwmon/hwmon1"
        write(folder / "name", "ina219")
        write(folder / "shunt_resistor", micro_ohm)
        write(folder / "in1_input", 5080)
        write(folder / "curr1_input", amperes or round(watts / 5.08 * 1e3))
        write(folder / "power1_input", round(watts * 1e6))
        return folder

    def test_a_current_that_turns_round_during_a_run(self, tmp_path: Path) -> None:
        """The charger of a UPS begins; the power register knows no sign."""
        folder = self.shunt(tmp_path, 5.0, 100_000)
        meter = open_meter("hwmon", MeterSettings(), tmp_path, VirtualClock())
        watch = Watch(meter)
        for place in range(30):
            watch.see(0.1 * place, meter.look(0.1 * place))
        assert watch.take() == ()
        write(folder / "curr1_input", -984)
        meter.look(3.0)
        write(folder / "curr1_input", 984)
        for place in range(31, 60):
            watch.see(0.1 * place, meter.look(0.1 * place))
        assert watch.take() == (), "once is nothing"
        write(folder / "curr1_input", -984)
        for place in range(60, 110):
            watch.see(0.1 * place, meter.look(0.1 * place))
        (doubt,) = watch.take()
        assert "its current is negative" in doubt

    def test_a_shunt_that_nobody_has_set(self, tmp_path: Path) -> None:
        folder = self.shunt(tmp_path, 30.48)
        (doubt,) = open_meter("hwmon", MeterSettings(), tmp_path, VirtualClock()).doubts() or ("",)
        found = {e.name: e for e in detect(MeterSettings(), tmp_path, VirtualClock())}["hwmon"]
        assert "10 mΩ" in doubt or "10 mΩ" in found.doubts[0]
        assert "3.05 W" in found.doubts[0]
        assert f"echo 100000 | sudo tee {folder}/shunt_resistor" in found.doubts[0]
        assert "range ±32 A" in found.facts

    def test_it_is_doubted_in_a_run_whose_power_moves(self, tmp_path: Path) -> None:
        folder = self.shunt(tmp_path, 30.48)
        meter = open_meter("hwmon", MeterSettings(), tmp_path, VirtualClock())
        watch = Watch(meter)
        for number in range(5):
            write(folder / "power1_input", 30_480_000 + 700_000 * number)
            watch.see(0.1 * number, meter.look(0.0))
        (doubt,) = watch.take()
        assert "10 mΩ" in doubt and "33.3 W are 3.33 W" in doubt, "that of the last look, once"
        write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
        found = {e.name: e for e in detect(MeterSettings(), tmp_path, VirtualClock())}["hwmon"]
        assert "more than a Raspberry Pi 5" in found.doubts[0]

    @pytest.mark.parametrize(("watts", "micro_ohm"), [(4.0, 10_000), (4.0, 100_000)])
    def test_what_a_board_draws_is_not_doubted(
        self, tmp_path: Path, watts: float, micro_ohm: int
    ) -> None:
        self.shunt(tmp_path, watts, micro_ohm)
        write(tmp_path / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        found = {e.name: e for e in detect(MeterSettings(), tmp_path, VirtualClock())}["hwmon"]
        assert found.doubts == ()

    def test_at_the_end_of_its_range(self, tmp_path: Path) -> None:
        folder = self.shunt(tmp_path, 3.19 * 5.08, 100_000)
        meter = open_hwmon(tmp_path)
        meter.look(0.0)
        assert "end of its range, ±3.2 A" in meter.doubts()[0]
        write(folder / "power1_input", 14_000_000)
        meter.look(0.0)
        assert meter.doubts() == ()

    def test_a_reversed_shunt(self, tmp_path: Path) -> None:
        self.shunt(tmp_path, 4.0, amperes=-800)
        meter = open_hwmon(tmp_path)
        meter.look(0.0)
        assert "negative" in meter.doubts()[0]

    def test_steps_follow_from_the_shunt(self, tmp_path: Path) -> None:
        self.shunt(tmp_path, 4.0, 100_000)
        assert open_hwmon(tmp_path).describe().resolution_w == pytest.approx(0.002)

    def test_a_sum_says_which_part(self, tmp_path: Path) -> None:
        OdroidXu3(tmp_path, VirtualClock())
        names = ("hwmon:ina231@4-0040", "hwmon:ina231@4-0041")
        meter = open_recorder(MeterSettings(meter=names, rate_hz=1e-3), tmp_path, VirtualClock())
        file = tmp_path / "sys/class/hwmon/hwmon1/power1_input"
        file.unlink()
        assert isinstance(meter, Sampler)
        meter.poll()
        assert not meter.last.power_w
        assert f"hwmon:ina231@4-0041: {file} does not exist" == meter.meter.why_nothing()
        meter.close()

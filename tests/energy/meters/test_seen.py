"""What the doctor shows of a counter: its power, by two looks, or that it stands still."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_rapl import set_counter, zone
from worlds import GraphicsCard, Ina226, TwoPackages, write

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import Look, Meter, MeterDescription
from fimi.energy.meters.detect import MeterSettings, detect
from fimi.energy.meters.rapl import open_rapl
from fimi.energy.meters.response import MeterResponse
from fimi.energy.meters.seen import Found, look_again, look_at


def seen_twice(meter: Meter, clock: VirtualClock, root: Path, seconds: float = 0.5) -> Found:
    before, then_s = meter.look(clock.now_s()), clock.now_s()
    clock.advance(seconds)
    return look_again(look_at("it", meter, before, root), meter, before, then_s, root, clock)


class Counting(Meter):
    """A counter of 12 W, with a refresh and a step."""

    power_w = 12.0

    def __init__(self, *, refresh_s: float, step_j: float | None) -> None:
        self.step_j = step_j
        self._description = MeterDescription(
            source="some:counter",
            kind="measured",
            scope="board",
            rate_hz=1.0,
            counts=True,
            response=MeterResponse(refresh_s=refresh_s),
        )

    def look(self, time_s: float) -> Look:
        return Look(counter_j=self.power_w * time_s)


class TestPower:
    def test_every_counter_has_one_and_there_is_one_wait(self, tmp_path: Path) -> None:
        clock = VirtualClock()
        world = TwoPackages(tmp_path, clock)
        world.draw(12.0)
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            world.wait(seconds)

        both = ("rapl:package-0", "rapl:package-1")
        listed = detect(MeterSettings(), tmp_path, clock, also=[both, "rapl"], wait=wait)
        found = {each.name: each for each in listed}
        shown = {"rapl": 12.0, "rapl:package-1": 3.0, "rapl:package-0": 9.0}
        for name, power_w in {**shown, " + ".join(both): 12.0}.items():
            assert found[name].power_w == pytest.approx(power_w, rel=1e-3)
            assert (found[name].over_s, found[name].doubts) == (pytest.approx(0.5), ())
        assert waits == [0.5]
        assert [each.name for each in listed].count("rapl") == 1

    def test_nothing_is_waited_for_without_a_counter(self, tmp_path: Path) -> None:
        Ina226(tmp_path, VirtualClock())
        found = detect(MeterSettings(), tmp_path, VirtualClock(), wait=pytest.fail)
        assert {each.name: each.over_s for each in found}["hwmon"] == 0.0

    def test_one_look_is_enough_for_those_who_do_not_ask(self, tmp_path: Path) -> None:
        TwoPackages(tmp_path, VirtualClock())
        found = {each.name: each for each in detect(MeterSettings(), tmp_path, VirtualClock())}
        assert found["rapl"].description is not None
        assert found["rapl"].power_w is None

    @pytest.mark.parametrize(
        ("refresh_s", "step_j"), [(1.0, 1e-3), (0.1, 36e3), (0.1, None)], ids=str
    )
    def test_too_coarse_for_half_a_second(
        self, tmp_path: Path, refresh_s: float, step_j: float | None
    ) -> None:
        meter = Counting(refresh_s=refresh_s, step_j=step_j)
        found = seen_twice(meter, VirtualClock(), tmp_path)
        assert (found.power_w, found.doubts) == (None, ())
        assert "too coarse" in found.facts[-1]

    def test_a_card_by_its_counter(self, tmp_path: Path) -> None:
        clock = VirtualClock()
        world = GraphicsCard(tmp_path, clock)
        world.draw(80.0)
        meter = world.open()
        before, then_s = meter.look(clock.now_s()), clock.now_s()
        first = look_at("nvml", meter, before, tmp_path)
        world.wait(0.5)
        found = look_again(first, meter, before, then_s, tmp_path, clock)
        assert found.power_w == pytest.approx(80.0, rel=1e-3)

    def test_one_that_the_board_cannot_draw_is_doubted(self, tmp_path: Path) -> None:
        write(tmp_path / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        meter = Counting(refresh_s=0.1, step_j=1e-3)
        assert seen_twice(meter, VirtualClock(), tmp_path).doubts == ()
        meter.power_w = 120.0
        found = seen_twice(meter, VirtualClock(), tmp_path)
        assert found.power_w == pytest.approx(120.0)
        assert "120 W is more than a Raspberry Pi 4 Model B Rev 1.4 can draw" in found.doubts[0]


class TestStandingStill:
    def test_on_this_machine_it_is_doubted(self, tmp_path: Path) -> None:
        zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
        found = seen_twice(open_rapl(tmp_path), VirtualClock(), Path("/"))
        assert found.power_w == 0.0
        assert "0 J in 0.5 s: its counter stands still" in found.doubts[0]

    def test_a_copy_of_files_is_said_to_be_one_and_not_doubted(self, tmp_path: Path) -> None:
        zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
        found = seen_twice(open_rapl(tmp_path), VirtualClock(), tmp_path)
        assert (found.power_w, found.doubts) == (None, ())
        assert "0 J in 0.5 s: a copy of files does not count on" in found.facts[-1]

    def test_graphics_may_be_switched_off(self, tmp_path: Path) -> None:
        zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
        zone(tmp_path, "intel-rapl:0:1", "uncore", 0)
        found = seen_twice(open_rapl(tmp_path, "uncore-0"), VirtualClock(), Path("/"))
        assert (found.power_w, found.doubts) == (0.0, ())

    def test_a_wrap_is_no_standstill(self, tmp_path: Path) -> None:
        counter = zone(tmp_path, "intel-rapl:0", "package-0", 999_000_000, range_uj=1_000_000_000)
        clock, meter = VirtualClock(), open_rapl(tmp_path)
        before = meter.look(0.0)
        first = look_at("it", meter, before, Path("/"))
        clock.advance(0.5)
        set_counter(counter, 1_999_999)
        found = look_again(first, meter, before, 0.0, Path("/"), clock)
        assert found.power_w == pytest.approx(6.0)

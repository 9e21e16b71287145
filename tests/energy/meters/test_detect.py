"""Choosing among meters, combining two, and saying why others cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import (
    AgxOrin,
    Ina226,
    JetsonNano,
    LaptopBattery,
    OrinNano,
    TwoPackages,
    write,
)

from fimi.energy.clock import VirtualClock
from fimi.energy.ledger import Ledger
from fimi.energy.meters import DeclaredPower, MeterUnavailableError
from fimi.energy.meters.combine import Combined
from fimi.energy.meters.detect import MeterPair, MeterSettings, detect, open_meter, open_recorder
from fimi.energy.meters.ina3221 import open_ina3221
from fimi.energy.meters.replay import Replay


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def chosen(root: Path, clock: VirtualClock, **settings: object) -> str:
    recorder = open_recorder(MeterSettings(**settings), root, clock)  # type: ignore[arg-type]
    recorder.close()
    return recorder.describe().source


class TestChoice:
    def test_auto_takes_what_sees_most_and_splits(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        TwoPackages(tmp_path, clock)
        assert chosen(tmp_path, clock).startswith("rapl")
        Ina226(tmp_path, clock)
        recorder = open_recorder(MeterSettings(rate_hz=1e-3), tmp_path, clock)
        assert isinstance(recorder, Combined)
        assert recorder.describe().source == "hwmon:ina226"
        assert recorder.split.describe().source.startswith("rapl")
        recorder.close()

    def test_declared_comes_last_and_nothing_is_guessed(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        recorder = open_recorder(MeterSettings(constant_power_w=3.0), tmp_path, clock)
        assert isinstance(recorder, DeclaredPower)
        with pytest.raises(MeterUnavailableError, match="constant_power_w") as raised:
            open_recorder(MeterSettings(), tmp_path, clock)
        assert "ina3221: no INA3221" in str(raised.value)

    def test_by_name(self, tmp_path: Path, clock: VirtualClock) -> None:
        OrinNano(tmp_path, clock)
        assert chosen(tmp_path, clock, meter="ina3221") == "ina3221:VDD_IN"
        assert chosen(tmp_path, clock, meter="ina3221-cpu") == "ina3221:VDD_CPU_GPU_CV"
        with pytest.raises(MeterUnavailableError, match=r"no meter 'wattmeter'.*declared"):
            chosen(tmp_path, clock, meter="wattmeter")

    def test_an_unknown_hwmon_device_needs_a_scope(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        folder = tmp_path / "sys/class/hwmon/hwmon1"
        write(folder / "name", "amdgpu")
        write(folder / "power1_average", 9_000_000)
        with pytest.raises(MeterUnavailableError, match="meter_scope"):
            open_meter("hwmon:amdgpu", MeterSettings(), tmp_path, clock)
        meter = open_meter("hwmon:amdgpu", MeterSettings(scope="gpu"), tmp_path, clock)
        assert meter.describe().scope == "gpu"
        assert meter.look(0.0).power_w == pytest.approx(9.0)

    def test_a_list_of_all_with_reasons(self, tmp_path: Path, clock: VirtualClock) -> None:
        JetsonNano(tmp_path, clock)
        found = {each.name: each for each in detect(MeterSettings(), tmp_path, clock)}
        usable = found["ina3221"].description
        assert usable is not None
        assert (usable.scope, usable.rate_hz) == ("module", 10.0)
        assert found["ina3221"].power_w == pytest.approx(4.0)
        assert all(each.problem for each in found.values() if each.description is None)
        assert {"plug", "rapl", "nvml", "battery", "declared"} <= found.keys()


class TestCombined:
    def test_the_share_lies_in_the_record(self, tmp_path: Path, clock: VirtualClock) -> None:
        board, cpu = Ina226(tmp_path, clock), TwoPackages(tmp_path, VirtualClock())
        pair = MeterSettings(meter=MeterPair(total="hwmon", split="rapl"), rate_hz=1e-3)
        recorder = open_recorder(pair, tmp_path, clock)
        ledger = Ledger(clock, recorder)
        board.draw(7.0)
        cpu.draw(3.0)
        with ledger.phase("compute"):
            cpu.wait(2.0)
            board.wait(2.0)
        recorder.close()
        (record,) = ledger.take()
        assert record.energy is not None
        assert record.cpu is not None
        assert record.energy.value_j == pytest.approx(14.0)
        assert record.cpu.value_j == pytest.approx(6.0)
        assert (record.energy.scope, record.cpu.scope) == ("board", "cpu")

    def test_the_narrower_meter_is_no_total(self, tmp_path: Path, clock: VirtualClock) -> None:
        Ina226(tmp_path, clock)
        TwoPackages(tmp_path, clock)
        wrong = MeterSettings(meter=MeterPair(total="rapl", split="hwmon"))
        with pytest.raises(MeterUnavailableError, match="sees more"):
            open_recorder(wrong, tmp_path, clock)


class TestTrouble:
    def test_rails_that_nobody_knows_are_not_added(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        world = AgxOrin(tmp_path, clock)
        write(world.folder() / "in3_label", "VDD_NEW")
        with pytest.raises(MeterUnavailableError, match=r"VDD_NEW.*count twice"):
            open_ina3221(tmp_path)

    def test_a_battery_on_the_charger(self, tmp_path: Path, clock: VirtualClock) -> None:
        LaptopBattery(tmp_path, clock).break_("charging")
        with pytest.raises(MeterUnavailableError, match=r"Charging.*Unplug"):
            open_meter("battery", MeterSettings(), tmp_path, clock)

    def test_two_batteries(self, tmp_path: Path, clock: VirtualClock) -> None:
        LaptopBattery(tmp_path, clock)
        write(tmp_path / "sys/class/power_supply/BAT1/type", "Battery")
        with pytest.raises(MeterUnavailableError, match="BAT0, BAT1"):
            open_meter("battery", MeterSettings(), tmp_path, clock)

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("", "columns are none"),
            ("t,p\n1,2\n", "columns are t, p"),
            ("time_s,power_w\n0,1\n", "two rows"),
            ("time_s,power_w\n0,1\n1,x\n", "line 3"),
            ("time_s,power_w\n0,1\n1,nan\n", "line 3.*finite"),
            ("time_s,power_w\n0,1\n1,-2\n", "line 3.*not negative"),
            ("time_s,power_w\n0,1\n0,2\n", "does not follow"),
            ("time_s,energy_j\n0,5\n1,4\n", "is below 5"),
            ("time_s,power_w\n0\n1,1\n", "line 2"),
        ],
    )
    def test_a_bad_recording_names_file_and_line(
        self, tmp_path: Path, clock: VirtualClock, text: str, what: str
    ) -> None:
        path = tmp_path / "run.csv"
        path.write_text(text)
        with pytest.raises(MeterUnavailableError, match=what) as raised:
            Replay(path, clock)
        assert str(path) in str(raised.value)

    def test_a_recorded_counter(self, tmp_path: Path, clock: VirtualClock) -> None:
        path = tmp_path / "run.csv"
        path.write_text("time_s,energy_j\n100,7\n110,57\n")
        replay = Replay(path, clock)
        assert replay.look(4.0).counter_j == pytest.approx(27.0)

    def test_a_row_without_a_value_is_a_hole(self, tmp_path: Path, clock: VirtualClock) -> None:
        path = tmp_path / "run.csv"
        path.write_text("time_s,power_w\n0,4\n1,6\n50,\n99,8\n100,8\n")
        replay = Replay(path, clock)
        shown = [replay.look(at_s).power_w for at_s in (0.5, 1.0, 1.001, 50.0, 98.999, 99.0, 100.0)]
        assert shown == [5.0, 6.0, None, None, None, 8.0, 8.0]
        path.write_text("time_s,energy_j\n0,0\n1,6\n50,\n99,6\n100,14\n")
        replay = Replay(path, clock)
        looks = [replay.look(at_s) for at_s in (1.0, 30.0, 99.5, 100.0)]
        assert [look.counter_j for look in looks] == [6.0, None, 10.0, 14.0]
        assert [look.reset for look in looks] == [False, False, True, False]

    def test_powers_that_step_are_looked_at_often(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        path = tmp_path / "run.csv"
        path.write_text("time_s,power_w\n0,3\n59.999,3\n60,10\n119.999,10\n120,3\n180,3\n")
        replay = Replay(path, clock)
        assert replay.describe().rate_hz > 10.0
        assert [replay.look(at_s).power_w for at_s in (59.9, 60.0, 119.9, 120.0)] == [3, 10, 10, 3]

    def test_an_open_quote_takes_no_other_row(self, tmp_path: Path, clock: VirtualClock) -> None:
        path = tmp_path / "run.csv"
        path.write_text('time_s,power_w,note\n0,4,\n1,4,"2 inch\n2,4,3"\n3,4,\n')
        with pytest.raises(MeterUnavailableError, match=r"line 3: its quotes do not match"):
            Replay(path, clock)

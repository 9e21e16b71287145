"""Rails of an INA3221: on boards that are no Jetson, with labels that repeat, and below zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import AgxOrin, AgxThor, JetsonNano, OrinNano, XavierNx, write

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import NOTHING, Look, MeterUnavailableError
from fimi.energy.meters.detect import MeterSettings, detect, open_sum
from fimi.energy.meters.ina3221 import TOTALS, find_rails, open_ina3221
from fimi.energy.meters.names import Names, SeveralError
from fimi.energy.meters.watch import Watch
from fimi.testbed.recordings import tegrastats
from fimi.testbed.recordings.recording import ImportSettings


def chip(root: Path, address: str, *labels: str, milliamperes: int = 100) -> Path:
    """A chip as the kernel shows it; a channel without a label has no file for it."""
    number = len(list(root.glob("sys/bus/i2c/drivers/ina3221/*")))
    folder = root / f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon{number}"
    write(folder / "update_interval", 100)
    for channel, label in enumerate(labels, 1):
        if label:
            write(folder / f"in{channel}_label", label)
        write(folder / f"in{channel}_enable", 1)
        write(folder / f"in{channel}_input", 5000)
        write(folder / f"curr{channel}_input", milliamperes * channel)
        write(folder / f"shunt{channel}_resistor", 1000)
    return folder


def power_w(names: Names, root: Path) -> float | None:
    meter = open_sum(names, MeterSettings(), root, VirtualClock())
    return meter.look(0.0).power_w


def listed(root: Path) -> set[str]:
    found = detect(MeterSettings(), root, VirtualClock())
    return {each.name for each in found if each.name.startswith("ina3221:") and each.description}


class TestNames:
    def test_a_board_of_another_maker_without_labels(self, tmp_path: Path) -> None:
        folder = chip(tmp_path, "1-0040", "", "", "")
        write(folder / "in3_enable", 0)
        assert listed(tmp_path) == {"ina3221:1@1-0040", "ina3221:2@1-0040"}
        assert power_w("ina3221:2@1-0040", tmp_path) == pytest.approx(1.0)
        with pytest.raises(MeterUnavailableError, match="what they see is not known") as raised:
            open_ina3221(tmp_path)
        assert "Jetson" not in str(raised.value)
        assert 'meter = "ina3221:2@1-0040"' in str(raised.value)
        with pytest.raises(SeveralError):
            open_ina3221(tmp_path, "1-0040")

    def test_its_user_says_what_it_sees(self, tmp_path: Path) -> None:
        chip(tmp_path, "1-0040", "")
        settings = MeterSettings(scope="board")
        meter = open_sum("ina3221:1@1-0040", settings, tmp_path, VirtualClock())
        assert meter.describe().scope == "board"

    def test_two_chips_with_one_label_are_told_apart_by_address(self, tmp_path: Path) -> None:
        chip(tmp_path, "1-0040", "VDD_IN", "VDD_SOC")
        chip(tmp_path, "7-0040", "VDD_IN", milliamperes=300)
        assert power_w("ina3221:VDD_IN@7-0040", tmp_path) == pytest.approx(1.5)
        assert power_w("ina3221:VDD_SOC", tmp_path) == pytest.approx(1.0)
        both = ("ina3221:VDD_IN@1-0040", "ina3221:VDD_IN@7-0040")
        assert power_w(both, tmp_path) == pytest.approx(2.0)
        for name in (None, "VDD_IN"):
            with pytest.raises(SeveralError, match='meter = "ina3221:VDD_IN@7-0040"') as raised:
                open_ina3221(tmp_path, name)
            assert f'meter = ["{both[0]}", "{both[1]}"]' in raised.value.choices
        assert {*both, "ina3221:VDD_SOC"} == listed(tmp_path)

    def test_one_label_twice_on_one_chip(self, tmp_path: Path) -> None:
        chip(tmp_path, "1-0040", "5V", "5V", "")
        assert listed(tmp_path) == {f"ina3221:{n}@1-0040" for n in (1, 2, 3)}

    def test_a_chip_below_class_is_the_one_below_its_driver(self, tmp_path: Path) -> None:
        """As a kernel lays it out: both are links to the device's own folder."""
        real = chip(tmp_path / "of", "1-0040", "VDD_IN")
        device = tmp_path / "sys/devices/i2c-1/1-0040"
        device.parent.mkdir(parents=True)
        real.parent.parent.rename(device)
        write(device / "hwmon/hwmon0/name", "ina3221")
        link = tmp_path / "sys/class/hwmon/hwmon0"
        link.parent.mkdir(parents=True)
        link.symlink_to(device / "hwmon/hwmon0")
        assert open_ina3221(tmp_path).facts() == ("VDD_IN at 1-0040: 5 V, 0.1 A",)
        driver = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040"
        driver.parent.mkdir(parents=True)
        driver.symlink_to(device)
        assert len(find_rails(tmp_path)) == 1

    def test_without_a_chip_no_board_is_guessed(self, tmp_path: Path) -> None:
        with pytest.raises(MeterUnavailableError, match=r"no INA3221 .*this board has none"):
            open_ina3221(tmp_path)


class TestBelowZero:
    def test_a_step_below_zero_is_the_chips_offset(self, tmp_path: Path) -> None:
        """A Thor at rest: one step of 40 µV over 1 mΩ, at 9.8 V; −392 mW in tegrastats."""
        folder = chip(tmp_path, "2-0040", "VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")
        write(folder / "in1_input", 9800)
        write(folder / "curr1_input", -40)
        assert power_w("ina3221", tmp_path) == pytest.approx(-0.392 + 1.0 + 1.5)
        assert power_w("ina3221:VDD_GPU", tmp_path) == 0.0
        step_w = open_ina3221(tmp_path, "VDD_GPU").describe().resolution_w
        assert step_w == pytest.approx(0.392)
        found = {e.name: e for e in detect(MeterSettings(), tmp_path, VirtualClock())}
        assert found["ina3221:VDD_GPU"].doubts == (), "graphics at rest are switched off"

    @pytest.mark.parametrize(("label", "doubted"), [("VDD_GPU", False), ("VDD_CPU", True)])
    def test_only_what_may_rest_shows_nothing_in_a_run(
        self, tmp_path: Path, label: str, doubted: bool
    ) -> None:
        chip(tmp_path, "1-0040", label, milliamperes=0)
        watch = Watch(open_ina3221(tmp_path, label))
        for second in range(5):
            watch.see(float(second), Look(power_w=0.0))
        assert bool(watch.take()) is doubted

    def test_more_is_a_wire_the_other_way_round(self, tmp_path: Path) -> None:
        folder = chip(tmp_path, "1-0040", "VDD_IN")
        meter = open_ina3221(tmp_path)
        write(folder / "curr1_input", -900)
        assert meter.look(0.0) == NOTHING
        said = meter.why_nothing()
        assert "VDD_IN at 1-0040 is negative (in1_input 5000; curr1_input -900)" in said
        assert "swap VIN+ and VIN−" in said
        with pytest.raises(MeterUnavailableError, match="swap VIN"):
            open_ina3221(tmp_path)


class TestWhole:
    @pytest.mark.parametrize("world", [JetsonNano, OrinNano, XavierNx, AgxOrin, AgxThor])
    def test_a_recording_of_tegrastats_has_the_same_whole(
        self, tmp_path: Path, world: type[OrinNano]
    ) -> None:
        """What the live meter adds up is what the importer adds up."""
        made = world(tmp_path, VirtualClock())
        source = open_ina3221(tmp_path).describe().source
        labels = made.labels if isinstance(made, OrinNano) else ("POM_5V_IN", "POM_5V_GPU")
        rails = " ".join(f"{label} 1000mW/1000mW" for label in labels if label != "NC")
        lines = [f"09-19-2025 12:00:0{second} RAM 1/2MB CPU [1%@9] {rails}" for second in (1, 2)]
        found = tegrastats.read("a file", lines, ImportSettings(zone="UTC"))
        added = next(note for note in found.notes if note.startswith("power is "))
        assert added == f"power is {source.removeprefix('ina3221:').replace('+', ' + ')}"

    def test_no_row_is_a_part_of_another(self) -> None:
        for row in TOTALS:
            assert not any(set(row) < set(other) for other in TOTALS)

    def test_the_input_of_a_thor_kit_is_preferred_by_both(self, tmp_path: Path) -> None:
        AgxThor(tmp_path, VirtualClock())
        folder = tmp_path / "sys/class/hwmon/hwmon1"
        write(folder / "name", "ina238")
        write(folder / "label", "VIN")
        write(folder / "power1_input", 23_000_000)
        meter = open_sum("hwmon", MeterSettings(), tmp_path, VirtualClock())
        assert (meter.look(0.0).power_w, meter.describe().scope) == (23.0, "board")
        assert tegrastats.WHOLE[0] == ("VIN",)
        with pytest.raises(MeterUnavailableError, match="is a part of"):
            open_sum(("hwmon", "ina3221"), MeterSettings(), tmp_path, VirtualClock())

"""Names of parts: one of several is never guessed, each can be named, and named ones be added."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from worlds import (
    AgxOrin,
    BatteryAtZero,
    Ina226,
    JetsonNano,
    LaptopBattery,
    OdroidXu3,
    OrinNano,
    TwoBatteries,
    TwoPackages,
    write,
)

from fimi.energy.clock import VirtualClock
from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, MeterUnavailableError
from fimi.energy.meters.detect import MeterPair, MeterSettings, detect, open_recorder, open_sum
from fimi.energy.meters.names import Names, SeveralError


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def shown(names: Names, root: Path, clock: VirtualClock) -> tuple[float | None, Scope, str]:
    """What a choice shows now, what it sees, and its source."""
    meter = open_sum(names, MeterSettings(), root, clock)
    described, look = meter.describe(), meter.look(clock.now_s())
    meter.close()
    return look.power_w, described.scope, described.source


def refused(names: Names, root: Path, clock: VirtualClock) -> str:
    with pytest.raises(MeterUnavailableError) as raised:
        open_sum(names, MeterSettings(), root, clock)
    return str(raised.value)


class TestChips:
    def test_several_of_a_driver_are_never_the_board(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        OdroidXu3(tmp_path, clock)
        with pytest.raises(SeveralError) as raised:
            open_sum("hwmon", MeterSettings(), tmp_path, clock)
        assert "another after the next boot" not in str(raised.value), "these names stay"
        for line in (
            'meter = "hwmon:ina231@4-0045"',
            'meter = ["hwmon:ina231@4-0040", "hwmon:ina231@4-0041", "hwmon:ina231@4-0044", '
            '"hwmon:ina231@4-0045"]',
        ):
            assert line in str(raised.value)
        assert "several power monitors ina231" in refused("hwmon:ina231", tmp_path, clock)
        with pytest.raises(MeterUnavailableError, match="hwmon: there are several"):
            open_recorder(MeterSettings(), tmp_path, clock)

    def test_each_by_address_or_label_and_their_sum(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        OdroidXu3(tmp_path, clock).draw(4.0)
        arm = (2.0, "cpu", "hwmon:ina231@4-0040")
        assert shown("hwmon:ina231@4-0040", tmp_path, clock) == pytest.approx(arm)
        assert shown("hwmon:sensor_arm", tmp_path, clock) == pytest.approx(arm)
        assert shown("hwmon:sensor_g3d", tmp_path, clock)[1] == "gpu"
        assert shown("hwmon:ina231@hwmon3", tmp_path, clock)[2] == "hwmon:ina231@4-0045"
        both = shown(("hwmon:sensor_arm", "hwmon:sensor_g3d"), tmp_path, clock)
        assert both[:2] == pytest.approx((2.5, "module")), "processor and graphics together"
        said = refused(("hwmon:sensor_arm", "hwmon:ina231@4-0040"), tmp_path, clock)
        assert "counted twice" in said
        assert "no power monitor ina231@4-0099" in refused("hwmon:ina231@4-0099", tmp_path, clock)

    def test_the_number_of_a_device_plays_no_part(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        OdroidXu3(tmp_path, clock)
        before = shown("hwmon:ina231@4-0044", tmp_path, clock)
        folder = tmp_path / "sys/class/hwmon"
        (folder / "hwmon2").rename(folder / "hwmon17")
        (folder / "hwmon0").rename(folder / "hwmon2")
        assert shown("hwmon:ina231@4-0044", tmp_path, clock) == before

    def test_an_address_from_the_folders_above(self, tmp_path: Path, clock: VirtualClock) -> None:
        """As a kernel lays it out: hwmonN is a link into the device's own folder."""
        for number, address in enumerate(("1-0040", "1-0041")):
            real = tmp_path / f"sys/devices/i2c-1/{address}/hwmon/hwmon{number}"
            write(real / "name", "ina226")
            write(real / "power1_input", 1_500_000 * (number + 1))
            link = tmp_path / f"sys/class/hwmon/hwmon{number}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(real)
        assert shown("hwmon:ina226@1-0041", tmp_path, clock)[0] == pytest.approx(3.0)

    def test_without_address_and_label_the_number_is_all_there_is(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        for number in (0, 1):
            folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
            write(folder / "name", "ina219")
            write(folder / "power1_input", 2_000_000)
        said = refused("hwmon", tmp_path, clock)
        assert 'meter = "hwmon:ina219@hwmon1"' in said
        assert "The number of hwmon0, hwmon1 may be another after the next boot" in said
        found = {each.name: each for each in detect(MeterSettings(), tmp_path, clock)}
        assert "a number that may be another" in str(found["hwmon:ina219@hwmon0"].facts)
        assert shown(("hwmon:ina219@hwmon0", "hwmon:ina219@hwmon1"), tmp_path, clock)[0] == 4.0

    def test_the_only_one_of_its_kind_is_the_board_beside_several_of_another(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        OdroidXu3(tmp_path, clock)
        supply = tmp_path / "sys/class/hwmon/hwmon9"
        write(supply / "name", "ina219")
        write(supply / "power1_input", 6_000_000)
        assert shown("hwmon", tmp_path, clock) == (6.0, "board", "hwmon:ina219")
        other = supply.with_name("hwmon10")
        shutil.copytree(supply, other)
        write(other / "name", "ina260")
        assert "ina219, ina260" in refused("hwmon", tmp_path, clock)

    def test_the_doctors_facts(self, tmp_path: Path, clock: VirtualClock) -> None:
        OdroidXu3(tmp_path, clock)
        found = {each.name: each for each in detect(MeterSettings(), tmp_path, clock)}
        assert found["hwmon"].ambiguous
        facts = found["hwmon:ina231@4-0040"].facts
        assert facts == (
            "address 4-0040",
            "label sensor_arm",
            "shunt 10 mΩ",
            "range ±8.19 A",
            "1 V",
            "0.4 A",
        )


class TestZones:
    def tree(self, root: Path) -> None:
        for folder, name in (
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "uncore"),
            ("intel-rapl:0:2", "dram"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl:2", "package-1"),
            ("intel-rapl:2:0", "dram"),
        ):
            zone = root / "sys/class/powercap" / folder
            write(zone / "name", name)
            write(zone / "energy_uj", 100_000_000 * (len(folder) + int(folder[11])))
            write(zone / "max_energy_range_uj", 262_143_328_850)

    @pytest.mark.parametrize(
        ("name", "scope"),
        [
            ("rapl", "cpu"),
            ("rapl:package-1", "cpu"),
            ("rapl:core-0", "cpu"),
            ("rapl:uncore-0", "cpu"),
            ("rapl:dram-1", "module"),
            ("rapl:psys", "board"),
        ],
    )
    def test_every_zone_has_a_name_and_a_scope(
        self, tmp_path: Path, clock: VirtualClock, name: str, scope: Scope
    ) -> None:
        self.tree(tmp_path)
        assert shown(name, tmp_path, clock)[1] == scope

    @pytest.mark.parametrize(
        "names",
        [
            ("rapl:package-0", "rapl:core-0"),
            ("rapl", "rapl:uncore-0"),
            ("rapl:psys", "rapl:package-1"),
            ("rapl:psys", "rapl:dram-0"),
            ("rapl", "rapl:package-0"),
        ],
    )
    def test_what_contains_another_is_not_added(
        self, tmp_path: Path, clock: VirtualClock, names: tuple[str, ...]
    ) -> None:
        self.tree(tmp_path)
        assert "cannot be added" in refused(names, tmp_path, clock)

    def test_memory_beside_the_processor_is_added_as_counters(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        self.tree(tmp_path)
        meter = open_sum(("rapl:package-0", "rapl:dram-0"), MeterSettings(), tmp_path, clock)
        described = meter.describe()
        assert (described.scope, described.counts) == ("module", True)
        assert meter.look(0.0).counter_j == 0.0
        for folder, more_uj in (("intel-rapl:0", 3_000_000), ("intel-rapl:0:2", 500_000)):
            file = tmp_path / "sys/class/powercap" / folder / "energy_uj"
            write(file, int(file.read_text()) + more_uj)
        assert meter.look(1.0).counter_j == pytest.approx(3.5)
        (tmp_path / "sys/class/powercap/intel-rapl:0:2/energy_uj").unlink()
        assert meter.look(2.0) == NOTHING, "a sum of which one part fails is no reading"

    def test_a_share_must_be_a_part_of_the_total(self, tmp_path: Path, clock: VirtualClock) -> None:
        self.tree(tmp_path)
        pair = MeterSettings(meter=MeterPair(total="rapl:dram-0", split="rapl:package-0"))
        with pytest.raises(MeterUnavailableError, match="not a part of"):
            open_recorder(pair, tmp_path, clock)
        pair = MeterSettings(meter=MeterPair(total="rapl:psys", split="rapl"), rate_hz=1e-3)
        open_recorder(pair, tmp_path, clock).close()

    def test_a_zone_that_is_not_there(self, tmp_path: Path, clock: VirtualClock) -> None:
        self.tree(tmp_path)
        assert 'meter = "rapl:dram-0"' in refused("rapl:dram-7", tmp_path, clock)


class TestRails:
    def test_each_by_its_label(self, tmp_path: Path, clock: VirtualClock) -> None:
        OrinNano(tmp_path, clock)
        assert shown("ina3221:VDD_IN", tmp_path, clock)[1] == "module"
        assert shown("ina3221:VDD_CPU_GPU_CV", tmp_path, clock)[1] == "cpu"
        assert shown("ina3221:VDD_SOC", tmp_path, clock)[0] == pytest.approx(0.5)
        two = shown(("ina3221:VDD_CPU_GPU_CV", "ina3221:VDD_SOC"), tmp_path, clock)
        assert two[:2] == pytest.approx((1.0, "module"))
        assert "is a part of" in refused(("ina3221:VDD_IN", "ina3221:VDD_SOC"), tmp_path, clock)
        assert "ina3221:VDD_SOC" in refused("ina3221:VDD_NO", tmp_path, clock)

    def test_a_rail_within_a_rail(self, tmp_path: Path, clock: VirtualClock) -> None:
        AgxOrin(tmp_path, clock)
        inner = ("ina3221:VIN_SYS_5V0", "ina3221:VDDQ_VDD2_1V8AO")
        assert "is a part of" in refused(inner, tmp_path, clock)
        assert "counted twice" in refused(("ina3221", "ina3221-cpu"), tmp_path, clock)

    def test_the_input_of_an_older_one(self, tmp_path: Path, clock: VirtualClock) -> None:
        JetsonNano(tmp_path, clock)
        names = ("ina3221:POM_5V_IN", "ina3221:POM_5V_GPU")
        assert "is a part of" in refused(names, tmp_path, clock)
        assert shown("ina3221:POM_5V_GPU", tmp_path, clock)[1] == "gpu"


class TestFamilies:
    def test_a_board_contains_its_processor(self, tmp_path: Path, clock: VirtualClock) -> None:
        Ina226(tmp_path, clock)
        TwoPackages(tmp_path, clock)
        said = refused(("hwmon", "rapl"), tmp_path, clock)
        assert "(cpu) is a part of what hwmon:ina226 (board) sees" in said
        LaptopBattery(tmp_path, clock)
        assert "both see the same, the board" in refused(("hwmon", "battery"), tmp_path, clock)

    def test_a_user_who_knows_says_what_a_sum_sees(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        OdroidXu3(tmp_path, clock)
        names = ("hwmon:ina231@4-0040", "hwmon:ina231@4-0041")
        meter = open_sum(names, MeterSettings(scope="board"), tmp_path, clock)
        assert meter.describe().scope == "board"

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ((), "list of meters is empty"),
            (("auto", "rapl"), "'auto' cannot be a part"),
            (("declared", "rapl"), "'declared' cannot be a part"),
            (("replay:x", "rapl"), "no meter 'replay:x'"),
            ("hwmon:", "no meter 'hwmon:'"),
        ],
    )
    def test_what_is_no_list(
        self, tmp_path: Path, clock: VirtualClock, names: Names, said: str
    ) -> None:
        TwoPackages(tmp_path, clock)
        assert said in refused(names, tmp_path, clock)


class TestBatteries:
    def test_a_zero_beside_a_current_is_not_believed(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        BatteryAtZero(tmp_path, clock).draw(10.6)
        assert shown("battery", tmp_path, clock)[0] == pytest.approx(10.6, abs=1e-3)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_either_sign(self, tmp_path: Path, clock: VirtualClock, sign: int) -> None:
        file = LaptopBattery(tmp_path, clock).files()[0]
        write(file, sign * 500_000)
        assert shown("battery", tmp_path, clock)[0] == pytest.approx(6.0)
        write(file.with_name("power_now"), sign * 7_000_000)
        assert shown("battery", tmp_path, clock)[0] == pytest.approx(7.0)

    def test_files_that_contradict_each_other(self, tmp_path: Path, clock: VirtualClock) -> None:
        file = LaptopBattery(tmp_path, clock).files()[0]
        write(file.with_name("power_now"), 4_000)  # mW
        found = {each.name: each for each in detect(MeterSettings(), tmp_path, clock)}
        assert any("another unit" in doubt for doubt in found["battery"].doubts)

    def test_a_zero_without_a_current_is_doubted(self, tmp_path: Path, clock: VirtualClock) -> None:
        BatteryAtZero(tmp_path, clock).draw(0.0)
        found = {each.name: each for each in detect(MeterSettings(), tmp_path, clock)}
        assert "0 W" in found["battery"].doubts[0]
        with pytest.raises(MeterUnavailableError, match="shows 0 W"):
            open_recorder(MeterSettings(), tmp_path, clock)

    def test_several_are_named_and_added(self, tmp_path: Path, clock: VirtualClock) -> None:
        world = TwoBatteries(tmp_path, clock)
        world.draw(9.0)
        assert 'meter = ["battery:BAT0", "battery:BAT1"]' in refused("battery", tmp_path, clock)
        assert shown(("battery:BAT0", "battery:BAT1"), tmp_path, clock)[0] == pytest.approx(9.0)
        write(world.files()[0].parent.with_name("AC") / "online", 1)
        assert "Unplug" in refused("battery:BAT1", tmp_path, clock)


class TestNodes:
    def test_addresses_of_a_tree_without_links(self, tmp_path: Path, clock: VirtualClock) -> None:
        for number, node in enumerate(("power-sensor@40", "power-sensor@41")):
            folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
            write(folder / "name", "ina231")
            write(folder / "power1_input", 1_000_000)
            write(folder / "device/uevent", f"DRIVER=ina2xx\nOF_FULLNAME=/soc/i2c@1/{node}")
        assert shown("hwmon:ina231@power-sensor@41", tmp_path, clock)[0] == 1.0

    def test_a_place_in_the_device_tree_stays(self, tmp_path: Path, clock: VirtualClock) -> None:
        """Two buses with a chip of the same node: the whole path tells them apart."""
        for number, bus in enumerate(("i2c@1", "i2c@2")):
            folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
            write(folder / "name", "ina231")
            write(folder / "power1_input", 1_000_000 * (number + 1))
            write(folder / "device/uevent", f"OF_FULLNAME=/soc/{bus}/power-sensor@40")
        name = "hwmon:ina231@/soc/i2c@2/power-sensor@40"
        assert f'meter = "{name}"' in refused("hwmon", tmp_path, clock)
        assert "@hwmon" not in refused("hwmon", tmp_path, clock)
        assert shown(name, tmp_path, clock)[::2] == (2.0, name)
        assert "several" in refused("hwmon:ina231@power-sensor@40", tmp_path, clock)

    def test_labels_that_are_the_same_do_not_name(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        for number, label in enumerate(("rail", "rail", "other")):
            folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
            write(folder / "name", "ina231")
            write(folder / "label", label)
            write(folder / "power1_input", 1_000_000 * (number + 1))
        said = refused("hwmon", tmp_path, clock)
        assert 'meter = "hwmon:other"' in said
        assert 'meter = "hwmon:ina231@hwmon1"' in said
        assert "The number of hwmon0, hwmon1 may" in said
        both = ("hwmon:ina231@hwmon0", "hwmon:ina231@hwmon1")
        assert shown(both, tmp_path, clock)[0] == pytest.approx(3.0)

    def test_nodes_that_are_called_the_same(self, tmp_path: Path, clock: VirtualClock) -> None:
        for number in range(2):
            folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
            write(folder / "name", "ina231")
            write(folder / "power1_input", 1_000_000 * (number + 1))
            write(folder / "device/of_node/name", "ina231")
        assert 'meter = "hwmon:ina231@hwmon1"' in refused("hwmon", tmp_path, clock)
        found = {each.name: each for each in detect(MeterSettings(), tmp_path, clock)}
        assert found["hwmon:ina231@hwmon1"].power_w == 2.0

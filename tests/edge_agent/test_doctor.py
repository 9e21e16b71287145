"""The doctor against trees of files, a real broker, and nobody at all."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from boards_of_files import ORIN_GPU_HZ, Answers, cooling, gpu, policy
from click.testing import CliRunner
from worlds import Ina226, MirroredDies, OdroidXu3, PlugWorld, TwoPackages, TwoSocketPlug, write

import fimi.energy.host_profile
from fimi.edge_agent.doctor import examine, surroundings
from fimi.edge_agent.doctor.machine import Machine
from fimi.energy.clock import VirtualClock
from fimi.energy.control.programs import ProgramResult
from fimi.energy.cost_model import ComputePoint, ComputeSetting
from fimi.energy.host_profile import HostProfile, load_profile
from fimi.energy.step_load.kept import KeptResponse
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.questions import Check
from fimi.testbed.cli import main

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]


def sick_library(case: str) -> ModuleType:
    """``pynvml`` without the functions that name cards, and with an error of some kind."""
    library: Any = ModuleType("pynvml")

    class NVMLError(Exception):
        """As in pynvml."""

    def fails(when: bool, words: str, value: object = None) -> object:
        if when:
            raise NVMLError(words)
        return value

    two, denied = case in ("lost", "mixed"), "Insufficient Permissions"
    library.NVMLError = NVMLError
    library.nvmlInit = lambda: fails(case == "init", "Driver Not Loaded")
    library.nvmlShutdown = lambda: None
    library.nvmlDeviceGetCount = lambda: fails(case == "count", "Unknown Error", 2 if two else 1)
    library.nvmlDeviceGetHandleByIndex = lambda card: fails(
        case == "perm" or (case == "lost" and card == 1), denied, card
    )
    library.nvmlDeviceGetTotalEnergyConsumption = lambda card: fails(
        case in ("nocounter", "na") or (case == "mixed" and card == 1), "Not Supported", 123_456
    )
    library.nvmlDeviceGetPowerUsage = lambda card: fails(case == "na", "Not Supported", 32_989)
    return library


def quiet(arguments: object) -> ProgramResult:
    return ProgramResult(127, "", "not installed")


@pytest.fixture
def profile_file(tmp_path: Path) -> Path:
    path = tmp_path / "board.toml"
    path.write_text("\n".join(line.strip() for line in EXAMPLE.splitlines()))
    return path


@pytest.fixture
def profile(profile_file: Path) -> HostProfile:
    return load_profile(profile_file)


def checks(root: Path, **options: object) -> dict[str, Check]:
    machine = Machine(root=root, state=root / "state", run=quiet, **options)  # type: ignore[arg-type]
    return {check.name: check for check in examine(machine)}


class TestMeters:
    def test_every_meter_with_scope_and_rate(self, tmp_path: Path) -> None:
        Ina226(tmp_path, VirtualClock())
        TwoPackages(tmp_path, VirtualClock())
        found = checks(tmp_path)
        assert found["meter"].status == "ok"
        assert "hwmon:ina226" in found["meter"].found
        assert "scope board" in found["meter hwmon"].found
        assert "1000 Hz" in found["meter rapl"].found
        assert found["meter ina3221"].status == "absent"
        assert "no INA3221" in found["meter ina3221"].found
        assert "meter ina3221-cpu" not in found, "the same is said once"

    def test_nothing_to_read_is_a_failure(self, tmp_path: Path) -> None:
        check = checks(tmp_path)["meter"]
        assert check.status == "failure"
        assert "constant_power_w" in check.fix

    def test_a_declared_power_is_a_warning(self, tmp_path: Path, profile: HostProfile) -> None:
        check = checks(tmp_path, profile=profile)["meter"]
        assert (check.status, check.found.split(":")[0]) == ("warning", "declared")

    @pytest.mark.parametrize("answer", [errno.EACCES, errno.EPERM])
    def test_closed_rapl_comes_with_the_rule_and_the_side_channel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        world = TwoPackages(tmp_path, VirtualClock())
        Answers(monkeypatch).reads |= dict.fromkeys(world.files(), answer)
        check = checks(tmp_path)["meter rapl"]
        assert check.status == "warning"
        for file in world.files():
            assert f"z {file} 0440 root fimi -" in check.fix
        assert "max_energy_range_uj" not in check.fix, "it is open"
        assert "tmpfiles.d" in check.fix
        assert "CVE-2020-8694" in check.fix

    @pytest.mark.parametrize(
        ("name", "held", "said"),
        [
            ("energy_uj", "x", "holds 'x' instead of a number"),
            ("energy_uj", str(2**62), f"shows {2**62} µJ, beyond its own max_energy_range_uj"),
            ("energy_uj", None, "does not exist"),
            ("max_energy_range_uj", None, "does not exist"),
            ("max_energy_range_uj", "0", "holds 0, so that it is not known where"),
        ],
    )
    def test_rapl_that_is_broken_is_no_matter_of_permissions(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        held: str | None,
        said: str,
    ) -> None:
        """Nor is it where the parts of the package are closed, as they are by default."""
        world = TwoPackages(tmp_path, VirtualClock())
        for package in world.files():
            file = package.with_name(name)
            file.unlink() if held is None else file.write_text(held)
        parts = (file.parent / f"intel-rapl:{n}:0" for n, file in enumerate(world.files()))
        Answers(monkeypatch).reads |= {part / "energy_uj": errno.EACCES for part in parts}
        check = checks(tmp_path)["meter rapl"]
        assert (check.status, said in check.found) == ("warning", True)
        assert "dmesg" in check.fix
        assert not any(word in check.fix for word in ("group", "tmpfiles", "chgrp", "CVE"))

    def test_several_chips_are_listed_with_what_tells_them_apart(self, tmp_path: Path) -> None:
        OdroidXu3(tmp_path, VirtualClock())
        found = checks(tmp_path)
        assert found["meter"].status == "failure"
        assert found["meter hwmon"].status == "warning"
        assert 'meter = "hwmon:ina231@4-0045"' in found["meter hwmon"].fix
        said = found["meter hwmon:ina231@4-0040"].found
        for fact in ("2 W now", "address 4-0040", "label sensor_arm", "shunt 10 mΩ", "±8.19 A"):
            assert fact in said

    def test_a_list_in_the_profile_is_looked_at(self, tmp_path: Path, profile: HostProfile) -> None:
        OdroidXu3(tmp_path, VirtualClock())
        names = ("hwmon:sensor_arm", "hwmon:sensor_mem")
        found = checks(tmp_path, profile=msgspec.structs.replace(profile, meter=names))
        assert found["meter"].status == "ok"
        assert "3 W now" in found["meter hwmon:sensor_arm + hwmon:sensor_mem"].found

    def test_a_plug_with_several_channels_is_said_with_the_lines(
        self, tmp_path: Path, profile: HostProfile, home_broker: int
    ) -> None:
        world = TwoSocketPlug(tmp_path, VirtualClock(), home_broker)
        two = msgspec.structs.replace(world.settings(), channel=None)
        found = checks(tmp_path, profile=msgspec.structs.replace(profile, plug=two))
        world.close()
        assert found["meter"].status == "failure"
        assert "several channels (1, 2)" in found["meter"].found
        assert found["meter plug"].status == "warning"
        assert "channel = 1; channel = 2" in found["meter plug"].fix

    def test_mirrored_counters_are_said(self, tmp_path: Path) -> None:
        MirroredDies(tmp_path, VirtualClock())
        found = checks(tmp_path)["meter rapl"].found
        assert "package-0-die-1 shows the same register as package-0-die-0: counted once" in found

    def test_what_the_board_cannot_draw_is_doubted(self, tmp_path: Path) -> None:
        Ina226(tmp_path, VirtualClock()).draw(30.5)
        assert checks(tmp_path)["meter hwmon"].status == "ok"
        write(tmp_path / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        found = checks(tmp_path)
        assert found["meter"].status == found["meter hwmon"].status == "warning"
        assert "more than a Raspberry Pi 4" in found["meter hwmon"].fix

    def test_zero_is_no_ok(self, tmp_path: Path) -> None:
        Ina226(tmp_path, VirtualClock()).draw(0.0)
        found = checks(tmp_path)
        assert found["meter"].status == "failure"
        assert found["meter hwmon"].status == "warning"

    def test_a_raspberry_pi_5_that_does_not_answer_is_a_warning(self, tmp_path: Path) -> None:
        write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
        check = checks(tmp_path)["meter pmic"]
        assert check.status == "warning"
        assert "Raspberry Pi 5 Model B Rev 1.0" in check.found
        assert "pmic_read_adc" in check.found

    @pytest.mark.parametrize("case", ["lost", "perm", "count", "init", "nocounter", "na", "mixed"])
    def test_a_sick_card_is_a_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
    ) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setitem(sys.modules, "pynvml", sick_library(case))
        found = checks(tmp_path)
        assert found["meter nvml"].status == {
            "lost": "warning",
            "mixed": "ok",
            "nocounter": "ok",
        }.get(case, "absent")
        assert ("Insufficient Permissions" in str(found)) == (case in ("lost", "perm"))

    def test_what_each_shows_now(self, tmp_path: Path) -> None:
        Ina226(tmp_path, VirtualClock()).draw(4.2)
        TwoPackages(tmp_path, VirtualClock())
        found = checks(tmp_path)
        assert "4.2 W now" in found["meter hwmon"].found
        assert re.search(r"0 J in [\d.]+ s: a copy of files", found["meter rapl"].found)
        assert found["meter rapl"].status == "ok"
        assert found["meter"].found.endswith("the processor's share from rapl:package-0,package-1")

    def test_a_chip_that_averages_less_than_a_look_takes(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        world = Ina226(tmp_path, VirtualClock())
        assert "mean of 18 ms" in checks(tmp_path)["meter hwmon"].fix
        write(world.files()[0].with_name("update_interval"), 100)
        assert checks(tmp_path)["meter hwmon"].fix == ""

    def test_a_response_of_other_settings_is_said(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        interval = Ina226(tmp_path, VirtualClock()).files()[0].with_name("update_interval")
        write(interval, 100)
        kept = KeptResponse(delay_s=0.03, window_s=0.1, refresh_s=0.1, chip_refresh_s=0.1)
        learned = msgspec.structs.replace(profile, meter_response={"hwmon:ina226": kept})
        check = checks(tmp_path, profile=learned)["meter response"]
        assert (check.status, "(learned)" in check.found) == ("ok", True)
        write(interval, 36)
        check = checks(tmp_path, profile=learned)["meter response"]
        assert check.status == "warning"
        assert "(chip); the response learned is not used" in check.found
        assert "--step-load" in check.fix

    def test_plugs_below_their_threshold_and_silent_ones(
        self, tmp_path: Path, profile: HostProfile, home_broker: int
    ) -> None:
        world = PlugWorld(tmp_path, VirtualClock(), home_broker)
        on_plug = msgspec.structs.replace(profile, plug=world.settings())
        found = checks(tmp_path, profile=on_plug)
        assert found["meter"].found.startswith("plug:tasmota")
        assert found["meter plug"].status == "warning"
        assert "unreliable below 6 W" in found["meter plug"].fix
        world.draw(40.0)
        assert checks(tmp_path, profile=on_plug)["meter plug"].status == "ok"
        world.break_("silent")
        found = checks(tmp_path, profile=on_plug)
        assert found["meter plug"].status == "warning", "the profile names it"
        assert "does not answer" in found["meter plug"].found
        assert found["meter"].found.startswith("declared")
        world.close()


def with_points(
    profile: HostProfile, *points: dict[str, tuple[float, float, ComputeSetting]]
) -> HostProfile:
    """A profile with measured points: seconds a sample, watts, setting, by name."""
    measured = tuple(
        ComputePoint(name=name, seconds_per_sample=seconds, power_w=watts, setting=setting)
        for each in points
        for name, (seconds, watts, setting) in each.items()
    )
    replace, board = msgspec.structs.replace, profile.board
    return replace(profile, board=replace(board, compute=replace(board.compute, points=measured)))


class TestControl:
    def test_frequency_that_can_be_set(self, tmp_path: Path) -> None:
        policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
        policy.mkdir(parents=True)
        (policy / "scaling_max_freq").write_text("1800000\n")
        (policy / "scaling_governor").write_text("ondemand\n")
        check = checks(tmp_path)["frequency"]
        assert check.status == "ok"
        assert "ondemand" in check.found

    def test_what_plans_will_take_the_frequency_for(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        found = checks(tmp_path, profile=profile)["frequency"]
        assert found.status == "warning"
        assert found.found.startswith("plans take it as fixed at 1.8 GHz: no cpufreq policy")
        policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
        policy.mkdir(parents=True)
        (policy / "scaling_max_freq").write_text("1500000\n")
        (policy / "scaling_available_frequencies").write_text("900000 1500000\n")
        assert "from 0.9 to 1.5 GHz" in checks(tmp_path, profile=profile)["frequency"].found
        alone = msgspec.structs.replace(profile, frequency_control="none")
        found = checks(tmp_path, profile=alone)["frequency"]
        assert (found.status, found.fix) == ("ok", "")
        assert "fixed at 1.5 GHz" in found.found

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
    def test_frequency_that_cannot(self, tmp_path: Path) -> None:
        policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
        policy.mkdir(parents=True)
        (policy / "scaling_max_freq").write_text("1800000\n")
        (policy / "scaling_max_freq").chmod(0o444)
        check = checks(tmp_path)["frequency"]
        assert check.status == "warning"
        assert "0664 root fimi" in check.fix

    def test_cores_that_are_off_are_named_with_what_helps(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        assert "cores" not in checks(tmp_path)
        little, big = (
            policy(tmp_path, 0, 600_000, 1_800_000),
            policy(tmp_path, 4, 600_000, 2_400_000),
        )
        (big / "related_cpus").write_text("4 5\n")
        for number in (1, 4, 5):
            core = tmp_path / f"sys/devices/system/cpu/cpu{number}"
            core.mkdir()
            (core / "online").write_text("0\n" if number == 1 else "1\n")
        alone = checks(tmp_path)["cores"]
        assert (alone.status, alone.found) == ("ok", "CPU 1 is switched off")
        for number in (4, 5):
            (tmp_path / f"sys/devices/system/cpu/cpu{number}/online").write_text("0\n")
        board = with_points(
            profile,
            {"both": (1e-3, 3.0, ComputeSetting(cpu_hz={"policy0": 1.8e9, "policy4": 2.4e9}))},
            {"one": (2e-3, 2.0, ComputeSetting(cpu_hz={"policy0": 0.6e9}))},
        )
        found = checks(tmp_path, profile=board)
        cores = found["cores"]
        assert cores.status == "warning"
        assert cores.found == "CPU 1,4-5 are switched off; plans do without policy4"
        assert "echo 1 | sudo tee /sys/devices/system/cpu/cpu4/online" in cores.fix
        points = found["operating points"]
        assert "left out: both (policy4 (CPU 4-5) is switched off)" in points.found
        assert points.fix == cores.fix, "no permission would help"
        for file in (little / "scaling_max_freq", little / "affected_cpus"):
            file.write_text("\n")
        found = checks(tmp_path)["frequency"]
        assert "policy0 (CPU 0), policy4 (CPU 4-5)" in found.found
        assert "0664" not in found.fix

    def test_clocks_that_heat_holds_down(self, tmp_path: Path) -> None:
        cooling(tmp_path, 0, "pwm-fan", 2, 4)
        assert "heat" not in checks(tmp_path)
        cooling(tmp_path, 1, "cpufreq-cpu0", 3, 8)
        assert "cpufreq-cpu0 at step 3 of 8" in checks(tmp_path)["heat"].found
        (tmp_path / "proc/12").mkdir(parents=True)
        (tmp_path / "proc/12/comm").write_text("thermald\n")
        assert "thermald" in checks(tmp_path)["limits"].found

    def test_measured_points_that_plans_choose_from(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        policy(tmp_path, 0, 600_000, 1_800_000)
        board = with_points(
            profile,
            {"fast": (1e-3, 3.0, ComputeSetting(cpu_hz={"policy0": 1.8e9}))},
            {"slow": (3e-3, 3.5, ComputeSetting(cpu_hz={"policy0": 0.6e9}))},
            {"gpu": (0.5e-3, 4.0, ComputeSetting(gpu_hz=306e6))},
        )
        found = checks(tmp_path, profile=board)
        assert "frequency" not in found, "the law is not used"
        points = found["operating points"]
        assert points.status == "warning"
        assert points.found.startswith("plans choose from 2 of 3 measured points (1 cpufreq policy")
        assert "left out: gpu (no GPU under" in points.found
        assert points.fix.startswith("restart the board"), "no permission would help"
        beaten = found["points"]
        assert beaten.status == "ok"
        assert "'slow' is kept and no plan will choose it: it takes 0.0105 J" in beaten.found
        assert "'fast' takes 0.003 J" in beaten.found
        gpu(tmp_path, "17000000.gpu", ORIN_GPU_HZ)
        found = checks(tmp_path, profile=board)
        assert found["operating points"].status == "ok"
        assert "3 of 3" in found["operating points"].found
        assert found["gpu clock"].found == "5 clocks from 306 to 624.75 MHz"

    def test_a_journal_left_behind(self, tmp_path: Path) -> None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state/restore.jsonl").write_text("{}\n")
        assert checks(tmp_path)["journal"].fix == "fimi agent restore"

    def test_tc_without_tc(self, tmp_path: Path, profile: HostProfile) -> None:
        wants = msgspec.structs.replace(profile, rate_control="tc")
        assert "iproute2" in checks(tmp_path, profile=wants)["tc"].fix


class TestSurroundings:
    def test_undervoltage_now(self, tmp_path: Path) -> None:
        file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
        file.parent.mkdir(parents=True)
        file.write_text("50005\n")
        check = checks(tmp_path)["throttling"]
        assert check.status == "warning"
        assert "pi-undervoltage, pi-throttled" in check.found

    def test_heat(self, tmp_path: Path) -> None:
        zone = tmp_path / "sys/class/thermal/thermal_zone0/temp"
        zone.parent.mkdir(parents=True)
        zone.write_text("84500\n")
        check = checks(tmp_path)["temperature"]
        assert (check.status, check.found) == ("warning", "84 °C at the hottest")

    def test_broker(self, tmp_path: Path, a_broker: EmbeddedBroker) -> None:
        assert checks(tmp_path, broker=a_broker.address)["broker"].status == "ok"
        nobody = BrokerAddress.parse("mqtt://127.0.0.1:1")
        check = checks(tmp_path, broker=nobody)["broker"]
        assert check.status == "failure"
        assert "nc -vz 127.0.0.1 1" in check.fix

    def test_without_a_broker_it_says_how_to_try_one(self, tmp_path: Path) -> None:
        check = checks(tmp_path)["broker"]
        assert check.status == "warning"
        assert "--broker mqtt://" in check.fix

    def test_every_wheel_of_the_base_install_is_looked_for(self) -> None:
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
        block = text.split("dependencies = [", 1)[1].split("]", 1)[0]
        names = {re.split(r"[>=; ]", line.strip(' ",'))[0] for line in block.splitlines()}
        assert set(surroundings._WHEELS) == names - {"", "tomli"}

    def test_python_and_wheels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = checks(tmp_path)
        assert (found["python"].status, found["wheels"].status) == ("ok", "ok")
        monkeypatch.setattr(surroundings, "_WHEELS", ("numpy", "no-such-wheel"))
        check = checks(tmp_path)["wheels"]
        assert (check.status, check.found) == ("failure", "missing: no-such-wheel")
        assert check.fix == "python3 -m pip install no-such-wheel"

    @pytest.mark.parametrize(
        ("name", "least", "fix"),
        [
            ("memory", "LEAST_MEMORY_BYTES", "training.micro_batch"),
            ("disk", "LEAST_DISK_BYTES", "apt clean"),
        ],
    )
    def test_too_little_room(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, least: str, fix: str
    ) -> None:
        assert checks(tmp_path)[name].status == "ok"
        monkeypatch.setattr(surroundings, least, 1 << 62)
        check = checks(tmp_path)[name]
        assert check.status == "warning"
        assert fix in check.fix

    def test_a_clock_that_nobody_sets(self, tmp_path: Path) -> None:
        def wrong_date(arguments: object) -> ProgramResult:
            return ProgramResult(0, "no\n", "")

        machine = Machine(root=tmp_path, state=tmp_path / "state", run=wrong_date)
        found = {check.name: check for check in examine(machine)}
        assert found["clock"].status == "ok"
        assert found["time of day"].fix == "sudo timedatectl set-ntp true"

    def test_rate(self, tmp_path: Path) -> None:
        assert checks(tmp_path)["rate"].status == "ok"


class TestCommand:
    def test_json_and_exit_codes(self, tmp_path: Path, profile_file: Path) -> None:
        Ina226(tmp_path, VirtualClock())
        done = CliRunner().invoke(
            main,
            ["agent", "doctor", "--root", str(tmp_path), "--format", "json"],
            env={"XDG_STATE_HOME": str(tmp_path / "state"), "FIMI_BROKER": None},
        )
        assert done.exit_code == 0, done.output
        body = msgspec.json.decode(done.output)
        assert body["ready"] is True
        assert {check["status"] for check in body["checks"]} >= {"ok", "absent"}
        empty = tmp_path / "empty"
        empty.mkdir()
        done = CliRunner().invoke(main, ["agent", "doctor", "--root", str(empty)])
        assert done.exit_code == 3
        assert "FAILURE" in done.output

    def test_text_that_fits_and_lines_that_can_be_pasted(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        root = tmp_path / "r"
        for number in range(2):
            folder = root / f"sys/class/hwmon/hwmon{number}"
            write(folder / "name", "ina231")
            write(folder / "power1_input", 1_000_000)
            write(folder / "device/uevent", f"OF_FULLNAME=/soc/i2c@1/power-sensor@4{number}")
        done = CliRunner().invoke(
            main, ["agent", "doctor", "--root", str(root)], env={"COLUMNS": "80"}
        )
        lines = done.output.splitlines()
        assert 'meter = "hwmon:ina231@power-sensor@41"' in [line.strip() for line in lines]
        place = lines.index("ok       meter hwmon:ina231@power-sensor@41")
        assert lines[place + 1].lstrip().startswith("hwmon:ina231@power-sensor@41 (measured")
        whole = re.compile("sudo|fimi| = ")
        assert all(len(line) <= 80 for line in lines if not whole.search(line))
        assert caplog.text == "", "it is in a line already"

    def test_wrong_usage(self, tmp_path: Path) -> None:
        arguments = ["agent", "doctor", "--host-profile", str(tmp_path / "none.toml")]
        assert CliRunner().invoke(main, arguments).exit_code == 2
        assert CliRunner().invoke(main, ["agent", "doctor", "--broker", "x://"]).exit_code == 2

    def test_restore(self, tmp_path: Path) -> None:
        policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
        policy.mkdir(parents=True)
        (policy / "scaling_max_freq").write_text("600000\n")
        (tmp_path / "state").mkdir()
        (tmp_path / "state/restore.jsonl").write_text(
            '{"kind":"file","target":"sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq",'
            '"before":"1800000","boot_id":""}\n'
        )
        arguments = ["agent", "restore", "--root", str(tmp_path)]
        arguments += ["--state", str(tmp_path / "state")]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        assert (policy / "scaling_max_freq").read_text() == "1800000\n"
        assert "nothing to put back" in CliRunner().invoke(main, arguments).output

"""Power modes, duty cycles, and the choice between the means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from fimi.energy.control.cpu_quota import CpuQuota
from fimi.energy.control.frequency import FrequencyControl
from fimi.energy.control.journal import Journal
from fimi.energy.control.nvpmodel import PowerModes, modes_hz, present_mode
from fimi.energy.control.programs import NOT_FOUND, ProgramResult, run_program
from fimi.energy.cost_model import ComputeModel

NANO = """
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_3 1
CPU_A57 MIN_FREQ  0
CPU_A57 MAX_FREQ -1
GPU MAX_FREQ -1
< POWER_MODEL ID=1 NAME=5W >
CPU_ONLINE CORE_3 0
CPU_A57 MAX_FREQ 918000
GPU MAX_FREQ 640000000
< POWER_MODEL ID=2 NAME=7W >
CPU_A57 MAX_FREQ 1224000
"""


COMPUTE = ComputeModel(
    cycles_per_sample=1e7,
    capacitance_w_per_hz3=1e-28,
    frequency_min_hz=0.6e9,
    frequency_max_hz=1.8e9,
)


class Closed(Journal):
    """A journal in a folder that this user may not write."""

    writable = False  # type: ignore[assignment]


class Module:
    """A Jetson's program nvpmodel, with the mode it keeps."""

    def __init__(self, root: Path, *, refuses: bool = False) -> None:
        self.mode = 0
        self.refuses = refuses
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/nvpmodel.conf").write_text(NANO)

    def run(self, arguments: Sequence[str]) -> ProgramResult:
        if arguments[1] == "-q":
            return ProgramResult(0, f"NV Power Mode: X\n{self.mode}\n", "")
        if self.refuses:
            return ProgramResult(1, "", "must be root")
        self.mode = int(arguments[2])
        return ProgramResult(0, "", "")


def cgroup(root: Path, processes: str = str(os.getpid())) -> Path:
    folder = root / "sys/fs/cgroup/fimi.scope"
    folder.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("1:name=systemd:/x\n0::/fimi.scope\n")
    (folder / "cpu.max").write_text("max 100000\n")
    (folder / "cgroup.procs").write_text(processes + "\n")
    return folder / "cpu.max"


class TestPowerModes:
    def test_the_lowest_mode_that_holds_the_deadline(self, tmp_path: Path) -> None:
        assert modes_hz(NANO) == {0: None, 1: 918e6, 2: 1224e6}
        module = Module(tmp_path)
        journal = Journal(tmp_path / "state", tmp_path, module.run)
        modes = PowerModes(tmp_path, journal, module.run)
        for asked_hz, mode, limit_hz in ((0.9e9, 1, 918e6), (1.0e9, 2, 1224e6), (1.4e9, 0, None)):
            cap = modes.cap(asked_hz)
            assert (module.mode, cap.frequency_hz) == (mode, limit_hz)
            assert (cap.applied, cap.means) == (True, "nvpmodel")
        modes.cap(0.9e9)
        journal.restore()
        assert module.mode == 0

    def test_refused(self, tmp_path: Path) -> None:
        module = Module(tmp_path, refuses=True)
        journal = Journal(tmp_path / "state", tmp_path, module.run)
        cap = PowerModes(tmp_path, journal, module.run).cap(1e9)
        assert not cap.applied
        assert "must be root" in cap.notes[0]

    def test_missing_program_and_file(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "state", tmp_path)
        assert "not a Jetson" in PowerModes(tmp_path, journal, run_program).cap(1e9).notes[0]
        Module(tmp_path)
        modes = PowerModes(tmp_path, journal, lambda _: ProgramResult(NOT_FOUND, "", ""))
        assert "not installed" in modes.cap(1e9).notes[0]

    @pytest.mark.parametrize("text", ["", "NV Power Mode: MAXN", "12 34x"])
    def test_an_answer_without_a_mode(self, text: str) -> None:
        assert present_mode(text) is None


class TestDutyCycle:
    def test_a_share_of_all_processors_labelled_as_such(self, tmp_path: Path) -> None:
        file = cgroup(tmp_path)
        journal = Journal(tmp_path / "state", tmp_path)
        cap = CpuQuota(tmp_path, journal, frequency_max_hz=2e9, cpus=4).cap(0.5e9)
        assert file.read_text() == "100000 100000\n"
        assert (cap.applied, cap.means, cap.frequency_hz) == (True, "duty-cycle", None)
        assert "does not follow κ f²" in cap.notes[0]
        journal.restore()
        assert file.read_text() == "max 100000\n"

    def test_others_are_not_slowed_down(self, tmp_path: Path) -> None:
        file = cgroup(tmp_path, f"{os.getpid()}\n1")
        journal = Journal(tmp_path / "state", tmp_path)
        cap = CpuQuota(tmp_path, journal, frequency_max_hz=2e9).cap(1e9)
        assert not cap.applied
        assert "1 other processes" in cap.notes[0]
        assert file.read_text() == "max 100000\n"

    def test_no_cgroup(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "state", tmp_path)
        cap = CpuQuota(tmp_path, journal, frequency_max_hz=2e9).cap(1e9)
        assert "systemd-run" in cap.notes[0]


class TestChoice:
    def control(self, root: Path, choice: str) -> FrequencyControl:
        module = Module(root)
        journal = Journal(root / "state", root, module.run)
        return FrequencyControl(
            root,
            journal,
            choice=choice,  # type: ignore[arg-type]
            frequency_max_hz=2e9,
            run=module.run,
        )

    def test_cpufreq_comes_first(self, tmp_path: Path) -> None:
        policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
        policy.mkdir(parents=True)
        (policy / "scaling_max_freq").write_text("1800000\n")
        assert self.control(tmp_path, "auto").cap(1e9).means == "cpufreq"

    def test_then_power_modes_and_the_notes_say_why(self, tmp_path: Path) -> None:
        cap = self.control(tmp_path, "auto").cap(1e9)
        assert (cap.means, cap.frequency_hz) == ("nvpmodel", 1224e6)
        assert "no cpufreq policy" in cap.notes[0]

    def test_a_duty_cycle_comes_last(self, tmp_path: Path) -> None:
        cgroup(tmp_path)
        control = self.control(tmp_path, "auto")
        (tmp_path / "etc/nvpmodel.conf").unlink()
        assert control.cap(1e9).means == "duty-cycle"

    def test_what_can_be_reached_without_setting_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        control = self.control(tmp_path, "auto")
        reach = control.reachable(COMPUTE)
        assert reach.compute.frequency_steps_hz == (918e6, 1224e6, 1.8e9), "the power modes"
        assert (reach.compute.frequency_min_hz, reach.why_fixed) == (918e6, "")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        reach = control.reachable(COMPUTE)
        assert reach.compute.frequency_min_hz == reach.compute.frequency_max_hz == 1.8e9
        assert "no cpufreq policy" in reach.why_fixed
        assert "not root" in self.control(tmp_path, "nvpmodel").reachable(COMPUTE).why_fixed
        assert not (tmp_path / "state").exists(), "nothing was changed, nothing journalled"

    def test_a_duty_cycle_is_no_frequency(self, tmp_path: Path) -> None:
        cgroup(tmp_path)
        (reached, why, _) = FrequencyControl(
            tmp_path, Journal(tmp_path / "state", tmp_path), frequency_max_hz=2e9
        ).reachable(COMPUTE)
        assert reached.frequency_min_hz == reached.frequency_max_hz
        assert why
        asked = self.control(tmp_path, "duty-cycle").reachable(COMPUTE)
        assert asked.compute == COMPUTE, "its slowing down was asked for by name"

    def test_without_a_journal_nothing_is_set(self, tmp_path: Path) -> None:
        policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
        policy.mkdir(parents=True)
        (policy / "scaling_max_freq").write_text("1800000\n")
        closed = Closed(tmp_path / "state", tmp_path)
        control = FrequencyControl(tmp_path, closed, choice="cpufreq", frequency_max_hz=2e9)
        assert "cannot be written" in control.reachable(COMPUTE).why_fixed

    def test_none(self, tmp_path: Path) -> None:
        cap = self.control(tmp_path, "none").cap(1e9)
        assert not cap.applied
        assert "none" in cap.notes[0]

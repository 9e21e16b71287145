"""What a kernel answers to a cap, cluster by cluster: each answer has its reason and its remedy.

An injected answer stands for the kernel's, because no tree of files can be busy.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from boards_of_files import Answers, Modes, control, cooling, gpu, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.control.clamps import clamp_of_gpu, heat_limit_khz, overruling
from fimi.energy.control.cpufreq import CpuFrequency
from fimi.energy.control.devfreq import GpuClock
from fimi.energy.control.frequency import FrequencyControl
from fimi.energy.control.journal import Journal
from fimi.energy.control.refusals import forbidden
from fimi.energy.cost_model import ComputeModel, ComputeSetting

POINTS = (408_000, 1_008_000, 1_416_000, 1_800_000)


def clusters(root: Path) -> list[Path]:
    """Three clusters, as in a board of ten cores."""
    return [policy(root, number, *POINTS) for number in (0, 4, 8)]


def limits(folders: list[Path]) -> list[tuple[str, str]]:
    return [
        ((f / "scaling_min_freq").read_text().strip(), (f / "scaling_max_freq").read_text().strip())
        for f in folders
    ]


def caps(folders: list[Path]) -> list[int]:
    return [int(high) for _, high in limits(folders)]


def frequency(root: Path) -> tuple[CpuFrequency, Journal]:
    journal = Journal(root / "state", root)
    return CpuFrequency(root, journal), journal


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return


class TestOff:
    def test_the_others_are_set_and_it_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = clusters(tmp_path)
        answers = Answers(monkeypatch)
        answers.goes_off(folders[2])
        cpufreq, journal = frequency(tmp_path)
        assert cpufreq.why_not() == ""
        cap = cpufreq.cap(1.0e9)
        assert (cap.applied, cap.means, cap.frequency_hz) == (True, "cpufreq", 1.008e9)
        assert cap.notes == ("policy8 (CPU 8) is switched off: left out",)
        assert caps(folders[:2]) == [1_008_000, 1_008_000]
        journal.restore()
        answers.comes_back(folders[2])
        assert caps(folders) == [1_800_000] * 3

    @pytest.mark.parametrize("answer", [errno.EBUSY, errno.EINVAL, errno.ENODEV])
    def test_one_that_goes_off_while_it_is_set(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        """Older kernels refuse the write as invalid, and go on to show what was in force."""
        folders = clusters(tmp_path)
        answers = Answers(monkeypatch)
        cpufreq, journal = frequency(tmp_path)

        def off(path: Path) -> None:
            if path.parent == folders[0]:
                with (folders[2] / "affected_cpus").open("w") as file:
                    file.write("\n")
                answers.writes[folders[2]] = answer

        answers.after_writes = off
        cap = cpufreq.cap(1.0e9)
        assert cap.applied
        assert cap.notes == ("policy8 (CPU 8) is switched off: left out",)
        assert caps(folders) == [1_008_000, 1_008_000, 1_800_000]
        journal.restore()
        assert caps(folders) == [1_800_000] * 3
        assert journal.changes == (), "what was refused left what was there"

    @pytest.mark.parametrize("answer", [errno.EBUSY, errno.ENODEV])
    def test_one_that_can_be_read_and_answers_writes_as_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        folders = clusters(tmp_path)
        answers = Answers(monkeypatch)
        answers.writes[folders[1]] = answer
        cpufreq, journal = frequency(tmp_path)
        cap = cpufreq.cap(1.0e9)
        assert (cap.applied, cap.frequency_hz) == (True, 1.008e9)
        assert cap.notes == ("policy4 (CPU 4) is switched off: left out",)
        journal.restore()
        setting, whole = control(tmp_path)
        done = setting.apply(ComputeSetting(cpu_hz={"policy0": 1.008e9, "policy4": 1.008e9}))
        assert not done.whole, "a part of it is off"
        assert "policy4 (CPU 4) is switched off" in done.notes[0]
        whole.restore()
        whole.close()
        answers.writes.clear()
        (folders[1] / "affected_cpus").write_text("4\n")
        answers.writes[folders[1]] = answer
        cap = cpufreq.cap(0.5e9)
        assert not cap.applied, "it is on: this is no cluster to be left out"
        assert caps(folders) == [1_800_000] * 3
        journal.restore()

    def test_one_whose_folder_goes_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = clusters(tmp_path)
        answers = Answers(monkeypatch)
        cpufreq, _ = frequency(tmp_path)

        def gone(path: Path) -> None:
            if path.parent == folders[0]:
                folders[2].rename(tmp_path / "gone")

        answers.after_writes = gone
        cap = cpufreq.cap(1.0e9)
        assert (cap.applied, cap.frequency_hz) == (True, 1.008e9)
        assert cap.notes == ("policy8 has gone away: left out",)

    def test_what_is_off_is_put_back_when_it_is_on_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        folders = clusters(tmp_path)
        answers = Answers(monkeypatch)
        cpufreq, journal = frequency(tmp_path)
        assert cpufreq.cap(1.0e9).applied
        answers.goes_off(folders[2])
        journal.restore()
        assert caps(folders[:2]) == [1_800_000] * 2
        assert [change.target.split("/")[-2] for change in journal.changes] == ["policy8"]
        assert "policy8 (CPU 8) is switched off. Switch it on, then `fimi agent restore`" in (
            caplog.text
        )
        journal.close()
        answers.comes_back(folders[2])
        assert caps(folders)[2] == 1_008_000, "the kernel keeps the cap of a cluster that is off"
        said = Journal(tmp_path / "state", tmp_path).recover()
        assert len(said) == 1
        assert caps(folders) == [1_800_000] * 3

    def test_all_of_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folders = clusters(tmp_path)
        answers = Answers(monkeypatch)
        for folder in folders:
            answers.goes_off(folder)
        cpufreq, _ = frequency(tmp_path)
        assert "switched off: policy0 (CPU 0), policy4" in cpufreq.why_not()
        cap = cpufreq.cap(1.0e9)
        assert (cap.applied, cap.frequency_hz) == (False, None)
        assert "virtual machine" not in cap.notes[0]

    def test_a_plan_stays_inside_what_is_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy(tmp_path, 0, 408_000, 1_416_000)
        big = policy(tmp_path, 4, 408_000, 2_400_000)
        answers = Answers(monkeypatch)
        model = ComputeModel(
            cycles_per_sample=1e7,
            capacitance_w_per_hz3=1e-28,
            frequency_min_hz=0.408e9,
            frequency_max_hz=2.4e9,
        )

        def reach() -> float:
            journal = Journal(tmp_path / "state", tmp_path)
            control = FrequencyControl(tmp_path, journal, frequency_max_hz=2.4e9)
            return control.reachable(model).compute.frequency_max_hz

        assert reach() == 2.4e9
        answers.goes_off(big)
        assert reach() == 1.416e9


REASONS = {
    errno.EACCES: "run the agent as root",
    errno.EPERM: "run the agent as root",
    errno.EROFS: "container",
    errno.EBUSY: "switched off, or changes just now",
    errno.EINVAL: "takes no such value",
    errno.ENODEV: "device is gone",
    errno.ENXIO: "device is gone",
    errno.EIO: "hardware or firmware refuses it",
    errno.ENOENT: "the file is gone",
    errno.ENOSPC: "No space left",
}


class TestReasons:
    @pytest.mark.usefixtures("user")
    @pytest.mark.parametrize("answer", REASONS)
    def test_a_write_that_fails_has_its_own_and_nothing_stays_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        folders = clusters(tmp_path)
        for folder in folders:
            (folder / "scaling_min_freq").write_text("1416000\n")
            (folder / "affected_cpus").write_text("0\n")
        before = limits(folders)
        Answers(monkeypatch).writes[folders[2] / "scaling_max_freq"] = answer
        cpufreq, journal = frequency(tmp_path)
        cap = cpufreq.cap(1.0e9)
        assert (cap.applied, cap.means) == (False, "none")
        assert len(cap.notes) == 1
        assert str(folders[2] / "scaling_max_freq") in cap.notes[0]
        assert os.strerror(answer) in cap.notes[0]
        assert REASONS[answer] in cap.notes[0]
        permits = answer in (errno.EACCES, errno.EPERM)
        assert ("agent as root" in cap.notes[0]) == permits, (
            "permissions are named only where they help"
        )
        assert limits(folders) == before
        assert journal.changes == ()

    def test_root_is_not_told_to_be_root(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder, *_) = clusters(tmp_path)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        Answers(monkeypatch).writes[folder] = errno.EPERM
        note = frequency(tmp_path)[0].cap(1.0e9).notes[0]
        assert "not even by root" in note
        assert "run the agent as root" not in note

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (errno.EACCES, "may not be read"),
            (errno.EIO, "does not answer"),
            (errno.EINVAL, "no value for it now"),
            (errno.ETIMEDOUT, "in time"),
        ],
    )
    def test_a_read_that_fails_has_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, says: str
    ) -> None:
        folders = clusters(tmp_path)
        before = limits(folders)
        answers = Answers(monkeypatch)
        answers.reads[folders[1] / "scaling_max_freq"] = answer
        cpufreq, _ = frequency(tmp_path)
        assert says in cpufreq.why_not()
        cap = cpufreq.cap(1.0e9)
        assert not cap.applied
        assert says in cap.notes[0]
        answers.reads.clear()
        assert limits(folders) == before

    def test_what_is_mounted_read_only_is_no_matter_of_permission(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "scaling_max_freq"
        assert forbidden(file) is None
        file.write_text("1\n")
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert "by this user" in (forbidden(file) or ("",))[0]
        flags = os.statvfs_result((*os.statvfs(file)[:8], os.ST_RDONLY, 255))
        monkeypatch.setattr(os, "statvfs", lambda path: flags)
        found = forbidden(file)
        assert found is not None
        assert "read-only" in found.why
        assert "container" in found.remedy


@settings(max_examples=60, deadline=None)
@given(
    states=st.lists(
        st.sampled_from(["on", "off", "heat", "refuses", "overruled"]), min_size=3, max_size=3
    ),
    asked_hz=st.sampled_from([0.3e9, 1.0e9, 1.2e9, 1.8e9, 3e9]),
    refusal=st.sampled_from([errno.EACCES, errno.EINVAL, errno.EIO]),
)
def test_a_cap_is_whole_or_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    states: list[str],
    asked_hz: float,
    refusal: int,
) -> None:
    """Whatever each cluster answers: every one that is on is capped, or none is."""
    root = tmp_path_factory.mktemp("board")
    folders = clusters(root)
    before = limits(folders)
    target = next((khz for khz in POINTS if khz * 1e3 >= asked_hz), POINTS[-1])
    with pytest.MonkeyPatch.context() as patch:
        answers = Answers(patch)
        wished: dict[Path, int] = {}

        def kernel(path: Path) -> None:
            place = next((k for k, f in enumerate(folders) if path == f / "scaling_max_freq"), None)
            if place is None:
                return
            wished[path] = int(path.read_text())
            shown = {"heat": 408_000, "overruled": 1_800_000}.get(states[place])
            if shown is not None:
                with path.open("w") as file:
                    file.write(f"{shown}\n")

        answers.after_writes = kernel
        for folder, state in zip(folders, states, strict=True):
            if state == "off":
                answers.goes_off(folder)
            if state == "refuses":
                (folder / "affected_cpus").write_text("0\n")
                answers.writes[folder / "scaling_max_freq"] = refusal
        cpufreq, journal = frequency(root)
        cap = cpufreq.cap(asked_hz)
        held = [
            (f / "scaling_max_freq", state)
            for f, state in zip(folders, states, strict=True)
            if state != "off"
        ]
        must_fail = target < POINTS[-1] and {"refuses", "overruled"} & set(states)
        assert cap.applied == (bool(held) and not must_fail)
        if cap.applied:
            assert all(int(file.read_text()) <= target for file, _ in held)
            assert cap.clamped == ("heat" in states and target not in (408_000, POINTS[-1]))
        elif held:
            for file, _ in held:
                assert wished.get(file, POINTS[-1]) == POINTS[-1], "nothing of ours stays"
            assert journal.changes == ()
        for folder, state in zip(folders, states, strict=True):
            if state == "off":
                assert any(folder.name in note for note in cap.notes)
        answers.after_writes = lambda path: None
        answers.reads.clear()
        answers.writes.clear()
        journal.restore()
        assert limits(folders) == before or {"heat", "overruled"} & set(states)


class TestClamp:
    def hot(self, root: Path, patch: pytest.MonkeyPatch, limit_khz: int = 1_008_000) -> list[Path]:
        """Two clusters; the second is held by heat, whatever is written."""
        folders = [policy(root, 0, *POINTS), policy(root, 4, *POINTS)]
        cooling(root, 0, "pwm-fan", 3, 4)
        cooling(root, 1, "cpufreq-cpu0", 0, 3)
        cooling(root, 2, "cpufreq-cpu4", 3 - POINTS.index(limit_khz), 3)
        file = folders[1] / "scaling_max_freq"
        answers = Answers(patch)
        wished = [POINTS[-1]]

        def show() -> None:
            with file.open("w") as opened:
                opened.write(f"{min(wished[0], self.limit_khz)}\n")

        def kernel(path: Path) -> None:
            if path == file:
                wished[0] = int(file.read_text())
                show()

        self.limit_khz = limit_khz
        self.show = show
        answers.after_writes = kernel
        show()
        return folders

    def cools(self, root: Path) -> None:
        self.limit_khz = POINTS[-1]
        cooling(root, 2, "cpufreq-cpu4", 0, 3)
        self.show()

    def test_it_is_reported_and_answered_by_no_other_brake(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = self.hot(tmp_path, monkeypatch)
        modes = Modes(tmp_path)
        journal = Journal(tmp_path / "state", tmp_path, modes.run)
        control = FrequencyControl(tmp_path, journal, frequency_max_hz=1.8e9, run=modes.run)
        cap = control.cap(1.4e9)
        assert (cap.applied, cap.means, cap.clamped) == (True, "cpufreq", True)
        (note,) = cap.notes
        assert note == (
            "policy4: clamped by heat (cooling device cpufreq-cpu4 at step 2 of 3) at 1.008 GHz, "
            "1.416 GHz was set"
        )
        assert caps(folders) == [1_416_000, 1_008_000]
        assert modes.mode == 0

    def test_the_cap_holds_when_the_heat_has_gone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also one that reads like the limit of heat before anything is written."""
        folders = self.hot(tmp_path, monkeypatch)
        cpufreq, _ = frequency(tmp_path)
        assert cpufreq.cap(1.0e9).applied
        self.cools(tmp_path)
        assert caps(folders) == [1_008_000, 1_008_000]

    def test_a_limit_of_heat_is_not_put_back_as_a_wish(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = self.hot(tmp_path, monkeypatch)
        cpufreq, journal = frequency(tmp_path)
        cpufreq.cap(0.5e9)
        journal.restore()
        self.cools(tmp_path)
        assert caps(folders) == [1_800_000, 1_800_000]

    def test_a_wish_below_the_limit_of_heat_is_put_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = self.hot(tmp_path, monkeypatch, limit_khz=1_416_000)
        (folders[1] / "scaling_max_freq").write_text("1008000\n")
        assert heat_limit_khz(tmp_path, folders[1], POINTS) == 1_416_000
        cpufreq, journal = frequency(tmp_path)
        cpufreq.cap(0.4e9)
        journal.restore()
        self.cools(tmp_path)
        assert caps(folders) == [1_800_000, 1_008_000]

    def test_a_measured_point_is_not_whole_but_stays_set(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = self.hot(tmp_path, monkeypatch)
        setting, journal = control(tmp_path)
        wish = ComputeSetting(cpu_hz={"policy0": 1.416e9, "policy4": 1.8e9})
        done = setting.apply(wish)
        assert (done.whole, done.clamped, done.means) == (False, True, "cpufreq")
        assert done.setting.cpu_hz == {"policy0": 1.416e9, "policy4": 1.008e9}
        assert "clamped by heat" in done.notes[0]
        assert caps(folders) == [1_416_000, 1_008_000]
        journal.restore()

    def test_the_firmware(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = policy(tmp_path, 0, *POINTS)
        (folder / "bios_limit").write_text("1008000\n")
        Overwriting(monkeypatch, folder, 1_008_000)
        cap = frequency(tmp_path)[0].cap(1.4e9)
        assert (cap.applied, cap.clamped) == (True, True)
        assert "clamped by the firmware (bios_limit 1008000 kHz) at 1.008 GHz" in cap.notes[0]

    @pytest.mark.parametrize(("khz", "applied"), [(408_000, True), (1_800_000, False)])
    def test_another_program_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, khz: int, applied: bool
    ) -> None:
        """Lower is a clamp; higher means that the cap does not hold."""
        folder = policy(tmp_path, 0, *POINTS)
        for number, name in ((1, "systemd"), (17, "power-profiles-")):
            (tmp_path / f"proc/{number}").mkdir(parents=True)
            (tmp_path / f"proc/{number}/comm").write_text(f"{name}\n")
        assert overruling(tmp_path) == ["power-profiles-daemon"]
        Overwriting(monkeypatch, folder, khz)
        cap = frequency(tmp_path)[0].cap(1.4e9)
        assert (cap.applied, cap.clamped) == (applied, applied)
        assert "power-profiles-daemon" in cap.notes[0]

    @pytest.mark.parametrize(
        ("bits", "says"), [(0x4, "throttled"), (0x8, "soft limit"), (0xF0000, ""), (0x1, "")]
    )
    def test_a_raspberry_pi_holds_its_clock_where_no_cap_shows_it(
        self, tmp_path: Path, bits: int, says: str
    ) -> None:
        policy(tmp_path, 0, *POINTS)
        file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
        file.parent.mkdir(parents=True)
        file.write_text(f"{bits:x}\n")
        cap = frequency(tmp_path)[0].cap(1.4e9)
        assert cap.applied
        assert bool(cap.notes) == bool(says)
        assert says in "".join(cap.notes)

    def test_a_gpu(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        graphics = gpu(tmp_path, "17000000.gpu", (306_000_000, 408_000_000, 510_000_000))
        cooling(tmp_path, 0, "devfreq-17000000.gpu", 2, 2)
        assert clamp_of_gpu(tmp_path).heat
        answers = Answers(monkeypatch)

        def kernel(path: Path) -> None:
            if path.name == "max_freq":
                with path.open("w") as file:
                    file.write("306000000\n")

        answers.after_writes = kernel
        found = GpuClock(tmp_path, Journal(tmp_path / "state", tmp_path)).cap(408e6)
        assert (found.frequency_hz, found.clamped) == (306e6, True)
        assert "GPU: clamped by heat" in found.note
        assert (graphics / "max_freq").read_text() == "306000000\n"


class Overwriting:
    """Something that overwrites the cap of a cluster after every write."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, khz: int) -> None:
        answers = Answers(patch)

        def overwrite(path: Path) -> None:
            if path == folder / "scaling_max_freq":
                with path.open("w") as file:
                    file.write(f"{khz}\n")

        answers.after_writes = overwrite

"""What was changed comes back: on restore, after SIGKILL, in the right order, and nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from fimi.energy.control.journal import FILE_NAME, Journal, SteeredElsewhereError
from fimi.energy.control.programs import ProgramResult

REPOSITORY = Path(__file__).parents[3]
STEER = """
import sys, time
from pathlib import Path
from fimi.energy.control.cpufreq import CpuFrequency
from fimi.energy.control.journal import Journal
root = Path(sys.argv[1])
journal = Journal(root / "state", root)
cap = CpuFrequency(root, journal).cap(1e9)
print(cap.applied, flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


def policy(root: Path, number: int = 0) -> Path:
    folder = root / "sys/devices/system/cpu/cpufreq" / f"policy{number}"
    folder.mkdir(parents=True)
    (folder / "scaling_min_freq").write_text("1500000\n")
    (folder / "scaling_max_freq").write_text("1800000\n")
    return folder


def boot(root: Path, name: str) -> None:
    file = root / "proc/sys/kernel/random/boot_id"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(name)


def limits(folder: Path) -> tuple[str, str]:
    names = ("scaling_min_freq", "scaling_max_freq")
    return tuple((folder / name).read_text().strip() for name in names)  # type: ignore[return-value]


def child(root: Path, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", STEER, str(root), how],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    return process


class TestAfterSigkill:
    def test_the_next_start_puts_it_back(self, tmp_path: Path) -> None:
        folder = policy(tmp_path)
        process = child(tmp_path, "wait")
        assert limits(folder) == ("1000000", "1000000")
        with pytest.raises(SteeredElsewhereError):
            Journal(tmp_path / "state", tmp_path).recover()
        assert limits(folder) == ("1000000", "1000000"), "its owner is alive"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        said = Journal(tmp_path / "state", tmp_path).recover()
        assert limits(folder) == ("1500000", "1800000")
        assert len(said) == 2
        assert all(line.startswith("put back: sys/devices") for line in said)
        assert Journal(tmp_path / "state", tmp_path).recover() == []

    def test_the_next_agent_does_it_before_its_own_first_change(self, tmp_path: Path) -> None:
        folder, other = policy(tmp_path), policy(tmp_path, 4)
        process = child(tmp_path, "leave")
        process.communicate()
        journal = Journal(tmp_path / "state", tmp_path)
        journal.write(other / "scaling_max_freq", "1700000")
        assert limits(folder) == ("1500000", "1800000")
        journal.restore()
        assert limits(other) == ("1500000", "1800000")

    def test_a_reboot_has_put_it_back_already(self, tmp_path: Path) -> None:
        folder = policy(tmp_path)
        boot(tmp_path, "first")
        child(tmp_path, "leave").communicate()
        (folder / "scaling_max_freq").write_text("1200000\n")  # this boot's own setting
        boot(tmp_path, "second")
        assert Journal(tmp_path / "state", tmp_path).recover() != []
        assert limits(folder)[1] == "1200000"
        assert (tmp_path / "state" / FILE_NAME).read_bytes() == b""


class TestJournal:
    def test_it_is_on_disk_before_the_change_is_made(self, tmp_path: Path) -> None:
        folder = policy(tmp_path)

        class Watched(Journal):
            def _write(self, path: Path, text: str) -> None:
                assert '"before":"1800000"' in self.path.read_text()
                super()._write(path, text)

        journal = Watched(tmp_path / "state", tmp_path)
        journal.write(folder / "scaling_max_freq", "1600000")
        journal.write(folder / "scaling_max_freq", "1700000")
        assert len(journal.changes) == 1
        assert limits(folder)[1] == "1700000"
        journal.restore()
        assert limits(folder)[1] == "1800000"

    def test_no_change_without_a_journal(self, tmp_path: Path) -> None:
        folder = policy(tmp_path)
        (tmp_path / "state").write_text("in the way")
        with pytest.raises(OSError, match="state"):
            Journal(tmp_path / "state", tmp_path).write(folder / "scaling_max_freq", "1600000")
        assert limits(folder)[1] == "1800000"

    def test_a_torn_line_is_ignored(self, tmp_path: Path) -> None:
        folder = policy(tmp_path)
        child(tmp_path, "leave").communicate()
        with (tmp_path / "state" / FILE_NAME).open("a") as file:
            file.write('{"kind":"file","target":"sys/devices/sys')
        Journal(tmp_path / "state", tmp_path).recover()
        assert limits(folder) == ("1500000", "1800000")

    @pytest.mark.parametrize(
        "line",
        [
            '{"kind":"file","target":"etc/passwd","before":"x","boot_id":""}',
            '{"kind":"file","target":"sys/fs/cgroup/../../../etc/cpu.max","before":"x","boot_id":""}',
            '{"kind":"file","target":"sys/class/devfreq/gpu/../../../../etc/max_freq","before":"0",'
            '"boot_id":""}',
            '{"kind":"file","target":"sys/class/devfreq/dmc/max_freq","before":"0","boot_id":""}',
            '{"kind":"qdisc","target":"eth0;reboot","before":"","boot_id":""}',
            '{"kind":"power-mode","target":"","before":"0; reboot","boot_id":""}',
        ],
    )
    def test_a_forged_journal_changes_nothing_else(self, tmp_path: Path, line: str) -> None:
        victim = tmp_path / "etc" / "passwd"
        victim.parent.mkdir()
        victim.write_text("root")
        (victim.parent / "cpu.max").write_text("max")
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / FILE_NAME).write_text(line + "\n")

        def run(arguments: Sequence[str]) -> ProgramResult:
            raise AssertionError(f"ran {arguments}")

        said = Journal(tmp_path / "state", tmp_path, run).recover()
        assert said[0].startswith("not put back")
        assert victim.read_text() == "root"
        assert (victim.parent / "cpu.max").read_text() == "max"

    def test_programs_are_undone_by_programs(self, tmp_path: Path) -> None:
        ran: list[list[str]] = []

        def run(arguments: Sequence[str]) -> ProgramResult:
            ran.append(list(arguments))
            return ProgramResult(0, "", "")

        boot(tmp_path, "first")
        journal = Journal(tmp_path / "state", tmp_path, run)
        journal.claim()
        journal.change("power-mode", "", "0")
        journal.change("qdisc", "wlan0", "")
        journal.close()
        boot(tmp_path, "second")  # power modes outlive a reboot, queueing disciplines do not
        Journal(tmp_path / "state", tmp_path, run).recover()
        assert ran == [["nvpmodel", "-m", "0"]]


STEP = """
import os, signal, sys
from pathlib import Path
from fimi.energy.control.journal import Journal

root, last = Path(sys.argv[1]), int(sys.argv[2])
names = [f"policy{k}/scaling_max_freq" for k in range(3)]
files = [root / "sys/devices/system/cpu/cpufreq" / name for name in names]
journal = Journal(root / "state", root)
for file in files:
    journal.write(file, "1600000")

steps = 0
def stepping(do):
    def step(*args, **more):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return do(*args, **more)
    return step

for name in ("open", "write", "fsync", "ftruncate", "replace", "rename", "unlink", "close"):
    setattr(os, name, stepping(getattr(os, name)))
journal.put_back(lambda change: "policy1" in change.target)
print("whole", flush=True)
"""


class TestCrash:
    def test_killed_at_any_step_nothing_is_lost(self, tmp_path: Path) -> None:
        """A part of the changes is undone while a kill may come between any two system calls."""
        for last in range(1, 40):
            root = tmp_path / str(last)
            folders = [policy(root, number) for number in range(3)]
            done = subprocess.run(
                [sys.executable, "-c", STEP, str(root), str(last)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                check=False,
            )
            assert done.returncode in (0, -signal.SIGKILL)
            Journal(root / "state", root).recover()
            assert [limits(folder)[1] for folder in folders] == ["1800000"] * 3, last
            if done.returncode == 0:
                break
        assert done.stdout == "whole\n"
        assert last > 5, "there were steps to be killed at"

    def test_a_line_after_a_torn_one_counts(self, tmp_path: Path) -> None:
        folder = policy(tmp_path)
        (tmp_path / "state").mkdir()
        file = tmp_path / "state" / FILE_NAME
        file.write_text('{"kind":"file","target":"sys/devices/sys')
        journal = Journal(tmp_path / "state", tmp_path)
        journal.write(folder / "scaling_max_freq", "1600000")
        journal.close()  # as a killed process does
        assert len(Journal(tmp_path / "state", tmp_path).recover()) == 1
        assert limits(folder)[1] == "1800000"

    def test_a_full_disk_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = policy(tmp_path), policy(tmp_path, 4)
        journal = Journal(tmp_path / "state", tmp_path)
        journal.write(first / "scaling_max_freq", "1600000")
        before = journal.path.read_bytes()
        write, room = os.write, [20]

        def full(file: int, data: bytes) -> int:
            """Takes what there is room for, then nothing, as a disk does."""
            if not room[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = write(file, data[: room[0]])
            room[0] -= taken
            return taken

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                journal.write(second / "scaling_max_freq", "1600000")
        assert journal.path.read_bytes() == before
        assert limits(second)[1] == "1800000"
        journal.write(second / "scaling_max_freq", "1600000")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            assert journal.put_back(lambda change: "policy4" in change.target) == []
        assert limits(second)[1] == "1800000"
        assert '"policy0' in journal.path.read_text().replace("cpufreq/", '"')
        journal.close()
        Journal(tmp_path / "state", tmp_path).recover()
        assert limits(first)[1] == limits(second)[1] == "1800000"

    def test_the_lock_stays_with_the_journal_when_it_is_replaced(self, tmp_path: Path) -> None:
        folders = [policy(tmp_path), policy(tmp_path, 4)]
        journal = Journal(tmp_path / "state", tmp_path)
        for folder in folders:
            journal.write(folder / "scaling_max_freq", "1600000")
        before = journal.path.stat().st_ino
        journal.put_back(lambda change: "policy4" in change.target)
        assert journal.path.stat().st_ino != before
        with pytest.raises(SteeredElsewhereError):
            Journal(tmp_path / "state", tmp_path).recover()
        assert [each.name for each in (tmp_path / "state").iterdir()] == [FILE_NAME]
        journal.restore()
        assert [limits(folder)[1] for folder in folders] == ["1800000"] * 2

    def test_who_waited_at_a_replaced_journal_takes_the_new_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = [policy(tmp_path), policy(tmp_path, 4)]
        owner = Journal(tmp_path / "state", tmp_path)
        for folder in folders:
            owner.write(folder / "scaling_max_freq", "1600000")
        lock, late = fcntl.flock, []

        def between(file: int, how: int) -> None:
            """The owner writes a shorter journal, and dies, after the other has opened it."""
            if not late:
                late.append(file)
                owner.put_back(lambda change: "policy4" in change.target)
                owner.close()
            lock(file, how)

        monkeypatch.setattr(fcntl, "flock", between)
        other = Journal(tmp_path / "state", tmp_path)
        assert len(other.recover()) == 1
        assert [limits(folder)[1] for folder in folders] == ["1800000"] * 2

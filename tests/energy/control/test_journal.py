"""What was changed comes back: on restore, after SIGKILL, in the right order, and nothing else."""

from __future__ import annotations

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

"""What has been changed on this machine, on disk before it is changed.

A :class:`Journal` writes down the previous state and waits until it is on the disk; only then the
change is made. :meth:`Journal.restore` puts everything back, on exit, exceptions and SIGTERM. After
SIGKILL or a power cut the lines are still there: the next agent, ``fimi agent restore`` (which a
systemd unit runs as ``ExecStopPost``) or :func:`recover` undoes them. One process steers a machine
at a time: the journal is locked for as long as it lives, and the kernel lifts the lock of a process
that dies.

Only the kernel's frequency and quota files, power modes and queueing disciplines are ever put back,
whatever a journal says.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from fimi.energy.control.programs import Run, run_program
from fimi.energy.sysfs import read_text
from fimi.files import sync_folder

FILE_NAME = "restore.jsonl"

_FILES = re.compile(
    r"^sys/(devices/system/cpu/cpufreq/policy\d+/scaling_(min|max)_freq"
    r"|fs/cgroup/([\w@.:\\-]+/)*cpu\.max)$"
)
_INTERFACE = re.compile(r"^[\w.:-]{1,15}$")
log = logging.getLogger(__name__)


class Change(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that was changed.

    Attributes:
        kind: a file that was written, a power mode, a queueing discipline.
        target: the file below the root, or the network interface.
        before: what the file held, or the number of the power mode.
        boot_id: of the boot in which it was changed.
    """

    kind: Literal["file", "power-mode", "qdisc"]
    target: str
    before: str
    boot_id: str


class SteeredElsewhereError(OSError):
    """Another process steers this machine."""


class Journal:
    """The changes of this process.

    Args:
        folder: where the journal lies; made if needed.
        root: of the file system.
        run: runs programs.
    """

    def __init__(self, folder: Path, root: Path = Path("/"), run: Run = run_program) -> None:
        self.path = folder / FILE_NAME
        self._root = root
        self._run = run
        self._file: int | None = None
        self._changes: list[Change] = []

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is changed at present."""
        return tuple(self._changes)

    @property
    def writable(self) -> bool:
        """Whether this user may write it, or the folders that it needs."""
        nearest = self.path
        while not nearest.exists():
            nearest = nearest.parent
        return os.access(nearest, os.W_OK)

    def claim(self) -> None:
        """Become the one process that steers this machine; undo what one that died has left.

        Before anything is asked for its previous state: that must not be a dead agent's.

        Raises:
            SteeredElsewhereError: another process steers this machine.
            OSError: the journal cannot be opened.
        """
        if self._file is not None:
            return
        self._open()
        if self._changes:
            self._changes, problems = self._undo(self._changes)
            for problem in problems:
                log.warning("left by an earlier process and not put back: %s", problem)
            self._rewrite()

    def write(self, path: Path, text: str) -> None:
        """Write a kernel file; what it held before the first write comes back at the end.

        Raises:
            OSError: if the journal or the file cannot be written, or the file cannot be read.
        """
        self.claim()
        target = path.relative_to(self._root).as_posix()
        self._record("file", target, path.read_text(encoding="ascii").strip())
        self._write(path, text)

    def change(self, kind: Literal["power-mode", "qdisc"], target: str, before: str) -> None:
        """Something else is about to be changed, after :meth:`claim`.

        Raises:
            OSError: if the journal cannot be written.
        """
        self._record(kind, target, before)

    def restore(self) -> None:
        """Put everything back; what fails is logged and stays in the journal."""
        if not self._changes:
            self.close()
            return
        self._changes, problems = self._undo(self._changes)
        for problem in problems:
            log.warning("not put back: %s", problem)
        self._rewrite()
        if not self._changes:
            self.close()

    def recover(self) -> list[str]:
        """Undo what a process that died has left behind.

        Returns:
            One sentence for each thing that was put back or could not be.

        Raises:
            SteeredElsewhereError: the process that left it is alive.
            OSError: the journal cannot be opened.
        """
        if not self.path.exists():
            return []
        self._open()
        left = self._changes
        self._changes, problems = self._undo(left)
        done = [change for change in left if change not in self._changes]
        self._rewrite()
        self.close()
        back = [f"put back: {c.target or c.kind} to {c.before or 'what it was'}" for c in done]
        return back + [f"not put back: {problem}" for problem in problems]

    def close(self) -> None:
        """Let go of the lock; what is still in the journal stays there."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _record(
        self, kind: Literal["file", "power-mode", "qdisc"], target: str, before: str
    ) -> None:
        if any((each.kind, each.target) == (kind, target) for each in self._changes):
            return
        boot_id = read_text(self._root / "proc/sys/kernel/random/boot_id") or ""
        self._changes.append(Change(kind=kind, target=target, before=before, boot_id=boot_id))
        self._append(self._changes[-1:])

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = not self.path.exists()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise SteeredElsewhereError(
                errno.EBUSY, "another process steers this machine", str(self.path)
            ) from None
        if fresh:
            sync_folder(self.path.parent)
        self._file = file
        self._changes = list(_read(self.path))

    def _append(self, changes: list[Change]) -> None:
        assert self._file is not None
        os.lseek(self._file, 0, os.SEEK_END)
        os.write(self._file, b"".join(msgspec.json.encode(each) + b"\n" for each in changes))
        os.fsync(self._file)

    def _rewrite(self) -> None:
        assert self._file is not None
        os.ftruncate(self._file, 0)
        self._append(self._changes)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(f"{text}\n", encoding="ascii")

    def _undo(self, changes: list[Change]) -> tuple[list[Change], list[str]]:
        """Undo changes, the last first; returns what is left and why."""
        boot_id = read_text(self._root / "proc/sys/kernel/random/boot_id") or ""
        # A reboot has put back everything but the power mode.
        left = [c for c in changes if c.boot_id == boot_id or c.kind == "power-mode"]
        problems: list[str] = []
        while left:
            # The kernel refuses a floor above its ceiling: what fails may work after the rest.
            failed: list[Change] = []
            problems = []
            for change in reversed(left):
                if problem := self._undo_one(change):
                    failed.insert(0, change)
                    problems.append(problem)
            if len(failed) == len(left):
                return left, problems
            left = failed
        return left, problems

    def _undo_one(self, change: Change) -> str:
        if change.kind == "file":
            if not _FILES.match(change.target) or ".." in change.target:
                return f"{change.target} is no file that an agent may have changed"
            path = self._root / change.target
            try:
                if not path.exists():
                    return ""  # a cgroup that is gone
                self._write(path, change.before)
            except OSError as error:
                return f"{path} could not be set back to {change.before}: {error.strerror}"
            return ""
        if change.kind == "power-mode":
            if not change.before.isdecimal():
                return f"{change.before!r} is no power mode"
            done = self._run(["nvpmodel", "-m", change.before])
            return "" if done.code == 0 else f"power mode {change.before}: {done.error}"
        if not _INTERFACE.match(change.target):
            return f"{change.target!r} is no network interface"
        done = self._run(["tc", "qdisc", "del", "dev", change.target, "root"])
        gone = done.code == 0 or "No such file" in done.error or "handle of zero" in done.error
        return "" if gone else f"rate cap of {change.target}: {done.error}"


def default_folder(root: Path = Path("/")) -> Path:
    """Where this user's journal lies: ``/var/lib/fimi`` for root, else the user's state folder."""
    if os.geteuid() == 0:
        return root / "var" / "lib" / "fimi"
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "fimi"


def _read(path: Path) -> list[Change]:
    changes = []
    for line in path.read_bytes().splitlines():
        try:
            changes.append(msgspec.json.decode(line, type=Change))
        except msgspec.DecodeError:
            # A line that was being written when the power went: its change was not made yet.
            log.warning("%s: a line is not whole and is ignored", path)
    return changes

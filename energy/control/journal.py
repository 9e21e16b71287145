"""The previous state of everything that an agent changes on its machine, kept on disk.

A :class:`Journal` writes down the previous state and waits until it is on the disk; only then the
change is made. :meth:`Journal.restore` undoes all changes, on exit, exceptions and SIGTERM. After
SIGKILL or a power cut the lines are still in the file: the next agent, ``fimi agent restore``
(which a systemd unit runs as ``ExecStopPost``) or :func:`recover` undoes the changes. One process
steers a machine at a time: the journal is locked for as long as the process lives, and the kernel
releases the lock of a process that dies.

The file is never without what has not been undone. A line is added at its end and synced. A shorter
journal is written to a second file, which then takes the name of the first; a process that is
killed in between leaves the longer one, and undoing a change twice is harmless. The lock goes with
the file: the second one is locked before it takes the name, and who has waited at the first sees
that it is no longer the journal.

Only the kernel's frequency files of processor and GPU, its quota files, power modes and queueing
disciplines are ever restored, whatever a journal says.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from fimi.energy.clusters import is_off, off_in_words
from fimi.energy.control.programs import Run, run_program
from fimi.energy.sysfs import read_file, read_text
from fimi.files import is_at, sync_folder

FILE_NAME = "restore.jsonl"

_FILES = re.compile(
    r"^sys/(devices/system/cpu/cpufreq/policy\d+/scaling_(min|max)_freq"
    r"|class/devfreq/[\w.:-]*(gpu|gp10b|gv11b|ga10b)[\w.:-]*/(min|max)_freq"
    r"|fs/cgroup/([\w@.:\\-]+/)*cpu\.max)$"
)
_INTERFACE = re.compile(r"^[\w.:-]{1,15}$")
log = logging.getLogger(__name__)


ChangeKind = Literal["file", "power-mode", "qdisc"]
"""A file, the power mode or a queueing discipline."""


class Change(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change of the machine, with the state before it.

    Attributes:
        kind: what was changed.
        target: the file below the root, or the network interface.
        before: what the file held, or the number of the power mode.
        boot_id: the boot in which it was changed.
    """

    kind: ChangeKind
    target: str
    before: str
    boot_id: str


class SteeredElsewhereError(OSError):
    """Another process steers this machine."""


class Journal:
    """A file that keeps the state before every change of this machine, until it is restored.

    Its folder is made if needed.
    """

    def __init__(self, folder: Path, root: Path = Path("/"), run: Run = run_program) -> None:
        self.path = folder / FILE_NAME
        self._root = root
        self._run = run
        self._file: int | None = None
        self._changes: list[Change] = []

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changes that have not been undone."""
        return tuple(self._changes)

    @property
    def writable(self) -> bool:
        """Whether this user may write the journal, or make the folders that it needs."""
        nearest = self.path
        while not nearest.exists():
            nearest = nearest.parent
        return os.access(nearest, os.W_OK)

    def claim(self) -> None:
        """Become the one process that steers this machine; undo the changes of a dead process.

        Called before any previous state is read: that must not be the cap of a dead agent.

        Raises:
            SteeredElsewhereError: another process steers this machine.
            OSError: the journal cannot be opened.
        """
        if self._file is not None:
            return
        self._open()
        if self._changes:
            for problem in self._undo():
                log.warning("left by an earlier process and not put back: %s", problem)

    def write(self, path: Path, text: str, *, before: str | None = None) -> None:
        """Write a kernel file; :meth:`restore` writes what it held before the first write.

        Args:
            path: the file.
            text: what is written.
            before: what is to be restored, where the file does not show it.

        Raises:
            OSError: if the journal or the file cannot be written, or the file cannot be read.
        """
        self.claim()
        target = path.relative_to(self._root).as_posix()
        held = read_file(path)
        self.change("file", target, held if before is None else before)
        self._write(path, text)

    def change(self, kind: ChangeKind, target: str, before: str) -> None:
        """Note the state before a change is made, if it is the first one. Needs :meth:`claim`.

        Raises:
            OSError: if the journal cannot be written.
        """
        if any((each.kind, each.target) == (kind, target) for each in self._changes):
            return
        made = Change(kind=kind, target=target, before=before, boot_id=self._boot_id())
        self._append([made])
        self._changes.append(made)

    def restore(self) -> None:
        """Undo all changes; what fails is logged and stays in the journal."""
        if self._changes:
            for problem in self._undo():
                log.warning("not put back: %s", problem)
        if not self._changes:
            self.close()

    def put_back(self, which: Callable[[Change], bool]) -> list[str]:
        """Undo some of the changes; the others stay.

        Returns:
            One sentence for each change that could not be undone; it stays in the journal.
        """
        if not any(which(change) for change in self._changes):
            return []
        self.claim()
        return self._undo(which)

    def recover(self) -> list[str]:
        """Undo the changes that a dead process has left.

        Returns:
            One sentence for each change that was undone or could not be.

        Raises:
            SteeredElsewhereError: the process that made the changes is alive.
            OSError: the journal cannot be opened.
        """
        if not self.path.exists():
            return []
        self._open()
        left = self._changes
        problems = self._undo()
        done = [change for change in left if change not in self._changes]
        self.close()
        back = [f"put back: {c.target or c.kind} to {c.before or 'what it was'}" for c in done]
        return back + [f"not put back: {problem}" for problem in problems]

    def close(self) -> None:
        """Release the lock; what is still in the journal stays there."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = not self.path.exists()
        file = self._locked()
        if fresh:
            sync_folder(self.path.parent)
        self._file = file
        self._changes = list(_read(self.path))

    def _locked(self) -> int:
        """The journal, opened and locked."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_at(file, self.path):  # else its owner has written a shorter one meanwhile
                    return file
            except BlockingIOError:
                os.close(file)
                raise SteeredElsewhereError(
                    errno.EBUSY, "another process steers this machine", str(self.path)
                ) from None
            os.close(file)

    def _append(self, changes: list[Change]) -> None:
        """Add lines at the end and wait until they are on the disk; all of them or none."""
        assert self._file is not None
        end = os.lseek(self._file, 0, os.SEEK_END)
        data = _lines(changes)
        if end and os.pread(self._file, 1, end - 1) != b"\n":
            data = b"\n" + data  # a line that is not whole must not swallow the next one
        try:
            _write_all(self._file, data, self.path)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            raise

    def _keep(self, changes: list[Change]) -> None:
        """Let the journal hold these changes only.

        Raises:
            OSError: that cannot be written; the journal holds what it held before.
        """
        assert self._file is not None
        if not changes:
            os.ftruncate(self._file, 0)
            os.fsync(self._file)
            return
        second = self.path.with_name(f".{FILE_NAME}.part")
        second.unlink(missing_ok=True)  # of a process that was killed
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(second, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(file, _lines(changes), second)
            os.fsync(file)
            second.replace(self.path)
        except OSError:
            os.close(file)
            with contextlib.suppress(OSError):
                second.unlink()
            raise
        os.close(self._file)
        self._file = file
        sync_folder(self.path.parent)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(f"{text}\n", encoding="ascii")

    def _boot_id(self) -> str:
        return read_text(self._root / "proc/sys/kernel/random/boot_id") or ""

    def _undo(self, which: Callable[[Change], bool] = lambda change: True) -> list[str]:
        """Undo changes, the last one first; keeps those that failed, and returns why."""
        boot_id, problems, tried = self._boot_id(), [], -1
        kept = [change for change in self._changes if not which(change)]
        # A reboot has undone everything but the power mode.
        left = [c for c in self._changes if which(c)]
        left = [c for c in left if c.boot_id == boot_id or c.kind == "power-mode"]
        while left and len(left) != tried:
            # The kernel refuses a minimum above the maximum: what fails may work after the rest.
            tried = len(left)
            answers = [(change, self._undo_one(change)) for change in reversed(left)]
            left = [change for change, problem in reversed(answers) if problem]
            problems = [problem for _, problem in answers if problem]
        stays = [change for change in self._changes if change in kept or change in left]
        self._changes = stays
        try:
            self._keep(stays)
        except OSError as error:
            # What was undone is still listed: undoing it again is harmless, losing the rest is not.
            log.warning("%s still lists what was undone: %s", self.path, error.strerror)
        return problems

    def _why_not_back(self, path: Path, before: str, error: OSError) -> str:
        said = f"{path} could not be set back to {before}: {error.strerror}"
        if path.parent.name.startswith("policy") and is_off(path.parent):
            return (
                f"{said}; {off_in_words(path.parent)} is switched off. Switch it on, then "
                "`fimi agent restore`"
            )
        return said

    def _undo_one(self, change: Change) -> str:
        if change.kind == "file":
            if not _FILES.match(change.target) or ".." in change.target:
                return f"{change.target} is no file that an agent may have changed"
            path = self._root / change.target
            try:
                if not path.exists():
                    return ""  # the cgroup does not exist any more
                self._write(path, change.before)
            except OSError as error:
                # A write that was refused when it was made has left what was there.
                same = read_text(path) == change.before
                return "" if same else self._why_not_back(path, change.before, error)
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


def _lines(changes: list[Change]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in changes)


def _write_all(file: int, data: bytes, path: Path) -> None:
    """Write all bytes: a full disk takes a part of them without an error."""
    while data:
        written = os.write(file, data)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        data = data[written:]


def default_folder(root: Path = Path("/")) -> Path:
    """Folder of this user's journal: ``/var/lib/fimi`` for root, else the user's state folder."""
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
            # The power failed while this line was written: its change was not made yet.
            log.warning("%s: a line is not whole and is ignored", path)
    return changes

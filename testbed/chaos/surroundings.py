"""What a process lives on, made bad: a full disk, files that may not grow, a clock that jumps.

============  ==========================================  ==========================================
what          how                                         needs
============  ==========================================  ==========================================
full disk     :class:`OwnDisk`: a small file system in    Linux; root, or user namespaces that users
              memory that only this process sees; a file  may make; ``unshare``, ``nsenter``,
              takes the rest of it: ENOSPC                ``mount`` (util-linux)
file limit    :func:`limit_files`: RLIMIT_FSIZE of a      Linux; the process is of the same user
              running process: EFBIG
clock         :class:`OwnClock`: ``own_clock.c`` under    a C compiler; a 64-bit Linux; a program
              the process, which reads a file             that is linked dynamically
============  ==========================================  ==========================================

:class:`SecretFile` is no fault: it is how a command gets credentials that outlive nobody; nor is
:func:`scratch_folder`.

The clock of the whole machine is left alone. A time namespace moves the monotonic clock and not the
time of day; with libfaketime 0.9.10 ``time.sleep`` of Python 3.11 fails.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fimi.errors import SurroundingsError
from fimi.files import FileInUse, FileLock

_PREFIX, _LOCK = "fimi-chaos-", "running"
_YOUNG_S = 10.0
_FILLER = ".fimi-chaos-fills-this-disk"
_SOURCE = Path(__file__).with_name("own_clock.c")


class FaultError(SurroundingsError):
    """A fault cannot be made on this machine; the message says why, and what is missing."""

    code = "X008"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for as long as the block lasts.

    Where this process is killed it stays; then the next one that makes a folder here removes it.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError, FileInUse):
            of = lock.parent.lstat()  # what others have put there may be a trap
            mine = stat.S_ISDIR(of.st_mode) and (of.st_uid, of.st_mode & 0o077) == (os.geteuid(), 0)
            # A younger one may be of a process that is about to take it.
            if mine and time.time() - lock.lstat().st_mtime > _YOUNG_S:
                held = FileLock(lock)
                shutil.rmtree(lock.parent, ignore_errors=True)
                held.release()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        held = FileLock(Path(name) / _LOCK)
        try:
            yield Path(name)
        finally:
            held.release()


class SecretFile:
    """A file with a secret, in memory and without a name: it is gone with this process.

    That is so however the process ends.

    Args:
        text: what stands in it.
        spare: where it is written to on a system that has no such files; its folder is removed in
            the end, but not if this process is killed.
        own_users: whether it is read from a user namespace, which may not look into this process:
            then its reader inherits it, and can give it to no children.

    Attributes:
        path: by which processes of this user open it.
        handles: to be inherited by its reader.
    """

    def __init__(self, text: str, spare: Path, *, own_users: bool = False) -> None:
        self.handles: tuple[int, ...] = ()
        if not hasattr(os, "memfd_create"):
            self._handle = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self.path = str(spare)
        else:
            self._handle = os.memfd_create("fimi-secret", os.MFD_CLOEXEC)
            os.fchmod(self._handle, 0o600)
            whose = "self" if own_users else str(os.getpid())
            self.path = f"/proc/{whose}/fd/{self._handle}"
            self.handles = (self._handle,) if own_users else ()
        with open(self._handle, "w", closefd=False) as file:
            file.write(text)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._handle)


class OwnDisk:
    """A small file system in memory, seen by the commands that are started in it.

    It lives as long as this object, also while its process is killed and started again.

    Args:
        folder: where the process sees it.
        size_bytes: its size.

    Raises:
        FaultError: it cannot be made.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        if not folder.is_dir():
            raise FaultError(f"a disk for {folder}: there is no such folder; make it first")
        self._folder = folder.absolute()
        # as root no user namespace is needed; the mount is gone with the last process that sees it
        flags = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
        script = 'mount -t tmpfs -o "size=$1,mode=0755" fimi-chaos "$0" && echo ready && exec cat'
        try:
            self._holder = subprocess.Popen(
                ["unshare", *flags, "sh", "-c", script, str(self._folder), str(size_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise FaultError(f"a disk for {folder}: {error}; it needs unshare (Linux)") from error
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            said = self._holder.stderr.read().decode(errors="replace").strip()
            self.close()
            raise FaultError(
                f"a disk for {folder} cannot be made: {said}; it needs root, or a Linux whose "
                "users may make namespaces (kernel.unprivileged_userns_clone = 1)"
            )

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words in front of a command that is to see it."""
        inside = ["nsenter", f"--target={self._holder.pid}", "--mount"]
        if os.geteuid() != 0:
            inside += ["--user", "--preserve-credentials"]
        # the working folder once more: that of this process lies outside
        return (*inside, "sh", "-c", 'cd "$0" && exec "$@"', str(Path.cwd()))

    @property
    def place(self) -> Path:
        """The same folder as seen from here."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}")

    def fill(self) -> int:
        """Take all that is free; returns how many bytes that was."""
        size = 0
        with (self.place / _FILLER).open("wb", buffering=0) as file:
            for piece in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        size += file.write(bytes(piece))
        return size

    def free(self) -> None:
        """Give it back."""
        (self.place / _FILLER).unlink(missing_ok=True)

    def close(self) -> None:
        """Be gone, as soon as no process sees it any more."""
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._holder.wait(5.0)
        if self._holder.poll() is None:
            self._holder.kill()
            self._holder.wait()


class OwnClock:
    """The time of day of a command, which can jump. Durations go on as they did.

    Args:
        folder: for what is compiled and written here; the command needs it as long as it runs.
        name: of the process.

    Raises:
        FaultError: it cannot be compiled.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder.absolute() / f"clock-{name}"
        self._library = folder.absolute() / "own_clock.so"
        if not self._library.exists():
            compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
            if compiler is None or not sys.platform.startswith("linux"):
                raise FaultError(
                    "a clock that jumps needs Linux and a C compiler: install one (Debian: apt "
                    "install gcc), or leave own_clock out"
                )
            words = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self._library)]
            words += [str(_SOURCE), "-ldl"]
            made = subprocess.run(words, capture_output=True, text=True, check=False)
            if made.returncode:
                raise FaultError(f"{_SOURCE} cannot be compiled with {compiler}: {made.stderr}")
        self._file.write_bytes(bytes(8))

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a command that is to have it."""
        preload = os.environ.get("LD_PRELOAD", "")
        return {
            "LD_PRELOAD": f"{self._library} {preload}".strip(),
            "FIMI_CHAOS_CLOCK": str(self._file),
        }

    def jump(self, by_s: float) -> None:
        """Be so much ahead of the machine's clock, s, from now on."""
        with self._file.open("r+b", buffering=0) as file:  # in place: it is mapped
            file.write(round(by_s * 1e9).to_bytes(8, sys.byteorder, signed=True))


def limit_files(pid: int, limit_bytes: int | None) -> None:
    """Let no file of a process grow beyond a size, bytes; ``None``: as far as it may at all.

    Raises:
        FaultError: it may not be limited from here.
    """
    if not sys.platform.startswith("linux"):
        raise FaultError("the files of a running process can be limited on Linux only")
    import resource

    try:
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        soft = most if limit_bytes is None else limit_bytes
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, most))
    except (OSError, ValueError) as error:
        raise FaultError(
            f"files of process {pid} cannot be limited: {error}; it must run, and be of the same "
            "user, or this must be root"
        ) from error

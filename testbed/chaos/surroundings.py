"""What a process lives on, made bad: a full disk, files that may not grow, a clock that jumps.

============  ==========================================  ==========================================
what          how                                         needs
============  ==========================================  ==========================================
full disk     :class:`OwnDisk`: a small file system in    Linux; root, or user namespaces that users
              memory that only this process sees; a file  may make; ``unshare``, ``nsenter``,
              takes the rest of it: ENOSPC                ``mount`` (util-linux)
file limit    :func:`limit_files`: RLIMIT_FSIZE of a      Linux; the process is of the same user
              running process: EFBIG
clock         :class:`OwnClock`: libfaketime under the    the library (Debian: ``libfaketime``), a
              process, which reads a file                 program that is linked dynamically
============  ==========================================  ==========================================

The clock of the whole machine is left alone. A time namespace moves the monotonic clock and not the
time of day, so it is of no use here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from fimi.errors import SurroundingsError

_FILLER = ".fimi-chaos-fills-this-disk"
_LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
    "/opt/homebrew/lib/faketime/libfaketimeMT.so.1",
)
_READY_S = 10.0


class FaultError(SurroundingsError):
    """A fault cannot be made on this machine; the message says why, and what is missing."""


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
        inside = ("nsenter", f"--target={self._holder.pid}", "--mount", f"--wd={Path.cwd()}")
        if os.geteuid() == 0:
            return inside
        return (*inside, "--user", "--preserve-credentials")

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
        file: is written for the library; removed by :meth:`close`.

    Raises:
        FaultError: there is no libfaketime.
    """

    def __init__(self, file: Path) -> None:
        found = [path for pattern in _LIBRARIES for path in sorted(Path("/").glob(pattern[1:]))]
        if not found:
            raise FaultError(
                "a clock that jumps needs libfaketime, which is not there: install it (Debian: "
                "apt install libfaketime), or leave own_clock out"
            )
        self._library, self._file = found[0], file.absolute()
        self.jump(0.0)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a command that is to have it."""
        preload = os.environ.get("LD_PRELOAD", "")
        return {
            "LD_PRELOAD": f"{self._library} {preload}".strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its name before 0.9.9
        }

    def jump(self, by_s: float) -> None:
        """Be so much ahead of the machine's clock, s, from now on."""
        # rewritten in place and never empty: the library may read it at any moment
        self._file.write_text(f"{by_s:+.3f}\n", encoding="ascii")

    def close(self) -> None:
        """Remove its file."""
        self._file.unlink(missing_ok=True)


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

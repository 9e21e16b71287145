"""Files that are written completely or not at all, and locks; every package may import this.

* :func:`write_whole`   replace a file by new content
* :func:`whole_file`    the same for content that is written piece by piece
* :func:`sync_folder`   wait until the names in a folder are on the disk
* :func:`is_at`         whether an open file still has its name
* :class:`FileLock`     one process at a time

The content goes to a hidden file beside the target, which then takes the target's name. A reader
sees the old file or the new one, never a part of one. If the disk is full, the old file stays and
the hidden one is removed. A process that is killed may leave a hidden file; a later write to the
same target removes it when it is older than an hour.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import random
import secrets
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_LOOKS_S = 5.0
"""For how long those are waited for who look whether somebody holds a lock, s: each takes an
instant."""
_STALE_S = 3600.0
"""Age at which a hidden file is removed, s: the process that wrote it was killed."""


def write_whole(
    path: Path,
    data: bytes | str,
    *,
    mode: int | None = None,
    durable: bool = True,
    owner: tuple[int, int] | None = None,
) -> None:
    """Replace a file, or make it; its folder must exist.

    Args:
        path: of the file; a link is followed, and a device or pipe is simply written to.
        data: its new content; text is encoded as UTF-8.
        mode: its permissions; ``None``: those of the file that is replaced, or of any new file.
        durable: whether the content must be on the disk on return.
        owner: numbers of the user and group whose it is; ``None``: those of this process.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    with whole_file(path, mode=mode, durable=durable, owner=owner) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def whole_file(
    path: Path,
    *,
    mode: int | None = None,
    durable: bool = True,
    owner: tuple[int, int] | None = None,
) -> Iterator[IO[bytes]]:
    """A file to write to, which becomes ``path`` when the block ends without an exception.

    Args:
        path: as for :func:`write_whole`, like the rest.
        mode: its permissions.
        durable: whether the content must be on the disk when the block has ended.
        owner: whose it is.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    path = path.resolve()
    before = path.stat() if path.exists() else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        with path.open("wb") as file:
            yield file
        return
    if mode is None and before is not None:
        mode = stat.S_IMODE(before.st_mode)
    _remove_stale(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # Nobody but the owner may read a secret, not even before its permissions are set.
    try:
        handle = os.open(partial, flags, 0o666 if mode is None else mode & 0o600 | 0o200)
    except OSError as error:
        error.filename = str(path)  # the one that was asked for, not the hidden one
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if owner is not None:
            os.chown(partial, *owner)
        if mode is not None:
            partial.chmod(mode)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can.

    Raises:
        OSError: the disk failed.
    """
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems do not know it
            raise
    finally:
        os.close(handle)


class FileInUse(RuntimeError):  # noqa: N818 - nothing is wrong with the file
    """Another process holds a lock; the text says which."""


def is_at(file: int, path: Path) -> bool:
    """Whether an open file has this name: another process may have removed or replaced it."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


class FileLock:
    """Holds a lock of the operating system until it is released, or until its process is gone.

    So what a killed process has held can be used at once. The file may stay; it says nothing but
    who held it last.

    Args:
        path: of the file of the lock, whose folder must exist.

    Raises:
        FileInUse: somebody else holds it, another part of this process included.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._taken()

    def _taken(self) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                _lock_alone(file)
                if is_at(file, self._path):  # else the last holder has removed it meanwhile
                    with contextlib.suppress(OSError):  # a full disk: it is held all the same
                        os.ftruncate(file, 0)
                        said = f"process {os.getpid()} on {socket.gethostname()}\n"
                        os.write(file, said.encode())
                    return file
            except BlockingIOError:
                holder = os.read(file, 200).decode(errors="replace").strip()
                os.close(file)
                raise FileInUse(holder or "another process") from None
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    @staticmethod
    def holder(path: Path) -> str:
        """Who holds the lock of this file, in words; empty if nobody does.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return ""
        try:
            _lock(file, shared=True)
        except BlockingIOError:
            return os.read(file, 200).decode(errors="replace").strip() or "another process"
        finally:
            os.close(file)
        return ""

    def release(self) -> None:
        """Remove the file and let go of it; a second call does nothing."""
        if self._file < 0:
            return
        file, self._file = self._file, -1
        with contextlib.suppress(OSError):
            self._path.unlink()  # before letting go: who waits for this one looks for it again
        os.close(file)


if sys.platform == "win32":

    def _lock(file: int, *, shared: bool = False) -> None:
        """A lock of another kind is needed here; who starts two processes is not stopped."""

    def _unlock(file: int) -> None:
        """There is none."""

else:
    import fcntl

    def _lock(file: int, *, shared: bool = False) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


def _lock_alone(file: int) -> None:
    """Take a lock; who only looks at it (:meth:`FileLock.holder`) is waited for.

    Raises:
        BlockingIOError: somebody holds it.
    """
    limit_s = time.monotonic() + _LOOKS_S
    while True:
        try:
            _lock(file)
            return
        except BlockingIOError:
            _lock(file, shared=True)  # fails if somebody holds it; else somebody looks
            _unlock(file)
            if time.monotonic() > limit_s:
                raise
        time.sleep(0.001 * (1.0 + random.random()))


def _remove_stale(path: Path) -> None:
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime > _STALE_S:
                other.unlink()

"""One process per run folder: who writes a run store holds a lock beside it.

:class:`StoreLock` is a lock of the operating system on ``run.lock``. It goes with its process,
however that ends, so that a run that was killed can be gone on with at once. The file may stay; it
says nothing but who held it last.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path


class StoreInUse(RuntimeError):  # noqa: N818 - nothing is wrong with the store
    """Another process writes this run; the text says which."""


class StoreLock:
    """Holds the lock of a store until it is released.

    Args:
        store: the file, ``run.sqlite``.

    Raises:
        StoreInUse: somebody else holds it, another part of this process included.
        OSError: the file cannot be made.
    """

    def __init__(self, store: Path) -> None:
        self._path = store.with_suffix(".lock")
        self._file = self._taken()

    def _taken(self) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
            try:
                _lock(file)
                if _is_at(file, self._path):  # else the last holder has removed it meanwhile
                    os.ftruncate(file, 0)
                    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                    return file
            except BlockingIOError:
                holder = os.read(file, 200).decode(errors="replace").strip()
                os.close(file)
                raise StoreInUse(holder or "another process") from None
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def release(self) -> None:
        """Remove the file and let go of it; a second call does nothing."""
        if self._file < 0:
            return
        file, self._file = self._file, -1
        with contextlib.suppress(OSError):
            self._path.unlink()  # before letting go: who waits for this one looks for it again
        os.close(file)


if sys.platform == "win32":

    def _lock(file: int) -> None:
        """A lock of another kind is needed here; who starts two processes is not stopped."""

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False

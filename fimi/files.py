"""Files that are written completely or not at all; every package may import this.

* :func:`write_whole`   replace a file by new content
* :func:`whole_file`    the same for content that is written piece by piece
* :func:`sync_folder`   wait until the names in a folder are on the disk

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
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_STALE_S = 3600.0
"""Age at which a hidden file is removed, s: the process that wrote it was killed."""


def write_whole(
    path: Path, data: bytes | str, *, mode: int | None = None, durable: bool = True
) -> None:
    """Replace a file, or make it; its folder must exist.

    Args:
        path: of the file; a link is followed, and a device or pipe is simply written to.
        data: its new content; text is encoded as UTF-8.
        mode: its permissions; ``None``: those of the file that is replaced, or of any new file.
        durable: whether the content must be on the disk on return.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    with whole_file(path, mode=mode, durable=durable) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def whole_file(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to, which becomes ``path`` when the block ends without an exception.

    Args:
        path: as for :func:`write_whole`, like the rest.
        mode: its permissions.
        durable: whether the content must be on the disk when the block has ended.

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
    handle = os.open(partial, flags, 0o666 if mode is None else mode & 0o600 | 0o200)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
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


def _remove_stale(path: Path) -> None:
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime > _STALE_S:
                other.unlink()

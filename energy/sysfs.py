"""Reading numbers from sysfs: a missing, unreadable or invalid value is ``None``, never zero.

The root is a parameter everywhere, so that tests can use a tree of files instead of a board. What
a kernel answers and a tree cannot (busy, gone, input/output error) goes through :func:`read_file`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")


def read_file(path: Path) -> str:
    """The file's text without surrounding white space.

    Raises:
        OSError: the kernel does not give it; the number of the error says why.
        UnicodeDecodeError: it is not ASCII.
    """
    return path.read_text(encoding="ascii").strip()


def read_text(path: Path) -> str | None:
    """The file's text without surrounding white space, or ``None`` if it cannot be read."""
    try:
        return read_file(path)
    except (OSError, UnicodeDecodeError):
        return None


def read_count(path: Path) -> int | None:
    """The non-negative integer in a file, or ``None`` if it cannot be read or is anything else."""
    text = read_text(path)
    return int(text) if text is not None and text.isdecimal() else None


def read_signed(path: Path) -> int | None:
    """The integer in a file, of either sign, or ``None``."""
    text = read_text(path)
    if text is None or not text.removeprefix("-").isdecimal():
        return None
    return int(text)


def complete(values: Iterable[Value | None]) -> list[Value]:
    """The values, or none of them where one is missing: a sum without it would be wrong."""
    every = list(values)
    known = [value for value in every if value is not None]
    return known if len(known) == len(every) else []


def own_cgroup(root: Path) -> Path | None:
    """The folder of this process's cgroup, if cgroup v2 is mounted."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            return root / "sys/fs/cgroup" / line[3:].lstrip("/")
    return None


FORBIDDEN = "may not be read by this user"
"""What :func:`why_unreadable` says where permissions are missing, and nothing else is."""

_UNREADABLE = {
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.ENOENT: "does not exist",
    errno.EBUSY: "is busy: what it belongs to is switched off, or changes just now",
    errno.ENODEV: "belongs to a device that is gone",
    errno.ENXIO: "belongs to a device that is gone",
    errno.EIO: "cannot be read: the hardware or its firmware does not answer",
    errno.EINVAL: "cannot be read: its driver has no value for it now",
    errno.EAGAIN: "has no value yet",
    errno.ETIMEDOUT: "cannot be read: the hardware did not answer in time",
}


def why_unreadable(path: Path) -> str:
    """Why :func:`read_count` gives ``None`` for a file, as the end of a sentence."""
    try:
        text = read_file(path)
    except OSError as error:
        said, number = os.strerror(error.errno or 0), error.errno or 0
        if number in (errno.EACCES, errno.EPERM, errno.ENOENT):
            return _UNREADABLE[number]
        why = _UNREADABLE.get(number)
        return f"cannot be read ({said})" if why is None else f"{why} ({said})"
    except UnicodeDecodeError:
        return "does not hold text"
    return f"holds {text[:40]!r} instead of a number"

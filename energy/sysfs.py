"""Reading numbers from sysfs: a missing, unreadable or invalid value is ``None``, never zero.

The root is a parameter everywhere, so that tests can use a tree of files instead of a board.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")


def read_text(path: Path) -> str | None:
    """The file's text without surrounding white space, or ``None`` if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
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


def switched_off(policy: Path) -> bool:
    """Whether a cpufreq policy's cores are all off: its files are there and answer "busy".

    What may not be read, or holds no number, is not off.
    """
    if read_text(policy / "affected_cpus") == "":
        return True
    try:
        (policy / "scaling_max_freq").read_bytes()
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EPERM, errno.ENOENT)
    return False


def own_cgroup(root: Path) -> Path | None:
    """The folder of this process's cgroup, if cgroup v2 is mounted."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            return root / "sys/fs/cgroup" / line[3:].lstrip("/")
    return None


def why_unreadable(path: Path) -> str:
    """Why :func:`read_count` gives ``None`` for a file, as the end of a sentence."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except PermissionError:
        return "may not be read by this user"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        return "does not hold text"
    return f"holds {text[:40]!r} instead of a number"

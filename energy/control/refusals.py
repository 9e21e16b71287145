"""Why a kernel file could not be written, and what helps: each answer has its own reason.

* :class:`Hindrance`      a reason, and the remedy that fits it
* :func:`refusal`       of a write that failed
* :func:`forbidden`     of a write that would fail, found without writing

==================  ==============================================================================
answer              means
==================  ==============================================================================
EACCES, EPERM       not permitted: to this user; to root, a container or a security module
EROFS               ``/sys`` is mounted read-only, as in a container
EBUSY               what is to be set is switched off, or somebody changes it just now
EINVAL              the value is out of bounds; older kernels: what is to be set is switched off
ENODEV, ENXIO       the device is gone, or its driver was unloaded
ENOENT              the file is gone
EIO                 hardware or firmware refuses
==================  ==============================================================================
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

PERMIT = (
    "run the agent as root, or let its group write the file (`fimi agent doctor` prints the rule)"
)
_OUTSIDE = "run the agent outside the container, or with a writable /sys"


class Hindrance(NamedTuple):
    """Why something cannot be set.

    Attributes:
        why: the end of a sentence about the file.
        remedy: what helps; empty where nothing is known to help.
    """

    why: str
    remedy: str = ""

    def about(self, what: object) -> str:
        """The whole sentence about a file."""
        return f"{what} {self.why}" + (f": {self.remedy}" if self.remedy else "")


def refusal(error: OSError, value: str) -> Hindrance:
    """Why ``value`` could not be written.

    Args:
        error: what the kernel answered.
        value: what was to be set, with its unit.
    """
    said = os.strerror(error.errno or 0)
    could_not = f"could not be set to {value} ({said})"
    if error.errno in (errno.EACCES, errno.EPERM):
        if os.geteuid() == 0:
            why = f"{could_not}, not even by root"
            return Hindrance(why, "a container, a security module or the governor forbids it")
        return Hindrance(could_not, PERMIT)
    found = {
        errno.EROFS: Hindrance(could_not, _OUTSIDE),
        errno.EBUSY: Hindrance(f"{could_not}: it is switched off, or changes just now"),
        errno.EINVAL: Hindrance(
            f"{could_not}: the kernel takes no such value",
            "look at the limits beside the file, and whether something else holds one of them",
        ),
        errno.ENODEV: Hindrance(f"{could_not}: the device is gone, or its driver was unloaded"),
        errno.ENXIO: Hindrance(f"{could_not}: the device is gone, or its driver was unloaded"),
        errno.ENOENT: Hindrance(f"{could_not}: the file is gone"),
        errno.EIO: Hindrance(
            f"{could_not}: hardware or firmware refuses it", "look at the last lines of dmesg"
        ),
    }
    return found.get(error.errno or 0, Hindrance(could_not))


def forbidden(path: Path) -> Hindrance | None:
    """Why a file cannot be written, without trying; ``None`` if it can, or is not there."""
    if not path.exists() or os.access(path, os.W_OK):
        return None
    try:
        read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        read_only = False
    if read_only:
        return Hindrance("is mounted read-only", _OUTSIDE)
    return Hindrance("cannot be written by this user", PERMIT)

"""Which cores and which clusters of this machine are on.

A cluster is a cpufreq policy: a group of cores that share a clock. Cores are switched off by hand,
by a power mode, or to save energy. When the last core of a cluster goes off, the folder of its
policy stays; newer kernels then answer "busy" to every read and write, older ones show what was
last in force, refuse writes as invalid, and show an empty ``affected_cpus``.

* :func:`clusters`     the folders of the policies
* :func:`is_off`       whether all cores of a policy are off
* :func:`refused_as_off`  whether that is why a write was refused
* :func:`cores_of`     the cores of a policy, on or off
* :func:`cores_off`    the cores of the machine that are off
* :func:`in_words`     numbers of cores, as the kernel writes them: ``8-15``
* :func:`off_in_words`  a policy that is off, with its cores
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from pathlib import Path

from fimi.energy.sysfs import read_file, read_text

FOLDER = "sys/devices/system/cpu"
_POLICY = re.compile(r"^policy(\d+)$")
_CORE = re.compile(r"^cpu(\d+)$")
_RANGE = re.compile(r"^(\d{1,6})(?:-(\d{1,6}))?$")
_OFF = {errno.EBUSY, errno.ENODEV, errno.ENXIO, errno.EISDIR}
"""Answers of a policy whose cores are off; in a tree of files, a folder stands for such a file."""


def clusters(root: Path) -> list[Path]:
    """The folders of all policies, in the order of their numbers."""
    folder = root / FOLDER / "cpufreq"
    return sorted((each for each in folder.glob("policy*") if _number(each) >= 0), key=_number)


def is_off(policy: Path) -> bool:
    """Whether all cores of a policy are off. What may not be read, or holds no number, is not."""
    if read_text(policy / "affected_cpus") == "":
        return True
    told = _told(policy)
    if told:
        return not any(told)
    try:
        read_file(policy / "scaling_max_freq")
    except OSError as error:
        return error.errno in _OFF
    except UnicodeDecodeError:
        return False
    return False


def refused_as_off(policy: Path, error: OSError) -> bool:
    """Whether a write was refused because all cores of a policy are off.

    So it is where the policy is off, or answers as one that is, and nothing says that it is on.
    """
    if is_off(policy):
        return True
    known_on = any(_told(policy)) or bool(read_text(policy / "affected_cpus"))
    return error.errno in _OFF and not known_on


def cores_of(policy: Path) -> tuple[int, ...]:
    """The cores of a policy, on or off; at least the one that it is named after.

    By ``related_cpus``; where that cannot be read, because the policy is off, by the links from the
    cores to their policies, which stay.
    """
    related = _listed(read_text(policy / "related_cpus"))
    if related:
        return related
    linked = []
    for folder in policy.parents[1].glob("cpu[0-9]*"):
        core = _CORE.match(folder.name)
        link = folder / "cpufreq"
        if core and link.is_symlink() and link.readlink().name == policy.name:
            linked.append(int(core[1]))
    return tuple(sorted(linked)) or (_number(policy),)


def cores_off(root: Path) -> tuple[int, ...]:
    """The cores of this machine that are off, as far as the kernel tells."""
    folder = root / FOLDER
    off = {
        int(core[1])
        for each in folder.glob("cpu[0-9]*")
        if (core := _CORE.match(each.name)) and read_text(each / "online") == "0"
    }
    present = _listed(read_text(folder / "present"))
    if present:  # cores that a machine might have and has not are listed as offline too
        off |= set(_listed(read_text(folder / "offline"))) & set(present)
    for policy in clusters(root):
        if is_off(policy):
            off |= set(cores_of(policy))
    return tuple(sorted(off))


def in_words(cores: Iterable[int]) -> str:
    """Numbers of cores, neighbours as a range: ``1,8-15``."""
    parts: list[list[int]] = []
    for core in sorted(set(cores)):
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def off_in_words(policy: Path) -> str:
    """A policy that is off, with its cores: ``policy8 (CPU 8-15)``."""
    return f"{policy.name} (CPU {in_words(cores_of(policy))})"


def _number(policy: Path) -> int:
    found = _POLICY.match(policy.name)
    return int(found[1]) if found else -1


def _told(policy: Path) -> list[bool]:
    """Which cores of a policy are on, as far as the kernel tells."""
    return [on for core in cores_of(policy) if (on := _is_on(policy, core)) is not None]


def _is_on(policy: Path, core: int) -> bool | None:
    """Whether a core is on; ``None`` if unknown, as for a first core that cannot be switched."""
    told = read_text(policy.parents[1] / f"cpu{core}" / "online")
    return {"0": False, "1": True}.get(told or "")


def _listed(text: str | None) -> tuple[int, ...]:
    """The numbers in a list such as ``0-3,8`` or ``0 1 2``."""
    found: set[int] = set()
    for word in re.split(r"[,\s]+", text or ""):
        if each := _RANGE.match(word):
            first = int(each[1])
            found |= set(range(first, int(each[2] or first) + 1))
    return tuple(sorted(found))

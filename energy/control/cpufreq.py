"""Capping the CPU's frequency through the kernel's cpufreq files, and restoring it.

A cap is ``scaling_max_freq`` of every policy (a policy is a group of cores that share a clock).
The lowest operating point that is not below the planned frequency is written, because the kernel
itself would round down and break the planned deadline. What is written is read back: firmware,
other daemons and thermal limits may overrule it.

A cluster whose cores are all off answers "busy": it is left out, with a note.

The cap outlives the process. The journal that writes it restores the previous state.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from fimi.energy.control.journal import Journal
from fimi.energy.sysfs import complete, read_count, read_text, switched_off, why_unreadable

FLOOR, CEILING = "scaling_min_freq", "scaling_max_freq"
EVERY_CLUSTER = "all"
"""Stands for every cluster in :attr:`fimi.energy.cost_model.ComputeSetting.cpu_hz`."""
Means = Literal["cpufreq", "nvpmodel", "duty-cycle", "none"]


class FrequencyCap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result of setting a cap.

    Attributes:
        frequency_hz: the cap in force, the highest of all policies; ``None`` if unknown.
        applied: whether every policy accepted it.
        means: how it was set.
        notes: what could not be applied and why, one sentence each.
    """

    frequency_hz: float | None
    applied: bool
    means: Means = "none"
    notes: tuple[str, ...] = ()


def refused(note: str, frequency_hz: float | None = None) -> FrequencyCap:
    """No cap was set, for this reason; ``frequency_hz`` is the one in force, if known."""
    return FrequencyCap(frequency_hz=frequency_hz, applied=False, notes=(note,))


class CpuFrequency:
    """The cpufreq policies of this machine; a journal writes their files."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self._folder = root / "sys" / "devices" / "system" / "cpu" / "cpufreq"
        self._journal = journal

    def policies(self) -> list[Path]:
        """The folders of the policies whose cores are on."""
        return [policy for policy in self._all() if not switched_off(policy)]

    def off(self) -> list[str]:
        """The names of the policies whose cores are all off."""
        return [policy.name for policy in self._all() if switched_off(policy)]

    def _all(self) -> list[Path]:
        return sorted(self._folder.glob("policy*"))

    def in_force_hz(self) -> float | None:
        """The cap in force, the highest of all policies; ``None`` if one cannot be read."""
        caps_khz = complete(read_count(policy / CEILING) for policy in self.policies())
        return max(caps_khz) * 1e3 if caps_khz else None

    def range_hz(self) -> tuple[tuple[float, ...], bool]:
        """What can be set: the operating points of the fastest policy, or the ends of its range.

        Returns:
            Frequencies, ascending, Hz; none if they cannot be read. Whether only these can be set
            (true) or everything between the ends as well (false).
        """
        policies = [(read_count(p / "cpuinfo_max_freq") or 0, p) for p in self.policies()]
        if not policies:
            return (), False
        _, fastest = max(policies)
        points_khz = _operating_points_khz(fastest)
        if len(points_khz) > 1:
            return tuple(1e3 * khz for khz in points_khz), True
        ends = [read_count(fastest / f"cpuinfo_{end}_freq") for end in ("min", "max")]
        return (tuple(1e3 * end for end in ends if end) if all(ends) else ()), False

    def level(self, frequency_hz: float) -> dict[str, float]:
        """The caps of all clusters, Hz, if each is to be no slower than this, as far as it can."""
        return {p.name: 1e3 * _operating_point_khz(p, frequency_hz) for p in self.policies()}

    def in_force(self, clusters: Mapping[str, float]) -> dict[str, float]:
        """The caps in force of these clusters, Hz, without those that cannot be read."""
        if EVERY_CLUSTER in clusters:
            hertz = self.in_force_hz()
            return {} if hertz is None else {EVERY_CLUSTER: hertz}
        read = {policy.name: read_count(policy / CEILING) for policy in self._named(clusters)}
        return {name: khz * 1e3 for name, khz in read.items() if khz is not None}

    def why_not(self, clusters: Mapping[str, float] | None = None) -> str:
        """Why the frequency cannot be set, as far as the files show; empty if it can.

        Args:
            clusters: the caps that are wanted, Hz, by cluster; every cluster if left out. What is
                in force already needs no permission.
        """
        if clusters is None:
            policies = self.policies()
        else:
            if missing := self.absent(clusters):
                return missing
            policies = [p for p, hz in self._wanted(clusters) if not _is_at(p, hz)]
            if not policies:
                return ""
        if not policies:
            return self._no_policy()
        limits = [policy / name for policy in policies for name in (CEILING, FLOOR)]
        closed = [path for path in limits if path.exists() and not os.access(path, os.W_OK)]
        if closed:
            return f"{closed[0]} cannot be written by this user"
        unread = [p / CEILING for p in policies if read_count(p / CEILING) is None]
        if unread:
            return f"{unread[0]} {why_unreadable(unread[0])}"
        if not self._journal.writable:
            return f"{self._journal.path} cannot be written, and nothing is changed without it"
        return ""

    def absent(self, clusters: Mapping[str, float]) -> str:
        """Which of these clusters are not there or off, as a sentence; empty if all are on."""
        here = {policy.name for policy in self.policies()}
        gone = [name for name in clusters if name not in here and name != EVERY_CLUSTER]
        if EVERY_CLUSTER in clusters and not here:
            return self._no_policy()
        off = [name for name in gone if name in self.off()]
        if off:
            return f"the cores of {', '.join(off)} are switched off"
        return f"no cpufreq policy {', '.join(gone)} under {self._folder}" if gone else ""

    def _named(self, clusters: Mapping[str, float]) -> list[Path]:
        every = EVERY_CLUSTER in clusters
        return [policy for policy in self.policies() if every or policy.name in clusters]

    def _wanted(self, clusters: Mapping[str, float]) -> list[tuple[Path, float]]:
        every_hz = clusters.get(EVERY_CLUSTER)
        named = [(p, clusters.get(p.name, every_hz)) for p in self._named(clusters)]
        return [(policy, hertz) for policy, hertz in named if hertz is not None]

    def _no_policy(self) -> str:
        return (
            f"no cpufreq policy under {self._folder}: this kernel, container or virtual machine "
            "gives no control over the frequency"
        )

    def cap(self, frequency_hz: float) -> FrequencyCap:
        """Cap all policies at the lowest operating point not below ``frequency_hz``."""
        return self.set_clusters({EVERY_CLUSTER: frequency_hz})

    def set_clusters(self, clusters: Mapping[str, float]) -> FrequencyCap:
        """Cap each named cluster at its lowest operating point not below its frequency, Hz.

        Clusters that are off are left out with a note; the cap counts as applied if all others
        accepted theirs.
        """
        wanted = self._wanted(clusters)
        if not wanted:
            return refused(self.absent(clusters) or self._no_policy())
        highest_hz = max(hertz for _, hertz in wanted)
        try:
            self._journal.claim()
        except OSError as error:
            note = f"{error.filename}: {error.strerror}; the frequency stays as it is"
            return refused(note, self.in_force_hz())
        notes = [note for policy, hertz in wanted if (note := self._cap_policy(policy, hertz))]
        in_force_hz = self.in_force_hz()
        applied = not notes and bool(self.policies())
        if applied and in_force_hz is not None and in_force_hz < highest_hz * 0.99:
            notes.append(
                f"{highest_hz:.4g} Hz is above what this processor can do, {in_force_hz:.4g} Hz"
            )
        left = self.off() if EVERY_CLUSTER in clusters else set(clusters) & set(self.off())
        notes += [f"the cores of {name} are switched off: left out" for name in sorted(left)]
        return FrequencyCap(
            frequency_hz=in_force_hz,
            applied=applied,
            means="cpufreq" if applied else "none",
            notes=tuple(notes),
        )

    def _cap_policy(self, policy: Path, frequency_hz: float) -> str:
        """Cap one policy; returns what went wrong, or an empty string."""
        ceiling, floor = policy / CEILING, policy / FLOOR
        before_khz, floor_khz = read_count(ceiling), read_count(floor)
        if before_khz is None:
            return f"{ceiling} {why_unreadable(ceiling)}: its frequency stays as it is"
        target_khz = _operating_point_khz(policy, frequency_hz)
        try:
            if floor_khz is not None and floor_khz > target_khz:
                self._journal.write(floor, str(target_khz))
            if before_khz != target_khz:
                self._journal.write(ceiling, str(target_khz))
        except OSError as error:
            if switched_off(policy):
                return ""  # it was switched off meanwhile
            return (
                f"{error.filename or ceiling} could not be set to {target_khz} kHz "
                f"({error.strerror}): run the agent as root, or let its group write the file "
                "(`fimi agent doctor` prints the rule)"
            )
        achieved_khz = read_count(ceiling)
        if achieved_khz is None or abs(achieved_khz - target_khz) > 0.01 * target_khz:
            return (
                f"{ceiling} was set to {target_khz} kHz and reads back {achieved_khz} kHz: the "
                "kernel, firmware or another daemon overrules it"
            )
        return ""


def _is_at(policy: Path, frequency_hz: float) -> bool:
    """Whether a policy's cap is this frequency already."""
    return read_count(policy / CEILING) == _operating_point_khz(policy, frequency_hz)


def _operating_points_khz(policy: Path) -> list[int]:
    listed = read_text(policy / "scaling_available_frequencies") or ""
    return sorted({int(word) for word in listed.split() if word.isdecimal()})


def _operating_point_khz(policy: Path, frequency_hz: float) -> int:
    wanted_khz = math.ceil(frequency_hz / 1e3 * (1.0 - 1e-9))
    points = _operating_points_khz(policy)
    point = next((khz for khz in points if khz >= wanted_khz), points[-1] if points else wanted_khz)
    lowest = read_count(policy / "cpuinfo_min_freq")
    highest = read_count(policy / "cpuinfo_max_freq")
    if highest:
        point = min(point, highest)
    return max(point, lowest or 0)

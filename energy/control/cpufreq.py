"""Capping the CPU's frequency through the kernel's cpufreq files, and restoring it.

A cap is ``scaling_max_freq`` of every policy (a policy is a group of cores that share a clock).
The lowest operating point that is not below the planned frequency is written, because the kernel
itself would round down and break the planned deadline. What is written is read back.

* A cluster whose cores are all off is left out, with a note (:mod:`fimi.energy.clusters`), also one
  that goes off between two rounds, or while it is set.
* A cap that reads back **lower** is in force behind a lower limit: heat, firmware, another program
  (:mod:`fimi.energy.control.clamps`). It counts as applied, and as clamped.
* A cap that reads back **higher**, or a write that is refused, is a failure. Then nothing that was
  written stays: the clusters that took their cap get back what they had.

The cap outlives the process. The journal that writes it restores the previous state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

from fimi.energy.clusters import clusters as clusters_of
from fimi.energy.clusters import is_off, off_in_words, refused_as_off
from fimi.energy.control.clamps import (
    clamp_of_cluster,
    firmware_note,
    heat_limit_khz,
    held_by_heat,
    overruling,
)
from fimi.energy.control.journal import Journal
from fimi.energy.control.refusals import Hindrance, forbidden, refusal
from fimi.energy.sysfs import complete, read_count, read_text, why_unreadable

FOLDER = "sys/devices/system/cpu/cpufreq/"
FLOOR, CEILING = "scaling_min_freq", "scaling_max_freq"
EVERY_CLUSTER = "all"
"""Stands for every cluster in :attr:`fimi.energy.cost_model.ComputeSetting.cpu_hz`."""
Means = Literal["cpufreq", "nvpmodel", "duty-cycle", "none"]


class FrequencyCap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result of setting a cap.

    Attributes:
        frequency_hz: the cap in force, the highest of all policies; ``None`` if unknown.
        applied: whether every policy that is on accepted it. If not, none holds it.
        means: how it was set.
        notes: what could not be applied and why, one sentence each.
        clamped: whether a lower limit than ours is in force somewhere; a note says whose.
        left_out: names of the clusters that are off or have gone away.
    """

    frequency_hz: float | None
    applied: bool
    means: Means = "none"
    notes: tuple[str, ...] = ()
    clamped: bool = False
    left_out: tuple[str, ...] = ()


class _Outcome(NamedTuple):
    """What became of one policy.

    Attributes:
        failed: a sentence about what went wrong.
        clamped: a sentence about what holds it lower.
        left_out: whether it is off or has gone away.
    """

    failed: str = ""
    clamped: str = ""
    left_out: bool = False


def refused(note: str, frequency_hz: float | None = None) -> FrequencyCap:
    """No cap was set, for this reason; ``frequency_hz`` is the one in force, if known."""
    return FrequencyCap(frequency_hz=frequency_hz, applied=False, notes=(note,))


class CpuFrequency:
    """The cpufreq policies of this machine; a journal writes their files."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self._root = root
        self._folder = root / FOLDER
        self._journal = journal

    def policies(self) -> list[Path]:
        """The folders of the policies that have a core that is on."""
        return [policy for policy in clusters_of(self._root) if not is_off(policy)]

    def off(self) -> list[Path]:
        """The folders of the policies whose cores are all off."""
        return [policy for policy in clusters_of(self._root) if is_off(policy)]

    def in_force_hz(self) -> float | None:
        """The cap in force, the highest of all policies; ``None`` if one cannot be read."""
        return self._highest_hz(self.policies())

    def _highest_hz(self, policies: list[Path]) -> float | None:
        read = [(policy, read_count(policy / CEILING)) for policy in policies]
        # What went off, or away, after it was listed is no longer one of them.
        caps_khz = complete(khz for policy, khz in read if khz is not None or _is_on(policy))
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
        if closed := self._closed(policies):
            path, why = closed
            return f"{path} {why.why}"
        unread = [p / CEILING for p in policies if read_count(p / CEILING) is None]
        if unread:
            return f"{unread[0]} {why_unreadable(unread[0])}"
        if not self._journal.writable:
            return f"{self._journal.path} cannot be written, and nothing is changed without it"
        return ""

    def closed(self) -> Hindrance | None:
        """Why a file of a policy that is on cannot be written, with what helps; else ``None``."""
        found = self._closed(self.policies())
        return None if found is None else found[1]

    def _closed(self, policies: list[Path]) -> tuple[Path, Hindrance] | None:
        for path in (policy / name for policy in policies for name in (CEILING, FLOOR)):
            if why := forbidden(path):
                return path, why
        return None

    def absent(self, clusters: Mapping[str, float]) -> str:
        """Which of these clusters are not there or off, as a sentence; empty if all are on."""
        here = {policy.name for policy in self.policies()}
        gone = [name for name in clusters if name not in here and name != EVERY_CLUSTER]
        if EVERY_CLUSTER in clusters and not here:
            return self._no_policy()
        off = {policy.name: off_in_words(policy) for policy in self.off()}
        if out := [off[name] for name in gone if name in off]:
            return f"{', '.join(out)} {'is' if len(out) == 1 else 'are'} switched off"
        return f"no cpufreq policy {', '.join(gone)} under {self._folder}" if gone else ""

    def _named(self, clusters: Mapping[str, float]) -> list[Path]:
        every = EVERY_CLUSTER in clusters
        return [policy for policy in self.policies() if every or policy.name in clusters]

    def _wanted(self, clusters: Mapping[str, float]) -> list[tuple[Path, float]]:
        every_hz = clusters.get(EVERY_CLUSTER)
        named = [(p, clusters.get(p.name, every_hz)) for p in self._named(clusters)]
        return [(policy, hertz) for policy, hertz in named if hertz is not None]

    def _no_policy(self) -> str:
        if off := self.off():
            named = ", ".join(off_in_words(policy) for policy in off)
            return f"all cores with a clock that could be set are switched off: {named}"
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
        try:
            self._journal.claim()
        except OSError as error:
            note = f"{error.filename}: {error.strerror}; the frequency stays as it is"
            return refused(note, self.in_force_hz())
        outcomes = [self._cap_policy(policy, hertz) for policy, hertz in wanted]
        failed = [each.failed for each in outcomes if each.failed]
        clamped = [each.clamped for each in outcomes if each.clamped]
        missed = [p for (p, _), each in zip(wanted, outcomes, strict=True) if each.left_out]
        every = EVERY_CLUSTER in clusters
        left_out = missed + [
            policy
            for policy in self.off()
            if (every or policy.name in clusters) and policy not in missed
        ]
        left = [_off(policy) for policy in left_out]
        applied = not failed and len(missed) < len(wanted)
        if failed:  # half a cap is none: it must not stay beside other means
            failed += self._journal.put_back(lambda change: change.target.startswith(FOLDER))
        above = [] if failed else _above(wanted)
        if applied and (held := firmware_note(self._root)):
            clamped.append(held)
        return FrequencyCap(
            frequency_hz=self._highest_hz([p for p in self.policies() if p not in missed]),
            applied=applied,
            means="cpufreq" if applied else "none",
            notes=(*failed, *clamped, *above, *left),
            clamped=applied and any(each.clamped for each in outcomes),
            left_out=tuple(policy.name for policy in left_out),
        )

    def _cap_policy(self, policy: Path, frequency_hz: float) -> _Outcome:
        """Cap one policy; one that is off, or goes away, is nobody's failure."""
        ceiling, floor = policy / CEILING, policy / FLOOR
        before_khz, floor_khz = read_count(ceiling), read_count(floor)
        if before_khz is None:
            why = f"{ceiling} {why_unreadable(ceiling)}: its frequency stays as it is"
            return _Outcome(why) if _is_on(policy) else _Outcome(left_out=True)
        target_khz = _operating_point_khz(policy, frequency_hz)
        held = bool(held_by_heat(self._root, policy))
        writing = ceiling
        try:
            if floor_khz is not None and floor_khz > target_khz:
                writing = floor
                self._journal.write(floor, str(target_khz))
                writing = ceiling
            # A limit of heat may look like our cap and end later.
            if before_khz != target_khz or held:
                wish_khz = self._own_wish_khz(policy, before_khz, held=held)
                self._journal.write(ceiling, str(target_khz), before=str(wish_khz))
        except OSError as error:
            if not policy.exists() or refused_as_off(policy, error):
                return _Outcome(left_out=True)
            file = error.filename or writing
            return _Outcome(refusal(error, f"{target_khz} kHz").about(file))
        achieved_khz = read_count(ceiling)
        if achieved_khz is None:
            why = f"{ceiling} was set to {target_khz} kHz and {why_unreadable(ceiling)}"
            return _Outcome(why) if _is_on(policy) else _Outcome(left_out=True)
        if achieved_khz > 1.01 * target_khz:
            by = ", ".join(overruling(self._root)) or "the kernel, firmware or another daemon"
            return _Outcome(
                f"{ceiling} was set to {target_khz} kHz and reads back {achieved_khz} kHz: {by} "
                "overrules it"
            )
        if achieved_khz < 0.99 * target_khz:
            clamp = clamp_of_cluster(self._root, policy, achieved_khz)
            said = clamp.said(policy.name, 1e3 * achieved_khz, 1e3 * target_khz)
            return _Outcome(clamped=said)
        return _Outcome()

    def _own_wish_khz(self, policy: Path, before_khz: int, *, held: bool) -> int:
        """The cap that was set before ours, which a limit of heat or firmware may hide, kHz.

        What is below such a limit was set by somebody. What is at the limit is the limit: the
        highest frequency is put back then, not a limit that has ended meanwhile.
        """
        highest_khz = read_count(policy / "cpuinfo_max_freq")
        if not highest_khz:
            return before_khz
        limit_khz = heat_limit_khz(self._root, policy, _operating_points_khz(policy))
        if held and (limit_khz is None or before_khz >= limit_khz):
            return highest_khz
        return highest_khz if read_count(policy / "bios_limit") == before_khz else before_khz


def _off(policy: Path) -> str:
    """The sentence about a policy that is left out."""
    if not policy.exists():
        return f"{policy.name} has gone away: left out"
    return f"{off_in_words(policy)} is switched off: left out"


def _is_on(policy: Path) -> bool:
    """Whether a policy is there and has a core that is on."""
    return policy.exists() and not is_off(policy)


def _above(wanted: list[tuple[Path, float]]) -> list[str]:
    """A note where more was asked for than any of these clusters can do."""
    highest_hz = max(hertz for _, hertz in wanted)
    tops = [read_count(policy / "cpuinfo_max_freq") for policy, _ in wanted]
    top_hz = 1e3 * max((khz for khz in tops if khz), default=0)
    if not top_hz or top_hz >= highest_hz * 0.99:
        return []
    return [f"{highest_hz:.4g} Hz is above what this processor can do, {top_hz:.4g} Hz"]


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

"""Capping the CPU's frequency through the kernel's cpufreq files, and putting it back.

A cap is ``scaling_max_freq`` of every policy (a policy is a group of cores that share a clock).
The lowest operating point that is not below the planned frequency is written, because the kernel
itself would round down and break the planned deadline. What is written is read back: firmware,
other daemons and thermal limits may overrule it.

The cap outlives the process; :meth:`CpuFrequency.restore` puts back what was there at first.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

from msgspec import Struct

from energy.sysfs import read_count, read_text, why_unreadable

_FLOOR, _CEILING = "scaling_min_freq", "scaling_max_freq"
_log = logging.getLogger(__name__)


class FrequencyCap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of a cap.

    Attributes:
        frequency_hz: the cap in force, the highest of all policies; ``None`` if unknown.
        applied: whether every policy took it.
        notes: what could not be applied and why, one sentence each.
    """

    frequency_hz: float | None
    applied: bool
    notes: tuple[str, ...] = ()


class CpuFrequency:
    """The cpufreq policies of this machine.

    Args:
        sysfs: root of sysfs.
    """

    def __init__(self, sysfs: Path) -> None:
        self._folder = sysfs / "devices" / "system" / "cpu" / "cpufreq"
        self._before: dict[Path, int] = {}

    def cap(self, frequency_hz: float) -> FrequencyCap:
        """Cap all policies at the lowest operating point not below ``frequency_hz``."""
        policies = sorted(self._folder.glob("policy*"))
        if not policies:
            return FrequencyCap(
                frequency_hz=None,
                applied=False,
                notes=(
                    f"no cpufreq policy under {self._folder}: this kernel, container or virtual "
                    "machine gives no control over the frequency",
                ),
            )
        notes = [note for policy in policies if (note := self._cap_policy(policy, frequency_hz))]
        caps_khz = [read_count(policy / _CEILING) for policy in policies]
        known = [cap_khz for cap_khz in caps_khz if cap_khz is not None]
        in_force_hz = max(known) * 1e3 if len(known) == len(policies) else None
        applied = not notes
        if applied and in_force_hz is not None and in_force_hz < frequency_hz * 0.99:
            notes.append(
                f"{frequency_hz:.4g} Hz is above what this processor can do, {in_force_hz:.4g} Hz"
            )
        return FrequencyCap(
            frequency_hz=in_force_hz,
            applied=applied,
            notes=tuple(notes),
        )

    def restore(self) -> None:
        """Put back what the policies were set to before the first cap; log what fails."""
        # Ceilings first: the kernel refuses a floor above its ceiling.
        limits = sorted(self._before.items(), key=lambda limit: limit[0].name == _FLOOR)
        for path, khz in limits:
            try:
                self._write(path, khz)
            except OSError as error:
                _log.warning("%s could not be set back to %d kHz: %s", path, khz, error)
            else:
                del self._before[path]

    def _cap_policy(self, policy: Path, frequency_hz: float) -> str:
        """Cap one policy; returns what went wrong, or nothing."""
        ceiling = policy / _CEILING
        before_khz = read_count(ceiling)
        if before_khz is None:
            return f"{ceiling} {why_unreadable(ceiling)}: its frequency stays as it is"
        target_khz = _operating_point_khz(policy, frequency_hz)
        floor = policy / _FLOOR
        floor_khz = read_count(floor)
        try:
            if floor_khz is not None and floor_khz > target_khz:
                self._change(floor, floor_khz, target_khz)
            if before_khz != target_khz:
                self._change(ceiling, before_khz, target_khz)
        except OSError as error:
            return (
                f"{error.filename or ceiling} could not be set to {target_khz} kHz "
                f"({error.strerror}): run the agent as root, or let its group write the file "
                "(sudo chgrp and chmod g+w)"
            )
        achieved_khz = read_count(ceiling)
        if achieved_khz is None or abs(achieved_khz - target_khz) > 0.01 * target_khz:
            return (
                f"{ceiling} was set to {target_khz} kHz and reads back {achieved_khz} kHz: the "
                "kernel, firmware or another daemon overrules it"
            )
        return ""

    def _change(self, path: Path, before_khz: int, khz: int) -> None:
        self._write(path, khz)
        self._before.setdefault(path, before_khz)

    def _write(self, path: Path, khz: int) -> None:
        path.write_text(f"{khz}\n", encoding="ascii")


def _operating_point_khz(policy: Path, frequency_hz: float) -> int:
    wanted_khz = math.ceil(frequency_hz / 1e3 * (1.0 - 1e-9))
    listed = read_text(policy / "scaling_available_frequencies") or ""
    points = sorted(int(word) for word in listed.split() if word.isdecimal())
    point = next((khz for khz in points if khz >= wanted_khz), points[-1] if points else wanted_khz)
    lowest = read_count(policy / "cpuinfo_min_freq")
    highest = read_count(policy / "cpuinfo_max_freq")
    if highest:
        point = min(point, highest)
    return max(point, lowest or 0)

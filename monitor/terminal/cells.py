"""What is said of a device in a few characters, and what is the same for all of them.

Joules and watts stand without their kind only where it is the same for all; then the line above the
table says it (:class:`Common`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from fimi.energy.joules import format_energy, format_joules
from fimi.monitor.snapshot import PROBLEMS, DeviceNow, JoulesNow
from fimi.report.words import MISSING, alike, heading

_DIGITS = re.compile(r"(\d+)")


class Common(NamedTuple):
    """What is the same for all devices.

    Attributes:
        kind: of the boards; empty where they differ.
        power: kind and scope of all watts, in words; empty where they differ or none are known.
        bare_power: whether watts stand without their kind.
        energy: kind and scope of all joules, likewise.
        bare_energy: whether joules stand without their kind.
    """

    kind: str = ""
    power: str = ""
    bare_power: bool = True
    energy: str = ""
    bare_energy: bool = True

    @classmethod
    def of(cls, devices: Iterable[DeviceNow]) -> Common:
        """That of these."""
        every = tuple(devices)
        boards = {each.kind for each in every if each.kind}
        powers = {power_words(each) for each in every if each.power_w is not None}
        energies = [j.energy for each in every for j in (each.round_energy, each.total)]
        bare = alike(energies)
        return cls(
            kind=boards.pop() if len(boards) == 1 else "",
            power=powers.pop() if len(powers) == 1 else "",
            bare_power=not powers,
            energy=heading(energies) if bare and any(energies) else "",
            bare_energy=bare,
        )


class FleetRow(NamedTuple):
    """A device in the table.

    Attributes:
        device: its id.
        now: how it is.
        unix_s: when that was, UNIX time, s.
        common: what is the same for all.
    """

    device: str
    now: DeviceNow
    unix_s: float
    common: Common


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A name so that ``device-2`` is before ``device-10``."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in _DIGITS.split(name.lower())
        if part
    )


def is_troubled(now: DeviceNow) -> bool:
    """Whether a device needs somebody."""
    return now.state in PROBLEMS or bool(now.problem)


def trouble(now: DeviceNow) -> int:
    """How much a device needs somebody: 0 most."""
    if now.state in PROBLEMS:
        return PROBLEMS.index(now.state)
    return len(PROBLEMS) + (not now.problem)


def power_words(now: DeviceNow) -> str:
    """Kind and scope of a power: ``measured, cpu``."""
    return ", ".join(filter(None, (now.power_kind or "of unknown kind", now.power_scope)))


def watts(now: DeviceNow, *, bare: bool) -> str:
    """``4.52 W``, with kind and scope unless ``bare``."""
    if now.power_w is None:
        return MISSING
    said = f"{now.power_w:#.3g}".rstrip(".") if abs(now.power_w) >= 1e-9 else "0"
    return f"{said} W" if bare else f"{said} W ({power_words(now)})"


def joules_cell(joules: JoulesNow, *, bare: bool) -> str:
    """Joules in a table; ``≥`` where some of them are not known, ``unknown`` where none are."""
    if joules.energy is None:
        return MISSING if joules.whole else "unknown"
    said = format_joules(joules.energy.value_j) if bare else format_energy(joules.energy)
    return said if joules.whole else f"≥ {said}"


def age(seconds: float | None) -> str:
    """How long ago something was: ``3 s``, ``12 min``, ``5 h``, ``2 d``."""
    if seconds is None:
        return MISSING
    seconds = max(0.0, seconds)
    for most, scale, unit in ((99.5, 1.0, "s"), (5970.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if seconds < most:
            return f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def seen_s(row: FleetRow) -> float | None:
    """For how long nothing was heard of a device, s."""
    seen = row.now.seen_unix_s
    return None if seen is None else max(0.0, row.unix_s - seen)


def doing(now: DeviceNow) -> str:
    """State and phase of a device: ``training: upload``; of downloads not what comes."""
    if now.phase is None or now.state == "gone":
        return now.state
    return f"{now.state}: {'download' if now.phase.endswith('download') else now.phase}"

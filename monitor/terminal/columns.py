"""The columns of the table of devices: what each shows, how it is sorted, who gets room first.

A new column is one entry of :data:`COLUMNS`. Joules and watts stand without their kind only where
it is the same for all, and then the line above the table says it (:class:`Common`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_args

from msgspec import Struct

from fimi.energy.joules import format_energy, format_joules
from fimi.monitor.snapshot import PROBLEMS, Condition, DeviceNow, JoulesNow
from fimi.report.words import (
    MISSING,
    alike,
    bits_per_second,
    heading,
    hertz,
    percent,
    signed_percent,
)

_CONDITIONS: tuple[Condition, ...] = get_args(Condition)
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


class FleetColumn(Struct, frozen=True, kw_only=True):
    """A column.

    Attributes:
        key: its name.
        title: its heading.
        width: columns that it takes.
        wide: columns that it takes where each cell says its kind.
        cell: what it shows.
        order: by what it is sorted; ``None`` is always at the end.
        text: whether it is text: to the left, and sorted from A to Z.
    """

    key: str
    title: str
    width: int
    wide: int = 0
    cell: Callable[[FleetRow], str]
    order: Callable[[FleetRow], Any]
    text: bool = False

    def room(self, common: Common) -> int:
        """Columns that it takes."""
        bare = common.bare_power if self.key == "power" else common.bare_energy
        return self.width if bare else max(self.width, self.wide)


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


def _value(joules: JoulesNow) -> float | None:
    return None if joules.energy is None else joules.energy.value_j


def _board(row: FleetRow) -> str:
    kind = "" if row.common.kind or not row.now.kind else f" ({row.now.kind})"
    return f"{row.now.board}{kind}"


def _count(value: int | None) -> str:
    return MISSING if value is None else str(value)


def _celsius(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f} °C"


def _predicted(row: FleetRow) -> str:
    predicted = row.now.round_energy.predicted_j
    return MISSING if predicted is None else format_joules(predicted)


DEVICE = FleetColumn(
    key="device",
    title="device",
    width=16,
    cell=lambda row: row.device,
    order=lambda row: natural(row.device),
    text=True,
)

COLUMNS: tuple[FleetColumn, ...] = (
    FleetColumn(
        key="board",
        title="board",
        width=20,
        cell=_board,
        order=lambda row: row.now.board.lower() or None,
        text=True,
    ),
    FleetColumn(
        key="state",
        title="state: phase",
        width=18,
        cell=lambda row: doing(row.now),
        order=lambda row: _CONDITIONS.index(row.now.state),
        text=True,
    ),
    FleetColumn(
        key="power",
        title="power",
        width=7,
        wide=24,
        cell=lambda row: watts(row.now, bare=row.common.bare_power),
        order=lambda row: row.now.power_w,
    ),
    FleetColumn(
        key="temperature",
        title="temp",
        width=7,
        cell=lambda row: _celsius(row.now.temperature_c),
        order=lambda row: row.now.temperature_c,
    ),
    FleetColumn(
        key="set",
        title="planned",
        width=8,
        cell=lambda row: hertz(row.now.set_hz),
        order=lambda row: row.now.set_hz,
    ),
    FleetColumn(
        key="clock",
        title="runs at",
        width=8,
        cell=lambda row: hertz(row.now.clock_hz),
        order=lambda row: row.now.clock_hz,
    ),
    FleetColumn(
        key="rate",
        title="sends",
        width=11,
        cell=lambda row: bits_per_second(row.now.sent_bps),
        order=lambda row: row.now.sent_bps,
    ),
    FleetColumn(
        key="planned-rate",
        title="should send",
        width=11,
        cell=lambda row: bits_per_second(row.now.set_bps),
        order=lambda row: row.now.set_bps,
    ),
    FleetColumn(
        key="round",
        title="round",
        width=5,
        cell=lambda row: str(row.now.round) if row.now.round else MISSING,
        order=lambda row: row.now.round or None,
    ),
    FleetColumn(
        key="energy",
        title="J round",
        width=9,
        wide=28,
        cell=lambda row: joules_cell(row.now.round_energy, bare=row.common.bare_energy),
        order=lambda row: _value(row.now.round_energy),
    ),
    FleetColumn(
        key="predicted",
        title="predicted",
        width=9,
        cell=_predicted,
        order=lambda row: row.now.round_energy.predicted_j,
    ),
    FleetColumn(
        key="error",
        title="error",
        width=8,
        cell=lambda row: signed_percent(row.now.round_energy.error_percent),
        order=lambda row: row.now.round_energy.error_percent,
    ),
    FleetColumn(
        key="total",
        title="J run",
        width=9,
        wide=28,
        cell=lambda row: joules_cell(row.now.total, bare=row.common.bare_energy),
        order=lambda row: _value(row.now.total),
    ),
    FleetColumn(
        key="samples",
        title="own",
        width=6,
        cell=lambda row: _count(row.now.samples),
        order=lambda row: row.now.samples,
    ),
    FleetColumn(
        key="synthetic",
        title="synth.",
        width=6,
        cell=lambda row: _count(row.now.synthetic),
        order=lambda row: row.now.synthetic,
    ),
    FleetColumn(
        key="accuracy",
        title="accuracy",
        width=8,
        cell=lambda row: percent(row.now.accuracy),
        order=lambda row: row.now.accuracy,
    ),
    FleetColumn(
        key="seen",
        title="seen",
        width=6,
        cell=lambda row: age(seen_s(row)),
        order=seen_s,
    ),
    FleetColumn(
        key="meter",
        title="meter",
        width=14,
        cell=lambda row: row.now.meter or MISSING,
        order=lambda row: row.now.meter.lower() or None,
        text=True,
    ),
)
"""From the left; the device itself is before them."""

FIRST: tuple[str, ...] = (
    *("state", "power", "energy", "temperature", "error", "seen", "board", "predicted", "clock"),
    *("set", "total", "synthetic", "rate", "round", "samples", "accuracy", "planned-rate", "meter"),
)
"""Who gets room first."""

SHORTER: dict[str, int] = {"state": 9}
"""Columns that take less room where there is little of it."""

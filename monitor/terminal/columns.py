"""The columns of the table of devices: what each shows, how it is sorted, who gets room first.

A new column is one entry of :data:`COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from msgspec import Struct

from fimi.energy.joules import format_joules
from fimi.monitor.snapshot import Condition, JoulesNow
from fimi.monitor.terminal.cells import (
    Common,
    FleetRow,
    age,
    doing,
    joules_cell,
    natural,
    seen_s,
    watts,
)
from fimi.report.words import MISSING, bits_per_second, hertz, percent, signed_percent

_CONDITIONS: tuple[Condition, ...] = get_args(Condition)


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

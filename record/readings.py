"""Readings of devices' meters as a run stores them, as arrays, with the phases that they made.

* :func:`read_readings`  the parts of one or all devices
* :func:`trace`          times, powers and phases of a device in a round

A part that is missing, or was not stored, is named in :attr:`Trace.missing`: its readings are not
made up. Figures from readings again: :mod:`fimi.record.recount`.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.ledger import PhaseRecord
from fimi.energy.ledger_opening import unpacked
from fimi.energy.ledger_parts import LoggedPart, Series
from fimi.energy.meters import MeterDescription, Reading
from fimi.record import schema
from fimi.record.reader import open_store
from fimi.record.readings_rows import StoredReadings

Floats = NDArray[np.float64]
Made = Literal["resolved", "regression", "unresolved", "unmetered"]
"""How a phase got its energy: from its own readings; by regression over rounds, since the meter
does not tell it apart; as a part of a sum; not at all."""


class StoredPart(Struct, frozen=True):
    """One part of a device's readings.

    Attributes:
        device: its id.
        round: with which it was reported; 0 for the time before the first.
        row: as it is stored.
    """

    device: str
    round: int
    row: StoredReadings

    def noted(self) -> LoggedPart:
        """What it says.

        Raises:
            ValueError: it is missing or damaged; the words say why.
        """
        return unpacked(self.row.packed)


class TracePhase(Struct, frozen=True):
    """A phase in a trace.

    Attributes:
        record: as it is stored: its edges on the device's clock, its energy and what it comes from.
        made: how it got its energy.
    """

    record: PhaseRecord
    made: Made


class Trace(Struct, frozen=True):
    """What a meter showed of a device for some time.

    Attributes:
        device: its id.
        round: of which; 0 for the time before the first.
        series: whose readings.
        meter: the meter; ``None`` where there are no readings.
        times_s: on the device's clock, s, ascending, shape (n,).
        power_w: at these times, W; of a counter the mean power since the reading before. Not a
            number where the meter could not be read. Shape (n,).
        counter_j: of a counter, J; else not a number. Shape (n,).
        phases: in the order of their beginnings.
        missing: why readings are not there, a sentence for each part; empty if all are.
    """

    device: str
    round: int
    series: Series
    meter: MeterDescription | None
    times_s: Floats
    power_w: Floats
    counter_j: Floats
    phases: tuple[TracePhase, ...]
    missing: tuple[str, ...] = ()


def read_readings(
    path: Path | str, device: str | None = None, number: int | None = None
) -> list[StoredPart]:
    """The parts of a run's readings, in the order in which each device's ledgers made them.

    Args:
        path: a run folder or its store.
        device: whose; all of them if left out.
        number: of the round with which they were reported; any if left out.

    Raises:
        fimi.record.record.ReportError: there is no run, or it cannot be read.
    """
    with open_store(path) as (_, db):
        return list(parts_in(db, device, number))


def parts_in(
    db: sqlite3.Connection, device: str | None = None, number: int | None = None
) -> Iterator[StoredPart]:
    """The parts in an open store; see :func:`read_readings`."""
    asked = {"device": device, "round": number}
    only = {name: value for name, value in asked.items() if value is not None}
    shape = schema.READINGS.shape()
    found = []
    for (of_round, of_device), values in schema.READINGS.rows(db, **only):
        row = msgspec.convert(shape.build(values) or {}, StoredReadings, strict=False)
        found.append(StoredPart(of_device, of_round, row))
    began: dict[tuple[str, str], tuple[int, float]] = {}
    for part in found:
        here = (part.round, -math.inf if part.row.from_s is None else part.row.from_s)
        life = (part.device, part.row.life)
        began[life] = min(here, began.get(life, here))
    found.sort(key=lambda p: (p.device, *began[p.device, p.row.life], p.row.life, p.row.part))
    yield from found


def devices_in(db: sqlite3.Connection) -> list[str]:
    """The devices of an open store that have readings, in order."""
    asked = f"SELECT DISTINCT device FROM {schema.READINGS.name} ORDER BY device"
    return [device for (device,) in db.execute(asked)]


def trace(path: Path | str, device: str, number: int, series: Series = "total") -> Trace:
    """What a meter showed of a device in a round, with the phases of the round.

    Args:
        path: a run folder or its store; a run may be going on.
        device: its id.
        number: of the round; 0 for the time before the first.
        series: whose readings.

    Raises:
        fimi.record.record.ReportError: there is no run, or it cannot be read.
    """
    with open_store(path) as (_, db):
        stored = list(parts_in(db, device, number))
        records = schema.SAMPLE.values(db, round=number, device=device)
        equations = any(
            each.powers is not None for each in schema.EVIDENCE.values(db, device=device)
        )
    readings: list[Reading] = []
    missing: list[str] = []
    meter = None
    for part in stored:
        try:
            noted = part.noted()
        except ValueError as error:
            missing.append(str(error))
            continue
        meter = noted.meters.get(series, meter)
        if (why := noted.left_out.get(series)) is not None:
            missing.append(why)
        for step in noted.steps:
            given = step.readings.get(series, [])
            readings += given[1:] if readings and given and given[0] == readings[-1] else given
    if not stored and records:
        missing.append("the device has reported none")
    times_s = np.array([r.time_s for r in readings], float)
    counter_j = _column([r.counter_j for r in readings])
    power_w = _column([r.power_w for r in readings])
    if len(readings) and np.isfinite(counter_j).any():
        power_w = _slopes(times_s, counter_j, np.array([r.reset for r in readings]))
    order = np.argsort(times_s, kind="stable")
    return Trace(
        device,
        number,
        series,
        meter,
        times_s[order],
        power_w[order],
        counter_j[order],
        tuple(
            TracePhase(record, _made(record, equations))
            for record in sorted(records, key=lambda each: each.start_s)
        ),
        tuple(missing),
    )


def _made(record: PhaseRecord, equations: bool) -> Made:
    if record.energy is None:
        return "unmetered"
    if record.resolved:
        return "resolved"
    return "regression" if equations else "unresolved"


def _column(values: list[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], float)


def _slopes(times_s: Floats, counter_j: Floats, resets: NDArray[np.bool_]) -> Floats:
    """Mean power since the reading before, W; not a number where a counter was set anew."""
    power_w = np.full(len(times_s), np.nan)
    passed_s, grown_j = np.diff(times_s), np.diff(counter_j)
    known = (passed_s > 0.0) & (grown_j >= 0.0) & ~resets[1:]
    power_w[1:][known] = grown_j[known] / passed_s[known]
    return power_w

"""A recorded CSV file as a meter, replayed on this run's clock.

It has the columns ``time_s`` and ``power_w`` or ``energy_j`` (a counter); others are ignored.
``fimi meter import`` writes such files. The first row stands for the time when it is opened.
Between rows it is interpolated; after the last row there are no values. A row whose value is empty
marks a hole: between the rows beside it there are no values either, and a counter begins anew. Its
joules are not of this run: they are labelled ``emulated``. A recording of this very run, which is
still being made, is a :class:`fimi.energy.meters.live.LiveRecording`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct

from fimi.energy.clock import Clock
from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError

HOLE_ROWS = 10.0
_HOLE_S = 1.0


def longest_gap_s(usual_s: float) -> float:
    """A time without rows that is longer is a hole, s, where ``usual_s`` lie between two rows.

    It is :data:`HOLE_ROWS` of them, and a second at least.
    """
    return max(HOLE_ROWS * usual_s, _HOLE_S)


class Replay(Meter):
    """A recording of another time.

    Args:
        path: the CSV file.
        clock: the clock on which it is replayed.
        scope: what the meter that recorded it saw.

    Raises:
        MeterUnavailableError: it cannot be read or is no recording; names the line.
    """

    def __init__(self, path: Path, clock: Clock, *, scope: Scope = "board") -> None:
        table = read_recording(path, _bytes(path))
        self._counts = table.counts
        self._times_s = np.array(table.times_s) - table.times_s[0]
        self._values = np.array(table.values)
        self._holes_s = self._times_s[np.isnan(self._values)]
        self._holes_passed = 0
        self._since_s = clock.now_s()
        # Where powers hold and then step, every other gap is a short one.
        gap_s = float(np.quantile(np.diff(self._times_s), 0.25))
        self._description = MeterDescription(
            source=f"replay:{path.name}", kind="emulated", scope=scope, rate_hz=1.0 / gap_s
        )

    def look(self, time_s: float) -> Look:
        """The recorded value at the time since the replay began."""
        at_s = time_s - self._since_s
        if at_s > self._times_s[-1]:
            return NOTHING
        value = float(np.interp(at_s, self._times_s, self._values))
        if math.isnan(value):
            return NOTHING
        if not self._counts:
            return Look(power_w=value)
        passed, self._holes_passed = self._holes_passed, int(np.searchsorted(self._holes_s, at_s))
        return Look(counter_j=value, reset=passed != self._holes_passed)

    def why_nothing(self) -> str:
        """That there are no values now."""
        return "the recording is over, or has a hole here"


class RecordedTable(Struct, frozen=True, kw_only=True):
    """The rows of a recording.

    Attributes:
        columns: names of its columns.
        times_s: times, s, ascending.
        values: W, or J where it is a counter; not a number in a row that marks a hole.
        counts: whether it is a counter.
    """

    columns: tuple[str, ...]
    times_s: list[float]
    values: list[float]
    counts: bool


def read_recording(
    path: Path, data: bytes, leave_out: Callable[[str], None] | None = None
) -> RecordedTable:
    """The rows of a recording.

    Args:
        path: where it stands, for errors.
        data: its content.
        leave_out: called with the reason for each row that cannot be used, a hole's among them;
            without it, such a row is an error, and a hole's a row.

    Raises:
        MeterUnavailableError: it is no recording; names the line.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
        written = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        columns = cells_of(written[0][1]) if written else []
    except ValueError as error:
        raise MeterUnavailableError(f"{path}: not a readable CSV file ({error})") from error
    column = next((name for name in ("energy_j", "power_w") if name in columns), None)
    if "time_s" not in columns or column is None:
        raise MeterUnavailableError(
            f"{path}: its columns are {', '.join(columns) or 'none'}; a recording has "
            "time_s and power_w or energy_j. fimi meter import makes one of other files"
        )
    rows = list(_rows(path, written[1:], columns, column, leave_out))
    known = sum(not math.isnan(value) for _, value in rows)
    if known < 2:
        raise MeterUnavailableError(f"{path}: a recording has at least two rows, not {known}")
    return RecordedTable(
        columns=tuple(columns),
        times_s=[time_s for time_s, _ in rows],
        values=[value for _, value in rows],
        counts=column == "energy_j",
    )


def cells_of(line: str, mark: str = ",") -> list[str]:
    """The cells of a line of a table, without spaces about quotes; none goes on in the next line.

    Raises:
        ValueError: its quotes do not match, or a cell is too long.
    """
    try:
        line = re.sub(rf'" +(?={re.escape(mark)}|$)', '"', line)
        table = csv.reader([line], delimiter=mark, strict=True, skipinitialspace=True)
        return next(table, [])
    except csv.Error as error:
        raise ValueError(f"its quotes do not match, or a cell is too long ({error})") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MeterUnavailableError(f"{path}: not a readable CSV file ({error})") from error


def _rows(
    path: Path,
    lines: list[tuple[int, str]],
    columns: list[str],
    column: str,
    leave_out: Callable[[str], None] | None,
) -> Iterator[tuple[float, float]]:
    last_s, last = -math.inf, -math.inf
    for number, line in lines:
        try:
            row = dict(zip(columns, cells_of(line), strict=False))
            why = _fault(row, column, last_s, last, holes=leave_out is None)
        except ValueError as error:
            why = str(error)
        if why:
            why = f"{path}, line {number}: {why}"
            if leave_out is None:
                raise MeterUnavailableError(why)
            leave_out(why)
            continue
        last_s, value = float(row["time_s"]), float(row[column] or "nan")
        if leave_out is None and not math.isnan(value):
            last = value
        yield last_s, value


def _fault(row: dict[str, str], column: str, last_s: float, last: float, *, holes: bool) -> str:
    """What is wrong with a row; empty if nothing is."""
    hole = holes and row.get(column) == ""
    try:
        time_s, value = float(row["time_s"]), 0.0 if hole else float(row[column])
    except (KeyError, ValueError):
        return f"{row} holds no two numbers"
    if not (math.isfinite(time_s) and math.isfinite(value)) or value < 0.0:
        return (
            f"time_s {row['time_s']!r}, {column} {row[column]!r}: both must be finite and {column} "
            "not negative"
        )
    if time_s <= last_s:
        return f"time_s {time_s:g} does not follow {last_s:g}"
    if column == "energy_j" and not hole and value < last:
        return f"energy_j {value:g} is below {last:g}"
    return ""

"""A recorded CSV file as a meter, replayed on this run's clock.

It has the columns ``time_s`` and ``power_w`` or ``energy_j`` (a counter); others are ignored. Its
first row stands for the time when it is opened. Between rows it is interpolated; after the last row
there are no values. Its joules are not of this run: they are labelled ``emulated``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fimi.energy.clock import Clock
from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError


class Replay(Meter):
    """A recording.

    Args:
        path: the CSV file.
        clock: the clock on which it is replayed.
        scope: what the meter that recorded it saw.

    Raises:
        MeterUnavailableError: it cannot be read or is no recording; names the line.
    """

    def __init__(self, path: Path, clock: Clock, *, scope: Scope = "board") -> None:
        times, values, self._counts = _read(path)
        self._times_s = np.array(times) - times[0]
        self._values = np.array(values)
        self._since_s = clock.now_s()
        gap_s = float(np.median(np.diff(self._times_s)))
        self._description = MeterDescription(
            source=f"replay:{path.name}", kind="emulated", scope=scope, rate_hz=1.0 / gap_s
        )

    def look(self, time_s: float) -> Look:
        """The recorded value at the time since the replay began."""
        at_s = time_s - self._since_s
        if at_s > self._times_s[-1]:
            return NOTHING
        value = float(np.interp(at_s, self._times_s, self._values))
        return Look(counter_j=value) if self._counts else Look(power_w=value)


def _read(path: Path) -> tuple[list[float], list[float], bool]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            column = next((name for name in ("energy_j", "power_w") if name in columns), None)
            if "time_s" not in columns or column is None:
                raise MeterUnavailableError(
                    f"{path}: its columns are {', '.join(columns) or 'none'}; a recording has "
                    "time_s and power_w or energy_j"
                )
            rows = list(_rows(path, reader, column))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MeterUnavailableError(f"{path}: not a readable CSV file ({error})") from error
    if len(rows) < 2:
        raise MeterUnavailableError(f"{path}: a recording has at least two rows, not {len(rows)}")
    return [time_s for time_s, _ in rows], [value for _, value in rows], column == "energy_j"


def _rows(path: Path, reader: csv.DictReader[str], column: str) -> Iterator[tuple[float, float]]:
    last_s, last = -math.inf, 0.0
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        try:
            time_s, value = float(row["time_s"] or "nan"), float(row[column] or "nan")
        except (TypeError, ValueError):
            raise MeterUnavailableError(f"{where}: {row} holds no two numbers") from None
        if not (math.isfinite(time_s) and math.isfinite(value)) or value < 0.0:
            raise MeterUnavailableError(
                f"{where}: time_s {row['time_s']!r}, {column} {row[column]!r}: both must be finite "
                f"and {column} not negative"
            )
        if time_s <= last_s:
            raise MeterUnavailableError(f"{where}: time_s {time_s:g} does not follow {last_s:g}")
        if column == "energy_j" and value < last:
            raise MeterUnavailableError(f"{where}: energy_j {value:g} is below {last:g}")
        last_s, last = time_s, value
        yield time_s, value

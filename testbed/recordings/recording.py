"""A recording as it was read: rows, what was left out, and what there is to say about it.

* :class:`Recording`       times and powers, or an energy counter
* :class:`RecordingDraft`  rows as they are read, with the lines that cannot be used
* :class:`ImportSettings`  what the user says about a file
* :class:`RecordingError`  a file cannot be imported
"""

from __future__ import annotations

import math
import statistics
import zoneinfo
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone, tzinfo
from itertools import groupby

from msgspec import Struct

from fimi.energy.timestamps import Stamp
from fimi.errors import InputError

NAMED_LINES = 5
"""So many lines that were left out are named; the rest are counted."""


class RecordingError(InputError, ValueError):
    """A file cannot be imported; says where, why and what to do."""


class ImportSettings(Struct, frozen=True, kw_only=True):
    """What the user says about a file.

    Attributes:
        unit: of the column, whatever its heading says.
        column: name of the column of power or energy.
        time_column: name of the column of times.
        time_unit: of this column, whatever its heading says.
        rails: rails of tegrastats to add up.
        interval_s: time between two lines of a file without times, s.
        zone: name of the zone of times without one; ``None`` for that of this machine.
        run: which run of a file of runs.
    """

    unit: str | None = None
    column: str | None = None
    time_column: str | None = None
    time_unit: str | None = None
    rails: tuple[str, ...] = ()
    interval_s: float | None = None
    zone: str | None = None
    run: str | None = None

    def tzinfo(self) -> tzinfo | None:
        """The zone; ``None`` for that of this machine.

        Raises:
            RecordingError: there is no such zone.
        """
        if self.zone is None:
            return None
        if self.zone.upper() in ("UTC", "Z"):
            return timezone.utc
        try:
            return zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise RecordingError(
                f"--timezone {self.zone!r} is not known here; write it as UTC or Europe/Berlin"
            ) from error


class Recording(Struct, frozen=True, kw_only=True):
    """A recording.

    Attributes:
        path: the file, for messages.
        format: what wrote it.
        times_s: times, s, ascending: UNIX time, or since its beginning.
        values: W, or J where it counts.
        counts: whether the values are an energy counter.
        dated: whether times are UNIX time.
        left_out: line and reason of each line that could not be used.
        notes: what else is to be said, in sentences.
    """

    path: str
    format: str
    times_s: list[float]
    values: list[float]
    counts: bool
    dated: bool
    left_out: list[tuple[int, str]]
    notes: list[str]

    @property
    def duration_s(self) -> float:
        """From the first row to the last, s."""
        return self.times_s[-1] - self.times_s[0]

    @property
    def energy_j(self) -> float:
        """Energy from the first row to the last, J: by trapezoids, or the counter's difference."""
        if self.counts:
            return self.values[-1] - self.values[0]
        rows = zip(self.times_s, self.times_s[1:], self.values, self.values[1:], strict=False)
        return math.fsum((b - a) * (v + w) / 2.0 for a, b, v, w in rows)

    def warnings(self) -> list[str]:
        """The lines that were left out: the first by name, then how many for which reason."""
        told = [f"{self.path}, line {line}: {why}" for line, why in self.left_out[:NAMED_LINES]]
        if len(self.left_out) > NAMED_LINES:
            told.append(
                f"{self.path}: {len(self.left_out) - NAMED_LINES} more lines cannot be used"
            )
        if self.left_out:
            used = len(self.times_s)
            told.append(f"{self.path}: {len(self.left_out)} lines were left out, {used} are used")
        return told

    def lines(self) -> list[str]:
        """What it is, in lines."""
        gaps_s = [b - a for a, b in zip(self.times_s, self.times_s[1:], strict=False)]
        begin = f"{self.times_s[0]:.3f} s"
        if self.dated:
            begin = datetime.fromtimestamp(self.times_s[0], timezone.utc).strftime(
                "%Y-%m-%d %H:%M:%S UTC"
            )
        told = [
            f"format    {self.format}",
            f"rows      {len(self.times_s)} in {self.duration_s:.3f} s, one every "
            f"{statistics.median(gaps_s):.3g} s, the longest gap {max(gaps_s):.3g} s",
            f"begins    {begin}",
            f"power     {self.energy_j / self.duration_s:.4g} W on average"
            + ("" if self.counts else f", {min(self.values):.4g} to {max(self.values):.4g} W"),
            f"energy    {self.energy_j:.5g} J",
        ]
        return [*told, *(f"note      {note}" for note in self.notes)]


class RecordingDraft:
    """Rows as they are read.

    Attributes:
        left_out: line and reason of each line that cannot be used.
        notes: what else is to be said, in sentences.
    """

    def __init__(self, path: str, form: str) -> None:
        self._path = path
        self._form = form
        self._rows: list[tuple[float, float]] = []
        self._spread = False
        self.left_out: list[tuple[int, str]] = []
        self.notes: list[str] = []

    def add(self, line: int, time_s: float, value: float) -> None:
        """A row; left out if its numbers cannot be, or if it goes back in time."""
        if not (math.isfinite(time_s) and math.isfinite(value)):
            self.leave_out(line, "its numbers are not finite")
        elif value < 0.0:
            self.leave_out(line, f"{value:g} is negative")
        elif self._rows and time_s < self._rows[-1][0]:
            self.leave_out(line, f"its time is {self._rows[-1][0] - time_s:.3g} s before the last")
        elif self._rows and time_s == self._rows[-1][0]:
            self.leave_out(line, "it has the same time as the line before")
        else:
            self._rows.append((time_s, value))

    def add_dated(self, rows: Iterable[tuple[int, Stamp, float]]) -> None:
        """Rows with times of day; those of the same second or minute are spread over it."""
        for _, group in groupby(rows, key=lambda row: row[1].unix_s):
            same = list(group)
            if len(same) > 1 and same[0][1].step_s >= 1.0:
                self._spread = True
            for place, (line, stamp, value) in enumerate(same):
                step_s = stamp.step_s if self._spread else 0.0
                self.add(line, stamp.unix_s + step_s * place / len(same), value)
        if self._spread:
            self.notes.append(
                "times are whole; rows of the same second or minute are spread over it"
            )

    def leave_out(self, line: int, why: str) -> None:
        """A line cannot be used."""
        self.left_out.append((line, why))

    def finish(self, *, counts: bool, dated: bool) -> Recording:
        """The recording.

        Raises:
            RecordingError: fewer than two rows can be used, or more lines cannot be used than can.
        """
        self.left_out.sort()
        if len(self._rows) < 2 or len(self.left_out) > len(self._rows):
            reasons = Counter(why for _, why in self.left_out).most_common(3)
            first = f"; the first is line {self.left_out[0][0]}" if self.left_out else ""
            raise RecordingError(
                f"{self._path}: read as {self._form}, {len(self._rows)} lines can be used and "
                f"{len(self.left_out)} cannot{first}"
                + "".join(f"\n  {times} times: {why}" for why, times in reasons)
                + "\nName what wrote the file with --format, or mend the lines"
            )
        return Recording(
            path=self._path,
            format=self._form,
            times_s=[time_s for time_s, _ in self._rows],
            values=[value for _, value in self._rows],
            counts=counts,
            dated=dated,
            left_out=self.left_out,
            notes=self.notes,
        )


def listed(names: Iterable[str]) -> str:
    """Names in quotes, with commas."""
    return ", ".join(repr(name) for name in names)

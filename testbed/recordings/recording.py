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
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone, tzinfo
from itertools import groupby, pairwise

from msgspec import Struct

from fimi.energy.meters.replay import HOLE_ROWS, longest_gap_s
from fimi.energy.timestamps import Stamp
from fimi.errors import InputError

NAMED_LINES = 5
"""So many lines that were left out are named; the rest are counted."""

_UNEQUAL = 3.0
"""Gaps are unequal if the longer quarter is longer than the shorter quarter by such a factor."""
_REPEATED = 0.05
"""Of a file that is written when the value changes, at most such a share of rows repeats one."""
_FEW_RESTS, _REST_SHARE = 2, 0.1
"""So many gaps without rows, or such a share of the time, are holes of a logger."""


class RecordingError(InputError, ValueError):
    """A file cannot be imported; says where, why and what to do."""

    code = "M009"


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
        holds: whether a power holds until the next row, or goes there in a straight line; ``None``
            for the line, unless the rows look like those of the other kind.
    """

    unit: str | None = None
    column: str | None = None
    time_column: str | None = None
    time_unit: str | None = None
    rails: tuple[str, ...] = ()
    interval_s: float | None = None
    zone: str | None = None
    run: str | None = None
    holds: bool | None = None

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
        holds: whether a power holds until the next row.
        holes: places of the rows after which nothing is known until the next row.
        dated: whether times are UNIX time.
        left_out: line and reason of each line that could not be used.
        notes: what else is to be said, in sentences.
    """

    path: str
    format: str
    times_s: list[float]
    values: list[float]
    counts: bool
    holds: bool
    holes: frozenset[int]
    dated: bool
    left_out: list[tuple[int, str]]
    notes: list[str]

    @property
    def duration_s(self) -> float:
        """From the first row to the last, s."""
        return self.times_s[-1] - self.times_s[0]

    @property
    def energy_j(self) -> float:
        """Energy from the first row to the last, J, without holes.

        By trapezoids, by powers that hold, or the difference of a counter.
        """
        if self.counts:
            return self.values[-1] - self.values[0]
        rows = zip(self.gaps_s, self.values, self.values[1:], strict=False)
        return math.fsum(
            gap_s * (v if self.holds else (v + w) / 2.0)
            for place, (gap_s, v, w) in enumerate(rows)
            if place not in self.holes
        )

    @property
    def gaps_s(self) -> list[float]:
        """From each row to the next, s."""
        return [b - a for a, b in pairwise(self.times_s)]

    @property
    def holes_s(self) -> float:
        """Of the duration, what nothing is known of, s."""
        return math.fsum(gap_s for place, gap_s in enumerate(self.gaps_s) if place in self.holes)

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
        gaps_s = self.gaps_s
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
        ]
        if known_s := self.duration_s - self.holes_s:
            told.append(
                f"power     {self.energy_j / known_s:.4g} W on average"
                + ("" if self.counts else f", {min(self.values):.4g} to {max(self.values):.4g} W")
            )
        told.append(f"energy    {self.energy_j:.5g} J")
        if self.holes:
            after_s = self.times_s[min(self.holes)] - self.times_s[0]
            told.append(
                f"holes     {len(self.holes)}, {self.holes_s:.5g} s in all, the first after "
                f"{after_s:.5g} s: nothing is known of them, and they have no joules"
            )
        return [*told, *(f"note      {note}" for note in self.notes)]


class RecordingDraft:
    """Rows as they are read.

    Attributes:
        left_out: line and reason of each line that cannot be used.
        breaks: lines before which nothing is known since the line before, ascending.
        notes: what else is to be said, in sentences.
    """

    def __init__(self, path: str, form: str) -> None:
        self._path = path
        self._form = form
        self._rows: list[tuple[float, float]] = []
        self._lines: list[int] = []
        self._repeated: set[int] = set()
        self._spread = False
        self.breaks: list[int] = []
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
        else:
            if self._rows and time_s == self._rows[-1][0]:
                self._rows.pop()
                self._repeated.add(self._lines[-1])
                self.leave_out(self._lines.pop(), f"line {line} has the same time")
            self._rows.append((time_s, value))
            self._lines.append(line)

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

    def finish(self, *, counts: bool, dated: bool, holds: bool | None = None) -> Recording:
        """The recording.

        Raises:
            RecordingError: fewer than two rows can be used, more lines cannot be used than can, or
                it is not known whether powers hold.
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
        if not counts and holds is None and self._form == "csv":  # others write at a rate
            self._ask_whether_it_holds()
        if holds and counts:
            raise RecordingError(
                f"{self._path}: --holds is for powers, and this is an energy counter"
            )
        if holds:
            self.notes.append("each power holds until the next row, as you said")
            self.breaks = self._unknown()
        return Recording(
            path=self._path,
            format=self._form,
            times_s=[time_s for time_s, _ in self._rows],
            values=[value for _, value in self._rows],
            counts=counts,
            holds=bool(holds),
            holes=self._holes(counts=counts, holds=holds),
            dated=dated,
            left_out=self.left_out,
            notes=self.notes,
        )

    def _holes(self, *, counts: bool, holds: bool | None) -> frozenset[int]:
        """Places of the rows after which there is a break, or a far way to the next row.

        Powers that go on in a straight line, as the user said, do so however far it is, but for
        lines on the way that cannot be used.
        """
        broken = self._passed(self.breaks)
        far = set() if counts or holds else self._far()
        if holds is False:
            far &= self._passed(self._unknown())
        return frozenset(broken | far)

    def _unknown(self) -> list[int]:
        """The lines that show that nothing is known there."""
        return [line for line, _ in self.left_out if line not in self._repeated]

    def _passed(self, lines: list[int]) -> set[int]:
        """Places of the rows between which and the next one there is any of these lines."""
        passed = [bisect_right(lines, line) for line in self._lines]
        return {place for place, (a, b) in enumerate(pairwise(passed)) if a != b}

    def _gaps_s(self) -> list[float]:
        return [b - a for (a, _), (b, _) in pairwise(self._rows)]

    def _far(self) -> set[int]:
        """Places of the rows from which it is far to the next one."""
        gaps_s = self._gaps_s()
        longest_s = longest_gap_s(statistics.median(gaps_s))
        return {place for place, gap_s in enumerate(gaps_s) if gap_s > longest_s}

    def _ask_whether_it_holds(self) -> None:
        """Refuse rows that look as if they were written only when the value changed.

        They do if rests without any line are many and long, or if all rows come at unequal times
        and hardly a value is repeated.
        """
        gaps_s, far = self._gaps_s(), self._far() - self._passed(self._unknown())
        rests_s = math.fsum(gaps_s[place] for place in far)
        why = ""
        if len(far) > _FEW_RESTS and rests_s > _REST_SHARE * math.fsum(gaps_s):
            why = (
                f"{len(far)} gaps without rows, {rests_s:.5g} s in all, are longer than "
                f"{HOLE_ROWS:g} usual ones"
            )
        same = sum(v == w for (_, v), (_, w) in pairwise(self._rows))
        if len(gaps_s) >= 4 and same <= _REPEATED * len(gaps_s):
            short_s, _, long_s = statistics.quantiles(gaps_s, n=4, method="inclusive")
            if long_s > _UNEQUAL * short_s:
                why = (
                    f"rows come at unequal times (a quarter of them within {short_s:.3g} s, a "
                    f"quarter after {long_s:.3g} s or more) and hardly a value is repeated"
                )
        if why:
            raise RecordingError(
                f"{self._path}: {why}, as where rows are written only when the value changes. Say "
                "which it is: --holds if each power holds until the next row, --no-holds if it "
                "goes there in a straight line; a row without a value in a long gap makes it a hole"
            )


def listed(names: Iterable[str]) -> str:
    """Names in quotes, with commas."""
    return ", ".join(repr(name) for name in names)

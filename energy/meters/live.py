"""A CSV file that a laboratory's logger is still writing: the recording of this very run.

* :class:`ReplaySettings`  the table ``[replay]`` of a board's profile
* :func:`open_replay`      the meter of a recording, of this time or another
* :class:`LiveRecording`   the one of this time

Its ``time_s`` is UNIX time, or becomes it by adding ``offset_s``; its last row must be of now. Then
its joules are ``measured``. Otherwise it is refused: a recording of another time
(:mod:`fimi.energy.meters.replay`) says nothing about this run.

The logger's clock need not agree with ours: the row that came fastest says how they differ
(:class:`~fimi.energy.meters.elsewhere.clocks.OneWayOffset`), and a clock that is set is noticed. No
row is lost by looking seldom. Powers that come faster than a meter is looked at are added up to a
counter, by trapezoids; others, and those that come several at once, wait for the next look.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.counter import Falls
from fimi.energy.meters.elsewhere.clocks import OneWayOffset
from fimi.energy.meters.replay import Replay, longest_gap_s, read_recording
from fimi.energy.meters.response import MeterResponse, uniform_sd_s

log = logging.getLogger(__name__)

_CLOCK_STEP_S = 0.5
_READ_PER_ROW = 2.5
_WARNINGS = 3
_ADDED_BELOW_S = 0.25  # looks are up to ten a second, and 2.5 are wanted for each row
_WAITING_ROWS = 64
_SPREAD_OVER = 4.0
_SET_BACK_ROWS = 3
_LEARN_FROM = 4
_LEARN_S = 5.0
_LATE_S = 0.2


class _Row(NamedTuple):
    """A row that waits to be looked at: its time by the logger's clock, s, and W or J."""

    time_s: float
    value: float
    reset: bool


class ReplaySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recording, and whether it is of this very run.

    Attributes:
        file: the CSV file.
        kind: ``emulated``: of another time; ``measured``: a laboratory's logger writes it now, with
            this board on its meter.
        offset_s: for ``measured``: what makes UNIX time of its ``time_s``, s; 0 if it is.
        stale_s: for ``measured``: after so long without a new row there is no value, s; also how
            old its last row may be at the start.
        relative_uncertainty: for ``measured``: one standard deviation of its gain, dimensionless.
    """

    file: str
    kind: Literal["emulated", "measured"] = "emulated"
    offset_s: Annotated[float, Meta(ge=-1e11, le=1e11)] = 0.0
    stale_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    relative_uncertainty: Annotated[float, Meta(ge=0, le=1)] = 0.01


def open_replay(
    settings: str | ReplaySettings | None,
    clock: Clock,
    *,
    scope: Scope,
    impossible_w: float = math.inf,
) -> Meter:
    """The meter of a recording; ``impossible_w`` as for :class:`LiveRecording`.

    Raises:
        MeterUnavailableError: the profile names none, it cannot be read, is no recording, or is not
            of this time although it was declared as measured.
    """
    if settings is None:
        raise MeterUnavailableError("the profile names no recording; replay = FILE.csv does")
    if isinstance(settings, str):
        settings = ReplaySettings(file=settings)
    if settings.kind == "emulated":
        return Replay(Path(settings.file), clock, scope=scope)
    return LiveRecording(settings, clock, scope=scope, impossible_w=impossible_w)


class LiveRecording(Meter):
    """A recording that is being made: a look gives its next row, with the time of that row.

    Rows that are no numbers, or go back in time, are left out and counted. Several rows that go
    back and then on say that the logger's clock was set.

    Args:
        settings: file, offset and how old a row may be.
        clock: clock of the readings.
        scope: what the logger's meter sees.
        impossible_w: a row with a larger power is none, W; a counter that falls and is back with
            more did not fall.
        unix_s: the time of day, s.
        wait: waits for so many seconds while the first new rows are awaited.

    Raises:
        MeterUnavailableError: it cannot be read, is no recording, or its last row is not of now.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        clock: Clock,
        *,
        scope: Scope = "board",
        impossible_w: float = math.inf,
        unix_s: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._path = Path(settings.file)
        self._clock, self._unix_s = clock, unix_s
        self._impossible_w, self._impossible = impossible_w, 0
        self.left_out = 0
        """How many rows were left out."""
        self.passed_over = 0
        """How many rows were not looked at in time."""
        try:
            self._file = self._path.open("rb")
            data = self._file.read()
        except OSError as error:
            raise MeterUnavailableError(
                f"{self._path}: not a readable CSV file ({error})"
            ) from error
        # The last line may still be being written.
        whole = data.rfind(b"\n") + 1
        self._rest = data[whole:]
        try:
            table = read_recording(self._path, data[:whole], self._leave_out)
        except MeterUnavailableError:
            self.close()
            raise
        self._places = (
            table.columns.index("time_s"),
            table.columns.index("energy_j" if table.counts else "power_w"),
            len(table.columns),
        )
        self._gap_s = float(np.median(np.diff(table.times_s[-1000:])))
        self._file_counts = table.counts
        self._adds = not table.counts and self._gap_s < _ADDED_BELOW_S
        self._counts = table.counts or self._adds
        self._last_s, self._value = table.times_s[-1], table.values[-1]
        self._total_j = 0.0
        self._falls = Falls(impossible_w)
        self._back_s, self._back = -math.inf, 0
        self._looked_s = -math.inf
        self._offset = OneWayOffset()
        # By which our clock is ahead of the file's times, if the logger's time of day is right.
        self._ahead_s = clock.now_s() - unix_s() + settings.offset_s
        self._shown = _Row(self._last_s, 0.0 if self._adds else self._value, reset=False)
        self._rows: deque[_Row] = deque()
        if self._adds:
            self.step_j = 0.0
        try:
            self._take_in()
            self._check_age()
        except MeterUnavailableError:
            self.close()
            raise
        self._learn_offset(wait)
        if self._rows:
            self._shown = self._rows[-1]._replace(reset=False)
            self._rows.clear()
        period_s = max(self._gap_s, _ADDED_BELOW_S / _READ_PER_ROW) if self._adds else self._gap_s
        self._description = MeterDescription(
            source=f"recording:{self._path.name}",
            kind="measured",
            scope=scope,
            rate_hz=(1.0 if self._counts else _READ_PER_ROW) / period_s,
            relative_uncertainty=settings.relative_uncertainty,
            counts=self._counts,
            # Rows are the means or the instants of their time: which, the file does not say.
            response=MeterResponse(
                delay_sd_s=min(600.0, math.hypot(uniform_sd_s(self._gap_s), self._offset.sd_s()))
            ),
        )

    def look(self, time_s: float) -> Look:
        """The next row, or the last one; empty if there is none of the last ``stale_s``."""
        self._take_in()
        if time_s - self._ours(self._last_s) > self._settings.stale_s:
            return NOTHING
        since_s, self._looked_s = time_s - self._looked_s, time_s
        reset = self._next(since_s) if self._rows else False
        at_s = self._ours(self._shown.time_s)
        if at_s > time_s + _CLOCK_STEP_S:
            return NOTHING
        at_s = min(at_s, time_s)
        if self._counts:
            return Look(counter_j=self._shown.value, time_s=at_s, reset=reset)
        return Look(power_w=self._shown.value, time_s=at_s)

    def _next(self, since_s: float) -> bool:
        """Show the next row; whether a counter was reset before it."""
        rows = self._rows
        if not self._counts:
            while len(rows) > _WAITING_ROWS:
                self.passed_over += 1
                rows.popleft()
            self._shown = rows.popleft()
            return False
        # Of a counter none is needed: those that came at once are shown over several looks.
        until_s = rows[0].time_s + max(since_s, (rows[-1].time_s - rows[0].time_s) / _SPREAD_OVER)
        reset = False
        while rows and (rows[0].time_s <= until_s):
            self._shown = rows.popleft()
            reset |= self._shown.reset
        return reset

    def facts(self) -> tuple[str, ...]:
        """How the logger's clock differs, how often one was set, and how many rows are left out."""
        told = []
        if self._offset.ready:
            ahead_s = self._clock.now_s() - self._unix_s() - self._offset.behind_s
            late = "; or rows come that late: --step-load tells" if ahead_s < -_LATE_S else ""
            told.append(
                f"the logger's clock is ahead by {ahead_s:.3f} s ± "
                f"{1e3 * self._offset.sd_s():.2g} ms (by the row that came fastest{late})"
            )
        if self._adds:
            told.append(f"a row every {self._gap_s:.3g} s: its powers are added up to a counter")
        if self.left_out:
            told.append(f"{self.left_out} rows were left out")
        return tuple(told)

    def doubts(self) -> tuple[str, ...]:
        """That a clock was set, that it is not known how clocks differ, or that rows are lost."""
        told = []
        if not self._offset.ready:
            told.append(
                "no new row has come since it was opened, so that the logger's clock is taken as "
                "right"
            )
        if self._impossible:
            told.append(
                f"{self._impossible} rows cannot be of this board, or its counter fell or leapt "
                "there: what was drawn then is not known"
            )
        if self._offset.steps:
            told.append(
                f"the logger's clock or ours was set {self._offset.steps} times while it was read; "
                "phases of that time may have lost or got rows of others"
            )
        if self.passed_over:
            told.append(
                f"rows come faster than they are looked at, and {self.passed_over} were passed "
                f"over. Set meter_rate_hz to {_READ_PER_ROW / self._gap_s:.2g} or more"
            )
        return tuple(told)

    def why_nothing(self) -> str:
        """How old the last row is."""
        age_s = self._clock.now_s() - self._ours(self._last_s)
        return f"the last row of {self._path} is of {age_s:.1f} s ago"

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def _leave_out(self, why: str) -> None:
        self.left_out += 1
        if self.left_out <= _WARNINGS:
            log.warning("%s; the row is left out", why)

    def _ours(self, their_s: float) -> float:
        """A time of a row by our clock, s."""
        if not self._offset.ready:
            return their_s + self._ahead_s
        return self._offset.ours(their_s + self._settings.offset_s)

    def _learn_offset(self, wait: Callable[[float], None]) -> None:
        """Wait for some new rows, and compare the clocks by them."""
        step_s = min(0.05, max(0.002, self._gap_s / 4.0))
        news = 0
        for _ in range(math.ceil(min(_LEARN_S, (_LEARN_FROM + 1) * self._gap_s + 0.1) / step_s)):
            wait(step_s)
            before_s = self._last_s
            self._take_in()
            news += self._last_s != before_s
            if news >= _LEARN_FROM:
                return

    def _check_age(self) -> None:
        age_s = self._clock.now_s() - (self._last_s + self._ahead_s)
        stale_s = self._settings.stale_s
        if -_CLOCK_STEP_S <= age_s <= stale_s:
            return
        hours = round(age_s / 1800.0) / 2.0
        advice = (
            "A recording of another time is no measurement of this run: write kind = "
            '"emulated", or none'
        )
        if abs(age_s) < 15 * 3600.0 and hours and abs(age_s - 3600.0 * hours) < stale_s:
            advice = (
                f"If the logger writes now and its clock has another zone, declare offset_s = "
                f"{self._settings.offset_s + 3600.0 * hours:g}"
            )
        elif self._last_s < 1e9 and not self._settings.offset_s:
            advice = (
                "Its time_s is no UNIX time; if the logger writes now, declare as offset_s the "
                "UNIX time of its 0"
            )
        elif stale_s < age_s < 3600.0:
            advice = "Is the logger still running, and does it write each row at once? " + advice
        raise MeterUnavailableError(
            f"{self._path} is declared as measured, and its last row (time_s {self._last_s:.3f}) "
            f"is of {abs(age_s):.1f} s {'before' if age_s > 0 else 'after'} now. {advice}"
        )

    def _take_in(self) -> None:
        """Read the rows that have been added."""
        try:
            if os.fstat(self._file.fileno()).st_size < self._file.tell():
                self._leave_out(f"{self._path} has become shorter; it is read from its end on")
                self._file.seek(0, os.SEEK_END)
                self._rest = b""
            added = self._file.read()
        except (OSError, ValueError) as error:
            self._leave_out(f"{self._path}: {error}")
            return
        if not added:
            return
        *lines, self._rest = (self._rest + added).split(b"\n")
        before_s = self._last_s
        for line in lines:
            if line.strip():
                self._take_line(line)
        if self._last_s == before_s:
            return
        if self._offset.heard(self._last_s + self._settings.offset_s, self._clock.now_s()):
            log.warning("%s: the logger's clock or ours was set", self._path)

    def _take_line(self, line: bytes) -> None:
        time_at, value_at, columns = self._places
        try:
            cells = next(csv.reader([line.decode("utf-8")]))
            if len(cells) != columns:
                raise ValueError(f"it has {len(cells)} columns, not {columns}")
            time_s, value = float(cells[time_at]), float(cells[value_at])
            if not (math.isfinite(time_s) and math.isfinite(value)) or value < 0.0:
                raise ValueError("its numbers must be finite, its value not negative")
            if not self._file_counts and value > self._impossible_w:
                self._impossible += 1
                raise ValueError(f"{value:g} W is no power of this board")
            was_set = time_s <= self._last_s and self._goes_on_from_before(time_s)
        except (ValueError, StopIteration, csv.Error) as error:
            self._leave_out(f"{self._path}: row {line[:60]!r}: {error}")
            return
        gap_s = time_s - self._last_s
        hole = was_set or gap_s > longest_gap_s(self._gap_s)
        if self._adds:
            self._total_j += 0.0 if hole else gap_s * (self._value + value) / 2.0
            self._rows.append(_Row(time_s, self._total_j, reset=hole))
        else:
            self._rows.append(_Row(time_s, value, reset=self._counts and self._leaps(value, gap_s)))
        self._last_s, self._value = time_s, value

    def _leaps(self, value_j: float, gap_s: float) -> bool:
        """Whether a counter fell, or is back at once after a fall."""
        leaps = self._falls.see(self._value, value_j, abs(gap_s) + self._gap_s)
        self._impossible += leaps
        return leaps

    def _goes_on_from_before(self, time_s: float) -> bool:
        """Whether the logger's clock was set back: rows go on from an earlier time.

        Raises:
            ValueError: it is a row that goes back, and not yet clear.
        """
        self._back = self._back + 1 if time_s > self._back_s else 1
        self._back_s = time_s
        if self._back < _SET_BACK_ROWS:
            raise ValueError(f"its time does not follow {self._last_s:.3f}")
        self._back, self._back_s = 0, -math.inf
        self._rows.clear()
        self._offset.was_set()
        log.warning("%s: the logger's clock was set back", self._path)
        return True

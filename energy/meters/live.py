"""A CSV file that a laboratory's logger is still writing: the recording of this very run.

* :class:`ReplaySettings`  the table ``[replay]`` of a board's profile
* :func:`open_replay`      the meter of a recording, of this time or another
* :class:`LiveRecording`   the one of this time

Its ``time_s`` is UNIX time, or becomes it by adding ``offset_s``; its last row must be of now. Then
its joules are ``measured``. Otherwise it is refused: a recording of another time
(:mod:`fimi.energy.meters.replay`) says nothing about this run.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.replay import Replay, read_recording
from fimi.energy.meters.response import MeterResponse, uniform_sd_s

log = logging.getLogger(__name__)

_CLOCK_STEP_S = 0.5
_READ_PER_ROW = 2.5
_WARNINGS = 3


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


def open_replay(settings: str | ReplaySettings | None, clock: Clock, *, scope: Scope) -> Meter:
    """The meter of a recording.

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
    return LiveRecording(settings, clock, scope=scope)


class LiveRecording(Meter):
    """A recording that is being made: a look gives its last row, with the time of that row.

    Rows that are no numbers, or go back in time, are left out and counted.

    Args:
        settings: file, offset and how old a row may be.
        clock: clock of the readings.
        scope: what the logger's meter sees.
        unix_s: the time of day, s.

    Raises:
        MeterUnavailableError: it cannot be read, is no recording, or its last row is not of now.
    """

    def __init__(
        self,
        settings: ReplaySettings,
        clock: Clock,
        *,
        scope: Scope = "board",
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._path = Path(settings.file)
        self._clock, self._unix_s = clock, unix_s
        self.left_out = 0
        """How many rows were left out."""
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
        self._counts = table.counts
        self._places = (
            table.columns.index("time_s"),
            table.columns.index("energy_j" if table.counts else "power_w"),
            len(table.columns),
        )
        self._last_s, self._value = table.times_s[-1], table.values[-1]
        self._reset = False
        # By which our clock is ahead of the file's times.
        self._ahead_s = clock.now_s() - unix_s() + settings.offset_s
        self._take_in()
        try:
            self._check_age()
        except MeterUnavailableError:
            self.close()
            raise
        gap_s = float(np.median(np.diff(table.times_s[-1000:])))
        self._description = MeterDescription(
            source=f"recording:{self._path.name}",
            kind="measured",
            scope=scope,
            rate_hz=(1.0 if self._counts else _READ_PER_ROW) / gap_s,
            relative_uncertainty=settings.relative_uncertainty,
            counts=self._counts,
            # Rows are the means or the instants of their time: which, the file does not say.
            response=MeterResponse(delay_sd_s=min(600.0, uniform_sd_s(gap_s))),
        )

    def look(self, time_s: float) -> Look:
        """The last row that is there; empty if there is none of the last ``stale_s``."""
        self._take_in()
        at_s = self._last_s + self._ahead_s
        if time_s - at_s > self._settings.stale_s or at_s > time_s + _CLOCK_STEP_S:
            return NOTHING
        at_s = min(at_s, time_s)
        reset, self._reset = self._reset, False
        if self._counts:
            return Look(counter_j=self._value, time_s=at_s, reset=reset)
        return Look(power_w=self._value, time_s=at_s)

    def facts(self) -> tuple[str, ...]:
        """How many rows were left out."""
        return (f"{self.left_out} rows were left out",) if self.left_out else ()

    def why_nothing(self) -> str:
        """How old the last row is."""
        age_s = self._clock.now_s() - (self._last_s + self._ahead_s)
        return f"the last row of {self._path} is of {age_s:.1f} s ago"

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def _leave_out(self, why: str) -> None:
        self.left_out += 1
        if self.left_out <= _WARNINGS:
            log.warning("%s; the row is left out", why)

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
        for line in lines:
            if line.strip():
                self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        time_at, value_at, columns = self._places
        try:
            cells = next(csv.reader([line.decode("utf-8")]))
            if len(cells) != columns:
                raise ValueError(f"it has {len(cells)} columns, not {columns}")
            time_s, value = float(cells[time_at]), float(cells[value_at])
            if not (math.isfinite(time_s) and math.isfinite(value)) or value < 0.0:
                raise ValueError("its numbers must be finite, its value not negative")
            if time_s <= self._last_s:
                raise ValueError(f"its time does not follow {self._last_s:.3f}")
        except (ValueError, StopIteration, csv.Error) as error:
            self._leave_out(f"{self._path}: row {line[:60]!r}: {error}")
            return
        self._reset |= self._counts and value < self._value
        self._last_s, self._value = time_s, value

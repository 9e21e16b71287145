"""CSV files with a column of times and one of power or energy, whatever their headings are.

Times are read by :mod:`~fimi.testbed.recordings.times`, units by
:mod:`~fimi.testbed.recordings.unit`. Files of jtop (``time``, ``uptime``, ``power cur`` or
``Power TOT``) are such files whose column and unit are known. A file with semicolons or tabs may
have decimal commas. No cell goes on in the next line: an open quote would swallow the rest. A
counter that falls was reset and goes on, unless it comes back to where it would be anyway; one that
falls often is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from fimi.energy.meters.replay import cells_of
from fimi.energy.timestamps import Stamp
from fimi.testbed.recordings import times, unit
from fimi.testbed.recordings.recording import (
    ImportSettings,
    Recording,
    RecordingDraft,
    RecordingError,
    listed,
)

_JTOP_TOTALS = ("Power TOT", "power cur")
_LOOKED_AT = 50
_RESETS = 0.05
"""A column that falls in a larger share of rows is no counter."""
_ODD = 2.0
"""A step beside a fall is odd if its power is so many times the largest of all other steps."""
_BEGINS = 10.0
"""Zeros before a step of so many times this power are of a counter that did not count yet."""


def is_jtop(heading: Sequence[str]) -> bool:
    """Whether a heading is jtop's."""
    return {"time", "uptime"} <= set(heading) and any(name in heading for name in _JTOP_TOTALS)


def heading_of(path: str, lines: Sequence[str]) -> tuple[list[str], str]:
    """The columns of the first line, and what separates them.

    Raises:
        RecordingError: it is no line of a table.
    """
    first = next((line for line in lines if line.strip()), "")
    mark = max((",", ";", "\t"), key=first.count)
    try:
        return [name.strip() for name in cells_of(first, mark)], mark
    except ValueError as error:
        raise RecordingError(f"{path}: the names of columns cannot be read: {error}") from error


def read(path: str, lines: Sequence[str], settings: ImportSettings, *, jtop: bool) -> Recording:
    """The recording of a file.

    Raises:
        RecordingError: its columns or their units are not known, or cannot be right.
    """
    heading, mark = heading_of(path, lines)
    commas = mark != ","
    if heading and all(times.is_number(name, commas=commas) for name in heading):
        raise RecordingError(
            f"{path}: its first line holds numbers, not names of columns. Add a line such as "
            "time_s,power_w"
        )
    for name in heading:
        if heading.count(name) > 1 and name in (settings.column, settings.time_column):
            raise RecordingError(f"{path}: it has two columns {name!r}; rename one")
    total = next((name for name in _JTOP_TOTALS if name in heading), None) if jtop else None
    if jtop and total is None and settings.column is None:
        raise RecordingError(f"{path}: jtop's columns {listed(_JTOP_TOTALS)} are not there")
    draft = RecordingDraft(path, "jtop" if jtop else "csv")
    written = _written(draft, lines, mark)[1:]
    first = [row for _, row in written[:_LOOKED_AT]]
    when = times.find(path, heading, first, settings.time_column, commas=commas)
    name = settings.column or total or _value_column(path, heading, when.places)
    if name not in heading:
        raise RecordingError(f"{path}: it has no column {name!r}, but {listed(heading)}")
    value_at = heading.index(name)
    rows: list[tuple[int, list[str], float]] = []
    for line, row in written:
        more = any(cell.strip() for cell in row[len(heading) :])  # decimal commas, perhaps
        if more or len(row) <= max(*when.places, value_at):
            draft.leave_out(line, f"it has {len(row)} columns, not {len(heading)}")
            continue
        try:
            rows.append((line, row, times.number(row[value_at], commas=commas)))
        except ValueError as error:
            draft.leave_out(line, f"column {name!r}: {error}")
    found = times.read(path, heading, [row for _, row, _ in rows], when, settings, commas=commas)
    read_rows: list[tuple[int, Stamp, float]] = []
    for (line, _, value), stamp in zip(rows, found.stamps, strict=True):
        if isinstance(stamp, Stamp):
            read_rows.append((line, stamp, value))
        else:
            draft.leave_out(line, stamp)
    if not read_rows:
        return draft.finish(counts=False, dated=False)
    factor, counts = _settle(path, draft, name, read_rows, settings, jtop=jtop)
    if counts:
        read_rows = _continued(path, draft, name, read_rows)
    draft.add_dated(((line, stamp, value * factor) for line, stamp, value in read_rows))
    if commas and any("," in row[value_at] for _, row, _ in rows):
        draft.notes.append("commas are taken as decimal points")
    draft.notes += found.notes
    return draft.finish(counts=counts, dated=found.dated, holds=settings.holds)


def _written(draft: RecordingDraft, lines: Sequence[str], mark: str) -> list[tuple[int, list[str]]]:
    """Number and cells of each line that has any."""
    found = []
    for number, line in enumerate(lines, 1):
        try:
            row = cells_of(line, mark)
        except ValueError as error:
            draft.leave_out(number, str(error))
            continue
        if any(cell.strip() for cell in row):
            found.append((number, row))
    return found


def _settle(
    path: str,
    draft: RecordingDraft,
    name: str,
    rows: Sequence[tuple[int, Stamp, float]],
    settings: ImportSettings,
    *,
    jtop: bool,
) -> tuple[float, bool]:
    """What a number of the column is in W or J, and whether it is a counter."""
    heading = "Power (mW)" if jtop and settings.unit is None else name
    counts = unit.counts(heading, settings.unit)
    values, times_s = [value for _, _, value in rows], [stamp.unix_s for _, stamp, _ in rows]
    typical = unit.mean(values, times_s, counts=counts)
    own = unit.settled(path, heading, settings.unit, typical, counts=counts)
    why = "as you said" if settings.unit else "as jtop writes it" if jtop else "as its heading says"
    draft.notes += [f"column {name!r} in {own}, {why}", *unit.unusual(own, typical)]
    return unit.FACTORS[own], counts


def _continued(
    path: str, draft: RecordingDraft, name: str, rows: Sequence[tuple[int, Stamp, float]]
) -> list[tuple[int, Stamp, float]]:
    """The rows of a counter as if it had not been reset; rows where it dropped out are left out.

    Raises:
        RecordingError: it falls too often to be a counter.
    """
    values = [value for _, _, value in rows]
    falls = [at for at in range(1, len(rows)) if values[at] < values[at - 1]]
    if len(falls) > max(2.0, _RESETS * len(rows)):
        raise RecordingError(
            f"{path}: column {name!r} falls in {len(falls)} of {len(rows)} rows, so that it is no "
            "counter. If it is the energy of each row, add it up first, or name a column of power "
            "with --column"
        )
    power = _Powers(rows)
    rises = _next_rises(values)
    begin = rises[0] if values[0] == 0.0 else 0
    doubtful = {begin, *(at - 1 for at in falls), *(rises[at] for at in falls)}
    most = max((power(at - 1, at) for at in range(1, len(rows)) if at not in doubtful), default=0.0)
    kept: list[int] = []
    back = 0
    for place, (line, _, value) in enumerate(rows):
        if kept and value < values[kept[-1]] and place >= back:
            if _drops_out(values, power, kept[-1], place, rises[place], _ODD * most):
                back = rises[place]
            elif len(kept) > 1 and values[kept[-2]] <= value and (
                power(kept[-2], place) <= _ODD * most < power(kept[-2], kept[-1])
            ):  # fmt: skip
                odd = kept.pop()
                draft.leave_out(rows[odd][0], f"the counter runs ahead, to {values[odd]:g}")
        if place < back:  # it is down
            draft.leave_out(line, f"the counter runs back, from {values[kept[-1]]:g} to {value:g}")
        else:
            kept.append(place)
    # Rows that are kept have no steps of drop-outs; those after a reset are work.
    steps = [power(a, b) for a, b in itertools.pairwise(kept) if b != begin]
    if begin in kept[1:] and power(begin - 1, begin) > _BEGINS * max(steps, default=0.0) > 0.0:
        draft.notes.append(f"the counter begins in line {rows[begin][0]}, after zeros")
    else:
        begin = 0
    return _added_up(draft, [rows[place] for place in kept], rows[begin][0] if begin else None)


def _added_up(
    draft: RecordingDraft, rows: Sequence[tuple[int, Stamp, float]], begin: int | None
) -> list[tuple[int, Stamp, float]]:
    """A counter that goes on where it fell, and where it begins in line ``begin``."""
    resets: list[int] = []
    added: list[tuple[int, Stamp, float]] = []
    last, before = rows[0][2], 0.0  # the counter, and the sum of what its breaks took from it
    for line, stamp, value in rows:
        if value < last:
            resets.append(line)
        if value < last or line == begin:
            draft.breaks.append(line)
            before += last - value
        last = value
        added.append((line, stamp, value + before))
    if resets:
        draft.notes.append(
            f"the counter was reset {len(resets)} times (line "
            f"{', '.join(map(str, resets[:5]))}); it goes on from there"
        )
    return added


class _Powers:
    """The power between two rows of a counter, in its unit a second.

    It is that of the stamps' step and of the mean gap at least: of rows closer than these nobody
    knows how close they are.
    """

    def __init__(self, rows: Sequence[tuple[int, Stamp, float]]) -> None:
        self._rows = rows
        mean_s = (rows[-1][1].unix_s - rows[0][1].unix_s) / max(1, len(rows) - 1)
        self._least_s = max(mean_s, max(stamp.step_s for _, stamp, _ in rows)) or 1.0

    def __call__(self, a: int, b: int) -> float:
        (_, since, low), (_, till, high) = self._rows[a], self._rows[b]
        return (high - low) / max(till.unix_s - since.unix_s, self._least_s)


def _next_rises(values: Sequence[float]) -> list[int]:
    """For each row the next that is above the one before it; 0 if there is none."""
    found = [0] * len(values)
    for at in range(len(values) - 2, -1, -1):
        found[at] = at + 1 if values[at + 1] > values[at] else found[at + 1]
    return found


def _drops_out(
    values: Sequence[float], power: _Powers, last: int, low: int, back: int, most: float
) -> bool:
    """Whether a counter that fell drops out until ``back``: it does not count while it is down.

    Its power since the ``last`` row is at most ``most`` then, if that is known. One low row may
    also be that of a reset, so the power from there must be more.
    """
    if not back or values[back] < values[last] or 0.0 < most < power(last, back):
        return False
    return back - low > 1 or power(low, back) > most


def _value_column(path: str, heading: list[str], times_at: Sequence[int]) -> str:
    found = [n for place, n in enumerate(heading) if place not in times_at and unit.is_amount(n)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RecordingError(
            f"{path}: none of its columns ({listed(heading)}) is power or energy; name it with "
            "--column"
        )
    raise RecordingError(
        f"{path}: {len(found)} of its columns are power or energy: {listed(found)}. Name one with "
        "--column"
    )

"""CSV files with a column of times and one of power or energy, whatever their headings are.

Times are read by :mod:`~fimi.testbed.recordings.times`, units by
:mod:`~fimi.testbed.recordings.unit`. Files of jtop (``time``, ``uptime``, ``power cur`` or
``Power TOT``) are such files whose column and unit are known. A file with semicolons or tabs may
have decimal commas. No cell goes on in the next line: an open quote would swallow the rest. A
counter that falls is continued by :mod:`~fimi.testbed.recordings.counters`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.energy.meters.replay import cells_of
from fimi.energy.timestamps import Stamp
from fimi.testbed.recordings import counters, times, unit
from fimi.testbed.recordings.recording import (
    ImportSettings,
    Recording,
    RecordingDraft,
    RecordingError,
    listed,
)

_JTOP_TOTALS = ("Power TOT", "power cur")
_LOOKED_AT = 50


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
        read_rows = counters.continued(path, draft, name, read_rows)
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

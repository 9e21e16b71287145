"""CSV files with a column of times and one of power or energy, whatever their headings are.

Times are read by :mod:`~fimi.testbed.recordings.times`, units by
:mod:`~fimi.testbed.recordings.unit`. Files of jtop (``time``, ``uptime``, ``power cur`` or
``Power TOT``) are such files whose column and unit are known. A file with semicolons or tabs may
have decimal commas. A counter that falls was reset and goes on; one that falls often is none.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence

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


def is_jtop(heading: Sequence[str]) -> bool:
    """Whether a heading is jtop's."""
    return {"time", "uptime"} <= set(heading) and any(name in heading for name in _JTOP_TOTALS)


def heading_of(lines: Sequence[str]) -> tuple[list[str], str]:
    """The columns of the first line, and what separates them."""
    first = next((line for line in lines if line.strip()), "")
    mark = max((",", ";", "\t"), key=first.count)
    return [name.strip() for name in next(csv.reader([first], delimiter=mark), [])], mark


def read(path: str, lines: Sequence[str], settings: ImportSettings, *, jtop: bool) -> Recording:
    """The recording of a file.

    Raises:
        RecordingError: its columns or their units are not known, or cannot be right.
    """
    heading, mark = heading_of(lines)
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
    reader = csv.reader(lines, delimiter=mark)
    written = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)][1:]
    draft = RecordingDraft(path, "jtop" if jtop else "csv")
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
    return draft.finish(counts=counts, dated=found.dated)


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
    """The rows of a counter, without its resets; a value that stands alone is left out.

    Raises:
        RecordingError: it falls too often to be a counter.
    """
    falls = sum(b[2] < a[2] for a, b in itertools.pairwise(rows))
    if falls > max(2.0, _RESETS * len(rows)):
        raise RecordingError(
            f"{path}: column {name!r} falls in {falls} of {len(rows)} rows, so that it is no "
            "counter. If it is the energy of each row, add it up first, or name a column of power "
            "with --column"
        )
    kept: list[tuple[int, Stamp, float]] = []
    last, before = rows[0][2], 0.0  # the counter, and the sum of what its resets took from it
    resets: list[int] = []
    for place, (line, stamp, value) in enumerate(rows):
        if value < last:
            after = rows[place + 1][2] if place + 1 < len(rows) else last
            if after >= last:
                draft.leave_out(line, f"the counter runs back, from {last:g} to {value:g}")
                continue
            resets.append(line)
            before += last - value
        last = value
        kept.append((line, stamp, value + before))
    if resets:
        draft.notes.append(
            f"the counter was reset {len(resets)} times (line {', '.join(map(str, resets[:5]))}); "
            "it goes on from there, and has nothing for the time between the rows before and after"
        )
    return kept


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

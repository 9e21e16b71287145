"""CSV files with a column of times and one of power or energy, whatever their headings are.

Times are ISO 8601, UNIX time (s, ms, µs, ns) or seconds since a beginning; milliseconds where the
heading says ms. Files of jtop (``time``, ``uptime``, ``power cur`` or ``Power TOT``) are such files
whose column and unit are known. A file with semicolons may have decimal commas.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from fimi.energy.timestamps import Stamp, read_stamp
from fimi.testbed.recordings import unit
from fimi.testbed.recordings.recording import (
    ImportSettings,
    Recording,
    RecordingDraft,
    RecordingError,
    listed,
)

_TIME_WORDS = ("time", "timestamp", "date", "datetime", "elapsed", "zeit", "t")
_JTOP_TOTALS = ("Power TOT", "power cur")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


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
        RecordingError: its columns or their unit are not known, or cannot be right.
    """
    heading, mark = heading_of(lines)
    if heading and all(_NUMBER.fullmatch(name) for name in heading):
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
    said = settings.unit or ("mW" if jtop else None)
    time_at = heading.index(_time_column(path, heading, settings.time_column))
    value_at = heading.index(settings.column or total or _value_column(path, heading, time_at))
    draft = RecordingDraft(path, "jtop" if jtop else "csv")
    rows: list[tuple[int, str, float]] = []
    reader = csv.reader(lines, delimiter=mark)
    next(row for row in reader if any(cell.strip() for cell in row))
    for row in reader:
        number = reader.line_num
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(time_at, value_at):
            draft.leave_out(number, f"it has {len(row)} columns, not {len(heading)}")
            continue
        try:
            rows.append((number, row[time_at].strip(), _number(row[value_at], mark)))
        except ValueError as error:
            draft.leave_out(number, f"column {heading[value_at]!r}: {error}")
    if not rows:
        return draft.finish(counts=False, dated=False)
    own = unit.settled(path, heading[value_at], said, [value for _, _, value in rows])
    if jtop and settings.unit is None:
        unit.settled(path, "Power (mW)", None, [value for _, _, value in rows])
    counts, factor = own in unit.ENERGY, unit.FACTORS[own]
    draft.notes += unit.unusual(own, [value for _, _, value in rows])
    dated, zoned = _add(draft, rows, heading[time_at], settings, factor, counts=counts)
    draft.notes.append(f"column {heading[value_at]!r} in {own}")
    if dated and not zoned and settings.zone is None:
        draft.notes.append("its times have no zone and are taken as those of this machine")
    return draft.finish(counts=counts, dated=dated)


def _add(
    draft: RecordingDraft,
    rows: list[tuple[int, str, float]],
    heading: str,
    settings: ImportSettings,
    factor: float,
    *,
    counts: bool,
) -> tuple[bool, bool]:
    """Add rows with their times; whether these are dated, and whether with a zone."""
    zone = settings.tzinfo()
    in_words = unit.words(heading)
    scale = 1e-3 if "ms" in in_words or "msec" in in_words else 1.0
    dated = _is_dated(rows[0][1])
    stamped: list[tuple[int, Stamp, float]] = []
    for number, written, value in rows:
        try:
            if dated:
                stamped.append((number, read_stamp(written, zone), value * factor))
            else:
                time_s = _number(written, ";") * scale
                draft.add(number, time_s, value * factor, counts=counts)
        except ValueError as error:
            draft.leave_out(number, str(error))
    draft.add_dated(stamped, counts=counts)
    return dated, all(stamp.zoned for _, stamp, _ in stamped)


def _is_dated(written: str) -> bool:
    try:
        read_stamp(written)
    except ValueError:
        return False
    return True


def _number(cell: str, mark: str) -> float:
    text = cell.strip()
    if mark == ";" and "." not in text:
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{cell.strip()[:40]!r} is no number")
    return float(text)


def _time_column(path: str, heading: list[str], wanted: str | None) -> str:
    found = [name for name in heading if any(w in _TIME_WORDS for w in unit.words(name))]
    if wanted is not None:
        found = [name for name in heading if name == wanted]
    if not found:
        raise RecordingError(
            f"{path}: none of its columns ({listed(heading)}) is a time"
            + (f" {wanted!r}" if wanted else "; name it with --time-column")
        )
    return found[0]


def _value_column(path: str, heading: list[str], time_at: int) -> str:
    found = [n for place, n in enumerate(heading) if place != time_at and unit.is_amount(n)]
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

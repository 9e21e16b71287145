"""The times of a table: which column holds them, in which unit, and whether that can be right.

==========  ==============================================  =========================
kind        a cell                                          what the rows' times are
==========  ==============================================  =========================
``stamp``   ``2025-03-28 01:56:06.5``, ``28.03.2025 1:56``  dated
``unix``    ``1743127566``; s, ms, µs or ns by its size     dated
``pair``    a date in one column, a clock in another        dated
``number``  ``0.25``                                        since a beginning
``clock``   ``12:11:05:769`` without a date                 since the midnight before
==========  ==============================================  =========================

A number has the unit of its heading (``t (ms)``, ``elapsed_ns``, ``minutes``). Where its size or
the time between two rows says another, or where nothing says one, the user is asked. Dates with
slashes are in the order that no row contradicts.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import timezone
from typing import Literal, NamedTuple

from msgspec import Struct

from fimi.energy.timestamps import Stamp, read_stamp
from fimi.testbed.recordings import unit
from fimi.testbed.recordings.recording import ImportSettings, RecordingError, listed

UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
"""Size of each unit of time, s."""

_NAMES = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"),
    "us": ("us", "µs", "μs", "usec", "usecs", "micros", "microsecond", "microseconds"),
    "ns": ("ns", "nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"),
    "min": ("min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
}
_WORDS = {word: short for short, names in _NAMES.items() for word in names}
_TIME_WORDS = (
    "time", "timestamp", "timestamps", "date", "datetime", "elapsed", "epoch", "unix", "t",
    "zeit", "datum", "uhrzeit", "zeitstempel", *(w for w in _WORDS if len(w) > 3),
)  # fmt: skip
_GAP_S = (1e-6, 900.0)
"""Time between two rows of loggers, s: up to the quarter of an hour of a smart meter."""
_PLAIN_GAP_S = (1e-3, 1.0)
"""The same where a number without a unit is taken for seconds: of others it could be another."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE = r"(?P<a>\d{1,4})(?P<mark>[-/.])(?P<b>\d{1,2})(?P=mark)(?P<c>\d{4}|\d{1,2})"
_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,:](?P<part>\d{1,9}))?)?"
    r"(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_WRITTEN = re.compile(rf"(?:{_DATE})?(?:[T ,;]+|$|(?<!\d))(?:{_CLOCK})?\s?(?P<zone>.*)")
_MIDNIGHT_S = 86400.0

Kind = Literal["stamp", "unix", "pair", "number", "clock"]
_RANKS: dict[Kind, int] = {"stamp": 0, "unix": 0, "pair": 1, "number": 2, "clock": 3}


class TimeColumns(NamedTuple):
    """Where the times are.

    Attributes:
        places: of the column, or of those with date and clock.
        kind: what their cells are.
        others: names of other columns that could be times.
    """

    places: tuple[int, ...]
    kind: Kind
    others: tuple[str, ...]


class TableTimes(Struct, frozen=True, kw_only=True):
    """The times of rows.

    Attributes:
        stamps: of each row, or why it has none.
        dated: whether they are UNIX time.
        notes: what was taken for granted, in sentences.
    """

    stamps: list[Stamp | str]
    dated: bool
    notes: list[str]


def number(cell: str, *, commas: bool) -> float:
    """A number; with a decimal comma where ``commas``.

    Raises:
        ValueError: it is none.
    """
    text = cell.strip()
    if commas and "." not in text:
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{cell.strip()[:40]!r} is no number")
    return float(text)


def find(
    path: str,
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    wanted: str | None,
    *,
    commas: bool,
) -> TimeColumns:
    """The columns of times.

    Args:
        path: for errors.
        heading: names of the columns.
        rows: cells of the first rows.
        wanted: the column that the user named.
        commas: whether numbers may have decimal commas.

    Raises:
        RecordingError: there is none.
    """
    if wanted is not None and wanted not in heading:
        raise RecordingError(f"{path}: it has no column {wanted!r}, but {listed(heading)}")
    own = [at for at, name in enumerate(heading) if name == wanted or _speaks_of_time(name)]
    cells = {at: [row[at].strip() for row in rows if at < len(row)] for at in own}
    kinds = {at: _kind(cells[at], commas=commas) for at in own}
    found: list[tuple[tuple[int, ...], Kind]] = []
    for at, kind in kinds.items():
        if kind == "date":
            found += [((at, also), "pair") for also in own if kinds[also] == "clock"]
        elif kind is not None:
            found.append(((at,), kind))
    if wanted is not None:
        found = [each for each in found if heading.index(wanted) in each[0]]
        own = [heading.index(wanted)]
    if found:
        # Of several numbers, time is the one that does not fall; T may be a temperature.
        places, kind = min(
            found, key=lambda each: (_RANKS[each[1]], _falls(cells[each[0][0]], commas=commas))
        )
        others = tuple(heading[at] for at in own if at not in places)
        return TimeColumns(places, kind, others)
    if own and rows:
        raise RecordingError(
            f"{path}: {listed(heading[at] for at in own)} cannot be read as times: the first row "
            f"has {listed(cell for at, cell in enumerate(rows[0]) if at in own)}"
        )
    raise RecordingError(
        f"{path}: none of its columns ({listed(heading)}) is a time; name it with --time-column. "
        "The names of columns must be the first line"
    )


def read(
    path: str,
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: TimeColumns,
    settings: ImportSettings,
    *,
    commas: bool,
) -> TableTimes:
    """The times of rows.

    Raises:
        RecordingError: their unit is not known, or cannot be right.
    """
    names = [heading[place] for place in columns.places]
    cells = [" ".join(row[place].strip() for place in columns.places) for row in rows]
    told = f"times are {' and '.join(map(repr, names))}"
    notes = [f"columns {listed(columns.others)} could be times, too"] if columns.others else []
    if columns.kind in ("number", "unix"):
        stamps, dated, how = _of_numbers(path, names[0], cells, settings.time_unit, commas)
        return TableTimes(stamps=stamps, dated=dated, notes=[f"{told}, {how}", *notes])
    if columns.kind == "clock":
        notes.append("its times have no date: they count from a midnight")
        return TableTimes(stamps=_of_clocks(cells), dated=False, notes=[told, *notes])
    zone, said = settings.tzinfo(), settings.zone is not None
    if not said and any(word in ("utc", "gmt") for name in names for word in unit.words(name)):
        zone, said = timezone.utc, True
        notes.append("its times are UTC, as the heading says")
    order, doubt = _order(cells)
    stamps = []
    for cell in cells:
        try:
            text, step_s = _canonical(cell, order)
            stamp = read_stamp(text, zone)
            stamps.append(stamp._replace(step_s=max(step_s, stamp.step_s)))
        except ValueError as error:
            stamps.append(str(error))
    if not said and any(isinstance(stamp, Stamp) and not stamp.zoned for stamp in stamps):
        notes.append("its times have no zone and are taken as those of this machine (--timezone)")
    return TableTimes(stamps=stamps, dated=True, notes=[told, *doubt, *notes])


def _speaks_of_time(name: str) -> bool:
    own = unit.words(name)
    return not unit.is_amount(name) and (
        any(word in _TIME_WORDS for word in own) or (len(own) == 1 and own[0] in _WORDS)
    )


def _kind(cells: Sequence[str], *, commas: bool) -> Kind | Literal["date"] | None:
    """What most cells are."""
    kinds = Counter(kind for cell in cells if (kind := _kind_of(cell, commas)) is not None)
    return kinds.most_common(1)[0][0] if kinds else None


def _kind_of(cell: str, commas: bool) -> Kind | Literal["date"] | None:
    try:
        return "unix" if _of_size(number(cell, commas=commas)) else "number"
    except ValueError:
        found = _WRITTEN.fullmatch(cell)
    if found is None or not (found["a"] or found["hour"]):
        return None
    if found["a"] and found["hour"]:
        return "stamp"
    return "date" if found["a"] else "clock"


def _falls(cells: Sequence[str], *, commas: bool) -> int:
    """How many numbers are not above the one before."""
    values = [number(cell, commas=commas) for cell in cells if is_number(cell, commas=commas)]
    return sum(b <= a for a, b in itertools.pairwise(values))


def is_number(cell: str, *, commas: bool) -> bool:
    """Whether a cell is a number."""
    return _kind_of(cell.strip(), commas) in ("number", "unix")


def _of_size(value: float) -> str | None:
    """The unit in which a number is UNIX time."""
    return next(
        (short for short in ("s", "ms", "us", "ns") if 1e9 <= value * UNITS_S[short] < 1e10), None
    )


def _of_numbers(
    path: str, name: str, cells: Sequence[str], said: str | None, commas: bool
) -> tuple[list[Stamp | str], bool, str]:
    """The times of numbers, whether they are UNIX time, and how they were read."""
    values: list[float | str] = []
    for cell in cells:
        try:
            values.append(number(cell, commas=commas))
        except ValueError as error:
            values.append(str(error))
    known = [value for value in values if isinstance(value, float)]
    short, how = _settled(path, name, known, said)
    dated = bool(known) and _of_size(known[0]) == short
    stamps: list[Stamp | str] = []
    for cell, value in zip(cells, values, strict=True):
        if isinstance(value, str):
            stamps.append(value)
        elif dated and _of_size(value) == short:
            stamps.append(read_stamp(cell.replace(",", ".") if commas else cell))
        elif dated:
            stamps.append(f"{cell.strip()[:40]!r} is no UNIX time in {short}, as the first row has")
        else:
            stamps.append(Stamp(value * UNITS_S[short], 0.0, zoned=True))
    return stamps, dated, f"{'UNIX time' if dated else 'since a beginning'} in {short}, {how}"


def _settled(path: str, name: str, known: Sequence[float], said: str | None) -> tuple[str, str]:
    """The unit of a column of numbers, and how it is known.

    Raises:
        RecordingError: it is not, or cannot be right.
    """
    if said is not None:
        return said, "as you said"
    gaps = [b - a for a, b in itertools.pairwise(known) if b > a]
    gap = statistics.median(gaps) if gaps else 0.0
    own = {_WORDS[word] for word in unit.words(name) if word in _WORDS}
    named = next(iter(own)) if len(own) == 1 else None
    size = _of_size(known[0]) if known else None
    if size is not None and named in (None, size):
        return size, "as its heading says" if named else "by its size"
    if size is None and named is not None:
        if not gaps or _GAP_S[0] <= gap * UNITS_S[named] <= _GAP_S[1]:
            return named, "as its heading says"
    elif size is None and (not gaps or (not own and _PLAIN_GAP_S[0] <= gap <= _PLAIN_GAP_S[1])):
        return "s", "which is taken for granted: its heading names no unit"
    raise RecordingError(_question(path, name, named, size, known[0], gap))


def _question(
    path: str, name: str, named: str | None, size: str | None, first: float, gap: float
) -> str:
    says = f"says {named}" if named else "names no one unit of time"
    if size is not None:
        what, fits = f"its first number, {first:.15g}, is UNIX time in {size}", [size]
    else:
        fits = [u for u, scale in UNITS_S.items() if _GAP_S[0] <= gap * scale <= _GAP_S[1]]
        what = f"there is a row every {gap:g} of it"
    if named is not None and named not in fits:
        fits.append(named)
    return f"{path}: the heading {name!r} {says}, and {what}. Say which unit it is: " + ", ".join(
        f"--time-unit {each}" for each in fits
    )


def _of_clocks(cells: Sequence[str]) -> list[Stamp | str]:
    stamps: list[Stamp | str] = []
    days, last_s = 0, 0.0
    for cell in cells:
        try:
            text, step_s = _canonical(f"1970-01-01 {cell}", "ymd")
            stamp = read_stamp(text)
        except ValueError as error:
            stamps.append(str(error))
            continue
        time_s = stamp.unix_s + days * _MIDNIGHT_S
        if time_s < last_s - _MIDNIGHT_S / 2.0:
            days, time_s = days + 1, time_s + _MIDNIGHT_S
        last_s = time_s
        stamps.append(Stamp(time_s, max(step_s, stamp.step_s), zoned=True))
    return stamps


def _order(cells: Sequence[str]) -> tuple[str, list[str]]:
    """Whether dates without the year in front begin with day or month, and what to say of it."""
    dates = [
        (int(found["a"]), int(found["b"]))
        for cell in cells
        if (found := _WRITTEN.fullmatch(cell)) and found["a"] and len(found["a"]) < 3
        and found["mark"] != "."
    ]  # fmt: skip
    if not dates or any(b > 12 for _, b in dates):
        return "mdy", []
    if any(a > 12 for a, _ in dates):
        return "dmy", []
    # A recording goes on for days rather than months.
    orders = {"mdy": {a for a, _ in dates}, "dmy": {b for _, b in dates}}
    order = min(orders, key=lambda each: len(orders[each]))
    a, b = dates[0]
    first = "month/day" if order == "mdy" else "day/month"
    return order, [f"a date such as {a:02d}/{b:02d} is taken as {first}; the file does not say"]


def _canonical(cell: str, order: str) -> tuple[str, float]:
    """A time of day as ISO 8601, and the smallest difference that its form can show, s.

    Raises:
        ValueError: it is no time of day.
    """
    found = _WRITTEN.fullmatch(cell)
    if found is None or not (found["a"] and found["hour"]):
        raise ValueError(f"{cell[:40]!r} is no time of day")
    numbers = found["a"], found["b"], found["c"]
    order = "ymd" if len(found["a"]) == 4 else "dmy" if found["mark"] == "." else order
    date = dict(zip(order, numbers, strict=True))
    if len(date["y"]) != 4:
        raise ValueError(f"{cell[:40]!r} has a year of {len(date['y'])} digits")
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + 12 * (found["half"].lower() == "p")
    clock = f"{hour:02d}:{found['minute']}:{found['second'] or '00'}"
    part = f".{found['part']}" if found["part"] else ""
    text = f"{date['y']}-{int(date['m']):02d}-{int(date['d']):02d} {clock}{part}{found['zone']}"
    return text, 0.0 if found["second"] else 60.0

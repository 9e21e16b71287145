"""Times as programs write them: ISO 8601, UNIX seconds, milliseconds, microseconds, nanoseconds.

* :class:`Stamp`       a time, how finely it was written, and whether its zone is known
* :func:`read_stamp`   a time from a text or a number

A number is taken for UNIX time if it lies between the years 2001 and 2286 in one of these units;
these ranges do not overlap. Other numbers are no times of day.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

_UNIX_UNITS_S = (1.0, 1e-3, 1e-6, 1e-9)
_FIRST_S, _LAST_S = 1e9, 1e10
_DATE = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
_AMERICAN = r"(?P<month>\d\d)[-/](?P<day>\d\d)[-/](?P<year>\d{4})"  # tegrastats
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,12}))?"
_ZONE = r"\s?(?P<zone>Z|UTC|[+-]\d\d:?\d\d|[+-]\d\d)?"
_ISO = re.compile(rf"{_DATE}[T ]{_CLOCK}{_ZONE}")
_TEGRASTATS = re.compile(rf"{_AMERICAN} {_CLOCK}{_ZONE}")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


class Stamp(NamedTuple):
    """A time of day.

    Attributes:
        unix_s: UNIX time, s.
        step_s: smallest difference that its form can show, s.
        zoned: whether its zone was written; otherwise that of the caller was taken.
    """

    unix_s: float
    step_s: float
    zoned: bool


def read_stamp(value: object, zone: tzinfo | None = timezone.utc) -> Stamp:
    """A time from a text or a number.

    Args:
        value: ISO 8601 (the ``T`` may be a space), ``month-day-year`` as tegrastats writes it, or a
            UNIX time as a number or as text.
        zone: zone of times without one; ``None`` for that of this machine.

    Raises:
        ValueError: it is no time.
    """
    try:
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            return _unix(Decimal(str(value)), value)
        text = value.strip() if isinstance(value, str) else ""
        if found := _ISO.fullmatch(text) or _TEGRASTATS.fullmatch(text):
            return _of_calendar(found, zone)
        if _NUMBER.fullmatch(text):
            return _unix(Decimal(text), value)
    except (ArithmeticError, OSError):  # beyond what Decimal or the calendar can hold
        pass
    raise ValueError(
        f"{str(value)[:60]!r} is no time: ISO 8601 such as 2026-01-31T12:00:00.25Z, or UNIX time "
        "in s, ms, µs or ns"
    )


def _unix(number: Decimal, value: object) -> Stamp:
    try:
        exponent = int(number.as_tuple().exponent)
        size = float(number)
    except (InvalidOperation, OverflowError, ValueError):  # not a number, infinite
        size, exponent = math.nan, 0
    for unit_s in _UNIX_UNITS_S:
        if _FIRST_S <= size * unit_s < _LAST_S:
            return Stamp(size * unit_s, unit_s * 10.0 ** min(exponent, 0), zoned=True)
    raise ValueError(
        f"{str(value)[:60]} is no UNIX time in s, ms, µs or ns between the years 2001 and 2286"
    )


def _of_calendar(found: re.Match[str], zone: tzinfo | None) -> Stamp:
    year, month, day, hour, minute, second = (
        int(found[name]) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    written = found["zone"]
    if written:
        zone = _offset(written)
    whole = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
    fraction = found["fraction"] or ""
    unix_s = whole.timestamp() + (second - min(second, 59))
    if fraction:
        unix_s += int(fraction) / 10 ** len(fraction)
    return Stamp(unix_s, 10.0 ** -len(fraction), zoned=bool(written))


def _offset(written: str) -> timezone:
    if written in ("Z", "UTC"):
        return timezone.utc
    sign = -1 if written[0] == "-" else 1
    digits = written[1:].replace(":", "").ljust(4, "0")
    return timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))

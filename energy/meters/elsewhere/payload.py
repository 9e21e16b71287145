"""The number in a message: by JSON pointer and unit.

* :func:`parse`          a payload as JSON, or as the bare text that it is
* :func:`at`             what a JSON pointer (RFC 6901) leads to
* :func:`amount`         a number with its unit, in W or J
* :class:`AbsentError`   the message does not hold what was asked for
* :class:`NoValueError`  it holds it, and it is no number

A message without the key says nothing: the value before stays. One whose value is null, a word, not
a number or negative says that there is no value.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Literal, NamedTuple

Unit = Literal["W", "mW", "kW", "J", "Wh", "kWh", "mWh"]
"""Units of power, and units of energy, which make a counter."""

FACTORS: dict[Unit, float] = {
    "W": 1.0,
    "mW": 1e-3,
    "kW": 1e3,
    "J": 1.0,
    "Wh": 3600.0,
    "kWh": 3.6e6,
    "mWh": 3.6,
}
"""Size of each unit in W or J."""

ENERGY_UNITS: tuple[Unit, ...] = ("J", "Wh", "kWh", "mWh")
POINTER = r"^(/([^~/]|~[01])*)*$"
"""What a JSON pointer looks like."""

_WITH_UNIT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?)\s*([^\d\s.,].*)?")
_INDEX = re.compile(r"0|[1-9]\d*")
_MOST_KEYS = 12
_DEEPEST = 3


class AbsentError(ValueError):
    """A message does not hold what was asked for; it says what it holds instead."""


class NoValueError(ValueError):
    """A message holds what was asked for, and this is no number."""


class Amount(NamedTuple):
    """A power or an energy.

    Attributes:
        value: W or J.
        step: smallest difference that its digits can show, W or J.
    """

    value: float
    step: float


MAX_BYTES = 64 << 10
"""Largest payload of a meter that is read."""


def parse(payload: bytes) -> Any:
    """A payload as JSON, with numbers as ``Decimal``, or as text if it is none.

    Raises:
        NoValueError: it is empty, no text or too large.
    """
    if len(payload) > MAX_BYTES:
        raise NoValueError(f"it has {len(payload)} bytes, the limit is {MAX_BYTES}")
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise NoValueError(f"it is no text: {payload[:40]!r}") from None
    if not text:
        raise NoValueError("it is empty")
    try:
        return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=str)
    except ArithmeticError:  # of Decimal
        raise NoValueError(f"it holds a number with too many digits: {text[:40]!r}") from None
    except (ValueError, RecursionError):
        return text


def at(body: Any, pointer: str) -> Any:
    """What a JSON pointer leads to.

    Raises:
        AbsentError: it leads nowhere; names the pointers that lead to numbers.
    """
    found = body
    for raw in pointer.split("/")[1:]:
        token = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and token in found:
            found = found[token]
        elif isinstance(found, list) and _INDEX.fullmatch(token) and int(token) < len(found):
            found = found[int(token)]
        else:
            raise AbsentError(f"it has no {pointer!r}; {_instead(body)}")
    if isinstance(found, (dict, list)):
        raise AbsentError(
            f"{pointer!r} is {'an object' if isinstance(found, dict) else 'a list'}; "
            + _instead(body)
        )
    return found


def amount(value: Any, unit: Unit) -> Amount:
    """A number, W or J.

    Args:
        value: a JSON value; a text may hold the number, with the same unit or none.
        unit: its unit.

    Raises:
        NoValueError: it is no number, not finite, negative, or has another unit.
    """
    number = value if isinstance(value, Decimal) else None
    if isinstance(value, str) and (found := _WITH_UNIT.fullmatch(value.strip())):
        other = (found[2] or "").strip()
        if other and other != unit:
            raise NoValueError(
                f"{value[:40]!r} has the unit {other[:10]!r}, and unit = {unit!r} was declared"
            )
        number = Decimal(found[1])
    if number is None:
        raise NoValueError(f"{_shown(value)} is no number")
    try:
        size = float(number) * FACTORS[unit]
    except OverflowError:
        size = math.inf
    if not math.isfinite(size):
        raise NoValueError(f"{_shown(value)} {unit} is too much for a number")
    if size < 0.0:
        raise NoValueError(f"{_shown(value)} {unit} is negative")
    exponent = int(number.as_tuple().exponent)
    return Amount(size, 10.0 ** min(exponent, 0) * FACTORS[unit])


def pointers(body: Any) -> list[str]:
    """Pointers to every number of a message, and to every text that begins with one."""
    return list(_numbers(body, "", 0))


def _numbers(body: Any, before: str, depth: int) -> Any:
    if isinstance(body, (dict, list)) and depth < _DEEPEST:
        pairs = body.items() if isinstance(body, dict) else enumerate(body)
        for key, inner in pairs:
            token = str(key).replace("~", "~0").replace("/", "~1")
            yield from _numbers(inner, f"{before}/{token}", depth + 1)
    elif isinstance(body, Decimal) or (isinstance(body, str) and _WITH_UNIT.fullmatch(body)):
        yield before


def _instead(body: Any) -> str:
    """What a message holds, as the end of a sentence."""
    if not isinstance(body, (dict, list)):
        return f"it is {_shown(body)}, for which the pointer is empty"
    if not body:
        return "it holds nothing"
    found = pointers(body)
    if not found:
        keys = ", ".join(repr(str(key)) for key in list(body)[:_MOST_KEYS])
        return f"it holds no number; its keys are {keys}" if isinstance(body, dict) else "no number"
    more = len(found) - _MOST_KEYS
    return f"it has numbers at {', '.join(found[:_MOST_KEYS])}" + (
        f" and {more} more" if more > 0 else ""
    )


def _shown(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)[:40]
    return "null" if value is None else json.dumps(value, ensure_ascii=False)[:40]

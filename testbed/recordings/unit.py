"""The unit of a column: from its heading or from the user, and whether it can be right.

A published file has the heading ``Power (mW)`` and means watts: 4.39 mW is no board, and 4.39 W is.
Such a file is refused with the question which of the two is meant. So is a heading without a unit.
Nothing is guessed. Of a counter, the mean power is what must be a board's.

A heading is read as words: ``cpuPowerWatts`` is three, and so is ``power_mW`` two. A unit that is
divided by another (``W/m2``, ``mWh/g``) is none of a board; ``P / W`` is P in watts.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Sequence

from fimi.testbed.recordings.recording import RecordingError

POWER = {"W": 1.0, "mW": 1e-3, "kW": 1e3, "uW": 1e-6}
"""Size of each unit of power, W."""

ENERGY = {
    "J": 1.0,
    "mJ": 1e-3,
    "kJ": 1e3,
    "uJ": 1e-6,
    "Wh": 3600.0,
    "kWh": 3.6e6,
    "mWh": 3.6,
}
"""Size of each unit of energy, J."""

FACTORS = {**POWER, **ENERGY}
"""Size of each unit in W or J."""

BOARD_W = (0.1, 400.0)
"""Mean power of boards, W: from a microcontroller with Wi-Fi to a workstation."""

_PREFIXES = {
    "": "", "m": "m", "k": "k", "u": "u", "µ": "u", "μ": "u",
    "milli": "m", "kilo": "k", "micro": "u",
}  # fmt: skip
_NAMES = {
    "w": "W", "watt": "W", "watts": "W", "j": "J", "joule": "J", "joules": "J",
    "wh": "Wh", "watthour": "Wh", "watthours": "Wh",
    "ws": "J", "wattsecond": "J", "wattseconds": "J",
}  # fmt: skip
_WORDS = {
    prefix + name: short + unit
    for prefix, short in _PREFIXES.items()
    for name, unit in _NAMES.items()
    if short + unit in FACTORS
}
_HOURS = ("h", "hr", "hour", "hours")
_SECONDS = ("second", "seconds", "sec")
_DIVISORS = ("/", "per", "m", "cm", "kg", "g", "sqm")
_POWER_WORDS = ("power", "watt", "watts", "pwr", "leistung")
_ENERGY_WORDS = ("energy", "joule", "joules", "consumption", "energie")
_OTHER_WORDS = ("factor", "reactive", "apparent", "limit", "cap", "state", "mode")
_PARTS = re.compile(r"[^\W\d_]+|/")
_HUMPS = re.compile(r"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+")


def words(heading: str) -> list[str]:
    """The words of a heading, in small letters, and slashes."""
    found: list[str] = []
    for part in _PARTS.findall(heading):
        humps = [part] if part.lower() in _WORDS else _HUMPS.findall(part) or [part]
        for hump in humps:
            before, unit = (found[-1] if found else ""), hump.lower()
            if hump is not humps[0] and unit in _WORDS and before[-1:] + unit in _WORDS:
                # "powermW" is power in mW; of "SystemW" nobody knows.
                known = before[:-1] in (*_POWER_WORDS, *_ENERGY_WORDS)
                found[-1:] = [before[:-1], before[-1] + unit] if known else [before + unit]
            else:
                found.append(unit)
    return found


def of_heading(heading: str) -> str | None:
    """The unit that a heading names; ``None`` if it names none, or watts of an energy."""
    own = words(heading)
    named = None
    for place, word in enumerate(own):
        if word not in _WORDS:
            continue
        unit, after = _WORDS[word], own[place + 1] if place + 1 < len(own) else ""
        if after in _DIVISORS:
            return None
        if unit in POWER and after in _HOURS:
            unit += "h"
        elif unit in POWER and after in _SECONDS:
            unit = unit.replace("W", "J")
        named = unit if unit in FACTORS else None
    contradicts = named in POWER and {"energy", "energie"} & {*own} and "power" not in own
    return None if contradicts else named


def is_amount(heading: str) -> bool:
    """Whether a heading speaks of power or energy."""
    own = words(heading)
    if any(word in _OTHER_WORDS for word in own):
        return False
    if of_heading(heading) is not None:
        return True
    divided = any(a in _WORDS and b in _DIVISORS for a, b in itertools.pairwise(own))
    return not divided and any(word in (*_POWER_WORDS, *_ENERGY_WORDS) for word in own)


def counts(heading: str, said: str | None) -> bool:
    """Whether a column is one of energy, by its unit or else by its words."""
    named = said or of_heading(heading)
    return named in ENERGY if named else any(word in _ENERGY_WORDS for word in words(heading))


def mean(values: Sequence[float], times_s: Sequence[float], *, counts: bool) -> float:
    """The mean power of a column, in its unit (a second): the median, or a counter's rise."""
    if not counts:
        return statistics.median(values)
    duration_s = max(times_s) - min(times_s)
    rise = sum(max(0.0, b - a) for a, b in itertools.pairwise(values))
    return rise / duration_s if duration_s > 0.0 else 0.0


def settled(where: str, heading: str, said: str | None, typical: float, *, counts: bool) -> str:
    """The unit of a column of power or energy.

    Args:
        where: the file, for errors.
        heading: of the column.
        said: the unit that the user gave, which is not doubted.
        typical: the column's mean power, in its unit (a second).
        counts: whether it is a counter.

    Raises:
        RecordingError: it is not known, or cannot be right.
    """
    if said is not None:
        return said
    named = of_heading(heading)
    asked = ENERGY if counts else POWER
    fits = [unit for unit in asked if _is_board(typical * asked[unit])]
    each_s = "/s" if counts else ""
    meant = " or ".join(f"{typical:g} {unit}{each_s}" for unit in fits)
    if named is None:
        hint = f"; a board's mean power would be {meant}" if fits else ""
        raise RecordingError(
            f"{where}: the heading {heading!r} names no unit that is known, and its values "
            f"{'rise by' if counts else 'are'} about {typical:g}{' a second' if counts else ''}"
            f"{hint}. Say which it is: {', '.join(f'--unit {unit}' for unit in asked)}"
        )
    if _is_board(typical * FACTORS[named]):
        return named
    other = f"{meant} would be one" if fits else "no unit would make one of it"
    raise RecordingError(
        f"{where}: the heading {heading!r} says {named}, and {typical:g} {named}{each_s} is no "
        f"board's power ({BOARD_W[0]:g} to {BOARD_W[1]:g} W); {other}. Say which is meant: "
        + (
            f"{', '.join(f'--unit {unit}' for unit in fits)}, or --unit {named} if the heading is "
            "right"
            if fits
            else f"--unit {named}"
        )
    )


def unusual(named: str, typical: float) -> list[str]:
    """A sentence if a power is no board's, although the user said so."""
    power_w = typical * FACTORS[named]
    return [] if _is_board(power_w) else [f"about {power_w:.3g} W: unusual for a board"]


def _is_board(power_w: float) -> bool:
    return BOARD_W[0] <= power_w <= BOARD_W[1]

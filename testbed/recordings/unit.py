"""The unit of a column: from its heading or from the user, and whether it can be right.

A published file has the heading ``Power (mW)`` and means watts: 4.39 mW is no board, and 4.39 W is.
Such a file is refused with the question which of the two is meant. So is a heading without a unit.
Nothing is guessed.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from fimi.testbed.recordings.recording import RecordingError

FACTORS = {
    "W": 1.0,
    "mW": 1e-3,
    "kW": 1e3,
    "uW": 1e-6,
    "J": 1.0,
    "Wh": 3600.0,
    "kWh": 3.6e6,
    "mWh": 3.6,
}
"""Size of each unit in W or J."""

ENERGY = ("J", "Wh", "kWh", "mWh")

BOARD_W = (0.1, 400.0)
"""Mean power of boards, W: from a microcontroller with Wi-Fi to a workstation."""

_WORDS = {
    "w": "W", "watt": "W", "watts": "W",
    "mw": "mW", "milliwatt": "mW", "milliwatts": "mW",
    "kw": "kW", "kilowatt": "kW", "kilowatts": "kW",
    "uw": "uW", "µw": "uW", "μw": "uW", "microwatt": "uW", "microwatts": "uW",
    "j": "J", "joule": "J", "joules": "J",
    "wh": "Wh", "kwh": "kWh", "mwh": "mWh",
}  # fmt: skip
_POWER_WORDS = ("power", "watt", "watts", "pwr", "leistung")
_ENERGY_WORDS = ("energy", "joule", "joules", "consumption")


def words(heading: str) -> list[str]:
    """The words of a heading, in small letters."""
    return re.findall(r"[a-zµμ]+", heading.lower())


def of_heading(heading: str) -> str | None:
    """The unit that a heading names, if it names one."""
    found = [_WORDS[word] for word in words(heading) if word in _WORDS]
    return found[-1] if found else None


def is_amount(heading: str) -> bool:
    """Whether a heading speaks of power or energy."""
    own = words(heading)
    return of_heading(heading) is not None or any(w in (*_POWER_WORDS, *_ENERGY_WORDS) for w in own)


def settled(where: str, heading: str, said: str | None, values: Sequence[float]) -> str:
    """The unit of a column of power or energy.

    Args:
        where: the file, for errors.
        heading: of the column.
        said: the unit that the user gave, which is not doubted.
        values: its numbers, in the unlike case that none is said; not empty.

    Raises:
        RecordingError: it is not known, or cannot be right.
    """
    if said is not None:
        return said
    named = of_heading(heading)
    median = statistics.median(values)
    if named is None:
        fits = [unit for unit in ("W", "mW", "uW") if _is_board(median * FACTORS[unit])]
        hint = f"; a board's mean power would be {median:g} {fits[0]}" if len(fits) == 1 else ""
        raise RecordingError(
            f"{where}: the heading {heading!r} names no unit, and its values are about {median:g}"
            f"{hint}. Say which it is: --unit W, --unit mW, …"
        )
    if named in ENERGY or _is_board(median * FACTORS[named]):
        return named
    fits = [unit for unit in ("W", "mW", "uW", "kW") if _is_board(median * FACTORS[unit])]
    other = f"{median:g} {fits[0]} would be one" if fits else "no unit would make one of it"
    raise RecordingError(
        f"{where}: the heading {heading!r} says {named}, and {median:g} {named} is no board's "
        f"power ({BOARD_W[0]:g} to {BOARD_W[1]:g} W); {other}. Say which is meant: "
        + (
            f"--unit {fits[0]}, or --unit {named} if the heading is right"
            if fits
            else f"--unit {named}"
        )
    )


def unusual(named: str, values: Sequence[float]) -> list[str]:
    """A sentence if a power is no board's, although the user said so."""
    median_w = statistics.median(values) * FACTORS[named]
    if named in ENERGY or _is_board(median_w):
        return []
    return [f"about {median_w:.3g} W: unusual for a board, and as you said"]


def _is_board(power_w: float) -> bool:
    return BOARD_W[0] <= power_w <= BOARD_W[1]

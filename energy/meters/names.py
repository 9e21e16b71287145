"""Names of meters: ``family``, or ``family:part`` for one chip, rail, zone, card or channel.

==============================  ==================================================================
name                            meter
==============================  ==================================================================
``rapl:package-0-die-1``        a zone; ``core-0``, ``uncore-0`` and ``dram-0`` are of package 0
``ina3221:VDD_IN``              a rail, by its label; ``VDD_IN@1-0040`` if two are called so,
                                ``1@1-0040`` for channel 1 of a chip without labels
``hwmon:ina231@4-0045``         a chip by its driver and the name of its I²C device
``hwmon:sensor_arm``            a chip by its label
``hwmon:ina226``                the only chip of this driver
``pmic:VDD_CORE``               a rail
``battery:BAT0``                a battery
``nvml:0``, ``nvml:GPU-1a2b``   a card, by its number in NVML or its UUID
``plug:1``                      a channel of the plug, in place of the key ``channel``
==============================  ==================================================================

* :data:`Names`           what a profile may choose for one meter: a name, or a list to be added up
* :class:`SeveralError`   a choice fits several parts, or none for sure
* :func:`several`, :func:`offer`  such an error, with the lines to choose from
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fimi.energy.meters import MeterUnavailableError
from fimi.energy.toml_text import quoted

Names = str | tuple[str, ...]
"""A name, or a list of names, whose meters are added up."""


class SeveralError(MeterUnavailableError):
    """A choice fits several parts of a family; the message lists the lines to choose from.

    Attributes:
        choices: these lines, where they are known one by one.
    """

    code = "M003"

    choices: tuple[str, ...] = ()


def family(name: str) -> str:
    """The part of a name before the colon."""
    return name.partition(":")[0]


def part(name: str) -> str | None:
    """The part of a name after the colon; ``None`` if there is none."""
    return name.partition(":")[2] or None


def line(names: Names) -> str:
    """The line of a profile that chooses these."""
    if isinstance(names, str):
        return f"meter = {quoted(names)}"
    return "meter = [" + ", ".join(map(quoted, names)) + "]"


def lines(names: Iterable[str]) -> str:
    """A line of a profile for each, as a list in a sentence."""
    return "; ".join(line(each) for each in names)


def several(
    what: str,
    names: Sequence[str],
    *,
    sums: Sequence[str] | None = None,
    why: str = "",
    mind: str = "",
) -> SeveralError:
    """The error for a choice that fits several parts.

    Args:
        what: what there are several of, for example ``"chips ina231"``.
        names: the names to choose from.
        sums: those that may be added up; all of them if left out.
        why: why none of them was taken, as a half sentence.
        mind: what to know about the names, as a sentence.
    """
    return offer(
        f"there are several {what} ({', '.join(part(name) or name for name in names)})"
        + (f", and {why}" if why else "")
        + (f". {mind}" if mind else ""),
        names,
        names if sums is None else sums,
    )


def offer(words: str, names: Sequence[str], sums: Sequence[str] = ()) -> SeveralError:
    """The error of these words, with the names to choose from and those that may be added up."""
    both = f", or their sum: {line(tuple(sums))}" if len(sums) > 1 else ""
    error = SeveralError(
        f"{words}. Write one of these lines into the board's profile: {lines(names)}{both}"
    )
    error.choices = tuple(line(each) for each in (*names, *([tuple(sums)] if both else ())))
    return error


def unknown(name: str, known: Sequence[str]) -> MeterUnavailableError:
    """The error for a part that is not there."""
    here = f"here are {', '.join(known)}" if known else "here is none of this family"
    return MeterUnavailableError(
        f"there is no meter {name!r}: {here}."
        + (f" Write one of these lines into the board's profile: {lines(known)}" if known else "")
    )

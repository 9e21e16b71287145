"""Fewer readings, the same joules: a phase of a day must not fill a small board's memory.

Every second reading of a stretch goes. Counters lose nothing by that. Of power readings the one
that stays in the middle of four gaps is moved so that the trapezoids over the two gaps that remain
hold the same energy as those over the four.
"""

from __future__ import annotations

from collections.abc import Sequence

from energy.meters import Reading


def thin(readings: Sequence[Reading]) -> list[Reading]:
    """About half of the readings, with the first, the last and the energy between them kept.

    Args:
        readings: in order of time. Those that hold nothing split them into stretches; of several
            such in a row one stays.
    """
    kept: list[Reading] = []
    stretch: list[Reading] = []
    for reading in readings:
        if reading.holds and not reading.reset:
            stretch.append(reading)
            continue
        kept += _halve(stretch)
        stretch = [reading] if reading.holds else []
        if not reading.holds and (not kept or kept[-1].holds):
            kept.append(reading)
    return kept + _halve(stretch)


def _halve(stretch: list[Reading]) -> list[Reading]:
    kept = stretch[:1]
    place = 0
    while place + 4 < len(stretch):
        five = stretch[place : place + 5]
        kept += [_middle(five), five[4]]
        place += 4
    return kept + stretch[place + 1 :]


def _middle(five: Sequence[Reading]) -> Reading:
    """The third of five readings, with the power that keeps the energy."""
    first, _, middle, _, last = five
    power = [reading.power_w for reading in five]
    if None in power or last.time_s <= first.time_s:
        return middle
    watts = [float(value) for value in power if value is not None]
    times_s = [reading.time_s for reading in five]
    twice_j = sum(
        (times_s[i + 1] - times_s[i]) * (watts[i] + watts[i + 1]) for i in range(len(five) - 1)
    )
    ends_j = (times_s[2] - times_s[0]) * watts[0] + (times_s[4] - times_s[2]) * watts[4]
    return Reading(
        time_s=middle.time_s,
        power_w=(twice_j - ends_j) / (times_s[4] - times_s[0]),
        counter_j=middle.counter_j,
    )

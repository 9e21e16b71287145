"""Whether the clock of a processor follows what is set, by its slowest and its fastest setting.

* :class:`ClockSeen`        a setting with the clock that was seen in it
* :func:`why_fixed`         that it does not follow, as a sentence
* :func:`fixed_clock_hz`    the clock that it then has

The kernel takes a cap, shows it, and nothing changes: so it is in virtual machines, where firmware
chooses the clock, and where another program holds it. A clock follows if a sample takes longer at
the low end. If it does not, memory may set the pace: then the clock itself tells, where it is
counted or the firmware measures it. The kernel's own figure is its last request, and says nothing;
there the watts must tell.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fimi.energy.calibration.fit import Setting

LEAST_RATIO = 1.15
"""Ratio of the two clocks below which nothing can be told."""
SHARE = 0.25
"""Share of the change of the clock (as logarithms) below which nothing has changed."""
LEAST_WATTS = 0.03
"""Relative change of the board's power below which nothing has changed."""
_COUNTED = ("cycles", "firmware", "emulated")


class ClockSeen(NamedTuple):
    """A setting, and the clock that was seen in it.

    Attributes:
        setting: as measured.
        clock_hz: the achieved clock, Hz; ``None`` if unknown.
        source: where it was read (:class:`fimi.energy.hardware.Observation`).
    """

    setting: Setting
    clock_hz: float | None
    source: str


def why_fixed(low: ClockSeen, high: ClockSeen, set_hz: tuple[float, float]) -> str:
    """That the clock does not follow, as a sentence; empty if it does, or cannot be told.

    Args:
        low: the setting at the lowest clock.
        high: the setting at the highest clock.
        set_hz: what was set in the two, Hz.
    """
    ratio = set_hz[1] / set_hz[0]
    seconds = [each.setting.duration_s / each.setting.samples for each in (low, high)]
    if ratio < LEAST_RATIO or _changed(seconds[0] / seconds[1], ratio):
        return ""
    said = (
        f"the clock does not follow what is set: at {set_hz[0] / 1e9:.4g} and "
        f"{set_hz[1] / 1e9:.4g} GHz a sample takes {1e3 * seconds[0]:.4g} and "
        f"{1e3 * seconds[1]:.4g} ms"
    )
    clocks = _counted(low, high)
    if clocks is not None:
        if _changed(clocks[1] / clocks[0], ratio):
            return ""
        return f"{said}, and the clock is {clocks[0] / 1e9:.4g} and {clocks[1] / 1e9:.4g} GHz"
    watts = [each.setting.power_w for each in (low, high)]
    if abs(watts[1] / watts[0] - 1.0) > LEAST_WATTS:
        return ""
    return f"{said}, and the board draws {watts[0]:.4g} and {watts[1]:.4g} W"


def fixed_clock_hz(low: ClockSeen, high: ClockSeen, set_hz: tuple[float, float]) -> float:
    """The clock of a processor that does not follow, Hz: as counted, else the highest."""
    clocks = _counted(low, high)
    return set_hz[1] if clocks is None else (clocks[0] + clocks[1]) / 2.0


def _counted(low: ClockSeen, high: ClockSeen) -> tuple[float, float] | None:
    if low.clock_hz and high.clock_hz and low.source in _COUNTED and high.source in _COUNTED:
        return low.clock_hz, high.clock_hz
    return None


def _changed(found: float, ratio: float) -> bool:
    return math.log(found) > SHARE * math.log(ratio)

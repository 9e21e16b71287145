"""What a sweep is to measure, and in which order.

* :class:`Load`           makes a board rest, compute, send and receive: real work or emulated
* :class:`TrialPoint`     an operating point to measure
* :func:`at_frequencies`  points at which only the clock of the CPU is set
* :class:`SweepPlan`      which points, for how long, how often
* :func:`tasks`           all that is measured, in order
* :func:`clock_ends`      the two points that tell whether the clock follows
* :func:`spread`          some of many frequencies

:mod:`fimi.energy.calibration.sweep` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from fimi.energy.calibration.fit import Activity
from fimi.energy.compute_points import name_of
from fimi.energy.control.cpufreq import EVERY_CLUSTER
from fimi.energy.cost_model import ComputeSetting, OperatingPoint

Task = tuple[Activity, "TrialPoint | OperatingPoint"]
"""An activity, and the point at which it is done."""


class CalibrationImpossibleError(RuntimeError):
    """This board cannot be calibrated.

    Attributes:
        missing: one sentence for each thing that is missing.
    """

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            "this board cannot be calibrated:\n" + "\n".join(f"- {m}" for m in missing)
        )
        self.missing = tuple(missing)


class CalibrationAbortedError(RuntimeError):
    """The sweep was stopped before there was enough for a profile; the board was restored."""


class Load(Protocol):
    """Makes a board work. Each method takes about ``duration_s``, or ends early if stopped."""

    def begin(self, number: int, setting: ComputeSetting) -> None:
        """A new setting begins, in which this will be set."""

    def rest(self, duration_s: float) -> None:
        """Do nothing."""

    def compute(self, duration_s: float) -> int:
        """Train; returns samples."""

    def send(self, duration_s: float) -> float:
        """Send as fast as the rate in force allows; returns bits."""

    def receive(self, duration_s: float) -> float:
        """Receive; returns bits."""


class TrialPoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An operating point to measure.

    Attributes:
        name: name of the point.
        frequency_hz: clock of the CPU that is expected at it, Hz.
        setting: what is set. A board whose model has a point of this name is asked for that
            point, every other board for the frequency.
    """

    name: str
    frequency_hz: float
    setting: ComputeSetting = ComputeSetting()


def at_frequencies(
    frequencies_hz: Sequence[float], cluster: str = EVERY_CLUSTER
) -> tuple[TrialPoint, ...]:
    """Points at which only the clock of the CPU is set."""
    settings = [ComputeSetting(cpu_hz={cluster: hertz}) for hertz in frequencies_hz]
    return tuple(
        TrialPoint(name=name_of(setting), frequency_hz=hertz, setting=setting)
        for hertz, setting in zip(frequencies_hz, settings, strict=True)
    )


class SweepPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which settings to measure.

    Attributes:
        points: operating points at which to compute.
        uploads: operating points at which to send; if empty, the radio is not fitted.
        receives: whether to receive as well.
        seconds: metered time of a setting, s.
        settle_s: time before it in which the board already does the same, unmetered, s.
        repeats: how often everything is measured. Every second pass runs in opposite order, so
            that warming up does not look like a dependence on frequency.
    """

    points: tuple[TrialPoint, ...]
    uploads: tuple[OperatingPoint, ...] = ()
    receives: bool = False
    seconds: float = 10.0
    settle_s: float = 3.0
    repeats: int = 2

    @property
    def total_s(self) -> float:
        """How long the sweep takes, s."""
        return len(tasks(self)) * (self.seconds + self.settle_s)


def spread(frequencies_hz: Sequence[float], count: int) -> tuple[float, ...]:
    """At most ``count`` of these frequencies: both ends, and evenly spaced ones between them."""
    ordered = sorted(set(frequencies_hz))
    if len(ordered) <= count:
        return tuple(ordered)
    places = np.linspace(0, len(ordered) - 1, count).round().astype(int)
    return tuple(ordered[place] for place in dict.fromkeys(places.tolist()))


def clock_alone(point: TrialPoint) -> bool:
    """Whether the clock of the CPU is all that is set at a point."""
    return point.setting == ComputeSetting(cpu_hz=point.setting.cpu_hz) and bool(
        point.setting.cpu_hz
    )


def clock_ends(points: Sequence[TrialPoint]) -> tuple[TrialPoint, ...]:
    """The slowest and the fastest point of those at which only the clock of the CPU is set."""
    line = sorted(filter(clock_alone, points), key=lambda point: point.frequency_hz)
    return (line[0], line[-1]) if len(line) > 1 else ()


def tasks(plan: SweepPlan) -> list[Task]:
    """All that is measured, in order: rest at both ends of a pass, the ends of the clock first."""
    lowest = min(plan.points, key=lambda point: point.frequency_hz)
    first = clock_ends(plan.points)
    ordered = [*first, *(point for point in plan.points if point not in first)]
    once: list[Task] = [("idle", lowest)]
    once += [("compute", point) for point in ordered]
    once += [("send", point) for point in plan.uploads]
    once += [("receive", lowest)] if plan.receives else []
    once += [("idle", lowest)]
    return [task for k in range(plan.repeats) for task in (once[::-1] if k % 2 else once)]

"""The rule before phases knew their meter's response: joules of readings between two times.

Benchmarks compare with it.

For an energy counter: its difference between the edges of a phase. For power readings: the
trapezoid rule, which is exact for power that is linear between two readings. Readings beyond an
edge are interpolated to it, so that the joules belong to exactly the seconds they are reported
with.

The uncertainty (one standard deviation) is the quadrature sum of

    gain        relative gain uncertainty × energy: the same for every reading
    resolution  a step q of the meter leaves q/√12 unknown, for the whole duration at worst; a
                step of a counter q/√6, one at either edge
    readings    Σ (Δp Δt)²/2 over neighbouring readings: successive differences estimate the
                noise of the readings (von Neumann 1941), and exceed the largest error, Δp Δt/2,
                that one step of power somewhere in the gap can cause
    refresh     a counter that refreshes every T is up to T old at either edge: P T/√6
    missing     seconds without readings, at the edges or around a reading that holds nothing.
                They get the mean power of the rest, which is uncertain between zero and twice
                that: P t/√3

There is no figure where readings cover less than half of a phase, or where a counter stood still
for many of its refreshes, as the counters of some virtual machines do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription, Reading

STANDSTILL = 10.0
"""A counter that does not change for so many of its refreshes is taken to be broken."""

_Array = NDArray[np.float64]


def integrate(
    readings: Sequence[Reading], start_s: float, end_s: float, meter: MeterDescription
) -> Energy | None:
    """Energy between two times.

    Args:
        readings: in order of time. Two at the same time are the two sides of a step; one that
            holds nothing says that the meter could not be read.
        start_s: beginning on the readings' clock, s.
        end_s: end, s.
        meter: the meter of the readings.

    Returns:
        The energy, or ``None`` if the readings do not support a figure: there are too few of them,
        they cover less than half of the time, or a counter ran backwards, was reset or stood still.

    Raises:
        ValueError: the end lies before the start.
    """
    if end_s < start_s:
        raise ValueError(f"a phase cannot end ({end_s} s) before it starts ({start_s} s)")
    found = _by_counter(readings, start_s, end_s, meter)
    if found is None:
        found = _by_power(readings, start_s, end_s, meter)
    if found is None:
        return None
    value_j, uncertainty_j = found
    return Energy(
        value_j=float(value_j),
        kind=meter.kind,
        source=meter.source,
        scope=meter.scope,
        uncertainty_j=float(uncertainty_j),
    )


def _by_counter(
    readings: Sequence[Reading], start_s: float, end_s: float, meter: MeterDescription
) -> tuple[float, float] | None:
    times, values = _usable([(r.time_s, r.counter_j) for r in readings if r.counter_j is not None])
    if not len(values) or np.any(values[1:] < values[:-1]):
        return None
    if any(r.reset for r in readings if r.counter_j is not None and r.time_s > times[0]):
        return None
    duration_s = end_s - start_s
    covered_s = min(times[-1], end_s) - max(times[0], start_s)
    if not _enough(covered_s, duration_s):
        return None
    first, last = np.interp([start_s, end_s], times, values)
    if duration_s == 0.0:
        return 0.0, 0.0
    power_w = float(last - first) / covered_s
    refresh_s = 1.0 / meter.rate_hz if meter.rate_hz else 0.0
    if last == first and meter.rate_hz and duration_s > STANDSTILL * refresh_s:
        return None
    uncertainty_j = math.hypot(
        power_w
        * math.hypot(
            meter.relative_uncertainty * duration_s,
            refresh_s / math.sqrt(6.0),
            (duration_s - covered_s) / math.sqrt(3.0),
        ),
        meter.resolution_j / math.sqrt(6.0),
    )
    return power_w * duration_s, uncertainty_j


def _by_power(
    readings: Sequence[Reading], start_s: float, end_s: float, meter: MeterDescription
) -> tuple[float, float] | None:
    times, power = _usable([(r.time_s, r.power_w) for r in readings if r.power_w is not None])
    if not len(power):
        return None
    duration_s = end_s - start_s
    covered_s = min(times[-1], end_s) - max(times[0], start_s)
    if not _enough(covered_s, duration_s):
        return None
    if duration_s == 0.0:
        return 0.0, 0.0
    gaps_s, steps_w = times[1:] - times[:-1], power[1:] - power[:-1]
    left, right = np.maximum(times[:-1], start_s), np.minimum(times[1:], end_s)
    widths_s = np.maximum(right - left, 0.0)
    holes = _holes(readings, times)
    if holes.any():
        widths_s = np.where(holes, 0.0, widths_s)
        covered_s = float(widths_s.sum())
        if not _enough(covered_s, duration_s):
            return None
    slopes = steps_w / np.where(gaps_s > 0.0, gaps_s, 1.0)
    middles_w = power[:-1] + slopes * ((left + right) / 2.0 - times[:-1])
    covered_j = float(middles_w @ widths_s)
    mean_w = abs(covered_j) / covered_s
    uncertainty_j = math.hypot(
        meter.relative_uncertainty * mean_w * duration_s,
        meter.resolution_w / math.sqrt(12.0) * duration_s,
        math.sqrt(float(np.square(steps_w * widths_s).sum()) / 2.0),
        mean_w * (duration_s - covered_s) / math.sqrt(3.0),
    )
    return covered_j * duration_s / covered_s, uncertainty_j


def _holes(readings: Sequence[Reading], times: _Array) -> NDArray[np.bool_]:
    """Which gaps between usable readings contain a reading that failed, shape (len − 1,)."""
    holes = np.zeros(max(len(times) - 1, 0), bool)
    failed = [r.time_s for r in readings if not r.holds]
    if failed:
        gaps = np.searchsorted(times, failed, side="right") - 1
        holes[gaps[(gaps >= 0) & (gaps < len(holes))]] = True
    return holes


def _usable(pairs: Sequence[tuple[float, float]]) -> tuple[_Array, _Array]:
    table = np.array(pairs, float).reshape(-1, 2)
    finite = np.isfinite(table[:, 1])
    if not finite.all():
        table = table[finite]
    return table[:, 0], table[:, 1]


def _enough(covered_s: float, duration_s: float) -> bool:
    return covered_s >= 0.0 if duration_s == 0.0 else covered_s >= duration_s / 2.0

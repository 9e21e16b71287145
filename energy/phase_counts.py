"""Joules of phases from a counter of energy.

The difference of a counter between the edges of a phase is exact for the time between the two
refreshes that made its values. That time lies half of a refresh and the delay too early on average:
at its end the count lacks the last moments of the phase, at its beginning it has those of before.
So the power before the phase is counted as well, and corrects the figure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimi.energy.meters import MeterDescription
from fimi.energy.meters.response import uniform_sd_s
from fimi.energy.phase_readings import Array, ReadingTable, Stretch

STANDSTILL = 10.0
"""A counter that does not change for so many of its refreshes is taken to be broken."""

_SAME_S = 1e-9
_BEFORE = 10.0  # refreshes before a phase in which the power before it is counted


class Count(NamedTuple):
    """What a counter says of a phase; no value where it says nothing.

    Attributes:
        value_j: its energy, J.
        deviation_j: one standard deviation, J, without the error of the gain.
        resolved: whether the counter can tell it.
        most_j: the most that it can have taken, J; ``None`` if unknown.
        final: whether later values cannot change it.
        sample_count: number of values around it.
    """

    value_j: float | None = None
    deviation_j: float = 0.0
    resolved: bool = False
    most_j: float | None = None
    final: bool = True
    sample_count: int = 0


def counted(
    table: ReadingTable,
    stretch: Stretch,
    meter: MeterDescription,
    earlier_s: tuple[float, float] | None,
    resolved_share: float,
) -> Count:
    """The energy of a phase by the readings of a counter.

    Args:
        table: the readings.
        stretch: the phase.
        meter: the counter.
        earlier_s: beginning and end of the phase before it, s; ``None`` of none.
        resolved_share: the largest deviation over its energy with which a phase is resolved.
    """
    times, values, resets = table.counters()
    if not len(times):
        return Count()
    start_s, end_s, duration_s = stretch.start_s, stretch.end_s, stretch.duration_s
    first = max(0, int(np.searchsorted(times, start_s + _SAME_S, side="right")) - 1)
    last = min(len(times), int(np.searchsorted(times, end_s - _SAME_S)) + 1)
    # What lies beyond a reading that failed says nothing of an edge.
    failed = table.failed_s
    if ((times[first] <= failed) & (failed <= start_s)).any():
        first += 1
    if ((end_s <= failed) & (failed <= times[last - 1])).any():
        last -= 1
    count = last - first
    if count < 1 or resets[first + 1 : last].any() or (np.diff(values[first:last]) < 0.0).any():
        return Count(sample_count=max(0, count))
    if duration_s == 0.0:
        return Count(0.0, 0.0, True, sample_count=count)
    covered_s = float(min(times[last - 1], end_s) - max(times[first], start_s))
    if count < 2 or covered_s < duration_s / 2.0:
        return Count(sample_count=count)
    at = np.interp([start_s, end_s], times[first:last], values[first:last])
    response, step_j = meter.response, meter.resolution_j
    refresh_s = response.refresh_s or (1.0 / meter.rate_hz if meter.rate_hz else 0.0)
    counted_j = float(at[1] - at[0])
    if counted_j == 0.0 and refresh_s and duration_s > STANDSTILL * refresh_s and not step_j:
        return Count(sample_count=count)
    power_w = counted_j / covered_s
    before_w, span_s = _power_before(start_s, times, values, resets, refresh_s, earlier_s)
    lag_s = min(response.delay_s + refresh_s / 2.0, duration_s)
    unknown_j = 0.0
    if before_w is None:
        before_w, unknown_j = power_w, power_w * lag_s / math.sqrt(3.0)
    value_j = max(0.0, power_w * duration_s + (power_w - before_w) * lag_s)
    longer, since = 1.0 + lag_s / duration_s, lag_s / span_s
    old_s = uniform_sd_s(refresh_s)
    # Either edge of the phase, and the earlier edge of the power before.
    edges_j = old_s * math.hypot(longer * power_w, (longer + since) * before_w, since * before_w)
    deviation_j = math.hypot(
        edges_j,
        math.hypot(power_w, before_w) * response.delay_sd_s,
        power_w * (duration_s - covered_s) / math.sqrt(3.0),
        unknown_j,
        step_j / math.sqrt(6.0),
    )
    # Whether it is resolved must not hang on what was counted, or the largest counts are chosen.
    # Where a length is a whole number of refreshes and a half, the ages at both edges are opposite.
    worst_s = math.sqrt(1.5) * old_s * math.hypot(longer, longer + since, since)
    told = worst_s <= resolved_share * duration_s
    if told and value_j > 0.0 and deviation_j <= 2.0 * resolved_share * value_j:
        return Count(value_j, deviation_j, True, sample_count=count)
    value_j = power_w * duration_s  # as counted, so that sums stay whole
    # What is counted later than a refresh after the end has all of the phase in it.
    later = np.flatnonzero(times >= end_s + refresh_s + response.delay_s - _SAME_S)
    if not len(later) or resets[first + 1 : later[0] + 1].any():
        return Count(value_j, deviation_j, False, None, bool(len(later)), count)
    most_j = max(0.0, float(values[later[0]] - values[first]))
    most_j = most_j * (1.0 + 2.0 * meter.relative_uncertainty) + step_j
    return Count(value_j, deviation_j, False, max(most_j, value_j), True, count)


def _power_before(
    start_s: float,
    times: Array,
    values: Array,
    resets: NDArray[np.bool_],
    refresh_s: float,
    earlier_s: tuple[float, float] | None,
) -> tuple[float | None, float]:
    """Mean power just before a phase, W, and over how long, s; ``None`` if unknown."""
    since_s = start_s - _BEFORE * refresh_s
    if earlier_s is not None and earlier_s[1] - earlier_s[0] >= 3.0 * refresh_s:
        since_s = max(since_s, earlier_s[0] + refresh_s)
    places = np.flatnonzero((times >= since_s - _SAME_S) & (times <= start_s + _SAME_S))
    if len(places) < 2:
        return None, math.inf
    span_s = float(times[places[-1]] - times[places[0]])
    grown_j = float(values[places[-1]] - values[places[0]])
    if span_s < refresh_s or resets[places[1:]].any() or grown_j < 0.0 or not span_s:
        return None, math.inf
    return grown_j / span_s, span_s

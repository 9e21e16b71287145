"""Joules of phases, from readings that come late, seldom, or as means.

:class:`PhaseMeter` keeps the readings of a meter and gives each phase its :class:`PhaseEnergy`.
What a reading shows is of the time that :class:`fimi.energy.meters.response.MeterResponse` says. A
reading *belongs* to a phase if all of that time lies in the phase. A phase with readings of its own
is metered directly: they are placed at the middle of the time that they show, joined by straight
lines, and the first and last of them hold to the edges. So no phase gets a part of its neighbours'
power.

A phase without readings of its own is ``unresolved``. Together with others like it, up to the
readings of the next phase that has some, it gets what the integral over all of that time leaves,
so that sums stay whole. Its uncertainty is that of its part in such a sum; the figure itself is
worth nothing, and is given with the most that the phase can have taken.

The uncertainty (one standard deviation) is the quadrature sum of

    gain        relative gain uncertainty × energy: the same for every figure of the meter
    resolution  a step q leaves q/√12 unknown, for the whole duration unless readings vary by more
    readings    s² Σ w²: each new value stands for w seconds; s, the scatter of values about the
                power of the phase, comes from successive differences (von Neumann 1941) in this
                phase and in earlier ones of its kind, with Student's t for few of them. Of the
                time that a mean covers nothing is missed
    refresh     a counter that refreshes every T is up to T old at either edge: P T/√12 each
    missing     seconds without readings: mean power, uncertain between zero and twice that

A direct figure is called resolved if this, without the gain, is at most :data:`RESOLVED` of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from fimi.energy.calibration import student_t
from fimi.energy.integration import STANDSTILL
from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import uniform_sd_s
from fimi.energy.resting import LEAST_S, LEFTOVERS_S, Resting, When

RESOLVED = 0.2
"""A figure is not resolved if its standard deviation, without the gain's, is a larger share."""

_TWO_SIGMA = 0.97725
_MOST_EARLIER = 200.0
"""Degrees of freedom that earlier phases of a kind have at most in the scatter of a new one."""
_SAME_S = 1e-9
_JUMP_S = 1e-3
_ENOUGH = 10.0
"""Degrees of freedom from which on the kind of a scatter is believed."""
_FAR_S = 60.0
"""Phases that are further away than this are not looked at for one without readings, s."""

_Array = NDArray[np.float64]


class Stretch(NamedTuple):
    """The time of a phase.

    Attributes:
        kind: phases of one kind have a power of the same scatter.
        start_s, end_s: its edges, s.
        first, last: places of its readings among all that were ever added: ``first <= i < last``.
    """

    kind: str
    start_s: float
    end_s: float
    first: int
    last: int

    @property
    def duration_s(self) -> float:
        """Its length, s."""
        return self.end_s - self.start_s


class PhaseEnergy(NamedTuple):
    """What readings say of a phase.

    Attributes:
        energy: its energy; ``None`` where nothing could be read.
        resolved: whether it is metered directly.
        most_j: the most that it can have taken, J, where it is not resolved; ``None`` if unknown.
        final: whether later readings cannot change it.
        sample_count: number of readings that belong to it.
    """

    energy: Energy | None
    resolved: bool
    most_j: float | None = None
    final: bool = True
    sample_count: int = 0


class _Seen(NamedTuple):
    """Readings of a power, all of shape (n,).

    Attributes:
        times_s: their times, s.
        power_w: their powers, W.
        places: their places among all that were ever added.
        forced: those of a late meter that were forced at an edge. They are as far from the edge's
            step as the meter is late, so that lines which end there would err to one side.
    """

    times_s: _Array
    power_w: _Array
    places: NDArray[np.int64]
    forced: NDArray[np.bool_]

    @property
    def spread(self) -> _Seen:
        """Those that were not forced; all, if there are no others."""
        if self.forced.all() or not self.forced.any():
            return self
        kept = ~self.forced
        return _Seen(self.times_s[kept], self.power_w[kept], self.places[kept], self.forced[kept])


class _Scatter(Struct):
    """Squares of differences between values, W², and how many there were.

    Half their mean is the variance of values about a slow change. ``next_squares`` are those of
    values one further apart: they are larger where the power wanders instead of jumping.
    """

    squares: float = 0.0
    degrees: float = 0.0
    next_squares: float = 0.0
    next_degrees: float = 0.0

    @classmethod
    def of(cls, values_w: _Array) -> _Scatter:
        """That of the values of one phase, shape (n,)."""
        steps_w, far_w = np.diff(values_w), values_w[2:] - values_w[:-2]
        return cls(
            float(np.square(steps_w).sum()) / 2.0,
            float(len(steps_w)),
            float(np.square(far_w).sum()) / 2.0,
            float(len(far_w)),
        )

    def scaled(self, degrees_max: float) -> _Scatter:
        """The same with fewer degrees of freedom."""
        part = min(1.0, degrees_max / self.degrees) if self.degrees else 1.0
        return _Scatter(*(part * each for each in astuple(self)))

    def __add__(self, other: _Scatter) -> _Scatter:
        return _Scatter(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def deviation_w(self) -> float:
        """One standard deviation of a value, W, widened for few degrees of freedom."""
        if not self.degrees:
            return 0.0
        return _widened(max(1.0, round(self.degrees))) * math.sqrt(self.squares / self.degrees)

    @property
    def unseen(self) -> float:
        """How much of that a straight line between two values misses.

        Where a power wanders, its variogram grows with the distance of two values, and a line
        between them leaves a sixth of its square; where it jumps, all of it.
        """
        if self.next_degrees < _ENOUGH or not self.squares:
            return 1.0
        once, twice = self.squares / self.degrees, self.next_squares / self.next_degrees
        jumps = min(1.0, max(0.0, 2.0 - twice / once))
        return math.sqrt(jumps + (1.0 - jumps) / 6.0)


class PhaseMeter:
    """Gives phases their energy.

    Args:
        meter: the meter of the readings.
    """

    def __init__(self, meter: MeterDescription) -> None:
        self._meter = meter
        self.described = meter
        """The meter of the readings."""
        self._readings: list[Reading] = []
        self._forced: list[bool] = []
        self._forgotten = 0
        self._earlier: dict[str, _Scatter] = {}
        self._learned: set[float] = set()
        self._ended: list[Stretch] = []

    @property
    def count(self) -> int:
        """How many readings were ever added."""
        return self._forgotten + len(self._readings)

    def add(self, readings: Sequence[Reading]) -> list[Reading]:
        """Add the readings up to an edge, in order of time; the last one was forced there.

        The first may be the last one of before.

        Returns:
            Those that are new.
        """
        if readings and self._readings and readings[0] is self._readings[-1]:
            readings = readings[1:]
        if readings and self._readings and readings[0].time_s < self._readings[-1].time_s - _JUMP_S:
            # The clock was set: what was read before has no place in time.
            self._forgotten += len(self._readings)
            self._readings, self._forced = [], []
        self._readings += readings
        self._forced += [False] * (len(readings) - 1) + [True] * bool(readings)
        return list(readings)

    def forget(self, before_s: float) -> None:
        """Drop readings from before a time, except the last one."""
        keep = len(self._readings) - 1
        drop = 0
        while drop < keep and self._readings[drop + 1].time_s <= before_s:
            drop += 1
        self._forgotten += drop
        del self._readings[:drop], self._forced[:drop]
        self._ended = [each for each in self._ended if each.end_s > before_s]
        self._learned &= {each.start_s for each in self._ended}

    def end(self, stretch: Stretch) -> PhaseEnergy:
        """A phase has ended; its energy, by the readings that there are now."""
        self._ended.append(stretch)
        return self.energy(stretch)

    def energy(self, stretch: Stretch) -> PhaseEnergy:
        """The energy of a phase that has ended, by the readings that there are now."""
        if any(reading.counter_j is not None for reading in self._readings):
            return self._counted(stretch)
        return self._seen(stretch)

    def resting(self, stretch: Stretch, when: When) -> Resting | None:
        """The resting power that readings of a phase without work show; ``None`` if too few do.

        Args:
            stretch: the phase; its beginning is left out.
            when: before, between or after work.
        """
        start_s, step_j = stretch.start_s + LEFTOVERS_S, 0.0
        stretch = stretch._replace(start_s=start_s)
        duration_s = stretch.duration_s
        if duration_s < LEAST_S:
            return None
        if any(reading.counter_j is not None for reading in self._readings):
            counted = self._counted(stretch)
            if counted.energy is None or not counted.resolved:
                return None
            value_j, whole_j = counted.energy.value_j, counted.energy.uncertainty_j
            sampled_j = math.sqrt(max(0.0, whole_j**2 - counted.energy.shared_j**2))
        else:
            seen = self._values()
            own = self._own(stretch, seen) if len(seen.times_s) else np.zeros(0, bool)
            found = (
                self._direct(stretch, seen.times_s[own], seen.power_w[own]) if own.any() else None
            )
            if found is None or not found[3]:
                return None
            value_j, sampled_j, step_j, _ = found
        return Resting(
            when=when,
            start_s=start_s,
            duration_s=duration_s,
            power_w=max(0.0, value_j / duration_s),
            uncertainty_w=sampled_j / duration_s,
            step_w=step_j / duration_s,
        )

    # -- power ---------------------------------------------------------------------------------

    def _seen(self, stretch: Stretch) -> PhaseEnergy:
        response = self._meter.response
        seen = self._values()
        final = bool(
            self._last_s()
            >= (stretch.end_s + response.delay_s + 2.0 * response.delay_sd_s - _SAME_S)
        )
        if not len(seen.times_s):
            return PhaseEnergy(None, resolved=False, final=final)
        own = self._own(stretch, seen)
        count = int(own.sum())
        if not count:
            return self._left_over(stretch, seen)
        if stretch.duration_s <= 0.0:
            return PhaseEnergy(self._as_energy(0.0, 0.0), True, sample_count=count)
        found = self._direct(stretch, seen.times_s[own], seen.power_w[own])
        if found is None:
            return PhaseEnergy(None, resolved=False, final=final, sample_count=count)
        value_j, sampled_j, step_j, known = found
        deviation_j = math.hypot(sampled_j, step_j)
        energy = self._as_energy(value_j, deviation_j)
        resolved = bool(known and deviation_j <= RESOLVED * abs(value_j))
        most_j = None
        if not resolved and (shown_j := self._most_j(stretch, seen)) is not None:
            most_j = max(shown_j, value_j + 2.0 * energy.uncertainty_j)
        return PhaseEnergy(energy, resolved, most_j, final, count)

    def _own(self, stretch: Stretch, seen: _Seen) -> NDArray[np.bool_]:
        """Which readings show nothing but this phase; forced ones only if there are no others."""
        start_s, end_s = stretch.start_s, stretch.end_s
        oldest_s, newest_s = self._shown(seen)
        taken_in_it = (seen.places >= stretch.first) & (seen.places < stretch.last)
        later = (seen.places >= stretch.last) & (newest_s < end_s - _SAME_S)
        inside = (oldest_s >= start_s - _SAME_S) & (newest_s <= end_s + _SAME_S)
        own = inside & (taken_in_it | later)
        return own & ~seen.forced if (own & ~seen.forced).any() else own

    def _shown(self, seen: _Seen) -> tuple[_Array, _Array]:
        """Between which times each reading's power was drawn."""
        response = self._meter.response
        slack_s = 2.0 * response.delay_sd_s
        oldest_s = seen.times_s - response.settling_s - slack_s
        return oldest_s, seen.times_s - response.delay_s + slack_s

    def _direct(
        self, stretch: Stretch, times: _Array, power: _Array
    ) -> tuple[float, float, float, bool] | None:
        """Energy from a phase's own readings, and deviations by sampling and by steps, J.

        The last value says whether the scatter of the power is known at all.
        """
        response, start_s, end_s = self._meter.response, stretch.start_s, stretch.end_s
        duration_s = stretch.duration_s
        placed = np.clip(times - response.lag_s, start_s, end_s)
        widths = np.diff(placed)
        failed = [r.time_s - response.lag_s for r in self._readings if not r.holds]
        if failed:
            cut = np.searchsorted(placed, failed, side="right")
            for place in cut[(cut > 0) & (cut < len(placed))]:
                widths[place - 1] = 0.0
        before_s, after_s = placed[0] - start_s, end_s - placed[-1]
        holding = [r.time_s for r in self._readings if r.holds]
        gone_before = holding[0] > start_s + _SAME_S or any(
            start_s <= t < placed[0] for t in failed
        )
        gone_after = holding[-1] < end_s - _SAME_S or any(placed[-1] < t <= end_s for t in failed)
        before_s, after_s = (
            0.0 if gone else held for gone, held in ((gone_before, before_s), (gone_after, after_s))
        )
        weights = np.zeros(len(placed))
        weights[:-1] += widths / 2.0
        weights[1:] += widths / 2.0
        weights[0] += before_s
        weights[-1] += after_s
        covered_s = float(weights.sum())
        if covered_s < duration_s / 2.0:
            return None
        covered_j = float(weights @ power)
        value_j = covered_j * duration_s / covered_s
        block = _blocks(times, power, response.refresh_s)
        scatter = self._scatter(stretch, power[np.unique(block, return_index=True)[1]])
        scatter_w = scatter.deviation_w
        edges_s = 0.0
        if window_s := response.window_s:
            # Of the power beyond the first and last mean, that mean says as much as of any time of
            # that length.
            held_s = [
                math.hypot(max(0.0, each - window_s / 2.0), uniform_sd_s(response.refresh_s))
                for each in (before_s, after_s)
            ]
            edges_s = math.sqrt(math.fsum(each * (each + window_s) for each in held_s))
        step_w = self._meter.resolution_w
        alike = max(0.0, 1.0 - 2.0 * scatter_w / step_w) if step_w else 0.0
        deviation_j = math.hypot(
            scatter_w * scatter.unseen * self._sampled(times, weights, block),
            scatter_w * edges_s,
            abs(value_j) * (duration_s - covered_s) / duration_s / math.sqrt(3.0),
        )
        known = scatter.degrees > 0.0 or self._meter.rate_hz == 0.0  # a declared power is constant
        if not known:
            deviation_j = math.hypot(deviation_j, value_j / 2.0)
        return value_j, deviation_j, alike * uniform_sd_s(step_w) * duration_s, known

    def _sampled(self, times: _Array, weights: _Array, block: NDArray[np.int64]) -> float:
        """Seconds for which the scatter of values counts, because the power was not seen."""
        of_block = np.bincount(block, weights)
        window_s = self._meter.response.window_s
        missed = 1.0
        if window_s:
            gap_s = (times[-1] - times[0]) / block[-1] if block[-1] else 0.0
            missed = 1.0 - min(1.0, window_s / gap_s) if gap_s else 0.0
        return missed * float(np.sqrt(np.square(of_block).sum()))

    def _scatter(self, stretch: Stretch, values_w: _Array) -> _Scatter:
        """Scatter of values about a phase's power, in this phase and in earlier ones."""
        here = _Scatter.of(values_w)
        of_kind = self._earlier.get(stretch.kind, _Scatter())
        if here.degrees >= _ENOUGH:
            of_kind = _Scatter()
        elif (noise_w := self._meter.noise_w) is not None:
            of_kind = _Scatter(noise_w**2 * _ENOUGH, _ENOUGH)
        if stretch.start_s not in self._learned and self._last_s() >= (
            stretch.end_s + self._meter.response.delay_s - _SAME_S
        ):
            self._learned.add(stretch.start_s)
            before = self._earlier.get(stretch.kind, _Scatter()).scaled(_MOST_EARLIER)
            self._earlier[stretch.kind] = before + here
        return here + of_kind

    def _left_over(self, stretch: Stretch, seen: _Seen) -> PhaseEnergy:
        """The energy of a phase without readings of its own."""
        response, meter = self._meter.response, self._meter
        group, *ends = self._alike(stretch, seen)
        before, after = (
            None if end is None else (seen.times_s[end] - response.lag_s, float(seen.power_w[end]))
            for end in ends
        )
        most_j = self._most_j(stretch, seen)
        seen = seen.spread
        placed = seen.times_s - response.lag_s
        settled_s = stretch.end_s + response.settling_s + 2.0 * response.delay_sd_s
        final = after is not None or self._last_s() >= settled_s + self._reach_s()
        start_s, end_s = group[0].start_s, group[-1].end_s
        reach_s = self._reach_s()
        gone_s = self._gone_s(placed, stretch)
        if (
            placed[0] > end_s + reach_s
            or placed[-1] < start_s - reach_s
            or (gone_s > stretch.duration_s / 2.0)
        ):
            return PhaseEnergy(None, resolved=False, final=final)
        # From the last reading of the phase before to the first of the phase after, without what
        # these two go on with up to their edges.
        whole_j = _area(placed, seen.power_w, start_s, end_s)
        if before is not None and before[0] < start_s:
            whole_j += _area(placed, seen.power_w, before[0], start_s)
            whole_j -= before[1] * (start_s - before[0])
        if after is not None and after[0] > end_s:
            whole_j += _area(placed, seen.power_w, end_s, after[0])
            whole_j -= after[1] * (after[0] - end_s)
        parts_j = [_area(placed, seen.power_w, s.start_s, s.end_s) for s in group]
        alone_j = parts_j[group.index(stretch)]
        share = alone_j / math.fsum(parts_j) if math.fsum(parts_j) > 0.0 else 0.0
        near = (placed >= start_s - reach_s) & (placed <= end_s + reach_s)
        range_w = float(np.ptp(seen.power_w[near])) if near.any() else 0.0
        period_s = max(response.refresh_s, 1.0 / meter.rate_hz if meter.rate_hz else 0.0)
        unseen_s = max(0.0, period_s - response.window_s)
        group_s = min(math.fsum(s.duration_s for s in group), unseen_s / 2.0)
        deviation_j = share * math.hypot(
            range_w * math.sqrt(group_s * (unseen_s - group_s)),
            meter.resolution_w / math.sqrt(12.0) * (end_s - start_s),
        )
        energy = self._as_energy(max(0.0, whole_j) * share, deviation_j)
        return PhaseEnergy(energy, resolved=False, most_j=most_j, final=final)

    def _gone_s(self, placed: _Array, stretch: Stretch) -> float:
        """How much of a phase lies between two readings with a failed one between them, s."""
        lag_s, gone_s = self._meter.response.lag_s, 0.0
        failed = np.array([r.time_s - lag_s for r in self._readings if not r.holds])
        if not len(failed):
            return 0.0
        around = np.concatenate([[-math.inf], placed, [math.inf]])
        for gap in np.unique(np.searchsorted(around, failed, side="right")):
            begin_s = max(stretch.start_s, around[gap - 1])
            gone_s += max(0.0, min(stretch.end_s, around[min(gap, len(around) - 1)]) - begin_s)
        return gone_s

    def _alike(self, stretch: Stretch, seen: _Seen) -> tuple[list[Stretch], int | None, int | None]:
        """The phases around one that have no readings of their own either, with it.

        Also the places of the last reading of the phase before them and the first of that after.
        """
        oldest_s, newest_s = self._shown(seen)
        place = self._ended.index(stretch)
        first = last = place
        before = after = None
        while first > 0 and self._ended[first - 1].end_s > stretch.start_s - _FAR_S:
            own = np.flatnonzero(self._own(self._ended[first - 1], seen))
            if len(own):
                before = int(own[-1])
                break
            first -= 1
        else:
            early = np.flatnonzero(newest_s <= self._ended[first].start_s)
            before = int(early[-1]) if len(early) and first == 0 else None
        while last + 1 < len(self._ended) and (
            self._ended[last + 1].start_s < stretch.end_s + _FAR_S
        ):
            own = np.flatnonzero(self._own(self._ended[last + 1], seen))
            if len(own):
                after = int(own[0])
                break
            last += 1
        else:
            late = np.flatnonzero(oldest_s >= self._ended[last].end_s)
            after = int(late[0]) if len(late) and last == len(self._ended) - 1 else None
        return self._ended[first : last + 1], before, after

    def _most_j(self, stretch: Stretch, seen: _Seen) -> float | None:
        """All that readings show while they have anything of a phase in them, J.

        No power is negative, so that a phase cannot have taken more, but for the error of readings.
        """
        response = self._meter.response
        slack_s = 2.0 * response.delay_sd_s
        begin_s = stretch.start_s + response.delay_s - slack_s
        end_s = stretch.end_s + response.settling_s + slack_s
        if seen.times_s[-1] < end_s - self._reach_s():
            return None
        shown_j = _area(seen.times_s, seen.power_w, begin_s, end_s)
        sure = 1.0 + 2.0 * self._meter.relative_uncertainty
        return float(shown_j * sure + self._meter.resolution_w * stretch.duration_s)

    # -- counters ------------------------------------------------------------------------------

    def _counted(self, stretch: Stretch) -> PhaseEnergy:
        readings = [r for r in self._readings if r.counter_j is not None]
        times = np.array([r.time_s for r in readings])
        values = np.array([r.counter_j for r in readings], float)
        first = max(0, int(np.searchsorted(times, stretch.start_s + _SAME_S, side="right")) - 1)
        last = min(len(times), int(np.searchsorted(times, stretch.end_s - _SAME_S)) + 1)
        # What lies beyond a reading that failed says nothing of an edge.
        failed = [r.time_s for r in self._readings if not r.holds]
        if any(times[first] <= at_s <= stretch.start_s for at_s in failed):
            first += 1
        if any(stretch.end_s <= at_s <= times[last - 1] for at_s in failed):
            last -= 1
        count = last - first
        nothing = PhaseEnergy(None, resolved=False, sample_count=count)
        if count < 1 or any(r.reset for r in readings[first + 1 : last]):
            return nothing
        if np.any(np.diff(values[first:last]) < 0.0):
            return nothing
        duration_s = stretch.duration_s
        covered_s = min(times[last - 1], stretch.end_s) - max(times[first], stretch.start_s)
        if duration_s == 0.0:
            return PhaseEnergy(self._as_energy(0.0, 0.0), True, sample_count=count)
        if count < 2 or covered_s < duration_s / 2.0:
            return nothing
        at = np.interp([stretch.start_s, stretch.end_s], times[first:last], values[first:last])
        meter, response = self._meter, self._meter.response
        refresh_s, step_j = (
            response.refresh_s or (1.0 / meter.rate_hz if meter.rate_hz else 0.0),
            (meter.resolution_j),
        )
        counted_j = float(at[1] - at[0])
        if counted_j == 0.0 and refresh_s and duration_s > STANDSTILL * refresh_s and not step_j:
            return nothing
        power_w = counted_j / covered_s
        before_w = self._power_before(stretch, times, values, refresh_s)
        before_w = power_w if before_w is None else before_w
        # At its end a counter lacks the last moments of a phase; at its beginning, those of before.
        lag_s = min(response.delay_s + refresh_s / 2.0, duration_s)
        value_j = max(0.0, power_w * duration_s + (power_w - before_w) * lag_s)
        deviation_j = math.hypot(
            (1.0 + lag_s / duration_s) * math.hypot(power_w, before_w) * uniform_sd_s(refresh_s),
            math.hypot(power_w, before_w) * response.delay_sd_s,
            power_w * (duration_s - covered_s) / math.sqrt(3.0),
            step_j / math.sqrt(6.0),
        )
        if value_j > 0.0 and deviation_j <= RESOLVED * value_j:
            return PhaseEnergy(self._as_energy(value_j, deviation_j), True, sample_count=count)
        value_j = power_w * duration_s  # as counted, so that sums stay whole
        energy = self._as_energy(value_j, deviation_j)
        # What is counted later than a refresh after the end has all of the phase in it.
        later = np.flatnonzero(times >= stretch.end_s + refresh_s + response.delay_s - _SAME_S)
        if not len(later) or any(r.reset for r in readings[first + 1 : later[0] + 1]):
            return PhaseEnergy(energy, False, None, bool(len(later)), count)
        counted_j = max(0.0, float(values[later[0]] - values[first]))
        most_j = counted_j * (1.0 + 2.0 * meter.relative_uncertainty) + step_j
        return PhaseEnergy(energy, False, float(max(most_j, value_j)), True, count)

    def _power_before(
        self, stretch: Stretch, times: _Array, values: _Array, refresh_s: float
    ) -> float | None:
        """Mean power just before a phase, W; ``None`` if unknown."""
        earlier = [s for s in self._ended if s.end_s <= stretch.start_s + _SAME_S]
        since_s = stretch.start_s - 10.0 * refresh_s
        if earlier and earlier[-1].duration_s >= 3.0 * refresh_s:
            since_s = max(since_s, earlier[-1].start_s + refresh_s)
        places = np.flatnonzero((times >= since_s - _SAME_S) & (times <= stretch.start_s + _SAME_S))
        if len(places) < 2 or times[places[-1]] - times[places[0]] < refresh_s:
            return None
        grown_j = float(values[places[-1]] - values[places[0]])
        return max(0.0, grown_j) / float(times[places[-1]] - times[places[0]])

    # -- shared --------------------------------------------------------------------------------

    def _values(self) -> _Seen:
        """All readings that hold a power."""
        late = self._meter.response.settling_s > 0.0
        found = [
            (r.time_s, r.power_w, place, late and forced)
            for place, (r, forced) in enumerate(zip(self._readings, self._forced, strict=True))
            if r.power_w is not None and math.isfinite(r.power_w)
        ]
        table = np.array(found, float).reshape(-1, 4)
        places = table[:, 2].astype(np.int64) + self._forgotten
        return _Seen(table[:, 0], table[:, 1], places, table[:, 3].astype(bool))

    def _last_s(self) -> float:
        return self._readings[-1].time_s if self._readings else -math.inf

    def _reach_s(self) -> float:
        """How far from an edge the next reading may be without being missed, s."""
        rate_hz, response = self._meter.rate_hz, self._meter.response
        period_s = 1.0 / rate_hz if rate_hz else math.inf
        return 3.0 * max(period_s, 0.1) + response.spread_s + 2.0 * response.delay_sd_s

    def _as_energy(self, value_j: float, deviation_j: float) -> Energy:
        meter = self._meter
        common_j = meter.relative_uncertainty * abs(float(value_j))
        return Energy(
            value_j=float(value_j),
            kind=meter.kind,
            source=meter.source,
            scope=meter.scope,
            uncertainty_j=math.hypot(float(deviation_j), common_j),
            common_j=common_j,
        )


def _blocks(times: _Array, power: _Array, refresh_s: float) -> NDArray[np.int64]:
    """Number of the value that each reading shows: repeated readings show the same value.

    A value that does not change is taken for a new one after a refresh.
    """
    if refresh_s == 0.0:
        return np.arange(len(times))
    numbers, number, since_s = np.zeros(len(times), np.int64), 0, times[0]
    for place in range(1, len(times)):
        late = times[place] - since_s >= refresh_s * (1.0 - 1e-9)
        if power[place] != power[place - 1] or late:
            number, since_s = number + 1, times[place]
        numbers[place] = number
    return numbers


@functools.cache
def _widened(degrees: float) -> float:
    """What one standard deviation from so many degrees of freedom is to be multiplied with."""
    return student_t.quantile(_TWO_SIGMA, degrees) / 2.0


def _area(times: _Array, power: _Array, start_s: float, end_s: float) -> float:
    """Integral by trapezoids; the first and last readings hold beyond their times."""
    inside = (times > start_s) & (times < end_s)
    nodes = np.concatenate([[start_s], times[inside], [end_s]])
    values = np.interp(nodes, times, power)
    return float((np.diff(nodes) * (values[1:] + values[:-1])).sum()) / 2.0

"""Joules of phases, from readings that come late, seldom, or as means.

:class:`PhaseMeter` keeps the readings of a meter and gives each phase its
:class:`fimi.energy.phase_readings.PhaseEnergy`. What a reading shows is of the time that
:class:`fimi.energy.meters.response.MeterResponse` says. A reading *belongs* to a phase if all of
that time lies in the phase. A phase with readings of its own is metered directly: they are placed
at the middle of the time that they show, joined by straight lines, and the first and last of them
hold to the edges. So no phase gets a part of its neighbours' power. Counters:
:mod:`fimi.energy.phase_counts`.

A phase without readings of its own is ``unresolved``. Together with others like it, up to the
readings of the next phase that has some, it gets what the integral over all of their time leaves,
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
    rise        from the power before to the first value: a step at the edge, or a line until there
    missing     seconds without readings: mean power, uncertain between zero and twice that

A direct figure is called resolved if this, without the gain, is at most :data:`RESOLVED` of it, and
the scatter is known from enough values. So the first short phases of a kind are not resolved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import uniform_sd_s
from fimi.energy.phase_counts import counted
from fimi.energy.phase_readings import (
    ENOUGH,
    Array,
    Columns,
    PhaseEnergy,
    PowerCourse,
    ReadingTable,
    Scatter,
    Seen,
    Stretch,
    blocks,
)
from fimi.energy.resting import LEAST_S, LEFTOVERS_S, Resting, When

RESOLVED = 0.2
"""A figure is not resolved if its standard deviation, without the gain's, is a larger share."""

_MOST_EARLIER = 50.0
"""Degrees of freedom that earlier phases of a kind have at most in the scatter of a new one."""
_ENOUGH_MEANS = 4.0
"""The same as ENOUGH for means that leave out nothing of the time."""
_SAME_S = 1e-9
_JUMP_S = 1e-3
_FAR_S = 60.0
"""Phases that are further away than this are not looked at for one without readings, s."""


class _Beside(NamedTuple):
    """What stands beside phases without readings of their own.

    Attributes:
        reading: place of its reading that is nearest to them.
        edge_s: where it ends or begins, s: it goes on with what that shows until there.
    """

    reading: int
    edge_s: float


class PhaseMeter:
    """Gives phases their energy.

    Args:
        meter: the meter of the readings.
    """

    def __init__(self, meter: MeterDescription) -> None:
        self._meter = meter
        self.described = meter
        """The meter of the readings."""
        self._table = ReadingTable()
        self._newest: Reading | None = None
        self._jumped_at = -1
        self._earlier: dict[str, Scatter] = {}
        self._learned: dict[float, Scatter] = {}
        self._ended = Columns(4)

    @property
    def count(self) -> int:
        """How many readings were ever added."""
        return self._table.dropped + len(self._table)

    @property
    def kept(self) -> int:
        """How many readings and phases are remembered."""
        return len(self._table) + len(self._ended)

    @property
    def waits_s(self) -> float:
        """How long after its end a phase is final at the latest, s, while readings come."""
        response = self._meter.response
        return response.settling_s + 2.0 * response.delay_sd_s + self._reach_s()

    def add(self, readings: Sequence[Reading]) -> list[Reading]:
        """Add the readings up to an edge, in order of time; the last one was forced there.

        The first may be the last one of before.

        Returns:
            Those that are new.
        """
        if readings and readings[0] is self._newest:
            readings = readings[1:]
        if not readings:
            return []
        if readings[0].time_s < self._table.last_s - _JUMP_S:
            # The clock was set: what was read before has no place in time.
            self._jumped_at = self.count
            self._table.drop(len(self._table))
            self._ended.drop(len(self._ended))
            self._learned = {}
        self._table.put(readings, [False] * (len(readings) - 1) + [True])
        self._newest = readings[-1]
        return list(readings)

    def forget(self, before_s: float) -> None:
        """Drop readings from before a time, except the last one."""
        drop = int(np.searchsorted(self._table.times_s, before_s, side="right")) - 1
        self._table.drop(max(0, min(drop, len(self._table) - 1)))
        ended = self._ended.rows
        self._ended.drop(int(np.searchsorted(ended[:, 1], before_s, side="right")))
        while self._learned and (oldest_s := next(iter(self._learned))) < before_s - _FAR_S:
            del self._learned[oldest_s]

    def end(self, stretch: Stretch) -> PhaseEnergy:
        """A phase has ended; its energy, by the readings that there are now."""
        self._ended.add(np.array([stretch[1:]], float))
        return self.energy(stretch)

    def energy(self, stretch: Stretch) -> PhaseEnergy:
        """The energy of a phase that has ended, by the readings that there are now."""
        if stretch.first <= self._jumped_at:
            return PhaseEnergy(None, resolved=False)
        if not self._table.counts:
            return self._seen(stretch)
        ended_s = self._ended.rows[:, 1]
        before = int(np.searchsorted(ended_s, stretch.start_s + _SAME_S, side="right")) - 1
        while before >= 0 and self._ended.rows[before, 2] >= stretch.first:
            before -= 1  # itself, if it has no length
        earlier_s = None
        if before >= 0:
            earlier_s = (float(self._ended.rows[before, 0]), float(ended_s[before]))
        found = counted(self._table, stretch, self._meter, earlier_s, RESOLVED)
        energy = None
        if found.value_j is not None:
            energy = self._as_energy(found.value_j, found.deviation_j)
        return PhaseEnergy(energy, found.resolved, found.most_j, found.final, found.sample_count)

    def resting(self, stretch: Stretch, when: When) -> Resting | None:
        """The resting power that readings of a phase without work show; ``None`` if too few do.

        Args:
            stretch: the phase; its beginning is left out.
            when: before, between or after work.
        """
        start_s, step_j = stretch.start_s + LEFTOVERS_S, 0.0
        key_s = stretch.start_s
        stretch = stretch._replace(start_s=start_s)
        duration_s = stretch.duration_s
        if duration_s < LEAST_S or stretch.first <= self._jumped_at:
            return None
        if self._table.counts:
            count = counted(self._table, stretch, self._meter, (key_s, start_s), RESOLVED)
            if count.value_j is None or not count.resolved:
                return None
            value_j, response = count.value_j, self._meter.response
            # Its beginning is no edge: it lies between looks, which may keep in step with refreshes
            # in all of a run.
            step_j = value_j / duration_s * uniform_sd_s(response.refresh_s)
            sampled_j = math.sqrt(max(0.0, count.deviation_j**2 - step_j**2))
        else:
            seen = self._values()
            own = self._own_of(stretch, seen)
            if not own.any():
                return None
            found = self._direct(stretch, seen, own, key_s, at_rest=True)
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

    # -- readings of its own -------------------------------------------------------------------

    def _seen(self, stretch: Stretch) -> PhaseEnergy:
        response = self._meter.response
        seen = self._values()
        shown_s = stretch.end_s + response.delay_s + 2.0 * response.delay_sd_s
        final = self._table.last_s >= shown_s - _SAME_S
        if not len(seen.times_s):
            return PhaseEnergy(None, resolved=False, final=final)
        own = self._own_of(stretch, seen)
        count = int(own.sum())
        if not count:
            return self._left_over(stretch, seen)
        if stretch.duration_s <= 0.0:
            return PhaseEnergy(self._as_energy(0.0, 0.0), True, sample_count=count)
        found = self._direct(stretch, seen, own, stretch.start_s)
        if found is None:
            return PhaseEnergy(None, resolved=False, final=final, sample_count=count)
        value_j, sampled_j, step_j, known = found
        deviation_j = math.hypot(sampled_j, step_j)
        if value_j < 0.0:  # no phase gives energy back: the readings are wrong by that much
            value_j, deviation_j, known = 0.0, math.hypot(deviation_j, value_j), False
        energy = self._as_energy(value_j, deviation_j)
        resolved = known and deviation_j <= RESOLVED * value_j
        most_j = None
        if not resolved and (shown_j := self._most_j(stretch, seen)) is not None:
            most_j = max(shown_j, value_j + 2.0 * energy.uncertainty_j)
            if not response.window_s:  # what was drawn between readings may be all that ever was
                sure = 1.0 + 2.0 * self._meter.relative_uncertainty
                most_j = max(most_j, float(seen.power_w.max()) * stretch.duration_s * sure)
        return PhaseEnergy(energy, bool(resolved), most_j, final, count)

    def _own_of(self, stretch: Stretch, seen: Seen) -> NDArray[np.bool_]:
        """Which readings show nothing but this phase; forced ones only if there are no others."""
        own = np.zeros(len(seen.times_s), bool)
        if len(own):
            first, last = self._own(np.array([stretch[1:]], float), seen)
            own[first[0] : last[0]] = True
        return own & ~seen.forced if (own & ~seen.forced).any() else own

    def _own(self, ended: Array, seen: Seen) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First reading of each phase's own and the one after the last, both (n,).

        ``ended`` are beginnings, ends, first and last places of phases, shape (n, 4).
        """
        start_s, end_s, first, last = ended.T
        oldest_s, newest_s = self._shown(seen)
        of_last = np.searchsorted(seen.places, last)
        low = np.searchsorted(oldest_s, start_s - _SAME_S)
        low = np.maximum(low, np.searchsorted(seen.places, first))
        inside = np.searchsorted(newest_s, end_s + _SAME_S, side="right")
        # A reading that was taken later belongs to it if it shows nothing of after its end.
        later = np.searchsorted(newest_s, end_s - _SAME_S)
        return low, np.maximum(low, np.minimum(inside, np.maximum(of_last, later)))

    def _shown(self, seen: Seen) -> tuple[Array, Array]:
        """Between which times each reading's power was drawn."""
        response = self._meter.response
        slack_s = 2.0 * response.delay_sd_s
        oldest_s = seen.times_s - response.settling_s - slack_s
        return oldest_s, seen.times_s - response.delay_s + slack_s

    def _direct(
        self,
        stretch: Stretch,
        seen: Seen,
        own: NDArray[np.bool_],
        key_s: float,
        *,
        at_rest: bool = False,
    ) -> tuple[float, float, float, bool] | None:
        """Energy from a phase's own readings, and deviations by sampling and by steps, J.

        The last value says whether the scatter of the power is known. ``key_s`` is the beginning of
        the phase in which they were read.
        """
        response, start_s, end_s = self._meter.response, stretch.start_s, stretch.end_s
        duration_s = stretch.duration_s
        times, power = seen.times_s[own], seen.power_w[own]
        placed = np.clip(times - response.lag_s, start_s, end_s)
        widths = np.diff(placed)
        failed = self._table.failed_s - response.lag_s
        cut = np.searchsorted(placed, failed, side="right")
        widths[cut[(cut > 0) & (cut < len(placed))] - 1] = 0.0
        holding = self._table.holding_s
        before_s, after_s = float(placed[0] - start_s), float(end_s - placed[-1])
        if holding[0] > start_s + _SAME_S or ((start_s <= failed) & (failed < placed[0])).any():
            before_s = 0.0
        if holding[-1] < end_s - _SAME_S or ((placed[-1] < failed) & (failed <= end_s)).any():
            after_s = 0.0
        weights = np.zeros(len(placed))
        weights[:-1] += widths / 2.0
        weights[1:] += widths / 2.0
        weights[0] += before_s
        weights[-1] += after_s
        covered_s = float(weights.sum())
        if covered_s < duration_s / 2.0:
            return None
        value_j = float(weights @ power) * duration_s / covered_s
        block = blocks(times, power, response.refresh_s)
        scatter = self._scatter(stretch, power[np.unique(block, return_index=True)[1]], key_s)
        scatter_w = scatter.deviation_w
        edges_s, missed = 0.0, 1.0
        if window_s := response.window_s:
            # Of the power beyond the first and last mean, that mean says as much as of any time of
            # that length.
            beyond_s = [
                math.hypot(max(0.0, each - window_s / 2.0), uniform_sd_s(response.refresh_s))
                for each in (before_s, after_s)
            ]
            edges_s = math.sqrt(math.fsum(each * (each + window_s) for each in beyond_s))
            gap_s = float(times[-1] - times[0]) / block[-1] if block[-1] else 0.0
            missed = 1.0 - min(1.0, window_s / gap_s) if gap_s else 0.0
        sampled_s = missed * math.sqrt(float(np.square(np.bincount(block, weights)).sum()))
        step_w = self._meter.resolution_w
        alike = max(0.0, 1.0 - 2.0 * scatter_w / step_w) if step_w else 0.0
        # A line between two values knows more of a power that wanders than a value that holds.
        unseen = scatter.unseen
        held_s = missed * math.sqrt(1.0 - unseen**2) * math.hypot(before_s, after_s)
        deviation_j = math.hypot(
            scatter_w * unseen * sampled_s,
            scatter_w * held_s,
            scatter_w * edges_s,
            self._rising_j(stretch, seen, float(power[0]), before_s),
            abs(value_j) * (duration_s - covered_s) / duration_s / math.sqrt(3.0),
        )
        # At rest nothing seldom is expected; a slow meter has ten values of it and no more.
        enough = ENOUGH if missed > 0.1 and not at_rest else _ENOUGH_MEANS
        # A declared power is constant.
        known = scatter.degrees >= enough or self._meter.rate_hz == 0.0
        if not scatter.degrees and not known:
            deviation_j = math.hypot(deviation_j, self._alone_j(stretch, seen, value_j))
        return value_j, deviation_j, alike * uniform_sd_s(step_w) * duration_s, known

    def _rising_j(self, stretch: Stretch, seen: Seen, first_w: float, before_s: float) -> float:
        """One standard deviation of what the first value, held back to the edge, has too much, J.

        Powers may step at the edge, or rise until that value in a straight line.
        """
        _, newest_s = self._shown(seen)
        before = int(np.searchsorted(newest_s, stretch.start_s + _SAME_S, side="right")) - 1
        if before < 0:
            return 0.0
        held_s = max(0.0, before_s - self._meter.response.window_s / 2.0)
        return abs(first_w - float(seen.power_w[before])) * held_s / math.sqrt(12.0)

    def _alone_j(self, stretch: Stretch, seen: Seen, value_j: float) -> float:
        """One standard deviation of a phase of which one value is known, J.

        A mean that leaves nothing out shows what the power was around the phase, so that it was
        anything of that. The power of an instant does not show what came between.
        """
        response, reach_s = self._meter.response, self._reach_s()
        if response.window_s < response.refresh_s or not response.window_s:
            return value_j / 2.0
        placed = seen.times_s - response.lag_s
        near = (placed >= stretch.start_s - reach_s) & (placed <= stretch.end_s + reach_s)
        return float(np.ptp(seen.power_w[near])) / math.sqrt(12.0) * stretch.duration_s

    def _scatter(self, stretch: Stretch, values_w: Array, key_s: float) -> Scatter:
        """Scatter of values about a phase's power, in this phase and in earlier ones."""
        here = Scatter.of(values_w)
        before = self._learned.get(key_s)
        if before is None:
            before = self._earlier.get(stretch.kind, Scatter())
            if self._table.last_s >= stretch.end_s + self._meter.response.delay_s - _SAME_S:
                self._learned[key_s] = before
                self._earlier[stretch.kind] = (before + here).scaled(_MOST_EARLIER)
        if (noise_w := self._meter.noise_w) is not None:
            few = here.degrees < ENOUGH
            before = Scatter(noise_w**2 * ENOUGH, ENOUGH) if few else Scatter()
        return here + before

    # -- no readings of its own ----------------------------------------------------------------

    def _left_over(self, stretch: Stretch, seen: Seen) -> PhaseEnergy:
        """The energy of a phase without readings of its own."""
        response, meter = self._meter.response, self._meter
        most_j = self._most_j(stretch, seen)
        ended, place, before, after = self._alike(stretch, seen)
        last_s, reach_s = self._table.last_s, self._reach_s()
        final = after is not None or last_s >= stretch.end_s + self.waits_s
        spread = seen.spread
        placed, power_w = spread.times_s - response.lag_s, spread.power_w
        start_s, end_s = float(ended[0, 0]), float(ended[-1, 1])
        if (
            placed[0] > end_s + reach_s
            or placed[-1] < start_s - reach_s
            or self._gone_s(placed, stretch) > stretch.duration_s / 2.0
        ):
            return PhaseEnergy(None, resolved=False, final=final)
        # From the last reading of what is before to the first of what is after, without what these
        # two go on with up to their edges.
        course = PowerCourse(placed, power_w)
        whole_j = float(course.between(start_s, end_s))
        if before is not None:
            at_s, edge_s = seen.times_s[before.reading] - response.lag_s, before.edge_s
            if at_s < edge_s:
                whole_j += float(course.between(at_s, edge_s))
                whole_j -= float(seen.power_w[before.reading]) * (edge_s - at_s)
        if after is not None:
            at_s, edge_s = seen.times_s[after.reading] - response.lag_s, after.edge_s
            if at_s > edge_s:
                whole_j += float(course.between(edge_s, at_s))
                whole_j -= float(seen.power_w[after.reading]) * (at_s - edge_s)
        # What was drawn between two of these phases, while no phase went on, is in none of them.
        apart_s = np.maximum(ended[1:, 0], ended[:-1, 1])
        whole_j -= float(course.between(ended[:-1, 1], apart_s).sum())
        parts_j = np.maximum(course.between(ended[:, 0], ended[:, 1]), 0.0)
        all_j = float(parts_j.sum())
        share = float(parts_j[place]) / all_j if all_j > 0.0 else 0.0
        near = (placed >= start_s - reach_s) & (placed <= end_s + reach_s)
        range_w = float(np.ptp(power_w[near])) if near.any() else 0.0
        period_s = max(response.refresh_s, 1.0 / meter.rate_hz if meter.rate_hz else 0.0)
        unseen_s = max(0.0, period_s - response.window_s)
        group_s = min(float((ended[:, 1] - ended[:, 0]).sum()), unseen_s / 2.0)
        deviation_j = share * math.hypot(
            range_w * math.sqrt(group_s * (unseen_s - group_s)),
            meter.resolution_w / math.sqrt(12.0) * (end_s - start_s),
        )
        energy = self._as_energy(max(0.0, whole_j) * share, deviation_j)
        return PhaseEnergy(energy, resolved=False, most_j=most_j, final=final)

    def _gone_s(self, placed: Array, stretch: Stretch) -> float:
        """How much of a phase lies between two readings with a failed one between them, s."""
        failed = self._table.failed_s - self._meter.response.lag_s
        if not len(failed):
            return 0.0
        around = np.concatenate([[-math.inf], placed, [math.inf]])
        gaps = np.unique(np.searchsorted(around, failed, side="right"))
        begins_s = np.maximum(stretch.start_s, around[gaps - 1])
        ends_s = np.minimum(stretch.end_s, around[np.minimum(gaps, len(around) - 1)])
        return float(np.maximum(0.0, ends_s - begins_s).sum())

    def _alike(
        self, stretch: Stretch, seen: Seen
    ) -> tuple[Array, int, _Beside | None, _Beside | None]:
        """The phases around one that have no readings of their own either, with it.

        Returns:
            These phases, (n, 4) as in :meth:`_own`; the place of this one among them; and what
            stands before and after them: a phase with readings of its own, or a time between
            phases with some.
        """
        ended = self._ended.rows
        fits = np.flatnonzero((ended[:, 2] == stretch.first) & (ended[:, 3] == stretch.last))
        fits = fits[(ended[fits, 0] == stretch.start_s) & (ended[fits, 1] == stretch.end_s)]
        if not len(fits):  # it was forgotten, or never ended here
            return np.array([stretch[1:]], float), 0, None, None
        place = int(fits[0])
        nearest = int(np.searchsorted(ended[:, 1], stretch.start_s - _FAR_S, side="right"))
        beyond = int(np.searchsorted(ended[:, 0], stretch.end_s + _FAR_S))
        nearest, beyond = min(nearest, place), max(beyond, place + 1)
        low, high = self._own(ended[nearest:beyond], seen)
        have = np.flatnonzero(high > low) + nearest
        earlier, later = have[have < place], have[have > place]
        oldest_s, newest_s = self._shown(seen)
        before = after = None
        first = int(earlier[-1]) + 1 if len(earlier) else nearest
        last = int(later[0]) if len(later) else beyond
        start_s, end_s = float(ended[first, 0]), float(ended[last - 1, 1])
        early = int(np.searchsorted(newest_s, start_s, side="right")) - 1
        late = int(np.searchsorted(oldest_s, end_s))
        if early >= 0 and (first == 0 or oldest_s[early] >= ended[first - 1, 1]):
            before = _Beside(early, start_s)
        elif len(earlier):
            own = self._chosen(seen, low[first - 1 - nearest], high[first - 1 - nearest])
            before = _Beside(own[-1], float(ended[first - 1, 1]))
        if late < len(oldest_s) and (last == len(ended) or newest_s[late] <= ended[last, 0]):
            after = _Beside(late, end_s)
        elif len(later):
            own = self._chosen(seen, low[last - nearest], high[last - nearest])
            after = _Beside(own[0], float(ended[last, 0]))
        return ended[first:last], place - first, before, after

    def _chosen(self, seen: Seen, low: int, high: int) -> list[int]:
        """First and last of a phase's own readings; forced ones only if there are no others."""
        own = np.arange(low, high)
        kept = own[~seen.forced[own]]
        own = kept if len(kept) else own
        return [int(own[0]), int(own[-1])]

    def _most_j(self, stretch: Stretch, seen: Seen) -> float | None:
        """All that readings show while they have anything of a phase in them, J.

        No power is negative, so that a phase cannot have taken more, but for the error of readings.
        """
        response = self._meter.response
        slack_s = 2.0 * response.delay_sd_s
        begin_s = stretch.start_s + response.delay_s - slack_s
        end_s = stretch.end_s + response.settling_s + slack_s
        if seen.times_s[-1] < end_s - self._reach_s():
            return None
        shown_j = float(
            PowerCourse(seen.times_s, np.maximum(seen.power_w, 0.0)).between(begin_s, end_s)
        )
        sure = 1.0 + 2.0 * self._meter.relative_uncertainty
        return shown_j * sure + self._meter.resolution_w * stretch.duration_s

    # -- shared --------------------------------------------------------------------------------

    def _values(self) -> Seen:
        """All readings that hold a power."""
        return self._table.seen(late=self._meter.response.settling_s > 0.0)

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

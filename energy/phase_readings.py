"""What joules of phases are made from: readings, the time of phases, and how much power scatters.

* :class:`Stretch`       the time of a phase
* :class:`PhaseEnergy`   what readings say of it
* :class:`Columns`       numbers in columns, added at one end and dropped at the other
* :class:`ReadingTable`  the readings of a meter, in columns
* :class:`Seen`          those that hold a power
* :class:`Scatter`       how much values of a power differ from each other
* :func:`largest_gap_s`  the longest time without a reading

All times are those of the device's own clock.
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
from fimi.energy.joules import Energy
from fimi.energy.meters import Reading

ENOUGH = 10.0
"""Degrees of freedom from which on a scatter is believed: fewer may have missed what is seldom."""
_TWO_SIGMA = 0.97725

Array = NDArray[np.float64]


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


class Columns:
    """Rows of numbers that are added at the end and dropped at the beginning, at constant cost.

    Args:
        width: number of columns.

    Attributes:
        dropped: how many rows were dropped.
    """

    def __init__(self, width: int) -> None:
        self._rows = np.empty((64, width))
        self._start = self._stop = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def rows(self) -> Array:
        """Those that are there, shape (n, width); valid until the next change."""
        return self._rows[self._start : self._stop]

    def add(self, rows: Array) -> None:
        """Add rows, shape (k, width)."""
        needed = self._stop + len(rows)
        if needed > len(self._rows):
            kept = self.rows
            size = max(64, 2 * (len(kept) + len(rows)))
            self._rows = np.empty((size, kept.shape[1]))
            self._rows[: len(kept)] = kept
            self._start, self._stop = 0, len(kept)
        self._rows[self._stop : self._stop + len(rows)] = rows
        self._stop += len(rows)

    def drop(self, count: int) -> None:
        """Drop the first ones."""
        count = min(count, len(self))
        self._start += count
        self.dropped += count


class ReadingTable(Columns):
    """The readings of a meter; what is missing in one is not a number."""

    def __init__(self) -> None:
        super().__init__(6)

    def put(self, readings: Sequence[Reading], forced: Sequence[bool]) -> None:
        """Add readings; ``forced`` are those that were taken at an edge."""
        nan = math.nan
        self.add(
            np.array(
                [
                    (
                        r.time_s,
                        nan if r.power_w is None else r.power_w,
                        nan if r.counter_j is None else r.counter_j,
                        at_edge,
                        r.holds,
                        r.reset,
                    )
                    for r, at_edge in zip(readings, forced, strict=True)
                ],
                float,
            ).reshape(-1, 6)
        )

    @property
    def times_s(self) -> Array:
        """Times of all, shape (n,)."""
        return self.rows[:, 0]

    @property
    def failed_s(self) -> Array:
        """Times of those that hold nothing."""
        return np.asarray(self.rows[self.rows[:, 4] == 0.0, 0])

    @property
    def holding_s(self) -> Array:
        """Times of those that hold something."""
        return np.asarray(self.rows[self.rows[:, 4] != 0.0, 0])

    @property
    def last_s(self) -> float:
        """Time of the last one, s; minus infinity of none."""
        return float(self.rows[-1, 0]) if len(self) else -math.inf

    @property
    def counts(self) -> bool:
        """Whether any is a counter's."""
        return bool(np.isfinite(self.rows[:, 2]).any())

    def counters(self) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Times, joules and resets of those of a counter, all (n,)."""
        kept = self.rows[np.isfinite(self.rows[:, 2])]
        return kept[:, 0], kept[:, 2], kept[:, 5] != 0.0

    def seen(self, *, late: bool) -> Seen:
        """Those that hold a power.

        Args:
            late: whether a reading that was forced at an edge is far from what it shows.
        """
        kept = np.flatnonzero(np.isfinite(self.rows[:, 1]))
        rows = self.rows[kept]
        forced = (rows[:, 3] != 0.0) & late
        return Seen(rows[:, 0], rows[:, 1], kept + self.dropped, forced)


class Seen(NamedTuple):
    """Readings of a power, all of shape (n,).

    Attributes:
        times_s: their times, s.
        power_w: their powers, W.
        places: their places among all that were ever added.
        forced: those of a late meter that were forced at an edge. They are as far from the edge's
            step as the meter is late, so that lines which end there would err to one side.
    """

    times_s: Array
    power_w: Array
    places: NDArray[np.int64]
    forced: NDArray[np.bool_]

    @property
    def spread(self) -> Seen:
        """Those that were not forced; all, if there are no others."""
        if self.forced.all() or not self.forced.any():
            return self
        kept = ~self.forced
        return Seen(self.times_s[kept], self.power_w[kept], self.places[kept], self.forced[kept])


class Scatter(Struct):
    """Squares of differences between values, W², and how many there were.

    Half their mean is the variance of values about a slow change. ``next_squares`` are those of
    values one further apart: they are larger where the power wanders instead of jumping.
    """

    squares: float = 0.0
    degrees: float = 0.0
    next_squares: float = 0.0
    next_degrees: float = 0.0

    @classmethod
    def of(cls, values_w: Array) -> Scatter:
        """That of the values of one phase, shape (n,)."""
        steps_w, far_w = np.diff(values_w), values_w[2:] - values_w[:-2]
        return cls(
            float(np.square(steps_w).sum()) / 2.0,
            float(len(steps_w)),
            float(np.square(far_w).sum()) / 2.0,
            float(len(far_w)),
        )

    def scaled(self, degrees_max: float) -> Scatter:
        """The same with fewer degrees of freedom."""
        part = min(1.0, degrees_max / self.degrees) if self.degrees else 1.0
        return Scatter(*(part * each for each in astuple(self)))

    def __add__(self, other: Scatter) -> Scatter:
        return Scatter(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

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
        if self.next_degrees < ENOUGH or not self.squares:
            return 1.0
        once, twice = self.squares / self.degrees, self.next_squares / self.next_degrees
        jumps = min(1.0, max(0.0, 2.0 - twice / once))
        return math.sqrt(jumps + (1.0 - jumps) / 6.0)


class PowerCourse:
    """A power in straight lines between values; it holds before the first and after the last.

    Args:
        times_s: in order, shape (n,), n > 0.
        power_w: at these times, W, shape (n,).
    """

    def __init__(self, times_s: Array, power_w: Array) -> None:
        self._times_s, self._power_w = times_s, power_w
        gaps_s = np.diff(times_s)
        areas_j = gaps_s * (power_w[1:] + power_w[:-1]) / 2.0
        self._until_j = np.concatenate([[0.0], np.cumsum(areas_j)])
        rises = np.diff(power_w) / np.where(gaps_s > 0.0, gaps_s, 1.0)
        self._rises = np.concatenate([rises, [0.0]])

    def between(self, start_s: Array | float, end_s: Array | float) -> Array:
        """Its integral between two times, J."""
        return np.asarray(self._until(end_s) - self._until(start_s))

    def _until(self, at_s: Array | float) -> Array:
        at = np.asarray(at_s, float)
        place = np.clip(np.searchsorted(self._times_s, at, side="right") - 1, 0, None)
        since_s = at - self._times_s[place]
        rise = np.where(since_s < 0.0, 0.0, self._rises[place])
        return np.asarray(
            self._until_j[place] + since_s * (self._power_w[place] + rise * since_s / 2.0)
        )


def blocks(times: Array, power: Array, refresh_s: float) -> NDArray[np.int64]:
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


def largest_gap_s(readings: Sequence[Reading], start_s: float, end_s: float) -> float:
    """Longest time between two readings, the edges of the window included."""
    times = np.array([start_s, *(reading.time_s for reading in readings), end_s])
    inside = np.clip(times, start_s, end_s)
    inside.sort()
    return float((inside[1:] - inside[:-1]).max())


@functools.cache
def _widened(degrees: float) -> float:
    """What one standard deviation from so many degrees of freedom is to be multiplied with."""
    return student_t.quantile(_TWO_SIGMA, degrees) / 2.0

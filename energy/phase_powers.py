"""Powers of phases through a meter that cannot tell them apart, from many rounds together.

What a late meter shows is the sum of the powers of all phases, each weighted by its part of the
reading (:meth:`fimi.energy.meters.response.MeterResponse.share_after`). Phases come in the same
order in every round and differ in length, so least squares over all rounds give the mean power of
each.

* :class:`PowerSums`       a device adds up what its readings say, without keeping them
* :class:`PowerEquations`  the normal equations of a round, which travel in its report
* :func:`solve`            the powers, with their covariance, from the equations of all rounds

The covariance is the jackknife over rounds (Miller 1974; "CR3" where observations come in
clusters). So noise that is the same for readings close to each other, and powers that differ from
round to round, are in it. To this is added what is not known of the meter's delay: the equations
are made for a delay that is one standard deviation shorter and longer as well.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.energy.calibration import student_t
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import uniform_sd_s

COLUMNS_MAX = 32
_TWO_SIGMA = 0.97725
_KEPT_S = 5.0

_Array = NDArray[np.float64]
_Numbers = Annotated[tuple[float, ...], Meta(max_length=COLUMNS_MAX * (COLUMNS_MAX + 1) // 2)]


class PowerEquations(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Normal equations of the powers of phases, for one round of one device.

    Attributes:
        columns: what has a power: names of phases, with that of the operating point behind a ``@``
            where it has one, and ``""`` for the time of no phase; shape (n,).
        gram: sums of products of two columns' shares, the upper triangle row by row, (n (n+1)/2,).
        moments: sums of power times share, W, shape (n,).
        readings: number of readings behind them.
        earlier, later: gram and moments one after the other, for a delay that is shorter and longer
            by one standard deviation; empty where the delay is known.
    """

    columns: Annotated[tuple[str, ...], Meta(max_length=COLUMNS_MAX)]
    gram: _Numbers
    moments: Annotated[tuple[float, ...], Meta(max_length=COLUMNS_MAX)]
    readings: Annotated[int, Meta(ge=0, le=2**48)]
    earlier: Annotated[tuple[float, ...], Meta(max_length=COLUMNS_MAX * (COLUMNS_MAX + 3))] = ()
    later: Annotated[tuple[float, ...], Meta(max_length=COLUMNS_MAX * (COLUMNS_MAX + 3))] = ()

    def __post_init__(self) -> None:
        count = len(self.columns)
        sizes = (len(self.gram), len(self.moments))
        whole = count * (count + 1) // 2 + count
        shifted = {len(self.earlier), len(self.later)} - {0, whole}
        if sizes != (count * (count + 1) // 2, count) or shifted:
            raise ValueError(
                f"equations of {count} powers have {sizes[0]} products and {sizes[1]} moments"
            )
        numbers = itertools.chain(self.gram, self.moments, self.earlier, self.later)
        if not all(map(math.isfinite, numbers)):
            raise ValueError("equations of powers have a number that is not finite")


class PhasePowers(Struct, frozen=True, kw_only=True):
    """Mean powers of phases over a run.

    Attributes:
        columns: as in :class:`PowerEquations`, shape (n,).
        power_w: mean power of each, W, shape (n,).
        covariance: of these, W², without the error of the gain, shape (n, n); infinite on the
            diagonal where a power cannot be told.
        rounds: number of rounds behind them.
    """

    columns: tuple[str, ...]
    power_w: _Array
    covariance: _Array
    rounds: int

    def deviation_w(self, column: str) -> float:
        """One standard deviation of a power, W, widened where there are few rounds."""
        place = self.columns.index(column)
        return math.sqrt(float(self.covariance[place, place])) * self.widened

    @property
    def widened(self) -> float:
        """What Student's t adds to two standard deviations."""
        return _widened(self.rounds - 1) if self.rounds > 1 else math.inf

    def energy(self, seconds: dict[str, float]) -> tuple[float, float]:
        """Energy of so many seconds of each column, and one standard deviation, J."""
        weights = np.array([seconds.get(column, 0.0) for column in self.columns])
        used = weights != 0.0
        value_j = float(weights[used] @ self.power_w[used])
        if np.isinf(np.diagonal(self.covariance)[used]).any():
            return value_j, math.inf
        part = self.covariance[np.ix_(used, used)]
        variance = float(weights[used] @ part @ weights[used])
        return value_j, math.sqrt(max(0.0, variance)) * self.widened


class PowerSums:
    """Adds up what readings say of the powers of phases.

    Args:
        meter: the meter of the readings.
    """

    def __init__(self, meter: MeterDescription) -> None:
        self._response = meter.response
        self._sees = not meter.counts and meter.rate_hz > 0.0 and meter.noise_w is None
        sd_s = self._response.delay_sd_s
        if self._response.window_s:
            # Looks may keep in step with the meter's refreshes, so that all are equally old.
            sd_s = math.hypot(sd_s, uniform_sd_s(self._response.refresh_s))
        delays = [self._response.delay_s]
        if sd_s:
            delays += [max(0.0, delays[0] - sd_s), delays[0] + sd_s]
        self._responses = [replace(self._response, delay_s=delay_s) for delay_s in delays]
        self._edges_s: list[float] = []
        self._columns: list[str] = []
        self._clear()

    @property
    def needed(self) -> bool:
        """Whether the meter shows powers that it may not be able to tell apart."""
        return self._response.settling_s > 0.0 or self._sees

    def begin(self, column: str, at_s: float) -> None:
        """From now on this column draws the power; ``""`` is for the time of no phase."""
        if self._edges_s and at_s < self._edges_s[-1]:
            self._edges_s, self._columns = [], []  # the clock was set
        self._edges_s.append(at_s)
        self._columns.append(column)

    def add(self, readings: Sequence[Reading]) -> None:
        """Add readings that are not later than the last edge; the last one was forced there."""
        reach_s = self._response.settling_s + 2.0 * self._response.delay_sd_s
        if not self._edges_s or not readings:
            return
        # What is not late shows at an edge the one phase or the other.
        shown = readings[:-1] if self._response.settling_s == 0.0 else readings
        pairs = [(r.time_s, r.power_w) for r in shown if r.power_w is not None]
        times_s, power_w = np.array(pairs, float).reshape(-1, 2).T
        # Before the first edge nothing is known of who drew the power.
        usable = np.isfinite(power_w) & (times_s - reach_s >= self._edges_s[0])
        times_s, power_w = times_s[usable], power_w[usable]
        if len(times_s):
            edges_s = np.array(self._edges_s)[:, np.newaxis]
            names, which = np.unique(self._columns, return_inverse=True)
            for sums, response in zip(self._sums, self._responses, strict=True):
                since = response.share_after(times_s - edges_s)
                since[:-1] -= since[1:]
                shares = np.zeros((len(names), len(times_s)))
                np.add.at(shares, which, since)
                sums.add(
                    {str(n): share for n, share in zip(names, shares, strict=True) if share.any()},
                    power_w,
                )
            self._readings += len(times_s)
        oldest_s = readings[-1].time_s - reach_s - _KEPT_S
        drop = max(0, bisect.bisect_right(self._edges_s, oldest_s) - 1)
        del self._edges_s[:drop], self._columns[:drop]

    def take(self) -> PowerEquations | None:
        """The equations of all readings since the last call.

        ``None`` if there are none, or more columns than a report holds.
        """
        columns = sorted({column for sums in self._sums for column in sums.columns})
        if not self._readings or len(columns) > COLUMNS_MAX:
            self._clear()
            return None
        (gram, moments), *shifted = [sums.of(columns) for sums in self._sums]
        found = PowerEquations(
            columns=tuple(columns),
            gram=gram,
            moments=moments,
            readings=self._readings,
            earlier=(*shifted[0][0], *shifted[0][1]) if shifted else (),
            later=(*shifted[1][0], *shifted[1][1]) if shifted else (),
        )
        self._clear()
        return found

    def _clear(self) -> None:
        self._sums = [_Sums() for _ in self._responses]
        self._readings = 0


class _Sums:
    """Sums of products by name."""

    def __init__(self) -> None:
        self.columns: set[str] = set()
        self._gram: dict[tuple[str, str], float] = {}
        self._moments: dict[str, float] = {}

    def add(self, shares: dict[str, _Array], power_w: _Array) -> None:
        self.columns |= shares.keys()
        for one, other in itertools.combinations_with_replacement(sorted(shares), 2):
            product = float(shares[one] @ shares[other])
            self._gram[one, other] = self._gram.get((one, other), 0.0) + product
        for name, share in shares.items():
            self._moments[name] = self._moments.get(name, 0.0) + float(share @ power_w)

    def of(self, columns: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        pairs = itertools.combinations_with_replacement(columns, 2)
        gram = tuple(self._gram.get(pair, 0.0) for pair in pairs)
        return gram, tuple(self._moments.get(column, 0.0) for column in columns)


def add_up(equations: Iterable[PowerEquations]) -> PowerEquations | None:
    """The equations of several reports of one round; ``None`` of none, or of too many columns."""
    found = list(equations)
    if len(found) < 2:
        return found[0] if found else None
    columns = tuple(sorted({column for each in found for column in each.columns}))
    if len(columns) > COLUMNS_MAX:
        return None
    parts = [[_matrices(each, columns, shift) for shift in (0, -1, 1)] for each in found]
    (gram, moments), earlier, later = (
        _flat(
            np.sum([part[shift][0] for part in parts], axis=0),
            np.sum([part[shift][1] for part in parts], axis=0),
        )
        for shift in range(3)
    )
    known = not any(each.earlier for each in found)
    return PowerEquations(
        columns=columns,
        gram=gram,
        moments=moments,
        readings=sum(each.readings for each in found),
        earlier=() if known else (*earlier[0], *earlier[1]),
        later=() if known else (*later[0], *later[1]),
    )


def solve(rounds: Sequence[PowerEquations]) -> PhasePowers | None:
    """Mean powers from the equations of all rounds; ``None`` of fewer than two."""
    columns = tuple(sorted({column for each in rounds for column in each.columns}))
    if len(rounds) < 2 or not columns:
        return None
    count = len(columns)
    pairs = [_matrices(each, columns, 0) for each in rounds]
    grams, moments = (np.array(each) for each in zip(*pairs, strict=True))
    gram, moment = grams.sum(axis=0), moments.sum(axis=0)
    power_w, told = _solved(gram, moment)
    number = len(rounds)
    without = np.empty((number, count))
    for place in range(number):
        without[place], told_here = _solved(gram - grams[place], moment - moments[place])
        told &= told_here
    spread = without - without.mean(axis=0)
    covariance = (number - 1) / number * spread.T @ spread
    if any(each.earlier for each in rounds):
        shifted = []
        for shift in (-1, 1):
            moved = [_matrices(each, columns, shift) for each in rounds]
            gram = np.sum([pair[0] for pair in moved], axis=0)
            shifted.append(_solved(gram, np.sum([pair[1] for pair in moved], axis=0))[0])
        slope = (shifted[1] - shifted[0]) / 2.0
        covariance += np.outer(slope, slope)
    covariance[~told, :] = covariance[:, ~told] = 0.0
    covariance[~told, ~told] = math.inf
    return PhasePowers(columns=columns, power_w=power_w, covariance=covariance, rounds=number)


def _matrices(
    equations: PowerEquations, columns: Sequence[str], shift: int
) -> tuple[_Array, _Array]:
    """Gram matrix (n, n) and moments (n,) of these columns, for a delay shifted by −1, 0 or 1."""
    own = len(equations.columns)
    gram, moments = equations.gram, equations.moments
    if shift and (numbers := equations.earlier if shift < 0 else equations.later):
        gram, moments = numbers[: len(gram)], numbers[len(gram) :]
    matrix = np.zeros((len(columns), len(columns)))
    vector = np.zeros(len(columns))
    places = [columns.index(c) if c in columns else -1 for c in equations.columns]
    pairs = itertools.combinations_with_replacement(range(own), 2)
    for (one, other), value in zip(pairs, gram, strict=True):
        if min(places[one], places[other]) >= 0:
            matrix[places[one], places[other]] = matrix[places[other], places[one]] = value
    for one, value in enumerate(moments):
        if places[one] >= 0:
            vector[places[one]] = value
    return matrix, vector


def _flat(gram: _Array, moments: _Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    upper = np.triu_indices(len(moments))
    return tuple(gram[upper].tolist()), tuple(moments.tolist())


def _solved(gram: _Array, moments: _Array) -> tuple[_Array, NDArray[np.bool_]]:
    """The least-squares solution, and which of its values the equations determine, both (n,)."""
    scale = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
    seen = scale > 0.0
    safe = np.where(seen, scale, 1.0)
    values, vectors = np.linalg.eigh(gram / np.outer(safe, safe))
    kept = values > 1e-9 * max(1.0, float(values[-1]))
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    told = seen & (np.square(vectors[:, ~kept]).sum(axis=1) < 1e-6)
    return inverse @ (moments / safe) / safe, told


@functools.cache
def _widened(degrees: int) -> float:
    return student_t.quantile(_TWO_SIGMA, degrees) / 2.0

"""Intervals over seeds.

* :func:`mean_interval`     mean with Student's t interval
* :func:`median_interval`   median with an interval between two of the values
* :func:`wilson`            a share of test images
* :func:`differences`, :func:`ratios`   pairs of the same seed
* :func:`most_known`        how far a line over seeds goes, some of which are known in part

The cost of a target that was never reached is *infinite*: it counts for medians and makes a mean
infinite. An unknown value is ``None``; it is counted, and left out of the computation. Fewer than
three values have no interval: Student's t of two is twelve times their spread, and their range
covers the median one time in two. The t interval assumes that the mean is about normal. That of the
median assumes nothing (:func:`median_level` says how sure it is).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct
from scipy import stats

from fimi.learning.training import metrics

LEAST = 3
"""Fewest values that have an interval."""
Bounds = tuple[float, float]
ANY: Bounds = (-math.inf, math.inf)
COST: Bounds = (0.0, math.inf)
SHARE: Bounds = (0.0, 1.0)
DIFFERENCE: Bounds = (-1.0, 1.0)
"""Of shares."""


class Interval(Struct, frozen=True):
    """An estimate with its interval.

    Attributes:
        value: the estimate; infinite if the target was not reached.
        low: lower end; ``None``: unknown, as with one seed or two.
        high: upper end; infinite where the data give no bound.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Sample(Struct, frozen=True, kw_only=True):
    """One quantity over all seeds.

    Attributes:
        values: one per seed; infinite: never reached; ``None``: unknown.
        mean: mean with its t interval; ``None`` if a value is infinite, or none is known.
        median: median with its interval by ranks; ``None`` if no value is known.
    """

    values: tuple[float | None, ...]
    mean: Interval | None
    median: Interval | None

    @property
    def reached(self) -> int:
        """Number of finite values."""
        return sum(value is not None and math.isfinite(value) for value in self.values)

    @property
    def never(self) -> int:
        """Number of infinite values."""
        return sum(value is not None and math.isinf(value) for value in self.values)

    @property
    def unknown(self) -> int:
        """Number of unknown values."""
        return sum(value is None for value in self.values)


def sample(values: Sequence[float | None], confidence: float, bounds: Bounds = ANY) -> Sample:
    """A quantity over all seeds.

    Args:
        values: one per seed.
        confidence: of both intervals, 0 to 1.
        bounds: what the quantity cannot leave; the interval of the mean ends there.
    """
    known = [value for value in values if value is not None]
    return Sample(
        values=tuple(values),
        mean=mean_interval(known, confidence, bounds)
        if known and all(map(math.isfinite, known))
        else None,
        median=median_interval(known, confidence) if known else None,
    )


def mean_interval(values: Sequence[float], confidence: float, bounds: Bounds = ANY) -> Interval:
    """Mean ± t · s / √n, Student's t with n − 1 degrees of freedom, cut off at the bounds.

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"the mean of {list(values)} cannot be given")
    mean = math.fsum(values) / len(values)
    if len(values) < LEAST:
        return Interval(mean)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * spread
    half /= math.sqrt(len(values))
    return Interval(mean, max(mean - half, bounds[0]), min(mean + half, bounds[1]))


def median_interval(values: Sequence[float], confidence: float) -> Interval:
    """Median between the two values, by rank, that have it between them with this confidence.

    Where even the smallest and the largest do not, it is these two (:func:`median_level`).
    Infinite values are larger than all others; a median half-way to one is infinite.

    Raises:
        ValueError: there are no values, or one is NaN or minus infinity.
    """
    if not values or any(math.isnan(v) or v == -math.inf for v in values):
        raise ValueError(f"the median of {list(values)} cannot be given")
    found = sorted(values)
    value = statistics.median(found)
    if len(found) < LEAST:
        return Interval(value)
    rank = _rank(len(found), confidence)
    return Interval(value, found[rank - 1], found[-rank])


def median_level(count: int, confidence: float) -> float:
    """How sure the interval of a median of so many values is, 0 to 1: of five 0.94 at most.

    Each value lies below the median with probability ½, so that the number of those that do is
    binomial. Exact where no two values are equal, and more than that otherwise.
    """
    return 1.0 - 2.0 * float(stats.binom.cdf(_rank(count, confidence) - 1, count, 0.5))


def _rank(count: int, confidence: float) -> int:
    """The rank, from 1, of the lower end, and counted from above of the upper end."""
    ranks = range(1, count // 2 + 1)
    sure = [r for r in ranks if 2.0 * stats.binom.cdf(r - 1, count, 0.5) <= 1.0 - confidence]
    return max(sure, default=1)


def wilson(share: float, count: int, confidence: float) -> Interval:
    """A share, 0 to 1, of so many trials with Wilson's interval (1927).

    Raises:
        ValueError: there are no trials.
    """
    return Interval(share, *metrics.wilson(round(share * count), count, confidence))


def differences(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    """``ours`` − ``theirs``, seed by seed; ``None`` where either is unknown."""
    return [None if a is None or b is None else a - b for a, b in zip(ours, theirs, strict=True)]


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    """``ours`` / ``theirs``, seed by seed.

    Infinite where only ``ours`` is infinite; 0, the limit of such ratios, where only ``theirs`` is;
    ``None`` where both are, either is unknown, or ``theirs`` is 0.
    """
    return [_ratio(a, b) for a, b in zip(ours, theirs, strict=True)]


def _ratio(a: float | None, b: float | None) -> float | None:
    if a is None or b is None or b == 0 or (math.isinf(a) and math.isinf(b)):
        return None
    return a / b


def most_known(lengths: Iterable[int]) -> int:
    """Up to which round a line goes: where the seeds that are known so far hold the most points.

    Of two that hold as many it is the one with more seeds.

    Args:
        lengths: rounds that are known of each seed.
    """
    found = [length for length in lengths if length]
    return max(sorted(set(found)), key=lambda end: end * sum(n >= end for n in found), default=0)

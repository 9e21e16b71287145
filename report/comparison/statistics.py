"""Intervals over seeds.

* :func:`mean_interval`     mean with Student's t interval
* :func:`median_interval`   median with the percentile interval of the bootstrap
* :func:`differences`, :func:`ratios`   pairs of the same seed

The cost of a target that was never reached is *infinite*: it counts for medians and makes a mean
infinite. An unknown value is ``None``; it is counted, and left out of the computation. The t
interval assumes that the mean is about normal. With few seeds a bootstrap interval is too narrow
rather than too wide (with five seeds its ends are among the five values).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from scipy import stats

_RESAMPLES = 9_999
_SEED = 20231013
_HUGE = 1e150
"""Replaces infinity where scipy would give NaN."""


class Interval(Struct, frozen=True):
    """An estimate with its interval.

    Attributes:
        value: the estimate; infinite if the target was not reached.
        low: lower end; ``None``: unknown, for example with one seed.
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
        median: median with its bootstrap interval; ``None`` if no value is known.
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


def sample(values: Sequence[float | None], confidence: float) -> Sample:
    """A quantity over all seeds; ``confidence`` is the level of both intervals, 0 to 1."""
    known = [value for value in values if value is not None]
    return Sample(
        values=tuple(values),
        mean=mean_interval(known, confidence) if known and all(map(math.isfinite, known)) else None,
        median=median_interval(known, confidence) if known else None,
    )


def mean_interval(values: Sequence[float], confidence: float) -> Interval:
    """Mean ± t · s / √n, Student's t with n − 1 degrees of freedom.

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"the mean of {list(values)} cannot be given")
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Interval(mean)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * spread
    half /= math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def median_interval(values: Sequence[float], confidence: float) -> Interval:
    """Median with the percentile interval of the bootstrap, always the same for the same values.

    Infinite values are larger than all others; a median half-way to one is infinite.

    Raises:
        ValueError: there are no values, or one is NaN or minus infinity.
    """
    if not values or any(math.isnan(v) or v == -math.inf for v in values):
        raise ValueError(f"the median of {list(values)} cannot be given")
    array = np.sort(np.minimum(np.asarray(values, np.float64), _HUGE))
    value = _back(float(np.median(array)))
    if len(array) < 2:
        return Interval(value)
    if array[0] == array[-1]:
        return Interval(value, value, value)
    found = stats.bootstrap(
        (array,),
        np.median,
        n_resamples=_RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Interval(value, _back(float(found.low)), _back(float(found.high)))


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


def _back(value: float) -> float:
    """Replace values near :data:`_HUGE` by infinity; a mean with such a value is infinite too."""
    return math.inf if value > _HUGE / 1e6 else value

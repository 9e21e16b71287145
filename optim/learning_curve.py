"""How the learning error falls with data: Δ(D) = α D^(−β) + δ0, docs/model.md (8).

The power law is the form FIMI assumes; the parameters are fitted to errors measured at several
amounts of data.

* :class:`LearningCurve`  the curve and its inverse
* :func:`fit_curve`       a curve from measurements, (33), as a :class:`CurveFit`: with intervals,
  and with what the measurements do not determine
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from fimi.energy.cost_model import Array
from fimi.optim.curve_profile import BETA_HIGH, BETA_LOW, Region, variance_of

Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]


class LearningCurve(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Δ(D) = α D^(−β) + δ0.

    Attributes:
        alpha: α, scale: the error above the floor with one sample.
        beta: β, exponent; beyond 15 the powers of D leave the range of a double.
        delta0: δ0, the error that no amount of data removes.
    """

    alpha: Positive
    beta: Positive
    delta0: NonNegative = 0.0

    def __post_init__(self) -> None:
        for field, value, low, high in (
            ("alpha", self.alpha, 1e-40, 1e40),
            ("beta", self.beta, 1e-3, 15.0),
            ("delta0", self.delta0, 0.0, 1e40),
        ):
            if not low <= value <= high:
                raise ValueError(
                    f"learning curve: {field} is {value}; it must be a number "
                    f"from {low:g} to {high:g}"
                )

    @property
    def law(self) -> str:
        """The formula with its numbers: ``Δ(D) = 5.6 D^(−0.87) + 0.033``."""
        return f"Δ(D) = {self.alpha:.3g} D^(−{self.beta:.3g}) + {self.delta0:.2g}"

    def error(self, samples: Array | float) -> Array:
        """(8) Δ(D) for D ≥ 0 of any shape; infinite for no data."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.alpha * np.asarray(samples, float) ** -self.beta + self.delta0)

    def samples(self, error: Array | float) -> Array:
        """The D at which Δ(D) equals ``error``; infinite for errors at or below δ0."""
        excess = np.maximum(np.asarray(error, float) - self.delta0, 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray((self.alpha / excess) ** (1.0 / self.beta))


class ConfidenceInterval(Struct, frozen=True, forbid_unknown_fields=True):
    """A confidence interval."""

    low: float
    high: float


_UNKNOWN = (
    ConfidenceInterval(0.0, 1e40),
    ConfidenceInterval(BETA_LOW, BETA_HIGH),
    ConfidenceInterval(0.0, 1.0),
)
_FACTOR_BETA, _FACTOR_ALPHA = 9.0, 1e4
"""Intervals beyond which a parameter counts as not determined, highest over lowest. There is none
for δ0: it is determined where β is, because only a curve that falls ever more slowly tells it."""


class CurveFit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fitted learning curve with its uncertainty.

    Attributes:
        curve: the best fit; within the range of the amounts it may be used even where its
            parameters are not identified.
        alpha: confidence interval of α.
        beta: confidence interval of β.
        delta0: confidence interval of δ0.
        residual: root mean square of measured less fitted errors.
        identified: whether the data determines all three parameters.
        problems: sentences that say what it does not determine and what would help; empty if
            identified.
        dispersion: variance of the errors about the curve over the binomial one of their test
            images; above 1 where the choice of training samples matters. ``None`` if the numbers
            of images are not known, or nothing is left to tell it from.
    """

    curve: LearningCurve
    alpha: ConfidenceInterval
    beta: ConfidenceInterval
    delta0: ConfidenceInterval
    residual: float
    identified: bool
    problems: tuple[str, ...]
    dispersion: float | None = None


def fit_curve(
    amounts: Sequence[float] | Array,
    errors: Sequence[float] | Array,
    images: Sequence[float] | Array | float | None = None,
    *,
    confidence: float = 0.95,
) -> CurveFit:
    """(33) Fit Δ(D) to measured errors by weighted least squares.

    For a given β the curve is linear in α and δ0, so that only β is searched for, between 0.02
    and 5, with 0 < α and 0 ≤ δ0. The intervals are those of the profile likelihood with the scatter
    about the curve, or with the binomial variance where the scatter is too small to be true.

    Args:
        amounts: D > 0, (n,), n ≥ 3 with at least three different amounts.
        errors: measured errors ≥ 0, (n,); with ``images`` shares of wrong answers, at most 1.
        images: number of test images behind each error, (n,) or one for all.
        confidence: confidence level of the intervals.

    Raises:
        ValueError: fewer than three amounts, values out of range, or errors that never differ.
    """
    d, e = np.asarray(amounts, float), np.asarray(errors, float)
    _check_data(d, e)
    tested = None if images is None else _checked_images(np.asarray(images, float), e)
    found = variance_of(d, e, tested)
    profile, freedom = found.profile, d.size - 3
    curve = LearningCurve(alpha=profile.alpha, beta=profile.beta, delta0=profile.delta0)
    dispersion = None
    intervals: Sequence[ConfidenceInterval] = _UNKNOWN
    if freedom > 0:
        excess = profile.squares / freedom * _student(confidence, freedom) ** 2
        if tested is not None:
            share = float((found.variance / found.of_images).mean())
            dispersion = profile.squares / freedom * share
            if _too_small(dispersion, freedom):
                excess = max(excess, _normal(confidence) ** 2 / share)
        region = profile.region(excess)
        if tested is not None and dispersion is not None and dispersion < 1.0:
            shared = (1.0 - dispersion) * profile.delta0 * (1.0 - profile.delta0) / tested.mean()
            region = _shifted(region, profile.delta0, _normal(confidence) * math.sqrt(shared))
        intervals = [ConfidenceInterval(*span) for span in region]
    problems = _doubts(d, e, curve, intervals, freedom)
    return CurveFit(
        curve=curve,
        alpha=intervals[0],
        beta=intervals[1],
        delta0=intervals[2],
        residual=float(np.sqrt(((e - curve.error(d)) ** 2).mean())),
        identified=not problems,
        problems=problems,
        dispersion=dispersion,
    )


def _check_data(amounts: Array, errors: Array) -> None:
    if amounts.ndim != 1 or amounts.shape != errors.shape:
        raise ValueError(
            f"learning curve: {amounts.shape} amounts and {errors.shape} errors; give one error "
            "per amount"
        )
    for name, values, good in (
        ("amount", amounts, np.isfinite(amounts) & (amounts > 0)),
        ("error", errors, np.isfinite(errors) & (errors >= 0)),
    ):
        if not good.all():
            i = int(np.flatnonzero(~good)[0])
            need = "> 0" if name == "amount" else "0 or more"
            raise ValueError(
                f"learning curve: {name} {i} is {values[i]}; it must be finite and {need}"
            )
    distinct = np.unique(amounts).size
    if distinct < 3:
        raise ValueError(
            f"learning curve: {distinct} different amounts of data; three parameters need at "
            "least 3, and their intervals 4 measurements"
        )
    if np.ptp(errors) <= 1e-15:
        raise ValueError(
            f"learning curve: every error is {errors[0]:.6g}; a curve cannot be fitted to no change"
        )


def _checked_images(images: Array, errors: Array) -> Array:
    if images.shape not in ((), errors.shape):
        raise ValueError(
            f"learning curve: {images.shape} numbers of images and {errors.shape} errors; give one "
            "number per error, or one for all"
        )
    images = np.broadcast_to(images, errors.shape)
    for name, values, good, need in (
        ("images", images, np.isfinite(images) & (images >= 1), "finite, 1 or more"),
        ("error", errors, errors <= 1, "a share of the test images, at most 1"),
    ):
        if not good.all():
            i = int(np.flatnonzero(~good)[0])
            raise ValueError(f"learning curve: {name} {i} is {values[i]}; it must be {need}")
    return images


def _shifted(region: Region, delta0: float, shift: float) -> Region:
    """A region whose δ0 may be off by a shift that all points have in common, besides."""
    low, high = region.delta0
    return region._replace(
        delta0=(
            max(delta0 - math.hypot(delta0 - low, shift), 0.0),
            delta0 + math.hypot(high - delta0, shift),
        )
    )


def _student(confidence: float, freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2.0, freedom))


def _normal(confidence: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(0.5 + confidence / 2.0))


def _too_small(dispersion: float, freedom: int) -> bool:
    """Whether errors of so many images would hardly ever lie so close to the curve by chance."""
    from scipy.stats import chi2

    return float(chi2.cdf(dispersion * freedom, freedom)) < 0.05


def _doubts(
    amounts: Array,
    errors: Array,
    curve: LearningCurve,
    intervals: Sequence[ConfidenceInterval],
    freedom: int,
) -> tuple[str, ...]:
    doubts = []
    alpha, beta, delta0 = intervals
    if freedom < 1:
        doubts.append(
            f"{amounts.size} measurements fit three parameters exactly, so nothing is left to say "
            "how certain they are; measure at more amounts"
        )
    if np.corrcoef(np.log(amounts), errors)[0, 1] >= 0:
        doubts.append("the error does not fall with the amount of data; measure at larger amounts")
    elif freedom > 0:
        at_limit = beta.low <= 1.001 * BETA_LOW or beta.high >= 0.999 * BETA_HIGH
        if at_limit or beta.high > _FACTOR_BETA * beta.low:
            doubts.append(
                f"β may be anything from {beta.low:.3g} to {beta.high:.3g}; measure over a wider "
                "range of amounts, or more often at each"
            )
            if delta0.high - delta0.low > 0.5 * float(curve.error(amounts.max())):
                doubts.append(
                    f"δ0 may be anything from {delta0.low:.3g} to {min(delta0.high, 1.0):.3g}: the "
                    "errors have not levelled off; measure at amounts where they do"
                )
        if alpha.high > _FACTOR_ALPHA * alpha.low:
            doubts.append(f"α may be anything from {alpha.low:.3g} to {alpha.high:.3g}")
    if curve.beta > 0.98 * BETA_HIGH or curve.beta < 1.025 * BETA_LOW:
        doubts.append(f"β ends at a limit of the search ({curve.beta:.3g}): this is no power law")
    return tuple(doubts)

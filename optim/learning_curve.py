"""How the learning error falls with data: Δ(D) = α D^(−β) + δ0, docs/model.md (8).

The power law is the form FIMI assumes; the parameters are fitted to errors measured at several
amounts of data.

* :class:`LearningCurve`  the curve and its inverse
* :func:`fit_curve`       a curve from measurements, (33), and what they do not determine
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from fimi.energy.cost_model import Array

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
    """

    curve: LearningCurve
    alpha: ConfidenceInterval
    beta: ConfidenceInterval
    delta0: ConfidenceInterval
    residual: float
    identified: bool
    problems: tuple[str, ...]


_BETAS = np.linspace(math.log(0.02), math.log(5.0), 241)


def fit_curve(
    amounts: Sequence[float] | Array, errors: Sequence[float] | Array, *, confidence: float = 0.95
) -> CurveFit:
    """(33) Fit Δ(D) to measured errors by least squares.

    For a given β the curve is linear in α and δ0, so that only β is searched for, between 0.02
    and 5, with 0 < α and 0 ≤ δ0. The intervals come from the curvature of the squares in
    (log α, log β, δ0) and Student's t with n − 3 degrees of freedom.

    Args:
        amounts: D > 0, (n,), n ≥ 3 with at least three different amounts.
        errors: measured errors ≥ 0, (n,).
        confidence: confidence level of the intervals.

    Raises:
        ValueError: fewer than three amounts, values out of range, or errors that never differ.
    """
    from scipy.optimize import minimize_scalar
    from scipy.stats import t as student

    d, e = np.asarray(amounts, float), np.asarray(errors, float)
    _check_data(d, e)
    scale = float(np.exp(np.log(d).mean()))

    def at(log_beta: float) -> tuple[float, float, float]:
        return _linear_part((d / scale) ** -math.exp(log_beta), e)

    grid = np.array([at(b)[0] for b in _BETAS])
    place = int(grid.argmin())
    low, high = _BETAS[max(place - 1, 0)], _BETAS[min(place + 1, _BETAS.size - 1)]
    log_beta = float(
        minimize_scalar(
            lambda b: at(b)[0], bounds=(low, high), method="bounded", options={"xatol": 1e-10}
        ).x
    )
    if grid[place] < at(log_beta)[0]:
        log_beta = float(_BETAS[place])
    squares, scaled_alpha, delta0 = at(log_beta)
    beta = math.exp(log_beta)
    alpha = scaled_alpha * scale**beta
    curve = LearningCurve(alpha=alpha, beta=beta, delta0=delta0)
    falling = alpha * d**-beta
    jacobian = np.stack([falling, -falling * beta * np.log(d), np.ones_like(d)], axis=1)
    freedom = d.size - 3
    spread = np.full(3, np.inf)
    if freedom > 0 and np.linalg.cond(jacobian / np.linalg.norm(jacobian, axis=0)) < 1e8:
        variance = squares / freedom
        covariance = variance * np.linalg.inv(jacobian.T @ jacobian)
        quantile = float(student.ppf(0.5 + confidence / 2.0, freedom))
        spread = quantile * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    factor = np.exp(np.minimum(spread[:2], 690.0))
    intervals = (
        ConfidenceInterval(alpha / float(factor[0]), alpha * float(factor[0])),
        ConfidenceInterval(beta / float(factor[1]), beta * float(factor[1])),
        ConfidenceInterval(max(delta0 - float(spread[2]), 0.0), delta0 + float(spread[2])),
    )
    problems = _doubts(d, e, curve, intervals, freedom)
    return CurveFit(
        curve=curve,
        alpha=intervals[0],
        beta=intervals[1],
        delta0=intervals[2],
        residual=math.sqrt(squares / d.size),
        identified=not problems,
        problems=problems,
    )


def _linear_part(shape: Array, errors: Array) -> tuple[float, float, float]:
    """Squares, α and δ0 of the best curve with a given shape D^(−β), within α > 0, δ0 ≥ 0."""
    centred = shape - shape.mean()
    alpha = float((centred * (errors - errors.mean())).sum() / max((centred**2).sum(), 1e-300))
    delta0 = float(errors.mean() - alpha * shape.mean())
    if delta0 < 0:
        alpha, delta0 = float((shape * errors).sum() / (shape**2).sum()), 0.0
    if alpha <= 0:
        alpha, delta0 = 1e-12, float(errors.mean())
    return float(((errors - alpha * shape - delta0) ** 2).sum()), alpha, delta0


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
            raise ValueError(f"learning curve: {name} {i} is {values[i]}; it must be finite, > 0")
    distinct = np.unique(amounts).size
    if distinct < 3:
        raise ValueError(
            f"learning curve: {distinct} different amounts of data; three parameters need at "
            "least 3, and their intervals 4 measurements"
        )
    if np.ptp(errors) == 0:
        raise ValueError(
            f"learning curve: every error is {errors[0]:.6g}; a curve cannot be fitted to no change"
        )


def _doubts(
    amounts: Array,
    errors: Array,
    curve: LearningCurve,
    intervals: tuple[ConfidenceInterval, ConfidenceInterval, ConfidenceInterval],
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
        if beta.high / beta.low > 9.0:
            doubts.append(
                f"β may be anything from {beta.low:.3g} to {beta.high:.3g}; measure over a wider "
                "range of amounts, or more often at each"
            )
        if alpha.high / alpha.low > 1e4:
            doubts.append(f"α may be anything from {alpha.low:.3g} to {alpha.high:.3g}")
        smallest = float(errors.min())
        if delta0.high - delta0.low > 0.5 * smallest and delta0.high > smallest:
            doubts.append(
                f"δ0 may be anything from {delta0.low:.3g} to {min(delta0.high, 1.0):.3g}: the "
                "errors have not levelled off; measure at amounts where they do"
            )
    if curve.beta > 4.9 or curve.beta < 0.0205:
        doubts.append(f"β ends at a limit of the search ({curve.beta:.3g}): this is no power law")
    return tuple(doubts)

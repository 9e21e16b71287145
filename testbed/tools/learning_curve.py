"""The output of a measured learning curve: table, fit, lines for a configuration."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec import Struct

from fimi.learning.training.curve_points import CurvePoint
from fimi.optim.known_curve import KnownCurve
from fimi.optim.learning_curve import ConfidenceInterval, CurveFit, fit_curve
from fimi.report.layout import Paper, table, wrap
from fimi.report.words import MISSING


class Row(Struct, frozen=True, kw_only=True):
    """The results of all draws of one amount.

    Attributes:
        samples: D.
        draws: number of draws.
        error: mean error, 0 to 1.
        deviation: standard deviation of the error; ``None`` with one draw.
        fitted: error by the fitted curve; ``None`` without a curve.
    """

    samples: int
    draws: int
    error: float
    deviation: float | None
    fitted: float | None


class CurveResult(Struct, frozen=True, kw_only=True):
    """The output of ``--format json``.

    Attributes:
        points: results of every training.
        rows: results by amount.
        fit: fit to all points; ``None`` if there is none.
        reason: why there is none, or empty.
        interrupted: whether the measurement was interrupted.
        known: the curve with its provenance.
    """

    points: tuple[CurvePoint, ...]
    rows: tuple[Row, ...]
    fit: CurveFit | None
    reason: str
    interrupted: bool
    known: KnownCurve | None = None


def result_of(points: Sequence[CurvePoint], *, interrupted: bool) -> CurveResult:
    """The fit and the rows of some points."""
    fit, reason = None, ""
    try:
        fit = fit_curve([p.samples for p in points], [p.error for p in points], _images_of(points))
    except ValueError as error:
        reason = str(error)
    rows = []
    for samples in sorted({point.samples for point in points}):
        errors = [point.error for point in points if point.samples == samples]
        rows.append(
            Row(
                samples=samples,
                draws=len(errors),
                error=statistics.mean(errors),
                deviation=statistics.stdev(errors) if len(errors) > 1 else None,
                fitted=float(fit.curve.error(samples)) if fit else None,
            )
        )
    return CurveResult(
        points=tuple(points), rows=tuple(rows), fit=fit, reason=reason, interrupted=interrupted
    )


def as_text(result: CurveResult, paper: Paper | None = None) -> str:
    """Table, fit, and the lines for a configuration."""
    paper = paper or Paper()
    rows = [
        (
            str(row.samples),
            str(row.draws),
            f"{row.error:.4f}",
            f"{row.deviation:.4f}" if row.deviation is not None else MISSING,
            f"{row.fitted:.4f}" if row.fitted is not None else MISSING,
        )
        for row in result.rows
    ]
    lines = [table(("samples", "draws", "error", "± s.d.", "curve"), rows, paper=paper)]
    fit = result.fit
    if fit is None:
        return "\n".join([*lines, "", f"no curve: {result.reason}"])
    lines += [
        "",
        *wrap(
            "Δ(D) = α D^(−β) + δ0, 95 % intervals by the likelihood of all draws:",
            paper.text_width,
        ),
        f"  α  = {fit.curve.alpha:.4g}  ({between(fit.alpha)})",
        f"  β  = {fit.curve.beta:.4g}  ({between(fit.beta)})",
        f"  δ0 = {fit.curve.delta0:.4g}  ({between(fit.delta0)})",
        f"  what it leaves unexplained: {fit.residual:.4f} (root mean square)",
    ]
    if said := scatter_words(result):
        lines += [f"  {line}" for line in wrap(said, paper.text_width - 2)]
    if fit.problems:
        lines += ["", "These points do not determine the curve; use it between them only:"]
        lines += [f"  {line}" for each in fit.problems for line in wrap(each, paper.text_width - 2)]
    if result.known is not None:
        lines += ["", *wrap(result.known.provenance, paper.text_width)]
    lines += [
        "",
        "[plan]",
        f"curve_alpha = {fit.curve.alpha:.6g}",
        f"curve_beta = {fit.curve.beta:.6g}",
        f"curve_delta0 = {fit.curve.delta0:.6g}",
    ]
    return "\n".join(lines)


def _images_of(points: Sequence[CurvePoint]) -> list[float] | None:
    """Test images behind each error; ``None`` if a point does not say."""
    images = [float(point.images) for point in points if point.images is not None]
    return images if len(images) == len(points) else None


def scatter_words(result: CurveResult) -> str:
    """How much of the scatter the test images explain, and what no repetition shows."""
    fit, images = result.fit, _images_of(result.points)
    if fit is None or fit.dispersion is None or not images:
        return ""
    samples, few = result.rows[-1].samples, min(images)
    error = float(fit.curve.error(samples))
    shift = 1.96 * (error * (1.0 - error) / few) ** 0.5
    return (
        f"its variance is {fit.dispersion:.2g} times that of shares of {few:.0f} test images; on "
        f"other images the whole curve may be higher or lower, at {samples} samples by about "
        f"{shift:.2g} (95 %)"
    )


def between(interval: ConfidenceInterval) -> str:
    """The ends of an interval."""
    return f"{interval.low:.3g} to {interval.high:.3g}"

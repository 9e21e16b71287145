"""A measured learning curve as a page: every training, the fit, and what is known of it."""

from __future__ import annotations

import numpy as np

from fimi.plural import plural
from fimi.report import plot_style
from fimi.report.markup import Column, Html, definitions, element, join, table
from fimi.report.plot_style import Picture
from fimi.report.skeleton import (
    badge,
    footer,
    header,
    items,
    noscript,
    notice,
    page,
    pair,
    picture,
    section,
)
from fimi.report.words import MISSING, percent
from fimi.testbed.tools.learning_curve import CurveResult, Row, between, scatter_words


def curve_page(result: CurveResult, title: str) -> str:
    """The page.

    Args:
        result: of the measurement.
        title: network and data.
    """
    drawn = {each.name: each for each in (_curve(result),) if each is not None}
    trainings = len(result.points)
    problems = result.fit.problems if result.fit is not None else ()
    content = join(
        [
            header(
                "learning curve",
                title,
                badge("interrupted") if result.interrupted else None,
                plural(trainings, "training"),
                f"{len(result.rows)} amounts of samples",
                lead="How the error falls with samples: Δ(D) = α D^(−β) + δ0",
            ),
            notice("No curve. ", result.reason) if result.fit is None else None,
            notice(
                "These points do not determine the curve; use it between them only. ",
                items(problems),
            )
            if problems
            else None,
            noscript(),
            section(
                "The curve", "", *(pair(picture(each), _fit(result)) for each in drawn.values())
            ),
            section("Every amount", "", _table(result) if result.rows else None),
            footer("Made by ", element("code", "fimi learning-curve"), "."),
        ]
    )
    return page(f"{title} · FIMI testbed", content, drawn)


def _curve(result: CurveResult) -> Picture | None:
    if not result.points:
        return None
    figure = plot_style.figure(
        420,
        xaxis=plot_style.axis(
            "samples D",
            type="log",
            tickvals=[row.samples for row in result.rows],
            ticktext=[str(row.samples) for row in result.rows],
        ),
        yaxis=plot_style.axis("error on images for validation, %", rangemode="tozero"),
    )
    figure.add_scatter(
        x=[point.samples for point in result.points],
        y=[100 * point.error for point in result.points],
        mode="markers",
        name="trained and tested",
        marker=plot_style.marker("circle", 8, plot_style.MEASURED, opacity=0.7),
        text=[
            f"<b>{point.samples} samples</b>, draw {point.draw + 1}<br>error {percent(point.error)}"
            for point in result.points
        ],
    )
    if result.fit is not None and result.rows:
        along = np.geomspace(result.rows[0].samples, result.rows[-1].samples, 200)
        figure.add_scatter(
            x=along.tolist(),
            y=(100 * result.fit.curve.error(along)).tolist(),
            mode="lines",
            name="fit",
            line={"color": plot_style.PREDICTED, "width": 2.5},
            hovertemplate="D = %{x:.0f}<br>Δ %{y:.2f} %<extra></extra>",
        )
    return Picture(
        name="curve",
        title="Error over samples",
        caption="A point for each training; the horizontal axis is logarithmic.",
        figure=figure,
    )


def _fit(result: CurveResult) -> Html | None:
    """The fit in numbers."""
    fit = result.fit
    if fit is None:
        return None
    said = scatter_words(result)
    return element(
        "div",
        element("h3", "The fit"),
        element("p", "Intervals of 95 %, by the likelihood of all draws.", class_="how"),
        definitions(
            [
                ("α", f"{fit.curve.alpha:.4g} ({between(fit.alpha)})"),
                ("β", f"{fit.curve.beta:.4g} ({between(fit.beta)})"),
                ("δ0", f"{fit.curve.delta0:.4g} ({between(fit.delta0)})"),
                ("Unexplained", f"{fit.residual:.4f}, root mean square"),
                *([("Scatter", said)] if said else []),
                *([("Provenance", result.known.provenance)] if result.known else []),
            ]
        ),
        class_="panel",
    )


def _table(result: CurveResult) -> Html:
    columns: list[Column[Row]] = [
        Column("Samples", "", lambda r: str(r.samples)),
        Column("Draws", "", lambda r: str(r.draws)),
        Column("Error", "mean", lambda r: percent(r.error)),
        Column("Error", "± 1 s.d.", lambda r: _percent(r.deviation)),
        Column("Error", "of the curve", lambda r: _percent(r.fitted)),
    ]
    return table(columns, result.rows)


def _percent(share: float | None) -> str:
    return MISSING if share is None else percent(share)

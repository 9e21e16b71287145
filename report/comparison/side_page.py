"""Experiments side by side as a page that loads nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fimi.report import plot_style
from fimi.report.comparison.page import table_of
from fimi.report.comparison.shown import shown
from fimi.report.comparison.side_by_side import MEASURES, LaidStrategy, SideBySide
from fimi.report.comparison.side_tables import legend, side_methods, side_tables
from fimi.report.markup import Html, element, join
from fimi.report.plot_style import Picture
from fimi.report.skeleton import (
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


def side_page(laid: SideBySide) -> str:
    """The page of experiments side by side."""
    found, sections = side_tables(laid), []
    drawn: dict[str, Picture] = {}
    for number, where in enumerate(dict.fromkeys(where for where, _ in found)):
        here = [each for each in laid.strategies if each.where == where]
        ratios = [
            _ratios(laid, here, k, f"ratios-{number}-{k}") for k in range(len(laid.results) - 1)
        ]
        drawn |= {each.name: each for each in ratios if each}
        sections.append(
            section(
                where or "All strategies",
                "",
                pair(*(picture(each) for each in ratios)),
                *(table_of(each, where) for at, each in found if at == where),
            )
        )
    content = join(
        [
            header(
                "experiments side by side",
                " and ".join(dict.fromkeys(r.name for r in laid.results)),
                *(
                    join([element("span", element("strong", letter), f" {what}")])
                    for letter, what in legend(laid)
                ),
            ),
            _notice(laid),
            noscript(),
            *sections,
            section("Method", "", items(side_methods(laid))),
            footer("Made from ", element("code", "results.json"), " of each."),
        ]
    )
    return page("Experiments side by side · FIMI testbed", content, drawn)


def _notice(laid: SideBySide) -> Html | None:
    if not laid.differences:
        return None
    return notice("What differs besides", items(laid.differences))


def _ratios(
    laid: SideBySide, here: Sequence[LaidStrategy], other: int, name: str
) -> Picture | None:
    """Ratios of one of the others to the first, strategy by strategy."""
    titles = [each.title for each in MEASURES.values() if each.unit != "share"]
    names = [name for name, each in MEASURES.items() if each.unit != "share"]
    figure = plot_style.figure(
        plot_style.row_height(len(names)),
        xaxis=plot_style.axis(f"{laid.letters[other + 1]}/{laid.letters[0]}", type="log"),
        yaxis=plot_style.rows(titles),
    )
    figure.add_vline(x=1.0, line={"color": plot_style.LINE, "width": 1.5, "dash": "dash"})
    anything = False
    for k, each in enumerate(here):
        rows = [
            (row + (k + 1) / (len(here) + 1) - 0.5, titles[row], median)
            for row, measure in enumerate(names)
            for median in [each.measures[measure].against[other].median]
            if median is not None and 0.0 < median.value < math.inf
        ]
        anything = anything or bool(rows)
        ends = [
            (i.value if i.low is None else i.low, i.value if i.high is None else i.high)
            for _, _, i in rows
        ]
        figure.add_scatter(
            x=[i.value for _, _, i in rows],
            y=[at for at, _, _ in rows],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [
                    (high if math.isfinite(high) else i.value) - i.value
                    for (_, _, i), (_, high) in zip(rows, ends, strict=True)
                ],
                "arrayminus": [
                    i.value - low for (_, _, i), (low, _) in zip(rows, ends, strict=True)
                ],
                "thickness": 1.2,
                "width": 3,
            },
            mode="markers",
            name=plot_style.label(each.label),
            marker={
                "size": 8,
                "color": plot_style.look(k)["color"],
                "symbol": plot_style.look(k)["symbol"],
            },
            text=[
                f"<b>{plot_style.label(each.label)}</b><br>{title}: {shown(i)}"
                for _, title, i in rows
            ],
        )
    if not anything:
        return None
    return Picture(
        name=name,
        title=f"{laid.letters[other + 1]} against {laid.letters[0]}",
        caption="Medians of ratios seed by seed, with the values between which they lie. Left of "
        "the line there is less of it; no point where a target was never reached.",
        figure=figure,
    )

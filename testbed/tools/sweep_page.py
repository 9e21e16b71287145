"""A sweep of ``fimi optimise`` as a page: energy and its bound over the first parameter, a table.

Where no plan exists the background is shaded, and the table says which constraint cannot be met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fimi.optim.problem import Objective
from fimi.optim.sweep import SweepPoint
from fimi.report import plot_style
from fimi.report.markup import Column, Html, join, table
from fimi.report.plot_style import Picture
from fimi.report.skeleton import (
    badge,
    footer,
    header,
    items,
    noscript,
    page,
    pair,
    picture,
    section,
)
from fimi.report.words import MISSING, small_percent
from fimi.testbed.tools.optimise import SCOPES, TITLES, UNITS


def sweep_page(points: Sequence[SweepPoint], objective: Objective, source: str) -> str:
    """The page.

    Args:
        points: of the sweep, one or more.
        objective: the energy that is made least.
        source: the problem's file, for the title.
    """
    drawn = {each.name: each for each in (_energy(points, objective), _samples(points)) if each}
    possible = sum(point.feasible for point in points)
    swept = ", ".join(_axis_title(name) for name in points[0].values)
    content = join(
        [
            header(
                "sweep of a planning problem",
                source,
                badge("modelled"),
                f"{len(points)} points",
                f"{len(points) - possible} without a plan" if possible < len(points) else None,
                f"least: {objective} energy of a round",
                lead=f"Over {swept}",
            ),
            noscript(),
            section("Energy of a round", "", pair(*map(picture, drawn.values()))),
            section("Every point", "", _table(points, objective)),
            section(
                "Method",
                "",
                items(
                    [
                        f"Board: {SCOPES['board']}. Dynamic: {SCOPES['dynamic']}.",
                        "A bound is certified: no plan takes less of this energy.",
                        "A sweep plans in real numbers: whole samples need a little more.",
                    ]
                ),
            ),
            footer("Made by ", "fimi optimise --sweep."),
        ]
    )
    return page(f"Sweep of {source} · FIMI testbed", content, drawn)


def infeasible_spans(points: Sequence[SweepPoint], first: str) -> list[tuple[float, float]]:
    """Ranges of the first parameter in which no plan was found for any value of the others.

    The border is half-way between the last infeasible value and the first feasible one.
    """
    values = sorted({point.values[first] for point in points})
    possible = {point.values[first] for point in points if point.feasible}
    spans: list[tuple[float, float]] = []
    for i, value in enumerate(values):
        if value in possible:
            continue
        low = value if i == 0 else (values[i - 1] + value) / 2.0
        high = value if i == len(values) - 1 else (value + values[i + 1]) / 2.0
        if spans and spans[-1][1] == low:
            low = spans.pop()[0]
        spans.append((low, high))
    return spans


def _axis_title(name: str) -> str:
    return f"{TITLES[name]}, {UNITS[name]}" if name in UNITS else TITLES[name]


def _groups(points: Sequence[SweepPoint]) -> dict[str, list[SweepPoint]]:
    """Points along the first parameter, by the values of the others in words."""
    found: dict[str, list[SweepPoint]] = {}
    for point in points:
        others = list(point.values.items())[1:]
        words = ", ".join(f"{TITLES[n]} {v:.6g} {UNITS.get(n, '')}".strip() for n, v in others)
        found.setdefault(words, []).append(point)
    return found


def _energy(points: Sequence[SweepPoint], objective: Objective) -> Picture:
    first = next(iter(points[0].values))
    known = [p.energy_j for p in points if p.energy_j is not None]
    scale, unit = plot_style.joule_unit(max(known, default=1.0))
    figure = plot_style.figure(
        420,
        xaxis=plot_style.axis(_axis_title(first)),
        yaxis=plot_style.axis(f"{objective} energy of a round, {unit} (modelled)"),
    )
    groups = _groups(points)
    for k, (words, group) in enumerate(groups.items()):
        look = plot_style.look(k)
        for what, name, line, marks in (
            ("energy_j", words or "best plan", {"width": 2.5}, True),
            ("bound_j", "certified bound", {"width": 1.5, "dash": "dot"}, False),
        ):
            values = [getattr(point, what) for point in group]
            if all(value is None for value in values):
                continue
            figure.add_scatter(
                x=[point.values[first] for point in group],
                y=[None if value is None else value / scale for value in values],
                mode="lines+markers" if marks else "lines",
                name=name,
                legendgroup=words,
                showlegend=marks or len(groups) == 1,
                connectgaps=False,
                line={"color": look["color"], "dash": look["dash"], **line},
                marker={"size": 8, "symbol": look["symbol"]},
                text=[_hover(point, objective) for point in group],
            )
    _shade(figure, points, first)
    return Picture(
        name="sweep-energy",
        title="What a round takes",
        caption="Solid: the best plan. Dotted: no plan takes less. Shaded: there is no plan.",
        figure=figure,
    )


def _samples(points: Sequence[SweepPoint]) -> Picture | None:
    if not any(point.synthetic_samples for point in points):
        return None
    first = next(iter(points[0].values))
    figure = plot_style.figure(
        420,
        xaxis=plot_style.axis(_axis_title(first)),
        yaxis=plot_style.axis("synthetic samples of all devices", rangemode="tozero"),
        showlegend=len(points[0].values) > 1,
    )
    for k, (words, group) in enumerate(_groups(points).items()):
        look = plot_style.look(k)
        figure.add_scatter(
            x=[point.values[first] for point in group],
            y=[point.synthetic_samples if point.feasible else None for point in group],
            mode="lines+markers",
            name=words,
            connectgaps=False,
            line={"color": look["color"], "dash": look["dash"], "width": 2.5},
            marker={"size": 8, "symbol": look["symbol"]},
            text=[f"{point.synthetic_samples or 0:.0f} samples" for point in group],
        )
    _shade(figure, points, first)
    return Picture(
        name="sweep-samples",
        title="What is filled in",
        caption="Synthetic samples that the best plan gives to the devices.",
        figure=figure,
    )


def _shade(figure: Any, points: Sequence[SweepPoint], first: str) -> None:
    for low, high in infeasible_spans(points, first):
        figure.add_vrect(
            x0=low,
            x1=high,
            fillcolor=plot_style.LINE,
            opacity=0.22,
            line_width=0,
            annotation_text="infeasible",
            annotation_position="top left",
        )


def _hover(point: SweepPoint, objective: Objective) -> str:
    said = ", ".join(f"{TITLES[n]} {v:.6g} {UNITS.get(n, '')}".strip() for n, v in _values(point))
    return (
        f"<b>{plot_style.label(said, 200)}</b><br>{objective} energy {_joules(point.energy_j)}"
        f"<br>bound {_joules(point.bound_j)}, gap {small_percent(point.gap_percent)}"
    )


def _values(point: SweepPoint) -> list[tuple[str, float]]:
    return list(point.values.items())


def _joules(value_j: float | None) -> str:
    return MISSING if value_j is None else f"{value_j:.5g} J"


def _value(name: str) -> Callable[[SweepPoint], str]:
    return lambda point: f"{point.values[name]:.6g}"


def _energy_of(what: str) -> Callable[[SweepPoint], str]:
    return lambda point: _joules(getattr(point, what))


def _gap_of(name: str) -> Callable[[SweepPoint], str]:
    return lambda point: small_percent(getattr(point, f"{name}_gap_percent"))


def _table(points: Sequence[SweepPoint], objective: Objective) -> Html:
    """A row per point, the energy that is made least first."""
    first, second = sorted(SCOPES, key=lambda name: name != objective)
    columns: list[Column[SweepPoint]] = [
        Column(TITLES[name], UNITS.get(name, ""), _value(name)) for name in points[0].values
    ]
    for name in (first, second):
        title = f"{name.capitalize()} energy (modelled)"
        columns += [
            Column(title, "plan", _energy_of(f"{name}_j")),
            Column(title, "bound", _energy_of(f"{name}_bound_j")),
            Column(title, "gap", _gap_of(name)),
        ]
    columns.append(Column("Δ", "", lambda p: MISSING if p.error is None else f"{p.error:.4g}"))
    columns.append(
        Column(
            "Synthetic",
            "samples",
            lambda p: MISSING if p.synthetic_samples is None else f"{p.synthetic_samples:.0f}",
        )
    )
    if not all(point.feasible for point in points):
        columns.append(
            Column("Why there is no plan", "", lambda p: p.message or p.obstacle or "", "text")
        )
    return table(columns, points)

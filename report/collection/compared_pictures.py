"""The pictures of compared runs: learning curves with bands over seeds, joules, predictions.

A band is the interval of the mean at each round, of three runs or more. With fewer there is none,
and single runs stand beside their mean. Joules of several kinds or scopes are never on one axis.
"""

from __future__ import annotations

import math

import numpy as np

from fimi.report import plot_style
from fimi.report.collection.compared import ComparedRuns
from fimi.report.collection.grouping import RunGroup
from fimi.report.comparison import statistics
from fimi.report.comparison.predicted import QUANTITIES
from fimi.report.comparison.runs import RunFigures
from fimi.report.plot_style import Picture
from fimi.report.words import joules, percent, signed_percent

_BAND = 0.16
"""Opacity of bands."""
_MARKS_MOST = 25
"""Rounds up to which each has a mark."""


def compared_pictures(found: ComparedRuns) -> list[Picture]:
    """All of them, those with nothing to show left out."""
    alone = [g for g in found.groups if "+" not in (g.runs[0].figures.kind or "+")]
    kinds = dict.fromkeys(group.joules for group in alone)
    drawn = [
        _against_rounds(found),
        *(_against_joules(found, kind, number) for number, kind in enumerate(kinds)),
        _predictions(found),
    ]
    return [each for each in drawn if each is not None]


def _look(found: ComparedRuns, group: RunGroup) -> tuple[str, str, str]:
    """Colour, dash and symbol of a group."""
    look = plot_style.look(found.groups.index(group))
    return look["color"], look["dash"], look["symbol"]


def _finished(group: RunGroup) -> list[RunFigures]:
    return [run.figures for run in group.runs if run.figures.points]


def _against_rounds(found: ComparedRuns) -> Picture | None:
    most = max((len(r.points) for g in found.groups for r in _finished(g)), default=0)
    if not most:
        return None
    figure = plot_style.figure(
        400,
        xaxis=plot_style.round_axis(most, rangemode="tozero"),
        yaxis=plot_style.accuracy_axis(),
    )
    banded = False
    for group in found.groups:
        runs = _finished(group)
        if not runs:
            continue
        colour, dash, symbol = _look(found, group)
        shared = min(len(run.points) for run in runs)
        rounds = list(range(1, shared + 1))
        samples = [
            statistics.sample(
                [run.accuracy[k] for run in runs], found.confidence, statistics.SHARE
            ).mean
            for k in range(shared)
        ]
        band = [(s.low, s.high) for s in samples if s and s.low is not None and s.high is not None]
        if len(band) == shared and shared > 1:
            banded = True
            figure.add_scatter(
                x=[*rounds, *reversed(rounds)],
                y=[100 * high for _, high in band] + [100 * low for low, _ in reversed(band)],
                mode="lines",
                fill="toself",
                fillcolor=colour,
                opacity=_BAND,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=group.letter,
            )
        elif len(runs) > 1:
            for run in runs:
                figure.add_scatter(
                    x=list(range(1, len(run.points) + 1)),
                    y=[100 * a for a in run.accuracy],
                    mode="lines",
                    line={"color": colour, "width": 1, "dash": dash},
                    opacity=0.35,
                    hoverinfo="skip",
                    showlegend=False,
                    legendgroup=group.letter,
                )
        name = plot_style.label(group.whole_name, 60)
        figure.add_scatter(
            x=rounds,
            y=[100 * s.value if s else None for s in samples],
            mode="lines+markers" if shared <= _MARKS_MOST else "lines",
            name=name,
            legendgroup=group.letter,
            line={"color": colour, "width": 2.5, "dash": dash},
            marker={"size": 6, "symbol": symbol},
            text=[
                f"<b>{name}, round {k}</b><br>{percent(s.value)}, {len(runs)} runs"
                + (
                    f"<br>{percent(s.low)} to {percent(s.high)}"
                    if s.low is not None and s.high is not None
                    else ""
                )
                for k, s in zip(rounds, samples, strict=True)
                if s
            ],
        )
    caption = "Means over the runs of a group, up to the last round that all of them have."
    if banded:
        caption += f" Bands: {100 * found.confidence:g} % intervals of the mean, of three runs on."
    caption += " Groups of two runs have thin lines instead of a band."
    return Picture(name="curves", title="Accuracy by round", caption=caption, figure=figure)


def _against_joules(found: ComparedRuns, kind: str, number: int) -> Picture | None:
    groups = [group for group in found.groups if group.joules == kind]
    most = max(
        (known[-1] for g in groups for run in _finished(g) if (known := _known_j(run))), default=0.0
    )
    if most <= 0:
        return None
    scale, unit = plot_style.joule_unit(most)
    figure = plot_style.figure(
        400,
        xaxis=plot_style.axis(f"joules of all boards so far, {unit} ({kind})", rangemode="tozero"),
        yaxis=plot_style.accuracy_axis(),
    )
    for group in groups:
        colour, dash, symbol = _look(found, group)
        runs = [(known, run) for run in _finished(group) if (known := _known_j(run))]
        for known, run in runs if len(runs) > 1 else ():
            figure.add_scatter(
                x=[value / scale for value in known],
                y=[100 * a for a in run.accuracy[: len(known)]],
                mode="lines",
                line={"color": colour, "width": 1, "dash": dash},
                opacity=0.3,
                hoverinfo="skip",
                showlegend=False,
                legendgroup=group.letter,
            )
        shared = min((len(known) for known, _ in runs), default=0)
        if not shared:
            continue
        middle_j = np.median([known[:shared] for known, _ in runs], axis=0)
        middle = np.median([run.accuracy[:shared] for _, run in runs], axis=0)
        name = plot_style.label(group.whole_name, 60)
        figure.add_scatter(
            x=(middle_j / scale).tolist(),
            y=(100 * middle).tolist(),
            mode="lines+markers" if shared <= _MARKS_MOST else "lines",
            name=name,
            legendgroup=group.letter,
            line={"color": colour, "width": 2.5, "dash": dash},
            marker={"size": 6, "symbol": symbol},
            text=[
                f"<b>{name}, round {k}</b><br>{percent(float(a))}<br>{joules(float(j))} ({kind})"
                for k, (j, a) in enumerate(zip(middle_j, middle, strict=True), 1)
            ],
        )
    return Picture(
        name=f"joules-{number}",
        title=f"Accuracy against joules, {kind}",
        caption="Thick: medians over the runs of a group, round by round. Thin: single runs. Only "
        "rounds up to which all joules are known.",
        figure=figure,
    )


def _known_j(run: RunFigures) -> list[float]:
    """Joules of the whole boards after each round, up to the first gap."""
    found = []
    for point in run.points:
        if point.energy_so_far.value_j is None:
            break
        found.append(point.energy_so_far.value_j)
    return found


def _predictions(found: ComparedRuns) -> Picture | None:
    """Errors of predicted joules and seconds, run by run, group by group."""
    rows = [group.name for group in found.groups]
    figure = plot_style.figure(
        plot_style.row_height(len(rows), row_px=44, least_px=240),
        xaxis=plot_style.axis("error of the prediction, %", zeroline=True),
        yaxis=plot_style.rows(rows),
    )
    anything = False
    for k, quantity in enumerate(QUANTITIES):
        points = [
            (row + (k - 1) * 0.22, 100 * error, run.name)
            for row, each in enumerate(found.figures)
            for error, run in zip(each.beside[quantity].error.values, each.group.runs, strict=True)
            if error is not None and math.isfinite(error)
        ]
        anything = anything or bool(points)
        figure.add_scatter(
            x=[error for _, error, _ in points],
            y=[row for row, _, _ in points],
            mode="markers",
            name=_NAMES[quantity],
            marker=plot_style.marker(plot_style.SYMBOLS[k], 9, plot_style.SERIES[k]),
            text=[
                f"<b>{plot_style.label(name, 60)}</b><br>{_NAMES[quantity]}"
                f"<br>{signed_percent(error)}"
                for _, error, name in points
            ],
        )
    if not anything:
        return None
    return Picture(
        name="predictions",
        title="Predicted against metered",
        caption="A mark for each run: (predicted − metered) / metered, over the parts of which "
        "both are known. Right of zero the plan promised more than it took.",
        figure=figure,
    )


_NAMES = {"board_j": "whole boards", "dynamic_j": "dynamic joules", "round_s": "length of a round"}

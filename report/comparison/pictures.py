"""The pictures of an experiment: accuracy against rounds and joules, and costs over a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fimi.report import plot_style
from fimi.report.comparison.result import ExperimentResult, StrategySummary
from fimi.report.comparison.runs import RunFigures, on_axis, point_text
from fimi.report.comparison.statistics import Sample, most_known
from fimi.report.plot_style import Picture
from fimi.report.words import joules, percent

_ASIDE = 0.015
"""How far strategies stand from each other over a grid key, of its span."""


def point_pictures(result: ExperimentResult, point: dict[str, Any], number: int) -> list[Picture]:
    """Accuracy against joules and rounds at one grid point; the names end with its ``number``."""
    summaries = [s for s in result.summaries if s.point == point and _runs(s)]
    if not summaries:
        return []
    most = max(
        (known[-1] for s in summaries for run in _runs(s) if (known := _known_j(run))),
        default=0.0,
    )
    scale, unit = plot_style.joule_unit(most)
    against_joules = partial(
        _curves,
        name=f"joules-{number}",
        title="Accuracy against joules",
        axis=plot_style.axis(
            f"energy of all boards so far, {unit} ({result.kind})", rangemode="tozero"
        ),
        x=lambda run: [value / scale for value in _known_j(run)],
        hover=lambda value: f"{joules(value * scale)} ({result.kind})",
    )
    against_rounds = partial(
        _curves,
        name=f"rounds-{number}",
        title="Accuracy against rounds",
        axis=plot_style.round_axis(
            max(len(run.points) for s in summaries for run in _runs(s)), rangemode="tozero"
        ),
        x=lambda run: [float(n) for n in range(1, len(run.points) + 1)],
        hover=lambda value: f"round {value:.0f}",
    )
    drawn = (against_joules, against_rounds) if most > 0 else (against_rounds,)
    return [draw(result, summaries) for draw in drawn]


def sweep_pictures(result: ExperimentResult) -> list[Picture]:
    """What reaching the target costs, and what accuracy there is in the end, over a grid key."""
    found = []
    for key in _swept(result):
        others = sorted({_elsewhere(s, key) for s in result.summaries})
        for number, other in enumerate(others):
            here = [s for s in result.summaries if _elsewhere(s, key) == other]
            where = f" ({other})" if other else ""
            slug = f"{key.replace('.', '-')}-{number}"
            draw = partial(_over_key, result, here, key)
            for cost, joule_name, whose in (
                ("board_j", "Joules", "whole boards"),
                ("dynamic_j", "Dynamic joules", "compute and upload above idle"),
            ):
                finite = [f[0] for s in here if (f := _finite(s.costs[cost])) is not None]
                if not finite:
                    continue
                scale, unit = plot_style.joule_unit(max(finite))
                found.append(
                    draw(
                        name=f"sweep-{joule_name.lower().replace(' ', '-')}-{slug}",
                        title=f"{joule_name} to the target over {key}{where}",
                        axis=plot_style.axis(
                            f"{whose}, {unit} ({result.kind})", rangemode="tozero"
                        ),
                        pick=lambda s, cost=cost: s.costs[cost],
                        scale=scale,
                    )
                )
            found.append(
                draw(
                    name=f"sweep-accuracy-{slug}",
                    title=f"Final accuracy over {key}{where}",
                    axis=plot_style.axis("accuracy on test images, %"),
                    pick=lambda s: s.final,
                    scale=0.01,
                )
            )
    return found


def _curves(
    result: ExperimentResult,
    summaries: Sequence[StrategySummary],
    *,
    name: str,
    title: str,
    axis: dict[str, Any],
    x: Any,
    hover: Any,
) -> Picture:
    figure = plot_style.figure(380, xaxis=axis, yaxis=plot_style.accuracy_axis())
    for summary in summaries:
        look = _look(result, summary.label)
        runs = [(x(run), run.accuracy) for run in _runs(summary)]
        for xs, accuracy in runs if len(runs) > 1 else ():
            figure.add_scatter(
                x=xs,
                y=[100 * a for a in accuracy[: len(xs)]],
                mode="lines",
                line={"color": look["color"], "width": 1, "dash": look["dash"]},
                opacity=0.28,
                hoverinfo="skip",
                showlegend=False,
                legendgroup=summary.label,
            )
        ended = min((len(accuracy) for _, accuracy in runs), default=0)
        shared = most_known(min(len(xs), ended) for xs, _ in runs)
        known = [(xs, accuracy) for xs, accuracy in runs if shared and len(xs) >= shared]
        if not known:
            continue
        middle_x = np.median([xs[:shared] for xs, _ in known], axis=0)
        middle = np.median([accuracy[:shared] for _, accuracy in known], axis=0)
        seeds = len(summary.records)
        some = f" ({len(known)} of {seeds} seeds)" if len(known) < seeds else ""
        figure.add_scatter(
            x=middle_x.tolist(),
            y=(100 * middle).tolist(),
            mode="lines+markers",
            name=f"{summary.label}{some}",
            legendgroup=summary.label,
            line={"color": look["color"], "width": 2.5, "dash": look["dash"]},
            marker={"size": 6, "symbol": look["symbol"]},
            text=[
                f"<b>{summary.label}, round {n}</b><br>accuracy {percent(float(a))}"
                f"<br>{hover(float(at))}"
                for n, (at, a) in enumerate(zip(middle_x, middle, strict=True), 1)
            ],
        )
    return Picture(
        name=name,
        title=title,
        caption="Thick: medians over seeds, round by round. Thin: single runs."
        + _undrawn(result, summaries, {each.legendgroup for each in figure.data if each.name}),
        figure=figure,
    )


def _undrawn(
    result: ExperimentResult, summaries: Sequence[StrategySummary], drawn: set[str]
) -> str:
    """The strategies that have runs and no line, as a sentence."""
    missing = [s.label for s in summaries if s.label not in drawn]
    return f" Not drawn, as nothing is known: {', '.join(missing)}." if missing else ""


def _over_key(
    result: ExperimentResult,
    summaries: Sequence[StrategySummary],
    key: str,
    *,
    name: str,
    title: str,
    axis: dict[str, Any],
    pick: Any,
    scale: float,
) -> Picture:
    figure = plot_style.figure(340, xaxis=plot_style.axis(key), yaxis=axis)
    values = [value for s in summaries if (value := on_axis(s.point[key])) is not None]
    labels = list(dict.fromkeys(s.label for s in summaries))
    aside = _ASIDE * (max(values) - min(values))
    for k, label in enumerate(labels):
        look = _look(result, label)
        points = sorted(
            (
                (value, pick(s))
                for s in summaries
                if s.label == label and (value := on_axis(s.point[key])) is not None
            ),
            key=lambda p: p[0],
        )
        medians = [_finite(sample) for _, sample in points]
        figure.add_scatter(
            x=[value + aside * (k - (len(labels) - 1) / 2) for value, _ in points],
            y=[None if m is None else m[0] / scale for m in medians],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [0 if m is None else (m[2] - m[0]) / scale for m in medians],
                "arrayminus": [0 if m is None else (m[0] - m[1]) / scale for m in medians],
                "thickness": 1.2,
                "width": 4,
            },
            mode="lines+markers",
            name=label,
            connectgaps=False,
            text=[
                f"<b>{label}</b><br>{key} = {value:g}<br>{m[0] / scale:.4g}" if m else ""
                for (value, _), m in zip(points, medians, strict=True)
            ],
            line={"color": look["color"], "width": 2.5, "dash": look["dash"]},
            marker={"size": 7, "symbol": look["symbol"]},
        )
    return Picture(
        name=name,
        title=title,
        caption="Strategies stand side by side. Medians over seeds, and the two values that hold "
        "each (Method says how surely), without an upper end where that is never reached; no point "
        "where the median run never got there.",
        figure=figure,
    )


def _finite(sample: Sample) -> tuple[float, float, float] | None:
    """Median and the ends of its interval as far as they are finite."""
    median = sample.median
    if median is None or math.isinf(median.value):
        return None
    low = median.value if median.low is None else median.low
    high = median.value if median.high is None or math.isinf(median.high) else median.high
    return median.value, low, high


def _look(result: ExperimentResult, label: str) -> dict[str, str]:
    labels = list(dict.fromkeys(s.label for s in result.summaries))
    return plot_style.look(labels.index(label))


def _runs(summary: StrategySummary) -> list[RunFigures]:
    return [record.cell.figures for record in summary.records if record.cell.figures is not None]


def _known_j(run: RunFigures) -> list[float]:
    """Joules of the whole boards after each round, up to the first gap."""
    return [value for point in run.points if (value := point.energy_so_far.value_j) is not None]


def _swept(result: ExperimentResult) -> list[str]:
    """Grid keys that take three numbers or more."""
    return [
        key
        for key in (result.points[0] if result.points else ())
        if len({on_axis(p[key]) for p in result.points} - {None}) > 2
    ]


def _elsewhere(summary: StrategySummary, key: str) -> str:
    return point_text({k: v for k, v in summary.point.items() if k != key})

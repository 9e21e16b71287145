"""Figures of an experiment: curves of every strategy with bands over the seeds.

Numbers come from ``results.json``. A line is the median over seeds, round by round; the band lies
between the two values that hold the median (:mod:`fimi.report.comparison.statistics`). With fewer
than three seeds there is no band, and every run is drawn as a thin line.

A seed whose joules have a gap is known up to it. A line takes those seeds and rounds that hold the
most known points (:func:`most_known`), so that it has the same seeds from its beginning to its end;
the legend says how many of how many they are, and the others are thin lines as far as they are
known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from fimi.report.comparison.predicted import joined_kinds
from fimi.report.comparison.runs import point_text
from fimi.report.comparison.statistics import LEAST, Interval, median_interval
from fimi.report.comparison.stored import StoredResult
from fimi.report.plots.curves import ACCURACY, ROUND
from fimi.report.plots.figure import Axis, Figure, FigureError, FigureSeries, joule_axis

Run = dict[str, Any]
_NOTE = "Lines: medians over seeds; bands: the values that hold the median."
_FEW = "Lines: medians over seeds; thin lines: single runs (bands need three seeds)."
_BOTH = (
    "Lines: medians over seeds; bands, from three seeds on: the values that hold the median; thin "
    "lines: single runs."
)


class _Curve(Struct, frozen=True):
    """A run: its seed, where its points lie, its accuracy there, 0 to 1, and all its rounds."""

    seed: int
    x: list[float]
    accuracy: list[float]


class _Group(Struct, frozen=True):
    """A strategy: its runs, how many seeds it has, what its joules are, whether devices train."""

    label: str
    curves: list[_Curve]
    seeds: int
    about: dict[str, str]
    devices_train: bool


def study_accuracy(result: StoredResult, point: str | None) -> Figure | None:
    """Accuracy over rounds, every strategy, with bands over seeds."""
    groups = _groups(
        result, point, lambda run: [float(n + 1) for n in range(len(_accuracy(run)))], ""
    )
    return _curves("accuracy", "Accuracy over rounds", ROUND, groups, result.confidence)


def study_accuracy_joules(result: StoredResult, point: str | None) -> Figure | None:
    """Accuracy over the joules of whole boards so far, every strategy, with bands over seeds."""
    return _over_joules(result, point, "board_j", "accuracy-joules", "energy of all boards")


def study_accuracy_dynamic(result: StoredResult, point: str | None) -> Figure | None:
    """Accuracy over the joules above idle so far, every strategy, with bands over seeds."""
    name = "accuracy-dynamic-joules"
    return _over_joules(result, point, "dynamic_j", name, "energy above idle, all boards")


def points_of(result: StoredResult) -> list[str]:
    """The grid points of an experiment, in words."""
    return list(dict.fromkeys(point_text(run.point) for run in result.runs))


def most_known(lengths: Iterable[int]) -> int:
    """Up to which round a line goes: where the seeds that are known so far hold the most points.

    Of two that hold as many it is the one with more seeds.

    Args:
        lengths: rounds that are known of each seed.
    """
    found = [length for length in lengths if length]
    return max(sorted(set(found)), key=lambda end: end * sum(n >= end for n in found), default=0)


def joules_about(runs: Iterable[Run], what: str) -> dict[str, str]:
    """What the joules of runs are, as columns: their kinds, their scopes, and what they are of."""
    known = [run["series"] for run in runs if run["series"]]
    return {
        "kind": joined_kinds(each["kind"] or "" for each in known),
        "scope": joined_kinds(each["scope"] for each in known),
        "joules": "above idle" if what == "dynamic_j" else "whole board",
    }


def _over_joules(
    result: StoredResult, point: str | None, what: str, kind: str, title: str
) -> Figure | None:
    groups = _groups(result, point, lambda run: _so_far(run["series"][what]), what)
    ends = [curve.x[-1] for group in groups for curve in group.curves if curve.x]
    if not ends:
        return None
    said = joined_kinds(
        group.about["kind"] for group in groups if any(curve.x for curve in group.curves)
    )
    axis = joule_axis(title, max(ends), said)
    return _curves(kind, "Accuracy over energy", axis, groups, result.confidence)


def _curves(
    kind: str, title: str, axis: Axis, groups: Sequence[_Group], confidence: float
) -> Figure | None:
    """A median line for each group, with its band or with its runs."""
    series: list[FigureSeries] = []
    remarks: list[str] = []
    for k, group in enumerate(groups):
        ended = min((len(curve.accuracy) for curve in group.curves), default=0)
        cut = most_known(min(len(curve.x), ended) for curve in group.curves)
        chosen = [curve for curve in group.curves if cut and len(curve.x) >= cut]
        others = [curve for curve in group.curves if curve not in chosen]
        remarks += _remarks(group, axis, chosen, others, cut, ended)
        thin = group.curves if len(chosen) < LEAST and len(group.curves) > 1 else others
        series += [
            FigureSeries(
                name=f"{group.label}, one run",
                x=tuple(curve.x),
                y=tuple(100.0 * a for a in curve.accuracy[: len(curve.x)]),
                style="thin",
                look=k,
                about={**group.about, "strategy": group.label, "seed": str(curve.seed)},
                legend=False,
            )
            for curve in thin
            if curve.x
        ]
        if chosen:
            series.append(_median(group, chosen, cut, k, confidence))
    lines = [each for each in series if each.legend]
    if not lines:
        return None
    bands = [bool(each.low) for each in lines]
    drawn = _NOTE if all(bands) else _BOTH if any(bands) else _FEW
    return Figure(
        kind=kind,
        title=title,
        x=axis,
        y=ACCURACY,
        series=tuple(series),
        note=" ".join([drawn, *remarks]),
    )


def _median(
    group: _Group, chosen: Sequence[_Curve], cut: int, look: int, confidence: float
) -> FigureSeries:
    """The line of a strategy over the seeds that are known so far."""
    bands = [median_interval([c.accuracy[n] for c in chosen], confidence) for n in range(cut)]
    middles = [median_interval([c.x[n] for c in chosen], confidence) for n in range(cut)]
    some = f" ({len(chosen)} of {group.seeds} seeds)" if len(chosen) < group.seeds else ""
    return FigureSeries(
        name=f"{group.label}{some}",
        x=tuple(middle.value for middle in middles),
        y=tuple(100.0 * band.value for band in bands),
        low=_ends(bands, lambda band: band.low),
        high=_ends(bands, lambda band: band.high),
        look=look,
        about={
            **group.about,
            "strategy": group.label,
            "seeds": str(len(chosen)),
            "of_seeds": str(group.seeds),
        },
    )


def _remarks(
    group: _Group,
    axis: Axis,
    chosen: Sequence[_Curve],
    others: Sequence[_Curve],
    cut: int,
    ended: int,
) -> list[str]:
    """What is not in the line of a strategy, and why."""
    if not chosen:
        if not group.curves:
            return [f"{group.label} is not drawn: none of its {group.seeds} seeds has a run."]
        why = (
            "the joules of the first round are known of no seed"
            if group.devices_train
            else "no device trains in it, and it has no joules of devices"
        )
        return [f"{group.label} is not drawn: {why}."]
    found = []
    if missing := group.seeds - len(group.curves):
        found.append(f"{group.label}: {missing} of {group.seeds} seeds have no run.")
    if others:
        known = ", ".join(
            f"of seed {curve.seed} up to round {len(curve.x)}"
            if curve.x
            else f"of seed {curve.seed} not of the first round"
            for curve in others
        )
        found.append(f"{group.label}: joules are known {known}; they have gaps after that.")
    if axis is not ROUND and cut < ended:
        found.append(f"The line of {group.label} ends where joules have gaps, in round {cut + 1}.")
    if any(len(curve.accuracy) > ended for curve in group.curves):
        found.append(f"The line of {group.label} ends with its shortest run, in round {ended}.")
    return found


def _ends(bands: Sequence[Interval], end: Callable[[Interval], float | None]) -> tuple[float, ...]:
    found = [end(band) for band in bands]
    return tuple(100.0 * each for each in found if each is not None) if None not in found else ()


def _groups(
    result: StoredResult, point: str | None, along: Callable[[Run], list[float]], what: str
) -> list[_Group]:
    """The runs of each strategy at a grid point.

    Args:
        result: the experiment.
        point: the point in words; ``None``: the only one.
        along: where the points of a run lie, as far as that is known.
        what: name of the joules, or empty.

    Raises:
        FigureError: there are several points and none is given, or there is no such point.
    """
    points = points_of(result)
    if point is None and len(points) > 1:
        raise FigureError(
            f"{result.name} has {len(points)} grid points; name one with --point: "
            f"{'; '.join(points[:8])}"
        )
    if point is not None and point not in points:
        raise no_point(result, point)
    chosen = points[0] if point is None and points else point
    found: dict[str, list[Run]] = {}
    for run in result.raw["runs"]:
        if point_text(run["point"]) == chosen:
            found.setdefault(run["strategy"], []).append(run)
    return [
        _Group(
            label=label,
            curves=[
                _Curve(run["seed"], along(run), _accuracy(run)) for run in runs if run["series"]
            ],
            seeds=len(runs),
            about=joules_about(runs, what) if what else {},
            devices_train=any(run["devices_train"] for run in runs),
        )
        for label, runs in found.items()
    ]


def no_point(result: StoredResult, point: str) -> FigureError:
    """There is no such grid point."""
    points = points_of(result)
    return FigureError(
        f"{result.name} has no grid point {point!r}; it has {'; '.join(points[:8]) or 'none'}"
    )


def _accuracy(run: Run) -> list[float]:
    return list(run["series"]["accuracy"])


def _so_far(joules: Sequence[float | None]) -> list[float]:
    """Sums of rounds up to each, up to the first that is not known."""
    known = itertools.takewhile(lambda value: value is not None, joules)
    return list(itertools.accumulate(value for value in known if value is not None))

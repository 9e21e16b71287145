"""Figures of an experiment: curves of every strategy with bands over the seeds, costs over a key.

Numbers come from ``results.json``. A line is the median over seeds, round by round; the band lies
between the two values that hold the median (:mod:`fimi.report.comparison.statistics`). With fewer
than three seeds there is no band, and every run is drawn as a thin line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from fimi.report.comparison.runs import point_text
from fimi.report.comparison.statistics import LEAST, Interval, median_interval
from fimi.report.comparison.stored import StoredResult
from fimi.report.plots.curves import ACCURACY, ROUND
from fimi.report.plots.figure import Axis, Figure, FigureError, FigureSeries, joule_axis

Run = dict[str, Any]
_NOTE = "Lines: medians over seeds; bands: the values that hold the median."
_FEW = "Lines: medians over seeds; thin lines: single runs (bands need three seeds)."


def study_accuracy(result: StoredResult, point: str | None) -> Figure | None:
    """Accuracy over rounds, every strategy, with bands over seeds."""
    groups = _groups(result, point)
    rounds = [
        (label, [([float(n + 1) for n in range(len(a))], a) for a in map(_accuracy, runs)])
        for label, runs in groups
    ]
    return _curves("accuracy", "Accuracy over rounds", ROUND, rounds, result.confidence)


def study_accuracy_joules(result: StoredResult, point: str | None) -> Figure | None:
    """Accuracy over the joules of whole boards so far, every strategy, with bands over seeds."""
    return _over_joules(result, point, "board_j", "accuracy-joules", "energy of all boards")


def study_accuracy_dynamic(result: StoredResult, point: str | None) -> Figure | None:
    """Accuracy over the joules above idle so far, every strategy, with bands over seeds."""
    name = "accuracy-dynamic-joules"
    return _over_joules(result, point, "dynamic_j", name, "energy above idle, all boards")


def study_cost(result: StoredResult, point: str | None) -> Figure | None:
    """Joules of whole boards to the target, over the key that the experiment's grid varies."""
    key = _key(result)
    medians: dict[str, list[tuple[float, Interval]]] = {}
    summaries = result.raw.get("summaries", ())
    for each in summaries if key else ():
        known = [
            math.inf if cost == "never" else cost
            for run in result.raw["runs"]
            if (run["strategy"], run["point"]) == (each["strategy"], each["point"])
            and (cost := run["to_target"].get("board_j")) is not None
        ]
        if known and math.isfinite((found := median_interval(known, result.confidence)).value):
            medians.setdefault(each["strategy"], []).append((float(each["point"][key]), found))
    if not medians:
        return None
    largest = max(i.value for found in medians.values() for _, i in found)
    return Figure(
        kind="cost",
        title=f"Joules to the target over {key}",
        x=Axis(name=str(key), title=str(key)),
        y=joule_axis("energy to the target", largest, result.energy_kind),
        series=tuple(
            FigureSeries(
                name=label,
                x=tuple(x for x, _ in sorted(found, key=lambda pair: pair[0])),
                y=tuple(i.value for _, i in sorted(found, key=lambda pair: pair[0])),
                low=tuple(i.low for _, i in sorted(found, key=lambda pair: pair[0])),
                high=tuple(_finite(i.high) for _, i in sorted(found, key=lambda pair: pair[0])),
                look=k,
                about={"kind": result.energy_kind, "scope": "board"},
            )
            for k, (label, found) in enumerate(medians.items())
        ),
        note=f"Target: {result.target}. Medians over seeds, bars between the values that hold "
        "them; no point where the median run never reached it.",
    )


def points_of(result: StoredResult) -> list[str]:
    """The grid points of an experiment, in words."""
    return list(dict.fromkeys(point_text(run.point) for run in result.runs))


def _over_joules(
    result: StoredResult, point: str | None, what: str, kind: str, title: str
) -> Figure | None:
    groups = [
        (label, [(_so_far(run["series"][what]), _accuracy(run)) for run in runs])
        for label, runs in _groups(result, point)
    ]
    ends = [x[-1] for _, runs in groups for x, _ in runs if x]
    if not ends:
        return None
    axis = joule_axis(title, max(ends), result.energy_kind)
    about = {"kind": result.energy_kind, "scope": "board" if what == "board_j" else "dynamic"}
    return _curves(kind, "Accuracy over energy", axis, groups, result.confidence, about)


def _curves(
    kind: str,
    title: str,
    axis: Axis,
    groups: Sequence[tuple[str, Sequence[tuple[Sequence[float], Sequence[float]]]]],
    confidence: float,
    about: dict[str, str] | None = None,
) -> Figure | None:
    """A median line for each group, with its band or with its runs."""
    series: list[FigureSeries] = []
    few = True
    for k, (label, runs) in enumerate(groups):
        shared = min((len(x) for x, _ in runs), default=0)
        if not shared:
            continue
        said = {"seeds": str(len(runs)), **(about or {})}
        if len(runs) < LEAST and len(runs) > 1:
            series += [
                FigureSeries(
                    name="",
                    x=tuple(x),
                    y=tuple(100.0 * a for a in accuracy[: len(x)]),
                    style="thin",
                    look=k,
                    about={**said, "strategy": label},
                )
                for x, accuracy in runs
            ]
        bands = [median_interval([a[n] for _, a in runs], confidence) for n in range(shared)]
        middles = [median_interval([x[n] for x, _ in runs], confidence) for n in range(shared)]
        few = few and len(runs) < LEAST
        series.append(
            FigureSeries(
                name=label,
                x=tuple(middle.value for middle in middles),
                y=tuple(100.0 * band.value for band in bands),
                low=_ends(bands, lambda band: band.low),
                high=_ends(bands, lambda band: band.high),
                look=k,
                about={**said, "strategy": label},
            )
        )
    if not series:
        return None
    return Figure(
        kind=kind,
        title=title,
        x=axis,
        y=ACCURACY,
        series=tuple(series),
        note=_FEW if few else _NOTE,
    )


def _ends(bands: Sequence[Interval], end: Callable[[Interval], float | None]) -> tuple[float, ...]:
    found = [end(band) for band in bands]
    return tuple(100.0 * each for each in found if each is not None) if None not in found else ()


def _groups(result: StoredResult, point: str | None) -> list[tuple[str, list[Run]]]:
    """The runs of each strategy at a grid point.

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
        raise FigureError(
            f"{result.name} has no grid point {point!r}; it has {'; '.join(points[:8]) or 'none'}"
        )
    chosen = points[0] if point is None and points else point
    found: dict[str, list[Run]] = {}
    for run in result.raw["runs"]:
        if point_text(run["point"]) == chosen and run["series"]:
            found.setdefault(run["strategy"], []).append(run)
    return list(found.items())


def _accuracy(run: Run) -> list[float]:
    return list(run["series"]["accuracy"])


def _so_far(joules: Sequence[float | None]) -> list[float]:
    """Sums of rounds up to each, up to the first that is not known."""
    known = itertools.takewhile(lambda value: value is not None, joules)
    return list(itertools.accumulate(value for value in known if value is not None))


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def _key(result: StoredResult) -> str | None:
    """The first grid key that takes three numbers or more."""
    for key in result.runs[0].point if result.runs else ():
        values = {run.point.get(key) for run in result.runs}
        if len({v for v in values if isinstance(v, int | float)}) > 2:
            return key
    return None

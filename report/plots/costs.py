"""The figure of an experiment with a grid: joules to the target over one of its keys.

Where the grid has several keys, a strategy has a line for each of the values that the others take;
no line joins points that differ in anything but the key along the axis.
"""

from __future__ import annotations

import math

from msgspec import Struct

from fimi.report.comparison.predicted import joined_kinds
from fimi.report.comparison.runs import on_axis, point_text
from fimi.report.comparison.statistics import Interval, median_interval
from fimi.report.comparison.stored import StoredResult, StoredRun
from fimi.report.plots.figure import Axis, Figure, FigureError, FigureSeries, joule_axis
from fimi.report.plots.studies import joules_about, no_point, points_of

_MOST = 9
"""Lines that can be told apart."""


class _Cost(Struct, frozen=True):
    """A strategy at a value of the key: the median, of how many seeds, and of how many in all.

    There is no median where no seed's cost is known, or the median run never got there.
    """

    x: float
    found: Interval | None
    known: int
    seeds: int

    @property
    def columns(self) -> dict[str, str]:
        """Beside it in the CSV."""
        why = "" if self.found else "never reached" if self.known else "not known"
        return {"seeds": str(self.known), "of_seeds": str(self.seeds), "missing": why}


def study_cost(result: StoredResult, point: str | None, over: str | None = None) -> Figure | None:
    """Joules of whole boards to the target, over a key that the experiment's grid varies."""
    key = _key(result, over)
    if key is None:
        return None
    runs = _chosen(result, key, point)
    lines: dict[tuple[str, str], dict[float, list[StoredRun]]] = {}
    for run in runs:
        if (x := on_axis(run.point.get(key))) is not None:
            line = lines.setdefault((run.strategy, _elsewhere(run, key)), {})
            line.setdefault(x, []).append(run)
    costs = {
        name: [_cost(x, own, result.confidence) for x, own in sorted(line.items())]
        for name, line in lines.items()
    }
    told = {name: each for name, each in costs.items() if any(c.found for c in each)}
    if not told:
        return None
    if len(told) > _MOST:
        raise FigureError(
            f"{result.name} would have {len(told)} lines over {key}, as its grid has other keys; "
            f"name the values of these by a point: --point '{points_of(result)[0]}'"
        )
    several = len({where for _, where in told}) > 1
    about = {
        name: joules_about((r for r in result.raw["runs"] if r["strategy"] == name[0]), "board_j")
        for name in told
    }
    largest = max(c.found.value for each in told.values() for c in each if c.found)
    return Figure(
        kind="cost",
        title=f"Joules to the target over {key}",
        x=Axis(name=key, title=key),
        y=joule_axis(
            "energy to the target", largest, joined_kinds(a["kind"] for a in about.values())
        ),
        series=tuple(
            FigureSeries(
                name=", ".join(filter(None, [name[0], name[1] if several else ""])),
                x=tuple(c.x for c in each),
                y=tuple(c.found.value if c.found else None for c in each),
                low=tuple(c.found.low if c.found else None for c in each),
                high=tuple(_finite(c.found.high) if c.found else None for c in each),
                look=k,
                about={**about[name], "strategy": name[0], "other_keys": name[1]},
                each=tuple(c.columns for c in each),
            )
            for k, (name, each) in enumerate(told.items())
        ),
        note=" ".join(
            [
                f"Target: {result.target}. Medians over seeds, bars between the values that hold "
                "them, side by side, without an upper end where that is never reached; no point "
                "where the median run never reached it.",
                *_remarks(key, runs, told),
            ]
        ),
        dodge=True,
    )


def swept(result: StoredResult) -> list[str]:
    """The grid keys that take three numbers or more."""
    keys = dict.fromkeys(key for run in result.runs for key in run.point)
    return [
        key
        for key in keys
        if len({on_axis(run.point.get(key)) for run in result.runs} - {None}) > 2
    ]


def _key(result: StoredResult, over: str | None) -> str | None:
    found = swept(result)
    if over is not None and over not in found:
        raise FigureError(
            f"{result.name} has no grid key {over!r} with three numbers or more; it has "
            f"{', '.join(found) or 'none'}"
        )
    return over if over is not None else next(iter(found), None)


def _chosen(result: StoredResult, key: str, point: str | None) -> list[StoredRun]:
    """The runs that agree with a point in all keys but one; all runs without a point."""
    if point is None:
        return list(result.runs)
    where = {_elsewhere(r, key) for r in result.runs if point_text(r.point) == point}
    if not where:
        raise no_point(result, point)
    return [run for run in result.runs if _elsewhere(run, key) in where]


def _elsewhere(run: StoredRun, key: str) -> str:
    return point_text({k: v for k, v in run.point.items() if k != key})


def _cost(x: float, runs: list[StoredRun], confidence: float) -> _Cost:
    """What reaching the target costs at a value of the key."""
    known = [cost for run in runs if (cost := run.cost("board_j")) is not None]
    found = median_interval(known, confidence) if known else None
    if found is not None and math.isinf(found.value):
        found = None
    return _Cost(x, found, len(known), len(runs))


def _remarks(
    key: str, runs: list[StoredRun], told: dict[tuple[str, str], list[_Cost]]
) -> list[str]:
    """What is not drawn, and what is drawn of fewer seeds."""
    found = []
    words = dict.fromkeys(
        point_text({key: run.point[key]})
        for run in runs
        if key in run.point and on_axis(run.point[key]) is None
    )
    if words:
        found.append(f"Without {', '.join(words)}, which has no place on the axis.")
    few = [
        f"{', '.join(filter(None, name))} at {key} = {c.x:g}: {c.known} of {c.seeds} seeds"
        for name, each in told.items()
        for c in each
        if c.known < c.seeds
    ]
    if few:
        found.append(f"Joules to the target are not known of all seeds: {'; '.join(few)}.")
    absent = dict.fromkeys(run.strategy for run in runs)
    lacking = [label for label in absent if label not in {name for name, _ in told}]
    if lacking:
        found.append(f"{', '.join(lacking)}: no point, not known or never reached.")
    return found


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value

"""Two or more experiments side by side: the same file in emulation, on boards, on another engine.

* :func:`lay`             every strategy that the first has in common with another
* :class:`SideBySide`     what that gives
* :data:`MEASURES`        what is compared
* :func:`lettered`        experiments are A, B, C … in the order in which they were given
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from fimi.report.comparison import statistics
from fimi.report.comparison.differences import differences
from fimi.report.comparison.predicted import Quantity, joined_kinds
from fimi.report.comparison.result import ComparisonError
from fimi.report.comparison.statistics import Sample
from fimi.report.comparison.stored import StoredComparison, StoredResult, StoredRun

Unit = Literal["share", "rounds", "J", "s"]
Place = tuple[str, str, str]
"""Side (empty: as configured), grid point and strategy."""


class Measure(NamedTuple):
    """A quantity of a run.

    Attributes:
        title: for people.
        unit: of its values.
        of: its value; infinite: never reached; ``None``: unknown.
        kind: of its joules; ``None`` where it has none.
    """

    title: str
    unit: Unit
    of: Callable[[StoredRun], float | None]
    kind: Callable[[StoredRun], str | None] = lambda run: None


def _to_target(title: str, unit: Unit, cost: str) -> Measure:
    return Measure(
        f"{title} to target",
        unit,
        lambda run: run.cost(cost),
        lambda run: run.series.kind if run.series and unit == "J" else None,
    )


def _metered(title: str, unit: Unit, name: Quantity) -> Measure:
    return Measure(
        f"{title}, metered",
        unit,
        lambda run: run.series.measured_and_predicted[name].measured if run.series else None,
        lambda run: run.series.measured_and_predicted[name].energy_kind if run.series else None,
    )


def _predicted(title: str, unit: Unit, name: Quantity) -> Measure:
    return Measure(
        f"{title}, predicted",
        unit,
        lambda run: run.series.measured_and_predicted[name].predicted if run.series else None,
        lambda run: "modelled" if unit == "J" else None,
    )


MEASURES: dict[str, Measure] = {
    "final_accuracy": Measure(
        "final accuracy",
        "share",
        lambda run: run.series.accuracy[-1] if run.series and run.series.accuracy else None,
    ),
    "rounds": _to_target("rounds", "rounds", "rounds"),
    "duration_s": _to_target("time", "s", "duration_s"),
    "board_j": _to_target("board", "J", "board_j"),
    "dynamic_j": _to_target("dynamic", "J", "dynamic_j"),
    "all_board_j": _metered("board", "J", "board_j"),
    "predicted_board_j": _predicted("board", "J", "board_j"),
    "all_dynamic_j": _metered("dynamic", "J", "dynamic_j"),
    "predicted_dynamic_j": _predicted("dynamic", "J", "dynamic_j"),
    "round_s": _metered("a round", "s", "round_s"),
    "predicted_round_s": _predicted("a round", "s", "round_s"),
}
"""Accuracy, what the target cost, and what all rounds took beside what was predicted of them."""


class LaidMeasure(Struct, frozen=True, kw_only=True):
    """A quantity of a strategy in every experiment.

    Attributes:
        own: over the seeds of each experiment.
        kinds: of the joules in each; empty where there are none.
        against: the others against the first, seed by seed where both have the seed: ratios, or
            differences of an accuracy.
    """

    own: tuple[Sample, ...]
    kinds: tuple[str, ...]
    against: tuple[Sample, ...]


class LaidStrategy(Struct, frozen=True, kw_only=True):
    """A strategy at a grid point in every experiment.

    Attributes:
        side: ``tuned``; empty as configured.
        point: in words; empty where there is no grid.
        label: of the strategy.
        seeds: of each experiment; none where it does not have the strategy.
        measures: by the names of :data:`MEASURES`.
        against_baseline: the comparison with the baseline in each experiment; ``None`` where there
            is none.
    """

    side: str
    point: str
    label: str
    seeds: tuple[tuple[int, ...], ...]
    measures: dict[str, LaidMeasure]
    against_baseline: tuple[StoredComparison | None, ...]

    @property
    def where(self) -> str:
        """Grid point and side; empty without any."""
        return ", ".join(filter(None, (self.point, self.side)))


class SideBySide(Struct, frozen=True, kw_only=True):
    """Experiments side by side.

    Attributes:
        results: the experiments; the first is what the others are compared with.
        strategies: every one that the first has in common with another.
        differences: what differs between them besides, a sentence each.
        confidence: of all intervals but those of comparisons with a baseline.
    """

    results: tuple[StoredResult, ...]
    strategies: tuple[LaidStrategy, ...]
    differences: tuple[str, ...]
    confidence: float

    @property
    def letters(self) -> list[str]:
        """``A``, ``B`` and so on."""
        return lettered(self.results)


def lettered(results: Sequence[object]) -> list[str]:
    """``A``, ``B`` and so on, one for each."""
    return [chr(ord("A") + k) for k in range(len(results))]


def lay(results: Sequence[StoredResult]) -> SideBySide:
    """Lay experiments side by side.

    Args:
        results: two or more.

    Raises:
        ComparisonError: none of the others has a strategy in common with the first.
    """
    groups = [_groups(result) for result in results]
    confidence = results[0].confidence
    common = [place for place in groups[0] if any(place in other for other in groups[1:])]
    if not common:
        raise ComparisonError(
            "there is nothing to compare: no strategy is in two of them at the same grid point; "
            + "; ".join(
                f"{result.path} has {', '.join(map(_words, found)) or 'nothing'}"
                for result, found in zip(results, groups, strict=True)
            )
        )
    strategies = [
        _strategy(place, [found.get(place, {}) for found in groups], results, confidence)
        for place in common
    ]
    return SideBySide(
        results=tuple(results),
        strategies=tuple(strategies),
        differences=tuple(differences(lettered(results), results)),
        confidence=confidence,
    )


def _groups(result: StoredResult) -> dict[Place, dict[int, StoredRun]]:
    """Runs by seed, of every strategy."""
    found: dict[Place, dict[int, StoredRun]] = {}
    for side, each in result.sides.items():
        for run in each.runs:
            found.setdefault((side, *run.place), {})[run.seed] = run
    return found


def _words(place: Place) -> str:
    side, point, label = place
    return label + (f" ({', '.join(filter(None, (point, side)))})" if point or side else "")


def _strategy(
    place: Place,
    runs: Sequence[dict[int, StoredRun]],
    results: Sequence[StoredResult],
    confidence: float,
) -> LaidStrategy:
    side, point, label = place
    compared = [
        next((c for c in own if c.place == (point, label)), None)
        for result in results
        for own in [result.sides[side].comparisons if side in result.sides else ()]
    ]
    return LaidStrategy(
        side=side,
        point=point,
        label=label,
        seeds=tuple(tuple(found) for found in runs),
        measures={name: _measure(each, runs, confidence) for name, each in MEASURES.items()},
        against_baseline=tuple(compared),
    )


def _measure(each: Measure, runs: Sequence[dict[int, StoredRun]], confidence: float) -> LaidMeasure:
    share = each.unit == "share"
    bounds = statistics.SHARE if share else statistics.COST

    def against(first: dict[int, StoredRun], other: dict[int, StoredRun]) -> Sample:
        both = [seed for seed in first if seed in other]
        found = (statistics.differences if share else statistics.ratios)(
            [each.of(other[seed]) for seed in both], [each.of(first[seed]) for seed in both]
        )
        return statistics.sample(
            found, confidence, statistics.DIFFERENCE if share else statistics.COST
        )

    return LaidMeasure(
        own=tuple(
            statistics.sample([each.of(run) for run in found.values()], confidence, bounds)
            for found in runs
        ),
        kinds=tuple(
            joined_kinds(kind for run in found.values() if (kind := each.kind(run)))
            for found in runs
        ),
        against=tuple(against(runs[0], other) for other in runs[1:]),
    )

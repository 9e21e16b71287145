"""Stored runs compared, whatever they were begun for.

* :func:`compare_runs`    groups, what reaching accuracies cost each, ratios, remarks
* :class:`ComparedRuns`   what that gives
* :class:`GroupFigures`   a group in numbers
* :class:`TargetFigures`  an accuracy: its price in each group, and against the first

Every figure is that of the run's own report. Statistics are those of experiments
(:mod:`fimi.report.comparison.statistics`): fewer than three values have no interval. Accuracies are
those on the test set, as in the prices of a report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from msgspec import Struct

from fimi.record.curve import RoundPoint
from fimi.record.sums import Sum
from fimi.report.collection.contrast import Contrast, contrasts, remarks
from fimi.report.collection.grouping import ComparableRun, RunGroup, grouped
from fimi.report.comparison import statistics
from fimi.report.comparison.predicted import Beside, Quantity, beside
from fimi.report.comparison.result import ComparisonError
from fimi.report.comparison.runs import ALL_COSTS, RunFigures
from fimi.report.comparison.statistics import Sample

_JOULES = tuple(cost for cost in ALL_COSTS if cost.endswith("_j"))


LEAST_OF: dict[str, Callable[[RoundPoint], Sum]] = {
    "board_j": lambda point: point.energy_so_far,
    "total_j": lambda point: point.total_so_far,
}
"""Sums that may lack a part, and are at least what is known of them."""


class GroupFigures(Struct, frozen=True, kw_only=True):
    """A group in numbers, over its runs.

    Attributes:
        group: which.
        rounds: that were finished.
        final: accuracy after the last round, 0 to 1.
        best: highest accuracy of any round, 0 to 1.
        board: joules of whole boards in the run, as far as all of them are known.
        dynamic: of compute and upload above idle, likewise.
        least_board: the known part of ``board``.
        duration: on the fleet's clock, s.
        carbon: emissions per run, g CO2eq; without values where no intensity is given.
        beside: joules and seconds beside what was predicted of them.
    """

    group: RunGroup
    rounds: Sample
    final: Sample
    best: Sample
    board: Sample
    dynamic: Sample
    least_board: Sample
    duration: Sample
    carbon: Sample
    beside: dict[Quantity, Beside]


class PriceRatio(Struct, frozen=True, kw_only=True):
    """What an accuracy cost a group over what it cost the first, pairs of the same seed.

    Attributes:
        letter: of the group.
        pairs: seeds that both have.
        ratios: by the names of :data:`~fimi.report.comparison.runs.ALL_COSTS`; a cost that cannot
            be compared is not there.
        why_not: why joules are not; empty if they are.
    """

    letter: str
    pairs: int
    ratios: dict[str, Sample]
    why_not: str = ""


class TargetFigures(Struct, frozen=True, kw_only=True):
    """An accuracy: what reaching it cost.

    Attributes:
        target: 0 to 1, on the test set.
        why: whose target it is.
        costs: of each group, by the names of :data:`~fimi.report.comparison.runs.ALL_COSTS`;
            infinite: never reached.
        least: known part of the joules until then, likewise, of :data:`LEAST_OF`.
        carbon: emissions until then, g CO2eq, of each group.
        against: the other groups against the first.
    """

    target: float
    why: str
    costs: tuple[dict[str, Sample], ...]
    least: tuple[dict[str, Sample], ...]
    carbon: tuple[Sample, ...]
    against: tuple[PriceRatio, ...]


class ComparedRuns(Struct, frozen=True, kw_only=True):
    """Runs compared.

    Attributes:
        figures: of each group.
        targets: accuracies and what they cost.
        contrasts: what groups differ in.
        remarks: what a reader must know, a sentence each.
        confidence: of all intervals.
    """

    figures: tuple[GroupFigures, ...]
    targets: tuple[TargetFigures, ...]
    contrasts: tuple[Contrast, ...]
    remarks: tuple[str, ...]
    confidence: float

    @property
    def groups(self) -> list[RunGroup]:
        """All groups, in the order of their letters."""
        return [each.group for each in self.figures]


def compare_runs(
    runs: Sequence[ComparableRun],
    *,
    targets: Sequence[float] = (),
    confidence: float = 0.95,
) -> ComparedRuns:
    """Compare runs.

    Args:
        runs: two or more, each with a name of its own.
        targets: accuracies, 0 to 1; none: those that the runs were asked for, else one that every
            run has reached.
        confidence: of the intervals, 0 to 1.

    Raises:
        ComparisonError: there are fewer than two runs.
    """
    if len(runs) < 2:
        one = f" {runs[0].name} with" if runs else ""
        raise ComparisonError(f"there is nothing to compare{one}: name two runs or more")
    groups = grouped(runs)
    counted = [run for group in groups for run in group.runs]
    return ComparedRuns(
        figures=tuple(_figures(group, confidence) for group in groups),
        targets=tuple(
            _target(target, why, groups, confidence) for target, why in _asked(counted, targets)
        ),
        contrasts=contrasts(groups),
        remarks=remarks(groups),
        confidence=confidence,
    )


def _figures(group: RunGroup, confidence: float) -> GroupFigures:
    runs = [run.figures for run in group.runs]

    def over(values: Sequence[float | None], bounds: statistics.Bounds = statistics.COST) -> Sample:
        return statistics.sample(values, confidence, bounds)

    last = [run.points[-1] if run.points else None for run in runs]
    return GroupFigures(
        group=group,
        rounds=over([float(len(run.points)) for run in runs]),
        final=over([run.judged("final") for run in runs], statistics.SHARE),
        best=over([run.judged("best") for run in runs], statistics.SHARE),
        board=over([p.energy_so_far.value_j if p else None for p in last]),
        dynamic=over([p.dynamic_so_far.value_j if p else None for p in last], statistics.ANY),
        least_board=over([p.energy_so_far.known_j if p else None for p in last]),
        duration=over([p.elapsed_s if p else None for p in last]),
        carbon=over([_emitted_g(run) for run in group.runs]),
        beside=beside(runs, confidence),
    )


def _emitted_g(run: ComparableRun, target: float | None = None) -> float | None:
    """Emissions of a run, or until an accuracy, g CO2eq; infinite: it was never reached."""
    if run.carbon is None:
        return None
    if target is None:
        of_run = run.carbon.of_run.total
        return of_run.value_g if of_run else None
    point = run.figures.at(target, "test")
    return math.inf if point is None else run.emitted[run.figures.points.index(point)]


def _asked(runs: Sequence[ComparableRun], given: Sequence[float]) -> list[tuple[float, str]]:
    """Accuracies whose price is told, and why."""
    if given:
        return [(target, "as asked for") for target in dict.fromkeys(given)]
    own = sorted({target for run in runs for target in run.targets})
    if own:
        return [(target, "a target of the runs") for target in own]
    best = [run.figures.judged("best") for run in runs]
    known = [value for value in best if value is not None]
    if not known or min(known) <= 0:
        return []
    return [(min(known), "the highest that every run has reached")]


def _target(
    target: float, why: str, groups: Sequence[RunGroup], confidence: float
) -> TargetFigures:
    costs = [[run.figures.cost(target, "test") for run in group.runs] for group in groups]
    return TargetFigures(
        target=target,
        why=why,
        costs=tuple(
            {
                cost: statistics.sample([run[cost] for run in own], confidence, statistics.COST)
                for cost in ALL_COSTS
            }
            for own in costs
        ),
        least=tuple(_least(target, group, confidence) for group in groups),
        carbon=tuple(
            statistics.sample([_emitted_g(run, target) for run in group.runs], confidence)
            for group in groups
        ),
        against=tuple(_against(target, groups[0], group, confidence) for group in groups[1:]),
    )


def _least(target: float, group: RunGroup, confidence: float) -> dict[str, Sample]:
    there = [run.figures.at(target, "test") for run in group.runs]
    return {
        cost: statistics.sample(
            [math.inf if point is None else pick(point).known_j for point in there],
            confidence,
            statistics.COST,
        )
        for cost, pick in LEAST_OF.items()
    }


def _against(target: float, first: RunGroup, other: RunGroup, confidence: float) -> PriceRatio:
    """Ratios over the seeds that both have; of joules only where both are of the same scope."""
    seeds = [seed for seed in first.by_seed if seed in other.by_seed]

    def paid(group: RunGroup) -> list[dict[str, float | None]]:
        return [group.by_seed[seed].figures.cost(target, "test") for seed in seeds]

    why_not = _incomparable(first.runs[0].figures, other.runs[0].figures)
    ours, theirs = paid(other), paid(first)
    return PriceRatio(
        letter=other.letter,
        pairs=len(seeds),
        ratios={
            cost: statistics.sample(
                statistics.ratios([run[cost] for run in ours], [run[cost] for run in theirs]),
                confidence,
                statistics.COST,
            )
            for cost in ALL_COSTS
            if seeds and not (why_not and cost in _JOULES)
        },
        why_not=why_not if seeds else "no common seed",
    )


def _incomparable(first: RunFigures, other: RunFigures) -> str:
    """Why joules of two groups are not divided by each other; empty if they are."""
    if first.scope and other.scope and first.scope != other.scope:
        return f"{first.scope} and {other.scope}"
    return ""

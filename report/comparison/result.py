"""Every grid point and strategy in numbers, and compared with the baseline.

* :func:`compare`           what all runs come to, as an :class:`ExperimentResult`
* :class:`Record`           one cell: its run, its target, what reaching that cost
* :class:`StrategySummary`  one strategy at one grid point, over all seeds
* :class:`Comparison`       the same against the baseline, seed by seed

Runs are compared only if their stores say that the devices held the same samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from fimi.errors import RunFailedError
from fimi.record.fairness import Fairness
from fimi.report.comparison import statistics
from fimi.report.comparison.predicted import Beside, Quantity, beside, joined_kinds
from fimi.report.comparison.runs import (
    ALL_COSTS,
    AccuracyTarget,
    ComparedCell,
    RunFigures,
    point_text,
)
from fimi.report.comparison.statistics import Bounds, Interval, Sample
from fimi.report.comparison.tuning import TuningChoice
from fimi.report.words import rounds_in_words

_MOST = 12
"""Things that a note says of the runs of a strategy, after which the rest is counted."""


class ComparisonError(RunFailedError, RuntimeError):
    """Runs that cannot be compared; the message says which, why and what to do."""

    code = "X001"


class Record(Struct, frozen=True, kw_only=True):
    """One cell.

    Attributes:
        cell: which, with its run.
        target: accuracy whose price is asked for; ``None`` if the run that decides it is missing.
        costs: of reaching it, by the names of :data:`~fimi.report.comparison.runs.ALL_COSTS`;
            infinite: never reached; ``None``: not known.
        test_accuracy: on the test set when it was reached, 0 to 1; ``None`` if it never was.
        least_total_j: known part of the joules of all machines until then; as a cost.
    """

    cell: ComparedCell
    target: float | None
    costs: dict[str, float | None]
    test_accuracy: float | None = None
    least_total_j: float | None = None

    def test_interval(self, confidence: float) -> Interval | None:
        """``test_accuracy`` with Wilson's interval by the number of test images."""
        images = self.cell.figures.test_samples if self.cell.figures else None
        if self.test_accuracy is None or not images:
            return None
        return statistics.wilson(self.test_accuracy, images, confidence)


class StrategySummary(Struct, frozen=True, kw_only=True):
    """One strategy at one grid point.

    Attributes:
        point: grid key to value.
        label: of the strategy.
        records: one per seed.
        final: accuracy after the last round, 0 to 1.
        best: highest accuracy of any round, 0 to 1.
        worst: worst-device accuracy after the last round, 0 to 1.
        std: standard deviation of the accuracy over devices after it, 0 to 1.
        costs: of reaching the target.
        test_accuracy: on the test set when it was reached, of the seeds that did.
        least_total: known part of the joules of all machines until then, J.
        beside: joules and seconds of its rounds beside what was predicted of them.
    """

    point: dict[str, Any]
    label: str
    records: tuple[Record, ...]
    final: Sample
    best: Sample
    worst: Sample
    std: Sample
    costs: dict[str, Sample]
    test_accuracy: Sample
    least_total: Sample
    beside: dict[Quantity, Beside]


class Comparison(Struct, frozen=True, kw_only=True):
    """One strategy against the baseline, at one grid point, pairs of the same seed.

    Attributes:
        point: grid key to value.
        label: of the strategy.
        final: difference of the final accuracies, 0 to 1.
        best: difference of the best accuracies, 0 to 1.
        ratios: of the costs, strategy over baseline.
    """

    point: dict[str, Any]
    label: str
    final: Sample
    best: Sample
    ratios: dict[str, Sample]


class ExperimentResult(Struct, frozen=True, kw_only=True):
    """An experiment's result.

    Attributes:
        name: of the experiment.
        title: for people.
        baseline: label that the others are compared with.
        target: the accuracy whose price is asked for.
        confidence: of the intervals.
        kind: what the joules are: ``emulated``, or several kinds joined by ``+``; without
            any ``none``.
        records: every cell.
        summaries: grid point by grid point, strategy by strategy.
        comparisons: likewise, without the baseline.
        notes: runs that are missing, and what else a reader must know.
        choices: settings that were chosen for each strategy and grid point.
        tuned: the result with these; ``None`` where nothing was tuned, or the choice is not made.
    """

    name: str
    title: str
    baseline: str
    target: AccuracyTarget
    confidence: float
    kind: str
    records: tuple[Record, ...]
    summaries: tuple[StrategySummary, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
    choices: tuple[TuningChoice, ...] = ()
    tuned: ExperimentResult | None = None

    @property
    def points(self) -> list[dict[str, Any]]:
        """The grid points, in order."""
        found: list[dict[str, Any]] = []
        for summary in self.summaries:
            if summary.point not in found:
                found.append(summary.point)
        return found


def compare(
    cells: Sequence[ComparedCell],
    *,
    name: str,
    title: str,
    baseline: str,
    target: AccuracyTarget,
    confidence: float,
) -> ExperimentResult:
    """The result of all cells with their runs; the rest is as in :class:`ExperimentResult`.

    Raises:
        ComparisonError: devices held other samples in runs that are to be compared.
    """
    check_pairs(cells)
    records = [_record(target, cell, cells) for cell in cells]
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        key = (point_text(record.cell.point), record.cell.label)
        groups.setdefault(key, []).append(record)
    summaries = [_summary(group, confidence) for group in groups.values()]
    base = {point_text(s.point): s for s in summaries if s.label == baseline}
    runs = {cell.name: cell for cell in cells}.values()
    kinds = joined_kinds(run.figures.kind for run in runs if run.figures and run.figures.kind)
    notes = [f"{run.name}: {run.problem}" for run in runs if run.problem]
    notes += [f"{r.name}: {text}" for r in runs if r.figures for text in r.figures.warnings]
    if any(run.figures.config.get("data.shares") == "file" for run in runs if run.figures):
        notes.append(
            "devices have brought images of their own: that they had the same in all runs is known "
            "by their number per class and device only"
        )
    notes += [text for group in groups.values() if (text := _attendance(group))]
    notes += _remarks([[record.cell for record in group] for group in groups.values()])
    return ExperimentResult(
        name=name,
        title=title,
        baseline=baseline,
        target=target,
        confidence=confidence,
        kind=kinds or "none",
        records=tuple(records),
        summaries=tuple(summaries),
        comparisons=tuple(
            _comparison(s, base[point_text(s.point)], confidence)
            for s in summaries
            if s.label != baseline
        ),
        notes=tuple(notes),
    )


def _attendance(records: Sequence[Record]) -> str:
    """Who was missing in which rounds, what was resumed, and how warm boards were; or nothing."""
    first = records[0].cell
    told: list[str] = []
    temperatures_c: list[float] = []
    for cell in (record.cell for record in records):
        run, seed = cell.figures, f" of seed {cell.seed}"
        if run is not None:
            told += [
                f"{device} missing in {rounds_in_words(rounds)}{seed}"
                for device, rounds in run.absent.items()
            ]
            if run.resumed:
                told.append(f"run{seed} resumed {_times(run.resumed)}")
            if run.interventions:
                told.append(f"run{seed} changed by hand {_times(run.interventions)}")
            temperatures_c += run.first_temperature_c.values()
        told += [f"run{seed} {remark}" for remark in cell.remarks]
    if temperatures_c:
        ends = dict.fromkeys(f"{end(temperatures_c):.0f}" for end in (min, max))
        told.insert(0, f"processors at {' to '.join(ends)} °C in the first round that says so")
    where = f" at {point_text(first.point)}" if first.point else ""
    more = f"; and {len(told) - _MOST} more" if len(told) > _MOST else ""
    return f"{first.label}{where}: {'; '.join(told[:_MOST])}{more}" if told else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _remarks(groups: Sequence[Sequence[ComparedCell]]) -> list[str]:
    """What a reader would take for something else: too little filled, and another clock."""
    unfilled: dict[str, list[str]] = {}
    lacking: dict[str, list[int]] = {}
    alone: dict[str, None] = {}
    for group in groups:
        cell = group[0]
        done = [each.figures for each in group if each.figures is not None]
        if cell.fills_devices and done and not any(run.synthetic_samples for run in done):
            where = f" at {point_text(cell.point)}" if cell.point else ""
            limit = f"plan.error_max {cell.error_max:g}"
            unfilled.setdefault(limit, []).append(f"{cell.label}{where}")
        if missing := sum(run.undelivered for run in done):
            lacking.setdefault(cell.label, []).append(missing)
        if not cell.devices_train:
            alone[cell.label] = None
    said = [
        f"{', '.join(labels)}: devices got no synthetic samples in any run, because local data "
        f"alone meet {limit}; lower it, or fit plan.curve_* to this network and data (fimi "
        "learning-curve)"
        for limit, labels in unfilled.items()
    ]
    said += [
        f"{label}: {sum(missing)} synthetic samples that were asked for did not come, over all its "
        "runs; the notes of the devices in each run's report say why"
        for label, missing in lacking.items()
    ]
    if alone:
        said.append(
            f"{', '.join(alone)}: no device takes part, so there are no joules and no bytes; the "
            "time is what the server took on its own clock, not comparable with the devices'"
        )
    return said


def check_pairs(cells: Sequence[ComparedCell]) -> None:
    """Make sure that at each grid point and seed all strategies had the same data.

    Raises:
        ComparisonError: they had not, or a run does not say.
    """
    first: dict[tuple[str, int], tuple[ComparedCell, dict[str, str]]] = {}
    for cell in cells:
        if cell.figures is None:
            continue
        data = cell.figures.data
        if missing := [part for part, digest in data.items() if not digest]:
            raise ComparisonError(
                f"{cell.folder}: its store lacks digests ({', '.join(missing)}) and cannot "
                "be compared with others; remove that folder and run the experiment again"
            )
        other, theirs = first.setdefault((point_text(cell.point), cell.seed), (cell, data))
        differing = [part for part in data if data[part] != theirs[part]]
        if differing:
            raise ComparisonError(
                f"{cell.folder} and {other.folder} are to be compared, but had different data "
                f"({', '.join(differing)}); were the files of the data set changed in between? "
                "Remove both folders and run the experiment again"
            )


def _record(goal: AccuracyTarget, cell: ComparedCell, cells: Sequence[ComparedCell]) -> Record:
    target: float | None = goal.value
    if goal.of:
        decides = next(
            c for c in cells if (c.point, c.seed, c.label) == (cell.point, cell.seed, goal.of)
        )
        target = decides.judged(goal.which, goal.on)
    run = cell.figures
    if run is None or target is None:
        return Record(cell=cell, target=target, costs=dict.fromkeys(ALL_COSTS))
    there = run.at(target, goal.on)
    return Record(
        cell=cell,
        target=target,
        costs=run.cost(target, goal.on),
        test_accuracy=there.accuracy if there else None,
        least_total_j=there.total_so_far.known_j if there else math.inf,
    )


def fairness(figures: RunFigures | None) -> Fairness | None:
    """Accuracy by device after the last round of a run; ``None`` where no round was finished."""
    return figures.points[-1].fairness if figures is not None and figures.points else None


def _summary(records: Sequence[Record], confidence: float) -> StrategySummary:
    def over(values: Sequence[float | None], bounds: Bounds = statistics.COST) -> Sample:
        return statistics.sample(values, confidence, bounds)

    even = [fairness(r.cell.figures) for r in records]
    return StrategySummary(
        point=records[0].cell.point,
        label=records[0].cell.label,
        records=tuple(records),
        final=over([r.cell.judged("final") for r in records], statistics.SHARE),
        best=over([r.cell.judged("best") for r in records], statistics.SHARE),
        worst=over([each.worst if each else None for each in even], statistics.SHARE),
        std=over([each.std if each else None for each in even], statistics.SHARE),
        costs={cost: over([r.costs[cost] for r in records]) for cost in ALL_COSTS},
        test_accuracy=over([r.test_accuracy for r in records], statistics.SHARE),
        least_total=over([r.least_total_j for r in records]),
        beside=beside([r.cell.figures for r in records], confidence),
    )


def _comparison(ours: StrategySummary, base: StrategySummary, confidence: float) -> Comparison:
    def difference(a: Sample, b: Sample) -> Sample:
        found = statistics.differences(a.values, b.values)
        return statistics.sample(found, confidence, statistics.DIFFERENCE)

    return Comparison(
        point=ours.point,
        label=ours.label,
        final=difference(ours.final, base.final),
        best=difference(ours.best, base.best),
        ratios={
            cost: statistics.sample(
                statistics.ratios(ours.costs[cost].values, base.costs[cost].values),
                confidence,
                statistics.COST,
            )
            for cost in ALL_COSTS
        },
    )

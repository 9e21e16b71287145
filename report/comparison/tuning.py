"""Which settings suit each strategy, by runs on seeds apart from those that are reported.

* :class:`TriedSetting`    one setting of a strategy, over the tuning seeds
* :class:`TuningChoice`   all settings of a strategy at a grid point, and the one that was taken
* :func:`choose`    for every strategy and grid point

Nothing here looks at a test set, also where the experiment's target is one of the test set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from fimi.record.sums import mean
from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, point_text

Targets = dict[int, float]
"""Accuracy to reach on the validation part, 0 to 1, by seed."""


class TriedSetting(Struct, frozen=True, kw_only=True):
    """One setting of a strategy.

    Attributes:
        settings: key to value.
        reached: tuning seeds on which it reached the target.
        joules: to it, mean over these seeds, J; ``None`` if none did, or they are not known.
        accuracy: best one on the validation part, mean over all tuning seeds; ``None`` if a run is
            missing: such a setting is never taken.
        problem: why it is.
    """

    settings: dict[str, Any]
    reached: int
    joules: float | None
    accuracy: float | None
    problem: str = ""

    @property
    def rank(self) -> tuple[float, float, float]:
        """The least is the best."""
        joules = math.inf if self.joules is None else self.joules
        return -self.reached, joules, -(self.accuracy or 0.0)


class TuningChoice(Struct, frozen=True, kw_only=True):
    """What was tried for a strategy at a grid point, and what was taken.

    Attributes:
        point: grid key to value.
        label: of the strategy.
        tried: every setting, in the order of the file; for all strategies the same.
        seeds: number of tuning seeds.
    """

    point: dict[str, Any]
    label: str
    tried: tuple[TriedSetting, ...]
    seeds: int

    @property
    def taken(self) -> TriedSetting | None:
        """The best setting; ``None`` if every one lacks a run."""
        whole = [each for each in self.tried if each.accuracy is not None]
        return min(whole, key=lambda each: each.rank, default=None)


def choose(cells: Sequence[ComparedCell], target: AccuracyTarget) -> tuple[TuningChoice, ...]:
    """What suits each strategy at each grid point.

    The target of a seed is the accuracy on the validation part of the strategy that the
    experiment's target names, with that one of its settings which gives it the highest on average.
    So this strategy reaches its own target, too, and is asked for it with as few joules as all.

    Args:
        cells: runs of every strategy, setting and tuning seed; a missing one says why.
        target: of the experiment.
    """
    found = []
    for at_point in _groups(cells, lambda cell: point_text(cell.point)):
        targets = _targets(at_point, target)
        for own in _groups(at_point, lambda cell: cell.label):
            settings = _by_settings(own)
            found.append(
                TuningChoice(
                    point=own[0].point,
                    label=own[0].label,
                    tried=tuple(_tried(each, targets) for each in settings),
                    seeds=len(settings[0]),
                )
            )
    return tuple(found)


def _targets(cells: Sequence[ComparedCell], target: AccuracyTarget) -> Targets:
    if not target.of:
        return {cell.seed: target.value for cell in cells}
    best: Targets = {}
    for own in _by_settings([cell for cell in cells if cell.label == target.of]):
        judged = {cell.seed: cell.judged(target.which, "validation") for cell in own}
        known = {seed: value for seed, value in judged.items() if value is not None}
        if len(known) == len(own) and sum(known.values()) > sum(best.values()):
            best = known
    return best


def _tried(cells: Sequence[ComparedCell], targets: Targets) -> TriedSetting:
    paid, accuracy = [], []
    for cell in cells:
        run, target = cell.figures, targets.get(cell.seed)
        accuracy.append(cell.judged("best", "validation"))
        if run is not None and target is not None:
            paid.append(run.cost(target, "validation"))
    there = [each for each in paid if each["rounds"] != math.inf]
    known = [each[cells[0].saves] for each in there]
    return TriedSetting(
        settings=cells[0].settings,
        reached=len(there),
        joules=None if None in known else mean(known),
        accuracy=None if None in accuracy else mean(accuracy),
        problem="; ".join(f"{cell.name}: {cell.problem}" for cell in cells if cell.problem),
    )


def _by_settings(cells: Sequence[ComparedCell]) -> list[list[ComparedCell]]:
    return _groups(cells, lambda cell: point_text(cell.settings))


def _groups(cells: Iterable[ComparedCell], key: Any) -> list[list[ComparedCell]]:
    found: dict[str, list[ComparedCell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return list(found.values())

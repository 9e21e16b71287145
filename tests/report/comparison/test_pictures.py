"""Pictures of an experiment's page: nothing vanishes, nothing lies on something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from compared_runs import cell, rounds, run

from fimi.report.comparison.pictures import point_pictures, sweep_pictures
from fimi.report.comparison.result import ExperimentResult, compare
from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, RunFigures


def compared(cells: Sequence[ComparedCell]) -> ExperimentResult:
    target = AccuracyTarget(value=0.5)
    return compare(
        cells, name="e", title="", baseline="tfl", target=target, confidence=0.95
    )  # fmt: skip


def gappy(*joules: float | None) -> RunFigures:
    whole = run(*[0.5] * len(joules))
    return type(whole)(
        points=rounds([0.5] * len(joules), joules),
        kind=whole.kind,
        data=whole.data,
        synthetic_samples=0,
        wall_s=1.0,
    )


def test_a_seed_with_a_gap_leaves_its_strategy_in_the_picture() -> None:
    cells = [cell("tfl", seed, gappy(10.0, 10.0, 10.0)) for seed in range(3)]
    cells += [
        cell("fimi", seed, gappy(None if seed == 2 else 20.0, 20.0, 20.0)) for seed in range(3)
    ]
    cells += [cell("dark", seed, gappy(None, 20.0, 20.0)) for seed in range(3)]
    joules, accuracy = point_pictures(compared(cells), {}, 0)
    lines = {each.name: list(each.x) for each in joules.figure.data if each.showlegend is None}
    assert lines["tfl"] == [10.0, 20.0, 30.0]
    assert lines["fimi (2 of 3 seeds)"] == [20.0, 40.0, 60.0]
    assert "Not drawn, as nothing is known: dark." in joules.caption
    assert "Not drawn" not in accuracy.caption


def test_over_a_key_strategies_stand_side_by_side_and_words_have_no_place() -> None:
    """A truth value and a word are no numbers; what is drawn says the value itself."""
    values: list[Any] = [4, 8, 16, "none", True]
    cells = [
        cell(label, 0, run(0.6), point={"devices": value})
        for label in ("tfl", "fimi")
        for value in values
    ]
    picture = sweep_pictures(compared(cells))[0]
    left, right = picture.figure.data
    assert len(left.x) == len(right.x) == 3
    for value, one, other in zip((4, 8, 16), left.x, right.x, strict=True):
        assert one < value < other
        assert other - one < 0.1 * (8 - 4)
        assert (one + other) / 2 == pytest.approx(value)
    assert all(
        f"devices = {value}" in text for value, text in zip((4, 8, 16), left.text, strict=True)
    )

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.problem import ProblemError
from fimi.optim.sweep import parse_range, sweep, vary


def test_each_point_is_the_problem_planned_alone(fleet: Any) -> None:
    problem = fleet(0, 5)
    points = sweep(problem, {"t_max": [1.0, 45.0, 60.0], "error_max": [0.3, 0.35]})
    assert len(points) == 6
    for point in points:
        if not point.feasible:
            assert point.values["t_max"] == 1.0
            assert point.obstacle == "deadline"
            assert point.message
            continue
        alone = vary(
            vary(problem, "t_max", point.values["t_max"]), "error_max", point.values["error_max"]
        )
        assert point.energy_j == pytest.approx(solve(InnerSolver(alone)).energy_j, rel=1e-8)
        assert point.gap_percent is not None
        assert point.gap_percent < 1e-4
    energy = {tuple(p.values.values()): p.energy_j for p in points if p.energy_j}
    assert energy[60.0, 0.3] < energy[45.0, 0.3]  # more time
    assert energy[60.0, 0.35] < energy[60.0, 0.3]  # less data


def test_fewer_devices_and_other_partitions(fleet: Any) -> None:
    problem = fleet(0, 6, error_max=0.4)
    small = vary(problem, "devices", 3)
    assert small.devices == problem.devices[:3]
    assert small.weights.sum() == pytest.approx(1.0)
    for alpha in (1e-6, 0.1, 1e5):
        spread = vary(problem, "alpha", alpha, seed=1)
        np.testing.assert_array_equal(
            spread.local_counts.sum(axis=0), problem.local_counts.sum(axis=0)
        )
    points = sweep(problem, {"devices": [2, 4, 6], "alpha": [0.1, 100.0]}, seed=0)
    assert points == sweep(problem, {"devices": [2, 4, 6], "alpha": [0.1, 100.0]}, seed=0)
    uneven, even = (vary(problem, "alpha", a, seed=0).local_counts for a in (0.05, 1e5))
    assert uneven.std(axis=0).min() > even.std(axis=0).max()


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("t_max=5:20:4", "t_max", (5.0, 10.0, 15.0, 20.0)),
        ("alpha=0.1,1,10", "alpha", (0.1, 1.0, 10.0)),
        ("devices=1:4:3", "devices", (1.0, 2.0, 4.0)),
    ],
)
def test_ranges(text: str, name: str, values: tuple[float, ...]) -> None:
    assert parse_range(text) == (name, pytest.approx(values))


@pytest.mark.parametrize("text", ["t_max", "t_max=1:2", "t_max=a,b", "t_max=1:2:0", "colour=1"])
def test_refuses_what_is_no_range(text: str) -> None:
    with pytest.raises(ProblemError, match="--sweep"):
        parse_range(text)


def test_refuses_impossible_values(fleet: Any) -> None:
    with pytest.raises(ProblemError, match="up to 3"):
        vary(fleet(0, 3), "devices", 4)
    with pytest.raises(ProblemError, match="above 0"):
        vary(fleet(0, 3), "t_max", -1.0)
    with pytest.raises(ProblemError, match="there are"):
        vary(fleet(0, 3), "colour", 1.0)

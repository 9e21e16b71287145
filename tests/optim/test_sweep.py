from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.planner import plan
from fimi.optim.problem import FimiProblem, InfeasibleError, Objective, ProblemError
from fimi.optim.problem_file import EXAMPLE, read
from fimi.optim.sweep import SweepPoint, parse_range, sweep, vary
from tests.optim.remedies import followed
from tests.optim.truth_costs import cost_of, trial_of
from tests.optim.truth_enumeration import enumerate_plans
from tests.optim.truth_problems import Kind, Problem, planted, problems


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
        ("fleet_budget=4e3,5e3", "fleet_budget", (4000.0, 5000.0)),
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


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> FimiProblem:
    """The example of a problem file, the paper's energy made least.

    A plan without budgets makes rounds as long as it may, so that budgets shorten them.
    """
    path = tmp_path_factory.mktemp("sweep") / "problem.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    return replace(read(path)[0], objective="dynamic")


def least_of_the_fleet_j(problem: FimiProblem) -> float:
    """What a run takes at least of board energy, J."""
    return problem.rounds * solve(InnerSolver(replace(problem, objective="board"))).energy_j


def free_of_the_fleet_j(problem: FimiProblem) -> float:
    """Board energy of a run of the plan without budgets, J."""
    (free,) = sweep(problem, {"fleet_budget": [1e9]})
    assert free.board_j is not None
    return problem.rounds * free.board_j


class TestBudgets:
    def test_energy_grows_as_the_fleet_s_budget_shrinks(self, paper: FimiProblem) -> None:
        least_j, free_j = least_of_the_fleet_j(paper), free_of_the_fleet_j(paper)
        values = [least_j + share * (free_j - least_j) for share in (0.01, 0.1, 0.5, 0.9)]
        *kept, free, loose = sweep(paper, {"fleet_budget": [*values, 1.001 * free_j, 50 * free_j]})
        alone = solve(InnerSolver(paper))
        for point in (free, loose):
            assert point.dynamic_j == pytest.approx(alone.energy_j, rel=1e-8)
            assert point.board_j == pytest.approx(free_j / paper.rounds, rel=1e-6)
        energies = []
        for point, budget_j in zip(kept, values, strict=True):
            assert point.board_j is not None
            assert 0.999 * budget_j < paper.rounds * point.board_j <= budget_j
            assert point.bound_j is not None
            assert point.energy_j is not None
            assert point.bound_j <= point.energy_j <= point.bound_j * 1.001
            energies.append(point.energy_j)
        assert energies == sorted(energies, reverse=True)
        assert energies[0] > 1.5 * energies[-1] > 1.5 * alone.energy_j

    def test_a_battery_by_a_fleet_of_one(self, paper: FimiProblem) -> None:
        """What a fleet of one takes is what its device takes."""
        alone = replace(vary(paper, "devices", 1), bandwidth_hz=paper.bandwidth_hz / 3)
        budget_j = 0.5 * (least_of_the_fleet_j(alone) + free_of_the_fleet_j(alone))
        (own,) = sweep(alone, {"budget": [budget_j]})
        (fleet,) = sweep(alone, {"fleet_budget": [budget_j]})
        assert own.board_j is not None
        assert 0.999 * budget_j < alone.rounds * own.board_j <= budget_j
        assert own.energy_j == pytest.approx(fleet.energy_j, rel=1e-4)

    def test_batteries_of_all_devices(self, paper: FimiProblem) -> None:
        """The plan in whole samples, whose joules are counted one by one, takes a little more."""
        (point,) = sweep(paper, {"budget": [2000.0]})
        limited = replace(paper, budget_j=np.full(4, 2000.0))
        found = plan(limited, seed=0)
        assert cost_of(limited, trial_of(found)).broken == {}
        assert point.energy_j is not None
        assert point.energy_j > 1.1 * solve(InnerSolver(paper)).energy_j
        assert point.energy_j == pytest.approx(found.energy_j, rel=0.01)
        assert point.bound_j == pytest.approx(found.bound_j, rel=1e-4)

    def test_only_devices_that_have_a_budget_get_another(self, paper: FimiProblem) -> None:
        assert vary(paper, "budget", 50.0).budget_j.tolist() == [50.0] * 4
        one = replace(paper, budget_j=np.array([math.inf, 900.0, math.inf, math.inf]))
        changed = vary(one, "budget", 50.0).budget_j
        assert changed.tolist() == [math.inf, 50.0, math.inf, math.inf]
        assert vary(paper, "fleet_budget", 50.0).fleet_budget_j == 50.0

    @pytest.mark.parametrize(
        ("objective", "share"),
        [("board", 0.97), ("dynamic", 0.01)],  # the second below idling
    )
    def test_a_point_without_a_plan_says_what_the_planner_says(
        self, paper: FimiProblem, objective: Objective, share: float
    ) -> None:
        problem = replace(paper, objective=objective)
        budget_j = share * least_of_the_fleet_j(problem)
        (point,) = sweep(problem, {"fleet_budget": [budget_j]})
        assert point.obstacle == "energy budget"
        check_refused(vary(problem, "fleet_budget", budget_j), point)

    @pytest.mark.parametrize("seed", range(2))
    def test_other_limits_without_a_plan_name_the_budgets_too(self, seed: int) -> None:
        problem, _ = planted(seed, 2, Kind(processors="laws", empty=False))
        t_max_s = 0.05 * float(problem.t_max_s.min())
        (point,) = sweep(problem, {"fleet_budget": [1e-3], "t_max": [t_max_s]})
        assert point.obstacle == "deadline"
        check_refused(vary(vary(problem, "t_max", t_max_s), "fleet_budget", 1e-3), point)


def check_refused(problem: FimiProblem, point: SweepPoint) -> None:
    """A point has no plan, says what the planner says, and its remedies work."""
    assert not point.feasible
    assert point.energy_j is point.bound_j is point.board_bound_j is None
    with pytest.raises(InfeasibleError) as caught:
        plan(problem, seed=0)
    assert point.message == str(caught.value)
    remedies = list(followed(problem, point.message))
    assert remedies
    for words, enough in remedies:
        assert "fleet_budget_j of at least" in words
        (again,) = sweep(enough, {"devices": [problem.size]})
        assert again.feasible, words


@given(problems(sizes=(1, 3), processors="laws", budgets=True))
@settings(max_examples=6, deadline=None)
def test_points_of_laws_are_between_the_bound_and_a_plan_that_keeps_the_budgets(
    made: Problem,
) -> None:
    problem, trial = made
    (point,) = sweep(problem, {"devices": [problem.size]})
    found = plan(problem, seed=0)
    assert cost_of(problem, trial_of(found)).broken == {}
    assert point.feasible
    assert point.bound_j is not None
    assert point.energy_j is not None
    assert point.board_j is not None
    assert point.bound_j <= cost_of(problem, trial).energy_j(problem) * (1 + 1e-9)
    assert point.bound_j <= point.energy_j * (1 + 1e-9)
    assert point.energy_j <= found.energy_j * (1 + 1e-4)
    assert problem.rounds * point.board_j <= problem.fleet_budget_j * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_points_of_steps_against_complete_enumeration(seed: int) -> None:
    kind = Kind(processors="points", generated_max=10, steps_max=4, budgets=True)
    problem, _ = planted(seed, 2, kind)
    (point,) = sweep(problem, {"devices": [2]})
    best = enumerate_plans(problem)
    assert point.feasible
    assert point.bound_j is not None
    assert point.board_j is not None
    assert point.bound_j <= best.energy_j * (1 + 1e-9)
    assert problem.rounds * point.board_j <= problem.fleet_budget_j * (1 + 1e-9)

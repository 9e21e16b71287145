from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import SearchSettings, plan
from fimi.optim.problem import FimiProblem, InfeasibleError, ProblemError
from fimi.optim.rounds_model import RoundsModel
from fimi.optim.spending import plan_spent_j
from fimi.optim.target import choose

MODEL = RoundsModel(scale=0.5, sensitivity=12.0)


def with_idle_power(problem: FimiProblem, watts: float) -> FimiProblem:
    """The problem with boards that take so many watts at rest, all together."""
    return replace(problem, idle_power_w=np.full(problem.size, watts / problem.size))


def test_rounds_by_hand() -> None:
    assert MODEL.rounds(0.1, 0.9) == pytest.approx(0.5 * math.log(10) * math.exp(1.2))
    assert MODEL.rounds(0.0, 0.01) == 1.0


def test_fit_finds_the_model_again() -> None:
    errors, targets = [0.3, 0.2, 0.15, 0.1], [0.9, 0.9, 0.95, 0.8]
    counts = [MODEL.rounds(e, a) for e, a in zip(errors, targets, strict=True)]
    fitted = RoundsModel.fit(errors, targets, counts)
    assert fitted.scale == pytest.approx(0.5)
    assert fitted.sensitivity == pytest.approx(12.0)
    with pytest.raises(ValueError, match="no fewer rounds"):
        RoundsModel.fit([0.1, 0.2], [0.9, 0.9], [9, 5])
    with pytest.raises(ValueError, match="two or more"):
        RoundsModel.fit([0.1], [0.9], [9])


def total_j(problem: FimiProblem, error_max: float) -> float:
    """Joules to 90 % with the best plan for another Δ_max."""
    count = MODEL.rounds(error_max, 0.9)
    changed = replace(problem, error_max=error_max, rounds=count)
    return count * solve(InnerSolver(changed)).energy_j


def test_no_other_error_limit_is_better(fleet: Any) -> None:
    """Against a fine grid of Δ_max."""
    problem = with_idle_power(fleet(0, 5), 2.0)
    choice = choose(problem, 0.9, rounds=MODEL)
    grid = np.linspace(choice.trials[0].error_max, choice.trials[-1].error_max, 25)[1:-1]
    least_j = min(total_j(problem, float(error_max)) for error_max in grid)
    assert choice.best.total_j <= least_j * (1 + 1e-5)
    assert choice.best.total_j >= least_j * (1 - 0.01)
    assert choice.best not in (choice.trials[0], choice.trials[-1])  # neither end
    assert choice.best.total_j == pytest.approx(choice.best.bound_j, rel=1e-6)


def test_every_error_limit_is_told(fleet: Any) -> None:
    """So that a planner that takes long can be watched, and stopped."""
    told: list[None] = []
    choice = choose(fleet(0, 3), 0.9, rounds=MODEL, progress=lambda: told.append(None))
    assert len(told) >= len(choice.trials)

    count = len(told)

    class StoppedError(Exception):
        pass

    def stop() -> None:
        told.append(None)
        if len(told) == count + 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        choose(fleet(0, 3), 0.9, rounds=MODEL, progress=stop)
    assert len(told) == count + 3


@pytest.mark.parametrize("generated_max", [[1500.0], [1500.0, 0.0, 0.0]])
def test_one_device_that_may_have_synthetic_data(fleet: Any, generated_max: list[float]) -> None:
    """Its amount follows from Δ_max alone; the price of the error must be right all the same."""
    size = len(generated_max)
    problem = fleet(3, size, bandwidth_hz=2e6 * size, generated_max=np.array(generated_max))
    problem = with_idle_power(problem, 0.5)
    choice = choose(problem, 0.9, rounds=MODEL)
    low, high = (choice.trials[k].error_max for k in (0, -1))
    totals = [total_j(problem, float(e)) for e in np.linspace(low, high, 15)[1:-1]]
    assert choice.best.total_j <= min(totals) * (1 + 1e-5)
    assert low < choice.best.error_max < high


def test_the_length_of_the_round_is_chosen_as_well(fleet: Any) -> None:
    """Joules to the target with the best of fixed lengths, each with its own best Δ_max."""
    problem = with_idle_power(fleet(1, 3, t_max_s=np.full(3, 60.0)), 2.0)
    free = choose(problem, 0.9, rounds=MODEL)
    assert free.best.round_s < 59.0
    totals = {}
    for length_s in np.append(np.linspace(0.5, 1.5, 9) * free.best.round_s, 60.0):
        fixed = replace(
            problem,
            objective="dynamic",
            t_max_s=np.minimum(problem.t_max_s, length_s),
            error_max=free.best.error_max,
        )
        try:
            spent_j = solve(InnerSolver(fixed)).energy_j
        except InfeasibleError:
            continue
        totals[length_s] = free.best.rounds * (spent_j + 2.0 * float(length_s))
    assert len(totals) > 4
    assert free.best.total_j <= min(totals.values()) * (1 + 1e-6)
    assert free.best.total_j == pytest.approx(totals[free.best.round_s], rel=1e-6)
    changed = free.apply(problem)
    np.testing.assert_array_equal(changed.t_max_s, problem.t_max_s)
    assert (changed.error_max, changed.rounds) == (free.best.error_max, free.best.rounds)


def test_what_is_received_once_does_not_grow_with_the_rounds(fleet: Any) -> None:
    """The preparation counts once, whatever the number of rounds: more of it, fewer images."""
    problem = with_idle_power(fleet(1, 3), 2.0)
    dear = replace(problem, synthetic_j=np.full(3, 5.0))
    cheap_choice, dear_choice = (choose(each, 0.9, rounds=MODEL) for each in (problem, dear))
    assert cheap_choice.best.preparation_j == 0.0
    assert dear_choice.best.preparation_j > 0.0
    assert dear_choice.best.error_max > cheap_choice.best.error_max
    best = dear_choice.best
    assert best.total_j == pytest.approx(best.rounds * best.round_j + best.preparation_j, rel=1e-12)
    low, high = (dear_choice.trials[k].error_max for k in (0, -1))
    totals = [total_j(dear, float(e)) for e in np.linspace(low, high, 15)[1:-1]]
    assert best.total_j <= min(totals) * (1 + 1e-5)


def test_refusals(fleet: Any) -> None:
    with pytest.raises(ValueError, match="target accuracy"):
        choose(fleet(0, 2), 1.5)
    with pytest.raises(InfeasibleError):
        choose(fleet(0, 3, bandwidth_hz=1e3), 0.9)
    with pytest.raises(ValueError, match="curve"):
        choose(fleet(0, 2, curve=None, error_max=math.inf), 0.9)


def test_a_curve_that_leads_nowhere_is_named(fleet: Any) -> None:
    curve = LearningCurve(alpha=20_000.0, beta=0.9, delta0=0.0)
    few = replace(fleet(0, 3), curve=curve, generated_max=np.array([5.0]))
    with pytest.raises(ProblemError, match=r"rounds\(Δ\) gives .* rounds; check alpha"):
        choose(few, 0.9, rounds=MODEL)


@pytest.fixture(scope="module")
def problem(fleet: Any) -> FimiProblem:
    return with_idle_power(fleet(0, 5), 2.0)


@pytest.fixture(scope="module")
def free_j(problem: FimiProblem) -> float:
    """Joules to the target without a budget."""
    return choose(problem, 0.9, rounds=MODEL).best.total_j


class TestBudgets:
    """The budget of a fleet, in the rounds to the target or in those of a run."""

    def test_both_ends_of_the_range_may_take_too_much(
        self, problem: FimiProblem, free_j: float
    ) -> None:
        tight = replace(problem, fleet_budget_j=1.002 * free_j)
        ends = choose(problem, 0.9, rounds=MODEL).trials
        assert min(ends[0].total_j, ends[-1].total_j) > tight.fleet_budget_j
        choice = choose(tight, 0.9, rounds=MODEL)
        assert choice.best.total_j <= tight.fleet_budget_j
        found = plan(choice.apply(tight), seed=0)
        assert found.board.energy_j * choice.best.rounds <= tight.fleet_budget_j * (1 + 1e-9)

    def test_a_device_that_has_little_makes_the_others_work(
        self, problem: FimiProblem, free_j: float
    ) -> None:
        """Against whole plans on a grid of Δ_max."""
        free = choose(problem, 0.9, rounds=MODEL)
        used = plan_spent_j(free.apply(problem), plan(free.apply(problem), seed=0))
        budget = np.where(np.arange(problem.size) == used.argmax(), 0.9 * used, np.inf)
        tight = replace(problem, budget_j=budget)
        choice = choose(tight, 0.9, rounds=MODEL)
        assert choice.best.total_j > free_j
        quick = SearchSettings(certify=False, advise=False)
        totals = []
        for error_max in choice.best.error_max * np.array([1.0, 1.02, 1.06]):
            count = MODEL.rounds(float(error_max), 0.9)
            changed = replace(tight, error_max=float(error_max), rounds=count)
            totals.append(count * plan(changed, seed=0, settings=quick).energy_j)
        assert choice.best.total_j <= min(totals) * (1 + 2e-4)

    def test_too_little_is_refused_with_what_is_enough(
        self, problem: FimiProblem, free_j: float
    ) -> None:
        tight = replace(problem, fleet_budget_j=0.97 * free_j)
        with pytest.raises(InfeasibleError) as raised:
            choose(tight, 0.9, rounds=MODEL)
        assert raised.value.constraint == "energy budget"
        enough_j = raised.value.fleet_budget_needed_j
        assert enough_j is not None
        assert free_j <= enough_j <= 1.021 * free_j
        enough = replace(problem, fleet_budget_j=enough_j)
        chosen = choose(enough, 0.9, rounds=MODEL).apply(enough)
        assert plan_spent_j(chosen, plan(chosen, seed=0)).sum() <= enough_j

    def test_a_run_that_goes_on_after_the_target_keeps_it_in_all_rounds(
        self, problem: FimiProblem, free_j: float
    ) -> None:
        free = choose(problem, 0.9, rounds=MODEL)
        run_rounds = math.ceil(2 * free.best.rounds)
        spent_j = free.best.round_j * run_rounds
        tight = replace(problem, fleet_budget_j=0.9 * spent_j)
        choice = choose(tight, 0.9, rounds=MODEL, run_rounds=run_rounds)
        assert choice.best.error_max > free.best.error_max, "fewer samples in each of more rounds"
        chosen = choice.apply(tight)
        assert chosen.rounds == run_rounds
        found = plan(chosen, seed=0)
        assert plan_spent_j(chosen, found).sum() <= tight.fleet_budget_j
        assert choice.best.rounds == pytest.approx(MODEL.rounds(choice.best.error_max, 0.9))
        assert choice.best.total_j >= free_j
        assert choice.best.bound_j <= choice.best.total_j * (1 + 1e-9)

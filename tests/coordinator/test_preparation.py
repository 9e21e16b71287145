"""Receiving synthetic samples counts in every plan, whoever chose their number."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from two_devices import TWO

from fimi.coordinator.fixed_steps import FixedSteps, around
from fimi.coordinator.preparation import afforded, counted
from fimi.coordinator.settings import StrategySettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.coordinator.strategy_plans import make_plans, replan, with_data
from fimi.learning.training.trainer import TrainingSettings
from fimi.optim.cross_entropy import SearchSettings
from fimi.optim.planner import plan as make_plan
from fimi.optim.plans import Plan
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.spending import plan_spent_j

SAMPLE_J = (0.5, 0.2)
PROBLEM = msgspec.structs.replace(TWO, synthetic_j=np.array(SAMPLE_J), error_max=0.1)


def planner(problem: FimiProblem) -> Plan:
    return make_plan(problem, seed=0, settings=SearchSettings(iterations=5))


def received_j(plan: Plan) -> float:
    counts = [sum(share.synthetic_counts) for share in plan.devices]
    return math.fsum(j * n for j, n in zip(SAMPLE_J, counts, strict=True))


def free(problem: FimiProblem) -> FimiProblem:
    """The same where receiving takes nothing."""
    return msgspec.structs.replace(problem, synthetic_j=np.zeros(2))


@pytest.mark.parametrize("strategy", ["fimi", "hdc", "data-only"])
def test_every_strategy_that_fills_devices_counts_it(strategy: str) -> None:
    found = make_plans(
        STRATEGIES[strategy], PROBLEM, planner, settings=StrategySettings(), rounds=10
    ).plan
    assert found is not None
    assert found.preparation_j == pytest.approx(received_j(found))
    assert found.preparation_j > 1.0
    above_idle_j = sum(share.compute_j + share.upload_j for share in found.devices)
    assert found.dynamic.energy_j == pytest.approx(above_idle_j)
    expected_j = above_idle_j + 5.0 * found.round_s + found.preparation_j / 10
    assert found.board.energy_j == pytest.approx(expected_j, rel=1e-9)


def test_rounds_of_fixed_steps_count_it() -> None:
    training = TrainingSettings(steps=20, batch_size=16)
    found = FixedSteps(training=training).plan(PROBLEM, planner)
    without = FixedSteps(training=training).plan(free(PROBLEM), planner)
    assert found.preparation_j == pytest.approx(received_j(found))
    assert found.board.energy_j - without.board.energy_j == pytest.approx(found.preparation_j / 10)
    assert found.board.bound_j is not None
    assert without.board.bound_j is not None
    assert found.board.bound_j - without.board.bound_j == pytest.approx(found.preparation_j / 10)
    assert found.dynamic == without.dynamic
    # a strategy that gives the number of images itself is not counted twice
    of_strategy = make_plans(
        STRATEGIES["hdc"],
        PROBLEM,
        around(planner, training, 1.0),
        settings=StrategySettings(),
        rounds=10,
    ).plan
    assert of_strategy is not None
    assert of_strategy.preparation_j == pytest.approx(received_j(of_strategy))


def test_what_devices_have_received_is_not_received_again() -> None:
    found = replan(STRATEGIES["fimi"], PROBLEM, [[0, 40], [30, 0]], planner)
    assert found.preparation_j == 0.0
    assert found.board.energy_j == pytest.approx(
        found.dynamic.energy_j + 5.0 * found.round_s, rel=1e-9
    )


def test_it_is_taken_off_the_budgets() -> None:
    problem = msgspec.structs.replace(PROBLEM, budget_j=np.array([100.0, np.inf]))

    def filled(limits: FimiProblem, images: tuple[int, int] = (40, 10)) -> Plan:
        load = np.zeros((2, 2), np.int64)
        load[:, 0] = images
        return planner(with_data(limits, load))

    left = afforded(problem, np.array([40, 10]), filled)
    assert left.budget_j.tolist() == [80.0, math.inf]
    assert math.isinf(left.fleet_budget_j)
    whole = msgspec.structs.replace(PROBLEM, fleet_budget_j=100.0)
    assert afforded(whole, np.array([40, 10]), filled).fleet_budget_j == pytest.approx(78.0)

    def much(limits: FimiProblem) -> Plan:
        return filled(limits, (200, 10))

    images = np.array([200, 10])
    with pytest.raises(InfeasibleError, match=r"a needs 100 J \(modelled\) to receive") as short:
        afforded(problem, images, much)
    assert (short.value.constraint, short.value.devices) == ("energy budget", ("a",))
    enough_j = short.value.budget_needed_j
    assert f"feasible with budget_j of at least {enough_j:g}" in str(short.value)
    assert enough_j is not None
    enough = msgspec.structs.replace(problem, budget_j=np.array([enough_j, np.inf]))
    assert much(afforded(enough, images, much)).energy_j > 0
    with pytest.raises(
        InfeasibleError, match=r"the fleet needs 102 J \(modelled\) to receive"
    ) as short:
        afforded(whole, images, much)
    fleet_j = short.value.fleet_budget_needed_j
    assert f"feasible with fleet_budget_j of at least {fleet_j:g}" in str(short.value)
    assert fleet_j is not None
    enough = msgspec.structs.replace(PROBLEM, fleet_budget_j=fleet_j)
    assert much(afforded(enough, images, much)).energy_j > 0


@pytest.mark.parametrize("limit", ["budget_j", "fleet_budget_j"])
def test_a_budget_is_named_as_it_was_written(limit: str) -> None:
    counts = np.array([[40, 0], [0, 10]])  # 20 J and 2 J to receive
    unlimited = planner(with_data(PROBLEM, counts))
    used_j = plan_spent_j(PROBLEM, unlimited, PROBLEM.local_samples) + np.array([20.0, 2.0])

    def solved(**budgets: Any) -> Plan:
        problem = msgspec.structs.replace(PROBLEM, **budgets)

        def filled(limits: FimiProblem) -> Plan:
            return planner(with_data(limits, counts))

        return filled(afforded(problem, counts.sum(axis=1), filled))

    whole_j = used_j[0] if limit == "budget_j" else used_j.sum()
    written_j = round(0.5 * whole_j)
    with pytest.raises(InfeasibleError) as raised:
        solved(**{limit: written_j})
    named = f"and has {written_j} J" if limit == "budget_j" else f"{limit} is {written_j};"
    assert named in str(raised.value)
    enough = {
        "budget_j": raised.value.budget_needed_j,
        "fleet_budget_j": raised.value.fleet_budget_needed_j,
    }
    needed = {key: joules for key, joules in enough.items() if joules is not None}
    for key, joules in needed.items():
        assert f"{key} of at least {joules:g}" in str(raised.value)
    assert solved(**{limit: written_j} | needed).energy_j > 0
    with pytest.raises(InfeasibleError):
        solved(**{limit: needed[limit] - 22.0})  # what receiving takes is part of it


def test_nothing_is_added_for_nothing() -> None:
    found = planner(PROBLEM)
    assert counted(found, PROBLEM, np.zeros(2)) == found

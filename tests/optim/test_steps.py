"""Steps, whole samples and the length of the round chosen together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import prices_of, solve
from fimi.optim.leanest import least_bandwidth
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import plan
from fimi.optim.problem import FimiProblem
from fimi.optim.realise import Work, cost, runnable
from fimi.optim.steps import improve
from tests.optim.truth_costs import Trial, cost_of, trial_of
from tests.optim.truth_enumeration import enumerate_plans
from tests.optim.truth_problems import Kind, Problem, planted, problems

COARSE = FimiProblem(
    devices=("d0", "d1"),
    local_counts=np.array([[3, 0, 0, 50, 0, 49, 20, 0, 21, 4], [3, 24, 0, 6, 40, 0, 23, 0, 44, 8]]),
    epochs=4,
    cycles_per_sample=np.array([6722894.036391625, 23914325.500930853]),
    capacitance_w_per_hz3=np.array([2.105609218710507e-28, 8.519410959097198e-28]),
    active_power_w=np.array([0.3, 0.3]),
    frequency_min_hz=np.array([3.83e8, 3.88e8]),
    frequency_max_hz=np.array([2.929e9, 1.452e9]),
    frequency_steps_hz=(
        (3.83e8, 2.929e9),
        (3.88e8, 5.4e8, 6.92e8, 8.44e8, 9.96e8, 1.148e9, 1.3e9, 1.452e9),
    ),
    channel_gain=np.array([2.8618817000352957e-10, 2.2980933160405685e-11]),
    noise_density_w_per_hz=np.array([4e-21]),
    transmit_power_max_w=np.array([0.2]),
    payload_bits=np.array([4066634.1888926695, 897691.8687040757]),
    t_max_s=np.array([37.62251317934749]),
    bandwidth_hz=3e5,
    generated_max=np.array([400.0]),
    error_max=1.163707270850151,
    curve=LearningCurve(alpha=7.550426803720558, beta=0.3212324717312319, delta0=0.02),
    objective="dynamic",
)
"""Two steps far apart: choosing samples first and steps after takes 47.80 J; complete enumeration
finds 31.91 J."""


def test_coarse_steps() -> None:
    result = plan(COARSE, seed=0)
    costs = cost_of(COARSE, trial_of(result))
    assert costs.broken == {}
    assert costs.dynamic_j == pytest.approx(result.energy_j, rel=1e-9)
    assert result.energy_j <= 31.91
    assert result.bound_j is not None
    assert 30.0 < result.bound_j <= result.energy_j


SMALL = Kind(processors="steps", generated_max=20, steps_max=4)


@given(problems(sizes=(2, 2), generated_max=20, steps_max=4, budgets=False))
@settings(max_examples=12, deadline=None)
def test_two_devices_against_complete_enumeration(made: Problem) -> None:
    """Processors and radios of every kind: at most 0.1 % above the best plan that there is."""
    problem, _ = made
    best = enumerate_plans(problem)
    result = plan(problem, seed=0)
    assert cost_of(problem, trial_of(result)).broken == {}
    assert result.energy_j <= best.energy_j * 1.001
    assert result.energy_j >= best.energy_j * (1 - 1e-6)
    assert result.bound_j is not None
    assert result.bound_j <= best.energy_j * (1 + 1e-9)


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_three_devices_against_complete_enumeration(seed: int) -> None:
    problem, _ = planted(seed, 3, Kind(processors="points", generated_max=4, steps_max=3))
    best = enumerate_plans(problem)
    result = plan(problem, seed=0)
    assert result.energy_j <= best.energy_j * 1.001
    assert result.bound_j is not None
    assert result.bound_j <= best.energy_j * (1 + 1e-9)


@given(problems(sizes=(2, 8), processors="steps", budgets=False), st.floats(-2.0, 2.0))
@settings(max_examples=12, deadline=None)
def test_no_prices_make_a_plan_worse_or_impossible(made: Problem, off: float) -> None:
    """From the planted plan, with prices that are right or wrong by up to e² each."""
    problem, trial = made
    inner = InnerSolver(problem)
    start = work_of(inner, trial)
    before_j = float(cost(inner, start).energy_j[0])
    assert before_j <= cost_of(problem, trial).energy_j(problem) * (1 + 1e-9)
    prices = prices_of(solve(inner))
    wrong = replace(prices, log_lam=prices.log_lam + off, log_mu=prices.log_mu - off)
    better = improve(inner, wrong, start, 0.0)
    after_j = float(cost(inner, better).energy_j[0])
    assert after_j <= before_j
    made_of = runnable(inner, better)
    truth = cost_of(
        problem,
        Trial(
            samples=made_of.samples.astype(float),
            speed_hz=made_of.frequency_hz,
            bandwidth_hz=made_of.bandwidth_hz,
            transmit_power_w=made_of.power_w,
            round_s=made_of.round_s,
        ),
    )
    assert truth.broken == {}
    assert truth.energy_j(problem) <= after_j * (1 + 1e-9)


def test_a_plan_that_is_good_enough_is_left_as_it_is() -> None:
    problem, trial = planted(0, 5, SMALL)
    inner = InnerSolver(problem)
    start = work_of(inner, trial)
    same = improve(inner, prices_of(solve(inner)), start, np.inf)
    np.testing.assert_array_equal(same.samples, start.samples)
    np.testing.assert_array_equal(same.lane, start.lane)


def work_of(inner: InnerSolver, trial: Trial) -> Work:
    """A plan as one candidate; a step that is never the best becomes the next useful one."""
    problem, lanes = inner.problem, inner.lanes
    lane, speed = [], []
    for i, hertz in enumerate(trial.speed_hz):
        own = np.flatnonzero(lanes.owner == i)
        pick = own[
            np.searchsorted(lanes.highest_hz[own], hertz * (1 - 1e-12)).clip(max=own.size - 1)
        ]
        lane.append(int(pick))
        speed.append(float(np.clip(hertz, lanes.floor_hz[pick], lanes.highest_hz[pick])))
    round_s = cost_of(problem, trial).round_s if inner.free_round else problem.round_max_s
    return Work(trial.samples[None], np.array([lane]), np.array([speed]), np.array([round_s]))


@pytest.mark.parametrize("objective", ["board", "dynamic"])
@pytest.mark.parametrize("measured", [False, True])
def test_thirteen_steps_on_twenty_devices(fleet: Any, objective: str, measured: bool) -> None:
    """The gap holds whole samples and steps: at most 0.5 %."""
    problem = fleet(3, 20, idle_power_w=np.full(20, 2.0), objective=objective)
    steps = tuple(
        tuple(np.linspace(low, high, 13))
        for low, high in zip(problem.frequency_min_hz, problem.frequency_max_hz, strict=True)
    )
    problem = replace(problem, frequency_steps_hz=steps)
    if measured:
        rng = np.random.default_rng(0)
        law = [
            problem.capacitance_w_per_hz3[i] * np.array(row) ** 3 + problem.active_power_w[i] + 0.2
            for i, row in enumerate(steps)
        ]
        watts = tuple(tuple(row * rng.uniform(0.9, 1.1, 13)) for row in law)
        names = tuple(tuple(f"point-{k}" for k in range(13)) for _ in steps)
        problem = replace(problem, step_power_w=watts, step_names=names)
    result = plan(problem, seed=0)
    assert cost_of(problem, trial_of(result)).broken == {}
    assert result.gap_percent is not None
    assert result.gap_percent <= 0.5
    if measured:
        for share, row, hertz in zip(result.devices, problem.step_names, steps, strict=True):
            assert hertz[row.index(share.point.setting)] == share.point.frequency_hz


@pytest.mark.parametrize(("size", "seed"), [(4, 0), (8, 1), (16, 0)])
def test_a_band_that_is_hardly_enough_has_a_bound(fleet: Any, size: int, seed: int) -> None:
    """At 5 % above the least band no even split is feasible; prices are found all the same."""
    problem = fleet(seed, size, idle_power_w=np.full(size, 2.0))
    steps = tuple(
        tuple(np.linspace(low, high, 6))
        for low, high in zip(problem.frequency_min_hz, problem.frequency_max_hz, strict=True)
    )
    problem = replace(problem, frequency_steps_hz=steps)
    problem = replace(problem, bandwidth_hz=1.05 * least_bandwidth(problem).bandwidth_hz)
    assert solve(InnerSolver(problem)).relative_gap < 0.02

"""The convex program against closed forms, brute force, and its own multipliers."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.certificate import ProgramSolution, series_terms, solve_program
from fimi.optim.problem import FimiProblem, ProblemError
from tests.optim.truth_costs import Costs, Trial, cost_of
from tests.optim.truth_enumeration import least_real_plan
from tests.optim.truth_problems import Problem, any_kind, planted, problems

CLOSE = 1e-6
"""Clarabel's tolerances, with the solver's own scale of the energy."""


def program_costs(problem: FimiProblem, found: ProgramSolution) -> Costs:
    """The program's variables as a plan, costed by the cost model."""
    cycles = problem.cycles_per_pass * found.samples
    speed = np.where(found.compute_s > 0, cycles / np.maximum(found.compute_s, 1e-300), 0.0)
    x = problem.payload_bits * math.log(2.0) / (found.bandwidth_hz * found.upload_s)
    noise = problem.noise_density_w_per_hz * found.bandwidth_hz / problem.channel_gain
    trial = Trial(
        samples=found.samples,
        speed_hz=np.clip(speed, problem.frequency_min_hz, problem.frequency_max_hz),
        bandwidth_hz=found.bandwidth_hz,
        transmit_power_w=np.minimum(np.expm1(x) * noise, problem.transmit_power_max_w),
    )
    continuous = msgspec.structs.replace(problem, frequency_steps_hz=())
    return cost_of(continuous, trial, whole=False)


@pytest.mark.parametrize("x", [1e-6, 0.3, 2.0, 9.0, 20.0, 45.0, 120.0])
def test_series_is_long_enough_and_not_much_longer(x: float) -> None:
    exact = math.expm1(x) / x

    def series(terms: int) -> float:
        return math.fsum(math.exp(k * math.log(x) - math.lgamma(k + 2)) for k in range(terms))

    terms = series_terms(x)
    assert series(terms) == pytest.approx(exact, rel=3e-10)
    assert terms <= 10 + 5 * x


@given(problems((1, 12), processors="laws"))
@settings(max_examples=30)
def test_its_variables_are_a_plan_that_costs_what_it_says(drawn: Problem) -> None:
    problem, trial = drawn
    found = solve_program(problem)
    assert found.status in ("optimal", "inaccurate")
    costs = program_costs(problem, found)
    assert not {limit: by for limit, by in costs.broken.items() if by > CLOSE}
    assert costs.energy_j(problem) == pytest.approx(found.energy_j, rel=CLOSE)
    assert found.energy_j <= cost_of(problem, trial).energy_j(problem) * (1 + CLOSE)


@pytest.mark.slow
@given(problems((1, 2), processors="laws", budgets=False))
@settings(max_examples=25)
def test_its_optimum_is_that_of_nested_searches(drawn: Problem) -> None:
    """The nested searches share nothing with the program: no series, no logarithms, no slopes."""
    problem, _ = drawn
    assert solve_program(problem).energy_j == pytest.approx(least_real_plan(problem), rel=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_its_optimum_under_budgets_is_that_of_nested_searches(seed: int) -> None:
    kind = any_kind(seed, processors="laws", budgets=True, idle=True)
    problem, _ = planted(seed, 2, kind)
    assert solve_program(problem).energy_j == pytest.approx(least_real_plan(problem), rel=CLOSE)


def changed(problem: FimiProblem, field: str, i: int | None, factor: float) -> FimiProblem:
    """One limit multiplied."""
    value: Any = getattr(problem, field)
    if i is None:
        return msgspec.structs.replace(problem, **{field: value * factor})
    value = value.copy()
    value[i] *= factor
    return msgspec.structs.replace(problem, **{field: value})


@given(problems((1, 4), processors="laws", receiving=True, idle=True), st.integers(0, 3))
@settings(max_examples=12)
def test_multipliers_are_what_limits_are_worth(drawn: Problem, device: int) -> None:
    """By differences of the optimum, which is convex in the logarithms of the limits."""
    problem, _ = drawn
    here = solve_program(problem)
    i, h = device % problem.size, 1e-3
    limits: list[tuple[float, str, int | None, float]] = [
        (here.band_multiplier, "bandwidth_hz", None, problem.bandwidth_hz),
    ]
    if math.isfinite(problem.error_max):
        # What changes is Δ_max, of which only Δ_max − δ0 counts.
        limits.append((here.learning_multiplier, "error_max", None, problem.error_max))
    if math.isfinite(problem.budget_j[i]):
        limits.append((here.budget_multipliers[i], "budget_j", i, problem.budget_j[i]))
    if math.isfinite(problem.fleet_budget_j):
        whole = problem.fleet_budget_j
        limits.append((here.fleet_budget_multiplier, "fleet_budget_j", None, whole))
    for multiplier, field, of, value in limits:
        wider, tighter = (
            solve_program(changed(problem, field, of, 1.0 + sign * h)) for sign in (1, -1)
        )
        saved = here.energy_j - wider.energy_j
        # Convex: the slope lies between the two differences, but for the solver's tolerance.
        slack = 1e-6 * here.energy_j + 0.02 * abs(saved)
        assert multiplier * value * h >= saved - slack
        if tighter.status == "optimal":
            lost = tighter.energy_j - here.energy_j
            assert multiplier * value * h <= lost * 1.02 + slack


@given(problems((1, 4), processors="laws", receiving=True, idle=True, budgets=False))
@settings(max_examples=15)
def test_seconds_of_a_round_cost_the_idle_power(drawn: Problem) -> None:
    """Where the round is not as long as it may be, Σ of the seconds' prices is Σ P_idle."""
    problem, _ = drawn
    found = solve_program(problem)
    idle_w = float(problem.idle_power_w.sum())
    if problem.objective == "dynamic" or idle_w == 0.0:
        assert (found.round_multipliers == 0).all()
    elif found.round_s < problem.round_max_s * (1 - 1e-4):
        assert found.round_multipliers.sum() == pytest.approx(idle_w, rel=1e-4)
    else:
        assert found.round_multipliers.sum() <= idle_w * (1 + 1e-4)


def test_without_learning_constraint(fleet: Any) -> None:
    found = solve_program(fleet(2, 4, error_max=math.inf))
    assert found.learning_multiplier == 0
    np.testing.assert_array_equal(found.samples, fleet(2, 4).local_samples)


def test_a_device_without_work_uploads_all_the_time(fleet: Any) -> None:
    counts = np.array([[0], [50], [70]])
    problem = fleet(2, 3, local_counts=counts, error_max=math.inf, objective="dynamic")
    found = solve_program(problem)
    assert found.compute_s[0] == 0
    assert found.upload_s[0] == pytest.approx(problem.t_max_s[0], rel=1e-6)


def test_golden_value(fleet: Any) -> None:
    """CVXPY 1.9.3 with Clarabel 0.11.1, 40 series terms, on fleet(seed=0, size=3)."""
    found = solve_program(fleet(0, 3, objective="dynamic"))
    assert found.energy_j == pytest.approx(106.706708, rel=1e-6)


def test_an_impossible_problem_is_said_to_be_one(fleet: Any) -> None:
    out_of_reach = solve_program(fleet(0, 3, error_max=1e-3))
    too_late = solve_program(fleet(0, 3, t_max_s=np.asarray(1.0)))
    no_joules = solve_program(fleet(0, 3, idle_power_w=np.asarray(2.0), budget_j=np.asarray(1.0)))
    assert {out_of_reach.status, too_late.status, no_joules.status} == {"infeasible"}
    assert math.isnan(out_of_reach.energy_j)


def test_measured_powers_are_refused(fleet: Any) -> None:
    problem = fleet(0, 1)
    low, high = float(problem.frequency_min_hz[0]), float(problem.frequency_max_hz[0])
    measured = msgspec.structs.replace(
        problem, frequency_steps_hz=((low, high),), step_power_w=((0.5, 1.0),)
    )
    with pytest.raises(ProblemError, match="'device-0': step_power_w"):
        solve_program(measured)

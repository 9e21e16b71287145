"""The bound against plans: by construction, by random splits, by enumeration, by other solvers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.certificate import solve_program
from fimi.optim.device_optimum import DeviceSolver
from fimi.optim.dual import DualPoint, dual
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import prices_of, solve
from fimi.optim.lanes import EnergyWeights
from fimi.optim.prices import Prices
from tests.optim.truth_costs import cost_of
from tests.optim.truth_enumeration import enumerate_plans
from tests.optim.truth_problems import Problem, any_kind, planted, problems

SEEDS = st.integers(0, 2**32 - 1)
FACTORS = st.floats(-8, 8)


@given(SEEDS, st.integers(1, 6), st.floats(-6, 6), st.floats(-6, 6))
@settings(max_examples=60, deadline=None)
def test_bounds_every_feasible_plan_whatever_the_multipliers(
    fleet: Any, seed: int, size: int, more: float, less: float
) -> None:
    problem = fleet(seed, size)
    inner = InnerSolver(problem)
    tau = np.random.default_rng(seed).uniform(0.2, 0.95, (200, size))
    found = inner.evaluate(tau * problem.t_max_s)
    feasible = np.flatnonzero(found.violation == 0)
    if not feasible.size:
        return
    best = feasible[np.argmin(found.energy_j[feasible])]
    point = dual(
        inner,
        math.exp(found.compute.log_multiplier[best] + more),
        math.exp(found.upload.log_multiplier[best] + less),
    )
    assert point.bound_j <= found.energy_j[best]


@given(problems((1, 8), budgets=False), FACTORS, FACTORS, st.floats(0.05, 1.0))
@settings(max_examples=80)
def test_bounds_planted_plans_whatever_the_multipliers(
    drawn: Problem, more: float, less: float, near: float
) -> None:
    """Steps, measured points, radios of every sort, free rounds; the plan was there first."""
    problem, trial = drawn
    inner = InnerSolver(problem)
    costs = cost_of(problem, trial)
    # Prices of about the right size: joules over what they buy, and up to 3,000 times off.
    lam = costs.energy_j(problem) * math.exp(more)
    if inner.bound_by_error:
        lam /= problem.error_budget
    mu = float(costs.upload_j.sum()) / problem.bandwidth_hz * math.exp(less)
    for round_s in (None, near * problem.round_max_s, costs.round_s):
        point = dual(inner, lam, mu, round_s)
        assert point.bound_j <= costs.energy_j(problem) * (1 + 1e-12)


@given(SEEDS, st.integers(1, 5), st.sampled_from(["board", "dynamic"]))
@settings(max_examples=10)
def test_bounds_of_weighted_joules(seed: int, size: int, objective: Any) -> None:
    """A joule of some devices counts more, as with budgets: of plans the weighted joules count."""
    problem, trial = planted(seed, size, any_kind(seed, objective=objective, budgets=False))
    rng = np.random.default_rng(seed)
    more = rng.uniform(0.0, 2.0, size) * (rng.random(size) < 0.5)
    base = EnergyWeights.of(problem)
    weights = EnergyWeights(base.dynamic + more, base.board + more)
    costs = cost_of(problem, trial)
    dynamic_j = costs.compute_j + costs.upload_j
    board_j = costs.device_board_j - dynamic_j
    weighted_j = float((weights.dynamic * dynamic_j + weights.board * board_j).sum())
    inner = InnerSolver(problem, weights)
    solution = solve(inner)
    assert solution.bound_j <= weighted_j * (1 + 1e-12)
    assert solution.bound_j <= solution.energy_j
    prices = prices_of(solution)
    for lam, mu in ((0.3, 1.0), (1.0, 3.0), (2.0, 0.5)):
        point = dual(
            inner,
            lam * solution.learning_multiplier,
            mu * solution.band_multiplier,
            prices.round_s,
        )
        assert point.bound_j <= weighted_j * (1 + 1e-12)
        assert point.bound_j <= solution.energy_j


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_device_minimum_against_a_dense_grid(fleet: Any, seed: int) -> None:
    """One device: the dual function by brute force over t_cmp, D and b."""
    problem = fleet(seed, 1)
    assert problem.curve is not None
    inner = InnerSolver(problem)
    rng = np.random.default_rng(seed)
    lam, mu = 10 ** rng.uniform(0, 4), 10 ** rng.uniform(-7, -3)
    point = dual(inner, lam, mu)
    t = np.linspace(0.02, 0.98, 97)[:, None, None] * problem.t_max_s[0]
    d = np.linspace(inner.samples_min[0], inner.samples_max[0], 97)[None, :, None]
    b = problem.bandwidth_hz * np.logspace(-1.5, 0, 97)[None, None, :]
    floor_hz = inner.lanes.floor_hz
    f = np.clip(problem.cycles_per_pass * d / t, floor_hz, None)
    f = np.where(f <= problem.frequency_max_hz, f, np.nan)
    cycles = problem.cycles_per_pass * d
    power = problem.capacitance_w_per_hz3 * f**3 + problem.active_power_w
    left = problem.t_max_s - t
    noise_over_gain = problem.noise_density_w_per_hz / problem.channel_gain
    with np.errstate(over="ignore"):
        p = np.expm1(problem.payload_bits * math.log(2) / (b * left)) * b * noise_over_gain
    p = np.where(p <= problem.transmit_power_max_w, p, np.nan)
    if np.isnan(p + f).all():
        return  # no feasible point on the grid
    value = (
        power * cycles / f
        + p * left
        + lam * problem.weights * problem.curve.alpha * d**-problem.curve.beta
        + mu * b
    )
    grid = float(np.nanmin(value)) - lam * problem.error_budget - mu * problem.bandwidth_hz
    scale = float(np.nanmin(value)) + lam * problem.error_budget + mu * problem.bandwidth_hz
    assert point.bound_j <= grid
    assert point.bound_j >= grid - 0.05 * scale


def test_is_tight_at_the_multipliers_of_the_optimum(fleet: Any) -> None:
    problem = fleet(4, 1)
    inner = InnerSolver(problem)
    windows = np.linspace(0.01, 0.99, 20001)[:, None] * problem.t_max_s
    found = inner.evaluate(windows)
    best = int(np.lexsort((found.energy_j, found.violation))[0])
    point = dual(
        inner,
        math.exp(found.compute.log_multiplier[best]),
        math.exp(found.upload.log_multiplier[best]),
    )
    assert point.bound_j <= found.energy_j[best]
    assert point.bound_j == pytest.approx(found.energy_j[best], rel=1e-6)
    assert point.optima.compute_s[0] == pytest.approx(
        found.compute.time_s[best, 0], abs=2e-3 * problem.t_max_s[0]
    )


def test_no_multipliers_no_claim(fleet: Any) -> None:
    """With λ = μ = 0 the bound is the cheapest imaginable fleet: positive, and far too low."""
    inner = InnerSolver(fleet(4, 3))
    point = dual(inner, 0.0, 0.0)
    assert math.isfinite(point.bound_j)
    assert point.bound_j >= 0


@pytest.mark.parametrize("seed", range(2))
def test_prices_from_nothing_close_the_gap(fleet: Any, seed: int) -> None:
    """The best bound without any other solver is the optimum that CVXPY and Clarabel find."""
    inner = InnerSolver(fleet(seed, 4))
    best = solve(inner, start=Prices(0.0, 0.0, inner.problem.round_max_s))
    program = solve_program(inner.problem)
    assert best.bound_j == pytest.approx(program.energy_j, rel=3e-6)
    point = dual(inner, program.learning_multiplier, program.band_multiplier)
    assert point.bound_j <= best.bound_j * (1 + 1e-9)  # no multipliers give a higher one
    found = inner.evaluate(point.optima.compute_s[None])
    assert found.energy_j[0] >= best.bound_j


def test_prices_without_learning_constraint(fleet: Any) -> None:
    inner = InnerSolver(fleet(1, 4, error_max=math.inf))
    best = solve(inner, start=Prices(-math.inf, 0.0, inner.problem.round_max_s))
    assert best.learning_multiplier == 0
    assert best.evaluation.upload.bandwidth_hz.sum() == pytest.approx(
        inner.problem.bandwidth_hz, rel=1e-5
    )
    assert best.bound_j == pytest.approx(solve_program(inner.problem).energy_j, rel=3e-6)
    ignored = dual(inner, 1e3, best.band_multiplier)
    assert ignored.learning_multiplier == 0
    assert ignored.bound_j == pytest.approx(best.bound_j, rel=1e-9)


@given(problems((1, 4), processors="laws", budgets=False))
@settings(max_examples=20)
def test_at_the_programs_multipliers_the_bound_is_the_programs_optimum(drawn: Problem) -> None:
    """The program is another's: for laws no gap is left, at whatever board, radio and round."""
    problem, _ = drawn
    program = solve_program(problem)
    point = dual(
        InnerSolver(problem),
        program.learning_multiplier,
        program.band_multiplier,
        program.round_s,
    )
    assert point.bound_j <= program.energy_j * (1 + 1e-6)
    assert point.bound_j >= program.energy_j * (1 - 1e-4)


def least_over_rounds(inner: InnerSolver, point: DualPoint) -> float:
    """The dual function at its prices, R by grids that become finer around the best so far, J."""
    problem = inner.problem
    lam, mu = point.learning_multiplier, point.band_multiplier
    logs = [math.log(price) if price > 0 else -math.inf for price in (lam, mu)]
    devices = DeviceSolver(inner)
    least, best, low, high = math.inf, 1.0, 0.02, 1.0
    for _ in range(4):
        grid = np.geomspace(low, high, 40)
        for share in grid:
            length_s = float(share) * problem.round_max_s
            optima = devices.optima(logs[0], logs[1], length_s)
            value = math.fsum(optima.least_j[optima.lane]) + inner.round_w * length_s
            if value < least:
                least, best = value, float(share)
        wide = float(grid[1] / grid[0])
        low, high = best / wide, min(best * wide, 1.0)
    received = inner.weights.board * problem.synthetic_j / problem.rounds
    charges = (lam * problem.error_budget if lam else 0.0) + mu * problem.bandwidth_hz
    return least + inner.constant_j - float((received * problem.local_samples).sum()) - charges


@pytest.mark.parametrize("processors", ["laws", "mixed"])
@given(SEEDS, st.integers(1, 3), st.floats(-2, 2), st.floats(-2, 2))
@settings(max_examples=4)
def test_no_length_of_the_round_is_below_the_bound(
    processors: Any, seed: int, size: int, more: float, less: float
) -> None:
    kind = any_kind(seed, objective="board", idle=True, processors=processors, budgets=False)
    problem, _ = planted(seed, size, kind)
    inner = InnerSolver(problem)
    solution = solve(inner)
    lam = solution.learning_multiplier * math.exp(more)
    mu = solution.band_multiplier * math.exp(less)
    point = dual(inner, lam, mu, solution.round_s)
    truth = least_over_rounds(inner, point)
    terms = abs(truth) + lam * (problem.error_budget if lam else 0.0) + mu * problem.bandwidth_hz
    assert point.bound_j <= truth + 1e-11 * terms
    if not inner.lanes.single:  # the range is divided until the least is known to 2e-5
        assert point.bound_j >= truth - 5e-5 * terms


@pytest.mark.parametrize("objective", ["board", "dynamic"])
@pytest.mark.parametrize("seed", range(5))
def test_no_enumerated_plan_is_below_the_bound(seed: int, objective: Any) -> None:
    """Two devices with steps: every whole number of samples at every step."""
    kind = any_kind(
        seed, objective=objective, processors="steps", budgets=False, generated_max=6, steps_max=4
    )
    problem, _ = planted(seed, 2, kind)
    found = enumerate_plans(problem)
    inner = InnerSolver(problem)
    solution = solve(inner)
    assert solution.bound_j <= found.energy_j * (1 + 1e-9)
    for lam, mu in ((0.0, 0.0), (0.5, 2.0), (1.0, 1.0), (3.0, 0.2)):
        point = dual(
            inner,
            lam * solution.learning_multiplier,
            mu * solution.band_multiplier,
            found.costs.round_s if found.costs else None,
        )
        assert point.bound_j <= found.energy_j * (1 + 1e-9)

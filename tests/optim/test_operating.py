from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.operating import OperatingPlan, PowerTable, search
from fimi.optim.problem import FimiProblem, InfeasibleError


def own_cost(problem: FimiProblem) -> Any:
    """The problem's own model of computing, as a cost like any other."""

    def cost(samples: np.ndarray, frequency_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seconds = problem.cycles_per_pass * samples / frequency_hz
        power = problem.capacitance_w_per_hz3 * frequency_hz**3 + problem.active_power_w
        return seconds, power * seconds

    return cost


def assert_feasible(problem: FimiProblem, found: OperatingPlan) -> None:
    assert (found.compute_s + found.upload_s <= problem.t_max_s * (1 + 1e-9)).all()
    assert found.bandwidth_hz.sum() <= problem.bandwidth_hz * (1 + 1e-9)
    assert (found.power_w <= problem.transmit_power_max_w * (1 + 1e-9)).all()
    assert problem.error(found.samples.astype(float)) <= problem.error_max * (1 + 1e-9)
    assert (found.samples >= problem.local_samples).all()
    assert np.isfinite(found.energy_j)


@pytest.mark.parametrize("seed", range(3))
def test_with_the_convex_cost_it_comes_near_the_proved_optimum(fleet: Any, seed: int) -> None:
    problem = fleet(seed, 5)
    found = search(problem, own_cost(problem), seed=0)
    assert_feasible(problem, found)
    best = solve(InnerSolver(problem)).bound_j
    assert best * (1 - 1e-9) <= found.energy_j <= 1.01 * best


def table_for(problem: FimiProblem, steps: int, seed: int) -> PowerTable:
    """Rough powers: no power law, not even convex."""
    rng = np.random.default_rng(seed)
    rows = [
        np.linspace(low, high, steps)
        for low, high in zip(problem.frequency_min_hz, problem.frequency_max_hz, strict=True)
    ]
    powers = [
        problem.capacitance_w_per_hz3[i] * row**3 * rng.uniform(0.6, 1.7, steps) + 0.2
        for i, row in enumerate(rows)
    ]
    return PowerTable(
        frequencies_hz=tuple(tuple(map(float, row)) for row in rows),
        powers_w=tuple(tuple(map(float, row)) for row in powers),
        cycles_per_pass=tuple(map(float, problem.cycles_per_pass)),
    )


@pytest.mark.parametrize("seed", range(3))
def test_measured_tables_against_every_combination(fleet: Any, seed: int) -> None:
    """Data fixed: 6³ combinations of frequencies, each with its optimal bandwidths."""
    problem = fleet(seed, 3, error_max=math.inf)
    table = table_for(problem, 6, seed)
    found = search(problem, table, seed=0, frequencies_hz=table.frequencies_hz)
    inner = InnerSolver(problem)
    best = math.inf
    for row in itertools.product(*table.frequencies_hz):
        seconds, joules = table(problem.local_samples[None], np.array([row]))
        if (seconds >= problem.t_max_s).any():
            continue
        upload = inner.upload(problem.t_max_s - seconds)
        if upload.violation[0] == 0:
            best = min(best, float(joules.sum() + upload.energy_j.sum()))
    assert found.energy_j == pytest.approx(best, rel=1e-9)
    for frequency, steps in zip(found.frequency_hz, table.frequencies_hz, strict=True):
        assert frequency in steps


def test_tables_with_a_learning_constraint(fleet: Any) -> None:
    problem = fleet(1, 6)
    table = table_for(problem, 8, 0)
    found = search(problem, table, seed=0, frequencies_hz=table.frequencies_hz)
    assert_feasible(problem, found)
    again = search(problem, table, seed=0, frequencies_hz=table.frequencies_hz)
    assert again.energy_j == found.energy_j


def test_a_cost_that_fails_for_some_candidates(fleet: Any) -> None:
    """NaN above a temperature limit, say."""
    problem = fleet(0, 3)
    good = own_cost(problem)

    def cost(samples: np.ndarray, frequency_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seconds, joules = good(samples, frequency_hz)
        return seconds, np.where(frequency_hz > 0.8 * problem.frequency_max_hz, np.nan, joules)

    found = search(problem, cost, seed=0)
    assert (found.frequency_hz <= 0.8 * problem.frequency_max_hz).all()
    assert_feasible(problem, found)


def test_refusals(fleet: Any) -> None:
    problem = fleet(0, 3)
    with pytest.raises(InfeasibleError, match="none of"):
        search(fleet(0, 3, bandwidth_hz=1e3), own_cost(problem), seed=0)
    with pytest.raises(ValueError, match="2 rows for 3"):
        search(problem, own_cost(problem), seed=0, frequencies_hz=[[1e9], [1e9]])
    with pytest.raises(ValueError, match="device 0"):
        PowerTable(frequencies_hz=((2.0, 1.0),), powers_w=((1.0, 1.0),), cycles_per_pass=(1.0,))

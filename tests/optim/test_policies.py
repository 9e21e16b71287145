from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from policies import POLICIES, RULES, SEARCHES, compare

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.problem import FimiProblem, InfeasibleError


@pytest.fixture(scope="module")
def problem(fleet: Any) -> FimiProblem:
    found: FimiProblem = fleet(0, 5, error_max=0.4)
    return found


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_is_below_the_bound(problem: FimiProblem, name: str) -> None:
    if name == "cma-es":
        pytest.importorskip("cmaes")
    result = compare(problem, name, seed=1, evaluations=1500)
    assert result.policy == name
    if name == "no-synthetic":
        assert not result.meets_error
        return
    assert result.feasible, name
    assert result.meets_error
    assert result.energy_j >= solve(InnerSolver(problem)).bound_j
    if name in SEARCHES:
        assert result.evaluations <= 1700
        assert compare(problem, name, seed=1, evaluations=1500) == result


@pytest.mark.parametrize("name", ["cross-entropy", "gradient", "cma-es", "genetic"])
def test_good_searches_come_near(problem: FimiProblem, name: str) -> None:
    if name == "cma-es":
        pytest.importorskip("cmaes")
    best = solve(InnerSolver(problem)).energy_j
    assert compare(problem, name, seed=0, evaluations=6000).energy_j < 1.03 * best


def test_equal_bandwidth_by_the_cost_models_own_formulas(problem: FimiProblem) -> None:
    from fimi.energy.cost_model import upload_energy_j

    result = compare(problem, "equal-bandwidth")
    assert result.error == pytest.approx(problem.error_max, rel=1e-6)
    # With every frequency fixed energy is linear in D, so no more uploads than this are possible:
    inner = InnerSolver(problem)
    fastest = problem.cycles_per_pass * problem.local_samples / problem.frequency_max_hz
    least = sum(
        float(
            upload_energy_j(
                float(problem.payload_bits[i]),
                problem.bandwidth_hz / 5,
                float(problem.t_max_s[i] - fastest[i]),
                channel_gain=float(problem.channel_gain[i]),
                noise_density_w_per_hz=float(problem.noise_density_w_per_hz[i]),
            )
        )
        for i in range(5)
    )
    assert result.energy_j > least
    assert result.energy_j > solve(inner).energy_j


def test_equal_synthetic_gives_no_more_than_needed(problem: FimiProblem) -> None:
    result = compare(problem, "equal-synthetic")
    assert result.error is not None
    assert result.error <= problem.error_max * (1 + 1e-9)
    amounts = np.arange(0, 1501)
    errors = [problem.error(problem.local_samples + a) for a in amounts]
    first = int(np.argmax(np.array(errors) <= problem.error_max))
    assert result.error == pytest.approx(errors[first], rel=1e-12)


def test_a_rule_that_cannot_says_so(fleet: Any) -> None:
    problem = fleet(0, 4, bandwidth_hz=2.2e5 * 4, t_max_s=np.asarray(30.0))
    for name in RULES:
        result = compare(problem, name)
        if not result.feasible:
            assert result.energy_j == math.inf
    tight = fleet(0, 4, t_max_s=np.asarray(1e-2))
    assert not compare(tight, "half-split").feasible
    assert not compare(tight, "equal-bandwidth").feasible


def test_unknown_policy(problem: FimiProblem) -> None:
    with pytest.raises(ValueError, match="half-split"):
        compare(problem, "nonsense")


def test_fleet_without_work(fleet: Any) -> None:
    idle = fleet(0, 3, local_counts=np.zeros((3, 2), int), error_max=math.inf)
    try:
        assert compare(idle, "random", evaluations=50).feasible
    except InfeasibleError:
        pytest.fail("uploads alone are feasible")

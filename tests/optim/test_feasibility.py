from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.feasibility import require_feasible, time_windows
from fimi.optim.inner import InnerSolver
from fimi.optim.leanest import least_bandwidth
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem, InfeasibleError
from tests.optim.truth_costs import cost_of
from tests.optim.truth_problems import Problem, problems

replace = msgspec.structs.replace


def test_the_leanest_split_is_feasible_with_its_bandwidth_and_not_with_less(fleet: Any) -> None:
    problem = fleet(3, 5)
    lean = least_bandwidth(problem)
    enough = InnerSolver(replace(problem, bandwidth_hz=lean.bandwidth_hz * (1 + 1e-6)))
    assert enough.evaluate(lean.window_s[None]).violation[0] < 1e-6
    short = InnerSolver(replace(problem, bandwidth_hz=lean.bandwidth_hz * 0.999))
    rng = np.random.default_rng(0)
    near = lean.window_s * np.exp(rng.normal(0, 0.02, (5000, 5)))
    near = np.clip(near, 1e-3 * problem.t_max_s, 0.999 * problem.t_max_s)
    assert (short.evaluate(near).violation > 0).all()


def compute_times_are_within_the_windows(problem: FimiProblem, seed: int) -> int:
    """How many random candidates are feasible; the compute times of all of them are checked."""
    inner = InnerSolver(problem)
    earliest, latest = time_windows(inner)
    windows = np.random.default_rng(seed).uniform(0.02, 0.999, (300, problem.size))
    found = inner.evaluate(windows * problem.t_max_s)
    feasible = found.compute.time_s[found.violation == 0]
    assert (feasible >= earliest * (1 - 1e-9)).all()
    assert (feasible <= latest * (1 + 1e-9)).all()
    return len(feasible)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_windows_contain_every_feasible_split(fleet: Any, seed: int, size: int) -> None:
    compute_times_are_within_the_windows(fleet(seed, size), seed)


def test_many_of_these_splits_are_feasible(fleet: Any) -> None:
    feasible = [
        compute_times_are_within_the_windows(fleet(seed, size), seed)
        for seed in range(4)
        for size in (1, 3)
    ]
    assert sum(feasible) > 100


@given(problems((1, 4), budgets=False))
@settings(max_examples=40, deadline=None)
def test_windows_contain_planted_plans(drawn: Problem) -> None:
    """Radios with caps and electronics, processors with steps: the plan is one by construction."""
    problem, trial = drawn
    costs = cost_of(problem, trial)
    earliest, latest = time_windows(InnerSolver(problem))
    assert (costs.compute_s >= earliest * (1 - 1e-9)).all()
    assert (costs.compute_s <= latest * (1 + 1e-9)).all()
    assert least_bandwidth(problem).bandwidth_hz <= trial.bandwidth_hz.sum() * (1 + 1e-9)
    require_feasible(InnerSolver(problem))


def test_deadline_names_the_devices_and_the_remedy_works(fleet: Any) -> None:
    problem = fleet(1, 3, t_max_s=np.array([2.0, 60.0, 60.0]))
    with pytest.raises(InfeasibleError, match=r"device-0 needs .* s and has 2 s") as caught:
        require_feasible(InnerSolver(problem))
    assert caught.value.constraint == "deadline"
    assert caught.value.devices == ("device-0",)
    longer = caught.value.smallest_t_max_s
    assert longer is not None
    require_feasible(InnerSolver(replace(problem, t_max_s=longer)))
    with pytest.raises(InfeasibleError):
        shorter = problem.t_max_s + 0.999 * (longer - problem.t_max_s)
        require_feasible(InnerSolver(replace(problem, t_max_s=shorter)))


def test_bandwidth_says_how_much_is_needed(fleet: Any) -> None:
    problem = fleet(1, 4, bandwidth_hz=1e5)
    with pytest.raises(InfeasibleError, match="even without synthetic data") as caught:
        require_feasible(InnerSolver(problem))
    assert caught.value.constraint == "bandwidth"
    needed = caught.value.bandwidth_needed_hz
    assert needed is not None
    require_feasible(InnerSolver(replace(problem, bandwidth_hz=needed)))
    with pytest.raises(InfeasibleError):
        require_feasible(InnerSolver(replace(problem, bandwidth_hz=0.999 * needed)))


def test_too_much_data_for_the_time_gives_the_smallest_error(fleet: Any) -> None:
    problem = fleet(1, 4, error_max=0.25, t_max_s=np.full(4, 30.0))
    with pytest.raises(InfeasibleError, match="asks for more data") as caught:
        require_feasible(InnerSolver(problem))
    assert caught.value.constraint == "learning error"
    smallest = caught.value.smallest_error_max
    assert smallest is not None
    require_feasible(InnerSolver(replace(problem, error_max=smallest * (1 + 1e-7))))
    with pytest.raises(InfeasibleError):
        require_feasible(InnerSolver(replace(problem, error_max=smallest * 0.999)))


def test_no_deadline_helps_against_too_little_data(fleet: Any) -> None:
    problem = fleet(1, 3, generated_max=np.asarray(10.0))
    with pytest.raises(
        InfeasibleError, match="all the synthetic data that generated_max allows"
    ) as caught:
        require_feasible(InnerSolver(problem))
    assert caught.value.smallest_t_max_s is None
    smallest = caught.value.smallest_error_max
    assert smallest == pytest.approx(problem.error(problem.local_samples + 10), rel=1e-3)
    enough = caught.value.generated_max_needed
    assert enough is not None
    require_feasible(InnerSolver(replace(problem, generated_max=np.asarray(enough))))


def test_below_the_floor_of_the_curve(fleet: Any) -> None:
    curve = LearningCurve(alpha=2.0, beta=0.3, delta0=0.4)
    with pytest.raises(InfeasibleError, match=r"floor δ0 is 0\.4"):
        require_feasible(InnerSolver(fleet(1, 3, curve=curve)))


def test_a_device_that_can_have_no_data(fleet: Any) -> None:
    counts = np.array([[5], [0], [5]])
    problem = fleet(1, 3, local_counts=counts, generated_max=np.array([900.0, 0.0, 900.0]))
    with pytest.raises(InfeasibleError, match="generated_max is 0 for device-1") as caught:
        require_feasible(InnerSolver(problem))
    assert caught.value.devices == ("device-1",)
    unweighted = replace(problem, weights=np.array([0.5, 0.0, 0.5]))
    assert math.isfinite(require_feasible(InnerSolver(unweighted)).bandwidth_hz)

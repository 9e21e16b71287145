from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.cost_model import Array
from fimi.optim.feasibility import require_feasible
from fimi.optim.inner import InnerSolver
from fimi.optim.planner import plan
from fimi.optim.problem import FimiProblem
from fimi.optim.realise import Rows, Work, cost, realise, runnable, whole_samples
from tests.optim.truth_costs import Trial, cost_of


def with_steps(problem: FimiProblem, count: int) -> FimiProblem:
    """The problem with so many steps from each device's lowest to its highest frequency."""
    steps = tuple(
        tuple(np.linspace(low, high, count))
        for low, high in zip(problem.frequency_min_hz, problem.frequency_max_hz, strict=True)
    )
    return replace(problem, frequency_steps_hz=steps)


def realised(
    inner: InnerSolver,
    samples: Array,
    lane: Rows,
    window_s: Array,
    *,
    lean_s: Array,
    asked: Callable[[], None] = lambda: None,
) -> Work:
    """The work within windows in the longest round; the leanest plan has compute times of its own.

    ``asked`` is called when the leanest plan is.
    """

    def leanest() -> Any:
        asked()
        return replace(require_feasible(inner), window_s=lean_s)

    work = realise(inner, samples, lane, window_s, inner.problem.round_max_s, leanest)
    assert work is not None
    return work


@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_whole_samples_meet_the_constraint_and_stay_near(fleet: Any, seed: int, size: int) -> None:
    problem = fleet(seed, size)
    inner = InnerSolver(problem)
    window_s = 0.8 * problem.t_max_s
    found = inner.evaluate(window_s[None])
    if found.compute.violation[0] > 0:
        return
    real = found.compute.samples[0]
    whole = whole_samples(inner, real, window_s)
    assert problem.error(whole.astype(float)) <= problem.error_max * (1 + 1e-9)
    assert (np.abs(whole - real) < 1 + 1e-5).all()
    assert (whole >= problem.local_samples).all()
    assert (whole <= problem.local_samples + problem.generated_max).all()
    if (whole < real).any() and (whole > real).any():  # one less anywhere would be too few
        raised = np.flatnonzero(whole > real)
        fewer = whole.astype(float)
        fewer[raised] -= 1
        assert problem.error(fewer) > problem.error_max


def test_without_learning_constraint_the_local_data_is_all(fleet: Any) -> None:
    problem = fleet(0, 3, error_max=np.inf)
    whole = whole_samples(InnerSolver(problem), problem.local_samples, np.full(3, 20.0))
    np.testing.assert_array_equal(whole, problem.local_samples)


def test_no_lane_given_is_the_slowest_useful_step_that_is_in_time(fleet: Any) -> None:
    """Speeds for windows in which a law needs exactly a step, a little more, and a lot more."""
    steps = ((2e8, 1e9, 2e9), (), (1e9,))
    problem = fleet(
        0,
        3,
        frequency_min_hz=np.array([2e8, 1e8, 1e9]),
        frequency_max_hz=np.array([2e9, 2e9, 1e9]),
        frequency_steps_hz=steps,
        active_power_w=np.zeros(3),
        bandwidth_hz=4e7,
        generated_max=np.zeros(3),
        error_max=np.inf,
    )
    inner = InnerSolver(problem)
    cycles = problem.cycles_per_pass * problem.local_samples
    fastest = np.append(inner.lanes.starts[1:], inner.lanes.size) - 1
    lean_s = cycles / problem.frequency_max_hz
    for needed, runs_at in ((1e9, 1e9), (1e9 * (1 + 1e-10), 1e9), (1.01e9, 2e9)):
        windows = cycles / np.array([needed, 3e8, 1e9])
        work = realised(inner, problem.local_samples, fastest, windows, lean_s=lean_s)
        assert work.frequency_hz[0].tolist() == pytest.approx([runs_at, 3e8, 1e9], rel=1e-9)
        assert np.isfinite(cost(inner, work).energy_j).all()


def test_a_lane_that_is_dearer_than_a_faster_one_is_none(fleet: Any) -> None:
    """Measured points: the middle one draws as much as the fastest, and is never set."""
    problem = fleet(
        0,
        2,
        frequency_min_hz=np.full(2, 2e8),
        frequency_max_hz=np.full(2, 2e9),
        frequency_steps_hz=((2e8, 1e9, 2e9),) * 2,
        step_power_w=((0.1, 3.0, 3.0),) * 2,
        step_names=(("slow", "hot", "fast"),) * 2,
        bandwidth_hz=4e7,
    )
    inner = InnerSolver(problem)
    assert inner.lanes.step.tolist() == [0, 2, 0, 2]
    result = plan(problem, seed=0)
    for share in result.devices:
        assert share.point.setting in ("slow", "fast")
        watts = {"slow": 0.1, "fast": 3.0}[share.point.setting]
        assert share.compute_j == pytest.approx(watts * share.compute_s)


@pytest.mark.parametrize("idle_w", [0.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_discrete_plan_against_every_combination(fleet: Any, seed: int, idle_w: float) -> None:
    """Three devices, five steps: all 125 plans with the same samples and length of the round."""
    problem = with_steps(fleet(seed, 3, idle_power_w=np.full(3, idle_w)), 5)
    result = plan(problem, seed=0)
    samples = np.array([device.samples for device in result.devices])
    inner = InnerSolver(problem)
    cycles = problem.cycles_per_pass * samples
    best = np.inf
    for combination in itertools.product(*problem.frequency_steps_hz):
        f = np.array(combination)
        left = np.minimum(problem.t_max_s, result.round_s) - cycles / f
        if (left <= 0).any():
            continue
        upload = inner.upload(left[None])
        if upload.violation[0] > 0:
            continue
        power = problem.capacitance_w_per_hz3 * f**3 + problem.active_power_w
        above_idle_j = float((power * cycles / f).sum() + upload.energy_j.sum())
        best = min(best, above_idle_j + 3 * idle_w * result.round_s)
    assert result.energy_j == pytest.approx(best, rel=1e-9)
    for device, steps in zip(result.devices, problem.frequency_steps_hz, strict=True):
        assert device.point.frequency_hz in steps


def test_leans_on_the_leanest_split_when_rounding_takes_too_much_time(fleet: Any) -> None:
    problem = fleet(1, 4)
    inner = InnerSolver(problem)
    asked: list[bool] = []
    late = (1 - 1e-9) * problem.t_max_s  # no time left to upload
    work = realised(
        inner,
        problem.local_samples + 300.0,
        inner.lanes.starts,
        late,
        lean_s=0.6 * problem.t_max_s,
        asked=lambda: asked.append(True),
    )
    fleet_plan = runnable(inner, work)
    assert asked
    assert (fleet_plan.compute_s + fleet_plan.upload_s <= problem.t_max_s * (1 + 1e-12)).all()
    assert (fleet_plan.power_w <= problem.transmit_power_max_w).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
@settings(max_examples=20, deadline=None)
def test_what_a_candidate_costs_is_what_its_plan_costs(
    fleet: Any, seed: int, size: int, stepped: bool
) -> None:
    """By the cost model's own formulas; infinite means that no band and power make it possible."""
    rng = np.random.default_rng(seed)
    problem = fleet(seed, size, idle_power_w=rng.uniform(0.0, 3.0, size), receive_s=np.ones(size))
    if stepped:
        problem = with_steps(problem, 4)
    inner = InnerSolver(problem)
    found = inner.evaluate(rng.uniform(0.3, 0.9) * problem.t_max_s[None])
    if found.violation[0] > 0:
        return
    compute = found.compute
    work = realised(
        inner,
        compute.samples[0],
        compute.lane[0],
        compute.time_s[0],
        lean_s=compute.time_s[0],
    )
    made = runnable(inner, work)
    trial = Trial(
        samples=made.samples.astype(float),
        speed_hz=made.frequency_hz,
        bandwidth_hz=made.bandwidth_hz,
        transmit_power_w=made.power_w,
        round_s=made.round_s,
    )
    truth = cost_of(problem, trial)
    assert truth.broken == {}
    assert made.board_j(problem) == pytest.approx(truth.board_j, rel=1e-9)
    assert made.dynamic_j == pytest.approx(truth.dynamic_j, rel=1e-9)
    assert cost(inner, work).energy_j[0] == pytest.approx(truth.board_j, rel=1e-9)

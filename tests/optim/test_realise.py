from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.inner import InnerSolver
from fimi.optim.planner import plan
from fimi.optim.realise import realise, settable, whole_samples


def steps_for(problem: Any, count: int) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(np.linspace(low, high, count))
        for low, high in zip(problem.frequency_min_hz, problem.frequency_max_hz, strict=True)
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_whole_samples_meet_the_constraint_and_stay_near(fleet: Any, seed: int, size: int) -> None:
    problem = fleet(seed, size)
    inner = InnerSolver(problem)
    tau = np.full((1, size), 0.8)
    found = inner.evaluate(tau)
    if found.compute.violation[0] > 0:
        return
    real = found.compute.samples[0]
    whole = whole_samples(inner, real, tau[0])
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
    whole = whole_samples(InnerSolver(problem), problem.local_samples, np.full(3, 0.5))
    np.testing.assert_array_equal(whole, problem.local_samples)


def test_settable_is_the_next_step_up(fleet: Any) -> None:
    steps = ((2e8, 1e9, 2e9), (), (1e9,))
    problem = fleet(
        0,
        3,
        frequency_min_hz=np.array([2e8, 1e8, 1e9]),
        frequency_max_hz=np.array([2e9, 2e9, 1e9]),
        frequency_steps_hz=steps,
    )
    inner = InnerSolver(problem)
    np.testing.assert_array_equal(settable(inner, np.array([1e9, 3e8, 1e9])), [1e9, 3e8, 1e9])
    np.testing.assert_array_equal(settable(inner, np.array([1e9 * (1 + 1e-10), 3e8, 1e9]))[0], 1e9)
    np.testing.assert_array_equal(settable(inner, np.array([1.01e9, 3e8, 1e9]))[0], 2e9)


@pytest.mark.parametrize("seed", range(6))
def test_discrete_plan_against_every_combination(fleet: Any, seed: int) -> None:
    """Three devices, five steps: all 125 plans with the same samples."""
    problem = fleet(seed, 3)
    problem = msgspec.structs.replace(problem, frequency_steps_hz=steps_for(problem, 5))
    result = plan(problem, seed=0)
    samples = np.array([device.samples for device in result.devices])
    inner = InnerSolver(problem)
    cycles = problem.cycles_per_pass * samples
    best = np.inf
    for combination in itertools.product(*problem.frequency_steps_hz):
        f = np.array(combination)
        left = problem.t_max_s - cycles / f
        if (left <= 0).any():
            continue
        upload = inner.upload(left[None])
        if upload.violation[0] > 0:
            continue
        power = problem.capacitance_w_per_hz3 * f**3 + problem.active_power_w
        best = min(best, float((power * cycles / f).sum() + upload.energy_j.sum()))
    assert result.energy_j >= best * (1 - 1e-12)
    assert result.energy_j <= best * 1.02
    for device, steps in zip(result.devices, problem.frequency_steps_hz, strict=True):
        assert device.point.frequency_hz in steps


def test_leans_on_the_leanest_split_when_rounding_takes_too_much_time(fleet: Any) -> None:
    problem = fleet(1, 4)
    inner = InnerSolver(problem)
    asked = []
    good = np.full(4, 0.6)

    def leanest() -> np.ndarray:
        asked.append(True)
        return good

    late = np.full(4, 1 - 1e-9)  # no time left to upload
    runnable = realise(inner, problem.local_samples + 300.0, late, leanest)
    assert asked
    assert (runnable.compute_s + runnable.upload_s <= problem.t_max_s * (1 + 1e-12)).all()
    assert (runnable.power_w <= problem.transmit_power_max_w).all()

"""The least bandwidth over whole samples, against all whole samples there are."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import Array, uplink_rate_bps
from fimi.optim.inner import InnerSolver
from fimi.optim.planner import plan
from fimi.optim.problem import FimiProblem
from fimi.optim.realise import cost, least_whole_work
from fimi.optim.whole import exists, least_whole
from tests.optim.remedies import tightened
from tests.optim.truth_costs import cost_of, trial_of
from tests.optim.truth_problems import any_kind, planted


def narrowest_hz(problem: FimiProblem, device: int, samples: float) -> float:
    """By bisection on the rate: the least band with which a device is in time."""
    busy_s = problem.cycles_per_pass[device] * samples / problem.frequency_max_hz[device]
    left_s = problem.t_max_s[device] - busy_s
    if left_s <= 0 or problem.payload_bits[device] > problem.rate_cap_bps[device] * left_s:
        return math.inf
    needed_bps = problem.payload_bits[device] / left_s

    def rate(band_hz: float) -> float:
        return float(
            uplink_rate_bps(
                band_hz,
                problem.transmit_power_max_w[device],
                problem.channel_gain[device],
                problem.noise_density_w_per_hz[device],
            )
        )

    low, high = 1e-3, 1e15
    if rate(high) < needed_bps:
        return math.inf
    for _ in range(120):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if rate(middle) >= needed_bps else (middle, high)
    return high


def least_of_all(problem: FimiProblem, q: float) -> float:
    """The least band of every whole number of samples of every device."""
    local = problem.local_samples
    learns = problem.curve is not None and math.isfinite(problem.error_max)
    needs = (problem.weights > 0) & learns
    options: list[Array] = []
    for i in range(problem.size):
        most = local[i] + (problem.generated_max[i] if learns else 0.0)
        options.append(np.arange(max(local[i], float(needs[i])), most + 1.0))
        if not options[-1].size:
            return math.inf
    bands = [np.array([narrowest_hz(problem, i, d) for d in row]) for i, row in enumerate(options)]
    grid = np.stack([g.ravel() for g in np.meshgrid(*options, indexing="ij")], axis=1)
    total = sum(np.meshgrid(*bands, indexing="ij")).ravel()  # type: ignore[union-attr]
    if learns:
        worth = local + q * (grid - local)
        good = [problem.error(row) <= problem.error_max * (1.0 + 5e-10) for row in worth]
        total = np.where(good, total, np.inf)
    return float(total.min())


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([1.0, 0.6]))
@settings(max_examples=25, deadline=None)
def test_it_is_the_least_of_all_whole_samples(seed: int, size: int, q: float) -> None:
    problem = tightened(seed, size)
    most = 400 if size == 1 else 30 if size == 2 else 9
    problem = msgspec.structs.replace(
        problem, generated_max=np.minimum(problem.generated_max, most)
    )
    if (problem.worth_exponent != 1.0).any():
        q = 1.0
    expected = least_of_all(problem, q)
    found = least_whole(problem, q)
    if not math.isfinite(expected):
        assert not math.isfinite(found.bandwidth_hz)
        return
    assert found.bandwidth_hz == pytest.approx(expected, rel=3e-6)
    assert (found.samples == np.round(found.samples)).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_the_last_resort_needs_no_more_band(seed: int, size: int) -> None:
    problem, _ = planted(seed, size, any_kind(seed, budgets=False))
    assert exists(problem)
    tight = msgspec.structs.replace(
        problem, bandwidth_hz=least_whole(problem).bandwidth_hz * (1.0 + 1e-9)
    )
    assert exists(tight)
    inner = InnerSolver(tight)
    assert np.isfinite(cost(inner, least_whole_work(inner)).energy_j[0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=4, deadline=None)
def test_a_plan_is_found_whenever_one_exists(seed: int, size: int) -> None:
    problem, _ = planted(seed, size, any_kind(seed, budgets=False))
    band_hz = least_whole(problem).bandwidth_hz * (1.0 + 1e-9)
    tight = msgspec.structs.replace(problem, bandwidth_hz=band_hz)
    assert not cost_of(tight, trial_of(plan(tight, seed=0))).broken


@pytest.mark.parametrize("size", [40, 2000])
def test_large_fleets_are_within_one_step_of_the_real_optimum(size: int) -> None:
    problem, _ = planted(5, size, any_kind(5, budgets=False, learning=True))
    found = least_whole(problem)
    assert problem.error(found.samples) <= problem.error_max * (1.0 + 1e-9)
    fewer = np.maximum(found.samples - 1.0, problem.local_samples)
    assert problem.error(fewer) > problem.error_max
    assert found.bandwidth_hz <= problem.bandwidth_hz

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim import planner, quality
from fimi.optim.cross_entropy import SearchSettings
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.problem import FimiProblem, InfeasibleError, ProblemError
from fimi.optim.quality import chord, effective, tangent
from fimi.optim.rounds_model import RoundsModel

SEEDS = st.integers(0, 2**32 - 1)
VALUES = st.floats(0.3, 0.99)
QUICK = SearchSettings(iterations=1)
"""The plan of the dual decomposition, or one as good."""


def samples_of(plan: Any) -> np.ndarray:
    return np.array([share.samples for share in plan.devices], float)


def fixed(problem: FimiProblem, samples: np.ndarray) -> FimiProblem:
    """The problem in which every device has exactly so much data, all of it real."""
    return msgspec.structs.replace(
        problem,
        local_counts=samples.astype(np.int64)[:, None],
        generated_max=np.zeros(problem.size),
        error_max=np.inf,
    )


def test_worth_one_is_the_planner_to_the_last_digit(fleet: Any) -> None:
    problem = fleet(3, 5)
    one, other = quality.plan(problem, seed=1), planner.plan(problem, seed=1)
    assert one.devices == other.devices
    assert (one.energy_j, one.bound_j, one.error) == (other.energy_j, other.bound_j, other.error)
    assert one.synthetic_value == 1.0


def test_without_a_limit_on_the_error_the_worth_does_not_matter(fleet: Any) -> None:
    problem = fleet(3, 4, error_max=np.inf)
    found = quality.plan(problem, synthetic_value=0.4, seed=1)
    assert found.devices == planner.plan(problem, seed=1).devices


@given(SEEDS, st.integers(1, 8), VALUES)
@settings(max_examples=30, deadline=None)
def test_tangents_lie_below_and_chords_above(fleet: Any, seed: int, size: int, q: float) -> None:
    problem = fleet(seed, size)
    rng = np.random.default_rng(seed)
    local = problem.local_samples
    low, at, high = np.sort(local + rng.uniform(0.0, problem.generated_max, (3, size)), axis=0)
    law, wide = tangent(problem, q, at), chord(problem, q, low, high)
    for share in np.linspace(0.0, 1.0, 9):
        samples = low + share * (high - low)
        worth = effective(problem, q, samples)
        below = law.worth_scale * samples**law.worth_exponent
        above = wide.worth_scale * samples**wide.worth_exponent
        assert (below <= worth * (1 + 1e-12)).all()
        assert (above >= worth * (1 - 1e-12)).all()
    np.testing.assert_allclose(law.worth_scale * at**law.worth_exponent, effective(problem, q, at))


@given(SEEDS, st.integers(2, 6), VALUES)
@settings(max_examples=6, deadline=None)
def test_the_limit_holds_and_the_bound_is_below(fleet: Any, seed: int, size: int, q: float) -> None:
    problem = fleet(seed, size, error_max=0.34, bandwidth_hz=2e6 * size)
    try:
        found = quality.plan(problem, synthetic_value=q, seed=0, settings=QUICK)
    except InfeasibleError:
        return
    samples = samples_of(found)
    error = problem.error(effective(problem, q, samples))
    assert error <= problem.error_max * (1 + 1e-9)
    assert found.error == error
    assert found.synthetic_value == q
    assert found.bound_j is not None
    assert found.energy_j >= found.bound_j
    assert found.search_gap_percent is not None
    assert found.search_gap_percent < 0.05
    rng = np.random.default_rng(seed)
    local = problem.local_samples
    for _ in range(6):  # no other data plan that meets the limit is below the bound
        other = np.clip(samples + rng.normal(0.0, 0.1, size) * samples, local, local + 1500.0)
        while problem.error(effective(problem, q, other)) > problem.error_max:
            if (other >= local + 1500.0).all():
                break
            other = np.minimum(np.ceil(other * 1.01), local + 1500.0)
        else:
            try:
                energy_j = solve(InnerSolver(fixed(problem, np.ceil(other)))).energy_j
            except InfeasibleError:
                continue
            assert energy_j >= found.bound_j


@pytest.mark.parametrize("q", [0.9, 0.5, 0.25])
def test_one_device_needs_what_the_curve_says(fleet: Any, q: float) -> None:
    """The least whole D with Δ(D_loc + q (D − D_loc)) ≤ Δ_max, and that much real data's energy."""
    problem = fleet(2, 1)
    assert problem.curve is not None
    local = problem.local_samples
    needed = problem.curve.samples(problem.error_max)
    least = np.ceil(local + (needed - local) / q)
    found = quality.plan(problem, synthetic_value=q, seed=0)
    np.testing.assert_array_equal(samples_of(found), least)
    assert found.energy_j == pytest.approx(solve(InnerSolver(fixed(problem, least))).energy_j, 1e-6)


@given(SEEDS, st.integers(2, 6))
@settings(max_examples=4, deadline=None)
def test_worth_less_is_never_cheaper(fleet: Any, seed: int, size: int) -> None:
    problem = fleet(seed, size, error_max=0.36, bandwidth_hz=4e6 * size)
    last = 0.0
    for q in (1.0, 0.8, 0.5, 0.3):
        try:
            found = quality.plan(problem, synthetic_value=q, seed=0, settings=QUICK)
        except InfeasibleError:
            last = np.inf
            continue
        assert found.search_energy_j >= last * (1 - 1e-4)
        last = found.search_energy_j


def test_devices_without_data_and_without_weight(fleet: Any) -> None:
    problem = fleet(5, 4)
    counts = problem.local_counts.copy()
    counts[0] = counts[1] = 0
    weights = np.array([0.5, 0.0, 0.25, 0.25])
    problem = msgspec.structs.replace(problem, local_counts=counts, weights=weights)
    found = quality.plan(problem, synthetic_value=0.7, seed=0)
    assert found.status == "optimal"
    assert found.devices[0].samples > 0
    assert found.devices[1].samples == 0


def test_large_fleet_and_no_certificate(fleet: Any) -> None:
    problem = fleet(0, 40)
    found = quality.plan(problem, synthetic_value=0.7, seed=0, settings=QUICK)
    assert found.search == "dual decomposition"
    assert found.status == "optimal"
    options = SearchSettings(iterations=1, certify=False)
    found = quality.plan(problem, synthetic_value=0.7, seed=0, settings=options)
    assert (found.status, found.bound_j, found.gap_percent) == ("uncertified", None, None)


@pytest.mark.parametrize("q", [0.0, -0.5, 1.5, float("nan"), float("inf")])
def test_impossible_worth(fleet: Any, q: float) -> None:
    with pytest.raises(ProblemError, match="synthetic_value is"):
        quality.plan(fleet(0, 2), synthetic_value=q, seed=0)


def test_worth_too_little_whatever_the_time(fleet: Any) -> None:
    problem = fleet(0, 6)
    with pytest.raises(InfeasibleError, match=r"counts as 0\.05 real ones") as caught:
        quality.plan(problem, synthetic_value=0.05, seed=0)
    enough = caught.value.smallest_error_max
    assert enough is not None
    assert enough > problem.error_max
    quality.plan(msgspec.structs.replace(problem, error_max=enough), synthetic_value=0.05, seed=0)


def test_worth_too_little_for_the_time(fleet: Any) -> None:
    """What the message says would do does."""
    problem = fleet(0, 6)
    with pytest.raises(InfeasibleError, match=r"counts as 0\.2 real ones") as caught:
        quality.plan(problem, synthetic_value=0.2, seed=0)
    assert caught.value.smallest_error_max is not None
    looser = msgspec.structs.replace(problem, error_max=caught.value.smallest_error_max)
    assert quality.plan(looser, synthetic_value=0.2, seed=0).energy_j > 0


def test_the_choice_of_the_limit_counts_the_worth(fleet: Any) -> None:
    problem, rounds = fleet(1, 3), RoundsModel(scale=1.27, sensitivity=10.7)
    chosen = {q: quality.choose(problem, 0.9, synthetic_value=q, rounds=rounds) for q in (1.0, 0.6)}
    assert chosen[0.6].best.total_j > chosen[1.0].best.total_j
    for scale in (0.95, 1.05):  # either side is dearer
        other = msgspec.structs.replace(problem, error_max=chosen[0.6].best.error_max * scale)
        try:
            found = quality.plan(other, synthetic_value=0.6, seed=0, settings=QUICK)
        except InfeasibleError:
            continue
        total_j = rounds.rounds(other.error_max, 0.9) * found.search_energy_j
        assert total_j >= chosen[0.6].best.total_j * (1 - 1e-4)

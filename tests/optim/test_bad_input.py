"""Anything at all as input: a clear error, or a plan that holds. Never a warning, never NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fimi.optim.cross_entropy import SearchSettings
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import plan
from fimi.optim.problem import InfeasibleError, ProblemError

pytestmark = pytest.mark.filterwarnings("error")
ANYTHING = st.one_of(
    st.sampled_from([0.0, 5e-324, 1e-40, 1e40, 1e308, math.inf, -math.inf, math.nan, -1.0]),
    st.floats(-41, 41).map(lambda exponent: 10.0**exponent),
    st.floats(),
)

EXTREMES: dict[str, tuple[float, ...]] = {
    "cycles_per_sample": (1.0, 1e3, 1e12),
    "capacitance_w_per_hz3": (1e-40, 1e-20),
    "active_power_w": (0.0, 100.0, 1e6),
    "frequency_min_hz": (1.0, 1e9),
    "frequency_max_hz": (3e8, 1e12),
    "channel_gain": (1e-16, 1e0),
    "transmit_power_max_w": (1e-6, 1e9),
    "payload_bits": (1.0, 1e15),
    "t_max_s": (1e-3, 1e9),
    "generated_max": (0.0, 1e9),
    "bandwidth_hz": (1e-3, 1e12),
    "error_max": (1e-3, 50.0, math.inf),
    "epochs": (1, 1000),
}
IMPOSSIBLE = (math.nan, -1.0, math.inf, -math.inf)
ARRAYS = tuple(k for k in EXTREMES if k not in ("bandwidth_hz", "error_max", "epochs"))
QUICK = SearchSettings(samples=16, iterations=8)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from(sorted(EXTREMES)), st.integers(0, 2), max_size=3),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_extremes(
    fleet: Any, seed: int, size: int, picks: dict[str, int], one: bool, empty: bool
) -> None:
    problem = fleet(seed, size)
    changes: dict[str, Any] = {}
    for field, pick in picks.items():
        value = EXTREMES[field][pick % len(EXTREMES[field])]
        if field in ARRAYS:
            row = np.array(getattr(problem, field), float)
            row[: 1 if one else size] = value
            changes[field] = row
        else:
            changes[field] = value
    if empty:
        changes["local_counts"] = np.vstack([np.zeros((1, 5), int), problem.local_counts[1:]])
    try:
        problem = fleet(seed, size, **changes)
        result = plan(problem, seed=0, settings=QUICK)
    except (ProblemError, InfeasibleError) as error:
        assert str(error)
        return
    numbers = [result.energy_j, result.search_energy_j, result.bound_j]
    for share in result.devices:
        numbers += [share.compute_s, share.upload_s, share.compute_j, share.upload_j]
        assert share.compute_s + share.upload_s <= problem.t_max_s.max() * (1 + 1e-9)
        assert share.point.transmit_power_w <= problem.transmit_power_max_w.max()
    assert np.isfinite(np.array(numbers, float)).all()
    assert result.bound_j is not None
    assert result.bound_j <= result.search_energy_j * (1 + 1e-9)
    assert result.search_gap_percent is not None
    assert result.search_gap_percent < 0.1


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.dictionaries(st.sampled_from(sorted({*EXTREMES, "weights"})), ANYTHING, min_size=1),
    st.integers(0, 2),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_number_in_any_field(
    fleet: Any, seed: int, size: int, picks: dict[str, float], device: int
) -> None:
    """Any floating-point number for one device or the fleet: an error, or numbers that hold."""
    given = fleet(seed, size)
    changes: dict[str, Any] = {}
    for field, value in picks.items():
        if field in ("bandwidth_hz", "error_max", "epochs"):
            changes[field] = value
        else:
            row = np.array(getattr(given, field), float)
            row[device % size] = value
            changes[field] = row
    try:
        problem = fleet(seed, size, **changes)
        result = plan(problem, seed=0, settings=QUICK)
    except (ProblemError, InfeasibleError) as error:
        assert str(error)
        return
    numbers = [result.energy_j, result.bound_j]
    for share in result.devices:
        numbers += [share.compute_s, share.upload_s, share.compute_j, share.upload_j]
        assert min(share.synthetic_counts) >= 0
    assert np.isfinite(np.array(numbers, float)).all()
    assert min(numbers) >= 0
    assert result.bound_j is not None
    assert result.bound_j <= result.energy_j * (1 + 1e-9)


@given(st.sampled_from(sorted(ARRAYS)), st.sampled_from(IMPOSSIBLE), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_impossible_values_name_device_and_field(
    fleet: Any, field: str, value: float, device: int
) -> None:
    row = np.array(getattr(fleet(0, 3), field), float)
    row[device] = value
    with pytest.raises(ProblemError, match=f"device-{device}.*{field}"):
        fleet(0, 3, **{field: row})


@pytest.mark.parametrize("value", [math.nan, -1.0, 0.0, math.inf])
def test_impossible_bandwidth(fleet: Any, value: float) -> None:
    with pytest.raises(ProblemError, match="bandwidth_hz"):
        fleet(0, 2, bandwidth_hz=value)


def test_an_empty_fleet(fleet: Any) -> None:
    with pytest.raises(ProblemError, match="empty"):
        fleet(0, 0)


@given(st.integers(0, 2**32 - 1), ANYTHING, ANYTHING, ANYTHING, ANYTHING)
@settings(max_examples=60, deadline=None)
def test_any_number_in_the_curve(
    fleet: Any, seed: int, alpha: float, beta: float, delta0: float, error_max: float
) -> None:
    try:
        curve = LearningCurve(alpha=alpha, beta=beta, delta0=delta0)
    except ValueError as error:
        assert "learning curve" in str(error)
        return
    try:
        solution = solve(InnerSolver(fleet(seed, 3, curve=curve, error_max=error_max)))
    except (ProblemError, InfeasibleError):
        return
    assert math.isfinite(solution.energy_j)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 5.0), st.floats(1e-3, 100.0))
@settings(max_examples=40, deadline=None)
def test_any_curve(fleet: Any, seed: int, beta: float, alpha: float) -> None:
    curve = LearningCurve(alpha=alpha, beta=beta)
    try:
        solution = solve(InnerSolver(fleet(seed, 3, curve=curve)))
    except InfeasibleError:
        return
    assert solution.relative_gap < 1e-6


@given(st.sampled_from(["rounds", "fleet_budget_j"]), ANYTHING)
@settings(max_examples=60, deadline=None)
def test_any_rounds_and_any_budget_of_the_fleet(fleet: Any, field: str, value: float) -> None:
    good = 1e-40 <= value <= 1e40 or (field == "fleet_budget_j" and value == math.inf)
    if good:
        assert getattr(fleet(0, 2, **{field: value}), field) == value
        return
    with pytest.raises(ProblemError, match=f"^{field} is "):
        fleet(0, 2, **{field: value})


@pytest.mark.parametrize("field", ["t_max_s", "receive_s"])
@given(st.floats(1.0, 1e40))
@settings(max_examples=30, deadline=None)
def test_durations_end_at_thirty_years(fleet: Any, field: str, seconds: float) -> None:
    if seconds <= 1e9:
        assert getattr(fleet(0, 2, **{field: seconds}), field).max() == seconds
        return
    with pytest.raises(ProblemError, match=rf"{field} is .*to 1e\+09.*; (give|it is the size)"):
        fleet(0, 2, **{field: seconds})


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((6e8, 1e9, 1e9, 1.2e9), r"holds 1e\+09 Hz 2 times \(numbers 2 and 3\).*remove all but"),
        ((6e8, 1.2e9, 1e9), r"1e\+09 Hz \(number 3\) comes after 1\.2e\+09 Hz; sort them"),
        ((6e8, math.nan), r"nan Hz \(number 2\) comes after"),
        ((1e6, 1e9), r"1e\+06 Hz of frequency_steps_hz is not between .*widen the limits$"),
        ((600.0, 1200.0), r"600 Hz .*; 600 MHz are 6e\+08 Hz$"),
    ],
)
def test_steps_that_cannot_be_name_the_step(
    fleet: Any, steps: tuple[float, ...], said: str
) -> None:
    with pytest.raises(ProblemError, match=said) as raised:
        fleet(0, 1, frequency_min_hz=6e8, frequency_max_hz=1.2e9, frequency_steps_hz=(steps,))
    assert "(600000000.0" not in str(raised.value)


def test_a_power_that_cannot_be_names_its_step(fleet: Any) -> None:
    with pytest.raises(ProblemError, match=r"device-0.*step_power_w is -1 W at 1\.2e\+09 Hz"):
        fleet(
            0,
            1,
            frequency_min_hz=6e8,
            frequency_max_hz=1.2e9,
            frequency_steps_hz=((6e8, 1.2e9),),
            step_power_w=((1.0, -1.0),),
        )


def test_a_negative_linear_power_says_why(fleet: Any) -> None:
    with pytest.raises(ProblemError, match=r"more speed never takes less power.*measured"):
        fleet(0, 1, linear_power_w_per_hz=-1e-10)

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fimi.optim.problem import FimiProblem, ProblemError, tfl


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0])
@pytest.mark.parametrize("field", ["cycles_per_sample", "channel_gain", "t_max_s", "payload_bits"])
def test_error_names_device_and_field(fleet: Any, field: str, value: float) -> None:
    values = np.ones(3)
    values[1] = value
    with pytest.raises(ProblemError, match=rf"'device-1': {field} is"):
        fleet(0, 3, **{field: values})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_counts": np.array([[1], [-1], [0]])}, "'device-1': local_counts of class 0 is -1"),
        ({"local_counts": np.array([[1.5], [1], [0]])}, "whole number"),
        ({"local_counts": np.array([1, 2, 3])}, "one row"),
        ({"generated_max": np.array([1.0, 2.0])}, "generated_max: shape"),
        ({"weights": np.array([0.5, 0.5, 0.5])}, "weights: they add up to 1.5"),
        ({"weights": np.array([1.0, 0.5, -0.5])}, "'device-2': weights"),
        ({"frequency_min_hz": np.full(3, 3e9)}, "'device-0': frequency_min_hz"),
        ({"bandwidth_hz": 0.0}, "bandwidth_hz"),
        ({"error_max": math.nan}, "error_max"),
        ({"error_max": 0.0}, "error_max"),
        ({"curve": None}, "curve is missing"),
        ({"epochs": 0}, "epochs"),
        ({"devices": ()}, "empty"),
        ({"devices": ("a", "b", "a")}, "a listed more than once"),
        ({"frequency_steps_hz": ((), ())}, "2 entries for 3"),
        ({"frequency_steps_hz": ((), (9e8, 8e8), ())}, "'device-1': frequency_steps_hz must"),
        ({"frequency_steps_hz": ((), (8e8, 9e8), ())}, "highest of frequency_steps_hz"),
    ],
)
def test_refuses(fleet: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        fleet(0, 3, **changes)


def test_one_number_holds_for_every_device_and_arrays_cannot_change(fleet: Any) -> None:
    problem: FimiProblem = fleet(0, 3, t_max_s=np.asarray(30.0), generated_max=np.asarray(9.7))
    np.testing.assert_array_equal(problem.t_max_s, [30.0, 30.0, 30.0])
    np.testing.assert_array_equal(problem.generated_max, [9.0, 9.0, 9.0])
    with pytest.raises(ValueError, match="read-only"):
        problem.t_max_s[0] = 1.0


def test_given_arrays_stay_writeable(fleet: Any) -> None:
    mine = np.full(3, 30.0)
    fleet(0, 3, t_max_s=mine)
    mine[0] = 1.0


def test_tfl_takes_synthetic_data_and_learning_constraint_away(fleet: Any) -> None:
    problem = fleet(0, 3)
    baseline = tfl(problem)
    assert baseline.error_max == math.inf
    assert not baseline.generated_max.any()
    np.testing.assert_array_equal(baseline.t_max_s, problem.t_max_s)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.learning.training.aggregation import fedavg, without
from fimi.learning.training.slices import HeldModel

values = st.floats(-1e3, 1e3, width=32)


def model(*numbers: float) -> dict[str, np.ndarray]:
    return {"w": np.array(numbers, np.float32)}


def test_weighted_mean() -> None:
    mean = fedavg([model(0, 2), model(4, 2)], [1, 3])
    assert mean["w"].tolist() == [3.0, 2.0]
    assert mean["w"].dtype == np.float32


@given(st.lists(st.tuples(values, st.integers(1, 1000)), min_size=1, max_size=8))
def test_the_mean_lies_between_its_parts(parts: list[tuple[float, int]]) -> None:
    mean = float(fedavg([model(v) for v, _ in parts], [w for _, w in parts])["w"][0])
    low, high = min(v for v, _ in parts), max(v for v, _ in parts)
    slack = 1e-6 * max(abs(low), abs(high), 1e-30)
    assert low - slack <= mean <= high + slack


@given(values, st.integers(1, 9), st.floats(0.1, 10))
def test_equal_models_are_their_own_mean(value: float, count: int, weight: float) -> None:
    mean = fedavg([model(value)] * count, [weight] * count)["w"][0]
    assert mean == pytest.approx(np.float32(value), rel=1e-6, abs=1e-30)


def test_weight_zero_counts_for_nothing() -> None:
    assert fedavg([model(1), model(9)], [1, 0])["w"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("models", "weights"), [([], []), ([model(1)], [0]), ([model(1)], [-1]), ([model(1)], [1, 2])]
)
def test_nothing_to_average(models: list[dict[str, np.ndarray]], weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"averaged|weights"):
        fedavg(models, weights)


@given(st.lists(st.tuples(values, st.integers(1, 1000)), min_size=2, max_size=8))
def test_a_mean_without_a_model_is_the_mean_of_the_others(parts: list[tuple[float, int]]) -> None:
    models, weights = [model(v) for v, _ in parts], [w for _, w in parts]
    left = without(fedavg(models, weights), HeldModel(models[0]), weights[0] / sum(weights))
    others = fedavg(models[1:], weights[1:])
    slack = 1e-6 * max(abs(v) for v, _ in parts) * sum(weights) / sum(weights[1:])
    assert float(left["w"][0]) == pytest.approx(float(others["w"][0]), abs=slack + 1e-30)


def test_nothing_is_left_without_the_only_model() -> None:
    with pytest.raises(ValueError, match="something must be left"):
        without(model(1), HeldModel(model(1)), 1.0)

"""Median, trimmed mean and Krum, against plain NumPy over whole models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fimi.learning.training import aggregation, robust
from fimi.learning.training.aggregation import Scaled, fedavg, mean
from fimi.learning.training.robust import AggregationRule, krum, squared_distances, trimmed
from fimi.learning.training.slices import SLICE, HeldModel

BASE = {"w": np.array([[0.5, -1.0], [2.0, 0.0]], np.float32), "b": np.float32(1.0).reshape(1)}
numbers = st.floats(-1e3, 1e3, width=32)
fleets = st.lists(hnp.arrays(np.float32, 5, elements=numbers), min_size=1, max_size=9)


def models(rows: Sequence[np.ndarray]) -> list[HeldModel]:
    """Rows of five numbers as models with the shapes of the base."""
    return [HeldModel({"w": row[:4].reshape(2, 2), "b": row[4:]}) for row in rows]


def flat(model: dict[str, np.ndarray]) -> np.ndarray:
    assert [model[name].shape for name in BASE] == [tensor.shape for tensor in BASE.values()]
    assert all(tensor.dtype == np.float32 for tensor in model.values())
    return np.concatenate([model[name].ravel() for name in BASE])


def follow(kind: str, rows: Sequence[np.ndarray], **options: float) -> np.ndarray:
    rule = AggregationRule(kind=kind, **options)  # type: ignore[arg-type]
    return flat(rule.combine(BASE, models(rows), [1.0] * len(rows)).model)


@given(fleets)
def test_the_median_is_numpys(rows: list[np.ndarray]) -> None:
    expected = np.median(np.array(rows, np.float64), axis=0).astype(np.float32)
    np.testing.assert_array_equal(follow("median", rows), expected)


@given(fleets, st.floats(0.0, 0.49))
def test_the_trimmed_mean_leaves_out_the_ends(rows: list[np.ndarray], share: float) -> None:
    out = trimmed(len(rows), share)
    assert 2 * out < len(rows)
    assert out >= min(math.floor(share * len(rows)), (len(rows) - 1) // 2)
    kept = np.sort(np.array(rows, np.float64), axis=0)[out : len(rows) - out]
    found = follow("trimmed-mean", rows, trimmed_share=share)
    np.testing.assert_allclose(found, kept.mean(axis=0), rtol=1e-6, atol=1e-9)


@given(fleets.filter(lambda rows: len(rows) > 2), st.randoms(use_true_random=False))
def test_rules_by_number_do_not_depend_on_the_order(rows: list[np.ndarray], random: object) -> None:
    turned = rows[::-1]
    for kind in ("median", "trimmed-mean"):
        np.testing.assert_array_equal(follow(kind, rows), follow(kind, turned))


@given(fleets, st.integers(0, 4), st.integers(0, 10))
def test_krum_chooses_by_its_definition(rows: list[np.ndarray], byzantine: int, kept: int) -> None:
    chosen = krum(BASE, models(rows), byzantine, kept)
    count = len(rows)
    if count < 3:
        assert chosen == tuple(range(count))
        return
    wrong = min(byzantine, (count - 3) // 2)
    assert len(chosen) == (min(kept, count - wrong) if kept else count - wrong)
    whole = np.array(rows, np.float64)
    scores = []
    for i in range(count):
        apart = sorted(float(((whole[i] - whole[j]) ** 2).sum()) for j in range(count) if j != i)
        scores.append(math.fsum(apart[: count - wrong - 2]))
    slack = 1e-9 * max(1.0, float((whole**2).sum()))  # of models at the same distance either is it
    worst = max(scores[k] for k in chosen)
    assert all(scores[k] >= worst - slack for k in range(count) if k not in chosen)


@given(fleets)
def test_distances_are_those_of_the_models(rows: list[np.ndarray]) -> None:
    found = squared_distances(BASE, models(rows))
    whole = np.array(rows, np.float64)
    for i, j in itertools.product(range(len(rows)), repeat=2):
        expected = float(((whole[i] - whole[j]) ** 2).sum())
        assert found[i, j] == pytest.approx(expected, abs=1e-9 * max(1.0, float((whole**2).sum())))


HONEST = [np.full(5, value, np.float32) for value in (0.9, 1.0, 1.1, 1.05, 0.95)]


@pytest.mark.parametrize("kind", ["median", "trimmed-mean", "krum"])
@pytest.mark.parametrize("attack", [3e38, -3e38, -20.0, 0.0, 1e-30])
def test_one_of_six_ruins_nothing(kind: str, attack: float) -> None:
    for place in range(6):
        rows = [*HONEST[:place], np.full(5, attack, np.float32), *HONEST[place:]]
        found = follow(kind, rows, trimmed_share=0.2)
        assert (found >= 0.9).all()
        assert (found <= 1.1).all()


def test_the_mean_is_ruined_by_one() -> None:
    assert abs(follow("mean", [*HONEST, np.full(5, -20.0, np.float32)])).max() > 2.0


@pytest.mark.parametrize("kind", ["mean", "median", "trimmed-mean", "krum"])
def test_of_one_and_of_two_models_every_rule_is_their_mean(kind: str) -> None:
    """Of two nobody can say which one is wrong."""
    one, two = np.full(5, 1.0, np.float32), np.full(5, 4.0, np.float32)
    np.testing.assert_array_equal(follow(kind, [one]), one)
    np.testing.assert_array_equal(follow(kind, [one, two]), np.full(5, 2.5, np.float32))
    largest = np.full(5, np.finfo(np.float32).max, np.float32)
    np.testing.assert_array_equal(follow(kind, [largest, largest]), largest)


@given(fleets, st.data())
def test_weights_are_the_means_and_those_of_krums_choice(
    rows: list[np.ndarray], data: st.DataObject
) -> None:
    weights = [float(data.draw(st.integers(1, 50))) for _ in rows]
    found = AggregationRule().combine(BASE, models(rows), weights)
    assert found.shares == tuple(weight / sum(weights) for weight in weights)
    for kind in ("median", "trimmed-mean"):
        rule = AggregationRule(kind=kind)  # type: ignore[arg-type]
        weighed = rule.combine(BASE, models(rows), weights)
        assert weighed.shares is None
        np.testing.assert_array_equal(flat(weighed.model), follow(kind, rows))
    rule = AggregationRule(kind="krum", kept=0, byzantine=2)
    shares = rule.combine(BASE, models(rows), weights).shares
    chosen = krum(BASE, models(rows), 2, 0)
    assert shares is not None
    whole = sum(weights[k] for k in chosen)
    assert shares == tuple(
        weight / whole if k in chosen else 0.0 for k, weight in enumerate(weights)
    )


def test_a_chosen_device_that_declares_no_samples_still_counts() -> None:
    found = AggregationRule(kind="krum").combine(BASE, models(HONEST), [0.0] * 5)
    assert found.shares is not None
    assert sorted(found.shares) == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_nothing_makes_no_model() -> None:
    with pytest.raises(ValueError, match="make no model"):
        AggregationRule(kind="median").combine(BASE, [], [])
    with pytest.raises(ValueError, match="less than half"):
        robust.trimmed_mean(BASE, models(HONEST), 0.5)


def plain(rows: Sequence[dict[str, np.ndarray]], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """The mean of whole models, as it was before it was made slice by slice."""
    whole = float(sum(weights))
    sums: dict[str, np.ndarray] = {}
    for model, weight in zip(rows, weights, strict=True):
        for name, tensor in model.items():
            if name not in sums:
                sums[name] = np.zeros(tensor.shape, np.float64)
            sums[name] += (weight / whole) * tensor
    return {name: total.astype(np.float32) for name, total in sums.items()}


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_mean_has_the_digits_of_the_plain_sum(count: int, seed: int) -> None:
    """To the last bit, over the edges of slices: stored runs repeat."""
    generator = np.random.default_rng(seed)
    rows = [
        {
            "w": (generator.normal(size=(2, 3)) * 10.0 ** generator.integers(-6, 6)).astype("f4"),
            "long": generator.normal(size=SLICE + 3).astype(np.float32),
        }
        for _ in range(count)
    ]
    weights = generator.integers(1, 400, count).astype(float).tolist()
    expected = plain(rows, weights)
    for found in (fedavg(rows, weights), mean(rows[0], [HeldModel(r) for r in rows], weights)):
        for name, tensor in expected.items():
            assert found[name].tobytes() == tensor.tobytes()


@given(hnp.arrays(np.float32, 5, elements=numbers), st.floats(0.0, 1.0))
def test_a_scaled_model_lies_between_its_base_and_itself(row: np.ndarray, scale: float) -> None:
    (model,) = models([row])
    base = HeldModel(BASE)
    scaled = Scaled(model, base, scale)
    for name, tensor in BASE.items():
        found = scaled.read(name, 0, tensor.size)
        own, start = model.read(name, 0, tensor.size), base.read(name, 0, tensor.size)
        expected = start.astype(float) + scale * (own.astype(float) - start)
        np.testing.assert_array_equal(found, expected.astype(np.float32))
        if scale == 1.0:
            np.testing.assert_allclose(found, own, rtol=1e-6)


def test_every_number_is_one() -> None:
    assert aggregation.is_finite(BASE)
    for value in (math.inf, math.nan):
        assert not aggregation.is_finite({**BASE, "b": np.array([value], np.float32)})

"""fimi.learning.training.metrics: invariants of directions, and what was never reached is never a
number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fimi.learning.data.dataset import load_digits
from fimi.learning.training import metrics
from fimi.learning.training.metrics import Tensors
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings

FINITE = st.floats(-1e3, 1e3, width=32)
VECTORS = arrays(np.float32, 6, elements=FINITE)


def tensors(vector: Any) -> Tensors:
    """Six numbers as two tensors."""
    array = np.asarray(vector, np.float32)
    return {"weight": array[:4].reshape(2, 2), "bias": array[4:]}


class TestClassAccuracy:
    def test_by_hand(self) -> None:
        right = np.array([True, False, True, True])
        assert metrics.class_accuracy(right, np.array([0, 0, 2, 2]), 4) == (0.5, None, 1.0, None)

    @given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1))
    def test_weighted_by_samples_it_is_the_accuracy(self, answers: list[tuple[int, bool]]) -> None:
        labels = np.array([label for label, _ in answers], np.int64)
        right = np.array([hit for _, hit in answers])
        each = metrics.class_accuracy(right, labels, 5)
        counts = np.bincount(labels, minlength=5)
        assert [share is None for share in each] == [not count for count in counts]
        total = sum((share or 0.0) * count for share, count in zip(each, counts, strict=True))
        assert total / len(answers) == pytest.approx(right.mean())


def test_local_errors() -> None:
    assert metrics.local_errors({"a": 0.75, "b": 1.0}) == {"a": 0.25, "b": 0.0}
    with pytest.raises(ValueError, match="accuracy of a is 75"):
        metrics.local_errors({"a": 75.0})


class TestCosine:
    @given(VECTORS, VECTORS)
    def test_symmetric_and_bounded(self, a: Any, b: Any) -> None:
        cosine = metrics.cosine_similarity(tensors(a), tensors(b))
        assert cosine == metrics.cosine_similarity(tensors(b), tensors(a))
        if not a.any() or not b.any():
            assert cosine is None
        else:
            assert cosine is not None
            assert -1.0 <= cosine <= 1.0

    @given(VECTORS.filter(np.any), st.sampled_from([0.5, 2.0, 1024.0]))
    def test_only_the_direction_counts(self, a: Any, factor: float) -> None:
        assert metrics.cosine_similarity(tensors(a), tensors(a * factor)) == pytest.approx(1.0)
        assert metrics.cosine_similarity(tensors(a), tensors(a * -factor)) == pytest.approx(-1.0)

    def test_by_hand(self) -> None:
        one, other = tensors([1, 0, 0, 0, 1, 0]), tensors([1, 0, 0, 0, 0, 1])
        assert metrics.cosine_similarity(one, other) == pytest.approx(0.5)

    def test_neither_overflow_nor_underflow(self) -> None:
        for scale in (1e-40, 1e38):
            a, b = tensors(np.full(6, scale)), tensors([1, 1, 1, 1, 1, 1])
            assert metrics.cosine_similarity(a, b) == pytest.approx(1.0)

    def test_not_finite_has_no_direction(self) -> None:
        assert metrics.cosine_similarity(tensors([math.inf] * 6), tensors([1] * 6)) is None
        assert metrics.cosine_similarity(tensors([math.nan] * 6), tensors([1] * 6)) is None

    def test_other_tensors(self) -> None:
        with pytest.raises(ValueError, match="name or shape: bias, weight"):
            metrics.cosine_similarity(tensors([1] * 6), {"bias": np.zeros(3, np.float32)})


class TestGradients:
    @settings(max_examples=50)
    @given(st.lists(st.tuples(VECTORS, st.integers(1, 100)), min_size=1, max_size=5))
    def test_pooled_is_the_mean_over_samples(self, devices: list[tuple[Any, int]]) -> None:
        gradients = {str(i): tensors(vector) for i, (vector, _) in enumerate(devices)}
        samples = {str(i): count for i, (_, count) in enumerate(devices)}
        pooled = metrics.pooled_gradient(gradients, samples)
        every = np.concatenate([np.tile(v.astype(float), (count, 1)) for v, count in devices])
        assert pooled["bias"] == pytest.approx(every.mean(axis=0)[4:], abs=1e-9)

    def test_pooled_refuses(self) -> None:
        one = tensors([1] * 6)
        with pytest.raises(ValueError, match="same devices"):
            metrics.pooled_gradient({"a": one}, {"b": 1})
        with pytest.raises(ValueError, match="must not be negative or all zero"):
            metrics.pooled_gradient({"a": one}, {"a": 0})

    def test_a_trainers_step_is_the_gradient_and_the_pool_of_devices_is_that_of_their_data(
        self,
    ) -> None:
        """On real data: the devices' gradients average to the gradient on all of it."""
        digits = load_digits()
        start = initial_parameters("small-cnn", 10, (1, 8, 8), seed=1)
        trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))

        def gradient(indices: Any) -> Tensors:
            settings = TrainingSettings(epochs=1, batch_size=len(indices), learning_rate=0.5)
            images, labels = digits.images[indices], digits.labels[indices]
            done = trainer.train(start, images, labels, settings, stream=(0,))
            return metrics.gradient_of_step(start, done.parameters, 0.5)

        shares = {
            "low": np.flatnonzero(digits.labels[:300] < 3),
            "high": np.flatnonzero(digits.labels[:300] >= 3),
        }
        gradients = {device: gradient(indices) for device, indices in shares.items()}
        whole = gradient(np.arange(300))
        pooled = metrics.pooled_gradient(gradients, {d: len(i) for d, i in shares.items()})
        assert metrics.cosine_similarity(pooled, whole) == pytest.approx(1.0, abs=1e-3)
        aligned = metrics.alignment(gradients.items(), whole)
        assert aligned["high"] is not None
        assert aligned["low"] is not None
        assert aligned["low"] < aligned["high"] < 1.0


class TestOrthogonality:
    def test_by_hand(self) -> None:
        axes = [tensors(row) for row in np.eye(6)]
        assert metrics.orthogonality(axes) == pytest.approx(1.0)
        assert metrics.orthogonality([axes[0], axes[0]]) == pytest.approx(0.0)
        opposite = {name: -tensor for name, tensor in axes[0].items()}
        assert metrics.orthogonality([axes[0], opposite]) == pytest.approx(0.0)
        assert metrics.orthogonality([axes[0], axes[0], axes[1]]) == pytest.approx(2 / 3)

    def test_needs_two_directions(self) -> None:
        one, nothing = tensors([1] * 6), tensors([0] * 6)
        assert metrics.orthogonality([]) is None
        assert metrics.orthogonality([one]) is None
        assert metrics.orthogonality([one, nothing]) is None

    @given(st.lists(VECTORS.filter(np.any), min_size=2, max_size=5), st.randoms())
    def test_bounded_and_in_any_order(self, vectors: list[Any], random: Any) -> None:
        updates = [tensors(vector) for vector in vectors]
        value = metrics.orthogonality(updates)
        random.shuffle(updates)
        assert value == pytest.approx(metrics.orthogonality(updates), abs=1e-12)
        assert value is not None
        assert 0.0 <= value <= 1.0

"""Accuracy by device."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.record.fairness import Fairness, fairness


def test_by_hand() -> None:
    found = fairness((1.0, 0.5, 0.2), {"a": (3, 1, 0), "b": (0, 0, 7), "c": (1, 1, 1)})
    assert found.devices == pytest.approx({"a": 3.5 / 4, "b": 0.2, "c": 1.7 / 3})
    assert (found.worst_device, found.worst) == ("b", 0.2)
    known = [3.5 / 4, 0.2, 1.7 / 3]
    assert found.mean == pytest.approx(sum(known) / 3)
    assert found.std == pytest.approx(statistics.pstdev(known))


def test_a_class_without_test_images_is_missed_only_by_those_that_hold_it() -> None:
    found = fairness((0.9, None), {"a": (3, 1), "b": (4, 0), "c": ()})
    assert found.devices == {"a": None, "b": 0.9, "c": None}
    assert (found.worst, found.std, found.worst_device) == (0.9, 0.0, "b")


def test_nothing_known_is_not_fair() -> None:
    assert fairness((None,), {"a": (3,)}) == Fairness(devices={"a": None})


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=6))
def test_it_is_the_accuracy_on_test_images_with_the_labels_of_the_device(
    counts: list[list[int]],
) -> None:
    """As many test images of a class as the device holds, a share of them answered right."""
    generator = np.random.default_rng(0)
    right = generator.integers(0, 2, (4, 9))
    accuracy = tuple(right.mean(axis=1).tolist())
    found = fairness(accuracy, {str(i): each for i, each in enumerate(counts)})
    for i, each in enumerate(counts):
        answers = [right[k] for k, n in enumerate(each) for _ in range(n)]
        expected = float(np.concatenate(answers).mean()) if answers else None
        assert found.devices[str(i)] == (None if expected is None else pytest.approx(expected))
    known = [each for each in found.devices.values() if each is not None]
    assert found.worst == min(known, default=None)

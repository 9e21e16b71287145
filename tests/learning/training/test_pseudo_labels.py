"""Which images a model labels, and what looking at them counts as."""

from __future__ import annotations

import numpy as np
import pytest

from fimi.learning.training.pseudo_labels import choose, looked_at


def test_by_hand() -> None:
    # softmax of (ln 9, 0) is (0.9, 0.1)
    logits = np.array([[np.log(9.0), 0.0], [0.0, 0.0], [0.0, np.log(3.0)]], np.float32)
    kept, labels = choose(logits, 0.7)
    assert (kept.tolist(), labels.tolist()) == ([0, 2], [0, 1])
    kept, labels = choose(logits, 0.8)
    assert (kept.tolist(), labels.tolist()) == ([0], [0])


@pytest.mark.parametrize(("confidence", "count"), [(0.0, 3), (1.0, 0)])
def test_all_and_none(confidence: float, count: int) -> None:
    logits = np.zeros((3, 4), np.float32)
    assert len(choose(logits, confidence)[0]) == count


def test_large_logits_do_not_overflow() -> None:
    kept, labels = choose(np.array([[1e4, -1e4, 0.0]], np.float32), 0.99)
    assert (kept.tolist(), labels.tolist()) == ([0], [0])


def test_no_images() -> None:
    kept, labels = choose(np.zeros((0, 4), np.float32), 0.5)
    assert (len(kept), len(labels), labels.dtype) == (0, 0, np.int64)


@pytest.mark.parametrize(("images", "samples"), [(0, 0), (1, 1), (3, 1), (90, 30), (91, 31)])
def test_looking_is_a_third_of_training(images: int, samples: int) -> None:
    assert looked_at(images) == samples

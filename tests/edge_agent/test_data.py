from __future__ import annotations

import numpy as np
import pytest

from fimi.edge_agent.data import MixedData
from fimi.learning.data.dataset import Dataset


def local(count: int = 3) -> Dataset:
    return Dataset(
        name="local",
        images=np.full((count, 1, 8, 8), 7, np.uint8),
        labels=np.arange(count) % 2,
        class_names=("a", "b"),
    )


def test_local_data_comes_first_and_synthetic_behind_it() -> None:
    data = MixedData(local())
    assert (data.local_samples, data.synthetic_samples) == (3, 0)
    data.fill(np.full((2, 1, 8, 8), 9, np.uint8), np.array([1, 1]))
    images, labels = data.training_set()
    assert images[:, 0, 0, 0].tolist() == [7, 7, 7, 9, 9]
    assert labels.tolist() == [0, 1, 0, 1, 1]
    assert (data.local_samples, data.synthetic_samples) == (3, 2)


def test_a_new_batch_replaces_the_old_one() -> None:
    data = MixedData(local())
    data.fill(np.zeros((5, 1, 8, 8), np.uint8), np.zeros(5, np.int64))
    data.fill(np.zeros((1, 1, 8, 8), np.uint8), np.zeros(1, np.int64))
    assert data.synthetic_samples == 1
    data.clear()
    assert len(data.training_set()[1]) == 3


def test_images_of_another_data_set_are_refused() -> None:
    data = MixedData(local())
    with pytest.raises(ValueError, match="another data set"):
        data.fill(np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64))
    assert data.synthetic_samples == 0

"""fimi.edge_agent.data: own samples first, batches behind them in the order in which they came."""

from __future__ import annotations

import numpy as np
import pytest

from fimi.edge_agent.data import MixedData
from fimi.learning.data.dataset import Dataset, Images


def local(count: int = 3) -> Dataset:
    return Dataset(
        name="local",
        images=np.full((count, 1, 8, 8), 7, np.uint8),
        labels=np.arange(count) % 2,
        class_names=("a", "b"),
    )


def images(*values: int) -> Images:
    """Images of one grey each."""
    return np.stack([np.full((1, 8, 8), value, np.uint8) for value in values])


def seen(data: MixedData) -> list[tuple[int, int]]:
    """Grey and label of all that is trained on."""
    found, labels = data.training_set()
    return [(int(i[0, 0, 0]), int(label)) for i, label in zip(found, labels, strict=True)]


OWN = [(7, 0), (7, 1), (7, 0)]


def test_local_data_comes_first_and_synthetic_behind_it() -> None:
    data = MixedData(local())
    assert (data.local_samples, data.synthetic_samples) == (3, 0)
    data.add(images(8, 9), np.array([1, 1]))
    assert seen(data) == [*OWN, (8, 1), (9, 1)]
    assert (data.local_samples, data.synthetic_samples) == (3, 2)


def test_a_further_batch_follows_the_one_before() -> None:
    data = MixedData(local())
    data.add(images(10, 11), np.array([0, 1]))
    data.add(images(12), np.array([0]))
    assert seen(data) == [*OWN, (10, 0), (11, 1), (12, 0)]
    data.clear()
    assert seen(data) == OWN


def test_a_share_is_the_first_of_each_class_over_all_batches() -> None:
    data = MixedData(local())
    data.add(images(10, 11, 12), np.array([0, 0, 1]))
    data.add(images(20, 21, 22), np.array([1, 0, 0]))
    data.use = 0.5  # of four and of two
    assert seen(data) == [*OWN, (10, 0), (11, 0), (12, 1)]
    assert data.synthetic_samples == 3
    data.use = 0.6  # rounded up
    assert seen(data) == [*OWN, (10, 0), (11, 0), (12, 1), (20, 1), (21, 0)]
    data.use = 0.0
    assert seen(data) == OWN
    assert data.synthetic_samples == 0
    data.use = 1.0
    assert data.synthetic_samples == 6, "nothing was thrown away"


def test_a_cleared_device_uses_all_of_what_comes_next() -> None:
    data = MixedData(local())
    data.use = 0.0
    data.clear()
    data.add(images(10), np.array([0]))
    assert seen(data) == [*OWN, (10, 0)]


def test_a_share_does_not_concern_images_without_labels() -> None:
    data = MixedData(local())
    data.add(images(9), np.array([0]))
    data.hold(images(10, 11, 12))
    assert seen(data) == OWN, "they replace the batch"
    data.use = 0.5
    data.label(np.array([0, 2]), np.array([1, 1]))
    assert seen(data) == [*OWN, (10, 1), (12, 1)]
    assert data.synthetic_samples == 2


def test_images_of_another_data_set_are_refused_and_nothing_is_lost() -> None:
    data = MixedData(local())
    data.add(images(9), np.array([0]))
    with pytest.raises(ValueError, match="another data set"):
        data.add(np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64))
    assert seen(data) == [*OWN, (9, 0)]

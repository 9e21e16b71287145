"""fimi.coordinator.local_errors: devices' own models, judged on images nobody trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fimi.coordinator.local_errors import IMAGES_MAX, LocalErrors
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.data.dataset import Dataset, Images, Labels
from fimi.learning.training import tensors
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Evaluation
from fimi.record.results import DeviceRound


def images(count: int) -> Dataset:
    """Images whose only pixel is their label, 0 to 9 in turn."""
    labels = np.arange(count, dtype=np.int64) % 10
    return Dataset(
        name="x/validation",
        images=labels.astype(np.uint8).reshape(count, 1, 1, 1),
        labels=labels,
        class_names=tuple("0123456789"),
    )


class KnowsFirst:
    """A model is the number of classes that it knows, from 0; it is wrong about all others."""

    def __init__(self) -> None:
        self.seen: list[Images] = []

    def evaluate(self, parameters: Parameters, images: Images, labels: Labels) -> Evaluation:
        self.seen.append(images)
        known = images[:, 0, 0, 0] < parameters["known"][0]
        assert (images[:, 0, 0, 0] == labels).all()
        return Evaluation(
            accuracy=float(known.mean()),
            loss=1.0,
            class_accuracy=(None,) * 10,
            samples=len(labels),
        )


@pytest.fixture
def updates(tmp_path: Path) -> Updates:
    spool = UpdateStore(tmp_path)
    for device, known in (("a", 7), ("b", 10)):
        spool.put(device, tensors.dump({"known": np.full(1, known, np.float32)}))
    return Updates(spool, ("a", "b"))


def entry(device: str, status: str = "accepted") -> DeviceRound:
    return DeviceRound(device=device, status=status, local_samples=5)  # type: ignore[arg-type]


def test_of_every_device_its_own(updates: Updates) -> None:
    judge = LocalErrors(KnowsFirst(), images(20), seed=0)  # type: ignore[arg-type]
    assert judge.measured(updates) == pytest.approx({"a": 0.3, "b": 0.0})


@pytest.mark.parametrize("nothing", [None, images(0)])
def test_without_images_nothing_is_measured(nothing: Dataset | None, updates: Updates) -> None:
    trainer = KnowsFirst()
    judge = LocalErrors(trainer, nothing, seed=0)  # type: ignore[arg-type]
    (found,) = judge.beside((entry("a"),), updates, lambda entry: 0.1)
    assert (found.local_error, found.planned_error) == (None, 0.1)
    assert not trainer.seen


def test_only_of_updates_that_were_accepted(updates: Updates) -> None:
    judge = LocalErrors(KnowsFirst(), images(20), seed=0)  # type: ignore[arg-type]
    given = (entry("a"), entry("b"), entry("c", "late"))
    found = judge.beside(given, updates, lambda entry: {"a": 0.2, "b": None}[entry.device])
    assert [each.local_error for each in found] == pytest.approx([0.3, 0.0, None])
    assert [each.planned_error for each in found] == [0.2, None, None]
    assert found[2] == given[2]


def test_of_many_images_the_same_thousand_for_all_devices_drawn_by_the_seed(
    updates: Updates,
) -> None:
    drawn = []
    for seed in (0, 0, 1):
        trainer = KnowsFirst()
        LocalErrors(trainer, images(IMAGES_MAX + 500), seed=seed).measured(updates)  # type: ignore[arg-type]
        first, second = trainer.seen
        assert len(first) == IMAGES_MAX
        assert np.array_equal(first, second)
        drawn.append(first.tobytes())
    assert drawn[0] == drawn[1] != drawn[2]

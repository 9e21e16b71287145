from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fimi.learning.data.dataset import Dataset
from fimi.learning.training.pilot import even_level, federate, filled
from fimi.learning.training.trainer import Evaluation, TrainingResult, TrainingSettings


def data(labels: list[int], classes: int = 3) -> Dataset:
    return Dataset(
        name="d",
        images=np.zeros((len(labels), 1, 1, 1), np.uint8),
        labels=np.array(labels),
        class_names=tuple("abcdef"[:classes]),
    )


class Adder:
    """Training adds the number of samples to the parameter, times epochs; accuracy is a tenth."""

    def __init__(self) -> None:
        self.streams: list[tuple[tuple[int, ...], int]] = []

    def train(
        self, start: Any, images: Any, labels: Any, settings: Any, *, stream: Any, **given: Any
    ) -> TrainingResult:
        self.streams.append((stream, given["synthetic"]))
        value = start["w"] + len(labels) * settings.epochs
        return TrainingResult(
            parameters={"w": value.astype(np.float32)}, samples=1, loss=0.0, accuracy=0.0
        )

    def evaluate(self, parameters: Any, images: Any, labels: Any) -> Evaluation:
        return Evaluation(
            accuracy=float(parameters["w"][0]) / 10, loss=0.0, class_accuracy=(), samples=1
        )


def test_a_federation_averages_by_samples_as_a_run_does() -> None:
    """Two devices with 1 and 3 samples: a round adds (1·1 + 3·3)/4, times two epochs."""
    trainer: Any = Adder()
    held = [filled(data(labels), (0, 0, 0)) for labels in ([0], [], [1, 1, 2])]
    found = federate(
        trainer,
        {"w": np.zeros(1, np.float32)},
        [held] * 2,
        data([0]),
        TrainingSettings(epochs=2),
        seed=7,
    )
    assert list(found) == pytest.approx([0.5, 1.0])
    assert [stream for stream, _ in trainer.streams] == [
        (7, 0, 1), (7, 2, 1), (7, 0, 2), (7, 2, 2)
    ]  # fmt: skip


def test_what_is_filled_in_comes_last_and_is_counted() -> None:
    asked = []

    def draw(labels: Any) -> Any:
        asked.extend(labels.tolist())
        return np.full((len(labels), 1, 1, 1), 9, np.uint8)

    held = filled(data([1]), (2, 0, 1), draw)
    assert asked == [0, 0, 2]
    assert held.labels.tolist() == [1, 0, 0, 2]
    assert held.images.ravel().tolist() == [0, 9, 9, 9]
    assert held.synthetic == 3


def test_devices_are_filled_up_to_the_least_level_that_meets_the_error() -> None:
    level = even_level([2, 10, 30], lambda d: 1.0 / d, 0.1, 100)
    assert level == [6, 10, 30]  # (1/6 + 1/10 + 1/30) / 3 is 0.1

    def mean(samples: list[int]) -> float:
        return sum(1.0 / d for d in samples) / 3

    assert mean(level) <= 0.1 + 1e-12
    assert mean([5, 10, 30]) > 0.1
    with pytest.raises(ValueError, match="stays above"):
        even_level([2, 10, 30], lambda d: 1.0 / d, 0.01, 5)

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fimi.learning.data.dataset import Dataset, DatasetError, Images, Labels
from fimi.learning.training.curve_points import (
    CurvePoint,
    PointFile,
    amounts_of,
    check_amounts,
    epochs_for,
    measure,
)
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import (
    EpochDone,
    Evaluation,
    TrainingCancelled,
    TrainingResult,
    TrainingSettings,
)

SETTINGS = TrainingSettings(batch_size=10, epochs=3)
START = {"w": np.zeros(1, np.float32)}


def data(samples: int, classes: int = 2) -> Dataset:
    return Dataset(
        name="d",
        images=np.arange(samples, dtype=np.uint8).reshape(samples, 1, 1, 1),
        labels=np.arange(samples) % classes,
        class_names=tuple("abcdef"[:classes]),
    )


class OneOverSamples:
    """Its error is one over the samples that it has seen; stops when told to."""

    backend = "arithmetic"

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.epochs: list[int] = []

    def train(
        self,
        parameters: Parameters,
        images: Images,
        labels: Labels,
        settings: TrainingSettings,
        *,
        stream: tuple[int, ...],
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[EpochDone], None] | None = None,
    ) -> TrainingResult:
        if cancelled is not None and cancelled():
            raise TrainingCancelled("stopped")
        self.seen.append(tuple(images.ravel().tolist()))
        self.epochs.append(settings.epochs)
        return TrainingResult(
            parameters={"w": np.float32([1 / len(labels)])}, samples=1, loss=0.0, accuracy=0.0
        )

    def evaluate(self, parameters: Parameters, images: Images, labels: Labels) -> Evaluation:
        error = float(parameters["w"][0])
        return Evaluation(accuracy=1 - error, loss=0.0, class_accuracy=(), samples=1)


def points(trainer: OneOverSamples, done: tuple[CurvePoint, ...] = ()) -> list[CurvePoint]:
    ticks = itertools.count()
    return list(
        measure(
            trainer,
            START,
            data(40),
            data(4),
            SETTINGS,
            amounts=(10, 20, 40),
            draws=2,
            steps=8,
            seed=0,
            done=done,
            clock=lambda: float(next(ticks)),
        )
    )


class TestMeasure:
    def test_every_amount_and_draw_once_the_amounts_of_a_draw_nested(self) -> None:
        trainer = OneOverSamples()
        found = points(trainer)
        assert [(p.samples, p.draw) for p in found] == [
            (amount, draw) for draw in range(2) for amount in (10, 20, 40)
        ]
        assert [p.error for p in found[:3]] == pytest.approx([0.1, 0.05, 0.025])
        assert trainer.epochs[:3] == [8, 4, 2]
        assert set(trainer.seen[0]) < set(trainer.seen[1]) < set(trainer.seen[2])
        assert set(trainer.seen[0]) != set(trainer.seen[3])

    def test_what_is_there_is_not_measured_again(self) -> None:
        first = points(OneOverSamples())
        trainer = OneOverSamples()
        rest = points(trainer, done=tuple(first[:4]))
        assert [(p.samples, p.draw, p.error) for p in rest] == [
            (p.samples, p.draw, p.error) for p in first[4:]
        ]
        assert len(trainer.seen) == 2


class TestAmounts:
    def test_from_a_batch_to_everything(self) -> None:
        amounts = amounts_of(data(719), 20)
        assert (amounts[0], amounts[-1], len(amounts)) == (20, 719, 8)
        assert list(amounts) == sorted(set(amounts))

    def test_too_few_samples(self) -> None:
        with pytest.raises(DatasetError, match=r"39 samples of .* are too few"):
            amounts_of(data(39), 20)

    def test_the_first_amount_has_room_for_every_class(self) -> None:
        assert amounts_of(data(100), 1)[0] == data(100).classes

    def test_the_last_amount_may_be_limited(self) -> None:
        assert amounts_of(data(719), 20, most=300)[-1] == 300

    @pytest.mark.parametrize(
        ("amounts", "what"),
        [((10, 20), "2 different amounts"), ((1, 10, 20), "amount of 1"), ((9, 10, 41), "of 41")],
    )
    def test_amounts_that_cannot_be_drawn(self, amounts: tuple[int, ...], what: str) -> None:
        with pytest.raises(DatasetError, match=what):
            check_amounts(data(40), amounts)

    def test_a_class_without_samples(self) -> None:
        whole = data(40)
        lacking = whole.subset(np.flatnonzero(whole.labels == 0), "half")
        with pytest.raises(DatasetError, match="half has no sample of class b"):
            check_amounts(lacking, (5, 10, 20))

    def test_epochs(self) -> None:
        assert [epochs_for(n, SETTINGS, 100) for n in (5, 95, 5000)] == [100, 10, 1]
        assert epochs_for(5000, SETTINGS, 0) == 3


class TestPointFile:
    WHAT = {"data": "x"}  # noqa: RUF012

    def point(self, draw: int) -> CurvePoint:
        return CurvePoint(samples=10, draw=draw, epochs=1, error=0.5, seconds=1.0)

    def test_points_outlive_the_process(self, tmp_path: Path) -> None:
        path = tmp_path / "points.jsonl"
        file = PointFile(path, self.WHAT)
        file.add(self.point(0))
        file.add(self.point(1))
        again = PointFile(path, self.WHAT)
        assert again.points == file.points == (self.point(0), self.point(1))

    def test_a_line_that_was_cut_off_is_measured_again(self, tmp_path: Path) -> None:
        path = tmp_path / "points.jsonl"
        PointFile(path, self.WHAT).add(self.point(0))
        PointFile(path, self.WHAT).add(self.point(1))
        path.write_bytes(path.read_bytes()[:-5])
        cut = PointFile(path, self.WHAT)
        assert cut.points == (self.point(0),)
        cut.add(self.point(2))
        assert PointFile(path, self.WHAT).points == (self.point(0), self.point(2))

    def test_points_of_something_else_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "points.jsonl"
        PointFile(path, self.WHAT)
        with pytest.raises(DatasetError, match="points of another data"):
            PointFile(path, {"data": "y"})

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "points.jsonl"
        path.write_text("hello\n")
        with pytest.raises(DatasetError, match="holds no points"):
            PointFile(path, self.WHAT)

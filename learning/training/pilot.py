"""Short federations without boards: how many rounds an accuracy takes on given data.

* :func:`filled`    devices' samples with images of the classes that they lack
* :func:`federate`  the accuracy after each round of such a federation
* :func:`even_level`  the samples with which devices meet a mean error
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from msgspec import Struct

from fimi.learning.data.dataset import Dataset, Images, Labels
from fimi.learning.training.aggregation import fedavg
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingSettings


class Held(Struct, frozen=True, kw_only=True):
    """What a device of a pilot trains on.

    Attributes:
        images: local ones first, (D, channels, height, width).
        labels: (D,).
        synthetic: how many, the last ones, are filled in.
    """

    images: Images
    labels: Labels
    synthetic: int = 0


def filled(
    local: Dataset, counts: Sequence[int], draw: Callable[[Labels], Images] | None = None
) -> Held:
    """A device's samples and those that are filled in.

    Args:
        local: its own samples.
        counts: images to fill in of each class, (K,).
        draw: gives images of classes; may be left out where none are to be filled in.
    """
    labels = np.repeat(np.arange(local.classes, dtype=np.int64), counts)
    if not len(labels) or draw is None:
        return Held(images=local.images, labels=local.labels)
    return Held(
        images=np.concatenate([local.images, draw(labels)]),
        labels=np.concatenate([local.labels, labels]),
        synthetic=len(labels),
    )


def federate(
    trainer: Trainer,
    start: Parameters,
    by_round: Iterable[Sequence[Held]],
    judge: Dataset,
    settings: TrainingSettings,
    *,
    seed: int,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[float]:
    """Accuracy after each round of federated averaging: the trainings and means of a real run.

    Args:
        trainer: trains and evaluates.
        start: parameters to start from.
        by_round: what each device trains on, round by round; one without samples is left out.
        judge: images that nobody trains on.
        settings: training of a round, with its epochs.
        seed: of the run.
        cancelled: called during training; stops it by returning true.

    Raises:
        fimi.learning.training.trainer.TrainingDivergedError: a device's training diverged.
        fimi.learning.training.trainer.TrainingCancelled: ``cancelled`` returned true.
    """
    model = start
    for number, devices in enumerate(by_round, 1):
        taking_part = [(index, held) for index, held in enumerate(devices) if len(held.labels)]
        trained = [
            trainer.train(
                model,
                held.images,
                held.labels,
                settings,
                stream=(seed, index, number),
                synthetic=held.synthetic,
                cancelled=cancelled,
            ).parameters
            for index, held in taking_part
        ]
        model = fedavg(trained, [float(len(held.labels)) for _, held in taking_part])
        yield trainer.evaluate(model, judge.images, judge.labels).accuracy


def even_level(
    local: Sequence[int], error: Callable[[float], float], error_max: float, most: int
) -> list[int]:
    """Samples that each device is filled up to, the same for all that have fewer: (I,).

    It is the least of all samples with a mean error of at most ``error_max``, if the error is
    convex in them and every device counts the same.

    Args:
        local: samples that each device has, (I,).
        error: Δ(D) of a device.
        error_max: limit on the mean error.
        most: no device is filled with more than this.

    Raises:
        ValueError: not even with ``most`` for every device.
    """

    def at(level: int) -> list[int]:
        return [max(own, min(level, own + most)) for own in local]

    def mean(level: int) -> float:
        return sum(error(float(max(samples, 1))) for samples in at(level)) / len(local)

    low, high = 0, max(local) + most
    if mean(high) > error_max:
        raise ValueError(f"the mean error stays above {error_max:g}, whatever is filled in")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if mean(middle) > error_max else (low, middle)
    return at(high)

"""Errors at several amounts of data: the measurements behind a learning curve.

:func:`amounts_of` and :func:`widest_first` choose amounts and their order, :func:`measure` trains
from the same start on several draws of each amount and tests the results.
:class:`PointFile` keeps finished points, so that they are not measured again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from fimi.files import write_whole
from fimi.learning.data.dataset import Dataset, DatasetError, missing_classes
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingSettings

STEPS = 600
"""Steps of a training from scratch, about: what a device of the default run does until the target
(five passes over some 160 samples in batches of 20, in 14 rounds)."""


class CurvePoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result of one training.

    Attributes:
        samples: D, number of training samples.
        draw: number of the draw of that amount, from 0.
        epochs: passes over the samples.
        error: share of wrong answers on the test set, 0 to 1.
        seconds: wall time, s.
        images: number of test images behind the error; ``None`` in files from before it was kept.
    """

    samples: int
    draw: int
    epochs: int
    error: float
    seconds: float
    images: int | None = None


def amounts_of(data: Dataset, batch_size: int, count: int = 8, most: int = 0) -> tuple[int, ...]:
    """Amounts from one batch to all samples, evenly spaced in the logarithm.

    Args:
        data: samples to draw from.
        batch_size: the first amount; as many as there are classes if that is more.
        count: number of amounts.
        most: the last one, where there are more samples; 0: all.

    Raises:
        DatasetError: there are fewer than two such batches of samples.
    """
    first = max(batch_size, data.classes)
    last = min(len(data), most or len(data))
    if last < 2 * first:
        raise DatasetError(
            f"{last} samples of {data.name} are too few for a learning curve that begins at "
            f"{first}; lower training.batch_size, or raise data.public_fraction or data.limit",
            code="D006",
        )
    return tuple(sorted({round(each) for each in np.geomspace(first, last, count).tolist()}))


def widest_first(amounts: Sequence[int]) -> tuple[int, ...]:
    """The amounts in an order whose beginnings span the range: both ends, then between them."""
    left = sorted(amounts)
    order = [left.pop()]
    while left:  # the amount that is farthest from all before it, in the logarithm
        apart = [min(abs(math.log(each / there)) for there in order) for each in left]
        order.append(left.pop(apart.index(max(apart))))
    return tuple(order)


def epochs_for(samples: int, settings: TrainingSettings, steps: int) -> int:
    """Epochs with about so many steps, at least one; for 0 steps the configured number."""
    if not steps:
        return settings.epochs
    return max(1, round(steps / math.ceil(samples / settings.batch_size)))


def check_amounts(data: Dataset, amounts: Sequence[int]) -> None:
    """Make sure that a curve can be measured.

    Raises:
        DatasetError: a class has no samples, there are fewer than three amounts, or an amount is
            larger than the data.
    """
    if lacking := missing_classes(data):
        raise DatasetError(
            f"{data.name} has no sample of class {', '.join(lacking[:8])}; errors on it would "
            "never fall, whatever the amount",
            code="D006",
        )
    if len(set(amounts)) < 3:
        raise DatasetError(
            f"{len(set(amounts))} different amounts of data; a curve of three parameters needs at "
            "least 3",
            code="D006",
        )
    for amount in amounts:
        if not data.classes <= amount <= len(data):
            raise DatasetError(
                f"an amount of {amount}: {data.name} has {data.classes} classes and {len(data)} "
                "samples; take amounts between the two",
                code="D006",
            )


def measure(
    trainer: Trainer,
    start: Parameters,
    data: Dataset,
    test: Dataset,
    settings: TrainingSettings,
    *,
    amounts: Sequence[int],
    draws: int,
    steps: int,
    seed: int,
    done: Sequence[CurvePoint] = (),
    cancelled: Callable[[], bool] | None = None,
    clock: Callable[[], float],
) -> Iterator[CurvePoint]:
    """Train and test, one point after the other, one draw of every amount before the next draw.

    A measurement that ends early therefore has every amount as often as possible.

    Args:
        trainer: trainer of the network.
        start: where every training starts.
        data: samples to draw from, without regard to class.
        test: held-out data.
        settings: training settings; ``steps`` sets the epochs, and ``proximal`` counts as 0.
        amounts: D of each training, see :func:`check_amounts`.
        draws: number of draws of each amount.
        steps: approximate number of steps, see :func:`epochs_for`.
        seed: seed of the draws and of the order of samples.
        done: points that are not measured again.
        cancelled: called during training; stops it by returning true.
        clock: gives monotonic seconds.

    Yields:
        New points.

    Raises:
        DatasetError: see :func:`check_amounts`.
        fimi.learning.training.trainer.TrainingCancelled: ``cancelled`` returned true.
    """
    check_amounts(data, amounts)
    there = {(point.samples, point.draw) for point in done}
    for draw in range(draws):
        order = np.random.default_rng((seed, draw)).permutation(len(data))
        for amount in amounts:
            if (amount, draw) in there:
                continue
            began_s = clock()
            chosen = order[:amount]
            epochs = epochs_for(amount, settings, steps)
            result = trainer.train(
                start,
                data.images[chosen],
                data.labels[chosen],
                # from scratch there is no global model that parameters are to stay near
                msgspec.structs.replace(settings, epochs=epochs, steps=0, proximal=0.0),
                stream=(seed, draw, amount),
                cancelled=cancelled,
            )
            scored = trainer.evaluate(result.parameters, test.images, test.labels)
            yield CurvePoint(
                samples=amount,
                draw=draw,
                epochs=epochs,
                error=1.0 - scored.accuracy,
                seconds=clock() - began_s,
                images=len(test),
            )


class PointFile:
    """Points in a file of JSON lines; the first line says what was measured.

    Args:
        path: the file; made if it does not exist.
        what: everything that determines a point besides amount and draw.

    Raises:
        DatasetError: the file holds points of another measurement, or is not such a file.
    """

    def __init__(self, path: Path, what: dict[str, str]) -> None:
        self._path = path
        self.points: tuple[CurvePoint, ...] = ()
        if not path.exists():
            write_whole(path, msgspec.json.encode(what) + b"\n")
            return
        lines = path.read_bytes().splitlines()
        try:
            kept = msgspec.json.decode(lines[0], type=dict[str, str])
            # A line that was not written completely is measured again.
            whole = lines[1:] if path.read_bytes().endswith(b"\n") else lines[1:-1]
            self.points = tuple(msgspec.json.decode(line, type=CurvePoint) for line in whole)
        except (IndexError, msgspec.DecodeError) as error:
            raise DatasetError(
                f"{path} holds no points of a learning curve: {error}", code="D006"
            ) from error
        if kept != what:
            other = sorted(k for k in {*kept, *what} if kept.get(k) != what.get(k))
            raise DatasetError(
                f"{path} holds points of another {', '.join(other)}; name another file, or remove "
                "it",
                code="D006",
            )
        if len(whole) < len(lines) - 1:
            write_whole(path, b"\n".join([lines[0], *whole]) + b"\n")

    def add(self, point: CurvePoint) -> None:
        """Keep a point."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(point) + b"\n")
        self.points = (*self.points, point)

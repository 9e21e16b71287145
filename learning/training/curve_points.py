"""Errors at several amounts of data: the measurements behind a learning curve.

:func:`measure` trains from the same start on several draws of each amount and tests what came of
it. What is finished can be kept with :class:`PointFile` and is not measured again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from fimi.files import write_whole
from fimi.learning.data.dataset import Dataset, DatasetError
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingSettings


class CurvePoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One training.

    Attributes:
        samples: D that it trained on.
        draw: which draw of that many, from 0.
        epochs: passes over them.
        error: share of wrong answers on the test set, 0 to 1.
        seconds: it took, wall time.
    """

    samples: int
    draw: int
    epochs: int
    error: float
    seconds: float


def amounts_of(available: int, batch_size: int, count: int = 8) -> tuple[int, ...]:
    """Amounts from one batch to all there is, evenly spaced in the logarithm.

    Raises:
        DatasetError: not twice as many samples as a batch has.
    """
    if available < 2 * batch_size:
        raise DatasetError(
            f"{available} samples are too few for a learning curve that begins at a batch of "
            f"{batch_size}; give amounts, lower training.batch_size, or take the other part"
        )
    spaced = np.geomspace(batch_size, available, count)
    return tuple(sorted({round(each) for each in spaced.tolist()}))


def epochs_for(samples: int, settings: TrainingSettings, steps: int) -> int:
    """Epochs until about so many steps are done, at least one; the configured ones for 0 steps."""
    if not steps:
        return settings.epochs
    return max(1, round(steps / math.ceil(samples / settings.batch_size)))


def check_amounts(data: Dataset, amounts: Sequence[int]) -> None:
    """Make sure that a curve can be measured.

    Raises:
        DatasetError: a class without samples, fewer than three amounts, or an amount that is not
            there.
    """
    lacking = [n for n, k in zip(data.class_names, data.label_counts(), strict=True) if not k]
    if lacking:
        raise DatasetError(
            f"{data.name} has no sample of class {', '.join(lacking[:8])}; errors on it would "
            "never fall, whatever the amount"
        )
    if len(set(amounts)) < 3:
        raise DatasetError(
            f"{len(set(amounts))} different amounts of data; a curve of three parameters needs at "
            "least 3"
        )
    for amount in amounts:
        if not data.classes <= amount <= len(data):
            raise DatasetError(
                f"an amount of {amount}: {data.name} has {data.classes} classes and {len(data)} "
                "samples; take amounts between the two"
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

    So a measurement that ends early has every amount as often as possible.

    Args:
        trainer: of the network.
        start: parameters that every training starts from.
        data: what is drawn from, without regard to class.
        test: held-out data.
        settings: how; epochs are set by ``steps``.
        amounts: D of each training, see :func:`check_amounts`.
        draws: of each amount.
        steps: about how many are done, see :func:`epochs_for`.
        seed: of the draws and the order of samples.
        done: points that there are; not measured again.
        cancelled: asked during training.
        clock: seconds, monotonic.

    Yields:
        New points.

    Raises:
        DatasetError: see :func:`check_amounts`.
        fimi.learning.training.trainer.TrainingCancelled: ``cancelled`` said yes.
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
                msgspec.structs.replace(settings, epochs=epochs, steps=0),
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
            )


class PointFile:
    """Points that outlive the process: JSON lines, the first of which says what they are of.

    Args:
        path: the file; made if it is not there.
        what: everything that decides a point besides amount and draw.

    Raises:
        DatasetError: the file holds points of something else, or no points.
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
            # A line that was being written when the machine went down is measured again.
            whole = lines[1:] if path.read_bytes().endswith(b"\n") else lines[1:-1]
            self.points = tuple(msgspec.json.decode(line, type=CurvePoint) for line in whole)
        except (IndexError, msgspec.DecodeError) as error:
            raise DatasetError(f"{path} holds no points of a learning curve: {error}") from error
        if kept != what:
            other = sorted(k for k in {*kept, *what} if kept.get(k) != what.get(k))
            raise DatasetError(
                f"{path} holds points of another {', '.join(other)}; name another file, or remove "
                "it"
            )
        if len(whole) < len(lines) - 1:
            write_whole(path, b"\n".join([lines[0], *whole]) + b"\n")

    def add(self, point: CurvePoint) -> None:
        """Keep a point."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(point) + b"\n")
        self.points = (*self.points, point)

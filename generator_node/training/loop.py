"""The loop of a training: progress, previews, checkpoints, continuing from one.

:mod:`fimi.generator_node.training.diffusion_training` and
:mod:`fimi.generator_node.training.gan_training` train different networks; both use this loop.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from fimi.generator_node.generators.base import Generator
from fimi.generator_node.generators.card import NO_DIGEST, Card, CardKind
from fimi.generator_node.training import checkpoint as checkpoints
from fimi.generator_node.training.checkpoint import Position, Training
from fimi.generator_node.training.network import library_versions
from fimi.learning.data.dataset import Dataset, Images

NETWORK = "network"
"""Name, in a checkpoint's :class:`Training`, of the network that is the result."""
PREVIEW_IMAGES = 10
"""Number of preview images of every class."""
_UNORDERED = torch.empty(0, dtype=torch.int64)


class TrainingProgress(Struct, frozen=True, kw_only=True):
    """Finished and all steps, running mean of the training loss, and wall time, s."""

    step: int
    steps: int
    loss: float
    seconds: float


class TrainingWatch(Struct, frozen=True, kw_only=True):
    """Progress, checkpoints and previews of a training.

    Attributes:
        progress: called about a hundred times, and after the last step.
        checkpoint: file that is written every ``every`` steps; if it exists, the training
            continues from it.
        every: steps between two checkpoints or previews.
        look: called with the step while the network has the averaged weights.
    """

    progress: Callable[[TrainingProgress], None] | None
    checkpoint: Path | None
    every: int
    look: Callable[[int], None]


class TrainingCourse:
    """The steps of a training, from the first one or from a checkpoint to the last.

    Args:
        training: its state; the network named :data:`NETWORK` is the result.
        steps: number of all steps.
        learning_rate: learning rate, for the message when the loss is not finite.
        purpose: settings and data of the training, which a checkpoint must have too.
        watch: progress, checkpoints and previews.

    Attributes:
        resumed: position of the checkpoint; ``None`` without one.

    Raises:
        GeneratorError: the checkpoint is damaged or belongs to another training.
    """

    def __init__(
        self,
        training: Training,
        *,
        steps: int,
        learning_rate: float,
        purpose: Any,
        watch: TrainingWatch,
    ) -> None:
        self._training = training
        self._network = training.networks[NETWORK]
        self._steps = steps
        self._learning_rate = learning_rate
        self._purpose = json.dumps(purpose)
        self._watch = watch
        self._report_every = max(1, steps // 100)
        self._began_s = time.monotonic()
        self._loss = math.nan
        self.resumed: Position | None = None
        if watch.checkpoint is not None and watch.checkpoint.exists():
            self.resumed = checkpoints.read(watch.checkpoint, training, self._purpose)
            self._loss = self.resumed.loss
            self._began_s -= self.resumed.seconds

    @property
    def steps(self) -> range:
        """The steps that are left, numbered from 1."""
        return range(self.resumed.step + 1 if self.resumed else 1, self._steps + 1)

    def stepped(self, step: int, loss: float, order: Tensor = _UNORDERED, at: int = 0) -> None:
        """Handle the end of a step: average, progress, checkpoint, preview.

        Args:
            step: number of the step.
            loss: loss of its batch.
            order: order of the images in this pass; empty where every step draws its own.
            at: how many of ``order`` have been used.

        Raises:
            FloatingPointError: the loss is not finite any more.
        """
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} at step {step}; take a learning_rate below "
                f"{self._learning_rate}"
            )
        self._loss = loss if math.isnan(self._loss) else 0.98 * self._loss + 0.02 * loss
        seconds = time.monotonic() - self._began_s
        watch, last = self._watch, step == self._steps
        if watch.progress and (step % self._report_every == 0 or last):
            watch.progress(
                TrainingProgress(step=step, steps=self._steps, loss=self._loss, seconds=seconds)
            )
        if step % watch.every == 0 and not last:
            average, weights = self._training.average, self._network.parameters
            average.store(weights())
            average.copy_to(weights())
            watch.look(step)
            average.restore(weights())
            if watch.checkpoint is not None:
                here = Position(step=step, order=order, at=at, loss=self._loss, seconds=seconds)
                checkpoints.write(watch.checkpoint, self._training, here, self._purpose)

    def end(self) -> tuple[float, float]:
        """Give the network the averaged weights; returns the running loss and the seconds."""
        self._training.average.copy_to(self._network.parameters())
        self._watch.look(self._steps)
        return self._loss, time.monotonic() - self._began_s


def first_card(
    public: Dataset, settings: Struct, *, kind: CardKind, name: str, levels: tuple[int, ...]
) -> Card:
    """The card of a training that begins; an empty ``name`` stands for that of the data.

    Raises:
        ValueError: there are no images to train on.
    """
    if not len(public):
        raise ValueError(f"{public.name} holds no images to train on")
    return Card(
        kind=kind,
        name=name or public.name,
        dataset=public.name,
        class_names=public.class_names,
        image_shape=public.image_shape,
        levels=levels,
        data_digest=public.digest(),
        weights_digest=NO_DIGEST,
        training=msgspec.to_builtins(settings),
        loss=0.0,
        seconds=0.0,
        libraries=library_versions(),
    )


def preview_images(generator: Generator, classes: int) -> Images:
    """:data:`PREVIEW_IMAGES` of every class, class after class, always with the same seeds."""
    labels = np.repeat(np.arange(classes, dtype=np.int64), PREVIEW_IMAGES)
    return generator.generate(labels, np.arange(len(labels), dtype=np.uint64))

"""Training a class-conditional diffusion model on a public data set.

:func:`train` returns a :class:`Trained`, whose :meth:`Trained.save` writes the folder that
:mod:`fimi.generator_node.generators.folder` describes. The recipe: v-prediction, AdamW with warm-up
and cosine decay, exponential moving average of the weights, the label dropped in 10 % of the cases
(null class), and random affine changes of four images in five. The generated images show these
changes too. A model with changes half as large, trained for 6,000 steps, made images that looked
more like real ones, but a classifier learned less from them (docs/generator.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.training_utils import EMAModel
from msgspec import Meta, Struct
from torch.nn import functional

from fimi.generator_node.generators import folder as folders
from fimi.generator_node.generators.card import Card
from fimi.generator_node.generators.diffusion import DiffusionGenerator
from fimi.generator_node.training.augmentation import AugmentationSettings, augment
from fimi.generator_node.training.checkpoint import Training
from fimi.generator_node.training.judge import train_judge
from fimi.generator_node.training.loop import (
    NETWORK,
    TrainingCourse,
    TrainingProgress,
    TrainingWatch,
    first_card,
    preview_images,
)
from fimi.generator_node.training.network import (
    TRAINING_TIMESTEPS,
    NetworkSettings,
    build_unet,
    sampling_solver,
    torch_threads,
    training_schedule,
)
from fimi.learning.data.dataset import Dataset, Images

MOST_LEVELS = 64
"""Data with more different pixel values than this are taken to use all of 0 to 255."""

Positive = Annotated[float, Meta(gt=0)]


class DiffusionSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the training of a diffusion model.

    Attributes:
        steps: optimiser steps.
        batch_size: images per step.
        learning_rate: largest learning rate of AdamW.
        warmup_steps: steps until the learning rate is largest.
        weight_decay: weight decay of AdamW.
        ema_decay: final decay of the moving average of the weights.
        null_share: share of the labels that are replaced by the null class.
        network: size of the U-Net.
        augmentation: random changes of the images.
        judge_steps: optimiser steps of the judge.
        quantise: whether to round generated pixels to the values that occur in the data, if these
            are few.
        seed: seed of everything that is drawn.
    """

    steps: Annotated[int, Meta(ge=1)] = 8000
    batch_size: Annotated[int, Meta(ge=1)] = 128
    learning_rate: Positive = 1e-3
    warmup_steps: Annotated[int, Meta(ge=1)] = 100
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-2
    ema_decay: Annotated[float, Meta(gt=0, lt=1)] = 0.999
    null_share: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    network: NetworkSettings = NetworkSettings()
    augmentation: AugmentationSettings = AugmentationSettings(
        probability=0.8, rotation_degrees=16.0, shift_pixels=1.0, scale=0.16
    )
    judge_steps: Annotated[int, Meta(ge=1)] = 720
    quantise: bool = True
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0


class Trained(Struct, frozen=True, kw_only=True):
    """A trained diffusion model with averaged weights, and the judge of its images.

    It is not yet on disk; :meth:`save` sets the card's digests.
    """

    unet: UNet2DModel
    card: Card
    judge: bytes

    def save(self, folder: Path) -> Card:
        """Write the folder and return its card.

        Raises:
            OSError: it cannot be written.
        """
        return folders.save(folder, self.card, self.unet, sampling_solver(), self.judge)


def train(
    public: Dataset,
    settings: DiffusionSettings | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
    *,
    name: str = "",
    threads: int = 1,
    device: str = "cpu",
    checkpoint: Path | None = None,
    every: int = 500,
    preview: Callable[[int, Images], None] | None = None,
) -> Trained:
    """Train a diffusion model on public data; nothing else is read.

    Args:
        public: the images to train on.
        settings: settings of the training.
        progress: called about a hundred times, and after the last step.
        name: name of the generator; by default that of the data.
        threads: PyTorch's threads. The same seed gives the same weights with the same libraries
            and number of threads.
        device: ``"cpu"``, or a CUDA device, where it computes in bfloat16 where that is safe.
        checkpoint: file that is written every ``every`` steps; if it exists, the training
            continues from it.
        every: steps between two checkpoints or previews.
        preview: called with the step and ten images of every class, drawn with the averaged
            weights.

    Raises:
        ValueError: there are no images, settings are out of range, or the network does not fit the
            images.
        FloatingPointError: the loss is not finite any more.
        GeneratorError: the checkpoint is damaged or belongs to another training.
    """
    settings = _checked(settings or DiffusionSettings())
    levels = levels_of(public) if settings.quantise else ()
    card = first_card(
        public, settings, kind="class-conditional-diffusion", name=name, levels=levels
    )
    unet = build_unet(settings.network, public.classes, public.image_shape, seed=settings.seed)

    def look(step: int) -> None:
        if preview is not None:
            unet.eval()
            drawing = DiffusionGenerator(
                unet, card, sampling_solver().config, steps=20, threads=threads, device=device
            )
            preview(step, preview_images(drawing, public.classes))
            unet.train()

    watch = TrainingWatch(progress=progress, checkpoint=checkpoint, every=every, look=look)
    with torch_threads(threads):
        loss, seconds = _fit(unet.to(device), public, settings, watch)
    card = msgspec.structs.replace(card, loss=round(loss, 6), seconds=round(seconds, 1))
    judge = train_judge(public, seed=settings.seed, steps=settings.judge_steps, threads=threads)
    return Trained(unet=unet.cpu().eval().requires_grad_(False), card=card, judge=judge)


def levels_of(public: Dataset) -> tuple[int, ...]:
    """The pixel values that occur, if they are at most :data:`MOST_LEVELS`; else none."""
    values = np.unique(public.images)
    return tuple(int(value) for value in values) if len(values) <= MOST_LEVELS else ()


def _fit(
    unet: UNet2DModel,
    public: Dataset,
    settings: DiffusionSettings,
    watch: TrainingWatch,
) -> tuple[float, float]:
    """Train ``unet``, which gets the averaged weights; returns the running loss and the seconds."""
    device = unet.device
    draw = torch.Generator().manual_seed(settings.seed)
    images = torch.from_numpy(public.images)
    labels = torch.from_numpy(public.labels)
    forward = training_schedule()
    optimiser = torch.optim.AdamW(
        unet.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=settings.weight_decay,
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, settings))
    average = EMAModel(
        unet.parameters(), decay=settings.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75
    )
    state = Training(
        networks={NETWORK: unet},
        average=average,
        optimisers={"optimiser": optimiser},
        draw=draw,
        rate=rate,
    )
    course = TrainingCourse(
        state,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        purpose=[msgspec.to_builtins(settings), public.digest()],
        watch=watch,
    )
    size = min(settings.batch_size, len(labels))
    order, position = torch.empty(0, dtype=torch.int64), len(labels)
    if (found := course.resumed) is not None:
        order, position = found.order, found.at
    unet.train()
    for step in course.steps:
        if position + size > len(labels):
            order, position = torch.randperm(len(labels), generator=draw), 0
        picked = order[position : position + size]
        position += size
        clean = augment(images[picked].float() / 127.5 - 1, settings.augmentation, draw)
        dropped = torch.rand(size, generator=draw) < settings.null_share
        classes = labels[picked].masked_fill(dropped, public.classes)
        noise = torch.randn(clean.shape, generator=draw)
        times = torch.randint(0, TRAINING_TIMESTEPS, (size,), generator=draw)
        noisy = forward.add_noise(clean, noise, times)
        target = forward.get_velocity(clean, noise, times)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = unet(noisy.to(device), times.to(device), class_labels=classes.to(device))
        loss = functional.mse_loss(output.sample.float(), target.to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        rate.step()
        average.step(unet.parameters())
        course.stepped(step, loss.item(), order, position)
    return course.end()


def _rate(step: int, settings: DiffusionSettings) -> float:
    """Learning rate relative to the largest: linear warm-up, then a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    done = min(1.0, step / settings.steps)
    return warm * (0.49 * (1 + math.cos(math.pi * done)) + 0.02)


def _checked(settings: DiffusionSettings) -> DiffusionSettings:
    try:
        return msgspec.convert(msgspec.to_builtins(settings), DiffusionSettings)
    except msgspec.ValidationError as error:
        raise ValueError(f"training settings: {error}") from None

"""A conditional GAN of modest size: its generator, and drawing images with it.

Two upsampling blocks make an image; noise and class modulate every layer of them. It is trained by
:mod:`fimi.generator_node.training.gan_training`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fimi.generator_node.generators.base import GeneratorError, Seeds
from fimi.generator_node.generators.card import CARD, Card, FromCard, noise_of, read_card
from fimi.generator_node.generators.folder import read_network
from fimi.generator_node.training.augmentation import AugmentationSettings
from fimi.generator_node.training.network import draw_each, library_versions
from fimi.learning.data.dataset import Labels

WEIGHTS = "gan/generator.safetensors"


class GanSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the training of a GAN.

    Attributes:
        steps: steps of the generator; the discriminator takes as many.
        batch_size: images per step.
        width: channels at full size; twice as many at half size, four times at a quarter.
        noise: length of the noise vector.
        learning_rate: learning rate of the generator's Adam.
        critic_learning_rate: learning rate of the discriminator's Adam.
        penalty: weight of R1, half of the mean squared gradient.
        penalty_every: steps from one penalty to the next; the weight is multiplied by it.
        ema_decay: decay of the moving average of the generator's weights.
        judge_steps: optimiser steps of the judge.
        augmentation: random changes of the discriminator's images.
        seed: seed of everything that is drawn.
    """

    steps: Annotated[int, Meta(ge=1)] = 6000
    batch_size: Annotated[int, Meta(ge=2)] = 64
    width: Annotated[int, Meta(ge=4)] = 24
    noise: Annotated[int, Meta(ge=1)] = 64
    learning_rate: Annotated[float, Meta(gt=0)] = 5e-4
    critic_learning_rate: Annotated[float, Meta(gt=0)] = 2e-3
    penalty: Annotated[float, Meta(ge=0)] = 0.3
    penalty_every: Annotated[int, Meta(ge=1)] = 4
    ema_decay: Annotated[float, Meta(gt=0, lt=1)] = 0.999
    judge_steps: Annotated[int, Meta(ge=1)] = 720
    augmentation: AugmentationSettings = AugmentationSettings(probability=1.0)
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0


class _Block(nn.Module):
    """Normalise, scale and shift by noise and class, convolve."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, before, affine=False)
        self.modulate = nn.Linear(condition, 2 * before)
        self.convolve = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, images: Tensor, condition: Tensor, scale: int) -> Tensor:
        factor, offset = self.modulate(condition)[:, :, None, None].chunk(2, 1)
        images = functional.leaky_relu(self.norm(images) * (1 + factor) + offset, 0.2)
        if scale > 1:
            images = functional.interpolate(images, scale_factor=scale, mode="nearest")
        result: Tensor = self.convolve(images)
        return result


class GeneratorNetwork(nn.Module):
    """Noise (N, Z) and classes (N,) to images (N, channels, height, width) from −1 to 1."""

    def __init__(
        self, classes: int, image_shape: tuple[int, int, int], noise: int, width: int
    ) -> None:
        super().__init__()
        channels, height, width_px = image_shape
        if height % 4 or width_px % 4:
            raise ValueError(
                f"the GAN makes images with sides divisible by 4, not {height}×{width_px}"
            )
        self._start = (4 * width, height // 4, width_px // 4)
        self.embed = nn.Embedding(classes, noise)
        self.first = nn.Linear(2 * noise, math.prod(self._start))
        self.grow = nn.ModuleList(
            [_Block(4 * width, 2 * width, 2 * noise), _Block(2 * width, width, 2 * noise)]
        )
        self.last = _Block(width, channels, 2 * noise)

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        """Images of noise and classes."""
        condition = torch.cat([noise, self.embed(classes)], 1)
        images = self.first(condition).unflatten(1, self._start)
        for block in self.grow:
            images = block(images, condition, 2)
        return torch.tanh(self.last(images, condition, 1))


class GanGenerator(FromCard):
    """Draws images from a GAN, whose network is in inference mode, on the CPU or a CUDA device."""

    def __init__(
        self, network: GeneratorNetwork, card: Card, *, threads: int = 1, device: str = "cpu"
    ) -> None:
        super().__init__(card, threads)
        self._device = torch.device(device)
        self._network = network.to(self._device)
        self._noise = network.embed.embedding_dim

    @classmethod
    def load(cls, folder: Path, **options: Any) -> GanGenerator:
        """Read a GAN from its folder; ``options`` as of the class.

        Raises:
            GeneratorError: files are missing, damaged, or do not belong together.
        """
        card = read_card(folder)
        try:
            settings = msgspec.convert(card.training, GanSettings)
        except msgspec.ValidationError as error:
            raise GeneratorError(
                f"{folder / CARD} describes no GAN: {error}; train it again"
            ) from error
        sizes = (len(card.class_names), card.image_shape, settings.noise, settings.width)
        network = read_network(folder, WEIGHTS, card, lambda: GeneratorNetwork(*sizes))
        return cls(network, card, **options)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self._card.name} (conditional GAN)"

    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that make its images."""
        return library_versions()

    def _each(self, draw: Callable[[slice], None], parts: list[slice]) -> None:
        draw_each(draw, parts, self._threads)

    def _draw(self, class_ids: Labels, seeds: Seeds) -> NDArray[np.float32]:
        noise = torch.from_numpy(noise_of(seeds, (self._noise,))).to(self._device)
        classes = torch.from_numpy(np.ascontiguousarray(class_ids, np.int64)).to(self._device)
        drawn: NDArray[np.float32] = self._network(noise, classes).cpu().numpy()
        return drawn

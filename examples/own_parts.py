"""Parts of your own, one of each kind: docs/your-own.md runs a federation that is made of them.

export PYTHONPATH=examples
fimi dry-run --config examples/own-parts.toml
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fimi.coordinator.strategies import Strategy
from fimi.learning.data.collection import Collection, DatasetOptions
from fimi.learning.data.dataset import Dataset

DIRECTIONS = ("level", "rising", "upright", "falling")


def stripes(options: DatasetOptions) -> Collection:
    """Data: 2,000 images of stripes in four directions, 10×10 pixels, the same at every call."""
    random = np.random.default_rng(7)
    count, size = 2_000, 10
    labels = random.integers(len(DIRECTIONS), size=count)
    angles = labels * np.pi / 4 + random.normal(0.0, 0.15, count)
    phases = random.uniform(0.0, 2 * np.pi, count)
    y, x = np.mgrid[:size, :size]
    along = np.cos(angles)[:, None, None] * y + np.sin(angles)[:, None, None] * x
    waves = np.sin(along * 1.6 + phases[:, None, None])
    grey = 127.0 + 70.0 * waves + random.normal(0.0, 60.0, waves.shape)
    images = np.clip(grey, 0.0, 255.0).astype(np.uint8)[:, None]  # channels first
    return Collection(
        train=Dataset(
            name="stripes", images=images, labels=labels.astype(np.int64), class_names=DIRECTIONS
        )
    )


def network(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """A network: images of this shape in, logits of so many classes out."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * (height // 2) * (width // 2), 32),
        nn.ReLU(),
        nn.Linear(32, classes),
    )


def clouds(public: Dataset) -> Callable[[int, np.random.Generator], NDArray[np.uint8]]:
    """A generator: for each class a normal distribution, fitted to its public images."""
    fitted = []
    for label in range(public.classes):
        rows = public.images[public.labels == label].reshape(-1, public.images[0].size) / 255.0
        spread = np.cov(rows, rowvar=False) + 1e-4 * np.eye(rows.shape[1])
        fitted.append((rows.mean(axis=0), np.linalg.cholesky(spread)))

    def draw(label: int, random: np.random.Generator) -> NDArray[np.uint8]:
        mean, root = fitted[label]
        grey = mean + root @ random.standard_normal(len(mean))
        image = np.rint(np.clip(grey, 0.0, 1.0) * 255.0).astype(np.uint8)
        return image.reshape(public.image_shape)

    return draw


EVEN_AT_FULL_SPEED = Strategy(
    name="even-at-full-speed",
    title="Even at full speed: as many synthetic images for everybody, nothing else planned",
    data="even",
    planned_resources=False,
)
"""A strategy: five choices; those that are left out are those of local training."""

"""How good generated images are for their purpose, the training of a classifier.

The *class accuracy score* (Ravuri and Vinyals, arXiv:1905.10887) trains a classifier on generated
images only and tests it on real ones. It is compared with the score of the same number of real
images of the same origin. :func:`contact_sheet` shows images to people.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fimi.generator_node.training.augmentation import AugmentationSettings, augment
from fimi.generator_node.training.network import torch_threads
from fimi.learning.data.dataset import Dataset, Images
from fimi.learning.networks import models
from fimi.learning.training.trainer import to_float

CLASSIFIER_STEPS = 720
BATCH_SIZE = 64


def class_accuracy_score(
    training: Dataset,
    tests: Sequence[Dataset],
    *,
    seed: int = 0,
    steps: int = CLASSIFIER_STEPS,
    threads: int = 1,
) -> tuple[float, ...]:
    """Accuracy on each of ``tests`` of a small CNN trained on ``training`` only.

    The recipe is the same for every training set, whatever its size: Adam with a one-cycle learning
    rate up to 3e-3, batches of 64.

    Returns:
        One accuracy per test set, 0 to 1.
    """
    with torch_threads(threads):
        network = models.build("small-cnn", training.classes, training.image_shape, seed=seed)
        fit(network, training, seed, steps)
        return tuple(_accuracy(network, test) for test in tests)


def contact_sheet(images: Images, *, columns: int, zoom: int = 4) -> Image.Image:
    """Images in rows on a grey background.

    Args:
        images: (N, 1 or 3, height, width), uint8.
        columns: images per row.
        zoom: pixels of the sheet per pixel of an image, in both directions.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), 96, np.uint8)
    for index, image in enumerate(images):
        top = index // columns * (height + 1) + 1
        left = index % columns * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    picture = Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def fit(
    network: torch.nn.Module, training: Dataset, seed: int, steps: int, *, augmented: bool = False
) -> None:
    """Train a classifier in place, with the recipe of :func:`class_accuracy_score`.

    Where ``augmented``, every second image is changed at random.
    """
    order = np.random.default_rng((seed, 0xCA5))
    changes = torch.Generator().manual_seed(seed)
    inputs, targets = _tensors(training)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    network.train()
    waiting = np.zeros(0, np.intp)
    for _ in range(steps):
        if not len(waiting):
            waiting = order.permutation(len(training))
        picked = torch.from_numpy(waiting[:BATCH_SIZE])
        waiting = waiting[BATCH_SIZE:]
        images = inputs[picked]
        if augmented:
            images = (augment(images * 2 - 1, AugmentationSettings(), changes) + 1) / 2
        loss = functional.cross_entropy(network(images), targets[picked])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
    network.eval()


@torch.no_grad()
def _accuracy(network: torch.nn.Module, test: Dataset) -> float:
    inputs, targets = _tensors(test)
    return float((network(inputs).argmax(1) == targets).float().mean())


def _tensors(dataset: Dataset) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(to_float(dataset.images)), torch.from_numpy(dataset.labels)

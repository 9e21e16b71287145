"""Small random changes of an image: rotated, scaled, shifted, mirrored. No PyTorch here.

* :class:`ImageChanges`   how large they may be
* :func:`change`          an image, changed at random
* :class:`Augmentation`   changes the images of one local training, anew whenever one is taken
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from PIL import Image as Pictures

from fimi.learning.data.dataset import Images

Image = NDArray[np.uint8]
"""(channels, height, width)."""

_STREAM = 0xA06
"""Sets the draws of changes apart from those of the order of a training."""


class ImageChanges(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How images are changed.

    Attributes:
        rotation_degrees: largest rotation either way.
        shift_pixels: largest shift either way.
        scale: largest relative change of size either way.
        flip: mirror half of the images left to right; wrong for digits and letters.
    """

    rotation_degrees: Annotated[float, Meta(ge=0, le=180)] = 8.0
    shift_pixels: Annotated[float, Meta(ge=0)] = 0.5
    scale: Annotated[float, Meta(ge=0, lt=1)] = 0.08
    flip: bool = False

    @classmethod
    def of_strength(cls, strength: float, width: int) -> ImageChanges:
        """8° and 8 % of the size for strength 1, and a shift of a sixteenth of the width."""
        return cls(
            rotation_degrees=8.0 * strength,
            shift_pixels=strength * width / 16,
            scale=0.08 * strength,
        )


def change(image: Image, limits: ImageChanges, random: np.random.Generator) -> Image:
    """Rotate, scale, shift about the middle; bicubic, because bilinear blurs small images.

    The image is continued by its own border, so that no other pixels enter it.
    """
    angle = math.radians(limits.rotation_degrees) * random.uniform(-1, 1)
    size = 1 + limits.scale * random.uniform(-1, 1)
    shift_x, shift_y = limits.shift_pixels * random.uniform(-1, 1, 2)
    mirror = -1.0 if limits.flip and random.random() < 0.5 else 1.0
    _, height, width = image.shape
    pad = max(1, math.ceil(max(height, width) / 2))
    cos, sin = math.cos(angle) * size, math.sin(angle) * size
    middle_x, middle_y = width / 2, height / 2
    # Pillow needs the position in the old image for each pixel of the new one.
    back = (
        mirror * cos,
        -sin,
        middle_x + pad + shift_x - mirror * cos * middle_x + sin * middle_y,
        mirror * sin,
        cos,
        middle_y + pad + shift_y - mirror * sin * middle_x - cos * middle_y,
    )
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    affine, bicubic = Pictures.Transform.AFFINE, Pictures.Resampling.BICUBIC
    pictures = map(Pictures.fromarray, padded)
    moved = [each.transform((width, height), affine, back, bicubic) for each in pictures]
    return np.stack([np.asarray(each) for each in moved])


class Augmentation:
    """Changes the images of one local training, anew whenever one is taken.

    Args:
        images: (D, channels, height, width), uint8.
        strength: of the changes, see :meth:`ImageChanges.of_strength`.
        stream: seeds the changes: ``(seed of the run, device index, round)``.
        real: how many of the images, the first ones, are the device's own; others stay as they are.
    """

    def __init__(
        self, images: Images, strength: float, *, stream: tuple[int, ...], real: int
    ) -> None:
        self._images, self._real = images, real
        self._limits = ImageChanges.of_strength(strength, images.shape[3])
        self._random = np.random.default_rng((*stream, _STREAM))

    def __call__(self, order: NDArray[np.intp]) -> Images:
        """The images at these indices, each own one changed."""
        taken = self._images[order]
        for place in np.flatnonzero(order < self._real):
            taken[place] = change(taken[place], self._limits, self._random)
        return taken

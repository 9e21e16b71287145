"""Small random affine changes of training images.

Interpolation is bicubic: bilinear interpolation blurs 8×8 digits so much that the Fréchet distance
between the data and the images of a generator trained on them is eight times as large.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from msgspec import Meta, Struct
from torch import Tensor
from torch.nn import functional

Share = Annotated[float, Meta(ge=0, le=1)]


class AugmentationSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Small random affine changes.

    Attributes:
        probability: share of the images that are changed.
        rotation_degrees: largest rotation either way.
        shift_pixels: largest shift either way.
        scale: largest relative change of size either way.
    """

    probability: Share = 0.5
    rotation_degrees: Annotated[float, Meta(ge=0, le=180)] = 8.0
    shift_pixels: Annotated[float, Meta(ge=0)] = 0.5
    scale: Annotated[float, Meta(ge=0, lt=1)] = 0.08


def augment(images: Tensor, settings: AugmentationSettings, draw: torch.Generator) -> Tensor:
    """Random affine changes of images (N, channels, height, width) between −1 and 1.

    Random numbers are drawn on the CPU, wherever the images are.
    """
    count, _, height, width = images.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw) * 2 - 1

    angle = uniform(count) * math.radians(settings.rotation_degrees)
    size = 1 + uniform(count) * settings.scale
    shift = uniform(count, 2) * settings.shift_pixels * 2 / torch.tensor([width, height])
    cos, sin = angle.cos() * size, angle.sin() * size
    maps = torch.stack(
        [
            torch.stack([cos, -sin, shift[:, 0]], 1),
            torch.stack([sin, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = functional.affine_grid(maps.to(images.device), list(images.shape), align_corners=False)
    # Shifted up by one, so that pixels from outside the image are black, not grey.
    moved = functional.grid_sample(images + 1, grid, mode="bicubic", align_corners=False) - 1
    chosen = torch.rand(count, generator=draw) < settings.probability
    return torch.where(chosen.to(images.device)[:, None, None, None], moved.clamp(-1, 1), images)

"""Networks of one's own, as a configuration names them."""

from __future__ import annotations

import math

from torch import nn


def linear(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), classes))


def too_few(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """One class less than there are."""
    return linear(classes - 1, image_shape)

"""Public samples, drawn with replacement and slightly changed: a baseline for generators.

Real public images, rotated, shifted and scaled at random, take almost no energy. A generator whose
images are not better than these is not worth its joules. No PyTorch here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct
from PIL import Image as Pictures

from fimi.generator_node.generators.base import Generator, GeneratorError, Image, Provenance, Seeds
from fimi.learning.data.dataset import Dataset, Images, Labels, missing_classes


class BootstrapSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How public images are changed.

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


class BootstrapGenerator(Generator):
    """Draws public images and changes them.

    Raises:
        GeneratorError: a class has no public image.
    """

    def __init__(self, public: Dataset, settings: BootstrapSettings | None = None) -> None:
        super().__init__(public.classes, public.image_shape)
        self._public = public
        self._settings = settings or BootstrapSettings()
        self._members = [np.flatnonzero(public.labels == c) for c in range(public.classes)]
        if empty := missing_classes(public):
            raise GeneratorError(
                f"{public.name} holds no image of {', '.join(empty)}; a bootstrap generator can "
                "only give what is there"
            )
        # Every image is padded by its own border, so that no other pixels enter it.
        self._pad = max(1, math.ceil(max(public.image_shape[1:]) / 2))

    @property
    def name(self) -> str:
        """For people."""
        return f"bootstrap of {self._public.name}"

    @property
    def provenance(self) -> Provenance:
        """The origin of its images; it has settings instead of weights."""
        settings = msgspec.json.encode(self._settings)
        return Provenance(
            generator=self.name,
            dataset=self._public.name,
            data_digest=self._public.digest(),
            weights_digest=hashlib.sha256(settings).hexdigest(),
            libraries={name: importlib.metadata.version(name) for name in ("numpy", "pillow")},
        )

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        images = np.empty((len(class_ids), *self.image_shape), np.uint8)
        for index, (class_id, seed) in enumerate(zip(class_ids, seeds, strict=True)):
            random = np.random.Generator(np.random.Philox(key=int(seed)))
            chosen = random.choice(self._members[class_id])
            images[index] = self._change(self._public.images[chosen], random)
        return images

    def _change(self, image: Image, random: np.random.Generator) -> Image:
        """Rotate, scale, shift about the middle; bicubic, because bilinear blurs small images."""
        chosen, pad = self._settings, self._pad
        angle = math.radians(chosen.rotation_degrees) * random.uniform(-1, 1)
        size = 1 + chosen.scale * random.uniform(-1, 1)
        shift_x, shift_y = chosen.shift_pixels * random.uniform(-1, 1, 2)
        mirror = -1.0 if chosen.flip and random.random() < 0.5 else 1.0
        _, height, width = image.shape
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

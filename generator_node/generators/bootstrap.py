"""Public samples, drawn with replacement and slightly changed: a baseline for generators.

Real public images, rotated, shifted and scaled at random, take almost no energy. A generator whose
images are not better than these is not worth its joules. No PyTorch here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata

import msgspec
import numpy as np

from fimi.generator_node.generators.base import Generator, GeneratorError, Provenance, Seeds
from fimi.learning.data.changes import ImageChanges, change
from fimi.learning.data.dataset import Dataset, Images, Labels, missing_classes


class BootstrapGenerator(Generator):
    """Draws public images and changes them.

    Raises:
        GeneratorError: a class has no public image.
    """

    def __init__(self, public: Dataset, settings: ImageChanges | None = None) -> None:
        super().__init__(public.classes, public.image_shape)
        self._public = public
        self._settings = settings or ImageChanges()
        self._members = [np.flatnonzero(public.labels == c) for c in range(public.classes)]
        if empty := missing_classes(public):
            raise GeneratorError(
                f"{public.name} holds no image of {', '.join(empty)}; a bootstrap generator can "
                "only give what is there"
            )

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
            images[index] = change(self._public.images[chosen], self._settings, random)
        return images

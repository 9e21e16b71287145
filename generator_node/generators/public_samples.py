"""Public samples, unchanged: for baselines that share real data instead of synthetic samples.

A class has n of them. Seed s stands for public image s modulo n, so seeds 0 to n − 1 are each of
them once. :func:`fimi.generator_node.service.seeds.stock_seeds` gives devices their seeds; what a
device asks for beyond n is missing from its batch. No PyTorch here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata

import numpy as np

from fimi.generator_node.generators.base import FiniteGenerator, Provenance, Seeds
from fimi.learning.data.dataset import Dataset, Images, Labels


class PublicSamples(FiniteGenerator):
    """Gives public images as they are."""

    def __init__(self, public: Dataset) -> None:
        super().__init__(public.classes, public.image_shape)
        self._public = public
        self._members = [np.flatnonzero(public.labels == c) for c in range(public.classes)]

    @property
    def name(self) -> str:
        """For people."""
        return f"samples of {self._public.name}"

    @property
    def stock(self) -> tuple[int, ...]:
        """Number of images of every class, (K,)."""
        return tuple(len(members) for members in self._members)

    @property
    def provenance(self) -> Provenance:
        """The origin of its images; the data stand for the weights."""
        digest = self._public.digest()
        return Provenance(
            generator=self.name,
            dataset=self._public.name,
            data_digest=digest,
            weights_digest=hashlib.sha256(bytes.fromhex(digest)).hexdigest(),
            libraries={"numpy": importlib.metadata.version("numpy")},
        )

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        for class_id in np.unique(class_ids):
            if not len(self._members[class_id]):
                raise ValueError(
                    f"{self._public.name} holds no image of {self._public.class_names[class_id]}"
                )
        chosen = [
            self._members[class_id][int(seed) % len(self._members[class_id])]
            for class_id, seed in zip(class_ids, seeds, strict=True)
        ]
        return self._public.images[np.array(chosen, np.intp)]

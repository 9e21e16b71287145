"""The device's local data and its synthetic batch.

Local data never leaves the device; only the number of samples per class does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fimi.learning.data.dataset import Dataset, Images, Labels
from fimi.learning.data.use import first_of_each


class MixedData:
    """Local samples, followed by the synthetic ones that the plan in force uses."""

    def __init__(self, local: Dataset) -> None:
        self.local = local
        self.unlabelled: Images | None = None
        """Images without labels, if there are any."""
        self.use = 1.0
        """Share of the labelled synthetic samples that is trained on, the first of each class."""
        self._synthetic: tuple[Images, Labels] | None = None

    @property
    def local_samples(self) -> int:
        """D_loc."""
        return len(self.local)

    @property
    def synthetic_samples(self) -> int:
        """D_gen, as far as it is trained on."""
        if self._synthetic is None:
            return 0
        labels = self._synthetic[1]
        return len(labels[self._used(labels)])

    def add(self, images: Images, labels: Labels) -> None:
        """Add a synthetic batch to what is there.

        Raises:
            ValueError: its images have another shape than the local ones.
        """
        if images.shape[1:] != self.local.images.shape[1:]:
            raise ValueError(
                f"synthetic images are {images.shape[1:]} (channels, height, width), local ones "
                f"are {self.local.images.shape[1:]}; the generator serves another data set"
            )
        if self._synthetic is not None:
            images = np.concatenate([self._synthetic[0], images])
            labels = np.concatenate([self._synthetic[1], labels])
        self._synthetic = (images, labels)

    def hold(self, images: Images) -> None:
        """Replace the previous batch by images without labels."""
        self.clear()
        self.unlabelled = images

    def label(self, kept: NDArray[np.intp], labels: Labels) -> None:
        """Until the next call, train on unlabelled images ``kept`` (n,) with ``labels`` (n,)."""
        assert self.unlabelled is not None
        self._synthetic = (self.unlabelled[kept], labels)

    def clear(self) -> None:
        """Drop all batches: train on local data only."""
        self._synthetic = self.unlabelled = None
        self.use = 1.0

    def training_set(self) -> tuple[Images, Labels]:
        """All samples to train on: (D, channels, height, width) and (D,)."""
        if self._synthetic is None:
            return self.local.images, self.local.labels
        images, labels = self._synthetic
        used = self._used(labels)
        return (
            np.concatenate([self.local.images, images[used]]),
            np.concatenate([self.local.labels, labels[used]]),
        )

    def _used(self, labels: Labels) -> NDArray[np.intp] | slice:
        """Which synthetic samples are trained on; all of them without a copy."""
        if self.unlabelled is not None or self.use >= 1.0:
            return slice(None)
        return first_of_each(labels, self.use)

"""The interface of a generator: from class ids and seeds to uint8 images with their provenance.

Every kind of generator is a :class:`Generator`. Its contract:

* image i depends on ``class_ids[i]`` and ``seeds[i]`` only, not on the other images of the call,
  up to rounding in the last bits before pixels are quantised;
* it reads and holds no data of any device: the digest in its :class:`Provenance` names its training
  data;
* images have the project's form, uint8 (N, channels, height, width).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.errors import SurroundingsError
from fimi.learning.data.dataset import Dataset, Images, Labels

Seeds = NDArray[np.uint64]
"""One per image: (N,)."""
Image = NDArray[np.uint8]
"""One image: (channels, height, width)."""


class GeneratorError(SurroundingsError):
    """A generator cannot be loaded or used; the message says why and what to do."""

    code = "G001"


class WrongDataError(GeneratorError):
    """A generator was trained on other data than the public part of the run."""

    code = "G002"


class Provenance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The origin of generated images: the generator, its training data and weights, by digest.

    ``generator`` is for people, for example ``"digits-writers (dpm++, 20 steps, guidance 1)"``;
    ``libraries`` are the versions of those that made the images.
    """

    generator: str
    dataset: str
    data_digest: str
    weights_digest: str
    libraries: dict[str, str]


class Generator(ABC):
    """Makes images of given classes.

    Args:
        classes: number of classes, K; class ids run from 0 to K − 1.
        image_shape: channels, height, width.
    """

    def __init__(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        self.classes = classes
        self.image_shape = image_shape

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name, for people."""

    @property
    @abstractmethod
    def provenance(self) -> Provenance:
        """The origin of its images."""

    def generate(self, class_ids: Labels, seeds: Seeds) -> Images:
        """One image per class id and seed, (N, channels, height, width), uint8.

        Raises:
            ValueError: class ids outside 0 to K − 1 or of a class that it cannot make, or not as
                many seeds as class ids.
            GeneratorError: the network gives values that are not finite.
            RuntimeError: not even one image fits into memory.
        """
        check_order(class_ids, seeds, self.classes)
        return self._make(class_ids, seeds)

    @abstractmethod
    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        """The images of :meth:`generate`, whose arguments have been checked."""


class FiniteGenerator(Generator):
    """A generator that has a fixed number of images of each class and never changes one.

    Its seeds are addresses: 0 to ``stock[c]`` − 1 are the images of class c, each of them once.
    """

    @property
    @abstractmethod
    def stock(self) -> tuple[int, ...]:
        """Number of different images of every class, (K,)."""


def check_order(class_ids: Labels, seeds: Seeds, classes: int) -> None:
    """Check the arguments of :meth:`Generator.generate`.

    Raises:
        ValueError: says which value is wrong.
    """
    if class_ids.ndim != 1 or class_ids.shape != seeds.shape:
        raise ValueError(
            f"class_ids {class_ids.shape} and seeds {seeds.shape} must be one-dimensional and of "
            "the same length: every image has a seed of its own"
        )
    if len(class_ids) and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < classes:
        wrong = int(class_ids.min()) if class_ids.min() < 0 else int(class_ids.max())
        raise ValueError(f"class id {wrong} is unknown; the classes are 0 to {classes - 1}")


def require_trained_on(provenance: Provenance, public: Dataset) -> None:
    """Refuse a generator that was trained on other data than ``public``.

    Its training data may overlap with the validation, private and test part of this split. Then its
    batches would contain what devices hold, or what the model is judged or tested on.

    Raises:
        WrongDataError: names both digests and the command that trains the right one.
    """
    if (wanted := public.digest()) != provenance.data_digest:
        raise WrongDataError(
            f"generator {provenance.generator!r} was trained on {provenance.dataset} with digest "
            f"{provenance.data_digest[:12]}…, but this run's public part is {public.name} with "
            f"digest {wanted[:12]}… ({len(public)} images): it may have seen validation, private "
            "or test images. Train one on this public part, `fimi generator train` with the same "
            "data settings and seed, and name its folder as generator.weights"
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library says that memory ran out, on the CPU or a GPU."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "not enough memory" in text
    )

"""Data sets by name, and the interface for one's own.

A data set is a function from :class:`DatasetOptions` to a :class:`Collection`. A name of the form
``module:factory`` is a data set of one's own: any function of that type in an importable module.
What any of them gives is validated here, so that the rest of the testbed can rely on it.
"""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from fimi.learning.data.dataset import Dataset, DatasetError, SplitKind, load_digits, validate
from fimi.learning.data.images import ImageMode, convert, resize


class DatasetOptions(Struct, frozen=True, kw_only=True):
    """What a data set is asked for.

    Attributes:
        root: folder with its files; empty for one that needs none.
        download: fetch what is missing into ``root``.
        image_size: height and width of the images; 0: as they are.
        image_mode: ``"rgb"``, ``"grey"``, or ``"auto"``: as they are.
    """

    root: str = ""
    download: bool = False
    image_size: int = 0
    image_mode: ImageMode = "auto"

    def folder(self, name: str) -> Path:
        """The root as a path.

        Raises:
            DatasetError: it is empty.
        """
        if not self.root:
            raise DatasetError(
                f"data set {name!r} is read from files: set data.root to the folder that holds them"
            )
        return Path(self.root).expanduser()


class Collection(Struct, frozen=True, kw_only=True):
    """A data set as it is published.

    Attributes:
        train: all samples, or all but the test samples.
        test: the data set's own test samples, of the same classes and shape; ``None``: it has
            none, and some of ``train`` will be held out.
        writers: the first samples of ``train`` come from other people than the rest, so that a
            public part of them has a real domain gap.
    """

    train: Dataset
    test: Dataset | None = None
    writers: bool = False

    @property
    def split_kind(self) -> SplitKind:
        """How public and private part are told apart unless the configuration says."""
        return "writers" if self.writers else "random"


class DatasetFactory(Protocol):
    """A data set: gives the same images in the same order whenever it is called.

    It need not look at ``image_size`` and ``image_mode``: what it gives is scaled and converted
    afterwards where it has to be.

    Raises :class:`fimi.learning.data.dataset.DatasetError` if it cannot.
    """

    def __call__(self, options: DatasetOptions, /) -> Collection:
        """All of its images."""
        ...


def digits(options: DatasetOptions) -> Collection:
    """The bundled digits; neighbours were written by the same person."""
    return Collection(train=load_digits(), writers=True)


DATASETS = {
    "digits": "fimi.learning.data.registry:digits",
    "cifar-10": "fimi.learning.data.torchvision:cifar10",
    "cifar-100": "fimi.learning.data.torchvision:cifar100",
    "fashion-mnist": "fimi.learning.data.torchvision:fashion_mnist",
    "gtsrb": "fimi.learning.data.torchvision:gtsrb",
    "image-folder": "fimi.learning.data.folder:image_folder",
}
"""Name to ``module:factory``: a module is imported when its data set is asked for."""


def load(name: str, options: DatasetOptions) -> Collection:
    """A data set by name.

    Args:
        name: key of :data:`DATASETS`, or ``module:factory``.
        options: what it is asked for.

    Raises:
        DatasetError: no such data set, its files are missing or unusable, or what a factory gave
            is not a valid collection.
    """
    factory = _find(name)
    try:
        collection = factory(options)
    except DatasetError:
        raise
    except Exception as error:
        if name in DATASETS:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise DatasetError(
            f"data set {name!r} raised {type(error).__name__}: {error} "
            f"({place.filename}:{place.lineno})"
        ) from error
    if not isinstance(collection, Collection):
        raise DatasetError(
            f"data set {name!r} gave a {type(collection).__name__}, not a "
            "fimi.learning.data.registry.Collection"
        )
    train = _fit(validate(collection.train, f"data set {name!r}"), options)
    test = collection.test
    if test is not None:
        test = _fit(validate(test, f"test part of data set {name!r}"), options)
        if (test.class_names, test.image_shape) != (train.class_names, train.image_shape):
            raise DatasetError(
                f"data set {name!r}: its test part has {test.classes} classes and images "
                f"{test.image_shape}, its training part {train.classes} and {train.image_shape}; "
                "both must be alike, class names included"
            )
    return replace(collection, train=train, test=test)


def _fit(dataset: Dataset, options: DatasetOptions) -> Dataset:
    """In the size and mode that the options ask for, if it has another."""
    images = convert(dataset.images, options.image_mode)
    if options.image_size:
        images = resize(images, options.image_size)
    return dataset if images is dataset.images else replace(dataset, images=images)


def _find(name: str) -> DatasetFactory:
    place, colon, attribute = DATASETS.get(name, name).partition(":")
    if not colon:
        raise DatasetError(
            f"unknown data set {name!r}; there are {', '.join(DATASETS)}, or module:factory for "
            "one of your own"
        )
    try:
        found: DatasetFactory = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DatasetError(
            f"data set {name!r}: {error}; the module must be importable here and hold the factory"
        ) from error
    if not callable(found):
        raise DatasetError(f"data set {name!r} is a {type(found).__name__}, not a function")
    return found

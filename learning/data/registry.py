"""Data sets by name.

A name of the form ``module:factory`` is a data set of the user's own: any function in an importable
module that satisfies :class:`~fimi.learning.data.collection.DatasetFactory`. The result of every
data set is validated here, so that the rest of the testbed can rely on it.
"""

from __future__ import annotations

import traceback

from msgspec.structs import replace

from fimi.learning.data.collection import Collection, DatasetFactory, DatasetOptions
from fimi.learning.data.dataset import Dataset, DatasetError, load_digits, validate
from fimi.learning.data.images import convert, resize
from fimi.own_parts import OwnPart


def digits(options: DatasetOptions) -> Collection:
    """The bundled digits; neighbours were written by the same person."""
    return Collection(train=load_digits(), writers=True)


DATASETS = {
    "digits": "fimi.learning.data.registry:digits",
    "cifar-10": "fimi.learning.data.torchvision:cifar10",
    "cifar-100": "fimi.learning.data.torchvision:cifar100",
    "mnist": "fimi.learning.data.torchvision:mnist",
    "fashion-mnist": "fimi.learning.data.torchvision:fashion_mnist",
    "gtsrb": "fimi.learning.data.torchvision:gtsrb",
    "image-folder": "fimi.learning.data.folder:image_folder",
    "data-file": "fimi.learning.data.data_file:data_set",
}
"""Name to ``module:factory``: a module is imported when its data set is loaded."""
NEEDS_NO_FILES = ("digits",)
"""Data sets that are there wherever fimi is installed."""


_OWN = OwnPart(what="data set", holds="the factory", error=DatasetError)


def load(name: str, options: DatasetOptions) -> Collection:
    """A data set by name, a key of :data:`DATASETS` or ``module:factory``.

    Raises:
        DatasetError: there is no such data set, its files are missing or unusable, or the result
            of a factory is not a valid collection.
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
            "fimi.learning.data.collection.Collection"
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
    """The data set in the size and mode of the options, counted anew from its first sample."""
    images = convert(dataset.images, options.image_mode)
    if options.image_size:
        images = resize(images, options.image_size)
    same = images is dataset.images and dataset.origin is None
    return dataset if same else replace(dataset, images=images, origin=None)


def _find(name: str) -> DatasetFactory:
    if ":" not in (place := DATASETS.get(name, name)):
        raise DatasetError(
            f"unknown data set {name!r}; there are {', '.join(DATASETS)}, or module:factory for "
            "one of your own"
        )
    found: DatasetFactory = _OWN.find(place, called=name)
    return found

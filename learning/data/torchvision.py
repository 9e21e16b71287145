"""CIFAR-10, CIFAR-100, MNIST, Fashion-MNIST and GTSRB in the formats they are published in.

Torchvision reads them; it is imported only when one of them is loaded. Nothing is downloaded
unless the options say so. The CIFAR files are Python pickles: torchvision opens them only if their
MD5 digests are those of the published files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import ArrayLike

from fimi.learning.data.collection import Collection, DatasetOptions
from fimi.learning.data.dataset import Dataset, DatasetError, Images
from fimi.learning.data.images import is_litter, read_images

GTSRB_SIZE = 32
"""Height and width of GTSRB's images, unless another is chosen; 15 to 250 pixels as published."""
GTSRB_CLASSES = 43


def cifar10(options: DatasetOptions) -> Collection:
    """50,000 and 10,000 photographs of ten kinds of things, 32×32 RGB."""
    return _cifar(options, "cifar-10", "CIFAR10")


def cifar100(options: DatasetOptions) -> Collection:
    """50,000 and 10,000 photographs of a hundred kinds of things, 32×32 RGB."""
    return _cifar(options, "cifar-100", "CIFAR100")


def _cifar(options: DatasetOptions, name: str, torchvision_name: str) -> Collection:
    def read(part: str) -> Dataset:
        source = _open(name, torchvision_name, options, train=part == "train")
        images = np.ascontiguousarray(source.data.transpose(0, 3, 1, 2))
        return _dataset(name, images, source.targets, source.classes)

    return _both(read)


def mnist(options: DatasetOptions) -> Collection:
    """60,000 and 10,000 handwritten digits, 28×28 grey."""
    return _idx(options, "mnist", "MNIST", tuple(str(digit) for digit in range(10)))


def fashion_mnist(options: DatasetOptions) -> Collection:
    """60,000 and 10,000 articles of clothing, 28×28 grey."""
    return _idx(options, "fashion-mnist", "FashionMNIST")


def _idx(
    options: DatasetOptions, name: str, torchvision_name: str, class_names: Sequence[str] = ()
) -> Collection:
    def read(part: str) -> Dataset:
        source = _open(name, torchvision_name, options, train=part == "train")
        images = source.data.numpy()[:, None].copy()
        return _dataset(name, images, source.targets.numpy(), class_names or source.classes)

    return _both(read)


def gtsrb(options: DatasetOptions) -> Collection:
    """26,640 and 12,630 German traffic signs of 43 classes, RGB.

    Images of one track, up to 30 frames of the same sign, follow one another in the training part;
    the test part has other signs. Torchvision says which files belong to which part; a class id is
    the number of the class folder or in the table of test labels.
    """
    size = options.image_size or GTSRB_SIZE

    def read(part: str) -> Dataset:
        source = _open("gtsrb", "GTSRB", options, split=part)
        every = [(Path(path), int(label)) for path, label in source._samples]
        files = [(path, label) for path, label in every if not is_litter(path.name)]
        try:
            labels = [label if part == "test" else int(path.parent.name) for path, label in files]
        except ValueError as error:
            raise DatasetError(
                f"gtsrb: class folders must be numbers, 00000 on: {error}"
            ) from error
        mode = "rgb" if options.image_mode == "auto" else options.image_mode
        images = read_images([path for path, _ in files], size=size, mode=mode)
        return _dataset("gtsrb", images, labels, [f"{i:02d}" for i in range(GTSRB_CLASSES)])

    return _both(read)


def _dataset(name: str, images: Images, labels: ArrayLike, class_names: Sequence[str]) -> Dataset:
    return Dataset(
        name=name,
        images=images,
        labels=np.array(labels, np.int64),
        class_names=tuple(class_names),
    )


def _both(read: Callable[[str], Dataset]) -> Collection:
    """The training and the test part."""
    train, test = read("train"), read("test")
    return Collection(train=train, test=replace(test, name=f"{test.name}/test"))


_PLACES = {
    "CIFAR10": "cifar-10-batches-py/, unpacked from cifar-10-python.tar.gz",
    "CIFAR100": "cifar-100-python/, unpacked from cifar-100-python.tar.gz",
    "MNIST": "MNIST/raw/ with the four idx files, unpacked",
    "FashionMNIST": "FashionMNIST/raw/ with the four idx files, unpacked",
    "GTSRB": "gtsrb/GTSRB/Training/, gtsrb/GTSRB/Final_Test/Images/ and gtsrb/GT-final_test.csv",
}


def _open(name: str, torchvision_name: str, options: DatasetOptions, **part: Any) -> Any:
    """One part of a data set, opened by torchvision."""
    root = options.folder(name)
    try:
        from torchvision import datasets
    except (ImportError, OSError, RuntimeError) as error:  # missing, or does not fit PyTorch
        raise DatasetError(
            f"data set {name!r} is read by torchvision, which cannot be used here ({error}): "
            "pip install 'fimi-testbed[torch]', or bring a device its share in a file "
            "('fimi agent data')"
        ) from error
    try:
        return getattr(datasets, torchvision_name)(str(root), download=options.download, **part)
    except Exception as error:  # torchvision and pickle raise errors of any type
        if isinstance(error, MemoryError):
            raise
        what = f"{type(error).__name__}: {error}".replace(
            "You can use download=True to download it", ""
        )
        todo = (
            "the download failed or what it brought is damaged"
            if options.download
            else f"data.root must hold {_PLACES[torchvision_name]}, as published; "
            "data.download = true fetches it"
        )
        raise DatasetError(f"data set {name!r} under {root}: {what.strip(' .')}; {todo}") from error

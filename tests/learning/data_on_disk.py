"""Small data sets in the formats they are published in, with images that can be told apart."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN_PER_CLASS, TEST_PER_CLASS = 4, 2


def picture(seed: int, label: int, height: int, width: int, channels: int) -> Any:
    """(height, width, channels), uint8; its first pixel is the label."""
    image = np.random.default_rng((seed, label)).integers(0, 256, (height, width, channels))
    image[0, 0] = label
    return image.astype(np.uint8)


def samples(classes: int, per_class: int, seed: int) -> list[tuple[int, int]]:
    """(seed, label), classes taken in turn."""
    return [(seed + n, label) for n in range(per_class) for label in range(classes)]


def write_cifar(root: Path, classes: int) -> dict[str, Any]:
    """CIFAR-10 or CIFAR-100; returns torchvision's lists of files with the digests of these."""
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    key = "labels" if classes == 10 else "fine_labels"

    def write(name: str, content: dict[str, Any]) -> list[str]:
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(chosen: list[tuple[int, int]]) -> dict[str, Any]:
        rows = [picture(s, y, 32, 32, 3).transpose(2, 0, 1).ravel() for s, y in chosen]
        return {"data": np.stack(rows), key: [label for _, label in chosen]}

    names = [f"kind {label}" for label in range(classes)]
    if classes == 10:
        half = samples(classes, TRAIN_PER_CLASS // 2, 0), samples(classes, TRAIN_PER_CLASS // 2, 2)
        train = [write(f"data_batch_{n}", batch(part)) for n, part in enumerate(half, 1)]
        test = [write("test_batch", batch(samples(classes, TEST_PER_CLASS, 100)))]
        meta = write("batches.meta", {"label_names": names})
    else:
        train = [write("train", batch(samples(classes, TRAIN_PER_CLASS, 0)))]
        test = [write("test", batch(samples(classes, TEST_PER_CLASS, 100)))]
        meta = write("meta", {"fine_label_names": names})
    kind = "label_names" if classes == 10 else "fine_label_names"
    return {
        "train_list": train,
        "test_list": test,
        "meta": {"filename": meta[0], "key": kind, "md5": meta[1]},
    }


def write_idx(root: Path, kind: str) -> None:
    """The four idx files of ``"MNIST"`` or ``"FashionMNIST"``, unpacked."""
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    for name, per_class, seed in (("train", TRAIN_PER_CLASS, 0), ("t10k", TEST_PER_CLASS, 100)):
        chosen = samples(10, per_class, seed)
        images = np.stack([picture(s, y, 28, 28, 1) for s, y in chosen])
        labels = np.array([y for _, y in chosen], np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, len(chosen), 28, 28) + images.tobytes()
        )
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 2049, len(chosen)) + labels.tobytes()
        )


def write_gtsrb(root: Path, classes: tuple[int, ...] = tuple(range(43))) -> None:
    """Training folders of PPM images of many sizes, and a table of test labels."""
    base = root / "gtsrb"
    for label in classes:
        folder = base / "GTSRB" / "Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        for n in range(TRAIN_PER_CLASS):
            flat = np.full((20 + n, 31 - n, 3), label, np.uint8)
            Image.fromarray(flat).save(folder / f"00000_{n:05d}.ppm")
    images = base / "GTSRB" / "Final_Test" / "Images"
    images.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for n, (_, label) in enumerate([(s, y) for s in range(TEST_PER_CLASS) for y in classes]):
        Image.fromarray(np.full((40, 25, 3), label, np.uint8)).save(images / f"{n:05d}.ppm")
        rows.append(f"{n:05d}.ppm;25;40;1;1;20;30;{label}")
    (base / "GT-final_test.csv").write_text("\n".join(rows) + "\n")


def write_folder(root: Path, classes: tuple[str, ...] = ("bolt", "nut", "washer")) -> None:
    """``train`` and ``test`` with a folder of PNG images for each class."""
    for part, per_class, seed in (("train", TRAIN_PER_CLASS, 0), ("test", TEST_PER_CLASS, 100)):
        for label, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for n in range(per_class):
                Image.fromarray(picture(seed + n, label, 9, 11, 3)).save(folder / f"{n}.png")

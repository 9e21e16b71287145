"""Images in folders, one folder per class, as torchvision's ``ImageFolder`` reads them.

``ROOT/CLASS/FILE``, or ``ROOT/train/CLASS/FILE`` and ``ROOT/test/CLASS/FILE`` where the data set
has test samples of its own. Class ids follow the sorted names of the class folders.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from fimi.learning.data.collection import Collection, DatasetOptions
from fimi.learning.data.dataset import Dataset, DatasetError
from fimi.learning.data.images import SUFFIXES, read_images


def image_folder(options: DatasetOptions) -> Collection:
    """Read a tree of image files.

    Raises:
        DatasetError: there is no such folder, it has no classes, a class has no images, or images
            are unusable.
    """
    root = options.folder("image-folder")
    if not root.is_dir():
        raise DatasetError(f"data.root: {root} is no folder; it must hold a folder for each class")
    parted = (root / "train").is_dir()
    train_root = root / "train" if parted else root
    class_names = _class_names(train_root)
    train = _read(train_root, class_names, options, "image-folder")
    if not parted or not (root / "test").is_dir():
        return Collection(train=train)
    test_root = root / "test"
    if unknown := sorted(set(_class_names(test_root)) - set(class_names)):
        raise DatasetError(
            f"{test_root} has classes that {train_root} lacks: {', '.join(unknown[:8])}"
        )
    test = _read(test_root, class_names, options, "image-folder/test")
    if train.image_shape != test.image_shape:
        raise DatasetError(
            f"{train_root} has images {train.image_shape} and {test_root} {test.image_shape} "
            "(channels, height, width); set data.image_size and data.image_mode"
        )
    return Collection(train=train, test=test)


def read_classes(root: Path, options: DatasetOptions, class_names: tuple[str, ...] = ()) -> Dataset:
    """Read ``ROOT/CLASS/FILE`` and nothing else; the root of the options is ignored.

    Args:
        root: a folder with a folder for each class.
        options: size and mode of the images.
        class_names: all classes that there are, in the order of their ids: ``root`` may lack some
            of them and must hold no others; empty: those that ``root`` holds.

    Raises:
        DatasetError: ``root`` holds parts, other classes, fewer than two where none are given, a
            class without images, or unusable images.
    """
    if parts := [part for part in ("train", "test") if _holds_folders(root / part)]:
        raise DatasetError(f"{root} holds parts, not classes; name one of them, {root / parts[0]}")
    if not class_names:
        return _read(root, _class_names(root), options, root.name)
    there = sorted(e.name for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    if unknown := [name for name in there if name not in class_names]:
        raise DatasetError(
            f"{root} holds folders that are no class of the run: {', '.join(unknown[:8])}; its "
            f"classes are {', '.join(class_names[:8])}{', …' if len(class_names) > 8 else ''}"
        )
    if not there:
        raise DatasetError(f"{root} holds no folder of a class; it must hold CLASS/FILE")
    found = _read(root, tuple(there), options, root.name)
    ids = np.array([class_names.index(name) for name in there], np.int64)
    return replace(found, labels=ids[found.labels], class_names=class_names)


def _holds_folders(root: Path) -> bool:
    return root.is_dir() and any(each.is_dir() for each in root.iterdir())


def _class_names(root: Path) -> tuple[str, ...]:
    names = tuple(
        sorted(e.name for e in root.iterdir() if e.is_dir() and not e.name.startswith("."))
    )
    if len(names) < 2:
        raise DatasetError(
            f"{root} holds {len(names)} class folders ({', '.join(names) or 'none'}); a data set "
            "needs at least two, ROOT/CLASS/FILE or ROOT/train/CLASS/FILE"
        )
    return names


def _read(root: Path, class_names: tuple[str, ...], options: DatasetOptions, name: str) -> Dataset:
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(class_names):
        files = _files(root / class_name)
        if not files:
            raise DatasetError(
                f"{root / class_name}: no images of this class (endings: {', '.join(SUFFIXES)})"
            )
        paths += files
        labels += [label] * len(files)
    return Dataset(
        name=name,
        images=read_images(paths, size=options.image_size, mode=options.image_mode),
        labels=np.array(labels, np.int64),
        class_names=class_names,
    )


def _files(folder: Path) -> list[Path]:
    return sorted(
        Path(place) / name
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )

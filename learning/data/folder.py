"""Images in folders, one folder per class, as torchvision's ``ImageFolder`` reads them.

``ROOT/CLASS/FILE``, or ``ROOT/PART/CLASS/FILE`` where the images are in parts already. Parts are
``train``, ``val`` and ``test``, also written ``training``, ``valid``, ``validation``, ``dev`` and
``testing``. The test part is held out. Without one the validation part is; with one, validation
images are added to those for training. Class ids follow the sorted names of the class folders.

What systems leave behind is passed over. Images that belong to no class are refused or named in the
log: none is left out in silence.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec.structs import replace

from fimi.learning.data.collection import Collection, DatasetOptions
from fimi.learning.data.dataset import Dataset, DatasetError
from fimi.learning.data.images import SUFFIXES, is_image, is_litter, read_images

log = logging.getLogger(__name__)

Part = Literal["train", "val", "test"]
_SPELLINGS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def image_folder(options: DatasetOptions) -> Collection:
    """Read a tree of image files.

    Raises:
        DatasetError: there is no such folder, it has no classes, a class has no images, images
            belong to no class or part, or are unusable.
    """
    root = options.folder("image-folder")
    if not root.is_dir():
        raise DatasetError(f"data.root: {root} is no folder; it must hold a folder for each class")
    parts = _parts(root)
    if not parts:
        return Collection(train=_read([root], _class_names(root), options, "image-folder"))
    used = [parts["train"]]
    held_out = parts.get("test") or parts.get("val")
    if "val" in parts:
        if "test" in parts:
            used.append(parts["val"])
        what = "added to the training images" if "test" in parts else "held out as the test part"
        log.info("image folder %s: images of %s are %s", root, parts["val"].name, what)
    _name_strays(root)
    class_names = _class_names(used[0])
    for other in (*used[1:], *([held_out] if held_out else [])):
        if unknown := sorted({folder.name for folder in _folders(other)} - set(class_names)):
            raise DatasetError(
                f"{other} has classes that {used[0]} lacks: {', '.join(unknown[:8])}"
            )
    train = _read(used, class_names, options, "image-folder")
    if held_out is None:
        return Collection(train=train)
    test = _read([held_out], class_names, options, "image-folder/test")
    if train.image_shape != test.image_shape:
        raise DatasetError(
            f"{used[0]} has images {train.image_shape} and {held_out} {test.image_shape} "
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
    if parts := _parts(root):
        part = next(iter(parts.values()))
        raise DatasetError(f"{root} holds parts, not classes; name one of them, {part}")
    if not class_names:
        return _read([root], _class_names(root), options, root.name)
    there = [folder.name for folder in _folders(root)]
    if unknown := [name for name in there if name not in class_names]:
        raise DatasetError(
            f"{root} holds folders that are no class of the run: {', '.join(unknown[:8])}; its "
            f"classes are {', '.join(class_names[:8])}{', …' if len(class_names) > 8 else ''}"
        )
    if not there:
        raise DatasetError(f"{root} holds no folder of a class; it must hold CLASS/FILE")
    found = _read([root], tuple(there), options, root.name)
    ids = np.array([class_names.index(name) for name in there], np.int64)
    return replace(found, labels=ids[found.labels], class_names=class_names)


def _folders(root: Path) -> list[Path]:
    return sorted(each for each in root.iterdir() if each.is_dir() and not is_litter(each.name))


def _parts(root: Path) -> dict[Part, Path]:
    """The parts that a folder holds; none: it holds classes.

    Raises:
        DatasetError: it cannot be told, or images would be left out.
    """
    folders = _folders(root)
    named = [folder for folder in folders if folder.name.lower() in _SPELLINGS]
    found: dict[Part, Path] = {}
    for folder in named:
        if not any(_files(each) for each in _folders(folder)):
            continue  # a class of that name, or nothing
        part = _SPELLINGS[folder.name.lower()]
        if part in found:
            raise DatasetError(
                f"{root} holds {found[part].name} and {folder.name}, which are two names for one "
                "part; merge them, or move one elsewhere"
            )
        found[part] = folder
    if not found:
        if len(named) > 1 and len(named) == len(folders):
            raise DatasetError(
                f"{root} holds {_names(named)}, which hold no class folders; images must be in "
                "ROOT/PART/CLASS/FILE"
            )
        return {}
    others = [each for each in folders if each not in found.values() and _files(each)]
    if "train" not in found or others:
        beside = f", and beside them {_names(others)} with images" if others else ""
        raise DatasetError(
            f"{root} holds {_names(list(found.values()))} with classes in them{beside}; it must "
            "hold either classes, or train and perhaps val and test, and no other images"
        )
    return found


def _names(folders: list[Path]) -> str:
    more = f" and {len(folders) - 8} more" if len(folders) > 8 else ""
    return ", ".join(f"{folder.name}/" for folder in folders[:8]) + more


def _name_strays(root: Path) -> None:
    """Say which images lie beside the folders that are read."""
    strays = sorted(each for each in root.iterdir() if each.is_file() and is_image(each.name))
    if strays:
        log.warning(
            "%s: images that lie in no class folder are not used: %d, such as %s",
            root,
            len(strays),
            strays[0].name,
        )


def _class_names(root: Path) -> tuple[str, ...]:
    folders = _folders(root)
    names = tuple(folder.name for folder in folders)
    if len(names) < 2:
        inside = f"; perhaps it is {folders[0]}" if folders and _folders(folders[0]) else ""
        raise DatasetError(
            f"{root} holds {len(names)} class folders ({', '.join(names) or 'none'}); a data set "
            f"needs at least two, ROOT/CLASS/FILE or ROOT/train/CLASS/FILE{inside}"
        )
    return names


def _read(
    roots: list[Path], class_names: tuple[str, ...], options: DatasetOptions, name: str
) -> Dataset:
    """All images of the folders, of one after another; the first must have every class."""
    paths: list[Path] = []
    labels: list[int] = []
    for root in roots:
        _name_strays(root)
        for label, class_name in enumerate(class_names):
            files = _files(root / class_name)
            if not files and root is roots[0]:
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
    """The images below a folder, however deep."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [each for each in folders if not is_litter(each)]
        found += [Path(place) / name for name in names if is_image(name)]
    return sorted(found)

"""Labelled images, and their split into a public, a validation, a private and a test part.

The generator node may see the *public* part, the *private* part is divided among the devices, and
the *test* part is held out for the coordinator's evaluation. The *validation* part is public too,
but nobody trains on it: whatever is chosen or fitted is judged on it, so that test images only tell
how good the result is. The four are disjoint.
:mod:`fimi.learning.data.registry` loads the images.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.errors import InputError
from fimi.learning.data.coverage import cover

Images = NDArray[np.uint8]
"""Images as they are stored and sent: (N, channels, height, width), 0 to 255."""
Labels = NDArray[np.int64]
"""Class ids: (N,)."""
SplitKind = Literal["writers", "random"]


class Dataset(Struct, frozen=True, kw_only=True, dict=True):
    """Labelled images.

    Attributes:
        name: name of the data set and its part, for example ``"digits/public"``.
        images: (N, channels, height, width), uint8.
        labels: (N,), class ids from 0.
        class_names: one per class.
        origin: which samples of the loaded data set they are, (N,); ``None``: all, in its order.
    """

    name: str
    images: Images
    labels: Labels
    class_names: tuple[str, ...]
    origin: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def subset(self, indices: NDArray[np.intp], name: str) -> Dataset:
        """The samples at ``indices``, in that order."""
        return Dataset(
            name=name,
            images=self.images[indices],
            labels=self.labels[indices],
            class_names=self.class_names,
            origin=indices if self.origin is None else self.origin[indices],
        )

    def label_counts(self) -> tuple[int, ...]:
        """Samples per class."""
        return tuple(int(n) for n in np.bincount(self.labels, minlength=self.classes))

    def digest(self) -> str:
        """SHA-256 over shape, classes, images and labels, hexadecimal; nothing else."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.sha256(repr((self.images.shape, self.class_names)).encode())
        hasher.update(np.ascontiguousarray(self.images).data)  # without a copy
        hasher.update(np.ascontiguousarray(self.labels).data)
        return hasher.hexdigest()


class Split(Struct, frozen=True, kw_only=True):
    """A data set in four disjoint parts.

    Attributes:
        public: for the generator.
        validation: public samples that nobody trains on, for everything that is chosen or fitted.
        private: to be divided among the devices.
        test: held out for evaluation.
        kind: how public and private part were separated.
    """

    public: Dataset
    validation: Dataset
    private: Dataset
    test: Dataset
    kind: SplitKind


def load_digits() -> Dataset:
    """1,797 handwritten digits, 8×8 pixels, grey levels 0 to 16 scaled to 0 to 255.

    They come with this package; ``bundled/digits.md`` says from where. They are the digits of
    scikit-learn, in the same order: neighbours were written by the same person.
    """
    with np.load(Path(__file__).parent / "bundled" / "digits.npz", allow_pickle=False) as file:
        grey, labels = file["grey"], file["labels"]
    return Dataset(
        name="digits",
        images=np.rint(grey * (255.0 / 16.0)).astype(np.uint8)[:, None],
        labels=labels.astype(np.int64),
        class_names=tuple(str(digit) for digit in range(10)),
    )


class DatasetError(InputError, ValueError):
    """Images cannot be read or used; the message says which, why and what to do."""

    code = "D001"


def validate(dataset: Dataset, where: str) -> Dataset:
    """The data set itself, after its types, shapes and labels were checked.

    ``where`` is its origin, for the message.

    Raises:
        DatasetError: it is empty, or its arrays or labels are not what they must be.
    """
    images, labels = dataset.images, dataset.labels
    if images.dtype == np.uint8 and (layout := _other_layout(images)):
        raise DatasetError(f"{where}: images {images.shape} {layout}")
    fits = images.ndim == 4 and labels.shape == images.shape[:1]
    if not fits or images.dtype != np.uint8 or labels.dtype != np.int64:
        raise DatasetError(
            f"{where}: images {images.dtype} {images.shape} and labels {labels.dtype} "
            f"{labels.shape}; they must be uint8 (N, channels, height, width) and int64 (N,)"
        )
    if 0 in images.shape:
        raise DatasetError(f"{where}: no images (their array has the shape {images.shape})")
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= dataset.classes:
        wrong = least if least < 0 else most
        index = int(np.flatnonzero(labels == wrong)[0])
        raise DatasetError(
            f"{where}: sample {index} has label {wrong}, outside 0 to {dataset.classes - 1} "
            f"({dataset.classes} class names)"
        )
    return dataset


def _other_layout(images: NDArray[np.uint8]) -> str:
    """What is wrong with the order of the axes, and the remedy; empty if nothing seems wrong.

    Three axes are grey images without their channel. A last axis of 1, 3 or 4 after two that are
    longer holds the channels: nobody has images 3 pixels wide with more than 4 channels.
    """
    if images.ndim == 3:
        return (
            "lack the axis of channels; they must be uint8 (N, channels, height, width): give "
            "images[:, None]"
        )
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or min(images.shape[1:3]) <= 4:
        return ""
    _, height, width, channels = images.shape
    return (
        f"seem to have their channels last: {height}×{width} pixels in {channels} channels. They "
        "must be uint8 (N, channels, height, width): give images.transpose(0, 3, 1, 2). If they "
        f"really have {height} channels of {width}×{channels} pixels, exchange height and width"
    )


def some(dataset: Dataset, most: int, *, seed: int) -> Dataset:
    """At most so many samples, drawn without regard to class; they keep their order."""
    order = np.random.default_rng((seed, most)).permutation(len(dataset))
    return dataset.subset(np.sort(order[:most]), f"{dataset.name}/some")


def limited(dataset: Dataset, most: int, *, seed: int, least: int = 1) -> Dataset:
    """At most so many samples, drawn from every class in proportion.

    They keep their order, so that the first samples stay the first. With 0 it is all of them.

    Args:
        dataset: all samples.
        most: how many, at most.
        seed: seed of the draw.
        least: of each class, where it has so many and ``most`` is enough for that; at least one.

    Raises:
        DatasetError: ``most`` is less than the number of classes with samples.
    """
    if not most or most >= len(dataset):
        return dataset
    counts = np.array(dataset.label_counts())
    there = int((counts > 0).sum())
    if most < there:
        raise DatasetError(
            f"{dataset.name}: {most} samples cannot hold one of each of {there} classes; raise "
            "data.limit"
        )
    share = counts * (most / counts.sum())
    floor = np.minimum(counts, min(least, most // there))
    wanted = np.maximum(np.floor(share).astype(int), floor)
    while wanted.sum() != most:  # the class that is farthest from its share, up or down
        step = 1 if wanted.sum() < most else -1
        able = wanted < counts if step > 0 else wanted > floor
        off = np.where(able, (share - wanted) * step, -np.inf)
        wanted[int(off.argmax())] += step
    generator = np.random.default_rng((seed, 0x11A17))
    chosen = [
        generator.permutation(np.flatnonzero(dataset.labels == label))[:count]
        for label, count in enumerate(wanted)
    ]
    return dataset.subset(np.sort(np.concatenate(chosen)), dataset.name)


def split(
    dataset: Dataset,
    *,
    kind: SplitKind = "writers",
    public_fraction: float = 0.4,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    seed: int = 0,
    test: Dataset | None = None,
) -> Split:
    """Divide a data set into public, validation, private and test parts.

    Where a draw leaves a class out of a part, single samples are exchanged
    (:func:`fimi.learning.data.coverage.cover`): every part has every class of three samples and
    more (of two and more where ``test`` is given), if it has as many samples as there are classes;
    the validation part has those of two public samples and more, where it has room for them.

    Args:
        dataset: all samples; without the test samples where these are given.
        kind: ``"writers"`` takes the first samples as public, so that other people wrote them
            than the rest (a domain gap, as public data has in practice; what is exchanged lies
            next to the boundary, whatever the seed); ``"random"`` draws the public part at random.
        public_fraction: share of ``dataset`` that is public, the validation part included.
        validation_fraction: share of the public samples that is held apart for validation; with
            ``"writers"`` the last of them.
        test_fraction: share of ``dataset`` that is held out; not used where ``test`` is given.
        seed: seed of the random draws; with ``"writers"`` it draws private and test part only.
        test: the data set's own test samples.

    Raises:
        ValueError: an unknown kind, or fractions that leave a part empty.
    """
    if kind not in ("writers", "random"):
        raise ValueError(f"unknown split {kind!r}; there are 'writers' and 'random'")
    count = len(dataset)
    public_count = round(public_fraction * count)
    validation_count = max(1, round(validation_fraction * public_count))
    drawn = 0 if test is not None else round(test_fraction * count)
    private_count = count - public_count - drawn
    test_count = drawn if test is None else len(test)
    if min(public_count - validation_count, test_count, private_count) < 1:
        raise ValueError(
            f"public_fraction {public_fraction}, validation_fraction {validation_fraction} of it "
            f"and test_fraction {test_fraction} of {count} samples leave "
            f"{max(public_count - validation_count, 0)} public, {validation_count} for validation, "
            f"{private_count} private, {test_count} test; each part needs at least one sample"
        )
    generator = np.random.default_rng((seed, 0x5EED))
    everyone = generator.permutation(count) if kind == "random" else np.arange(count)
    public, rest = everyone[:public_count], everyone[public_count:]
    parts = 3 if test is None else 2
    labels, able = dataset.labels, np.array(dataset.label_counts()) >= parts
    cover(labels, public, rest, needs=(1, parts - 1), able=able)
    rest = generator.permutation(rest)
    if test is None:
        cover(labels, rest[:drawn], rest[drawn:], needs=(1, 1), able=able)
    held_out, private = np.sort(rest[:drawn]), np.sort(rest[drawn:])
    kept_apart, shown = public[-validation_count:], public[:-validation_count]
    held = np.bincount(labels[public], minlength=len(able))
    cover(labels, shown, kept_apart, needs=(1, 1), able=held >= 2)
    cover(labels, shown, kept_apart, needs=(1, 0), able=held >= 1)  # rather there than here
    return Split(
        public=dataset.subset(np.sort(shown), f"{dataset.name}/public"),
        validation=dataset.subset(np.sort(kept_apart), f"{dataset.name}/validation"),
        private=dataset.subset(private, f"{dataset.name}/private"),
        test=dataset.subset(held_out, f"{dataset.name}/test") if test is None else test,
        kind=kind,
    )


def missing_classes(dataset: Dataset) -> tuple[str, ...]:
    """Names of the classes that have no sample."""
    counts = dataset.label_counts()
    return tuple(name for name, count in zip(dataset.class_names, counts, strict=True) if not count)


def check_classes(parts: Split) -> None:
    """Make sure that every part has samples of every class.

    Raises:
        DatasetError: names the part and the classes that it lacks.
    """
    for name, part in (("public", parts.public), ("private", parts.private), ("test", parts.test)):
        if missing := missing_classes(part):
            shown = ", ".join(missing[:8]) + (", …" if len(missing) > 8 else "")
            rare = _rare(parts, missing)
            raise DatasetError(
                f"the {name} part ({len(part)} samples) has none of class {shown}: "
                f"{len(missing)} of {part.classes} classes are missing; "
                + (
                    f"there are too few samples of {', '.join(rare[:8])} for one in each of the "
                    "three parts: add some, or leave the class out"
                    if rare
                    else "take another fraction, so that the part has room for every class, or "
                    "data whose test part has every class"
                )
            )


def _rare(parts: Split, names: tuple[str, ...]) -> list[str]:
    """Those of the classes that no division can give to all three parts."""
    public, private, test = (
        np.array(part.label_counts()) for part in (parts.public, parts.private, parts.test)
    )
    rare = (public + private < 2) | (public + private + test < 3)
    return [name for name in names if rare[parts.test.class_names.index(name)]]

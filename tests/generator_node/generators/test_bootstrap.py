"""fimi.generator_node.generators.bootstrap: real public images, hardly changed."""

from __future__ import annotations

import numpy as np
import pytest
from contract import GeneratorContract

from fimi.generator_node.generators.base import Generator, GeneratorError
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.service.gate import Neighbours
from fimi.learning.data.changes import ImageChanges
from fimi.learning.data.dataset import Dataset, Split

STILL = ImageChanges(rotation_degrees=0, shift_pixels=0, scale=0)


class TestContract(GeneratorContract):
    @pytest.fixture
    def generator(self, parts: Split) -> Generator:
        return BootstrapGenerator(parts.public)


class TestColour(GeneratorContract):
    @pytest.fixture
    def generator(self) -> Generator:
        images = np.random.default_rng(0).integers(0, 256, (20, 3, 6, 9), np.uint8)
        labels = np.arange(20, dtype=np.int64) % 2
        public = Dataset(name="noise", images=images, labels=labels, class_names=("a", "b"))
        return BootstrapGenerator(public, ImageChanges(flip=True))


def test_without_changes_the_images_are_public_ones_of_the_class(parts: Split) -> None:
    public = parts.public
    labels = np.repeat(np.arange(10, dtype=np.int64), 5)
    images = BootstrapGenerator(public, STILL).generate(labels, np.arange(50, dtype=np.uint64))
    for image, label in zip(images, labels, strict=True):
        same = (public.images == image).all(axis=(1, 2, 3))
        assert label in public.labels[same]


def test_flipping(parts: Split) -> None:
    flipping = ImageChanges(rotation_degrees=0, shift_pixels=0, scale=0, flip=True)
    seeds, labels = np.arange(40, dtype=np.uint64), np.full(40, 3, np.int64)
    plain = BootstrapGenerator(parts.public, STILL).generate(labels, seeds)
    mirrored = BootstrapGenerator(parts.public, flipping).generate(labels, seeds)
    turned = (mirrored == plain[..., ::-1]).all(axis=(1, 2, 3))
    assert 10 <= turned.sum() <= 30
    assert ((mirrored == plain).all(axis=(1, 2, 3)) | turned).all()


def test_changes_are_small(parts: Split) -> None:
    labels = np.arange(60, dtype=np.int64) % 10
    turning = BootstrapGenerator(parts.public, ImageChanges(shift_pixels=0))
    images = turning.generate(labels, np.arange(60, dtype=np.uint64))
    far = Neighbours(parts.public.images).distances(images)
    assert 0 < np.median(far) < np.median(Neighbours(parts.public.images).among_themselves())


def test_a_class_without_images(parts: Split) -> None:
    few = parts.public.subset(np.flatnonzero(parts.public.labels != 4), "no fours")
    with pytest.raises(GeneratorError, match="no fours holds no image of 4"):
        BootstrapGenerator(few)

"""fimi.learning.data.folder and fimi.learning.data.images: unusable files are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import data_on_disk as disk
import numpy as np
import pytest
from PIL import Image

from fimi.learning.data import registry
from fimi.learning.data.collection import Collection, DatasetOptions
from fimi.learning.data.dataset import DatasetError
from fimi.learning.data.folder import read_classes
from fimi.learning.data.images import SUFFIXES, convert, read_images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    disk.write_folder(tmp_path)
    return tmp_path


CLASSES = ("washer", "bolt", "screw", "nut")
"""Of a run: those of the folder and another, in an order of its own."""


class TestClassesOfARun:
    """A device's own images: class ids are those of the run, not those of its folders."""

    def test_some_of_them_in_their_order(self, root: Path) -> None:
        shutil.rmtree(root / "train" / "nut")
        got = read_classes(root / "train", DatasetOptions(), CLASSES)
        assert got.class_names == CLASSES
        assert got.label_counts() == (4, 4, 0, 0)
        own = load(root / "test").train  # the pixels say the folder, in the order of the alphabet
        assert own.class_names == ("bolt", "nut", "washer")
        firsts = got.images[:, 0, 0, 0].tolist()
        assert firsts == [0] * 4 + [2] * 4  # bolt, washer
        assert got.labels.tolist() == [1] * 4 + [0] * 4

    def test_one_alone(self, root: Path) -> None:
        for name in ("nut", "bolt"):
            shutil.rmtree(root / "train" / name)
        got = read_classes(root / "train", DatasetOptions(), CLASSES)
        assert got.label_counts() == (4, 0, 0, 0)

    def test_others_are_refused(self, root: Path) -> None:
        (root / "train" / "rivet").mkdir()
        with pytest.raises(DatasetError, match="no class of the run: rivet; its classes are wash"):
            read_classes(root / "train", DatasetOptions(), CLASSES)

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="holds no folder of a class"):
            read_classes(tmp_path, DatasetOptions(), CLASSES)

    def test_parts(self, root: Path) -> None:
        with pytest.raises(DatasetError, match="holds parts, not classes; name one of them"):
            read_classes(root, DatasetOptions(), CLASSES)


def load(root: Path, **options: object) -> Collection:
    return registry.load("image-folder", DatasetOptions(root=str(root), **options))  # type: ignore[arg-type]


class TestFolders:
    def test_train_and_test(self, root: Path) -> None:
        collection = load(root)
        assert collection.train.class_names == ("bolt", "nut", "washer")
        assert collection.train.label_counts() == (4, 4, 4)
        assert collection.test is not None
        assert collection.test.label_counts() == (2, 2, 2)
        assert (collection.train.images[:, 0, 0, 0] == collection.train.labels).all()

    def test_without_a_test_part(self, root: Path) -> None:
        collection = load(root / "train")
        assert collection.test is None
        assert collection.train.digest() == load(root).train.digest()

    def test_other_files_and_hidden_folders_are_passed_over(self, root: Path) -> None:
        before = load(root).train.digest()
        (root / "train" / "bolt" / "notes.txt").write_text("from the workshop")
        (root / "train" / ".cache").mkdir()
        assert load(root).train.digest() == before

    def test_files_may_lie_deeper(self, root: Path) -> None:
        deep = root / "train" / "bolt" / "zinc"
        deep.mkdir()
        (root / "train" / "bolt" / "3.png").rename(deep / "3.png")
        assert load(root).train.label_counts() == (4, 4, 4)

    def test_no_classes(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="holds 0 class folders"):
            load(tmp_path)

    def test_a_class_without_images(self, root: Path) -> None:
        (root / "train" / "screw").mkdir()
        with pytest.raises(DatasetError, match="screw: no images of this class"):
            load(root)

    def test_a_class_in_the_test_part_only(self, root: Path) -> None:
        (root / "test" / "screw").mkdir()
        with pytest.raises(DatasetError, match=r"has classes that .* lacks: screw"):
            load(root)

    def test_parts_of_different_sizes(self, root: Path) -> None:
        for path in (root / "test").rglob("*.png"):
            Image.new("RGB", (5, 5)).save(path)
        with pytest.raises(DatasetError, match=r"images \(3, 9, 11\) and .* \(3, 5, 5\)"):
            load(root)
        assert load(root, image_size=8).train.image_shape == (3, 8, 8)


class TestImages:
    def test_every_unusable_file_is_named(self, root: Path) -> None:
        nuts = root / "train" / "nut"
        (nuts / "0.png").write_bytes(b"no image")
        (nuts / "1.png").write_bytes((nuts / "1.png").read_bytes()[:-60])
        Image.new("I;16", (11, 9)).save(nuts / "2.png")
        with pytest.raises(DatasetError) as caught:
            load(root)
        said = str(caught.value)
        assert said.startswith("3 of 12 images cannot be used")
        assert all(str(nuts / f"{n}.png") in said for n in range(3))
        assert "more than 8 bits a channel" in said
        assert "repair or remove them" in said

    def test_a_long_list_is_cut(self, root: Path) -> None:
        for path in (root / "train").rglob("*.png"):
            path.write_bytes(b"")
        with pytest.raises(DatasetError, match=r"12 of 12 images .* and 7 more; repair"):
            load(root)

    def test_mixed_sizes(self, root: Path) -> None:
        odd = root / "train" / "nut" / "1.png"
        Image.new("RGB", (7, 9)).save(odd)
        with pytest.raises(DatasetError) as caught:
            load(root)
        assert f"11×9 (11, such as {root / 'train' / 'bolt' / '0.png'})" in str(caught.value)
        assert f"7×9 (1, such as {odd}); set data.image_size" in str(caught.value)

    def test_mixed_modes(self, root: Path) -> None:
        odd = root / "train" / "nut" / "1.png"
        Image.new("L", (11, 9)).save(odd)
        with pytest.raises(DatasetError, match=r"modes rgb \(11, .* grey \(1, .*data\.image_mode"):
            load(root)
        assert load(root, image_mode="grey").train.image_shape == (1, 9, 11)

    def test_palettes_and_transparency_must_be_asked_for(self, root: Path) -> None:
        for path in root.rglob("*.png"):
            Image.open(path).convert("RGBA").save(path)
        with pytest.raises(DatasetError, match=r"modes RGBA .*set data\.image_mode"):
            load(root)
        assert load(root, image_mode="rgb").train.image_shape == (3, 9, 11)

    def test_black_and_white_is_grey(self, tmp_path: Path) -> None:
        Image.new("1", (3, 2), 1).save(tmp_path / "a.png")
        images = read_images([tmp_path / "a.png"])
        assert images.shape == (1, 1, 2, 3)
        assert (images == 255).all()

    def test_grey_of_an_array_is_grey_of_a_file(self, root: Path) -> None:
        """The same weights whichever way an image comes."""
        paths = sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES)
        assert np.array_equal(convert(read_images(paths), "grey"), read_images(paths, mode="grey"))

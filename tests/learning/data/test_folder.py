"""fimi.learning.data.folder and fimi.learning.data.images: unusable files are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import data_on_disk as disk
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

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


class TestParts:
    """Nothing is ever left out in silence."""

    @pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION", "dev"])
    def test_a_validation_part_is_held_out_where_there_is_no_test_part(
        self, root: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        whole = load(root)
        (root / "test").rename(root / name)
        with caplog.at_level("INFO"):
            found = load(root)
        assert found.train.digest() == whole.train.digest()
        assert found.test is not None
        assert whole.test is not None
        assert found.test.digest() == whole.test.digest()
        assert f"images of {name} are held out as the test part" in caplog.text

    def test_with_a_test_part_it_is_added_to_the_training_images(
        self, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = load(root)
        for folder in ("nut", "bolt"):  # it may lack a class
            (root / "val" / folder).mkdir(parents=True)
            for n in range(3):
                Image.new("RGB", (11, 9), (99, n, 0)).save(root / "val" / folder / f"{n}.png")
        with caplog.at_level("INFO"):
            found = load(root)
        assert found.train.label_counts() == (7, 7, 4)
        assert (found.train.images[: len(before.train)] == before.train.images).all()
        assert (found.train.images[len(before.train) :, 0] == 99).all()
        assert found.test is not None
        assert before.test is not None
        assert found.test.digest() == before.test.digest()
        assert "images of val are added to the training images" in caplog.text

    @pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("TRAIN", "TEST")])
    def test_other_spellings(self, root: Path, train: str, test: str) -> None:
        before = load(root)
        (root / "train").rename(root / "between").rename(root / train)
        (root / "test").rename(root / "beside").rename(root / test)
        found = load(root)
        assert found.train.digest() == before.train.digest()
        assert found.test is not None
        assert before.test is not None
        assert found.test.digest() == before.test.digest()

    def test_an_unknown_class_in_the_validation_part(self, root: Path) -> None:
        (root / "val" / "screw").mkdir(parents=True)
        Image.new("RGB", (11, 9)).save(root / "val" / "screw" / "0.png")
        with pytest.raises(DatasetError, match=r"val has classes that .*train lacks: screw"):
            load(root)

    def test_two_names_for_one_part(self, root: Path) -> None:
        shutil.copytree(root / "train", root / "training")
        with pytest.raises(DatasetError, match=r"train and training, which are two names for one"):
            load(root)

    @pytest.mark.parametrize("missing", ["train", "test"])
    def test_parts_without_a_training_part_or_beside_other_images(
        self, root: Path, missing: str
    ) -> None:
        (root / missing).rename(root / "extra")
        with pytest.raises(DatasetError, match=r"beside them extra/ with images; it must hold"):
            load(root)
        shutil.rmtree(root / "extra")
        if missing == "train":
            with pytest.raises(DatasetError, match=r"holds test/ with classes in them; it must"):
                load(root)
        else:
            assert load(root).test is None

    def test_parts_without_class_folders(self, tmp_path: Path) -> None:
        for part in ("train", "val"):
            (tmp_path / part).mkdir()
            Image.new("RGB", (3, 3)).save(tmp_path / part / "0.png")
        with pytest.raises(DatasetError, match=r"holds train/, val/, which hold no class folders"):
            load(tmp_path)

    def test_a_class_may_have_the_name_of_a_part(self, root: Path) -> None:
        (root / "train" / "bolt").rename(root / "train" / "train")
        (root / "train" / "nut").rename(root / "train" / "test")
        found = load(root / "train")
        assert found.train.class_names == ("test", "train", "washer")
        assert found.test is None

    def test_folders_without_images_beside_the_parts(self, root: Path) -> None:
        before = load(root).train.digest()
        (root / "labels").mkdir()
        (root / "labels" / "all.csv").write_text("a,b")
        assert load(root).train.digest() == before

    @pytest.mark.parametrize("place", [".", "train", "test"])
    def test_images_that_lie_in_no_class_folder_are_named(
        self, root: Path, place: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = load(root).train.digest()
        assert "class folder" not in caplog.text
        Image.new("RGB", (11, 9)).save(root / place / "cover.png")
        assert load(root).train.digest() == before
        assert "in no class folder are not used: 1, such as cover.png" in caplog.text

    def test_the_folder_is_one_too_high(self, root: Path) -> None:
        (root / "__MACOSX").mkdir()
        root.rename(root.parent / "inner")
        root.mkdir()
        (root.parent / "inner").rename(root / "inner")
        with pytest.raises(
            DatasetError, match=r"holds 1 class folders \(inner\).*perhaps it is .*inner"
        ):
            load(root)


class TestLitter:
    def test_what_systems_leave_behind_is_passed_over(self, root: Path) -> None:
        before = load(root)
        picture = (root / "train" / "bolt" / "0.png").read_bytes()
        for place in (root, root / "train", root / "train" / "bolt", root / "test" / "nut"):
            for name in ("__MACOSX", "@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN"):
                (place / name / "bolt").mkdir(parents=True)
                (place / name / "0.png").write_bytes(picture)
                (place / name / "bolt" / "0.png").write_bytes(picture)
            (place / "._0.png").write_bytes(b"\0\5\x16\7 no image")
            (place / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
            (place / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
            (place / "desktop.ini").write_text("[.ShellClassInfo]")
        found = load(root)
        assert found.train.digest() == before.train.digest()
        assert found.train.class_names == ("bolt", "nut", "washer")
        assert found.test is not None
        assert before.test is not None
        assert found.test.digest() == before.test.digest()


class TestUpright:
    @pytest.mark.parametrize("ending", ["jpg", "png", "tiff", "webp"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_as_pillow_itself_turns_it(self, tmp_path: Path, ending: str, orientation: int) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 3)).astype(np.uint8)
        large = Image.fromarray(pixels.repeat(16, 0).repeat(16, 1))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        path = tmp_path / f"a.{ending}"
        large.save(path, exif=exif)
        with Image.open(path) as image:
            wanted = np.asarray(ImageOps.exif_transpose(image))
        (found,) = read_images([path])
        np.testing.assert_array_equal(found.transpose(1, 2, 0), wanted)
        assert found.shape[1:] == ((48, 32) if orientation < 5 else (32, 48))

    def test_corner_by_corner(self, tmp_path: Path) -> None:
        """EXIF's own words: 6, row 0 is the right side and column 0 the top of the scene."""
        stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
        (found,) = read_images([tmp_path / "a.png"])
        assert found[0].tolist() == [[3, 0], [4, 1], [5, 2]]

    def test_turned_ones_have_the_size_of_the_others(self, root: Path) -> None:
        """A phone held upright stores 9×11 where another stores 11×9."""
        path = root / "train" / "nut" / "1.png"
        with Image.open(path) as image:
            before, turned = np.asarray(image), image.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        turned.save(path, exif=exif)
        train = load(root).train
        index = int(np.flatnonzero(train.labels == 1)[1])
        np.testing.assert_array_equal(train.images[index].transpose(1, 2, 0), before)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    @pytest.mark.parametrize(
        "note", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", bytes(40)]
    )
    def test_a_damaged_note_is_ignored(self, tmp_path: Path, note: bytes) -> None:
        image = Image.new("L", (5, 3), 7)
        image.save(tmp_path / "a.png", exif=note)
        assert read_images([tmp_path / "a.png"]).shape == (1, 1, 3, 5)


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

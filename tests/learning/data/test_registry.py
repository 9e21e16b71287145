"""fimi.learning.data.registry: one contract for every data set, read in its own format."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import data_on_disk as disk
import numpy as np
import pytest
from torchvision import datasets as published

from fimi.learning.data import data_file, dataset, registry
from fimi.learning.data.collection import Collection, DatasetOptions
from fimi.learning.data.dataset import Dataset, DatasetError, Images
from fimi.learning.data.registry import DATASETS

EXPECTED: dict[str, tuple[int, tuple[int, int, int], bool]] = {
    "digits": (10, (1, 8, 8), False),
    "cifar-10": (10, (3, 32, 32), True),
    "cifar-100": (100, (3, 32, 32), True),
    "mnist": (10, (1, 28, 28), True),
    "fashion-mnist": (10, (1, 28, 28), True),
    "gtsrb": (43, (3, 32, 32), True),
    "image-folder": (3, (3, 9, 11), True),
    "data-file": (2, (2, 4, 4), False),
    "own": (2, (2, 4, 4), False),
}
"""Classes, image shape, and whether it has a test part of its own."""


def own(options: DatasetOptions) -> Collection:
    images = np.arange(6 * 32, dtype=np.uint8).reshape(6, 2, 4, 4)
    labels = np.array([0, 1, 0, 1, 0, 1], np.int64)
    return Collection(
        train=Dataset(name="own", images=images, labels=labels, class_names=("a", "b"))
    )


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data set to root; written once."""
    roots = {name: tmp_path_factory.mktemp(name) for name in EXPECTED}
    roots["data-file"] /= "all.npz"
    data_file.save(own(DatasetOptions()).train, roots["data-file"])
    disk.write_idx(roots["mnist"], "MNIST")
    disk.write_idx(roots["fashion-mnist"], "FashionMNIST")
    disk.write_gtsrb(roots["gtsrb"])
    disk.write_folder(roots["image-folder"])
    return roots


@pytest.fixture
def open_dataset(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Collection]:
    """Load a data set by name from its small files."""

    def load(name: str, **options: object) -> Collection:
        root = files[name]
        if name.startswith("cifar"):
            classes = int(name.removeprefix("cifar-"))
            root = tmp_path / name
            shutil.rmtree(root, ignore_errors=True)
            kind = published.CIFAR10 if classes == 10 else published.CIFAR100
            for attribute, value in disk.write_cifar(root, classes).items():
                monkeypatch.setattr(kind, attribute, value)
        monkeypatch.setattr(dataset, "own", own, raising=False)
        chosen = DatasetOptions(root=str(root), **options)  # type: ignore[arg-type]
        return registry.load("fimi.learning.data.dataset:own" if name == "own" else name, chosen)

    return load


def test_the_contract_covers_every_data_set() -> None:
    assert set(DATASETS) | {"own"} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
class TestContract:
    def test_what_it_is(self, name: str, open_dataset: Callable[..., Collection]) -> None:
        collection = open_dataset(name)
        classes, shape, has_test = EXPECTED[name]
        assert (collection.test is not None) == has_test
        for part in (collection.train, collection.test):
            if part is None:
                continue
            assert part.classes == classes
            assert part.image_shape == shape
            assert part.images.dtype == np.uint8
            assert part.labels.dtype == np.int64
            assert part.images.flags.c_contiguous
            assert min(part.label_counts()) > 0
            assert len(set(part.class_names)) == classes

    def test_the_same_again(self, name: str, open_dataset: Callable[..., Collection]) -> None:
        first, again = open_dataset(name), open_dataset(name)
        assert first.train.digest() == again.train.digest()
        if first.test is not None and again.test is not None:
            assert first.test.digest() == again.test.digest() != first.train.digest()

    def test_splits(self, name: str, open_dataset: Callable[..., Collection]) -> None:
        collection = open_dataset(name)
        parts = dataset.split(
            collection.train, kind="random", public_fraction=0.5, seed=1, test=collection.test
        )
        if collection.test is not None:
            assert parts.test is collection.test
            drawn = (parts.public, parts.validation, parts.private)
            assert sum(map(len, drawn)) == len(collection.train)
        assert parts.public.name == f"{collection.train.name}/public"
        assert parts.test.name == f"{collection.train.name}/test"

    @pytest.mark.parametrize(("mode", "channels"), [("rgb", 3), ("grey", 1)])
    def test_size_and_mode(
        self, name: str, mode: str, channels: int, open_dataset: Callable[..., Collection]
    ) -> None:
        if name in ("own", "data-file"):
            channels = 2  # neither grey nor colour: left alone
        collection = open_dataset(name, image_size=12, image_mode=mode)
        assert collection.train.image_shape == (channels, 12, 12)
        assert collection.test is None or collection.test.image_shape == (channels, 12, 12)
        whole = open_dataset(name).train
        assert np.array_equal(collection.train.labels, whole.labels)

    def test_files_that_are_not_there(self, name: str, tmp_path: Path) -> None:
        if name in ("digits", "own"):
            pytest.skip("needs no files")
        empty = tmp_path / "empty"
        with pytest.raises(DatasetError, match=r"set data\.root to the f(older|ile)"):
            registry.load(name, DatasetOptions())
        with pytest.raises(DatasetError) as caught:
            registry.load(name, DatasetOptions(root=str(empty)))
        assert str(empty) in str(caught.value)
        assert "must hold" in str(caught.value)
        assert not empty.exists()


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100", "mnist", "fashion-mnist"])
def test_every_image_keeps_its_label(name: str, open_dataset: Callable[..., Collection]) -> None:
    """The first pixel of each was written as the label."""
    collection = open_dataset(name)
    for part in (collection.train, collection.test):
        assert part is not None
        assert (part.images[:, :, 0, 0] == part.labels[:, None]).all()


def test_gtsrbs_labels_are_its_own_numbers(
    tmp_path: Path, open_dataset: Callable[..., Collection]
) -> None:
    """Also where classes are missing: torchvision alone would number the folders there are."""
    disk.write_gtsrb(tmp_path, classes=(2, 5, 42))
    collection = registry.load("gtsrb", DatasetOptions(root=str(tmp_path)))
    for part in (collection.train, open_dataset("gtsrb").train, collection.test):
        assert part is not None
        assert (part.images == part.labels[:, None, None, None]).all()
    assert sorted(set(collection.train.labels.tolist())) == [2, 5, 42]
    assert collection.train.class_names[5] == "05"


def test_other_pickles_are_never_opened(tmp_path: Path) -> None:
    """Without the digests of the published files torchvision does not unpickle."""
    disk.write_cifar(tmp_path, 10)
    with pytest.raises(DatasetError, match=r"not found or corrupted; data\.root must hold"):
        registry.load("cifar-10", DatasetOptions(root=str(tmp_path)))


class TestDownload:
    """By torchvision, here from a server on this machine."""

    @pytest.fixture
    def archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        for attribute, value in disk.write_cifar(tmp_path / "source", 10).items():
            monkeypatch.setattr(published.CIFAR10, attribute, value)
        archive = tmp_path / "cifar-10-python.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            file.add(tmp_path / "source" / "cifar-10-batches-py", "cifar-10-batches-py")
        digest = hashlib.md5(archive.read_bytes()).hexdigest()
        monkeypatch.setattr(published.CIFAR10, "tgz_md5", digest)
        monkeypatch.setenv("no_proxy", "*")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
            monkeypatch.setattr(published.CIFAR10, "url", url)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield archive
            server.shutdown()
            thread.join()

    def test_only_if_asked_for(self, archive: Path, tmp_path: Path) -> None:
        root = tmp_path / "root"
        root.mkdir()
        with pytest.raises(DatasetError, match=r"data\.download = true fetches it"):
            registry.load("cifar-10", DatasetOptions(root=str(root)))
        assert list(root.iterdir()) == []
        got = registry.load("cifar-10", DatasetOptions(root=str(root), download=True))
        assert len(got.train) == 40
        again = registry.load("cifar-10", DatasetOptions(root=str(root)))
        assert again.train.digest() == got.train.digest()

    def test_that_fails(self, archive: Path, tmp_path: Path) -> None:
        archive.unlink()
        with pytest.raises(DatasetError, match="the download failed or what it brought is damaged"):
            registry.load("cifar-10", DatasetOptions(root=str(tmp_path / "root"), download=True))


def test_damaged_idx_files(tmp_path: Path) -> None:
    disk.write_idx(tmp_path, "FashionMNIST")
    (tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(DatasetError, match="data set 'fashion-mnist' under"):
        registry.load("fashion-mnist", DatasetOptions(root=str(tmp_path)))


class TestDataFile:
    def test_gives_what_was_saved(self, tmp_path: Path) -> None:
        path = tmp_path / "all.npz"
        data_file.save(dataset.load_digits(), path)
        found = registry.load("data-file", DatasetOptions(root=str(path)))
        assert found.train.digest() == dataset.load_digits().digest()
        assert found.test is None
        assert found.split_kind == "random"

    def test_a_folder_and_noise_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"data\.root: .*Is a directory; it must hold"):
            registry.load("data-file", DatasetOptions(root=str(tmp_path)))
        (tmp_path / "noise.npz").write_bytes(b"noise")
        with pytest.raises(DatasetError, match=r"noise\.npz: not a data file"):
            registry.load("data-file", DatasetOptions(root=str(tmp_path / "noise.npz")))


class TestOnesOwn:
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("cifar10", "unknown data set 'cifar10'; there are digits, cifar-10"),
            ("no_such_module:load", "the module must be importable here"),
            ("fimi.learning.data.dataset:no_such_factory", "has no attribute 'no_such_factory'"),
            ("fimi.learning.data.dataset:__doc__", "not a function"),
        ],
    )
    def test_none_of_this_name(self, name: str, said: str) -> None:
        with pytest.raises(DatasetError, match=said):
            registry.load(name, DatasetOptions())

    def given(self, monkeypatch: pytest.MonkeyPatch, result: object) -> None:
        monkeypatch.setattr(dataset, "factory", lambda options: result, raising=False)
        registry.load("fimi.learning.data.dataset:factory", DatasetOptions())

    def test_what_it_raises_is_said_with_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(options: DatasetOptions) -> Collection:
            raise RuntimeError("no such column")

        monkeypatch.setattr(dataset, "factory", fails, raising=False)
        with pytest.raises(DatasetError, match=r"RuntimeError: no such column \(.*registry.py:\d"):
            registry.load("fimi.learning.data.dataset:factory", DatasetOptions())

    def test_samples_are_counted_from_its_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where it is itself a part of something: shares are indices into what is loaded."""
        whole = own(DatasetOptions()).train
        part = whole.subset(np.array([4, 2]), "part")
        assert part.origin is not None
        monkeypatch.setattr(
            dataset, "factory", lambda options: Collection(train=part), raising=False
        )
        loaded = registry.load("fimi.learning.data.dataset:factory", DatasetOptions()).train
        assert loaded.origin is None
        assert loaded.digest() == part.digest()

    def test_no_collection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(DatasetError, match="gave a list, not a"):
            self.given(monkeypatch, [])

    def test_invalid_arrays_and_labels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        good = own(DatasetOptions()).train
        images, labels, names = good.images, good.labels, good.class_names
        for bad, said in [
            ((images.astype(np.float32), labels, names), "images float32"),
            ((images[:, 0], labels, names), "must be uint8 .N, channels"),
            ((images, labels[:5], names), "labels int64 .5,."),
            ((images, labels + 1, names), "sample 1 has label 2, outside 0 to 1"),
            ((images, labels - 1, names), "sample 0 has label -1, outside 0 to 1"),
            ((images[:0], labels[:0], names), "no images"),
        ]:
            train = Dataset(name="own", images=bad[0], labels=bad[1], class_names=bad[2])  # type: ignore[arg-type]
            with pytest.raises(DatasetError, match=said):
                self.given(monkeypatch, Collection(train=train))

    @pytest.mark.parametrize("shape", [(12, 12, 1), (32, 32, 3), (24, 40, 3), (8, 8, 4)])
    def test_channels_last_are_refused_with_the_remedy(
        self, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
    ) -> None:
        images = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(np.uint8)

        def collection(given: Images) -> Collection:
            labels = np.arange(6) % 2
            train = Dataset(name="own", images=given, labels=labels, class_names=("a", "b"))
            return Collection(train=train)

        height, width, channels = shape
        with pytest.raises(DatasetError) as caught:
            self.given(monkeypatch, collection(images))
        said = str(caught.value)
        assert f"{height}×{width} pixels in {channels} channels" in said
        assert "give images.transpose(0, 3, 1, 2)" in said
        self.given(monkeypatch, collection(images.transpose(0, 3, 1, 2)))  # as it says
        self.given(monkeypatch, collection(images.swapaxes(2, 3)))  # the other remedy

    @pytest.mark.parametrize(
        "shape", [(1, 12, 12), (3, 32, 32), (4, 3, 3), (9, 1, 128), (64, 1, 1), (3, 7, 3)]
    )
    def test_channels_first_are_not_taken_for_channels_last(
        self, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
    ) -> None:
        images = np.zeros((6, *shape), np.uint8)
        train = Dataset(name="own", images=images, labels=np.arange(6) % 2, class_names=("a", "b"))
        self.given(monkeypatch, Collection(train=train))

    def test_a_test_part_of_other_things(self, monkeypatch: pytest.MonkeyPatch) -> None:
        good = own(DatasetOptions()).train
        other = Dataset(
            name="t", images=good.images, labels=good.labels, class_names=("a", "b", "c")
        )
        with pytest.raises(DatasetError, match="its test part has 3 classes"):
            self.given(monkeypatch, Collection(train=good, test=other))


ON_A_BOARD = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'sklearn', 'scipy', 'onnx', 'diffusers'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Refuse())
from fimi.learning.data import registry
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.dataset import DatasetError
for name in registry.DATASETS:
    try:
        print(name, registry.load(name, DatasetOptions(root=sys.argv[1])).train.digest())
    except DatasetError as error:
        print(name, 'refused:', error)
"""


def _folder(root: Path) -> Collection:
    return registry.load("image-folder", DatasetOptions(root=str(root)))


def test_with_the_base_install_only(tmp_path: Path) -> None:
    """What needs no torchvision is loaded; of the rest a sentence says what is missing."""
    disk.write_folder(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", ON_A_BOARD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(found) == set(registry.DATASETS)
    assert found["digits"] == dataset.load_digits().digest()
    assert found["image-folder"] == _folder(tmp_path).train.digest()
    for name in ("cifar-10", "cifar-100", "mnist", "fashion-mnist", "gtsrb"):
        assert found[name].startswith(f"refused: data set {name!r} is read by torchvision, which")
        assert "pip install 'fimi-testbed[torch]'" in found[name]

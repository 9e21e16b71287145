"""fimi.generator_node.generators.class_meanings: asked of the data sets as they are named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torchvision import datasets as published

from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.class_meanings import MEANINGS, meanings_of
from fimi.learning.data import registry, torchvision
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.dataset import Dataset, load_digits, split

CIFAR_10 = "airplane automobile bird cat deer dog frog horse ship truck"
"""https://www.cs.toronto.edu/~kriz/cifar.html; ``batches.meta`` has them in this order."""
CIFAR_100 = """
    beaver dolphin otter seal whale aquarium_fish flatfish ray shark trout orchid poppy rose
    sunflower tulip bottle bowl can cup plate apple mushroom orange pear sweet_pepper clock keyboard
    lamp telephone television bed chair couch table wardrobe bee beetle butterfly caterpillar
    cockroach bear leopard lion tiger wolf bridge castle house road skyscraper cloud forest mountain
    plain sea camel cattle chimpanzee elephant kangaroo fox porcupine possum raccoon skunk crab
    lobster snail spider worm baby boy girl man woman crocodile dinosaur lizard snake turtle hamster
    mouse rabbit shrew squirrel maple_tree oak_tree palm_tree pine_tree willow_tree bicycle bus
    motorcycle pickup_truck train lawn_mower rocket streetcar tank tractor
"""
"""Of the same page, by superclass; spelt as ``fine_label_names`` of the file ``meta``."""


def named(name: str, *class_names: str) -> Dataset:
    images, labels = np.zeros((0, 3, 4, 4), np.uint8), np.zeros(0, np.int64)
    return Dataset(name=name, images=images, labels=labels, class_names=class_names)


def load(
    name: str, class_names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Dataset:
    """The data set that the registry has under a name, of torchvision's files without images."""

    def opened(name: str, torchvision_name: str, options: DatasetOptions, **part: object) -> object:
        assert hasattr(published, torchvision_name)
        return SimpleNamespace(
            data=np.zeros((len(class_names), 32, 32, 3), np.uint8),
            targets=list(range(len(class_names))),
            classes=class_names,
            _samples=(),
        )

    monkeypatch.setattr(torchvision, "_open", opened)
    monkeypatch.setattr(
        torchvision, "read_images", lambda *_, **__: np.zeros((0, 3, 32, 32), np.uint8)
    )
    factory = registry._find(name)
    return factory(DatasetOptions(root=str(tmp_path))).train


@pytest.mark.parametrize(
    ("name", "classes"),
    [("cifar-10", CIFAR_10.split()), ("cifar-100", CIFAR_100.split()), ("gtsrb", [])],
)
def test_every_class_of_the_registrys_data_set_has_a_meaning(
    name: str, classes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed there or here, a data set or a class would be asked for by its bare name."""
    found = load(name, classes, tmp_path, monkeypatch)
    assert MEANINGS[name].keys() == set(found.class_names)
    assert len(found.class_names) == {"cifar-10": 10, "cifar-100": 100, "gtsrb": 43}[name]
    meant = meanings_of(found)
    assert len(set(meant)) == found.classes
    assert not set(meant) & set(found.class_names) - {"cattle"}


def test_tables_are_of_data_sets_that_there_are() -> None:
    assert MEANINGS.keys() <= registry.DATASETS.keys()


def test_the_digits() -> None:
    public = split(load_digits()).public
    assert public.name == "digits/public"
    assert meanings_of(public)[7] == "the handwritten digit seven, white on black"


def test_signs_have_the_benchmarks_numbers() -> None:
    """Spot checks against the class table of the German Traffic Sign Recognition Benchmark."""
    signs = MEANINGS["gtsrb"]
    for number, sign in {
        "00": "limit 20", "08": "limit 120", "13": "give way", "14": "stop", "17": "no entry",
        "25": "road works", "27": "pedestrians", "31": "wild animals", "33": "turn right",
        "38": "keep right", "40": "roundabout", "42": "end of no overtaking by lorries",
    }.items():  # fmt: skip
        assert sign in signs[number]


def test_other_names_are_used_as_they_are() -> None:
    assert meanings_of(named("plants", "palm_tree", "T-shirt/top")) == ("palm tree", "T-shirt/top")


def test_a_table_of_another_data_set() -> None:
    shrunk = named("image-folder/public", "dog", "cat")
    assert meanings_of(shrunk, "cifar-10") == ("a dog", "a cat, the pet")
    with pytest.raises(GeneratorError, match=r"gtsrb has none of the classes of .*, dog, cat"):
        meanings_of(shrunk, "gtsrb")


class TestAFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "meanings.toml"
        path.write_text('14 = "a stop sign"\n', encoding="utf-8")
        return path

    def test_says_it(self, file: Path) -> None:
        assert meanings_of(named("signs", "14", "other"), str(file)) == ("a stop sign", "other")

    def test_numbers_without_a_meaning_are_refused(self, file: Path) -> None:
        with pytest.raises(GeneratorError, match=r"class 13 of signs says nothing.*a photo of 13"):
            meanings_of(named("signs", "13", "14"), str(file))
        with pytest.raises(GeneratorError, match="class 14 of signs says nothing"):
            meanings_of(named("signs", "14", "other"))

    def test_names_that_are_no_class(self, file: Path) -> None:
        with pytest.raises(GeneratorError, match="14 is no class of signs, which has 13"):
            meanings_of(named("signs", "13"), str(file))

    @pytest.mark.parametrize("text", ["14 = ", "14 = 3\n"])
    def test_that_is_none(self, file: Path, text: str) -> None:
        file.write_text(text, encoding="utf-8")
        with pytest.raises(GeneratorError, match=r"meanings\.toml"):
            meanings_of(named("signs", "14"), str(file))

    def test_that_is_not_there(self) -> None:
        with pytest.raises(GeneratorError, match=r"cannot be read.*digits, mnist, cifar-10"):
            meanings_of(named("signs", "14"), "nowhere.toml")

"""The keys of [data]: what they load, and what is refused before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from PIL import Image

from fimi.learning.data import data_file, partition_file
from fimi.learning.data.dataset import DatasetError
from fimi.learning.data.partition_schemes import SCHEMES, Dealing, divide
from fimi.learning.networks.models import ModelError
from fimi.testbed.cli import main
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes.coordinator import terms
from fimi.testbed.processes.devices import cycles_per_sample, emulated_board
from fimi.testbed.tools.check import network_words


def scenario(**values: Any) -> Scenario:
    overrides = {key.replace("__", "."): (value, "test") for key, value in values.items()}
    return configuration.load(None, overrides)


def config(**values: Any) -> Config:
    return scenario(**values).config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of twelve grey squares each; no test part."""
    for label, name in enumerate(("dark", "dim", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for n in range(12):
            image = np.full((8, 8), 80 * label + n, np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / name / f"{n}.png")
    return tmp_path / "images"


def of_folder(folder: Path, **values: Any) -> Config:
    return config(
        data__dataset="image-folder",
        data__root=str(folder),
        **{"data__min_samples": 2, "fleet__devices": 3, **values},
    )


class TestDatasets:
    def test_a_folder_becomes_devices_data(self, folder: Path) -> None:
        chosen = of_folder(folder, data__partition="iid")
        Scenario(config=chosen).check()
        split = Scenario(config=chosen).split
        assert split.kind == "random"
        shares = list(Scenario(config=chosen).shares)
        assert shares[0].name == "image-folder/device-01"
        assert sum(map(len, shares)) == len(split.private) == 36 - 14 - 7

    def test_digits_are_split_by_writers(self) -> None:
        """The shipped generator was trained on that part."""
        split = scenario().split
        assert split.kind == "writers"
        assert split.public.digest() == scenario(data__split="writers").split.public.digest()

    def test_writers_are_not_known_of_a_folder(self, folder: Path) -> None:
        with pytest.raises(DatasetError, match="does not say who made which samples"):
            Scenario(config=of_folder(folder, data__split="writers")).check()

    @pytest.mark.parametrize("name", ["svhn", "cifar10", "a-b:c", "a:b:c", ""])
    def test_no_such_data_set(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"data\.dataset = "):
            config(data__dataset=name)

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"data\.download = true fetches it"):
            scenario(data__dataset="cifar-10", data__root=str(tmp_path)).check()
        with pytest.raises(DatasetError, match=r"set data\.root to the folder"):
            scenario(data__dataset="gtsrb").check()

    def test_a_part_without_a_class(self, folder: Path) -> None:
        for path in sorted((folder / "dim").iterdir())[2:]:
            path.unlink()
        with pytest.raises(DatasetError, match=r"the \w+ part .* has none of class dim: 1 of 3"):
            Scenario(config=of_folder(folder, fleet__devices=2)).check()

    def test_a_devices_file(self, folder: Path, tmp_path: Path) -> None:
        """``fimi agent data`` writes what a device without the data set reads."""
        chosen = of_folder(folder, data__partition="iid")
        values = [f"data.{key}={getattr(chosen.data, key)}" for key in ("dataset", "partition")]
        values += [f"data.root={folder}", "data.min_samples=2", "data.image_mode=rgb"]
        arguments = [text for value in values for text in ("--set", value)]
        path = tmp_path / "device.npz"
        done = CliRunner().invoke(
            main, ["agent", "data", "--index", "1", "--devices", "3", *arguments, str(path)]
        )
        assert done.exit_code == 0, done.output
        assert data_file.load(path).contract is not None
        share = data_file.load(path).dataset
        assert share.image_shape == (3, 8, 8)
        own = list(Scenario(config=chosen).shares)[1]
        assert np.array_equal(share.labels, own.labels)
        assert np.array_equal(share.images[:, :1], own.images)


class TestLimit:
    def test_fewer_of_every_class(self) -> None:
        split = scenario(data__limit=300).split
        parts = (split.public, split.validation, split.private, split.test)
        assert sum(map(len, parts)) == 300
        assert split.kind == "writers"
        whole = scenario().split
        known = {
            image.tobytes()
            for part in (whole.public, whole.validation, whole.private, whole.test)
            for image in part.images
        }
        assert {image.tobytes() for part in parts for image in part.images} <= known

    def test_of_test_samples_of_its_own_the_same_share(self, folder: Path) -> None:
        for part, count in (("train", 12), ("test", 6)):
            for name in ("dark", "light"):
                target = folder.parent / "parted" / part / name
                target.mkdir(parents=True)
                for n in range(count):
                    (target / f"{n}.png").write_bytes((folder / name / f"{n}.png").read_bytes())
        split = Scenario(config=of_folder(folder.parent / "parted", data__limit=12)).split
        assert sum(map(len, (split.public, split.validation, split.private))) == 12
        assert split.test.label_counts() == (3, 3)

    def test_too_few(self) -> None:
        with pytest.raises(DatasetError, match=r"9 samples cannot hold.*raise data\.limit"):
            scenario(data__limit=9).check()


class TestPartitions:
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_each_divides_the_private_part(self, scheme: str) -> None:
        chosen = config(data__partition=scheme, fleet__devices=4)
        split = Scenario(config=chosen).split
        parts = list(Scenario(config=chosen).shares)
        assert sum(map(len, parts)) == len(split.private)
        assert min(map(len, parts)) >= chosen.data.min_samples

    def test_the_default_has_not_moved(self) -> None:
        """Golden values of the partition before there were others: seed 0, ten devices."""
        sizes = [len(part) for part in scenario().shares]
        assert sizes == [64, 105, 83, 110, 20, 8, 95, 7, 115, 112]

    def test_from_a_file(self, tmp_path: Path) -> None:
        split = scenario().split
        parts = divide("iid", split.private.labels, Dealing(devices=3, seed=9))
        partition_file.write(tmp_path / "p.json", parts, split.private)
        chosen = config(
            data__partition="file", data__partition_file=str(tmp_path / "p.json"), fleet__devices=3
        )
        Scenario(config=chosen).check()
        shares = list(Scenario(config=chosen).shares)
        assert [len(share) for share in shares] == [len(part) for part in parts]

    def test_a_device_without_data(self, tmp_path: Path) -> None:
        (tmp_path / "p.json").write_text(json.dumps({"devices": [list(range(9)), []]}))
        chosen = config(
            data__partition="file", data__partition_file=str(tmp_path / "p.json"), fleet__devices=2
        )
        with pytest.raises(DatasetError, match=r"devices\[1\] holds 0 samples, fewer than"):
            Scenario(config=chosen).check()
        with pytest.raises(ConfigError, match="min_samples = 0"):
            config(data__min_samples=0)

    @pytest.mark.parametrize(
        "values", [{"data__partition": "file"}, {"data__partition_file": "p.json"}]
    )
    def test_a_file_and_the_word_file_go_together(self, values: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="a file is read with"):
            config(**values)


class TestCycles:
    def test_of_the_default_are_those_of_the_readme(self) -> None:
        assert cycles_per_sample(config(), scenario().split.test) == 4.0e6

    def test_of_a_larger_network(self) -> None:
        chosen = config(training__model="resnet-18")
        data = Scenario(config=chosen).split.test
        board = emulated_board(chosen, 0, data).model()  # a Raspberry Pi 4, the reference
        assert board.compute.cycles_per_sample == cycles_per_sample(chosen, data) == 4.2e8

    def test_as_configured(self) -> None:
        chosen = config(fleet__reference_cycles_per_sample=1e7, training__model="resnet-18")
        assert cycles_per_sample(chosen, Scenario(config=chosen).split.test) == 1e7


class TestOnesOwnNetwork:
    def test_its_cycles_are_counted_once_for_all_devices(self) -> None:
        """64 pixels, 10 classes, one layer, which is the first: two products of 640 terms."""
        chosen = config(training__model="own_network:linear")
        emulated = terms(Scenario(config=chosen), one_machine=True).emulated
        assert emulated is not None
        assert emulated(0).cycles_per_sample == 5.1e3  # of 5,120
        assert emulated(1) == replace(
            emulated(0), board=chosen.fleet.boards[1 % len(chosen.fleet.boards)]
        )
        built_in = terms(scenario(), one_machine=True).emulated
        assert built_in is not None
        assert built_in(0).cycles_per_sample == cycles_per_sample(config(), scenario().split.test)

    def test_check_says_what_a_network_costs(self) -> None:
        said = network_words(scenario(training__model="own_network:linear"))
        assert said.startswith("own_network:linear: 650 parameters, 2,600 bytes a model")
        assert network_words(scenario()).startswith("small-cnn: 38,282 parameters")

    @pytest.mark.parametrize(
        ("model", "reason"),
        [
            ("own_network:too_few", "10 classes need a tensor of logits"),
            ("own_network:missing", "has no attribute 'missing'"),
            ("no_such_module:factory", "No module named 'no_such_module'"),
        ],
    )
    def test_check_tries_it(self, model: str, reason: str) -> None:
        done = CliRunner().invoke(main, ["check", "--set", f"training.model={model}"])
        assert done.exit_code == 2
        assert reason in done.output

    def test_that_does_not_fit_the_classes(self) -> None:
        with pytest.raises(ModelError, match="10 classes need a tensor of logits"):
            terms(scenario(training__model="own_network:too_few"), one_machine=True)


def test_a_missing_partition_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    chosen = config(data__partition="file", data__partition_file=str(tmp_path / "none.json"))
    with pytest.raises(DatasetError, match=r"none\.json: No such file"):
        list(Scenario(config=chosen).shares)

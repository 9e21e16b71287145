"""The contract and the shares that follow from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import data_on_disk as disk
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.edge_agent.share import take
from fimi.learning.data import contract as contracts
from fimi.learning.data import data_file, dataset, leak
from fimi.learning.data.dataset import DatasetError
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.tools.check import data_words, plan_words


def scenario(**values: Any) -> Scenario:
    given = {key.replace("__", "."): (value, "test") for key, value in values.items()}
    return configuration.load(None, given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    disk.write_folder(tmp_path / "images")
    return tmp_path / "images"


def of_folder(root: Path, **values: Any) -> Scenario:
    return scenario(
        data__dataset="image-folder",
        data__root=str(root),
        data__public_fraction=0.34,
        data__min_samples=2,
        data__partition="iid",
        fleet__devices=2,
        **values,
    )


class TestContract:
    def test_is_the_same_in_every_process_of_one_configuration(self) -> None:
        one, other = scenario().contract, scenario().contract
        assert one == other
        assert one.digest == other.digest

    def test_what_it_says(self) -> None:
        made = scenario(run__seed=5, data__alpha=0.5, fleet__devices=3).contract
        digits = dataset.load_digits()
        assert (made.samples, made.samples_digest) == (1797, digits.digest())
        assert (made.seed, made.split_seed, made.devices) == (5, 5, 3)
        assert (made.split, made.alpha, made.shards) == ("writers", 0.5, None)
        parts = dataset.split(digits, seed=5)
        assert (made.public_digest, made.validation_digest, made.test_digest) == (
            parts.public.digest(),
            parts.validation.digest(),
            parts.test.digest(),
        )
        assert made.overlap_max == 0.0

    def test_what_other_settings_change_is_named(self) -> None:
        first = scenario().contract
        other = scenario(run__seed=5, data__alpha=0.5).contract
        keys = [each.key for each in contracts.differences(first, other)]
        assert keys == [
            "data.split_seed",
            "run.seed",
            "data.alpha",
            "digest of the partition",
            "digest of the test part",
        ]

    @settings(max_examples=12)
    @given(
        training=st.sampled_from(["small-cnn", "vgg-9"]),
        rounds=st.integers(1, 9),
        strategy=st.sampled_from(["fimi", "tfl"]),
    )
    def test_what_is_not_of_the_data_does_not_matter(
        self, training: str, rounds: int, strategy: str
    ) -> None:
        chosen = {"training.model": training, "rounds.count": rounds, "run.strategy": strategy}
        again = configuration.load(None, {key: (value, "t") for key, value in chosen.items()})
        assert again.contract == scenario().contract

    def test_a_data_sets_own_duplicates_are_declared(self, folder: Path) -> None:
        """Two equal files, one on a device and one among the tests, as published sets have them."""
        bolt, test = folder / "train" / "bolt", folder / "test" / "bolt"
        for path in bolt.iterdir():
            path.write_bytes((test / "0.png").read_bytes())
        made = of_folder(folder)
        salt = "0123456789abcdef"
        known = leak.held_out(made.split, salt)
        held = [leak.image_hashes(share.images, salt) for share in made.shares]
        assert made.contract.overlap_max > 0
        for own in held:
            leak.check(own, known, made.contract)
        truth = {image.tobytes() for image in made.split.test.images}
        truth |= {image.tobytes() for image in made.split.public.images}
        truth |= {image.tobytes() for image in made.split.validation.images}
        found = [np.mean([i.tobytes() in truth for i in s.images]) for s in made.shares]
        assert made.contract.overlap_max == max(found)

    def test_a_generator_node_needs_no_division(self) -> None:
        """Its own fleet.devices does not matter, however many it says."""
        node = scenario(fleet__devices=900).undivided
        run = scenario(fleet__devices=3).contract
        assert contracts.differences(node, run, contracts.OF_NODE) == ()
        other = scenario(data__limit=400).contract
        keys = [each.key for each in contracts.differences(node, other, contracts.OF_NODE)]
        assert keys == ["data.limit", "digest of the public part"]


class TestShares:
    @settings(max_examples=15)
    @given(
        seed=st.integers(0, 99),
        limit=st.sampled_from([0, 0, 300, 900]),
        split=st.sampled_from(["writers", "random"]),
        partition=st.sampled_from(["dirichlet", "balanced", "iid", "shards"]),
        way=st.sampled_from(["indices", "shipped"]),
        devices=st.integers(1, 6),
    )
    def test_a_device_holds_what_the_coordinator_meant(
        self, seed: int, limit: int, split: str, partition: str, way: Any, devices: int
    ) -> None:
        made = scenario(
            run__seed=seed,
            data__limit=limit,
            data__split=split,
            data__partition=partition,
            fleet__devices=devices,
        )
        for index, share in enumerate(made.shares):
            payload = made.payload(index, way)
            got = take(made.contract, way, payload, None, device="d")
            assert got.digest() == share.digest()

    def test_from_a_folder_on_both_sides(self, folder: Path, tmp_path: Path) -> None:
        made = of_folder(folder, data__image_size=6)
        for index, share in enumerate(made.shares):
            got = take(made.contract, "indices", made.payload(index, "indices"), folder, device="d")
            assert got.digest() == share.digest()

    def test_a_file_of_this_configuration_and_of_another(self, tmp_path: Path) -> None:
        made, run = scenario(), scenario(data__shares="file", data__overlap_max=0.1)
        data_file.save(made.share(2), tmp_path / "2.npz", made.contract)
        got = take(run.contract, "file", None, tmp_path / "2.npz", device="d")
        assert got.digest() == made.share(2).digest()
        other = scenario(data__shares="file", run__seed=5)
        with pytest.raises(contracts.ContractError, match=r"run\.seed is 0, in the run 5"):
            take(other.contract, "file", None, tmp_path / "2.npz", device="d")


class TestWays:
    @pytest.mark.parametrize(
        ("chosen", "data_set", "one_machine", "way"),
        [
            ("auto", "digits", False, "indices"),
            ("auto", "cifar-10", False, "shipped"),
            ("auto", "image-folder", False, "shipped"),
            ("auto", "module:factory", False, "shipped"),
            ("auto", "cifar-10", True, "indices"),
            ("shipped", "digits", True, "shipped"),
            ("indices", "cifar-10", False, "indices"),
            ("file", "digits", False, "file"),
        ],
    )
    def test_which_it_is(self, chosen: str, data_set: str, one_machine: bool, way: str) -> None:
        made = scenario(data__shares=chosen, data__dataset=data_set)
        assert made.way(one_machine=one_machine) == way

    def test_emulated_devices_have_no_files(self) -> None:
        with pytest.raises(ConfigError, match=r'data\.shares = "file": emulated devices'):
            scenario(data__shares="file").way(one_machine=True)

    def test_images_of_their_own_are_divided_by_nobody(self) -> None:
        """The private part may be too small for the fleet: it is not used."""
        made = scenario(data__shares="file", fleet__devices=1000, data__overlap_max=0.25)
        made.check()
        assert made.payload(0, "file") is None
        assert made.contract.overlap_max == 0.25
        assert made.contract.partition_digest is None
        assert (made.dataset.private, made.dataset.partition) == (None, "own images")
        assert dict(data_words(made))["devices"].startswith("bring images of their own")
        assert plan_words(made).startswith("not tried")
        with pytest.raises(ConfigError):
            scenario(fleet__devices=1000).check()

    def test_but_every_class_must_be_tested(self) -> None:
        with pytest.raises(DatasetError, match=r"the public part \(4 samples\) has none of class"):
            scenario(data__shares="file", data__limit=12).check()

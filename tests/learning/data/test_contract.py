"""fimi.learning.data.contract: one digest everywhere, and differences named by their keys."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from run_contract import DIGITS

from fimi.learning.data import contract as contracts
from fimi.learning.data.contract import KEYS, OF_NODE, PROTOCOL, Contract, ContractError
from fimi.learning.data.dataset import Dataset

CHANGES = {
    "dataset": "mnist",
    "image_size": 16,
    "image_mode": "grey",
    "limit": 300,
    "class_names": ("0", "1"),
    "image_shape": (3, 8, 8),
    "samples": 5,
    "samples_digest": "e" * 64,
    "split": "random",
    "split_seed": 5,
    "public_fraction": 0.5,
    "validation_fraction": 0.25,
    "test_fraction": None,
    "seed": 5,
    "devices": 3,
    "partition": "iid",
    "alpha": 0.5,
    "shards": 2,
    "min_samples": 6,
    "partition_digest": "e" * 64,
    "public_digest": "e" * 64,
    "validation_digest": "e" * 64,
    "test_digest": "e" * 64,
    "overlap_max": 0.1,
}
"""Another value for each field, but for those that cannot have one."""

HERE = "data file x.npz"
GOLDEN = "26c8da6dac837963aba652c86e1e6eb2c1a3cf5b88e5b7614b9682a58fd559e0"
"""SHA-256 of the contract of these tests."""


class TestDigest:
    def test_is_of_the_json_as_anybody_writes_it(self) -> None:
        values = msgspec.to_builtins(DIGITS)
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        assert DIGITS.digest == hashlib.sha256(text.encode()).hexdigest()
        # A golden value: a change of it is a new version of the protocol.
        assert DIGITS.digest == GOLDEN

    def test_is_the_same_in_another_process(self) -> None:
        code = (
            "import sys; from fimi.learning.data.contract import read; "
            "print(read(sys.stdin.read(), 'here').digest)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=DIGITS.json(),
            env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == DIGITS.digest

    def test_of_whole_numbers_where_floats_are_meant(self) -> None:
        one, same = replace(DIGITS, alpha=1, overlap_max=0), replace(DIGITS, alpha=1.0)
        assert one.digest == same.digest

    @pytest.mark.parametrize("field", CHANGES)
    def test_every_value_counts(self, field: str) -> None:
        assert replace(DIGITS, **{field: CHANGES[field]}).digest != DIGITS.digest

    @given(alpha=st.floats(1e-9, 1e6), names=st.lists(st.text(max_size=5), max_size=4))
    def test_survives_the_journey(self, alpha: float, names: list[str]) -> None:
        sent = replace(DIGITS, alpha=alpha, class_names=tuple(names))
        for text in (sent.json(), msgspec.json.encode(sent)):
            assert contracts.read(text, HERE) == sent
            assert contracts.read(text, HERE).digest == sent.digest


class TestDifferences:
    def test_none(self) -> None:
        assert contracts.differences(DIGITS, contracts.read(DIGITS.json(), HERE)) == ()

    def test_every_field_has_a_name(self) -> None:
        assert set(KEYS) == set(Contract.__struct_fields__)
        assert set(CHANGES) == set(KEYS) - {"protocol", "normalisation"}

    @given(st.sets(st.sampled_from(sorted(CHANGES))))
    def test_names_what_differs_and_nothing_else(self, fields: set[str]) -> None:
        other = replace(DIGITS, **{field: CHANGES[field] for field in fields})
        found = contracts.differences(DIGITS, other)
        assert [each.key for each in found] == [KEYS[f] for f in KEYS if f in fields]

    def test_both_values(self) -> None:
        (alpha,) = contracts.differences(DIGITS, replace(DIGITS, alpha=0.5))
        assert (alpha.key, alpha.ours, alpha.theirs) == ("data.alpha", "0.05", "0.5")
        (own,) = contracts.differences(DIGITS, replace(DIGITS, test_fraction=None))
        assert (own.key, own.ours, own.theirs) == ("data.test_fraction", "0.2", "not used")

    def test_classes_by_the_first_that_differs(self) -> None:
        (found,) = contracts.differences(
            DIGITS, replace(DIGITS, class_names=(*DIGITS.class_names[:9], "nine", "ten"))
        )
        assert (found.ours, found.theirs) == ("10 (class 9 is '9')", "11 (class 9 is 'nine')")

    def test_a_partition_that_one_side_does_not_know(self) -> None:
        unknown = replace(DIGITS, partition_digest=None)
        assert contracts.differences(DIGITS, unknown) == ()
        assert contracts.differences(unknown, DIGITS) == ()

    def test_another_protocol_is_the_only_one(self) -> None:
        newer = replace(DIGITS, protocol=PROTOCOL + 1, alpha=0.5, class_names=())
        (found,) = contracts.differences(DIGITS, newer)
        assert found.key == "protocol"
        with pytest.raises(ContractError, match=rf"version {PROTOCOL} .* version {PROTOCOL + 1}"):
            contracts.require((found,), HERE, "todo")

    def test_a_generator_node_does_not_care_for_devices(self) -> None:
        other = replace(DIGITS, devices=3, alpha=0.5, seed=9, test_digest="e" * 64)
        assert contracts.differences(DIGITS, other, OF_NODE) == ()

    def test_a_generator_node_is_told_why_its_public_part_differs(self) -> None:
        other = replace(DIGITS, public_digest="e" * 64, split="random", split_seed=5, seed=5)
        found = contracts.differences(DIGITS, other, OF_NODE)
        keys = [each.key for each in found]
        assert keys == ["data.split", "data.split_seed", "digest of the public part"]

    def test_a_generator_node_cares_for_validation_only_where_it_changes_its_images(self) -> None:
        other = replace(DIGITS, validation_fraction=0.25, validation_digest="e" * 64)
        assert contracts.differences(DIGITS, other, OF_NODE) == ()
        found = contracts.differences(DIGITS, replace(other, public_digest="e" * 64), OF_NODE)
        assert [(each.key, each.ours, each.theirs) for each in found] == [
            ("data.validation_fraction", "0.2", "0.25"),
            ("digest of the public part", "cccccccccccc…", "eeeeeeeeeeee…"),
        ]


class TestRequire:
    def test_nothing(self) -> None:
        contracts.require((), HERE, "todo")

    def test_the_sentence(self) -> None:
        other = replace(DIGITS, alpha=0.5, seed=5)
        with pytest.raises(ContractError) as caught:
            contracts.require(contracts.differences(DIGITS, other), HERE, "write it again")
        assert str(caught.value) == (
            "data file x.npz does not fit the contract of the run: run.seed is 0, in the run 5, "
            "data.alpha is 0.05, in the run 0.5; write it again"
        )
        assert [each.key for each in caught.value.differences] == ["run.seed", "data.alpha"]


class TestImages:
    IMAGES = Dataset(
        name="some",
        images=np.zeros((4, 1, 8, 8), np.uint8),
        labels=np.arange(4),
        class_names=DIGITS.class_names,
    )

    def fitting(self) -> Contract:
        return replace(DIGITS, samples=4, samples_digest=self.IMAGES.digest())

    def test_that_fit(self) -> None:
        assert contracts.of_dataset(self.IMAGES, self.fitting(), whole=True) == ()
        assert contracts.of_dataset(self.IMAGES, DIGITS, whole=False) == ()

    def test_one_pixel(self) -> None:
        images = self.IMAGES.images.copy()
        images[2, 0, 3, 3] = 1
        (found,) = contracts.of_dataset(
            replace(self.IMAGES, images=images), self.fitting(), whole=True
        )
        assert found.key == "digest of the training samples"

    def test_other_shape_and_classes(self) -> None:
        images = np.zeros((4, 3, 8, 8), np.uint8)
        other = replace(self.IMAGES, images=images, class_names=("a", "b", "c", "d"))
        found = contracts.of_dataset(other, DIGITS, whole=False)
        assert [each.key for each in found] == ["class names", "image shape"]


class TestRead:
    @pytest.mark.parametrize(
        "text", [b"", b"[]", b"{}", b'{"protocol": %d}' % PROTOCOL, b"\xff", b'"x"']
    )
    def test_no_contract(self, text: bytes) -> None:
        with pytest.raises(ContractError, match=r"x\.npz: not a contract of a run"):
            contracts.read(text, HERE)

    def test_a_later_version_with_fields_unknown_here(self) -> None:
        values = msgspec.to_builtins(DIGITS) | {"protocol": PROTOCOL + 1, "planet": "Mars"}
        with pytest.raises(ContractError, match=rf"version {PROTOCOL + 1} .* version {PROTOCOL}"):
            contracts.read(json.dumps(values), HERE)

    def test_unknown_fields_of_this_version(self) -> None:
        values = msgspec.to_builtins(DIGITS) | {"planet": "Mars"}
        with pytest.raises(ContractError, match="planet"):
            contracts.read(json.dumps(values), HERE)

"""fimi.learning.data.data_file: images there and back, with their contract; noise is refused."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from run_contract import DIGITS as CONTRACT

from fimi.learning.data import data_file
from fimi.learning.data.contract import PROTOCOL, ContractError
from fimi.learning.data.data_file import DataFileError
from fimi.learning.data.dataset import load_digits

DIGITS = load_digits()
FEW = DIGITS.subset(np.arange(20), "digits/device-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


class TestThereAndBack:
    def test_with_a_contract(self, path: Path) -> None:
        data_file.save(FEW, path, CONTRACT)
        again = data_file.load(path)
        assert again.dataset.name == FEW.name
        assert again.dataset.digest() == FEW.digest()
        assert again.contract == CONTRACT

    def test_without_one(self, path: Path) -> None:
        data_file.save(FEW, path)
        assert data_file.load(path).contract is None

    def test_a_persons_own_file(self, path: Path) -> None:
        """As NumPy writes it, and as fimi wrote it before there were contracts."""
        np.savez(
            path,
            name=np.array("cats"),
            images=FEW.images,
            labels=FEW.labels,
            class_names=np.array(FEW.class_names),
        )
        again = data_file.load(path)
        assert again.contract is None
        assert again.dataset.digest() == FEW.digest()


class TestRefused:
    @pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 almost"])
    def test_noise(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(DataFileError, match="not a data file"):
            data_file.load(path)

    def test_objects_are_never_unpickled(self, path: Path) -> None:
        np.savez(path, name=np.array({"a": 1}, dtype=object))
        with pytest.raises(DataFileError, match="not a data file"):
            data_file.load(path)

    def test_a_device_without_data(self, path: Path) -> None:
        data_file.save(DIGITS.subset(np.arange(0), "d"), path)
        with pytest.raises(DataFileError, match=r"data\.npz: no images"):
            data_file.load(path)

    def test_labels_without_a_class(self, path: Path) -> None:
        data_file.save(replace(FEW, class_names=("0", "1")), path)
        with pytest.raises(DataFileError, match="sample 9 has label 9, outside 0 to 1"):
            data_file.load(path)

    def test_a_contract_of_another_version(self, path: Path) -> None:
        data_file.save(FEW, path, CONTRACT)
        later = msgspec.to_builtins(CONTRACT) | {"protocol": PROTOCOL + 1, "more": 1}
        with np.load(path) as file:
            values = {**file, "contract": np.array(json.dumps(later))}
        np.savez(path, **values)
        with pytest.raises(ContractError, match=rf"data\.npz has version {PROTOCOL + 1}"):
            data_file.load(path)

    def test_a_contract_that_is_none(self, path: Path) -> None:
        np.savez(
            path,
            name=np.array("x"),
            images=FEW.images,
            labels=FEW.labels,
            class_names=np.array(FEW.class_names),
            contract=np.array("a promise"),
        )
        with pytest.raises(ContractError, match="not a contract of a run"):
            data_file.load(path)

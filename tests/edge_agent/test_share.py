"""fimi.edge_agent.share: three ways to the same samples, and what is refused."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import data_on_disk as disk
import numpy as np
import pytest
import run_contract
from msgspec.structs import replace

from fimi.edge_agent.share import Shelf, take
from fimi.learning.data import data_file, registry, shares
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.contract import Contract, ContractError
from fimi.learning.data.dataset import Dataset, DatasetError, load_digits

DIGITS = load_digits()
CONTRACT = run_contract.of(DIGITS)
PART = np.arange(3, 500, 11)
SHARE = DIGITS.subset(PART, "digits/device-1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    disk.write_folder(tmp_path / "images")
    return tmp_path / "images"


def of_folder(folder: Path, **others: Any) -> Contract:
    loaded = registry.load("image-folder", DatasetOptions(root=str(folder)))
    return run_contract.of(loaded.train, dataset="image-folder", **others)


def indices(contract: Contract, *, of: list[int]) -> bytes:
    return shares.encode_indices(np.array(of, np.intp), contract)


class TestThreeWays:
    @pytest.mark.parametrize("way", ["indices", "shipped", "file"])
    def test_to_the_same_samples(self, way: Any, tmp_path: Path) -> None:
        payload, place = None, None
        if way == "indices":
            payload = shares.encode_indices(PART, CONTRACT)
        elif way == "shipped":
            payload = shares.encode_samples(SHARE, CONTRACT)
        else:
            place = tmp_path / "own.npz"
            data_file.save(SHARE, place, CONTRACT)
        got = take(CONTRACT, way, payload, place, device="device-1")
        assert got.digest() == SHARE.digest()
        assert got.name == "digits/device-1"

    @pytest.mark.parametrize("way", ["indices", "shipped"])
    def test_that_need_a_payload(self, way: Any) -> None:
        with pytest.raises(DatasetError, match=f"names no share to fetch .{way}."):
            take(CONTRACT, way, None, None, device="device-1")


class TestIndices:
    def test_into_files_on_the_device(self, folder: Path) -> None:
        contract = of_folder(folder)
        got = take(contract, "indices", indices(contract, of=[0, 5, 11]), folder, device="d")
        assert got.labels.tolist() == [0, 1, 2]
        assert got.image_shape == (3, 9, 11)

    def test_size_and_mode_are_the_contracts(self, folder: Path) -> None:
        options = DatasetOptions(root=str(folder), image_size=6, image_mode="grey")
        train = registry.load("image-folder", options).train
        contract = run_contract.of(train, dataset="image-folder", image_size=6, image_mode="grey")
        got = take(contract, "indices", indices(contract, of=[1, 2]), folder, device="d")
        assert got.image_shape == (1, 6, 6)
        assert (got.images == train.images[1:3]).all()

    def test_files_that_changed_after_the_digest_was_taken(self, folder: Path) -> None:
        contract = of_folder(folder)
        payload = indices(contract, of=[0, 5, 11])
        victim = folder / "train" / "nut" / "2.png"
        shutil.copy(folder / "train" / "bolt" / "2.png", victim)
        with pytest.raises(ContractError) as caught:
            take(contract, "indices", payload, folder, device="d")
        assert [d.key for d in caught.value.differences] == ["digest of the training samples"]
        assert f"data set 'image-folder' under {folder} on this device" in str(caught.value)
        assert 'set data.shares to "shipped"' in str(caught.value)
        victim.unlink()
        with pytest.raises(ContractError, match="number of training samples is 11, in the run 12"):
            take(contract, "indices", payload, folder, device="d")

    def test_later_changes_change_nothing(self, folder: Path) -> None:
        contract = of_folder(folder)
        got = take(contract, "indices", indices(contract, of=[0, 11]), folder, device="d")
        before = got.digest()
        shutil.rmtree(folder)
        assert replace(got, name="again").digest() == before

    def test_no_files_here(self) -> None:
        cifar = replace(CONTRACT, dataset="cifar-10")
        with pytest.raises(DatasetError, match=r"'cifar-10', .* --data FOLDER .*data\.shares"):
            take(cifar, "indices", indices(cifar, of=[0]), None, device="d")

    def test_the_digits_need_no_place_and_do_not_mind_one(self, tmp_path: Path) -> None:
        payload = shares.encode_indices(PART, CONTRACT)
        got = take(CONTRACT, "indices", payload, tmp_path, device="device-1")
        assert got.digest() == SHARE.digest()

    def test_of_another_run(self) -> None:
        payload = shares.encode_indices(PART, replace(CONTRACT, seed=5))
        with pytest.raises(DatasetError, match="another run"):
            take(CONTRACT, "indices", payload, None, device="d")


class TestOwnImages:
    def test_a_folder_of_some_classes(self, folder: Path) -> None:
        contract = of_folder(folder)
        shutil.rmtree(folder / "test" / "bolt")
        got = take(contract, "file", None, folder / "test", device="d")
        assert got.label_counts() == (0, 2, 2)
        assert got.class_names == contract.class_names

    def test_a_file_without_a_contract(self, tmp_path: Path) -> None:
        data_file.save(SHARE, tmp_path / "own.npz")
        got = take(CONTRACT, "file", None, tmp_path / "own.npz", device="d")
        assert got.digest() == SHARE.digest()

    def test_a_file_of_another_seed_and_alpha(self, tmp_path: Path) -> None:
        data_file.save(SHARE, tmp_path / "own.npz", replace(CONTRACT, seed=5, alpha=0.5))
        with pytest.raises(ContractError) as caught:
            take(CONTRACT, "file", None, tmp_path / "own.npz", device="d")
        assert [d.key for d in caught.value.differences] == ["run.seed", "data.alpha"]
        assert "run.seed is 5, in the run 0" in str(caught.value)
        assert "write it again with 'fimi agent data'" in str(caught.value)

    def test_what_overlap_is_declared_does_not_matter(self, tmp_path: Path) -> None:
        data_file.save(SHARE, tmp_path / "own.npz", replace(CONTRACT, overlap_max=0.5))
        assert len(take(CONTRACT, "file", None, tmp_path / "own.npz", device="d")) == len(SHARE)

    def test_other_classes_and_another_shape(self, tmp_path: Path) -> None:
        wide = Dataset(
            name="x",
            images=np.zeros((2, 3, 9, 9), np.uint8),
            labels=np.zeros(2, np.int64),
            class_names=("cat", "dog"),
        )
        data_file.save(wide, tmp_path / "own.npz")
        with pytest.raises(ContractError) as caught:
            take(CONTRACT, "file", None, tmp_path / "own.npz", device="d")
        assert [d.key for d in caught.value.differences] == ["class names", "image shape"]
        assert "image shape is (3, 9, 9), in the run (1, 8, 8)" in str(caught.value)

    @pytest.mark.parametrize("name", ["", "nothing.npz"])
    def test_none(self, tmp_path: Path, name: str) -> None:
        place = tmp_path / name if name else None
        with pytest.raises(DatasetError, match=r"--data (FILE\.npz|.*nothing\.npz: No such file)"):
            take(CONTRACT, "file", None, place, device="d")


LOADS: list[str] = []


def counted(options: DatasetOptions) -> Any:
    """The digits; notes each call."""
    LOADS.append(options.root)
    return registry.digits(options)


class TestShelf:
    @pytest.fixture(autouse=True)
    def fresh(self, monkeypatch: pytest.MonkeyPatch) -> None:
        LOADS.clear()
        monkeypatch.setitem(sys.modules, "counted_here", sys.modules[__name__])

    NAME = "counted_here:counted"

    def test_one_load_for_all_agents_of_a_process(self) -> None:
        shelf, contract = Shelf(8), run_contract.of(DIGITS, dataset=self.NAME)
        got: dict[int, Dataset] = {}
        together = threading.Barrier(8)

        def agent(index: int) -> None:
            payload = indices(contract, of=[index, 100 + index])
            together.wait()
            got[index] = take(
                contract, "indices", payload, None, device=f"device-{index}", shelf=shelf
            )

        threads = [threading.Thread(target=agent, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(LOADS) == 1
        for index, share in got.items():
            assert (share.images == DIGITS.images[[index, 100 + index]]).all()

    def test_it_is_dropped_with_the_last_agent(self) -> None:
        shelf = Shelf(2)
        for expected in (1, 1, 2, 2, 3):
            shelf.samples(self.NAME, DatasetOptions())
            assert len(LOADS) == expected

    def test_or_when_told_to(self) -> None:
        shelf = Shelf(9)
        shelf.samples(self.NAME, DatasetOptions())
        shelf.clear()
        shelf.samples(self.NAME, DatasetOptions())
        assert len(LOADS) == 2

    def test_of_other_options_it_is_another(self) -> None:
        shelf = Shelf(9)
        for size in (8, 6, 6, 8):
            got = shelf.samples(self.NAME, DatasetOptions(image_size=size))
            assert got.image_shape == (1, size, size)
        assert len(LOADS) == 2

    def test_a_failure_is_not_kept(self, tmp_path: Path) -> None:
        shelf, options = Shelf(9), DatasetOptions(root=str(tmp_path / "images"))
        with pytest.raises(DatasetError, match="is no folder"):
            shelf.samples("image-folder", options)
        disk.write_folder(tmp_path / "images")
        assert len(shelf.samples("image-folder", options)) == 12

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import is_whole

from fimi.learning.training import tensors
from fimi.record.store import StoreError
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import Config
from fimi.testbed.run_folder import RunFolder, RunFolderError, write_atomically

MODEL = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


def config(folder: Path, **run: Any) -> Config:
    settings = {"directory": str(folder / "runs"), **run}
    return configuration.load(None, {f"run.{k}": (v, "test") for k, v in settings.items()}).config


@contextmanager
def disk_with_room_for(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestName:
    def test_from_strategy_seed_and_time(self, tmp_path: Path) -> None:
        folder = RunFolder(config(tmp_path, strategy="tfl", seed=3))
        assert folder.name.startswith("tfl-seed3-20")
        assert folder.path == tmp_path / "runs" / folder.name
        folder.close()

    def test_two_in_the_same_second(self, tmp_path: Path) -> None:
        folders = [RunFolder(config(tmp_path)) for _ in range(4)]
        assert len({folder.path for folder in folders}) == 4
        for folder in folders:
            assert folder.path.name == folder.name
            folder.close()

    def test_a_run_is_never_written_over(self, tmp_path: Path) -> None:
        first = RunFolder(config(tmp_path, name="mine"))
        with pytest.raises(RunFolderError, match=r"mine exists; choose another --name"):
            RunFolder(config(tmp_path, name="mine"))
        first.store.write_plan({})
        assert first.close()
        assert is_whole(first.path / "run.sqlite")


class TestClose:
    def test_a_run_without_a_plan_is_not_kept(self, tmp_path: Path) -> None:
        folder = RunFolder(config(tmp_path))
        (folder.logs / "generator.log").write_text("something")
        assert not folder.close()
        assert list((tmp_path / "runs").iterdir()) == []

    def test_only_logs_that_say_something_are_kept(self, tmp_path: Path) -> None:
        folder = RunFolder(config(tmp_path))
        folder.store.write_plan({})
        (folder.logs / "generator.log").write_text("something")
        (folder.logs / "devices-1.log").touch()
        assert folder.close()
        assert sorted(str(p.relative_to(folder.path)) for p in folder.path.rglob("*")) == [
            "logs",
            "logs/generator.log",
            "run.sqlite",
        ]

    def test_no_logs_no_folder_for_them(self, tmp_path: Path) -> None:
        folder = RunFolder(config(tmp_path))
        folder.store.write_plan({})
        assert folder.close()
        assert [path.name for path in folder.path.iterdir()] == ["run.sqlite"]


class TestModel:
    def test_it_comes_back(self, tmp_path: Path) -> None:
        folder = RunFolder(config(tmp_path))
        for factor in (1, 2):
            folder.write_model({"weight": np.float32(factor) * MODEL["weight"]})
        back = tensors.load((folder.path / "model.safetensors").read_bytes(), like=MODEL)
        assert np.array_equal(back["weight"], 2 * MODEL["weight"])
        folder.close()

    def test_on_a_full_disk_the_old_one_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        write_atomically(path, b"old")
        with (
            disk_with_room_for(1000),
            pytest.raises(RunFolderError, match=r"cannot write .*free some space and run again"),
        ):
            write_atomically(path, bytes(2000))
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(RunFolderError, match="No such file or directory"):
            write_atomically(tmp_path / "gone" / "model.safetensors", b"")

    @pytest.mark.skipif(os.name != "posix", reason="file modes are a Unix thing")
    def test_others_may_read_it(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "x", b"")
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_a_store_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    with disk_with_room_for(8000), pytest.raises(StoreError, match="make room on that disk"):
        RunFolder(config(tmp_path))
    assert list((tmp_path / "runs").iterdir()) == []


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(RunFolderError, match=r"Not a directory; set run\.directory"):
        RunFolder(config(tmp_path))

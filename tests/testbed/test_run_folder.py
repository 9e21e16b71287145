from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import is_whole
from numpy.typing import NDArray

from fimi.coordinator.checkpoint import RoundPart, RunPart, of_rounds, of_run, read
from fimi.learning.training import tensors
from fimi.learning.training.trainer import Evaluation
from fimi.record.results import RoundResult
from fimi.record.store_file import StoreError
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import Config
from fimi.testbed.run_folder import RunFolder, RunFolderError, write_atomically

MODEL = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


def scaled(factor: int) -> dict[str, NDArray[np.float32]]:
    return {"weight": np.float32(factor) * MODEL["weight"]}


def round_result(number: int) -> RoundResult:
    evaluation = Evaluation(accuracy=0.5, loss=1.0, class_accuracy=(0.5,), samples=2)
    return RoundResult(number=number, start_s=0.0, duration_s=1.0, evaluation=evaluation)


def part(number: int, digest: str) -> dict[str, bytes]:
    rounds = RoundPart(number=number, model=digest)
    return {**of_run(RunPart(instance="ab", epoch=1)), **of_rounds(rounds)}


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
    def test_one_that_is_proposed_stands_beside_the_current_one(self, tmp_path: Path) -> None:
        folder = RunFolder(config(tmp_path))
        digests = []
        for factor in (1, 2):
            digests.append(folder.propose(scaled(factor)))
            if factor == 1:
                folder.accept()
        for name, factor in (("model.safetensors", 1), ("model.next.safetensors", 2)):
            back = tensors.load((folder.path / name).read_bytes(), like=MODEL)
            assert np.array_equal(back["weight"], factor * MODEL["weight"])
        assert [tensors.digest(tensors.dump(scaled(factor))) for factor in (1, 2)] == digests
        folder.close()

    @pytest.mark.parametrize("steps", range(10))
    def test_killed_between_any_two_steps_that_of_the_last_stored_round_is_found(
        self, tmp_path: Path, steps: int
    ) -> None:
        """A round is: the model beside the current one, the store, the model in its place."""
        folder = RunFolder(config(tmp_path, name="mine"))
        stored = 0
        for step in range(steps):
            number = step // 3 + 1
            if step % 3 == 0:
                digest = folder.propose(scaled(number))
            elif step % 3 == 1:
                folder.store.write_round(round_result(number), checkpoint=part(number, digest))
                stored = number
            else:
                folder.accept()
        folder.store._file.abandon()  # the process is gone: nothing is closed in order
        if not stored:
            return
        again = RunFolder.reopen(folder.path)
        found = read(again.store.read_checkpoint()).rounds
        assert (found.number, again.store.resumed_after) == (stored, stored)
        assert np.array_equal(again.model(found.model)["weight"], stored * MODEL["weight"])
        now = (folder.path / "model.safetensors").read_bytes()
        assert tensors.digest(now) == found.model
        again.store.close()

    def test_one_that_is_gone_is_missed(self, tmp_path: Path) -> None:
        folder = RunFolder(config(tmp_path))
        folder.propose(scaled(1))
        folder.accept()
        with pytest.raises(RunFolderError, match=r"after the last stored round is gone.*0{12}…"):
            folder.model("0" * 64)
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


class TestReopen:
    def begun(self, tmp_path: Path) -> RunFolder:
        folder = RunFolder(config(tmp_path, name="mine"))
        folder.store.write_plan({})
        return folder

    def test_what_a_killed_process_left_is_used_or_removed(self, tmp_path: Path) -> None:
        folder = self.begun(tmp_path)
        folder.work.mkdir()
        (folder.work / "drawn").write_text("once")
        (folder.path / "update-abc").write_text("of a round that was not finished")
        folder.store._file.abandon()
        again = RunFolder.reopen(folder.path)
        assert again.before is not None
        assert (again.name, again.store.info.resumed) == ("mine", 1)
        assert (again.work / "drawn").read_text() == "once"
        assert not (folder.path / "update-abc").exists()
        assert again.close()
        assert (folder.work / "drawn").exists()  # it has not ended: it may go on again

    def test_a_completed_run_needs_no_work_folder(self, tmp_path: Path) -> None:
        folder = self.begun(tmp_path)
        folder.work.mkdir()
        folder.propose(scaled(1))
        folder.accept()
        folder.store.end("completed", "1 round")
        assert folder.close()
        assert sorted(p.name for p in folder.path.iterdir()) == ["model.safetensors", "run.sqlite"]
        with pytest.raises(StoreError, match=r"completed \(1 round\): there is nothing to go on"):
            RunFolder.reopen(folder.path)

    def test_one_process_at_a_time(self, tmp_path: Path) -> None:
        folder = self.begun(tmp_path)
        with pytest.raises(StoreError, match=rf"written by process {os.getpid()} on .*wait until"):
            RunFolder.reopen(folder.path)
        folder.close()

    def test_a_name_that_is_taken_by_a_run_that_can_go_on(self, tmp_path: Path) -> None:
        self.begun(tmp_path).close()
        with pytest.raises(
            RunFolderError, match=r"remove that run; 'fimi .* --resume .*mine' goes"
        ):
            RunFolder(config(tmp_path, name="mine"))

    @pytest.mark.parametrize("killed", ["before the store", "in the store"])
    def test_killed_before_anything_was_stored_the_name_is_free(
        self, tmp_path: Path, killed: str
    ) -> None:
        folder = tmp_path / "runs" / "mine"
        (folder / "logs").mkdir(parents=True)
        (folder / "run.lock").touch()
        if killed == "in the store":
            with closing(sqlite3.connect(folder / "run.sqlite")) as db:
                db.execute("PRAGMA journal_mode = WAL")
        RunFolder(config(tmp_path, name="mine")).close()

    def test_a_folder_of_somebody_else_is_not(self, tmp_path: Path) -> None:
        mine = tmp_path / "runs" / "mine"
        (mine / "logs").mkdir(parents=True)
        (mine / "letter").touch()
        with pytest.raises(RunFolderError, match="mine exists; choose another"):
            RunFolder(config(tmp_path, name="mine"))
        assert (mine / "letter").exists()


def test_a_store_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    with disk_with_room_for(8000), pytest.raises(StoreError, match="make room on that disk"):
        RunFolder(config(tmp_path))
    assert list((tmp_path / "runs").iterdir()) == []


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(RunFolderError, match=r"Not a directory; set run\.directory"):
        RunFolder(config(tmp_path))

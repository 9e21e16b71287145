"""What travels to a worker of Ray that does not see the experiment's folder, and back.

Whole runs on Ray: test_engines.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import Config
from fimi.testbed.experiment.engines import ray as module
from fimi.testbed.experiment.engines.base import CommandLine, Task
from fimi.testbed.experiment.engines.worker import TaskEnd, TaskProgress, WorkOrder, work


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    os.chdir(tmp_path)


class TestFiles:
    def test_a_folder_comes_back_as_it_was(self, tmp_path: Path) -> None:
        there = tmp_path / "there"
        (there / "inside").mkdir(parents=True)
        (there / "inside" / "ö b").write_bytes(b"\x00one")
        (there / "two").write_bytes(b"")
        module._unpack(module._packed(there), tmp_path / "here")
        assert module._packed(tmp_path / "here") == {"inside/ö b": b"\x00one", "two": b""}

    def test_links_do_not_travel(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"x")
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "link").symlink_to(tmp_path / "secret")
        assert module._packed(tmp_path / "there") == {}

    @pytest.mark.parametrize("name", ["../out", "/out", "in/../../out"])
    def test_nothing_is_written_outside(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(OSError, match="leads out of"):
            module._unpack({name: b"x"}, tmp_path / "here")
        assert not (tmp_path / "out").exists()


def task(config: Config | None) -> Task:
    return Task(
        name="tfl-seed0",
        kind="tfl",
        command=lambda: CommandLine(arguments=()),
        log=Path("logs") / "tfl-seed0.log",
        folder=Path("runs") / "tfl-seed0",
        config=config,
    )


def with_weights(weights: str) -> Config:
    generator = replace(Config().generator, weights=weights)
    return replace(Config(), generator=generator)


class TestApart:
    """A worker's folder of its own, with a stand-in for the command."""

    @pytest.fixture
    def given(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def work(order: WorkOrder, tell: Callable[[TaskProgress], object]) -> TaskEnd:
            os.chdir(order.place)
            line = order.command()
            seen["config"] = configuration.load(Path(line.arguments[-1])).config
            seen["weights"] = Path(seen["config"].generator.weights, "card.json").is_file()
            folder = Path(seen["config"].run.directory) / "tfl-seed0"
            folder.mkdir(parents=True)
            (folder / "run.sqlite").write_bytes(b"rounds")
            order.log.write_bytes(b"said")
            return TaskEnd(code=0)

        monkeypatch.setattr(module, "work", work)
        return seen

    def bring(self, asked: Task, place: Path, weights: list[Any]) -> Any:
        return module._apart(module._Remote.of(asked), place, weights, lambda progress: None)

    def test_run_and_log_come_back(
        self, given: dict[str, Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        asked = task(Config())
        brought = self.bring(asked, tmp_path_factory.mktemp("place"), [])
        os.chdir(tmp_path)
        (tmp_path / "runs" / "tfl-seed0").mkdir(parents=True)
        (tmp_path / "runs" / "tfl-seed0" / "old").touch()
        module._put_in_place(asked, msgspec.convert(brought, module._Brought))
        assert module._packed(tmp_path / "runs" / "tfl-seed0") == {"run.sqlite": b"rounds"}
        assert (tmp_path / "logs" / "tfl-seed0.log").read_bytes() == b"said"
        changed = given["config"]
        assert replace(changed, run=Config().run) == Config()

    def test_weights_travel_along(
        self, given: dict[str, Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        pytest.importorskip("ray", reason="Ray is not installed (pip install ray)")
        sent: list[Any] = []
        ray = SimpleNamespace(put=lambda files: sent.append(files) or len(sent))
        (tmp_path / "weights" / "mine").mkdir(parents=True)
        (tmp_path / "weights" / "mine" / "card.json").write_text("{}")
        asked = task(with_weights("weights/mine"))
        packed = module._Weights(ray)
        assert packed.of(asked) == packed.of(asked) == [1]  # each folder is sent once
        assert sent == [{"card.json": b"{}"}]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ray.get", lambda ref: sent[ref - 1])
            self.bring(asked, tmp_path_factory.mktemp("place"), [1])
        assert given["weights"]
        assert given["config"].generator.weights == "weights/mine"

    def test_weights_by_an_absolute_path_must_be_there(
        self, given: dict[str, Any], tmp_path: Path
    ) -> None:
        asked = task(with_weights(str(tmp_path / "elsewhere")))
        ended = self.bring(asked, tmp_path, [1]).ended
        assert f"there is no {tmp_path / 'elsewhere'} on the worker" in ended.problem
        assert given == {}


def test_a_worker_with_other_versions_is_refused() -> None:
    order = WorkOrder.of(task(None))
    other = replace(order, versions={**order.versions, "numpy": "0.1", "torch-x": "2"})
    told: list[TaskProgress] = []
    ended = work(other, told.append)
    assert ended.code is None
    assert "instead of 0.1" in ended.problem
    assert "torch-x missing instead of 2" in ended.problem
    assert told == []

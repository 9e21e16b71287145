"""The training graphs of a run: exported once for all runs of a user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fimi.learning.onnx import export, graphs
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes import training_graphs as of_a_run
from fimi.testbed.processes.training_graphs import training_graphs
from fimi.testbed.run_folder import RunFolder

SHAPE = (1, 8, 8)


def config(runs: Path, name: str, **changes: object) -> Config:
    settings = {"run.directory": str(runs), "run.name": name, **changes}
    return configuration.load(None, {key: (v, "test") for key, v in settings.items()}).config


def graphs_of(runs: Path, name: str, classes: int = 10, **changes: object) -> bytes:
    """The graphs of a new run."""
    asked = config(runs, name, **changes)
    folder = RunFolder(asked)
    try:
        return training_graphs(folder, asked, classes, SHAPE, lambda text: None)
    finally:
        folder.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fimi" / "graphs"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the networks that are really exported, as it happens."""
    done: list[str] = []
    real = export.export

    def counted(settings, classes, image_shape):  # type: ignore[no-untyped-def]
        done.append(settings.model)
        return real(settings, classes, image_shape)

    monkeypatch.setattr(export, "export", counted)
    return done


def test_a_second_run_reads_what_the_first_has_exported(tmp_path: Path, exports: list[str]) -> None:
    first = graphs_of(tmp_path, "a")
    assert graphs.decode(first).classes == 10
    assert graphs_of(tmp_path, "b") == first
    assert exports == ["small-cnn"]


def test_other_training_and_other_images_are_exported_anew(
    tmp_path: Path, exports: list[str]
) -> None:
    first = graphs_of(tmp_path, "a")
    momentum = graphs_of(tmp_path, "b", **{"training.momentum": 0.9})
    fewer = graphs_of(tmp_path, "c", classes=4)
    assert len({first, momentum, fewer}) == 3
    assert exports == ["small-cnn"] * 3


def test_another_version_exports_anew(
    tmp_path: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = graphs_of(tmp_path, "a")
    monkeypatch.setattr(of_a_run, "versions", lambda: {"torch": "another"})
    assert graphs_of(tmp_path, "b") == first
    assert exports == ["small-cnn"] * 2


def test_a_damaged_file_is_made_again(tmp_path: Path, cache: Path, exports: list[str]) -> None:
    first = graphs_of(tmp_path, "a")
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:20], b""):
        path.write_bytes(damaged)
        assert graphs_of(tmp_path, f"after-{len(damaged)}") == first
        assert path.read_bytes() == whole
    assert len(exports) == 4


def test_a_network_of_ones_own_is_kept_for_its_run_only(
    tmp_path: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(classes, shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = {"training.model": "mine:net"}
    asked = config(tmp_path, "a", **mine)
    folder = RunFolder(asked)
    try:
        twice = [training_graphs(folder, asked, 10, SHAPE, lambda text: None) for _ in range(2)]
    finally:
        folder.close()
    assert twice[0] == twice[1]
    assert exports == ["mine:net"]
    graphs_of(tmp_path, "b", **mine)
    assert exports == ["mine:net"] * 2


def test_only_the_latest_are_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_a_run, "KEPT_MAX", 2)
    for number in range(3):
        graphs_of(tmp_path, f"run-{number}", classes=2 + number)
        for path in cache.iterdir():  # as if each had been made a minute before
            os.utime(path, (at := path.stat().st_mtime - 60, at))
    left = (path.read_bytes()[32:] for path in cache.iterdir())
    assert sorted(graphs.decode(payload).classes for payload in left) == [3, 4]


def test_a_folder_that_cannot_be_written_costs_time_only(
    tmp_path: Path, cache: Path, exports: list[str]
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place")
    assert graphs_of(tmp_path, "a") == graphs_of(tmp_path, "b")
    assert exports == ["small-cnn"] * 2

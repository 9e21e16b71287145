"""Whether a run is begun or gone on with. That one goes on to the same end: test_engines.py."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from fimi.files import FileInUse
from fimi.learning.data.dataset import DatasetError
from fimi.record.record import RunInfo
from fimi.record.store import RunStore
from fimi.record.store_file import lock_store
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import Config
from fimi.testbed.experiment.engines import beginning as module
from fimi.testbed.experiment.engines.base import CommandLine
from fimi.testbed.experiment.engines.beginning import beginning
from fimi.testbed.run_folder import RunFolderError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    run = replace(Config().run, name="mine", directory=str(tmp_path))
    return replace(Config(), run=run)


def begin(config: Config) -> CommandLine:
    folder = Path(config.run.directory)
    return beginning(folder / config.run.name, folder / "cells" / "mine.toml", config)


def store(config: Config, *, status: str = "interrupted") -> Path:
    folder = Path(config.run.directory) / config.run.name
    folder.mkdir()
    info = RunInfo(
        run="mine",
        status=status,  # type: ignore[arg-type]
        config=configuration.values(config),
    )
    made = RunStore(folder / "run.sqlite")
    made.describe(info)
    made.close()
    return folder


def test_what_is_not_there_is_begun(config: Config) -> None:
    line = begin(config)
    file = Path(config.run.directory) / "cells" / "mine.toml"
    assert line.arguments == ("dry-run", "--format", "json", "--config", str(file))
    assert line.note == ""
    assert configuration.load(file).config == config


def test_a_folder_in_which_nothing_was_stored_is_begun_without_a_word(config: Config) -> None:
    folder = Path(config.run.directory) / "mine"
    (folder / "logs").mkdir(parents=True)
    assert begin(config).note == ""
    assert not folder.exists()


def test_a_finished_run_is_done_again_without_a_word(config: Config) -> None:
    folder = store(config, status="completed")
    line = begin(config)
    assert ("--config" in line.arguments, line.note) == (True, "")
    assert not folder.exists()


def test_a_damaged_one_is_begun_anew_and_that_is_said(config: Config) -> None:
    folder = store(config)
    (folder / "run.sqlite").write_bytes(b"no database")
    line = begin(config)
    assert "--config" in line.arguments
    assert line.note.startswith(f"begun anew: {folder / 'run.sqlite'}")
    assert not folder.exists()


def test_one_of_another_version_of_the_store_is_begun_anew(config: Config) -> None:
    folder = store(config)
    db = sqlite3.connect(folder / "run.sqlite")
    db.execute("PRAGMA user_version = 1")
    db.close()
    assert "begun anew" in begin(config).note
    assert not folder.exists()


def test_one_that_was_begun_otherwise_is_begun_anew(config: Config) -> None:
    folder = store(config)
    changed = replace(config, training=replace(config.training, learning_rate=0.123))
    assert "begun anew: " in begin(changed).note
    assert not folder.exists()


def test_one_that_somebody_writes_is_left_alone(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store(config)
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    held = lock_store(folder / "run.sqlite")
    with pytest.raises(RunFolderError, match="written by process"):
        begin(config)
    assert (folder / "run.sqlite").exists()
    with pytest.raises(FileInUse):
        lock_store(folder / "run.sqlite")
    held.release()


def test_one_whose_data_are_not_there_is_left_alone(config: Config, tmp_path: Path) -> None:
    data = replace(config.data, dataset="cifar-10", root=str(tmp_path / "not mounted"))
    gone = replace(config, data=data)
    folder = store(gone)
    with pytest.raises(DatasetError):
        assert begin(gone).note == ""
    assert (folder / "run.sqlite").exists()

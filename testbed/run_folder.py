"""``runs/<name>/``: the run store, the model, the report.

A run folder is made before anything is started, so that a read-only or full disk is noticed first.
It is removed again if the run ended before it had a plan.
"""

from __future__ import annotations

import itertools
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fimi.errors import SurroundingsError
from fimi.files import write_whole
from fimi.learning.training import tensors
from fimi.learning.training.classifier import Exported, Variant
from fimi.record.reader import STORE_NAME
from fimi.record.store import RunStore, StoreError
from fimi.testbed.configuration.sections import Config
from fimi.testbed.nearest import nearest

FILE_NAMES: dict[Variant, str] = {"fp32": "model.onnx", "int8": "model-int8.onnx"}
"""Names of the trained model's ONNX files."""


class RunFolderError(SurroundingsError, RuntimeError):
    """A run folder cannot be used; the message says which and why."""


class RunFolder:
    """One run's files.

    Args:
        config: the configuration, with the name of the run and the folder of runs.

    Raises:
        RunFolderError: it exists, or cannot be written.
    """

    def __init__(self, config: Config) -> None:
        started = datetime.now().astimezone()
        run = config.run
        self.name = run.name or f"{run.strategy}-seed{run.seed}-{started:%Y%m%d-%H%M%S}"
        self.path = Path(run.directory) / self.name
        try:
            if run.name:
                self.path.mkdir(parents=True)
            else:
                self.path = _made(self.path)
                self.name = self.path.name
            self.logs = self.path / "logs"
            self.logs.mkdir()
        except FileExistsError as error:
            raise RunFolderError(
                f"{self.path} exists; choose another --name or remove that run"
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"cannot create the run folder {self.path}: {error.strerror}; set run.directory "
                "(or --directory) to a folder that can be written"
            ) from error
        try:
            self.store = RunStore(self.path / "run.sqlite")
        except StoreError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def write_model(self, model: dict[str, NDArray[np.float32]]) -> None:
        """Replace ``model.safetensors``; a reader sees the old or the new file, never a part."""
        write_atomically(self.path / "model.safetensors", tensors.dump(model))

    def write_files(self, files: tuple[Exported, ...]) -> None:
        """Replace ``model.onnx`` and ``model-int8.onnx``."""
        for file in files:
            write_atomically(self.path / FILE_NAMES[file.check.variant], file.model)

    def close(self) -> bool:
        """Close the run store; remove empty logs, or the whole folder of a run without a plan.

        Returns:
            Whether the run folder is kept.
        """
        worth_keeping = self.store.worth_keeping
        try:
            self.store.close()
        finally:
            if not worth_keeping:
                shutil.rmtree(self.path, ignore_errors=True)
        if not worth_keeping:
            return False
        for log in self.logs.glob("*.log"):
            if log.stat().st_size == 0:
                log.unlink()
        if not any(self.logs.iterdir()):
            self.logs.rmdir()
        return True


def find_run(path: Path) -> Path:
    """The run folder for a path: that path, or a folder of that name below ``runs/``.

    Raises:
        RunFolderError: there is none; suggests the nearest name.
    """
    for candidate in (path, Path("runs") / path):
        if candidate.exists():
            return candidate
    for folder in (path.parent, Path("runs")):
        runs = sorted(store.parent.name for store in folder.glob(f"*/{STORE_NAME}"))
        if meant := nearest(path.name, runs):
            raise RunFolderError(f"{path}: there is no run here; did you mean {folder / meant}?")
    raise RunFolderError(f"{path}: there is no run here; name a folder below runs/")


def _made(wanted: Path) -> Path:
    """Make a folder, with a number behind its name if a run began in the same second."""
    for number in itertools.count(1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    return path


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file of a run or an experiment, completely or not at all.

    Raises:
        RunFolderError: the disk is full or read-only; an earlier file is unchanged.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path}: {error.strerror}; free some space and run again"
        ) from error

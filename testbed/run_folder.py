"""``runs/<name>/``: the run store, the model, the report.

A run folder is made before anything is started, so that a read-only or full disk is noticed first.
It is removed again if the run ended before it had a plan. One of a run that ended early is opened
again (:meth:`RunFolder.reopen`).

::

    runs/<name>/
        run.sqlite             the run store
        model.safetensors      the global model after the last stored round
        model.next.safetensors the model of a round that is being stored
        logs/                  output of child processes
        work/                  what a dry run need not make again; removed when it is completed
        late-models/           models with which late updates are decoded; likewise
        dashboard.json         where the run is seen while it goes on, and the key to act on it
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from fimi.errors import SurroundingsError
from fimi.files import FileInUse, whole_file, write_whole
from fimi.learning.training import tensors
from fimi.learning.training.aggregation import Model
from fimi.learning.training.classifier import Exported, Variant
from fimi.monitor.server import door
from fimi.record.reader import STORE_NAME, ReportError, RunData, read_info, read_run
from fimi.record.record import RunInfo
from fimi.record.store import RunStore
from fimi.record.store_file import StoreError, lock_store
from fimi.testbed.configuration.sections import Config
from fimi.testbed.nearest import nearest

FILE_NAMES: dict[Variant, str] = {"fp32": "model.onnx", "int8": "model-int8.onnx"}
"""Names of the trained model's ONNX files."""
MODEL, NEXT_MODEL = "model.safetensors", "model.next.safetensors"
_BEGINNINGS = {
    *("logs", "run.lock", STORE_NAME, f"{STORE_NAME}-wal", f"{STORE_NAME}-shm"),
    *(door.NAME, door.NEW),
}
"""What may be in a run folder before anything was stored."""


class RunFolderError(SurroundingsError, RuntimeError):
    """A run folder cannot be used; the message says which and why."""

    code = "R004"


class RunFolder:
    """One run's files.

    Args:
        config: the configuration, with the name of the run and the folder of runs.
        info: the description of the run, stored from its first moment on; gets the run's name.

    Attributes:
        name: of the run.
        path: the folder.
        logs: folder for the output of child processes.
        store: the run store.
        before: the run so far, of one that is gone on with; ``None`` for a new one.

    Raises:
        RunFolderError: it exists, or cannot be written.
    """

    def __init__(self, config: Config, info: RunInfo | None = None) -> None:
        started = datetime.now().astimezone()
        run = config.run
        self.before: RunData | None = None
        self.name = (
            run.name or f"{run.strategy.replace(':', '-')}-seed{run.seed}-{started:%Y%m%d-%H%M%S}"
        )
        self.path = Path(run.directory) / self.name
        self.logs = self.path / "logs"
        try:
            if run.name:
                _make(self.path)
            else:
                self.path = _made(self.path)
                self.name = self.path.name
            self.logs = self.path / "logs"
            self.logs.mkdir()
        except OSError as error:
            raise RunFolderError(
                f"cannot create the run folder {self.path}: {error.strerror}; set run.directory "
                "(or --directory) to a folder that can be written",
                code="U004",
            ) from error
        try:
            described = info or RunInfo(run=self.name)
            self.store = RunStore(
                self.path / STORE_NAME, msgspec.structs.replace(described, run=self.name)
            )
        except StoreError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    @classmethod
    def reopen(cls, path: Path, *, changes: tuple[str, ...] = ()) -> RunFolder:
        """Open the folder of a run that ended early, to go on with it.

        Args:
            path: the folder.
            changes: in what the run goes on otherwise than it was begun, for its record.

        Raises:
            StoreError: as :meth:`fimi.record.store.RunStore.reopen`.
            RunFolderError: it cannot be written.
        """
        folder = cls.__new__(cls)
        folder.name, folder.path, folder.logs = path.resolve().name, path, path / "logs"
        RunStore.resumable(path / STORE_NAME)
        # Read before it is opened for writing: closing the file a second time in this process
        # would give up SQLite's locks on it.
        folder.before = read_run(path)
        folder.store = RunStore.reopen(path / STORE_NAME, changes=changes)
        try:
            last = folder.before.rounds[-1].number if folder.before.rounds else 0
            if folder.store.resumed_after != last:
                raise RunFolderError(
                    f"{path}: another process has just gone on with this run; try again",
                    code="R002",
                )
            folder.logs.mkdir(exist_ok=True)
            for left_over in path.glob("update-*"):
                left_over.unlink()
        except BaseException as error:
            folder.store.close()
            if isinstance(error, OSError):
                raise RunFolderError(
                    f"cannot write {path}: {error.strerror}", code="U004"
                ) from error
            raise
        return folder

    @property
    def work(self) -> Path:
        """Folder for what need not be made again if the run is gone on with."""
        return self.path / "work"

    def propose(self, model: Model) -> str:
        """Write a model beside the current one, completely and on the disk; returns its SHA-256."""
        path = self.path / NEXT_MODEL
        try:
            with whole_file(path) as file:
                return tensors.write(model, file)
        except OSError as error:
            raise _unwritten(path, error) from error

    def accept(self) -> None:
        """Make the model that was proposed last the current one."""
        (self.path / NEXT_MODEL).replace(self.path / MODEL)

    def model(self, digest: str) -> Model:
        """The model that the run goes on from; it is the current one from then on.

        Args:
            digest: its SHA-256.

        Raises:
            RunFolderError: it is not there.
        """
        found = {}
        for name in (MODEL, NEXT_MODEL):
            with contextlib.suppress(FileNotFoundError):
                data = (self.path / name).read_bytes()
                found[name] = tensors.digest(data)
                if found[name] == digest:
                    if name == NEXT_MODEL:
                        self.accept()
                    return tensors.load(data)
        there = ", ".join(f"{name} is {other[:12]}…" for name, other in found.items())
        raise RunFolderError(
            f"{self.path}: the model after the last stored round is gone: neither {MODEL} nor "
            f"{NEXT_MODEL} has its SHA-256 {digest[:12]}…{f' ({there})' if there else ''}; put the "
            "file back, or start a new run"
        )

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
        completed = self.store.info.status == "completed"
        try:
            self.store.close()
        finally:
            if not worth_keeping:
                shutil.rmtree(self.path, ignore_errors=True)
        if not worth_keeping:
            return False
        if completed:
            tidy(self.path)
        for log in self.logs.glob("*.log"):
            if log.stat().st_size == 0:
                log.unlink()
        if not any(self.logs.iterdir()):
            self.logs.rmdir()
        return True


def tidy(path: Path) -> None:
    """Remove what only a run that goes on would need."""
    for name in ("work", "late-models"):
        shutil.rmtree(path / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        (path / NEXT_MODEL).unlink()


def find_run(path: Path, directory: str = "runs") -> Path:
    """The run folder for a path: that path, or a folder of that name below the folder of runs.

    ``EXPERIMENT/CELL``, as ``fimi runs`` lists them, is that cell below ``experiments/``.

    Args:
        path: what was asked for.
        directory: the folder of runs.

    Raises:
        RunFolderError: there is none; suggests the nearest name.
    """
    cell = Path("experiments", path.parent, "runs", path.name)
    candidates = [each for each in (path, Path(directory) / path, cell) if each.exists()]
    # A folder of that name which is no run hides none.
    for candidate in sorted(candidates, key=lambda each: not _is_run(each)):
        return candidate
    for folder in (path.parent, Path(directory)):
        runs = sorted(store.parent.name for store in folder.glob(f"*/{STORE_NAME}"))
        if meant := nearest(path.name, runs):
            raise RunFolderError(f"{path}: there is no run here; did you mean {folder / meant}?")
    raise RunFolderError(f"{path}: there is no run here; name a folder below {directory}/")


def resuming_command(command: str, path: Path, reached: str = "") -> str:
    """The command that goes on with a run.

    Args:
        command: that began it.
        path: of its folder.
        reached: options by which it reaches its broker, with a space before them
            (:func:`fimi.testbed.commands.reaching.as_typed`).
    """
    target = path.name if path.parent == Path("runs") else str(path)
    return f"fimi {command} --resume {shlex.quote(target)}{reached}"


def way_on(path: Path) -> str:
    """What goes on with a run that was killed, in words.

    A command, or both where the folder does not say which one began it. An experiment, and a run in
    it, is gone on with by the experiment's own command.

    Args:
        path: of the folder, of a run or of an experiment.
    """
    try:
        command = read_info(path)[0].command
    except ReportError:
        command = ""
    if (path / "cells").is_dir() or (path.parent.parent / "cells").is_dir():
        return "the command that began the experiment, given again, goes on with it"
    commands = [command] if command else ["dry-run", "coordinator run"]
    said = " or ".join(f"'{resuming_command(each, path)}'" for each in commands)
    return f"{said} goes on with it"


def _is_run(path: Path) -> bool:
    return path.is_file() or (path / STORE_NAME).exists()


def _make(path: Path) -> None:
    """Make a folder; one in which a process was killed before it stored anything is made again.

    Raises:
        RunFolderError: it exists; says how to go on with a run that ended early.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        if _is_beginning(path):
            shutil.rmtree(path)
            path.mkdir()
            return
        said = f"{path} exists; choose another --name or remove that run"
        with contextlib.suppress(StoreError):
            RunStore.resumable(path / STORE_NAME)
            said += f"; {way_on(path)}"
        raise RunFolderError(said, code="R005") from error


def _is_beginning(path: Path) -> bool:
    """Whether a run was begun here that has stored nothing, and nobody works on it."""
    store = path / STORE_NAME
    there = {each.name for each in path.iterdir()} if path.is_dir() else set()
    if not there or not there <= _BEGINNINGS or any((path / "logs").glob("*")):
        return False
    try:
        lock = lock_store(store)
    except (FileInUse, OSError):
        return False
    try:
        if not store.exists():
            return True
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as db:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return int(tables) == 0
    except sqlite3.Error:
        return False
    finally:
        lock.release()


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
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"cannot write {path}: {error.strerror}; free some space and run again", code="U004"
    )

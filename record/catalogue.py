"""The runs below a folder: those of ``runs/``, and the cells of experiments.

* :func:`find`     the folders of runs
* :class:`Listed`  a run that was found: its headline, or why it cannot be read
* :func:`listed`   the same of a folder

A run that cannot be read is listed with the reason. It ends no list.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from fimi.record.clean import clean
from fimi.record.headline import Headline, headline
from fimi.record.reader import STORE_NAME, ReportError

DEEPEST = 5
"""Folders below the first that are looked into: ``./experiments/NAME/runs/CELL`` is the fourth."""
_LEFT_BEHIND = {
    *("run.lock", f"{STORE_NAME}-wal", f"{STORE_NAME}-shm"),
    *("model.safetensors", "model.next.safetensors"),
}
"""What only a run leaves, so that a folder with any of it and without a store has lost that.

Reports and ONNX files are none of it: trackers below ``runs/`` have copies (docs/monitoring.md).
"""
_NOT_RUNS = {"logs", "work", "late-models", "cells", "pool", "node_modules", "__pycache__"}
_EXPERIMENT = ("cells", "results.json")


class Listed(Struct, frozen=True, kw_only=True):
    """A run that was found.

    Attributes:
        path: its folder.
        name: of the folder; of a cell of an experiment with the experiment's before it.
        experiment: whose cell it is; empty of a run by itself.
        began: when the run began; when the folder was changed last where that cannot be read.
        headline: the run in one line; ``None`` where it cannot be read.
        problem: why not.
    """

    path: Path
    name: str
    experiment: str
    began: datetime
    headline: Headline | None = None
    problem: str = ""


def find(root: Path) -> Iterator[Path]:
    """The folders of runs at and below a folder, sorted by name; links are followed.

    A folder that cannot be looked into is among them.

    Raises:
        ReportError: there is no such folder.
    """
    if not root.is_dir():
        what = "is no folder" if root.exists() else "there is no such folder"
        raise ReportError(
            f"{root}: {what}; name the one that runs are kept in (run.directory, runs/ if it is "
            "not set), an experiment's, or one above them",
            code="R004",
        )
    yield from _below(root, 0)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            there = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    names = {entry.name for entry in there}
    if STORE_NAME in names or names & _LEFT_BEHIND:
        yield folder
    elif depth < DEEPEST:
        for entry in there:
            if not entry.name.startswith(".") and entry.name not in _NOT_RUNS and _is_folder(entry):
                yield from _below(folder / entry.name, depth + 1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def listed(path: Path) -> Listed:
    """A run folder as it stands in a list; it never fails."""
    experiment = _experiment(path)
    name = f"{experiment}/{path.name}" if experiment else path.resolve().name
    try:
        found = headline(path)
    except ReportError as error:
        problem = _reason(path, str(error))
    except (OSError, ValueError, ArithmeticError) as error:
        problem = f"cannot be read: {error}"
    else:
        began = when(found.started_at) or _changed(path)
        return Listed(path=path, name=name, experiment=experiment, began=began, headline=found)
    return Listed(
        path=path,
        name=name,
        experiment=experiment,
        began=_changed(path),
        problem=clean(problem, 500),
    )


def when(text: str) -> datetime | None:
    """A time of a store with its zone, that of this machine where it has none; ``None``: no time.

    A ``Z`` at its end is UTC, which Python 3.10 does not read.
    """
    try:
        return datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text)).astimezone()
    except (ValueError, OverflowError):
        return None


def _experiment(path: Path) -> str:
    """The experiment whose cell a run is; empty if it is none."""
    above = path.absolute().parent
    if above.name != "runs" or not any((above.parent / name).exists() for name in _EXPERIMENT):
        return ""
    return above.parent.name


def _reason(path: Path, said: str) -> str:
    """What an error says, without the place that stands beside it anyway."""
    if not (path / STORE_NAME).exists():
        return _without_store(path)
    return said.removeprefix(f"{path / STORE_NAME}: ")


def _without_store(path: Path) -> str:
    try:
        there = sorted(each.name for each in path.iterdir())
        if STORE_NAME in there:
            return f"its store {STORE_NAME} is a link to {(path / STORE_NAME).readlink()}: no file"
    except OSError as error:
        return f"the folder cannot be read: {error.strerror or error}"
    return f"its store {STORE_NAME} is missing; there is only {', '.join(there[:4])}"


def _changed(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    except OSError:
        return datetime.fromtimestamp(0).astimezone()

"""The files of a bundle, laid out in a folder.

::

    ro-crate-metadata.json   what all of this is, for machines (fimi.record.bundle.crate)
    manifest-sha256.txt      digests of all other files, as sha256sum writes and checks them
    run.sqlite               the run store: everything else follows from it (docs/record.md)
    configuration.toml       every value of the configuration
    environment.json         versions, broker, digests of the data
    figures.json             the figures of the run: energies, rounds, devices, predictions
    tables/*.csv             the flat views of the store
    readings/*.csv           what the meter of each device showed, reading by reading
    model.safetensors, …     the trained model

The same run gives the same files, byte by byte. What is taken out of the store is said in
:mod:`fimi.record.bundle.privacy`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from fimi.record.bundle.privacy import clean_store
from fimi.record.description import plain
from fimi.record.reader import STORE_NAME, open_store, read_run
from fimi.record.readings import StoredPart, devices_in, parts_in
from fimi.record.record import RunData
from fimi.record.summary import summarise
from fimi.record.views import VIEWS

METADATA, MANIFEST = "ro-crate-metadata.json", "manifest-sha256.txt"
CONFIGURATION, ENVIRONMENT, FIGURES = "configuration.toml", "environment.json", "figures.json"
MODELS = ("model.safetensors", "model.onnx", "model-int8.onnx")
TABLES, READINGS = "tables", "readings"

_READING_COLUMNS = (
    *("round", "life", "part", "step", "phase", "edge_s"),
    *("series", "time_s", "power_w", "counter_j", "reset"),
)
_ROWS = 2000
"""So many are written at a time."""


def lay_out(
    run_folder: Path, folder: Path, *, toml: Callable[[object], str], names: bool = True
) -> RunData:
    """Lay the files of a bundle out, but for its metadata and manifest.

    Args:
        run_folder: of the run.
        folder: where to; empty.
        toml: a value as TOML.
        names: whether ids of devices stay as they are.

    Returns:
        The run as it is in the bundle.

    Raises:
        fimi.record.record.ReportError: there is no run, or it cannot be read.
        OSError: a file cannot be read or written.
    """
    store = folder / STORE_NAME
    with open_store(run_folder) as (source, db), closing(sqlite3.connect(store)) as copy:
        db.execute("ROLLBACK")  # reading goes on in the copy
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        clean_store(copy, names=names)
        copy.execute("VACUUM")
        models = source.parent
    run = read_run(store)
    for name in MODELS:
        if (models / name).is_file():
            shutil.copyfile(models / name, folder / name)
    (folder / CONFIGURATION).write_text(configuration(run, toml), encoding="utf-8")
    _write_json(folder / ENVIRONMENT, environment(run))
    _write_json(folder / FIGURES, figures(run))
    with open_store(store) as (_, db):
        for name, content in itertools.chain(tables(db), readings(db)):
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            with target.open("wb") as file:
                file.writelines(_csv(content))
    return run


def manifest(folder: Path) -> str:
    """The digests of all files of a folder but the manifest itself, as text."""
    return "".join(
        f"{digest(folder / name)}  {name}\n" for name in names_of(folder) if name != MANIFEST
    )


def names_of(folder: Path) -> list[str]:
    """The names of all files of a folder, the metadata first, then in order."""
    found = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return sorted(found, key=lambda name: (name != METADATA, name != MANIFEST, name))


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def settings(run: RunData) -> dict[str, Any]:
    """Every value of the configuration by its dotted key; what is unknown is left out."""

    def within(key: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for name, each in value.items():
                yield from within(f"{key}.{name}", each)
        elif value is not None:
            yield key, value

    return dict(
        each for key, value in sorted(run.info.config.items()) for each in within(key, value)
    )


def configuration(run: RunData, toml: Callable[[object], str]) -> str:
    """The same as a TOML file."""
    sections: dict[str, list[str]] = {}
    for key, value in settings(run).items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, []).append(f"{name} = {toml(value)}")
    return "\n".join(
        "\n".join([*([f"[{section}]"] if section else []), *lines, ""])
        for section, lines in sorted(sections.items())
    )


def environment(run: RunData) -> dict[str, Any]:
    """What the run ran in: versions, broker, data, boards."""
    info = run.info
    return {
        "run": info.run,
        "command": info.command,
        "started_at": info.started_at,
        "finished_at": info.finished_at,
        "versions": dict(sorted(info.versions.items())),
        "broker": info.broker,
        "dataset": msgspec.to_builtins(info.dataset, enc_hook=plain),
        "boards": {
            device: msgspec.to_builtins(profile.hardware, enc_hook=plain)
            for device, profile in sorted(run.profiles.items())
        },
    }


def figures(run: RunData) -> dict[str, Any]:
    """The figures of a run as JSON has them."""
    found: dict[str, Any] = msgspec.to_builtins(summarise(run), enc_hook=plain)
    return found


Content = Iterator[Sequence[Any]]
"""The rows of a table, its head first; made as they are asked for."""


def tables(db: sqlite3.Connection) -> Iterator[tuple[str, Content]]:
    """The flat views of an open store as files: name and content."""
    for view in VIEWS:
        names = [column.name for column in view.columns]
        order = ", ".join(str(place) for place in range(1, len(names) + 1))
        rows = db.execute(f"SELECT {', '.join(names)} FROM {view.name} ORDER BY {order}")
        yield f"{TABLES}/{view.name}.csv", itertools.chain([names], rows)


def readings(db: sqlite3.Connection) -> Iterator[tuple[str, Content]]:
    """The readings of each device as files: name and content."""
    for name, device in reading_files(db).items():
        yield name, itertools.chain([_READING_COLUMNS], _rows(parts_in(db, device)))


def reading_files(db: sqlite3.Connection) -> dict[str, str]:
    """Which file has the readings of which device: the file's name to the device's id.

    ``Pi`` and ``pi`` are two devices, and one file where cases are not told apart: the second one
    becomes ``pi~2``, which is no id.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for device in devices_in(db):
        base = re.sub(r"[^A-Za-z0-9_.-]", "_", device)
        others = (f"{base}~{number}" for number in itertools.count(2))
        name = next(each for each in itertools.chain([base], others) if each.lower() not in taken)
        taken.add(name.lower())
        found[f"{READINGS}/{name}.csv"] = device
    return found


def is_content(path: Path, content: Content) -> bool:
    """Whether a file is what its rows give, byte by byte."""
    with path.open("rb") as file:
        if any(file.read(len(block)) != block for block in _csv(content)):
            return False
        return not file.read(1)


def _rows(parts: Iterable[StoredPart]) -> Iterator[tuple[Any, ...]]:
    """Every reading once, with the edge up to which it was read; steps without readings too."""
    for part in parts:
        row = part.row
        lead = (part.round, row.life, row.part)
        try:
            steps = part.noted().steps
        except ValueError as error:
            yield (*lead, "missing", str(error), *[None] * 6)
            continue
        for step in steps:
            edge = (*lead, step.step, step.words, None if step.at_s != step.at_s else step.at_s)
            count = 0
            for series, found in step.readings.items():
                for each in found:
                    count += 1
                    yield (
                        *(*edge, series, each.time_s, each.power_w, each.counter_j),
                        int(each.reset),
                    )
            if not count:
                yield (*edge, *[None] * 5)


def _csv(content: Content) -> Iterator[bytes]:
    """Rows as the bytes of a CSV file, some rows at a time."""
    while rows := list(itertools.islice(content, _ROWS)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        yield text.getvalue().encode()


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=1)
    path.write_bytes(text + b"\n")

"""A run exported to a folder, whole or not at all.

* :func:`export`     writes it
* :class:`ExportedRun`  what was written

All tables are read in one transaction: of a run that goes on they are of one moment. The files are
written to a hidden folder beside the target, which then takes the target's name.
"""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.errors import InputError
from fimi.files import sync_folder, write_whole
from fimi.record.export.files import FORMATS, ExportFormat, WrittenFile, write_csv
from fimi.record.export.package import PACKAGE_NAME, package
from fimi.record.export.tables import TakenTable, taken
from fimi.record.migration import version
from fimi.record.reader import ReportError, faults, info_of, open_store


class OccupiedFolderError(InputError, ValueError):
    """A run cannot be exported there; the message says why and what to do."""

    code = "U002"


class ExportedRun(Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        folder: where.
        rows: of each table.
        guarded: cells of CSV that have an apostrophe before them, see
            :mod:`fimi.record.export.files`.
    """

    folder: Path
    rows: dict[str, int]
    guarded: int


def export(
    run: Path,
    output: ExportFormat,
    folder: Path,
    *,
    everything: bool = False,
    exact: bool = False,
    more: Callable[[], Iterable[TakenTable]] = tuple,
) -> ExportedRun:
    """Write the tables of a run as files, with a description of them.

    Args:
        run: its folder, or its store.
        output: format of the files.
        folder: where to; an earlier export there is replaced.
        everything: also the tables :data:`~fimi.record.export.tables.ASIDE`.
        exact: CSV with its text as it is, see :mod:`fimi.record.export.files`.
        more: further tables, computed from the run.

    Raises:
        ReportError: the run cannot be read, or the files not be written.
        OccupiedFolderError: the folder is no earlier export.
        ModuleNotFoundError: pyarrow is not installed.
    """
    _require_free(folder)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            partial.mkdir(parents=True)
            with open_store(run) as (store, db), faults(store):
                tables = [*taken(db, everything=everything), *more()]
                written = [_written(t, output, partial, folder, exact=exact) for t in tables]
                told = package(info_of(store, db), version(db), written, output)
            text = json.dumps(told, ensure_ascii=False, indent=1)
            write_whole(partial / PACKAGE_NAME, text + "\n")
            _put(partial, folder)
        except OSError as error:
            raise _unwritten(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ExportedRun(
        folder=folder,
        rows={table.name: each.rows for table, _, each in written},
        guarded=sum(each.guarded for _, _, each in written),
    )


def _written(
    table: TakenTable, output: ExportFormat, partial: Path, folder: Path, *, exact: bool
) -> tuple[TakenTable, Path, WrittenFile]:
    path = partial / f"{table.name}.{output}"
    try:
        if output == "csv":
            return table, path, write_csv(table, path, exact=exact)
        return table, path, FORMATS[output](table, path)
    except OSError as error:  # not one of the store's
        raise _unwritten(folder, error) from error


def _unwritten(folder: Path, error: OSError) -> ReportError:
    return ReportError(
        f"{folder}: the export cannot be written: {error.strerror or error}; nothing is left of "
        "it, and what was there before is as it was",
        code={errno.ENOSPC: "U005", errno.EACCES: "U004"}.get(error.errno or 0, "U006"),
    )


def _require_free(folder: Path) -> None:
    """Make sure that nothing but an earlier export is replaced.

    Raises:
        OccupiedFolderError: something else is there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    with contextlib.suppress(OSError, msgspec.DecodeError):
        told = msgspec.json.decode((folder / PACKAGE_NAME).read_bytes())
        if isinstance(told, dict) and "fimi" in told:
            return
    raise OccupiedFolderError(
        f"{folder} is there and is no earlier export (it has no {PACKAGE_NAME} of this program); "
        "name another folder with --out"
    )


def _put(partial: Path, folder: Path) -> None:
    """Give the new folder its name; the one that had it is removed after that."""
    before = folder.with_name(f"{partial.name}.before")
    if folder.exists():
        folder.rename(before)
    try:
        partial.rename(folder)
    except BaseException:
        if before.exists():
            before.rename(folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(before, ignore_errors=True)

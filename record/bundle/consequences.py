"""What follows from the phases of a bundle: its tables and its figures.

Both are computed again twice: from the store as it is, which must give the files to the last byte,
and with every phase as its readings give it, which may differ by the rounding of another processor.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from fimi.record import schema
from fimi.record.bundle import contents
from fimi.record.bundle.findings import plain, unlike
from fimi.record.reader import STORE_NAME, open_store
from fimi.record.record import RunData
from fimi.record.recount import SAME, Recount, recounted

_ENERGIES = (
    *("energy_j", "kind", "source", "scope", "uncertainty_j", "common_j", "resolved", "most_j"),
    *("cpu_j", "cpu_kind", "cpu_source", "cpu_scope", "cpu_uncertainty_j", "cpu_common_j"),
    *("second_j", "second_kind", "second_source", "second_scope", "second_uncertainty_j"),
    *("second_common_j", "second_resolved"),
)
"""Columns of a phase that follow from its readings."""


def other_tables(folder: Path, run: RunData, found: Recount) -> Iterator[str]:
    """Tables of a bundle that are not those of its store, or not those of the readings."""
    with open_store(folder / STORE_NAME) as (_, db):
        for name, content in contents.tables(db):
            path = folder / name
            if not path.is_file():
                yield f"{name} is missing"
            elif not contents.is_content(path, content):
                yield f"{name} is not the table of the store"
        with _recounted_store(folder / STORE_NAME, found) as again:
            for (name, stored), (_, content) in zip(
                contents.tables(db), contents.tables(again), strict=True
            ):
                if (said := _first_difference(stored, content)) is not None:
                    yield f"{name}, from the readings: {said}"


def other_figures(folder: Path, run: RunData, found: Recount) -> Iterator[str]:
    """Figures of a bundle that are not those of its store, or not those of the readings."""
    try:
        told = msgspec.json.decode((folder / contents.FIGURES).read_bytes())
    except (OSError, ValueError) as error:
        yield f"{contents.FIGURES} cannot be read: {error}"
        return
    stored = plain(contents.figures(run))
    if (said := unlike(told, stored)) is not None:
        yield f"{contents.FIGURES} is not what the store gives: {said}"
    again = plain(contents.figures(recounted(run, found)))
    if (said := unlike(stored, again)) is not None:
        yield f"from the readings: {said}"


@contextlib.contextmanager
def _recounted_store(store: Path, found: Recount) -> Iterator[sqlite3.Connection]:
    """A copy of a store in which every phase has the joules that its readings give."""
    with tempfile.TemporaryDirectory(prefix="fimi-recount-") as name:
        copy = Path(name) / STORE_NAME
        shutil.copyfile(store, copy)
        with closing(sqlite3.connect(copy)) as db, db:
            for each in found.phases:
                if each.record is None or each.again is None or each.verdict == "unchecked":
                    continue
                row = schema.SAMPLE.row(each.again)
                changes = {column: row[column] for column in _ENERGIES}
                db.execute(
                    f"UPDATE {schema.SAMPLE.name} SET "
                    + ", ".join(f"{column} = :{column}" for column in changes)
                    + " WHERE round = :round AND device = :device AND phase = :phase"
                    " AND start_s = :start_s",
                    {
                        **changes,
                        "round": each.round,
                        "device": each.device,
                        "phase": each.phase,
                        "start_s": each.record.start_s,
                    },
                )
        with open_store(copy) as (_, db):
            yield db


def _first_difference(stored: contents.Content, again: contents.Content) -> str | None:
    """Where two tables differ, but for the last digits; ``None``: nowhere."""
    head = next(stored)
    next(again)
    pairs = itertools.zip_longest(stored, again)
    for number, (one, other) in enumerate(pairs, 1):
        if one is None or other is None:
            return f"it has {'more' if one is None else 'fewer'} than {number - 1} rows"
        for column, mine, theirs in zip(head, one, other, strict=True):
            if mine != theirs and not _close(mine, theirs):
                return f"row {number}, {column}: {_said(mine)}, not {_said(theirs)}"
    return None


def _said(value: object) -> str:
    return "nothing" if value is None else str(value)


def _close(one: object, other: object) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers and math.isclose(one, other, rel_tol=10 * SAME, abs_tol=1e-9)  # type: ignore[arg-type]

"""Which tables of a run store are taken out of it, and their rows.

* :class:`TakenTable`  a table or view with its rows
* :func:`taken`        those of an open store

The views are flat and hold what is JSON in tables; with them go the tables that no view covers.
Bytes are left out: they are no table, and only a process of FIMI reads them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from fimi.record import schema
from fimi.record.description import StoreColumn
from fimi.record.views import VIEWS

ASIDE = {
    table.name
    for table in (
        *(schema.PROFILE, schema.PLAN, schema.DEVICE_PLAN, schema.ROUNDS, schema.DEVICE_ROUND),
        *(schema.SAMPLE, schema.PREDICTION, schema.OBSERVATION, schema.LABEL_SKEW),
        *(schema.EVIDENCE, schema.REFIT),
    )
}
"""Tables of which a view has nearly everything, and two that only the coordinator reads."""

_ORDER = ("plan", "round", "number", "device", "phase", "stage", "class", "key")
"""Columns of views by which their rows are sorted."""


class TakenTable(Struct, frozen=True, kw_only=True):
    """A table with its rows.

    Attributes:
        name: of the table.
        about: what a row is.
        columns: in their order.
        primary: names of the columns that identify a row; none where nothing does.
        rows: as SQLite has them, a value for each column; they can be read once.
    """

    name: str
    about: str
    columns: tuple[StoreColumn, ...]
    primary: tuple[str, ...]
    rows: Iterable[Sequence[Any]]


def taken(db: sqlite3.Connection, *, everything: bool = False) -> Iterator[TakenTable]:
    """Views, and the tables that they do not cover.

    Args:
        db: an open store, with the tables and views of this version.
        everything: those :data:`ASIDE` as well.

    Yields:
        Each, with rows that are read from the store one after the other.
    """
    for view in VIEWS:
        names = {column.name for column in view.columns}
        order = [name for name in _ORDER if name in names]
        yield _taken(db, view.name, view.about, view.columns, (), order)
    for table in schema.TABLES:
        columns = tuple(column for column in table.described if column.kind != "BLOB")
        is_bytes = len(columns) < len(table.described)
        if is_bytes and {column.name for column in columns} <= {"key", *table.primary}:
            continue
        if everything or table.name not in ASIDE:
            yield _taken(db, table.name, table.about, columns, table.primary, table.primary)


def _taken(
    db: sqlite3.Connection,
    name: str,
    about: str,
    columns: tuple[StoreColumn, ...],
    primary: Sequence[str],
    order: Sequence[str],
) -> TakenTable:
    names = ", ".join(f'"{column.name}"' for column in columns)
    by = ", ".join(f'"{each}"' for each in order)
    query = f'SELECT {names} FROM "{name}"' + (f" ORDER BY {by}" if by else "")
    return TakenTable(
        name=name,
        about=about,
        columns=columns,
        primary=tuple(primary),
        rows=_rows(db, query, columns),
    )


def _rows(
    db: sqlite3.Connection, query: str, columns: tuple[StoreColumn, ...]
) -> Iterator[tuple[Any, ...]]:
    """Rows with the type of each column, which SQL of a view does not promise."""
    makers = [_MAKERS[column.kind] for column in columns]
    for row in db.execute(query):
        yield tuple(
            None if value is None else make(value) for make, value in zip(makers, row, strict=True)
        )


def _whole(value: Any) -> Any:
    """An integer; what is none stays, so that a damaged store is seen."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(value: Any) -> str:
    """JSON text; what is none becomes a JSON string, so that the file can be read all the same."""
    text = value if isinstance(value, str) else str(value)
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return msgspec.json.encode(text).decode()
    return text


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "TEXT": str,
    "INTEGER": _whole,
    "REAL": float,
    "JSON": _json,
}

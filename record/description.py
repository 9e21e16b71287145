"""How a table of the run store is described, and everything that follows from a description.

A :class:`StoreTable` names its columns once: SQL type, unit, meaning, and where in a typed value
each is found. Creating the table, writing a value, reading it back and ``docs/record.md`` derive
from it, so a new column is one more entry in :mod:`fimi.record.schema`.

* :class:`StoreColumn`  one column of a table or a view
* :func:`text`, :func:`whole`, :func:`real`, :func:`packed`, :func:`binary`, :func:`energy`  columns
  in short
* :class:`StoreTable`   columns, and the type whose values its rows are
* :class:`StoreView`    columns computed from tables
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

import msgspec
import numpy as np
from msgspec import Struct

T = TypeVar("T")


class StoreColumn(Struct, frozen=True, kw_only=True):
    """One column.

    Attributes:
        name: with its unit, where it has one.
        kind: SQL type; ``JSON`` is text that holds JSON, ``BLOB`` is bytes that are not read here.
        meaning: in a few words.
        unit: SI, or what is counted; empty for text and JSON.
        null: whether it may be unknown.
        at: where the value is: a path of fields into the table's type (its own name if left out,
            ``.`` for the whole value), or the SQL expression of a view.
        only_with: path of a field; where that is ``None``, this is unknown as well.
        path: the fields of :attr:`at`; none for the whole value. Made, not given.
    """

    name: str
    kind: Literal["TEXT", "INTEGER", "REAL", "JSON", "BLOB"]
    meaning: str
    unit: str = ""
    null: bool = False
    at: str = ""
    only_with: str = ""
    path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        path = () if self.at == "." else tuple((self.at or self.name).split("."))
        msgspec.structs.force_setattr(self, "path", path)

    def taken_from(self, value: Any) -> Any:
        """This column of a value, as SQLite stores it; ``None`` where it is unknown.

        A number that is not finite is unknown where the column may be; elsewhere it stays, and
        :class:`fimi.record.store.RunStore` refuses it by name.
        """
        if self.only_with and getattr(value, self.only_with) is None:
            return None
        for field in self.path:
            if value is None:
                return None
            value = value[int(field)] if isinstance(value, tuple) else getattr(value, field)
        if self.null and isinstance(value, float) and not math.isfinite(value):
            return None
        return to_json(value) if self.kind == "JSON" and value is not None else value


def text(name: str, meaning: str, at: str = "", **more: Any) -> StoreColumn:
    """A column of text."""
    return StoreColumn(name=name, kind="TEXT", meaning=meaning, at=at, **more)


def whole(name: str, unit: str, meaning: str, at: str = "", **more: Any) -> StoreColumn:
    """A column of integers."""
    return StoreColumn(name=name, kind="INTEGER", unit=unit, meaning=meaning, at=at, **more)


def real(name: str, unit: str, meaning: str, at: str = "", **more: Any) -> StoreColumn:
    """A column of real numbers."""
    return StoreColumn(name=name, kind="REAL", unit=unit, meaning=meaning, at=at, **more)


def packed(name: str, meaning: str, at: str = "", **more: Any) -> StoreColumn:
    """A column of JSON."""
    return StoreColumn(name=name, kind="JSON", meaning=meaning, at=at, **more)


def binary(name: str, meaning: str, at: str = "", **more: Any) -> StoreColumn:
    """A column of bytes."""
    return StoreColumn(name=name, kind="BLOB", unit="bytes", meaning=meaning, at=at, **more)


def energy(
    meaning: str, at: str, prefix: str = "", name: str = "energy_j"
) -> tuple[StoreColumn, ...]:
    """The six columns of a :class:`fimi.energy.joules.Energy`: a joule is never bare.

    Args:
        meaning: what the joules are of.
        at: path of the energy.
        prefix: before the names of the last five.
        name: of the joules' own column.
    """
    kinds, scopes = "measured, modelled, emulated, mixed", "cpu, gpu, module, board, wall"
    sigma = f"one standard deviation of `{name}`"
    shared = "the part of it that all figures of the meter share; all of it if unknown"
    return (
        real(name, "J", meaning, f"{at}.value_j", null=True),
        text(f"{prefix}kind", f"what `{name}` is: {kinds}", f"{at}.kind", null=True),
        text(f"{prefix}source", f"meter or formula of `{name}`", f"{at}.source", null=True),
        text(f"{prefix}scope", f"what `{name}` covers: {scopes}", f"{at}.scope", null=True),
        real(f"{prefix}uncertainty_j", "J", sigma, f"{at}.uncertainty_j", null=True),
        real(f"{prefix}common_j", "J", shared, f"{at}.common_j", null=True),
    )


class StoreTable(Struct, Generic[T], frozen=True):
    """One table: a row is a value of a type, with further columns beside it.

    Attributes:
        name: of the table.
        of: type of the values.
        about: what a row is.
        columns: of the value.
        beside: columns that the writer adds: round, device.
        primary: columns that identify and order rows.
    """

    name: str
    of: type[T]
    about: str
    columns: tuple[StoreColumn, ...]
    beside: tuple[StoreColumn, ...] = ()
    primary: tuple[str, ...] = ("id",)

    @property
    def described(self) -> tuple[StoreColumn, ...]:
        """All columns, in order."""
        return self.beside + self.columns

    @property
    def create(self) -> list[str]:
        """The statements that make the table."""
        columns = [
            f"{c.name} {'TEXT' if c.kind == 'JSON' else c.kind}{'' if c.null else ' NOT NULL'}"
            for c in self.described
        ]
        key = f"PRIMARY KEY ({', '.join(self.primary)})"
        made = [f"CREATE TABLE {self.name} ({', '.join([*columns, key])}) STRICT"]
        if self.primary == ("id",) and {"round", "device"} <= {c.name for c in self.beside}:
            made.append(f"CREATE INDEX {self.name}_by_round ON {self.name} (round, device)")
        return made

    def insert(self, *, replace: bool = False) -> str:
        """The statement that writes a :meth:`row`; an ``id`` counts up by itself.

        With ``replace`` it takes the place of a row with the same :attr:`primary` columns.
        """
        names = [column.name for column in self.described if column.name != "id"]
        values = ", ".join(f":{name}" for name in names)
        how = "INSERT OR REPLACE" if replace else "INSERT"
        return f"{how} INTO {self.name} ({', '.join(names)}) VALUES ({values})"

    def row(self, value: T, **beside: Any) -> dict[str, Any]:
        """A value, with the columns :attr:`beside` it, as column name to what SQLite stores."""
        return beside | {column.name: column.taken_from(value) for column in self.columns}

    def rows(
        self, db: sqlite3.Connection, **only: Any
    ) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """All rows in order of :attr:`primary`: columns beside the value, columns of the value.

        The ``id`` is left out.

        Args:
            db: an open store.
            only: values that columns must have.
        """
        beside = [column.name for column in self.beside if column.name != "id"]
        names = ", ".join([*beside, *(column.name for column in self.columns)])
        where = f" WHERE {' AND '.join(f'{name} = :{name}' for name in only)}" if only else ""
        for row in db.execute(
            f"SELECT {names} FROM {self.name}{where} ORDER BY {', '.join(self.primary)}", only
        ):
            yield row[: len(beside)], row[len(beside) :]

    def place(self, beside: tuple[Any, ...], row: tuple[Any, ...]) -> str:
        """Where one of the :meth:`rows` is: ``sample, round 2, device a, phase compute``."""
        names = (column.name for column in self.described if column.name != "id")
        keys = ("number", "round", "device", "phase", "stage", "variant")
        found = zip(names, (*beside, *row), strict=True)
        return ", ".join([self.name, *(f"{name} {at}" for name, at in found if name in keys)])

    def values(self, db: sqlite3.Connection, **only: Any) -> list[T]:
        """Rows as values, of a store that this version has written; ``only`` as for :meth:`rows`.

        Raises:
            msgspec.DecodeError: JSON cannot be read.
            msgspec.ValidationError: a row is no such value.
        """
        shape = self.shape()
        return [
            msgspec.convert(shape.build(row) or {}, self.of, strict=False)
            for _, row in self.rows(db, **only)
        ]

    def shape(self) -> Shape:
        """How to put a value together from its columns."""
        return Shape(self.of, [(i, list(c.path), c) for i, c in enumerate(self.columns)])


class StoreView(Struct, frozen=True, kw_only=True):
    """One view: flat rows for people and their tools.

    Attributes:
        name: of the view.
        about: what a row is.
        columns: whose ``at`` is SQL.
        rows: the SQL behind ``FROM``.
    """

    name: str
    about: str
    columns: tuple[StoreColumn, ...]
    rows: str

    @property
    def create(self) -> str:
        """The statement that makes the view."""
        columns = ",\n  ".join(f"{c.at or c.name} AS {c.name}" for c in self.columns)
        return f"CREATE VIEW {self.name} AS SELECT\n  {columns}\nFROM {self.rows}"


class Shape:
    """How nested builtins are put together from the columns of a row.

    An unknown column is ``None`` where its field may be, and left out where the field has a
    default. A nested value whose columns are all unknown is unknown itself, and so is one that may
    be and lacks what it must have, such as an energy without its kind.

    Args:
        of: the type to fill, a struct or a tuple.
        columns: index in the row, path from ``of``, column.
    """

    def __init__(self, of: Any, columns: list[tuple[int, list[str], StoreColumn]]) -> None:
        self._is_tuple = get_origin(of) is tuple
        fields = () if self._is_tuple else msgspec.structs.fields(of)
        types = {field.name: field.type for field in fields}
        self._required = {field.name for field in fields if field.required}
        groups: dict[str, list[tuple[int, list[str], StoreColumn]]] = {}
        places: list[tuple[str, int | Shape, bool]] = []
        for index, (field, *rest), column in columns:
            if rest:
                groups.setdefault(field, []).append((index, rest, column))
            else:
                places.append((field, index, column.kind == "JSON"))
        places += [(f, Shape(_inner(types[f]), inside), False) for f, inside in groups.items()]
        self._fields = [(*place, type(None) in get_args(types.get(place[0]))) for place in places]

    def build(self, row: tuple[Any, ...], spoilt: Callable[[str, str], Any] | None = None) -> Any:
        """A row as nested builtins, for :func:`msgspec.convert`; ``None`` if all of it is unknown.

        Args:
            row: the columns of the value.
            spoilt: told of a field that cannot be read, and why; says what stands in for JSON.

        Raises:
            msgspec.DecodeError: JSON cannot be read, and nobody wants to be told.
        """
        found: dict[str, Any] = {}
        known = False
        for field, place, is_json, may_miss in self._fields:
            value = place.build(row, spoilt) if isinstance(place, Shape) else row[place]
            if is_json and value is not None:
                try:
                    value = msgspec.json.decode(value)
                except msgspec.DecodeError as error:
                    if spoilt is None:
                        raise
                    value = spoilt(field, str(error))
            if may_miss and spoilt and isinstance(place, Shape) and isinstance(value, dict):
                lacking = ", ".join(sorted(place._required - value.keys()))
                value = spoilt(field, f"without {lacking}") if lacking else value
            if value is not None or may_miss:
                found[field] = value
            known = known or value is not None
        if not known:
            return None
        return list(found.values()) if self._is_tuple else found


def _inner(kind: Any) -> Any:
    """The type inside ``X | None``, else the type itself."""
    inside = [each for each in get_args(kind) if each is not type(None)]
    return inside[0] if type(None) in get_args(kind) else kind


def to_json(value: Any) -> str:
    """A value as JSON text.

    Raises:
        NotImplementedError: JSON has nothing for it.
    """
    return msgspec.json.encode(value, enc_hook=plain).decode()


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, for msgspec."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"a {type(value).__name__} cannot be stored")

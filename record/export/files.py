"""A table as a file: CSV, JSON or Parquet.

* :data:`FORMATS`  what can be written, with the function that does
* :func:`guarded`, :func:`unguarded`  text of CSV that no spreadsheet takes for a formula, and back

Numbers have all their digits: what is read back is what the store holds, bit by bit. Missing is
empty in CSV, ``null`` in JSON and Parquet, and never 0.

CSV is that of RFC 4180 in UTF-8: commas, lines that end with CR LF, quotes doubled. Text of no
characters is ``""`` and what is missing is nothing, for readers that tell the two apart. A
spreadsheet runs text that begins with ``=``, ``+``, ``-``, ``@``, a tabulator or CR as a formula,
and some text of a store comes from devices. Such text has an apostrophe before it, as
spreadsheets themselves write it; numbers are left alone, and so are options of a command such as
``--devices 3``, in which there is nothing that could be run (no call, no link, no other program): a
spreadsheet can at most show them as an error. One more apostrophe stands before text
that has some already, so that taking the first away gives the text of the store again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec

from fimi.record.description import StoreColumn
from fimi.record.export.tables import TakenTable

ExportFormat = Literal["csv", "parquet", "json"]

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_HIDDEN = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_OPTION = re.compile(r"--[a-z]+(-[a-z]+)*( [A-Za-z0-9_.,/ -]*)?")
_QUOTED = re.compile(r'[",\r\n]|^\s|\s$')
_BATCH = 20_000
"""Rows of a Parquet file that are held in memory at once."""


class WrittenFile(NamedTuple):
    """What a file holds.

    Attributes:
        rows: of the table.
        guarded: cells with an apostrophe that the store does not have.
    """

    rows: int
    guarded: int = 0


def guarded(text: str) -> str:
    """Text of which no spreadsheet runs anything."""
    if not _FORMULA.match(text) or _NUMBER.fullmatch(text) or _OPTION.fullmatch(text):
        return text
    return f"'{text}"


def unguarded(text: str) -> str:
    """The text that :func:`guarded` was given."""
    return text[1:] if _HIDDEN.match(text) else text


def write_csv(table: TakenTable, path: Path, *, exact: bool = False) -> WrittenFile:
    """Write a table as CSV.

    Args:
        table: the table.
        path: of the file.
        exact: whether text is written as it is, also where a spreadsheet would run it.
    """
    count = changed = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        _line(file, [column.name for column in table.columns])
        texts = [column.kind in ("TEXT", "JSON") for column in table.columns]
        for row in table.rows:
            cells = []
            for is_text, value in zip(texts, row, strict=True):
                if value is None:
                    cells.append("")
                elif not is_text or not isinstance(value, str):
                    cells.append(repr(value))
                else:
                    safe = value if exact else guarded(value)
                    changed += safe is not value and safe != value
                    cells.append(_quoted(safe))
            _line(file, cells)
            count += 1
    return WrittenFile(count, changed)


def _line(file: IO[str], cells: Sequence[str]) -> None:
    file.write(",".join(cells) + "\r\n")


def _quoted(text: str) -> str:
    """Text as a cell; no text is two quotes."""
    if text and not _QUOTED.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def write_json(table: TakenTable, path: Path) -> WrittenFile:
    """Write a table as a JSON array with an object for each row, one on a line."""
    names = [column.name for column in table.columns]
    nested = [column.kind == "JSON" for column in table.columns]
    encode = msgspec.json.Encoder().encode
    count = 0
    with path.open("wb") as file:
        file.write(b"[")
        for row in table.rows:
            values = [
                msgspec.Raw(value.encode()) if inside and value is not None else value
                for inside, value in zip(nested, row, strict=True)
            ]
            file.write(b"\n" if count == 0 else b",\n")
            file.write(encode(dict(zip(names, values, strict=True))))
            count += 1
        file.write(b"\n]\n")
    return WrittenFile(count)


def write_parquet(table: TakenTable, path: Path) -> WrittenFile:
    """Write a table as Parquet, with unit and meaning of each column in its metadata.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow
    from pyarrow import parquet

    kinds = {
        "TEXT": pyarrow.string(),
        "JSON": pyarrow.string(),
        "INTEGER": pyarrow.int64(),
        "REAL": pyarrow.float64(),
    }
    schema = pyarrow.schema(
        [
            pyarrow.field(column.name, kinds[column.kind], True, _about(column))
            for column in table.columns
        ],
        metadata={"description": table.about},
    )
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for rows in _batches(table.rows, _BATCH):
            columns = list(zip(*rows, strict=True))
            arrays = [
                pyarrow.array(values, kinds[column.kind])
                for values, column in zip(columns, table.columns, strict=True)
            ]
            file.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(rows)
    return WrittenFile(count)


def _about(column: StoreColumn) -> dict[str, str]:
    found = {"description": column.meaning, "unit": column.unit}
    if column.kind == "JSON":
        found["contains"] = "JSON"
    return {key: value for key, value in found.items() if value}


def _batches(rows: Iterable[Sequence[Any]], size: int) -> Iterator[list[Sequence[Any]]]:
    left = iter(rows)
    while batch := list(islice(left, size)):
        yield batch


FORMATS: dict[ExportFormat, Callable[..., WrittenFile]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "json": write_json,
}
"""What a table can be written as; the name is also the ending of the file."""

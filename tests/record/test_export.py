"""Tables as files, read back by other libraries and held against the store."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fimi.record.export.files import guarded, unguarded
from fimi.record.export.tables import TakenTable, taken
from fimi.record.export.writing import OccupiedFolderError, export
from fimi.record.reader import ReportError, open_store

NASTY = (
    "=cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "'=already",
    'a "quoted", word\r\nand a line',
    "",
    " spaces ",
    "ünïcödé ₂",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, build: Any) -> Path:
    """A run with gaps, with numbers of many digits, and with what a device should not say."""
    folder: Path = tmp_path_factory.mktemp("export") / "a-run"
    entries = [
        msgspec.structs.replace(
            build.talkative(f"d-{k}"), reason=text, training_loss=0.1 + 0.2, status="late"
        )
        for k, text in enumerate(NASTY)
    ]
    entries.append(build.device_round("unread", unread=("compute",)))
    entries.append(
        msgspec.structs.replace(
            build.device_round("silent"), phases=(), predicted=(), status="missing", busy_s=None
        )
    )
    results = [build.round_result(1, entries, 1 / 3), build.round_result(2, entries, 2 / 3)]
    build.write(folder, names=[entry.device for entry in entries], rounds=results)
    return folder


@pytest.fixture(scope="module")
def stored(run: Path) -> dict[str, TakenTable]:
    """Every table with all its rows."""
    with open_store(run) as (_, db):
        return {
            each.name: msgspec.structs.replace(each, rows=list(each.rows))
            for each in taken(db, everything=True)
        }


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for output in ("csv", "json", "parquet"):
        export(run, output, folder / output, everything=True)  # type: ignore[arg-type]
    return {output: folder / output for output in ("csv", "json", "parquet")}


def test_the_rows_are_those_of_the_store_itself(run: Path, stored: dict[str, TakenTable]) -> None:
    db = sqlite3.connect(run / "run.sqlite")
    kinds = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
    names = {name for (name,) in db.execute(kinds) if not name.startswith("sqlite")}
    assert set(stored) == names - {"checkpoint"}
    for name, table in stored.items():
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        there = db.execute(f"SELECT {columns} FROM {name}").fetchall()
        assert sorted(map(plain, there)) == sorted(map(plain, table.rows))


def plain(row: tuple[Any, ...]) -> list[str]:
    """A row to sort by and to compare: 10 is 10.0, and what is missing is nothing else."""
    return [repr(float(v)) if isinstance(v, int | float) else repr(v) for v in row]


def in_csv(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.reader(file)


def test_csv_gives_back_every_value_bit_by_bit(
    stored: dict[str, TakenTable], exported: dict[str, Path]
) -> None:
    compared = 0
    for name, table in stored.items():
        heading, *rows = in_csv(exported["csv"] / f"{name}.csv")
        assert heading == [column.name for column in table.columns]
        assert len(rows) == len(list(table.rows))
        for cells, values in zip(rows, table.rows, strict=True):
            for column, cell, value in zip(table.columns, cells, values, strict=True):
                compared += 1
                if value is None:
                    assert cell == ""
                elif column.kind == "REAL":
                    assert float(cell) == value
                    assert math.copysign(1, float(cell)) == math.copysign(1, value)
                elif column.kind == "INTEGER":
                    assert int(cell) == value
                else:
                    assert unguarded(cell) == value
    assert compared > 5000


def test_no_cell_of_csv_is_a_formula_and_what_is_missing_is_never_zero(
    stored: dict[str, TakenTable], exported: dict[str, Path]
) -> None:
    _, *rows = in_csv(exported["csv"] / "device_rounds.csv")
    for row in rows:
        for cell in row:
            assert not cell.startswith(("=", "@", "+", "\t")) and not cell.startswith("-2+")
    raw = (exported["csv"] / "device_rounds.csv").read_bytes()
    assert raw.count(b"\r\n") >= len(rows) + 1
    frame = pandas.read_csv(exported["csv"] / "device_rounds.csv")
    unread = frame[frame.device == "unread"]
    assert unread.energy_j.isna().all() and (unread.known_j > 0).all()
    assert frame[frame.device == "silent"].busy_s.isna().all()


def test_pandas_and_parquet_hold_the_same_as_the_store(
    stored: dict[str, TakenTable], exported: dict[str, Path]
) -> None:
    for name, table in stored.items():
        read = parquet.read_table(exported["parquet"] / f"{name}.parquet")
        names = [column.name for column in table.columns]
        assert read.column_names == names
        assert [tuple(row[n] for n in names) for row in read.to_pylist()] == list(table.rows)
        for column in table.columns:
            told = read.schema.field(column.name).metadata
            assert told[b"description"].decode() == column.meaning
            assert told.get(b"unit", b"").decode() == column.unit
    phases = pandas.read_parquet(exported["parquet"] / "phases.parquet")
    again = pandas.read_csv(exported["csv"] / "phases.csv")
    pandas.testing.assert_series_equal(phases.energy_j, again.energy_j, rtol=1e-14)


def test_json_holds_the_same_with_json_inside_as_json(
    stored: dict[str, TakenTable], exported: dict[str, Path]
) -> None:
    for name, table in stored.items():
        found = json.loads((exported["json"] / f"{name}.json").read_bytes())
        for row, values in zip(found, table.rows, strict=True):
            for column, value in zip(table.columns, values, strict=True):
                inside = column.kind == "JSON" and value is not None
                assert row[column.name] == (json.loads(value) if inside else value)


def test_the_package_describes_every_file_and_every_column(
    stored: dict[str, TakenTable], exported: dict[str, Path]
) -> None:
    import hashlib

    for output, folder in exported.items():
        told = json.loads((folder / "datapackage.json").read_bytes())
        assert {r["path"] for r in told["resources"]} | {"datapackage.json"} == {
            path.name for path in folder.iterdir()
        }
        for resource in told["resources"]:
            data = (folder / resource["path"]).read_bytes()
            assert resource["bytes"] == len(data)
            assert resource["hash"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
            table = stored[resource["name"]]
            assert resource["fimi"]["rows"] == len(list(table.rows))
            assert [f["name"] for f in resource["schema"]["fields"]] == [
                c.name for c in table.columns
            ]
            assert resource["schema"]["missingValues"] == [""]
        energy = next(
            field
            for resource in told["resources"]
            if resource["name"] == "phases"
            for field in resource["schema"]["fields"]
            if field["name"] == "energy_j"
        )
        assert (energy["type"], energy["unit"]) == ("number", "J")
        assert (told["fimi"]["guarded_cells"] > 0) == (output == "csv")


def test_an_export_is_the_same_every_time_and_takes_the_place_of_an_earlier_one(
    run: Path, tmp_path: Path
) -> None:
    first = export(run, "csv", tmp_path / "out")
    (tmp_path / "out" / "left-over.csv").write_text("x")
    before = {p.name: p.read_bytes() for p in first.folder.glob("*") if p.name != "left-over.csv"}
    export(run, "csv", tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert "phases.csv" in before and "sample.csv" not in before


def test_what_is_no_export_is_not_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OccupiedFolderError, match="no earlier export"):
        export(run, "csv", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_that_cannot_be_read_leaves_the_export_before_it(run: Path, tmp_path: Path) -> None:
    export(run, "json", tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    broken = tmp_path / "run.sqlite"
    broken.write_bytes((run / "run.sqlite").read_bytes()[:20_000])
    with pytest.raises(ReportError):
        export(broken, "json", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run.sqlite"]


@given(st.text(alphabet=st.sampled_from("=+-@\t\r'1a.e \n"), max_size=6) | st.text(max_size=9))
def test_text_is_safe_and_can_be_had_back(text: str) -> None:
    safe = guarded(text)
    assert unguarded(safe) == text
    if safe[:2] == "--":  # an option: nothing in it calls, links, or begins another program
        assert safe[2:3].islower() and not set(safe) & set("=+@\t\r\n'\"|!()&*^%<>;:{}[]")
    elif safe[:1] in tuple("=+-@\t\r") and safe:
        assert math.isfinite(float(safe)) or math.isinf(float(safe))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("--devices", "--devices"),
        ("--devices device-01, device-02", "--devices device-01, device-02"),
        ("--set plan.deadline_s", "--set plan.deadline_s"),
        ("-5.2e-3", "-5.2e-3"),
        ("--5", "'--5"),
        ("--cmd|' /C calc'!A0", "'--cmd|' /C calc'!A0"),
        ("--a=1", "'--a=1"),
        ("--a WEBSERVICE(B1)", "'--a WEBSERVICE(B1)"),
        ("--a\n=1", "'--a\n=1"),
        ("-2+3", "'-2+3"),
        ("'--devices", "''--devices"),
    ],
)
def test_options_of_a_command_are_no_formula_and_what_runs_is(text: str, cell: str) -> None:
    assert guarded(text) == cell
    assert unguarded(cell) == text


FULL = """
import resource, sys
from pathlib import Path
from fimi.record.export.writing import export
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    export(Path(sys.argv[1]), "csv", Path(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_takes_no_more_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(run), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("ReportError")
    assert "cannot be written" in ended.stdout
    assert not list(tmp_path.iterdir())

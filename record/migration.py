"""Older stores, read as if this version had written them.

:func:`bring_up` makes temporary views in an open, read-only store, so that every table and column
of :mod:`fimi.record.schema` is found by its name. Nothing is written to the file and nothing is
copied; what an older store does not have is unknown.

* Version 0 had no version number: the run was described by rows of key and JSON, and a prediction
  stood in the row of the last stretch of its phase.
* Up to version 2 a plan had one energy, the dynamic one, and measured powers of a board stood in a
  table of frequencies instead of operating points.
* Up to version 3 a meter said whether its readings are means, and not over how long a time.
* Up to version 4 the offer of a batch named the size of its chunks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import msgspec

from fimi.record.description import StoreColumn, StoreTable
from fimi.record.schema import (
    DEPLOYMENT,
    DEVICE_PLAN,
    PLAN,
    PREDICTION,
    PROFILE,
    REFIT,
    RUN,
    SAMPLE,
    TABLES,
    VERSION,
)
from fimi.record.views import VIEWS

ALWAYS = {"run", "event", "profile", "plan", "device_plan", "round", "device_round", "sample"}
"""Tables that every version has had."""

READ = (0, 2, 3, 4, VERSION)
"""Versions that can be read; there was no version 1."""

FILLED_BEFORE = ("fimi", "fimi-genfl", "hdc", "gan", "clsd", "data-only")
"""Strategies of before there were versions that give devices labelled synthetic samples."""


def version(db: sqlite3.Connection) -> int:
    """The version that a store was written by."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def bring_up(db: sqlite3.Connection) -> None:
    """Make views for tables, columns and views that an open store lacks."""
    written_by = version(db)
    before_versions = written_by == 0
    moved_bodies = {name: body for before, name, body in _BODIES if written_by < before}
    for name, body in moved_bodies.items():
        db.create_function(f"{name}_of_before", 1, body, deterministic=True)
    views = dict(db.execute("SELECT name, sql FROM main.sqlite_master WHERE type = 'view'"))
    lacking = any(views.get(view.name) != view.create for view in VIEWS)
    for table in TABLES:
        there = {row[1] for row in db.execute(f"PRAGMA main.table_info({table.name})")}
        if before_versions and table.name in _OF_BEFORE and (there or table is PREDICTION):
            _lay(db, table.name, _OF_BEFORE[table.name](there))
            lacking = True
        elif table.name in moved_bodies and there:
            moved = f"{table.name}_of_before(body)"
            _lay(db, table.name, _select(table, there, table.name, body=moved))
            lacking = True
        elif not there >= {column.name for column in table.described}:
            _lay(db, table.name, _select(table, there, table.name if there else ""))
            lacking = True
    if lacking:  # a view of the file sees none of what was laid over it
        for view in VIEWS:
            db.execute(view.create.replace("CREATE VIEW", "CREATE TEMP VIEW", 1))


def _lay(db: sqlite3.Connection, name: str, select: str) -> None:
    db.execute(f"CREATE TEMP VIEW {name} AS {select}")


def _select(table: StoreTable[Any], there: set[str], source: str, **moved: str) -> str:
    """All columns of a table: those that are there, those that were called otherwise, NULL."""
    columns = ", ".join(
        f"{moved.get(c.name) or (c.name if c.name in there else _absent(c, source))} AS {c.name}"
        for c in table.described
    )
    return f"SELECT {columns} FROM main.{source}" if source else f"SELECT {columns} WHERE 0"


def _absent(column: StoreColumn, source: str) -> str:
    return "rowid" if column.name == "id" and source else "NULL"


def _run(_: set[str]) -> str:
    """Rows of key and JSON as one row."""

    def value(column: StoreColumn) -> str:
        key, *inside = column.path
        where = ".".join(["$", *inside])
        found = f"ELSE json_extract(value, '{where}')"
        if key == "fills_devices":  # follows from the strategy
            key, found = "strategy", f"WHEN json_extract(value, '$') IN {FILLED_BEFORE} THEN 1"
        # What is no JSON becomes a BLOB, which no field takes, so that the reader names it.
        spoilt = "CASE WHEN NOT json_valid(value) THEN CAST(value AS BLOB)"
        return f"(SELECT {spoilt} {found} END FROM main.run WHERE key = '{key}')"

    columns = ", ".join(f"{value(column)} AS {column.name}" for column in RUN.columns)
    return f"SELECT {columns}"


def _samples(there: set[str]) -> str:
    return f"{_select(SAMPLE, there, 'sample')} WHERE duration_s IS NOT NULL"


def _predictions(there: set[str]) -> str:
    moved = {
        "duration_s": "predicted_s",
        "board_j": "predicted_board_j",
        "dynamic_j": "predicted_dynamic_j",
    }
    there = {"id", "round", "device", "phase"}
    return f"{_select(PREDICTION, there, 'sample', **moved)} WHERE predicted_s IS NOT NULL"


def _deployments(there: set[str]) -> str:
    phase = "CASE WHEN start_s IS NOT NULL THEN 'inference' END"
    return _select(DEPLOYMENT, there, "deployment", phase=phase)


_OF_BEFORE = {
    "run": _run,
    "sample": _samples,
    "prediction": _predictions,
    "deployment": _deployments,
}


def _in_json(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    """A function of SQL that changes a JSON object; what is none stays, for the reader to name."""

    def changed(body: Any) -> Any:
        try:
            change(found := msgspec.json.decode(body, type=dict[str, Any]))
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, ZeroDivisionError):
            return body
        return msgspec.json.encode(found).decode()

    return changed


def _plan(body: dict[str, Any]) -> None:
    """The one energy of a plan was dynamic, and what the plan made least."""
    body.pop("gap_percent", None)
    dynamic = {key: body.pop(key) for key in ("energy_j", "bound_j") if key in body}
    if dynamic:
        body |= {"objective": "dynamic", "dynamic": dynamic}


def _board(body: dict[str, Any]) -> None:
    """Powers at measured frequencies are operating points."""
    compute = body.get("compute")
    if not isinstance(compute, dict):
        return
    frequencies = compute.pop("table_frequencies_hz", None) or ()
    powers = compute.pop("table_power_w", None) or ()
    if frequencies:
        compute["points"] = [
            {
                "name": f"cpu {frequency_hz / 1e9:.6g} GHz",
                "seconds_per_sample": compute["cycles_per_sample"] / frequency_hz,
                "power_w": power_w,
                "setting": {"cpu_hz": {"all": frequency_hz}},
            }
            for frequency_hz, power_w in zip(frequencies, powers, strict=True)
        ]


def _meter(body: dict[str, Any]) -> None:
    """A meter that averages and has no steps of power is a counter."""
    meter = body["hardware"]["meter"]
    averages = meter.pop("averages", False)
    meter["counts"] = averages and not meter.get("resolution_w")


def _profile(body: dict[str, Any]) -> None:
    if isinstance(board := body.get("board"), dict):
        _board(board)
    _meter(body)


def _device_plan(body: dict[str, Any]) -> None:
    """The offer of a batch names no size of chunks: every payload has blocks of one size."""
    top_ups = [each["batch"] for each in body.get("top_ups", ())]
    for offer in (body.get("batch"), *top_ups):
        if offer is not None:
            offer.pop("chunk_bytes", None)


_BODIES: tuple[tuple[int, str, Callable[[Any], Any]], ...] = (
    (3, PLAN.name, _in_json(_plan)),
    (3, REFIT.name, _in_json(_board)),
    (4, PROFILE.name, _in_json(_profile)),
    (5, DEVICE_PLAN.name, _in_json(_device_plan)),
)
"""Tables whose JSON was another before a version, with a function of SQL that makes it this one."""

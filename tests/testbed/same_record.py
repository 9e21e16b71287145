"""Whether two run stores hold the same record, to the last digit.

* :func:`differences`  where two records differ, in words
* :data:`APART`        what may differ between two runs of one configuration: wall-clock time,
  random ids, the name
* :data:`EVENTS`       what is compared of the log

Nothing of the product is used to read them.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

APART = {
    "run": (
        *("run", "instance", "resumed", "config.run.name", "config.run.directory", "origins"),
        *("started_at", "finished_at", "wall_s", "stages_wall_s"),
    ),
    "profile": ("body.run", "body.boot_id", "body.fingerprint"),  # salted by the instance
    "plan": ("body.search_s", "body.certificate_s"),
    "device_plan": ("body.run",),
    "device_round": ("trained_from", "trained_until"),
    "insight": ("seconds",),
    "server_round": ("seconds", "energy_j", "uncertainty_j"),  # real work of this machine
}
"""Columns, or keys in them, that are not compared, by table."""

EVENTS = {
    "planned": (),
    "batch-delivered": ("seconds", "energy", "drawn", "refused"),  # of what a process drew itself
    "plan-in-force": (),
    "update-rejected": (),
    "round-finished": (),
    "refitted": (),
    "credited": (),
    "not-deployed": (),
}
"""Events that are compared, as a set, and what is left out of each. The others tell of processes
that come and go, of rounds that were begun, and of exports, which are in tables of their own."""


def differences(one: Path, other: Path, rounds: Container[int] | None = None) -> list[str]:
    """Where the records of two run folders differ; empty if nowhere.

    Args:
        one: a run folder.
        other: another one.
        rounds: compare only what is stored of these rounds.
    """
    ones, others = _tables(one), _tables(other)
    if rounds is not None:
        ones, others = _of_rounds(ones, rounds), _of_rounds(others, rounds)
    found = [f"table {name} is in one only" for name in sorted(ones.keys() ^ others.keys())]
    # Of processes, no record; and how readings are dealt to the starts of a device.
    for name in sorted(ones.keys() & others.keys() - {"checkpoint", "readings"}):
        found += _compare(name, ones[name], others[name])
    return found


def _of_rounds(
    tables: dict[str, list[dict[str, Any]]], rounds: Container[int]
) -> dict[str, list[dict[str, Any]]]:
    """The rows that are of some rounds."""
    return {
        name: [row for row in rows if row.get("round", row.get("number")) in rounds]
        for name, rows in tables.items()
    }


def _tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    path = folder / "run.sqlite"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        names = [
            name
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("sqlite_")
        ]
        return {name: [dict(row) for row in db.execute(f"SELECT * FROM {name}")] for name in names}


def _compare(table: str, ones: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[str]:
    if table == "event":
        ours, theirs = _events(ones), _events(others)
        return [f"event only in one: {each}" for each in sorted(ours ^ theirs)]
    ours = sorted((dict(_flat(table, row)) for row in ones), key=_order)
    theirs = sorted((dict(_flat(table, row)) for row in others), key=_order)
    if len(ours) != len(theirs):
        return [f"table {table}: {len(ours)} rows and {len(theirs)} rows", *_odd(ours, theirs)]
    return [
        f"table {table}, {_place(mine)}: {key} is {mine.get(key)!r} and {its.get(key)!r}"
        for mine, its in zip(ours, theirs, strict=True)
        for key in dict.fromkeys((*mine, *its))
        if mine.get(key) != its.get(key)
    ]


def _flat(table: str, row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The columns of a row with the keys of those that hold JSON, as far as they are compared."""
    apart = APART.get(table, ())
    for column, value in row.items():
        if column in ("id", *apart):  # id: the order in which rows were written
            continue
        parsed = _parsed(value)
        if isinstance(parsed, dict):
            for key, each in parsed.items():
                if f"{column}.{key}" not in apart:
                    yield f"{column}.{key}", json.dumps(each, sort_keys=True)
        else:
            yield column, value


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return None


def _order(row: dict[str, Any]) -> str:
    first = ("round", "number", "device", "variant", "stage", "start_s", "phase")
    return repr([row.get(key) for key in first] + [row[key] for key in sorted(row)])


def _place(row: dict[str, Any]) -> str:
    keys = ("round", "number", "device", "phase", "variant", "stage")
    return ", ".join(f"{key} {row[key]}" for key in keys if key in row) or "its row"


def _odd(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    """Rows that are in one only, or more often."""
    mine, its = (Counter(map(_place, rows)) for rows in (ours, theirs))
    return [f"  only in one: {place}" for place in sorted((mine - its) + (its - mine))][:10]


def _events(rows: list[dict[str, Any]]) -> set[str]:
    found = set()
    for row in rows:
        if (apart := EVENTS.get(row["event"])) is not None:
            body = {k: v for k, v in json.loads(row["body"]).items() if k not in apart}
            found.add(json.dumps(body, sort_keys=True))
    return found

"""The views: flat, of the same figures as the types, and documented column by column."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from random_values import structs

from fimi.energy.joules import Energy, total
from fimi.learning.training.trainer import Evaluation
from fimi.record.reader import open_store
from fimi.record.results import DeviceRound, RoundResult, metered
from fimi.record.schema import TABLES
from fimi.record.store import RunStore
from fimi.record.views import VIEWS

ROOT = Path(__file__).parents[2]
ALIKE = {"gpu": "cpu"}  # as wide as one another


def rows(db: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    found = db.execute(query)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def is_energy(row: dict[str, Any], energy: Energy | None, prefix: str = "") -> bool:
    """Whether five columns say what an energy does."""
    joules = row[f"{prefix}j" if prefix else "energy_j"]
    said = [joules, *(row[f"{prefix}{n}"] for n in ("kind", "scope", "uncertainty_j"))]
    if energy is None:
        return said == [None] * 4
    scopes = {ALIKE.get(scope, scope) for scope in (said[2], energy.scope)}
    return (
        math.isclose(joules, energy.value_j, rel_tol=1e-9)
        and said[1] == energy.kind
        and len(scopes) == 1
        and math.isclose(said[3], energy.uncertainty_j, rel_tol=1e-6, abs_tol=1e-9)
    )


@settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    entries=st.lists(
        structs(DeviceRound, device=st.text(min_size=1, max_size=4)),
        max_size=4,
        unique_by=lambda entry: entry.device,
    )
)
def test_joules_are_those_of_the_types(entries: list[DeviceRound]) -> None:
    result = RoundResult(
        number=1,
        start_s=0.0,
        duration_s=1.0,
        evaluation=Evaluation(accuracy=0.5, loss=1.0, class_accuracy=(None, 1.0), samples=4),
        devices=tuple(entries),
    )
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "run.sqlite")
        store.write_round(result)
        store.close()
        with open_store(Path(folder)) as (_, db):
            phases = rows(db, "SELECT * FROM phases")
            devices = rows(db, "SELECT * FROM device_rounds")
            (whole,) = rows(db, "SELECT * FROM rounds")
    by_name = {entry.device: entry for entry in entries}
    wanted = {(e.device, p.phase) for e in entries for p in (*e.phases, *e.predicted)}
    assert {(row["device"], row["phase"]) for row in phases} == wanted
    assert len(phases) == len(wanted)
    for row in phases:
        entry = by_name[row["device"]]
        records = [record for record in entry.phases if record.phase == row["phase"]]
        costs = [cost for cost in entry.predicted if cost.phase == row["phase"]]
        unread = sum(record.energy is None for record in records)
        assert (row["stretches"], row["unmetered"]) == (len(records), unread)
        assert is_energy(row, metered(records))
        known = [record.energy for record in records if record.energy is not None]
        assert is_energy(row, total(known, one_meter=True), "known_")
        assert (row["predicted_board_j"] is None) == (not costs)
        if costs:
            assert row["predicted_board_j"] == pytest.approx(
                math.fsum(cost.board_j for cost in costs), abs=1e-3
            )
    assert len(devices) == len(entries)
    for row in devices:
        assert is_energy(row, by_name[row["device"]].energy)
    assert (whole["devices"] or 0, whole["accepted"] or 0) == (len(entries), result.accepted)
    assert (whole["participants"] or 0) == len(result.participants)
    energies = [entry.energy for entry in entries if entry.energy is not None]
    assert (whole["unmetered"] or 0) == len(entries) - len(energies)
    complete = bool(entries) and len(energies) == len(entries)
    assert is_energy(whole, total(energies) if complete else None)


@pytest.fixture
def db(run_dir: Path) -> Any:
    """A stored run, as anybody opens it."""
    db = sqlite3.connect(run_dir / "run.sqlite")
    yield db
    db.close()


def test_a_gap_is_named_beside_what_is_known(tmp_path: Path, build: Any) -> None:
    entries = [build.device_round("a"), build.device_round("b", unread={"compute"})]
    build.write(tmp_path, names=("a", "b"), rounds=[build.round_result(1, entries, 0.5)])
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        (whole,) = rows(db, "SELECT * FROM rounds")
        (_, gap) = rows(db, "SELECT * FROM device_rounds ORDER BY device")
    db.close()
    assert (whole["energy_j"], whole["unmetered"]) == (None, 1)
    assert whole["known_j"] == pytest.approx(2 * build.measured_j - 20.0)
    assert (gap["energy_j"], gap["unmetered"]) == (None, 1)
    assert gap["known_j"] == pytest.approx(build.measured_j - 20.0)


def test_what_a_run_was_told_and_planned(db: sqlite3.Connection) -> None:
    assert db.execute("SELECT key, value, origin FROM settings ORDER BY key").fetchall() == [
        ("plan.deadline_s", "12.0", "default"),
        ("rounds.count", "3", "--rounds"),
        ("run.name", "a-run", None),
    ]
    (plan,) = rows(db, "SELECT * FROM plans")
    assert (plan["planned_j"], plan["planned_bound_j"], plan["gap_percent"]) == (10.1, 10.0, 1.0)
    share = rows(db, "SELECT * FROM device_plans")[1]
    assert (share["device"], share["bandwidth_hz"]) == ("device-1", 5e4)
    assert (share["synthetic_samples"], share["compute_s"], share["upload_s"]) == (6, 4.0, 1.0)
    assert (share["planned_board_j"], share["planned_dynamic_j"]) == (30.5, 15.0)
    (board, _) = rows(db, "SELECT * FROM profiles")
    assert (board["board"], board["local_samples"]) == ("raspberry-pi-4", 10)
    assert (board["idle_power_w"], board["downlink_rate_bps"]) == (2.5, 1e7)
    assert db.execute("SELECT round, class, accuracy FROM classes").fetchall()[:2] == [
        (1, 0, 0.5),
        (1, 1, None),
    ]


def test_what_moved_and_what_was_observed(tmp_path: Path, build: Any) -> None:
    entry = replace(build.talkative("a"), unlabelled_samples=7)
    build.write(tmp_path, names=("a",), rounds=[build.round_result(1, [entry], 0.5)])
    with open_store(tmp_path) as (_, db):
        (row,) = rows(db, "SELECT * FROM device_rounds")
        compute = rows(db, "SELECT * FROM phases WHERE phase = 'compute'")[0]
    assert (row["down_bytes"], row["up_bytes"], row["throttled"]) == (100_000, 100_000, 2)
    assert (row["clock_hz"], row["cap_hz"], row["unlabelled_samples"]) == (1.3e9, 1.4e9, 7)
    assert is_energy(compute, entry.phases[1].cpu, "cpu_")
    assert compute["source"] == "meter"


def test_no_view_has_json_inside(db: sqlite3.Connection) -> None:
    for view in VIEWS:
        for row in rows(db, f"SELECT * FROM {view.name}"):
            assert not [n for n, v in row.items() if isinstance(v, str) and v[:1] in ("{", "[")]


def test_views_and_tables_have_the_columns_that_are_described(db: sqlite3.Connection) -> None:
    for each in (*VIEWS, *TABLES):
        described = each.columns if each in VIEWS else each.described  # type: ignore[union-attr]
        there = [row[1] for row in db.execute(f"PRAGMA table_info({each.name})")]
        assert there == [column.name for column in described]


def test_no_joules_of_a_view_are_bare() -> None:
    for view in VIEWS:
        names = {column.name for column in view.columns}
        for name in names:
            if name.endswith("_j") and not name.endswith("uncertainty_j"):
                prefix = "" if name == "energy_j" else name.split("_")[0] + "_"
                beside = {f"{prefix}{n}" for n in ("kind", "source", "scope", "uncertainty_j")}
                assert beside <= names, f"{view.name}.{name}"


def test_the_page_documents_every_column_with_its_unit() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "document_record.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
    for each in (*VIEWS, *TABLES):
        section = page.split(f"### `{each.name}`\n")[1].split("\n### ")[0]
        for column in each.columns:
            assert f"| `{column.name}` |" in section
            assert column.kind in ("TEXT", "JSON") or f"| {column.unit} |" in section


def test_pandas_reads_the_views(run_dir: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with open_store(run_dir) as (_, db):
        frame = pandas.read_sql("SELECT * FROM phases", db)
    assert len(frame) == 26
    assert frame["energy_j"].notna().all()

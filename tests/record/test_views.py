"""The views: flat, of the same figures as the types, and documented column by column."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from random_values import structs

from fimi.energy.cost_model import PHASES
from fimi.energy.joules import Energy
from fimi.learning.training.trainer import Evaluation
from fimi.record.phases import round_parts
from fimi.record.reader import open_store
from fimi.record.results import DeviceRound, RoundResult, metered
from fimi.record.schema import TABLES
from fimi.record.store import RunStore
from fimi.record.sums import EnergyPart, EnergyTally
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
    entries = [  # a phase has one prediction
        replace(e, predicted=tuple({cost.phase: cost for cost in e.predicted}.values()))
        for e in entries
    ]
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
    waiting = [e for e in entries if e.predicted and any(p.phase == "waiting" for p in e.phases)]
    assert {(row["device"], row["phase"]) for row in phases} == wanted
    assert len(phases) == len(wanted)
    for row in phases:
        entry = by_name[row["device"]]
        records = [record for record in entry.phases if record.phase == row["phase"]]
        costs = [cost for cost in entry.predicted if cost.phase == row["phase"]]
        unread = sum(record.energy is None for record in records)
        assert row["stretches"] == len(records)
        assert not records or row["unmetered"] == unread
        assert is_energy(row, metered(records))
        is_foreseen = row["phase"] == "waiting" and entry in waiting  # 0 J, as no plan has it
        assert (row["predicted_board_j"] is None) == (not costs and not is_foreseen)
        if is_foreseen and not costs:
            assert (row["predicted_board_j"], row["predicted_s"]) == (0.0, 0.0)
        if costs:
            assert row["predicted_board_j"] == pytest.approx(
                math.fsum(cost.board_j for cost in costs), abs=1e-3
            )
    assert len(devices) == len(entries)
    parts = round_parts(result)
    for row in devices:
        own = [part for part in parts if part.device == row["device"]]
        assert is_sum(row, own)
    assert (whole["devices"] or 0, whole["accepted"] or 0) == (len(entries), result.accepted)
    assert (whole["participants"] or 0) == len(result.participants)
    assert (whole["absent"] or 0) == sum(entry.status == "absent" for entry in entries)
    gaps = {gap.device for gap in EnergyTally(parts).sum().missing}
    assert (whole["unmetered"] or 0) == len(gaps)
    bounds = [by_name[device].unknown_max for device in gaps]
    assert (whole["unknown_max_j"] is None) == (not bounds or None in bounds)
    unknown_max = EnergyTally(parts).sum().unknown_max
    assert whole["unknown_max_j"] == (unknown_max and pytest.approx(unknown_max.value_j))
    for column in ("kind", "uncertainty_j"):
        wanted_of = getattr(unknown_max, column, None)
        assert whole[f"unknown_{column}"] == (
            pytest.approx(wanted_of) if isinstance(wanted_of, float) else wanted_of
        )
    assert is_sum(whole, parts)


def is_sum(row: dict[str, Any], parts: Sequence[EnergyPart]) -> bool:
    """Whether a row says what a sum of parts does."""
    found = EnergyTally(parts)
    predicted_j = found.compared().whole_predicted_j
    known = found.sum().known
    source = known.source if known else None
    return (
        is_energy(row, found.sum().value)
        and is_energy(row, found.sum().known, "known_")
        and (row["known_source"] == source or "\0" in str(source))  # SQLite ends texts there
        and row["predicted_board_j"]
        == (None if predicted_j is None else pytest.approx(predicted_j, abs=1e-3))
    )


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
    assert (plan["objective"], plan["planned_j"], plan["planned_bound_j"]) == ("board", 10.1, 10.0)
    assert (plan["planned_board_j"], plan["planned_dynamic_j"]) == (10.1, 4.0)
    assert plan["gap_percent"] == plan["board_gap_percent"] == pytest.approx(1.0)
    assert plan["dynamic_gap_percent"] == pytest.approx(25.0)
    assert (plan["round_s"], plan["planned_preparation_j"]) == (7.5, 0.5)
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


def test_predictions_are_of_the_same_phases_or_unknown(tmp_path: Path, build: Any) -> None:
    whole, rests = build.device_round("a"), build.device_round("r", status="resting")
    rests = replace(rests, phases=rests.phases[-1:], predicted=rests.predicted[-1:])
    without = [
        replace(
            whole, device=phase, predicted=tuple(c for c in whole.predicted if c.phase != phase)
        )
        for phase in ("idle", "upload")
    ]
    unread = build.device_round("unread", unread={"compute"})
    rounds = [
        build.round_result(number, entries, 0.5)
        for number, entries in enumerate(
            ([whole, rests], [*without], [whole, unread], [whole, without[0]]), 1
        )
    ]
    build.write(tmp_path, names="a", rounds=rounds)
    with open_store(tmp_path) as (_, db):
        query = "SELECT round, device, predicted_board_j, predicted_dynamic_j FROM device_rounds"
        found = {row[:2]: row[2:] for row in db.execute(query)}
        query = "SELECT predicted_board_j, predicted_dynamic_j FROM rounds"
        fleet = db.execute(query).fetchall()
    board, dynamic = build.predicted_j, build.predicted_dynamic_j
    assert found[1, "a"] == (pytest.approx(board), pytest.approx(dynamic))
    assert found[1, "r"] == (4.0, None)
    assert found[2, "idle"] == (None, pytest.approx(dynamic))
    assert found[2, "upload"] == found[3, "unread"] == (None, None)
    assert fleet == [
        (pytest.approx(board + 4.0), pytest.approx(dynamic)),
        (None, None),
        (None, None),
        (None, pytest.approx(2 * dynamic)),
    ]


def test_a_source_with_a_comma_is_one_source(tmp_path: Path, build: Any) -> None:
    sources = ("z, at the back", "b+a", "a")
    phases = tuple(build.record(p, 1.0, 1.0, s) for p, s in zip(PHASES, sources, strict=False))
    entry = build.device_round("x", phases=phases, predicted=())
    build.write(tmp_path, names="x", rounds=[build.round_result(1, [entry], 0.5)])
    with open_store(tmp_path) as (_, db):
        assert db.execute("SELECT source FROM rounds").fetchone() == ("a+b+z, at the back",)


def test_settings_are_plain_text(tmp_path: Path, build: Any) -> None:
    config = {"a": [0.5, "x"], "b": True, "c": False, "d": [], "e": None, "f": 3}
    build.write(tmp_path, about={"config": config})
    with open_store(tmp_path) as (_, db):
        found = dict(db.execute("SELECT key, value FROM settings"))
    assert found == {"a": "0.5, x", "b": "true", "c": "false", "d": "", "e": None, "f": "3"}


def test_one_cell_that_is_no_json_hides_no_other_row(tmp_path: Path, build: Any) -> None:
    build.write(tmp_path, rounds=[build.round_result(1, [build.talkative("a")], 0.5)])
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        db.execute("UPDATE observation SET throttled = 'often'")
        for table in ("plan", "device_plan", "profile"):
            db.execute(f"UPDATE {table} SET body = '[1'")
        db.execute("UPDATE round SET class_accuracy = '[1'")
        db.execute("UPDATE run SET config = '[1'")
        for view in VIEWS:
            db.execute(f"SELECT * FROM {view.name}").fetchall()
        assert db.execute("SELECT throttled FROM device_rounds").fetchone() == (None,)
    db.close()


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
            if name.endswith("_j") and not name.endswith(("uncertainty_j", "common_j")):
                prefix = "" if name in ("energy_j", "most_j") else name.split("_")[0] + "_"
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

"""A store that was written before there were versions is read, and so is one with less in it.

``store_before_versions.sql`` is the whole store of a dry run with three devices and two rounds.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from fimi.coordinator.strategies import STRATEGIES
from fimi.energy.cost_model import BoardModel, speed_hz
from fimi.record import migration, schema
from fimi.record.phases import round_parts
from fimi.record.reader import open_store, read_info, read_run
from fimi.record.record import RunData
from fimi.record.store import RunStore
from fimi.record.store_file import StoreError
from fimi.record.sums import EnergyTally
from fimi.record.views import VIEWS

DUMP = Path(__file__).parent / "store_before_versions.sql"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("before") / "run.sqlite"
    db = sqlite3.connect(path)
    db.executescript(DUMP.read_text(encoding="utf-8"))
    db.close()
    return path


@pytest.fixture(scope="module")
def run(store: Path) -> RunData:
    return read_run(store)


def asked(store: Path, query: str) -> list[tuple[object, ...]]:
    """What the file itself holds, in its own tables."""
    db = sqlite3.connect(store)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def test_the_run_itself(run: RunData) -> None:
    info = run.info
    assert (info.run, info.strategy, info.seed, info.status) == ("before", "fimi", 3, "completed")
    assert info.config["plan.error_max"] == 0.05
    assert info.origins["plan.error_max"] == "--set plan.error_max"
    assert info.dataset.name == "digits"
    assert (info.dataset.partition, info.dataset.limit) == ("dirichlet", None)
    assert len(info.dataset.class_names) == 10
    assert info.stages_wall_s["devices"] > 0.0
    assert info.fills_devices is True
    assert run.warnings == ()


def test_metered_and_predicted_phases(store: Path, run: RunData) -> None:
    entries = [entry for result in run.rounds for entry in result.devices]
    phases = [p for e in (*run.preparations, *entries) for p in e.phases]
    costs = [c for e in (*run.preparations, *entries) for c in e.predicted]
    assert [(p.phase, p.energy.value_j) for p in phases if p.energy] == asked(
        store, "SELECT phase, energy_j FROM sample WHERE duration_s > 0 ORDER BY round, device, id"
    )
    assert [(c.phase, c.board_j, c.dynamic_j) for c in costs] == asked(
        store,
        "SELECT phase, predicted_board_j, predicted_dynamic_j FROM sample "
        "WHERE predicted_s IS NOT NULL ORDER BY round, device, id",
    )
    assert {e.unlabelled_samples for e in entries} == {None}
    assert all(e.transfers and e.observed and e.trained_at for e in entries)


def test_all_the_rest_is_there(run: RunData) -> None:
    assert run.devices == ("device-01", "device-02", "device-03")
    assert set(run.profiles) == set(run.device_plans) == set(run.devices)
    assert run.plan is not None
    assert run.plan.error_max == 0.05
    assert (run.plan.objective, run.plan.least) == ("dynamic", run.plan.dynamic)
    assert run.plan.dynamic.energy_j == 33.73120888989329
    assert run.plan.dynamic.gap_percent == pytest.approx(0.2611938750757112)
    assert (run.plan.board.energy_j, run.plan.board.gap_percent) == (None, None)
    assert (run.plan.round_s, run.plan.preparation_j) == (None, None)
    assert [len(made.tried) for made in run.made] == [6]
    assert all(trial.metered for made in run.made for _, trial in made.tried)
    assert run.residuals
    assert set(run.labels) == {"local", "filled"}
    assert run.generation is not None
    assert run.generation.requested > 0
    assert set(run.applied) == set(run.devices)


def test_what_came_later_is_unknown(store: Path, run: RunData) -> None:
    info = run.info
    assert (info.instance, info.contract, info.resumed) == ("", {}, 0)
    assert (run.confirmed, run.enrolments, run.resumptions) == ({}, (), ())
    assert {e.unknown_max for r in run.rounds for e in r.devices} == {None}
    with pytest.raises(StoreError, match=r"run store version 0, .* version 5"):
        RunStore.reopen(store)


def of_version_2(run_dir: Path, tables: dict[str, dict[str, object]]) -> Path:
    """The run as version 2 would have written it: its first device has a measured table."""
    with sqlite3.connect(run_dir / "run.sqlite") as db:
        db.execute("PRAGMA user_version = 2")
        plan = {"status": "optimal", "energy_j": 33.1, "bound_j": 32.9, "gap_percent": 0.6}
        db.execute("UPDATE plan SET body = ?", [msgspec.json.encode(plan).decode()])
        (text,) = db.execute("SELECT body FROM profile WHERE device = 'device-0'").fetchone()
        profile = msgspec.json.decode(text)
        del profile["board"]["compute"]["points"], profile["board"]["link"]["power_settable"]
        profile["board"]["compute"] |= tables
        body = msgspec.json.encode(profile).decode()
        db.execute("UPDATE profile SET body = ? WHERE device = 'device-0'", [body])
        db.execute(
            "INSERT INTO refit VALUES (1, 'device-0', 20.0, ?)",
            [msgspec.json.encode(profile["board"]).decode()],
        )
    db.close()
    return run_dir


def test_a_table_of_frequencies_is_read_as_operating_points(run_dir: Path) -> None:
    measured = {"table_frequencies_hz": [6e8, 1.2e9, 1.8e9], "table_power_w": [0.5, 1.1, 2.7]}
    run = read_run(of_version_2(run_dir, measured))
    assert run.warnings == ()
    assert run.plan is not None
    assert (run.plan.objective, run.plan.least.energy_j, run.plan.least.bound_j) == (
        "dynamic",
        33.1,
        32.9,
    )
    compute = run.profiles["device-0"].board.compute
    assert [speed_hz(compute, point) for point in compute.points] == pytest.approx(
        measured["table_frequencies_hz"]
    )
    assert [point.power_w for point in compute.points] == measured["table_power_w"]
    assert [point.name for point in compute.points] == ["cpu 0.6 GHz", "cpu 1.2 GHz", "cpu 1.8 GHz"]
    assert run.profiles["device-1"].board.compute.points == ()
    with open_store(run_dir) as (_, db):
        ((_, (text,)),) = schema.REFIT.rows(db)
        refitted = msgspec.json.decode(text, type=BoardModel)
        found = db.execute("SELECT operating_points FROM profiles ORDER BY device").fetchall()
        plans = db.execute("SELECT planned_j, gap_percent, planned_board_j FROM plans").fetchall()
    assert refitted == run.profiles["device-0"].board
    assert found == [(3,), (0,)]
    assert plans == [(33.1, pytest.approx(100 * (33.1 - 32.9) / 32.9), None)]


@pytest.mark.parametrize("powers", [[0.5], ["a", "b"], 3])
def test_a_spoilt_table_is_named(run_dir: Path, powers: object) -> None:
    spoilt = {"table_frequencies_hz": [6e8, 1.2e9], "table_power_w": powers}
    run = read_run(of_version_2(run_dir, spoilt))
    assert [warning.split(" cannot")[0] for warning in run.warnings] == ["profile device-0"]
    assert set(run.profiles) == {"device-1"}


def test_views_are_there_and_nothing_is_written(store: Path, run: RunData) -> None:
    before = store.read_bytes()
    with open_store(store) as (_, db):
        for view in VIEWS:
            assert db.execute(f"SELECT * FROM {view.name}").fetchone() is not None, view.name
        energies = db.execute("SELECT energy_j FROM rounds ORDER BY number").fetchall()
    assert [joules for (joules,) in energies] == [
        pytest.approx(EnergyTally(round_parts(result)).sum().value_j) for result in run.rounds
    ]
    assert store.read_bytes() == before
    assert read_info(store) == (run.info, 2)


def test_a_run_of_before_that_was_killed(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(store.read_bytes())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE run SET value = '\"running\"' WHERE key = 'status'")
        db.execute("DELETE FROM event WHERE event = 'run-finished'")
    db.close()
    run = read_run(path)
    assert (run.info.status, run.warnings) == ("running", ())
    assert len(run.rounds) == 2


def test_a_spoilt_value_of_before_is_named(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    path.write_bytes(store.read_bytes())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE run SET value = '\"amq' WHERE key = 'broker'")
        db.execute("UPDATE run SET value = '{\"plan' WHERE key = 'config'")
    db.close()
    run = read_run(path)
    assert [warning.split()[0] for warning in run.warnings] == ["run.config", "run.broker"]
    assert (run.info.broker, run.info.config, run.info.seed) == ("", {}, 3)
    with open_store(path) as (_, db):
        assert db.execute("SELECT * FROM settings").fetchall() == []


def test_strategies_that_fill_devices_are_those_of_the_coordinator() -> None:
    filling = [name for name, strategy in STRATEGIES.items() if strategy.fills_devices]
    assert list(migration.FILLED_BEFORE) == filling


@pytest.mark.parametrize(
    "change",
    [
        "DROP VIEW phases",
        "DROP TABLE observation",
        "DROP TABLE enrolment",
        "ALTER TABLE device_round DROP COLUMN unknown_kind",
        "ALTER TABLE profile DROP COLUMN contract_digest",
        "ALTER TABLE device_round DROP COLUMN trained_from",
    ],
)
def test_what_a_store_of_this_version_lacks_is_unknown_in_views(run_dir: Path, change: str) -> None:
    with sqlite3.connect(run_dir / "run.sqlite") as db:
        views = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall()
        for name, _ in views:
            db.execute(f"DROP VIEW {name}")
        if change.startswith("DROP VIEW"):
            db.execute("CREATE VIEW phases AS SELECT round FROM sample")
        else:
            db.execute(change)
            for _, sql in views:  # as they are in a file that was written by this version
                db.execute(sql)
    db.close()
    with open_store(run_dir) as (_, db):
        found = db.execute("SELECT round, trained_from, clock_hz FROM device_rounds").fetchall()
        assert db.execute("SELECT sum(energy_j) FROM phases").fetchone()[0] > 0
    assert found[0] == (1, None, None)
    assert len(found) == 6

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fimi.energy.hardware import Applied
from fimi.record.events import PlanInForce
from fimi.record.reader import ReportError, open_store, read_run
from fimi.record.schema import VERSION
from fimi.record.store import RunStore
from fimi.record.summary import summarise


def without_views(db: sqlite3.Connection) -> None:
    """Views name columns, and SQLite drops no column that a view names."""
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
        db.execute(f"DROP VIEW {name}")


LOOK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT * FROM run").fetchall()
db.close()
"""


def test_reading_a_run_where_it_is_written_keeps_its_log(tmp_path: Path, build: Any) -> None:
    """As a dashboard does, in the coordinator's process; then somebody else looks into the store.

    Whoever closes a store last removes its log, and asks the locks whether it is the last.
    """
    store = build.write(tmp_path / "a-run", close=False)
    log = tmp_path / "a-run" / "run.sqlite-wal"
    assert log.exists()
    assert len(read_run(tmp_path / "a-run").rounds) == 3
    command = [sys.executable, "-c", LOOK, str(tmp_path / "a-run" / "run.sqlite")]
    subprocess.run(command, check=True)
    assert log.exists()
    store.end("completed", "seen by others")
    store.close()
    assert read_run(tmp_path / "a-run").info.reason == "seen by others"


class TestReading:
    def test_reads_what_was_written(self, run_dir: Path, build: Any) -> None:
        run = read_run(run_dir)
        assert run.info.run == "a-run"
        assert run.info.status == "completed"
        assert run.info.wall_s == 12.5
        assert run.info.dataset.class_names == ("zero", "one")
        assert run.devices == ("device-0", "device-1")
        assert [r.evaluation.accuracy for r in run.rounds] == [0.5, 0.8, 0.7]
        assert run.rounds[0].evaluation.class_accuracy == (0.5, None)
        assert run.rounds[0].devices[0] == build.device_round("device-0")
        assert run.device_plans["device-1"].point.bandwidth_hz == 5e4
        assert run.profiles["device-0"].board.idle_power_w == 2.5
        assert run.warnings == ()

    def test_the_store_itself_may_be_named(self, run_dir: Path) -> None:
        assert read_run(run_dir / "run.sqlite") == read_run(run_dir)

    def test_plan_keeps_unknown_fields_out_and_the_infeasible_start_in(self, run_dir: Path) -> None:
        plan = read_run(run_dir).plan
        assert plan is not None
        assert plan.least == plan.board
        assert (plan.board.energy_j, plan.board.bound_j) == (10.1, 10.0)
        assert plan.board.gap_percent == pytest.approx(1.0)
        assert plan.dynamic.gap_percent == pytest.approx(25.0)
        assert [step.best for step in plan.history] == [None, 10.5]

    def test_nothing_is_changed_and_nothing_left_behind(self, run_dir: Path) -> None:
        before = (run_dir / "run.sqlite").read_bytes()
        read_run(run_dir)
        assert (run_dir / "run.sqlite").read_bytes() == before
        assert [path.name for path in run_dir.iterdir()] == ["run.sqlite"]


class TestWhatDevicesObserved:
    def test_comes_back_as_it_was(self, tmp_path: Path, build: Any) -> None:
        written = build.round_result(1, [build.talkative("a"), build.device_round("b")], 0.25)
        build.write(tmp_path, rounds=[written])
        assert read_run(tmp_path).rounds == (written,)

    def test_a_store_of_before_is_read_and_nothing_is_made_up(
        self, tmp_path: Path, build: Any
    ) -> None:
        build.write(tmp_path, rounds=[build.round_result(1, [build.talkative("a")], 0.25)])
        with sqlite3.connect(tmp_path / "run.sqlite") as db:
            without_views(db)
            db.execute("DROP TABLE observation")
            db.execute("DROP TABLE transfer")
            for column in ("j", "kind", "source", "scope", "uncertainty_j"):
                db.execute(f"ALTER TABLE sample DROP COLUMN cpu_{column}")
            for column in ("trained_from", "trained_until"):
                db.execute(f"ALTER TABLE device_round DROP COLUMN {column}")
        db.close()
        (read,) = read_run(tmp_path).rounds[0].devices
        assert (read.observed, read.transfers, read.trained_at) == (None, (), None)
        assert [phase.cpu for phase in read.phases] == [None] * 4
        assert read.energy == build.device_round("a").energy

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("ALTER TABLE observation DROP COLUMN monitor_j", "monitor_energy .* without value_j"),
            ("UPDATE observation SET throttled = 'often'", "throttled"),
            ("UPDATE observation SET throttled = '[1]'", "left out"),
            ("UPDATE observation SET monitor_kind = NULL", "monitor_energy .* without kind"),
        ],
    )
    def test_what_is_spoilt_of_it_is_named(
        self, tmp_path: Path, build: Any, change: str, said: str
    ) -> None:
        build.write(tmp_path, rounds=[build.round_result(1, [build.talkative("a")], 0.25)])
        with sqlite3.connect(tmp_path / "run.sqlite") as db:
            without_views(db)
            db.execute(change)
        db.close()
        run = read_run(tmp_path)
        (warning,) = run.warnings
        assert re.match(f"observation, round 1, device a.*{said}", warning)
        assert run.rounds[0].devices[0].energy == build.talkative("a").energy

    def test_what_was_applied_is_taken_from_the_last_answer(
        self, tmp_path: Path, build: Any
    ) -> None:
        store = build.write(tmp_path, close=False)
        for hz in (1e9, 1.2e9):
            applied = Applied(
                frequency_hz=hz,
                frequency_control="duty-cycle",
                rate_bps=None,
                rate_control="none",
            )
            store.write_event(PlanInForce(device="a", notes=(), error="", applied=applied))
        store.close()
        assert read_run(tmp_path).applied == {"a": applied}


class TestRunsThatEndedEarly:
    def test_no_round_no_plan_no_keys(self, tmp_path: Path) -> None:
        RunStore(tmp_path / "run.sqlite").close()
        run = read_run(tmp_path)
        assert run.info.status == "running"
        assert run.info.run == tmp_path.name
        assert (run.rounds, run.plan, run.devices) == ((), None, ())

    def test_a_run_that_is_still_going(self, tmp_path: Path, build: Any) -> None:
        store = build.write(tmp_path, close=False)
        try:
            run = read_run(tmp_path)
            assert run.info.status == "running"
            assert len(run.rounds) == 3
        finally:
            store.close()

    def test_a_run_that_was_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        code = (
            "from pathlib import Path; import sys, time; from fimi.record.store import RunStore; "
            "from fimi.record.record import RunInfo; store = RunStore(Path(sys.argv[1])); "
            "store.describe(RunInfo(run='killed', strategy='tfl')); print('there', flush=True); "
            "time.sleep(600)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert read_run(path).info.status == "running"  # it goes on
        process.kill()
        process.wait()
        process.stdout.close()
        run = read_run(path)
        assert (run.info.run, run.info.status, run.warnings) == ("killed", "running", ())

    def test_a_crash_leaves_a_log_that_is_read(self, tmp_path: Path, build: Any) -> None:
        store = build.write(tmp_path / "going", close=False)
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for name in ("run.sqlite", "run.sqlite-wal"):
            shutil.copyfile(tmp_path / "going" / name, crashed / name)
        store.close()
        assert len(read_run(crashed).rounds) == 3

    def test_the_end_is_taken_from_the_log_of_events(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        from fimi.record.events import RunFinished

        store.write_event(RunFinished(status="interrupted", reason="stopped after 0 rounds"))
        store.close()
        info = read_run(tmp_path).info
        assert (info.status, info.reason) == ("interrupted", "stopped after 0 rounds")

    def test_what_cannot_be_decoded_is_named_and_the_rest_is_read(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("UPDATE profile SET body = '{\"x\": 1}' WHERE device = 'device-1'")
            db.execute("UPDATE round SET class_accuracy = '[0.5' WHERE number = 2")
            db.execute("UPDATE run SET config = '[1', origins = '[1]'")
        db.close()
        run = read_run(run_dir)
        assert list(run.profiles) == ["device-0"]
        assert [r.evaluation.class_accuracy for r in run.rounds] == [(0.5, None), (), (0.7, None)]
        assert any("class_accuracy" in warning for warning in run.warnings)
        assert (run.info.config, run.info.origins, run.info.seed) == ({}, {}, 3)
        assert any("device-1" in warning for warning in run.warnings)
        assert any("run.config" in warning for warning in run.warnings)
        assert any("run.origins" in warning for warning in run.warnings)

    @pytest.mark.parametrize("column", ["energy_j", "kind", "source"])
    def test_half_an_energy_is_unread(self, run_dir: Path, column: str) -> None:
        where = "round = 2 AND device = 'device-1' AND phase = 'compute'"
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute(f"UPDATE sample SET {column} = NULL WHERE {where}")
        db.close()
        run = read_run(run_dir)
        (warning,) = run.warnings
        assert warning.startswith("sample, round 2, device device-1, phase compute: energy ")
        (gap,) = summarise(run).energy.missing
        assert (gap.round, gap.device, gap.phase) == (2, "device-1", "compute")
        with open_store(run_dir) as (_, db):
            found = db.execute(f"SELECT energy_j, kind, unmetered FROM phases WHERE {where}")
            assert found.fetchall() == [(None, None, 1)]

    @pytest.mark.parametrize(
        ("table", "change", "place"),
        [
            (
                "sample",
                "kind = 'guessed'",
                "sample, round 1, device device-0, phase model-download",
            ),
            ("sample", "phase = 'sleep'", "sample, round 1, device device-0, phase sleep"),
            ("device_round", "status = 'odd'", "device_round, round 1, device device-0"),
        ],
    )
    def test_a_row_that_sums_need_refuses_and_is_named(
        self, run_dir: Path, table: str, change: str, place: str
    ) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute(
                f"UPDATE {table} SET {change} WHERE rowid = (SELECT min(rowid) FROM {table} "
                "WHERE round = 1)"
            )
        db.close()
        with pytest.raises(ReportError, match=place):
            read_run(run_dir)

    def test_spoilt_histograms_and_events_are_named(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("INSERT INTO label_skew VALUES ('device-0', 'local', '[1', 0, 0)")
            db.execute("INSERT INTO label_skew VALUES ('device-1', 'local', '[1, 2]', 0, 0)")
            db.execute("INSERT INTO event (at, event, body) VALUES (0, 'not-deployed', '{')")
        db.close()
        run = read_run(run_dir)
        assert list(run.labels["local"]) == ["device-1"]
        assert run.not_made is None
        assert any(w.startswith("label_skew, device device-0, stage local") for w in run.warnings)
        assert any(w.startswith("event not-deployed ") for w in run.warnings)

    def test_no_earlier_plan_stands_for_a_spoilt_one(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("INSERT INTO plan SELECT 2, '[1' FROM plan")
        db.close()
        run = read_run(run_dir)
        assert (run.plan, run.device_plans) == (None, {})
        assert run.warnings[0].startswith("plan 2, the one in force, cannot be read")

    def test_rows_of_no_round_are_named(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("DELETE FROM round WHERE number = 3")
            db.execute("DELETE FROM device_round WHERE round = 2 AND device = 'device-1'")
        db.close()
        (warning,) = read_run(run_dir).warnings
        for lost in ("round 2 of device-1", "round 3 of device-0", "round 3 of device-1"):
            assert lost in warning

    def test_two_runs_in_a_store_are_named(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("CREATE TEMP TABLE copy AS SELECT * FROM run")
            db.execute("UPDATE copy SET run = 'z-run'")
            db.execute("INSERT INTO run SELECT * FROM copy")
        db.close()
        run = read_run(run_dir)
        assert run.info.run == "z-run"
        (warning,) = run.warnings
        assert "table run has 2 rows" in warning

    def test_notes_of_devices(self, tmp_path: Path) -> None:
        from fimi.record.events import BatchDelivered, PlanInForce

        store = RunStore(tmp_path / "run.sqlite")
        store.write_event(PlanInForce(device="a", notes=("too fast",), error=""))
        store.write_event(
            BatchDelivered(device="a", requested=9, delivered=7, seconds=1.0, error="")
        )
        store.write_event(PlanInForce(device="b", notes=(), error=""))
        store.close()
        run = read_run(tmp_path)
        assert run.generation is not None
        assert run.generation.undelivered == 2
        assert run.notes == {"a": ("too fast", "7 of 9 synthetic samples were delivered")}


class TestErrors:
    def test_no_such_run(self, tmp_path: Path) -> None:
        with pytest.raises(ReportError, match="no run here"):
            read_run(tmp_path / "nothing")

    def test_not_a_database(self, tmp_path: Path) -> None:
        (tmp_path / "run.sqlite").write_text("not a database, whatever its name says\n" * 100)
        with pytest.raises(ReportError, match="not a readable run store"):
            read_run(tmp_path)

    def test_another_database(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "run.sqlite") as db:
            db.execute("CREATE TABLE round (x)")
        db.close()
        with pytest.raises(ReportError, match=r"lacks the tables .*sample"):
            read_run(tmp_path)

    def test_a_store_of_a_newer_version(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute(f"PRAGMA user_version = {VERSION + 1}")
        db.close()
        with pytest.raises(ReportError, match=rf"newer version .* up to {VERSION}\); update"):
            read_run(run_dir)

    def test_a_store_of_no_version(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("PRAGMA user_version = 1")
        db.close()
        with pytest.raises(ReportError, match="no run store version 1, only 0, 2, 3, 4 and 5"):
            read_run(run_dir)

    def test_impossible_joules(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("UPDATE sample SET energy_j = 9e999")
        db.close()
        with pytest.raises(ReportError, match="damaged"):
            read_run(run_dir)

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fimi.energy.hardware import Applied
from fimi.record.events import PlanInForce
from fimi.record.reader import ReportError, read_run
from fimi.record.schema import VERSION
from fimi.record.store import RunStore


def without_views(db: sqlite3.Connection) -> None:
    """Views name columns, and SQLite drops no column that a view names."""
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall():
        db.execute(f"DROP VIEW {name}")


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
        assert (plan.energy_j, plan.bound_j, plan.gap_percent) == (10.1, 10.0, 1.0)
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
        "change",
        [
            "ALTER TABLE observation DROP COLUMN monitor_j",
            "UPDATE observation SET throttled = 'often'",
            "UPDATE observation SET monitor_kind = NULL, monitor_source = NULL",
        ],
    )
    def test_one_of_another_version_is_refused(
        self, tmp_path: Path, build: Any, change: str
    ) -> None:
        build.write(tmp_path, rounds=[build.round_result(1, [build.talkative("a")], 0.25)])
        with sqlite3.connect(tmp_path / "run.sqlite") as db:
            without_views(db)
            db.execute(change)
        db.close()
        with pytest.raises(ReportError, match="damaged, or of another version"):
            read_run(tmp_path)

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

    def test_impossible_joules(self, run_dir: Path) -> None:
        with sqlite3.connect(run_dir / "run.sqlite") as db:
            db.execute("UPDATE sample SET energy_j = 9e999")
        db.close()
        with pytest.raises(ReportError, match="damaged"):
            read_run(run_dir)

"""A run that ended early is gone on with: from its checkpoint, by one process at a time."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from stored_runs import device_round, round_result

from fimi.files import FileInUse
from fimi.record import reopening, schema
from fimi.record.events import Resumed, RoundStarted, RunFinished
from fimi.record.reader import open_store, read_run
from fimi.record.record import RunInfo
from fimi.record.results import RoundResult
from fimi.record.store import RunStore
from fimi.record.store_file import StoreError, lock_store

ROOT = Path(__file__).parents[2]
PATHS = [str(ROOT / each) for each in ("", "tests/record")]


def result(number: int) -> RoundResult:
    return round_result(number, [device_round("a")], 0.5)


def begun(folder: Path, **about: Any) -> Path:
    """A run that was stopped after a round; the path of its store."""
    folder.mkdir(exist_ok=True)
    store = RunStore(folder / "run.sqlite")
    store.describe(RunInfo(run=folder.name, seed=4, instance="ab", **about))
    store.write_round(result(1), checkpoint={"model": b"\x00one", "plan": b"{}"})
    store.write_event(RoundStarted(round=2, devices=("a",)))
    store.end("interrupted", "stopped after 1 round", "2026-01-01T00:00:00+01:00")
    store.write_event(RunFinished(status="interrupted", reason="stopped after 1 round"))
    store.close()
    return folder / "run.sqlite"


class TestCheckpoint:
    def test_it_comes_back_byte_for_byte(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        assert store.read_checkpoint() == {}
        parts = {"a": bytes(range(256)), "b": b""}
        store.write_checkpoint(parts)
        store.write_checkpoint({"b": b"2", "c": b"3"})
        assert store.read_checkpoint() == {**parts, "b": b"2", "c": b"3"}
        store.close()

    def test_it_is_of_the_round_that_is_stored(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        store.write_round(result(1), checkpoint={"round": b"1"})
        with pytest.raises(StoreError):  # the round is there: neither it nor its checkpoint
            store.write_round(result(1), checkpoint={"round": b"2"})
        assert store.read_checkpoint() == {"round": b"1"}
        store.close()

    def test_killed_at_any_moment_both_are_there_or_neither(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        code = textwrap.dedent(f"""
            import sys; sys.path[:0] = {PATHS!r}
            import itertools
            from pathlib import Path
            from fimi.record.store import RunStore
            from test_reopening import result
            store = RunStore(Path({str(path)!r}))
            for number in itertools.count(1):
                store.write_round(result(number), checkpoint={{"round": str(number).encode()}})
                print(number, flush=True)
        """)
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 7:
            pass
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([7, *map(int, writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        store = RunStore.reopen(path)
        assert store.resumed_after in (acknowledged, acknowledged + 1)
        assert store.read_checkpoint() == {"round": str(store.resumed_after).encode()}
        store.write_round(result(store.resumed_after + 1))
        store.close()
        assert [each.name for each in tmp_path.iterdir()] == ["run.sqlite"]


class TestReopening:
    def test_the_run_goes_on(self, tmp_path: Path) -> None:
        path = begun(tmp_path / "a-run")
        store = RunStore.reopen(path)
        assert store.resumed_after == 1
        assert store.read_checkpoint() == {"model": b"\x00one", "plan": b"{}"}
        info = read_run(path).info
        assert info == store.info
        assert (info.status, info.reason, info.finished_at) == ("running", "", "")
        assert (info.resumed, info.instance, info.seed) == (1, "ab", 4)
        store.write_event(RoundStarted(round=2, devices=("a",)))
        store.write_round(result(2))
        store.end("completed", "2 rounds")
        store.close()
        run = read_run(path)
        assert (run.info.status, [r.number for r in run.rounds]) == ("completed", [1, 2])
        assert [each.after_round for each in run.resumptions] == [1]
        assert run.warnings == ()
        with open_store(path) as (_, db):
            tags = [tag for (tag,) in db.execute("SELECT event FROM event ORDER BY id")]
        assert tags == ["round-started", "run-finished", "resumed", "round-started"]

    def test_killed_after_a_resume_it_is_running_and_can_be_gone_on_with(
        self, tmp_path: Path
    ) -> None:
        """Its log still has the end of the first process."""
        path = begun(tmp_path / "a")
        RunStore.reopen(path)  # never closed: as after a kill
        copy = tmp_path / "b"
        copy.mkdir()
        for name in ("run.sqlite", "run.sqlite-wal"):
            shutil.copyfile(path.with_name(name), copy / name)
        assert read_run(copy).info.status == "running"
        again = RunStore.reopen(copy / "run.sqlite")
        assert again.info.resumed == 2
        again.close()

    def test_wall_time_is_that_of_all_processes(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        store = RunStore(path)
        store.spend(wall_s=10.0, stages_wall_s={"plan": 2.0, "devices": 5.0})
        store.spend(wall_s=12.0)
        store.spend(stages_wall_s={"plan": 2.0, "devices": 7.0})
        store.close()
        for wall_s in (22.0, 32.0):
            store = RunStore.reopen(path)
            for share in (0.5, 1.0):  # told more than once, it is added once
                store.spend(
                    wall_s=10.0 * share, stages_wall_s={"devices": 4.0 * share, "settle": 1.0}
                )
            assert store.info.wall_s == pytest.approx(wall_s)
            store.close()
        stages = read_run(path).info.stages_wall_s
        assert stages == {"plan": 2.0, "devices": 15.0, "settle": 2.0}

    def test_a_process_that_says_nothing_at_its_end_has_told_its_time(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        store = RunStore(path)
        store.write_round(result(1), checkpoint={"a": b""}, stages_wall_s={"plan": 2.0})
        first_s = store.info.wall_s
        store.close()
        assert first_s is not None and first_s > 0.0
        store = RunStore.reopen(path)
        store.write_checkpoint({"a": b""}, {"plan": 1.0})
        assert store.info.wall_s is not None and store.info.wall_s > first_s
        assert store.info.stages_wall_s == {"plan": 3.0}
        store.close()

    def test_a_preparation_that_is_told_again_counts_once(self, tmp_path: Path, build: Any) -> None:
        store = build.write(tmp_path, rounds=[], close=False)
        before = read_run(tmp_path).preparations
        for preparation in before:
            store.write_preparation(preparation)
        store.close()
        assert read_run(tmp_path).preparations == before


class TestRefusals:
    def refused(self, path: Path, why: str) -> None:
        """Refused, with nothing changed and nothing held."""
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(StoreError, match=why) as caught:
            RunStore.reopen(path)
        assert str(path) in str(caught.value)
        assert (path.read_bytes() if path.exists() else None) == before
        assert not path.with_suffix(".lock").exists()

    def test_no_run(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "run.sqlite", "there is no run to go on with")

    def test_a_completed_run(self, tmp_path: Path) -> None:
        path = begun(tmp_path / "a-run")
        store = RunStore.reopen(path)
        store.end("completed", "2 rounds")
        store.close()
        self.refused(path, r"the run a-run is completed \(2 rounds\)")

    def test_a_run_whose_end_is_in_the_log_only(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        store.write_event(RunFinished(status="completed", reason="2 rounds"))
        store.close()
        self.refused(tmp_path / "run.sqlite", "is completed")

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ("PRAGMA user_version = 6", "version 6, .* of version 5; resume it with the release"),
            ("PRAGMA user_version = 2", "version 2, .* of version 5; resume it with the release"),
            ("PRAGMA user_version = 0", "version 0"),
            ("DROP TABLE checkpoint", "older release: its table checkpoint is not there"),
            ("DELETE FROM run", "table run has 0 rows"),
            ("UPDATE run SET status = 'odd'", "Invalid enum value 'odd'"),
            ("UPDATE run SET config = '[1'", "table run cannot be read, the store is damaged"),
        ],
    )
    def test_a_store_that_is_not_as_this_release_writes_it(
        self, tmp_path: Path, change: str, why: str
    ) -> None:
        path = begun(tmp_path / "a-run")
        with sqlite3.connect(path) as db:
            db.execute(change)
        db.close()
        self.refused(path, why)

    def test_no_store_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "run.sqlite").write_text("not a database, whatever its name says\n" * 100)
        self.refused(tmp_path / "run.sqlite", "not a database")

    def test_a_column_that_an_older_release_did_not_have(self, tmp_path: Path) -> None:
        path = begun(tmp_path / "a-run")
        with sqlite3.connect(path) as db:
            for (view,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'view'"):
                db.execute(f"DROP VIEW {view}")
            db.execute("ALTER TABLE run DROP COLUMN instance")
        db.close()
        self.refused(path, "older release: its table run lacks instance")


class TestOneProcess:
    def test_a_store_that_is_open_is_refused_with_its_holder(self, tmp_path: Path) -> None:
        path = tmp_path / "run.sqlite"
        code = textwrap.dedent(f"""
            import sys; sys.path[:0] = {PATHS!r}
            from pathlib import Path
            from fimi.record.store import RunStore
            store = RunStore(Path({str(path)!r}))
            print("open", flush=True)
            sys.stdin.read()
        """)
        holder = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=rf"is written by process {holder.pid} on .+; wait"):
            RunStore.reopen(path)
        assert read_run(path).info.status == "running"  # readers are not held up
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
        holder.stdin.close()
        assert path.with_suffix(".lock").exists()  # which says nothing any more
        RunStore.reopen(path).close()
        assert not path.with_suffix(".lock").exists()

    def test_nor_does_the_same_process_open_it_twice(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        with pytest.raises(StoreError, match="is written by process"):
            RunStore.reopen(tmp_path / "run.sqlite")
        store.close()
        RunStore.reopen(tmp_path / "run.sqlite").close()

    def test_of_many_at_once_one_holds_it(self, tmp_path: Path) -> None:
        """Each takes the lock 200 times, and counts in a file what only one may do at a time."""
        code = textwrap.dedent(f"""
            import sys; sys.path[:0] = {PATHS!r}
            from pathlib import Path
            from fimi.files import FileInUse
            from fimi.record.store_file import lock_store
            folder = Path({str(tmp_path)!r})
            taken = 0
            while taken < 200:
                try:
                    lock = lock_store(folder / "run.sqlite")
                except FileInUse:
                    continue
                inside = folder / "inside"
                inside.touch(exist_ok=False)
                inside.unlink()
                lock.release()
                taken += 1
        """)
        several = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
        assert [each.wait(timeout=120) for each in several] == [0, 0, 0]

    def test_a_lock_that_was_let_go_is_let_go_once(self, tmp_path: Path) -> None:
        first = lock_store(tmp_path / "run.sqlite")
        first.release()
        second = lock_store(tmp_path / "run.sqlite")
        first.release()
        with pytest.raises(FileInUse, match="process"):
            lock_store(tmp_path / "run.sqlite")
        second.release()


def test_the_log_knows_how_a_run_that_was_gone_on_with_ended(tmp_path: Path) -> None:
    """Its table cannot say so any more: the disk was full."""
    store = RunStore(tmp_path / "run.sqlite")
    for event in (
        RunFinished(status="failed", reason="no devices"),
        Resumed(after_round=0),
        RunFinished(status="completed", reason="2 rounds"),
    ):
        store.write_event(event)
    store.close()
    assert read_run(tmp_path).info.status == "completed"
    assert issubclass(reopening.NotResumable, ValueError)
    assert schema.CHECKPOINT in schema.TABLES

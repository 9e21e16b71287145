"""The run store: whole after a crash, clear when it cannot be written."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import msgspec
import pytest
from scripted import record

from fimi.energy.cost_model import PhaseCost
from fimi.energy.hardware import Observation
from fimi.energy.joules import Energy
from fimi.energy.meters.sampler import MonitorCost
from fimi.energy.observe.link import LinkState
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages.basis import Goodput
from fimi.record.events import DeviceLost, SearchProgress
from fimi.record.reader import read_run
from fimi.record.record import RunInfo
from fimi.record.results import DeviceRound, Preparation, RoundResult, ServerRound
from fimi.record.store import RunStore
from fimi.record.store_file import StoreError
from fimi.record.summary import summarise
from fimi.report.page import render

ROOT = Path(__file__).parents[2]
PATHS = [str(ROOT / each) for each in ("", "tests/coordinator", "tests/record")]


def cost(phase: str, board_j: float) -> PhaseCost:
    return PhaseCost(phase=phase, duration_s=1.0, dynamic_j=0.5, board_j=board_j)  # type: ignore[arg-type]


def result(number: int) -> RoundResult:
    device = DeviceRound(
        device="device-1",
        status="accepted",
        phases=(record("idle", 0.5), record("compute", 3.0), record("idle", None)),
        predicted=(cost("compute", 2.5), cost("upload", 1.5), cost("idle", 1.0)),
    )
    missing = DeviceRound(device="device-2", status="missing", predicted=(cost("idle", 9.0),))
    return RoundResult(
        number=number,
        start_s=number * 10.0,
        duration_s=10.0,
        evaluation=Evaluation(accuracy=0.5, loss=1.0, class_accuracy=(0.5, None), samples=4),
        devices=(device, missing),
    )


def test_a_round_is_read_back_as_it_was(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.sqlite")
    store.describe(RunInfo(run="a", strategy="fimi", seed=4))
    store.spend(wall_s=2.0)
    store.end("failed", "no devices")
    store.write_event(DeviceLost(device="device-2", reason="went offline"))
    store.write_event(SearchProgress(step=1))
    store.write_preparation(
        Preparation(
            device="device-1",
            phases=(record("synthetic-download", 0.25),),
            predicted=(cost("synthetic-download", 0.2),),
        )
    )
    store.write_round(result(1))
    store.close()
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        assert db.execute(
            "SELECT run, strategy, seed, wall_s, status, reason FROM run"
        ).fetchall() == [("a", "fimi", 4, 2.0, "failed", "no devices")]
        events = [json.loads(body) for (body,) in db.execute("SELECT body FROM event")]
        assert events == [{"event": "device-lost", "device": "device-2", "reason": "went offline"}]
        assert json.loads(db.execute("SELECT class_accuracy FROM round").fetchone()[0]) == [
            0.5,
            None,
        ]
        assert db.execute(
            "SELECT round, device, phase, energy_j, kind FROM sample ORDER BY id"
        ).fetchall() == [
            (0, "device-1", "synthetic-download", 0.25, "emulated"),
            (1, "device-1", "idle", 0.5, "emulated"),
            (1, "device-1", "compute", 3.0, "emulated"),
            (1, "device-1", "idle", None, None),  # read nothing: missing, not zero
        ]
        assert db.execute(
            "SELECT round, device, phase, board_j FROM prediction ORDER BY id"
        ).fetchall() == [
            (0, "device-1", "synthetic-download", 0.2),
            (1, "device-1", "compute", 2.5),
            (1, "device-1", "upload", 1.5),
            (1, "device-1", "idle", 1.0),
            (1, "device-2", "idle", 9.0),
        ]
    assert [path.name for path in tmp_path.iterdir()] == ["run.sqlite"]


def test_what_a_device_observed_is_kept_and_what_it_did_not_is_null(tmp_path: Path) -> None:
    share = Energy(value_j=1.5, kind="measured", source="rapl", scope="cpu", uncertainty_j=0.25)
    cost_of_watching = Energy(value_j=0.1, kind="modelled", source="profile", scope="cpu")
    talkative, silent = result(1).devices
    talkative = msgspec.structs.replace(
        talkative,
        phases=(msgspec.structs.replace(record("compute", 3.0), cpu=share), record("upload", 1.0)),
        transfers=(Goodput(phase="upload", size_bytes=1000, duration_s=0.5),),
        observed=Observation(
            frequency_hz=9e8,
            frequency_source="cycles",
            cap_hz=1e9,
            throttled={"x86-core": 2},
            link=LinkState(interface="wlan0", rate_bps=6.5e7, signal_dbm=-61.0),
            rate_limit_bps=2e5,
            monitor=MonitorCost(cpu_s=0.02, wall_s=10.0, looks=100, failed=1),
            monitor_energy=cost_of_watching,
            temperature_c=61.5,
            doubts=("hwmon:ina219: it shows 0 W",),
        ),
    )
    silent = msgspec.structs.replace(silent, observed=Observation())
    store = RunStore(tmp_path / "run.sqlite")
    moved = Goodput(phase="synthetic-download", size_bytes=500, duration_s=0.25)
    store.write_preparation(
        Preparation(device="device-1", phases=(), predicted=(), transfers=(moved,))
    )
    store.write_round(msgspec.structs.replace(result(1), devices=(talkative, silent)))
    store.close()
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        assert db.execute("SELECT * FROM transfer ORDER BY id").fetchall() == [
            (1, 0, "device-1", "synthetic-download", 500, 0.25),
            (2, 1, "device-1", "upload", 1000, 0.5),
        ]
        spoken, unspoken = db.execute("SELECT * FROM observation ORDER BY device").fetchall()
        assert spoken == (
            *(1, "device-1", 9e8, "cycles", 1e9, '{"x86-core":2}', 2e5, "wlan0", 6.5e7, -61.0),
            *(0.02, 10.0, 100, 1, 0.1, "modelled", "profile", "cpu", 0.0, None, 61.5),
            '["hwmon:ina219: it shows 0 W"]',
        )
        assert unspoken == (1, "device-2", None, "", *(None,) * 17, "[]")
        assert db.execute(
            "SELECT cpu_j, cpu_kind, cpu_source, cpu_scope, cpu_uncertainty_j FROM sample"
            " WHERE device = 'device-1' AND readings IS NOT NULL ORDER BY id"
        ).fetchall() == [(1.5, "measured", "rapl", "cpu", 0.25), (None,) * 5]


def test_a_round_is_written_once(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.sqlite")
    store.write_round(result(1))
    with pytest.raises(StoreError, match="what was written before is safe"):
        store.write_round(result(1))
    store.write_round(result(2))
    store.close()
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        assert db.execute("SELECT count(*) FROM sample WHERE round > 0").fetchone() == (6,)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
class TestNotFinite:
    """Never a reason to end a run with talk of the disk, and never zero."""

    def test_where_a_value_may_be_unknown_it_is(self, tmp_path: Path, value: float) -> None:
        diverged = msgspec.structs.replace(
            result(1),
            evaluation=Evaluation(accuracy=0.1, loss=value, class_accuracy=(value,), samples=4),
            devices=(DeviceRound(device="a", status="failed", training_loss=value, busy_s=value),),
            server=ServerRound(images=1, seconds=1.0, energy=None, loss=value),
        )
        store = RunStore(tmp_path / "run.sqlite")
        store.write_round(diverged)
        store.close()
        run = read_run(tmp_path)
        (read,) = run.rounds
        assert (read.evaluation.loss, read.evaluation.class_accuracy) == (None, (None,))
        assert (read.devices[0].training_loss, read.devices[0].busy_s) == (None, None)
        assert read.server is not None and read.server.loss is None
        assert summarise(run).points[0].loss is None
        assert "not finite" in render(run)
        with sqlite3.connect(tmp_path / "run.sqlite") as db:
            assert db.execute("SELECT loss FROM rounds").fetchone() == (None,)
        db.close()

    def test_where_it_must_be_known_it_is_named(self, tmp_path: Path, value: float) -> None:
        spoilt = PhaseCost(phase="upload", duration_s=1.0, dynamic_j=0.5, board_j=value)
        entry = msgspec.structs.replace(result(1).devices[0], predicted=(spoilt,))
        store = RunStore(tmp_path / "run.sqlite")
        with pytest.raises(StoreError) as caught:
            store.write_round(msgspec.structs.replace(result(1), devices=(entry,)))
        said = str(caught.value)
        assert "board_j of table prediction, round 1, device device-1, phase upload" in said
        assert f"is {value}" in said
        assert "disk" not in said
        store.write_round(result(1))  # nothing of it was left behind
        store.close()


class TestWhatADatabaseDoesNotTake:
    def test_what_must_be_there_is_named(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        with pytest.raises(StoreError) as caught:
            store.write_round(msgspec.structs.replace(result(1), duration_s=None))
        said = str(caught.value)
        assert "round.duration_s (round, number 1; duration_s = None)" in said
        assert "make room" not in said
        store.close()

    def test_what_is_of_another_type_is_named(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        entry = msgspec.structs.replace(result(1).devices[0], busy_s="long")
        with pytest.raises(StoreError, match=r"device_round.busy_s .*busy_s = 'long'"):
            store.write_round(msgspec.structs.replace(result(1), devices=(entry,)))
        store.close()

    def test_what_is_there_is_named(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        store.write_round(result(1))
        with pytest.raises(StoreError, match=r"UNIQUE .*round.number \(round, number 1; .*disk is"):
            store.write_round(result(1))
        store.close()


def test_it_does_not_write_over_a_run(tmp_path: Path) -> None:
    RunStore(tmp_path / "run.sqlite").close()
    with pytest.raises(StoreError, match="exists; choose another run name"):
        RunStore(tmp_path / "run.sqlite")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot create the run store"):
        RunStore(tmp_path / "none" / "run.sqlite")


def test_nothing_that_was_written_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    code = textwrap.dedent(f"""
        import sys; sys.path[:0] = {PATHS!r}
        import itertools
        from pathlib import Path
        from fimi.record.store import RunStore
        from test_store import result
        store = RunStore(Path({str(path)!r}))
        for number in itertools.count(1):
            store.write_round(result(number))
            print(number, flush=True)
    """)
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    while int(writer.stdout.readline()) < 20:
        pass
    time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)
    acknowledged = max([20, *map(int, writer.stdout.read().split())])
    writer.wait()
    writer.stdout.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (rounds,) = db.execute("SELECT count(*) FROM round").fetchone()
        assert rounds in (acknowledged, acknowledged + 1)
        assert db.execute("SELECT count(*) FROM sample").fetchone() == (rounds * 3,)
        assert db.execute("SELECT count(*) FROM prediction").fetchone() == (rounds * 4,)


@pytest.mark.skipif(os.name != "posix", reason="limits of processes are a POSIX thing")
def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    code = textwrap.dedent(f"""
        import sys; sys.path[:0] = {PATHS!r}
        import itertools, resource, signal
        from pathlib import Path
        from fimi.record.store import RunStore
        from fimi.record.store_file import StoreError
        from test_store import result
        store = RunStore(Path({str(path)!r}))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # no file may grow beyond half a megabyte
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        try:
            for number in itertools.count(1):
                store.write_round(result(number))
        except StoreError as error:
            print(number - 1, error)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    acknowledged, _, message = done.stdout.partition(" ")
    assert str(path) in message
    assert "safe" in message
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM round").fetchone() == (int(acknowledged),)


def reader(path: Path) -> sqlite3.Connection:
    """Somebody who looks at a store that is being written."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    db.execute("SELECT * FROM run").fetchall()
    return db


@pytest.mark.parametrize("inside", [False, True], ids=["idle", "within a transaction"])
def test_a_reader_is_no_reason_to_fail(tmp_path: Path, inside: bool) -> None:
    path = tmp_path / "run.sqlite"
    store = RunStore(path)
    db = reader(path)
    if inside:
        db.execute("BEGIN")
        db.execute("SELECT * FROM run").fetchall()
    store.write_round(result(1))
    store.close(patience_s=0.1)
    db.close()
    after = reader(path)
    assert after.execute("SELECT number FROM round").fetchall() == [(1,)]


def test_a_reader_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    store = RunStore(path)
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
    db.execute("SELECT * FROM run").fetchall()
    leaving = threading.Timer(0.2, db.close)
    leaving.start()
    store.close(patience_s=30.0)
    leaving.join()
    assert [each.name for each in tmp_path.iterdir()] == ["run.sqlite"]

"""The run store: one SQLite file per run, readable by anything, complete after a crash.

Tables::

    run           key, value             configuration, versions, status; one row per key
    event         id, at, event, body    everything that happened, in order
    profile       device, body           what each device said of itself
    plan          id, body               the fleet's plan with bound, gap and search history
    device_plan   plan, device, body     each device's share of it
    round         number, ...            time, accuracy and loss of each round
    device_round  round, device, ...     what became of each device in each round
    sample        round, device, phase   every metered phase beside its prediction (round 0: before)

``body`` columns hold JSON. A round is written in one transaction, synchronously: what a reader
sees is whole. Closing folds the write-ahead log into the file.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from coordinator.events import Event, Planned, RoundFinished, SearchProgress
from coordinator.results import Preparation, RoundResult
from energy.cost_model import PhaseCost
from energy.ledger import PhaseRecord

_SCHEMA = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE event (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE profile (device TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE plan (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE device_plan (
    plan INTEGER NOT NULL REFERENCES plan, device TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (plan, device)) STRICT;
CREATE TABLE round (
    number INTEGER PRIMARY KEY, start_s REAL NOT NULL, duration_s REAL NOT NULL,
    accuracy REAL NOT NULL, loss REAL NOT NULL, class_accuracy TEXT NOT NULL,
    test_samples INTEGER NOT NULL) STRICT;
CREATE TABLE device_round (
    round INTEGER NOT NULL REFERENCES round, device TEXT NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL, busy_s REAL, frequency_hz REAL, local_samples INTEGER NOT NULL,
    synthetic_samples INTEGER NOT NULL, training_loss REAL, training_accuracy REAL,
    backend TEXT NOT NULL, PRIMARY KEY (round, device)) STRICT;
CREATE TABLE sample (
    id INTEGER PRIMARY KEY, round INTEGER NOT NULL, device TEXT NOT NULL, phase TEXT NOT NULL,
    start_s REAL, duration_s REAL, energy_j REAL, kind TEXT, source TEXT, scope TEXT,
    uncertainty_j REAL, readings INTEGER, largest_gap_s REAL,
    predicted_s REAL, predicted_board_j REAL, predicted_dynamic_j REAL) STRICT;
CREATE INDEX sample_by_round ON sample (round, device);
"""


class StoreError(RuntimeError):
    """The run store cannot be created, written or read; the message says where and why."""


class RunStore:
    """Writes one run.

    Args:
        path: the file, ``runs/<name>/run.sqlite``; must not exist yet.

    Raises:
        StoreError: it exists, or cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        if path.exists():
            raise StoreError(f"{path} exists; choose another run name or remove that run")
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
        except sqlite3.Error as error:
            raise StoreError(f"cannot create the run store {path}: {error}") from error

    def put(self, **values: Any) -> None:
        """Set keys of the table ``run``; values are stored as JSON."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO run VALUES (?, ?)",
                [(key, _json(value)) for key, value in values.items()],
            )

    def write_event(self, event: Event) -> None:
        """Append an event; plans, their search and rounds are kept whole in their own tables."""
        if isinstance(event, SearchProgress):
            return
        body: dict[str, Any]
        if isinstance(event, RoundFinished):
            body = {"event": "round-finished", "round": event.result.number}
        elif isinstance(event, Planned):
            body = {"event": "planned", "synthetic_samples": event.synthetic_samples}
        else:
            body = msgspec.to_builtins(event, enc_hook=_plain)
        with self._transaction():
            self._db.execute(
                "INSERT INTO event (at, event, body) VALUES (?, ?, ?)",
                (time.time(), body["event"], _json(body)),
            )

    def write_profile(self, device: str, profile: msgspec.Struct) -> None:
        """Store what a device said of itself; the last word counts."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO profile VALUES (?, ?)", (device, _json(profile))
            )

    def write_plan(self, plan: Any) -> None:
        """Store a plan of the fleet."""
        with self._transaction():
            self._db.execute("INSERT INTO plan (body) VALUES (?)", (_json(plan),))

    def write_device_plans(self, devices: dict[str, Any]) -> None:
        """Store each device's share of the latest plan."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO device_plan SELECT max(id), ?, ? FROM plan",
                [(device, _json(body)) for device, body in devices.items()],
            )

    @property
    def has_plan(self) -> bool:
        """Whether the run has come to a plan."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM plan LIMIT 1").fetchone() is not None

    def write_preparation(self, preparation: Preparation) -> None:
        """Store what a device did before the first round."""
        with self._transaction():
            self._write_samples(0, preparation.device, preparation.phases, preparation.predicted)

    def write_round(self, result: RoundResult) -> None:
        """Store a finished round, whole or not at all."""
        evaluation = result.evaluation
        with self._transaction():
            self._db.execute(
                "INSERT INTO round VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    result.number,
                    result.start_s,
                    result.duration_s,
                    evaluation.accuracy,
                    evaluation.loss,
                    _json(evaluation.class_accuracy),
                    evaluation.samples,
                ),
            )
            for device in result.devices:
                self._db.execute(
                    "INSERT INTO device_round VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        result.number,
                        device.device,
                        device.status,
                        device.reason,
                        device.busy_s,
                        device.frequency_hz,
                        device.local_samples,
                        device.synthetic_samples,
                        device.training_loss,
                        device.training_accuracy,
                        device.backend,
                    ),
                )
                self._write_samples(result.number, device.device, device.phases, device.predicted)

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        with self._lock:
            try:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._db.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.Error as error:
                raise StoreError(f"cannot finish the run store {self.path}: {error}") from error
            finally:
                self._db.close()

    def _write_samples(
        self,
        number: int,
        device: str,
        phases: Iterable[PhaseRecord],
        predicted: Iterable[PhaseCost],
    ) -> None:
        costs = {cost.phase: cost for cost in predicted}
        rows = []
        for phase in reversed(list(phases)):  # a prediction belongs to the last phase of its name
            energy, cost = phase.energy, costs.pop(phase.phase, None)
            rows.append(
                (
                    number,
                    device,
                    phase.phase,
                    phase.start_s,
                    phase.duration_s,
                    *(
                        (energy.value_j, energy.kind, energy.source, energy.scope)
                        if energy
                        else (None,) * 4
                    ),
                    energy.uncertainty_j if energy else None,
                    phase.sample_count,
                    phase.largest_gap_s,
                    *_cost(cost),
                )
            )
        rows.reverse()
        rows += [
            (number, device, cost.phase, *(None,) * 9, *_cost(cost)) for cost in costs.values()
        ]
        marks = ", ".join("?" * 15)
        self._db.executemany(
            "INSERT INTO sample (round, device, phase, start_s, duration_s, energy_j, kind, source,"
            " scope, uncertainty_j, readings, largest_gap_s, predicted_s, predicted_board_j,"
            f" predicted_dynamic_j) VALUES ({marks})",
            rows,
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreError(
                    f"cannot write the run store {self.path}: {error}; make room on that disk and "
                    "check its permissions; what was written before is safe"
                ) from error


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise NotImplementedError(f"a {type(value).__name__} cannot be stored")


def _cost(cost: PhaseCost | None) -> tuple[float | None, float | None, float | None]:
    return (cost.duration_s, cost.board_j, cost.dynamic_j) if cost else (None, None, None)

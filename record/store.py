"""The run store: one SQLite file per run, readable by anything, complete after a crash.

The tables are in :mod:`fimi.record.schema`. A round is written in one transaction, and is on the
disk before the run goes on: what a reader sees is whole. Events are in the file at once but on the
disk with the next thing that matters, so that a power cut may take the last few, and nothing else;
a process that dies takes none. Closing folds the write-ahead log into the file.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from fimi.energy.cost_model import PhaseCost
from fimi.energy.hardware import Observation
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.errors import SurroundingsError
from fimi.learning.data.partition_summary import LabelSkew
from fimi.messaging.messages import Goodput, Trial
from fimi.record.events import Deployed, Event, Planned, RoundFinished, SearchProgress
from fimi.record.insight import Insight
from fimi.record.prediction import Residual
from fimi.record.results import Deployment, Preparation, RoundResult
from fimi.record.schema import SCHEMA


class StoreError(SurroundingsError, RuntimeError):
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
        self._synchronous = ""
        if path.exists():
            raise StoreError(f"{path} exists; choose another run name or remove that run")
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                for statement in SCHEMA.split(";\n"):
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
        elif isinstance(event, Deployed):
            body = {"event": "deployed", "round": event.deployment.round}
        elif isinstance(event, Planned):
            body = {"event": "planned", "synthetic_samples": event.synthetic_samples}
        else:
            body = msgspec.to_builtins(event, enc_hook=_plain)
        with self._transaction(synchronous="NORMAL"):
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
    def worth_keeping(self) -> bool:
        """Whether the run has come to a plan, or to a round without one."""
        with self._lock:
            return any(
                self._db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None
                for table in ("plan", "round")
            )

    def write_preparation(self, preparation: Preparation) -> None:
        """Store what a device did before the first round."""
        with self._transaction():
            self._write_samples(0, preparation.device, preparation.phases, preparation.predicted)
            self._write_transfers(0, preparation.device, preparation.transfers)

    def write_insight(self, insight: Insight) -> None:
        """Store what the updates of a round, already stored, say."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO insight VALUES (?, ?, ?)",
                (insight.round, insight.orthogonality, insight.reference_samples),
            )
            self._db.executemany(
                "INSERT INTO device_insight VALUES (?, ?, ?, ?)",
                [
                    (insight.round, each.device, each.local_error, each.similarity)
                    for each in insight.devices
                ],
            )

    def write_refit(
        self, number: int, boards: Mapping[str, msgspec.Struct], drifts: Mapping[str, float]
    ) -> None:
        """Store the cost parameters that were fitted after a round, and why they were."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO refit VALUES (?, ?, ?, ?)",
                [(number, d, drifts.get(d), _json(board)) for d, board in boards.items()],
            )

    def write_round(self, result: RoundResult, residuals: Iterable[Residual] = ()) -> None:
        """Store a finished round with its residuals, whole or not at all."""
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
                    "INSERT INTO device_round VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                        *(device.trained_at or (None, None)),
                    ),
                )
                self._write_samples(result.number, device.device, device.phases, device.predicted)
                self._write_transfers(result.number, device.device, device.transfers)
                if device.observed is not None:
                    self._write_observation(result.number, device.device, device.observed)
            if (server := result.server) is not None:
                self._db.execute(
                    f"INSERT INTO server_round VALUES ({', '.join('?' * 12)})",
                    (
                        result.number,
                        server.images,
                        server.seconds,
                        server.loss,
                        server.weight,
                        server.federated_accuracy,
                        server.augmented_accuracy,
                        *_energy(server.energy),
                    ),
                )
            self._db.executemany(
                f"INSERT INTO residual VALUES ({', '.join('?' * 12)})",
                [
                    (
                        *(getattr(each, name) for name in each.__struct_fields__[:-1]),
                        *(getattr(each.parts, name) for name in each.parts.__struct_fields__),
                    )
                    for each in residuals
                ],
            )

    def write_labels(self, devices: Iterable[str], stages: Mapping[str, LabelSkew]) -> None:
        """Store the label histograms of devices at some stages, and how uneven they are."""
        names = list(devices)
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO label_skew VALUES (?, ?, ?, ?, ?)",
                [
                    (name, stage, _json(counts), emd, entropy)
                    for stage, skew in stages.items()
                    for name, counts, emd, entropy in zip(
                        names, skew.counts, skew.emd, skew.entropy_bits, strict=True
                    )
                ],
            )

    def write_deployment(self, made: Deployment) -> None:
        """Store what was exported and how devices ran it."""
        trials = [(device, trial) for device, each in made.trials.items() for trial in each]
        trials += [
            (device, Trial(variant=file.variant, error="did not answer"))
            for device in made.silent
            for file in made.files
        ]
        with self._transaction():
            self._db.executemany(
                f"INSERT INTO model_file VALUES ({', '.join('?' * 9)})",
                [
                    (made.round, *(getattr(file, name) for name in file.__struct_fields__))
                    for file in made.files
                ],
            )
            self._db.executemany(
                f"INSERT INTO deployment VALUES ({', '.join('?' * 19)})",
                [(made.round, device, *_trial(trial)) for device, trial in trials],
            )

    def close(self, patience_s: float = 5.0) -> None:
        """Fold the write-ahead log into the file and close it.

        Somebody who reads the store at this moment is waited for; if they stay, the log stays
        beside the file, empty or not, until they are gone. Nothing is lost by it.

        Args:
            patience_s: how long to wait for readers.

        Raises:
            StoreError: the file cannot be written, for example because the disk is full.
        """
        with self._lock:
            try:
                self._db.execute(f"PRAGMA busy_timeout = {round(1000 * patience_s)}")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._leave_log(patience_s)
            except sqlite3.Error as error:
                raise StoreError(f"cannot finish the run store {self.path}: {error}") from error
            finally:
                self._db.close()

    def _leave_log(self, patience_s: float) -> None:
        """One file instead of three. SQLite does not wait here by itself for readers to leave."""
        limit = time.monotonic() + patience_s
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = DELETE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                if time.monotonic() > limit:
                    return
                time.sleep(0.02)

    def _write_samples(
        self,
        number: int,
        device: str,
        phases: Iterable[PhaseRecord],
        predicted: Iterable[PhaseCost],
    ) -> None:
        costs = {cost.phase: cost for cost in predicted}
        rows: list[tuple[object, ...]] = []
        for phase in reversed(list(phases)):  # a prediction belongs to the last phase of its name
            energy, cost = phase.energy, costs.pop(phase.phase, None)
            rows.append(
                (
                    number,
                    device,
                    phase.phase,
                    phase.start_s,
                    phase.duration_s,
                    *_energy(energy),
                    phase.sample_count,
                    phase.largest_gap_s,
                    *_cost(cost),
                    *_energy(phase.cpu),
                )
            )
        rows.reverse()
        rows += [
            (number, device, cost.phase, *(None,) * 9, *_cost(cost), *_energy(None))
            for cost in costs.values()
        ]
        marks = ", ".join("?" * 20)
        self._db.executemany(
            "INSERT INTO sample (round, device, phase, start_s, duration_s, energy_j, kind, source,"
            " scope, uncertainty_j, readings, largest_gap_s, predicted_s, predicted_board_j,"
            " predicted_dynamic_j, cpu_j, cpu_kind, cpu_source, cpu_scope, cpu_uncertainty_j)"
            f" VALUES ({marks})",
            rows,
        )

    def _write_transfers(self, number: int, device: str, transfers: Iterable[Goodput]) -> None:
        self._db.executemany(
            "INSERT INTO transfer (round, device, phase, size_bytes, duration_s)"
            " VALUES (?, ?, ?, ?, ?)",
            [(number, device, t.phase, t.size_bytes, t.duration_s) for t in transfers],
        )

    def _write_observation(self, number: int, device: str, seen: Observation) -> None:
        link, monitor = seen.link, seen.monitor
        self._db.execute(
            f"INSERT INTO observation VALUES ({', '.join('?' * 20)})",
            (
                number,
                device,
                seen.frequency_hz,
                seen.frequency_source,
                seen.cap_hz,
                None if seen.throttled is None else _json(seen.throttled),
                seen.rate_limit_bps,
                *((link.interface, link.rate_bps, link.signal_dbm) if link else (None,) * 3),
                *(
                    (monitor.cpu_s, monitor.wall_s, monitor.looks, monitor.failed)
                    if monitor
                    else (None,) * 4
                ),
                *_energy(seen.monitor_energy),
                seen.temperature_c,
            ),
        )

    @contextmanager
    def _transaction(self, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Iterator[None]:
        """All or nothing; with ``NORMAL`` on the disk with the next one that is ``FULL``."""
        with self._lock:
            try:
                if synchronous != self._synchronous:
                    self._db.execute(f"PRAGMA synchronous = {synchronous}")
                    self._synchronous = synchronous
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


def _trial(trial: Trial) -> tuple[object, ...]:
    """The columns of ``deployment`` after the device's."""
    phase = trial.metered
    ran = trial.accuracy is not None
    return (
        trial.variant,
        *((trial.inferences, trial.images) if ran else (None, None)),
        trial.accuracy,
        trial.latency_median_s,
        trial.latency_p95_s,
        trial.latency_kind if ran else None,
        *((phase.start_s, phase.duration_s) if phase else (None, None)),
        *_energy(phase.energy if phase else None),
        *((phase.sample_count, phase.largest_gap_s) if phase else (None, None)),
        trial.error,
    )


def _cost(cost: PhaseCost | None) -> tuple[float | None, float | None, float | None]:
    return (cost.duration_s, cost.board_j, cost.dynamic_j) if cost else (None, None, None)


def _energy(
    energy: Energy | None,
) -> tuple[float | None, str | None, str | None, str | None, float | None]:
    """Value, kind, source, scope and uncertainty."""
    if energy is None:
        return (None,) * 5
    return (energy.value_j, energy.kind, energy.source, energy.scope, energy.uncertainty_j)

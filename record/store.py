"""The run store: one SQLite file per run, readable by anything, complete after a crash.

The tables are in :mod:`fimi.record.schema`; every statement here follows from them. A round is
written in one transaction, and is on the disk before the run goes on: what a reader sees is whole.
Events are in the file at once, but on the disk only with the next round, plan or profile: a power
cut may lose the last few events, a process that is killed loses none. Closing merges the
write-ahead log into the file.
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

from fimi.energy.cost_model import BoardModel
from fimi.errors import SurroundingsError
from fimi.learning.data.partition_summary import LabelSkew
from fimi.messaging.messages import DevicePlan, Profile, Trial
from fimi.optim.plans import Plan
from fimi.record import schema
from fimi.record.description import StoreTable, to_json
from fimi.record.events import Event
from fimi.record.insight import Insight
from fimi.record.prediction import Residual
from fimi.record.record import Labels, RunInfo
from fimi.record.results import Deployment, DeviceRound, Preparation, RoundResult, RunStatus
from fimi.record.views import VIEWS


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
        self._info = RunInfo(run=path.parent.name)
        if path.exists():
            raise StoreError(f"{path} exists; choose another run name or remove that run")
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                for table in schema.TABLES:
                    for statement in table.create:
                        self._db.execute(statement)
                for view in VIEWS:
                    self._db.execute(view.create)
                self._db.execute(f"PRAGMA user_version = {schema.VERSION}")
                self._insert(schema.RUN, [self._info])
        except sqlite3.Error as error:
            raise StoreError(f"cannot create the run store {path}: {error}") from error

    def describe(self, info: RunInfo) -> None:
        """Store the description of the run; until then it has a name and is ``running``."""
        with self._transaction():
            self._db.execute(f"DELETE FROM {schema.RUN.name}")
            self._insert(schema.RUN, [info])
        self._info = info

    def spend(
        self, *, wall_s: float | None = None, stages_wall_s: Mapping[str, float] = {}
    ) -> None:
        """Store the wall time of the run or of the coordinator's stages; what is left out stays."""
        known = self._info
        self.describe(
            msgspec.structs.replace(
                known,
                wall_s=known.wall_s if wall_s is None else wall_s,
                stages_wall_s=dict(stages_wall_s) or known.stages_wall_s,
            )
        )

    def end(self, status: RunStatus, reason: str, finished_at: str = "") -> None:
        """Store how the run ended and why; ``finished_at`` (ISO 8601) stays if it is left out."""
        known = self._info
        self.describe(
            msgspec.structs.replace(
                known, status=status, reason=reason, finished_at=finished_at or known.finished_at
            )
        )

    def write_event(self, event: Event) -> None:
        """Append what the log keeps of an event."""
        body = event.logged()
        if body is None:
            return
        with self._transaction(synchronous="NORMAL"):
            self._insert(
                schema.EVENT, [event], at=time.time(), event=body["event"], body=to_json(body)
            )

    def write_profile(self, device: str, profile: Profile) -> None:
        """Store the profile of a device, in place of an earlier one."""
        with self._transaction():
            self._insert(schema.PROFILE, [profile], replace=True, device=device)

    def write_plan(self, plan: Plan | Mapping[str, Any]) -> None:
        """Store a plan of the fleet."""
        with self._transaction():
            self._insert(schema.PLAN, [plan])

    def write_device_plans(self, devices: Mapping[str, DevicePlan]) -> None:
        """Store each device's share of the latest plan."""
        with self._transaction():
            (number,) = self._db.execute(f"SELECT max(id) FROM {schema.PLAN.name}").fetchone()
            for device, share in devices.items():
                self._insert(schema.DEVICE_PLAN, [share], plan=number, device=device)

    @property
    def worth_keeping(self) -> bool:
        """Whether the run has a plan, or a round without one."""
        with self._lock:
            return any(
                self._db.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone() is not None
                for table in (schema.PLAN, schema.ROUNDS)
            )

    def write_preparation(self, preparation: Preparation) -> None:
        """Store what a device did before the first round."""
        with self._transaction():
            self._insert_phases(preparation, round=0, device=preparation.device)

    def write_insight(self, insight: Insight) -> None:
        """Store what the updates of a round, already stored, say."""
        with self._transaction():
            self._insert(schema.INSIGHT, [insight])
            self._insert(schema.DEVICE_INSIGHT, insight.devices, round=insight.round)

    def write_refit(
        self, number: int, boards: Mapping[str, BoardModel], drifts: Mapping[str, float]
    ) -> None:
        """Store the cost parameters that were fitted after a round, and why they were."""
        with self._transaction():
            for device, board in boards.items():
                drift = drifts.get(device)
                self._insert(
                    schema.REFIT, [board], round=number, device=device, drift_percent=drift
                )

    def write_round(self, result: RoundResult, residuals: Iterable[Residual] = ()) -> None:
        """Store a finished round with its residuals, whole or not at all."""
        number = result.number
        with self._transaction():
            self._insert(schema.ROUNDS, [result])
            self._insert(schema.DEVICE_ROUND, result.devices, round=number)
            for entry in result.devices:
                self._insert_phases(entry, round=number, device=entry.device)
                if entry.observed is not None:
                    self._insert(
                        schema.OBSERVATION, [entry.observed], round=number, device=entry.device
                    )
            if result.server is not None:
                self._insert(schema.SERVER_ROUND, [result.server], round=number)
            self._insert(schema.RESIDUAL, residuals)

    def write_labels(self, devices: Iterable[str], stages: Mapping[str, LabelSkew]) -> None:
        """Store the label histograms of devices at some stages, and how uneven they are."""
        names = list(devices)
        with self._transaction():
            for stage, skew in stages.items():
                for name, counts, emd, bits in zip(
                    names, skew.counts, skew.emd, skew.entropy_bits, strict=True
                ):
                    labels = Labels(counts=counts, emd=emd, entropy_bits=bits)
                    self._insert(
                        schema.LABEL_SKEW, [labels], replace=True, device=name, stage=stage
                    )

    def write_deployment(self, made: Deployment) -> None:
        """Store what was exported and how devices ran it."""
        silent = tuple(Trial(variant=file.variant, error="did not answer") for file in made.files)
        with self._transaction():
            self._insert(schema.MODEL_FILE, made.files, round=made.round)
            for device, trials in {**made.trials, **dict.fromkeys(made.silent, silent)}.items():
                self._insert(schema.DEPLOYMENT, trials, round=made.round, device=device)

    def close(self, patience_s: float = 5.0) -> None:
        """Fold the write-ahead log into the file and close it.

        If somebody still reads the store after that time, the log stays beside the file until they
        have finished; nothing is lost.

        Args:
            patience_s: how long to wait for readers, s.

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
        """Leave one file instead of three. SQLite does not wait here for readers by itself."""
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

    def _insert(
        self, table: StoreTable[Any], values: Iterable[Any], *, replace: bool = False, **beside: Any
    ) -> None:
        """Write values as rows, with the columns that stand beside each of them."""
        rows = [table.row(value, **beside) for value in values]
        self._db.executemany(table.insert(replace=replace), rows)

    def _insert_phases(self, entry: DeviceRound | Preparation, **beside: Any) -> None:
        self._insert(schema.SAMPLE, entry.phases, **beside)
        self._insert(schema.PREDICTION, entry.predicted, **beside)
        self._insert(schema.TRANSFER, entry.transfers, **beside)

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

"""The run store: one SQLite file per run, readable by anything, complete after a crash.

The tables are in :mod:`fimi.record.schema`; every statement here follows from them. A round is
written in one transaction, and is on the disk before the run goes on: what a reader sees is whole.
Events are in the file at once, but on the disk only with the next round, plan or profile: a power
cut may lose the last few events, a process that is killed loses none. Closing merges the
write-ahead log into the file.

A run that ended early can be gone on with (:meth:`RunStore.reopen`): its checkpoint is written in
the transaction of the round that it belongs to. One process at a time writes a store
(:mod:`fimi.record.store_file`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from fimi.energy.cost_model import BoardModel
from fimi.energy.ledger_parts import ReadingsPart
from fimi.learning.data.partition_summary import LabelSkew
from fimi.messaging.messages.facts import Profile, RoundReport, RoundSettled, Trial
from fimi.messaging.messages.orders import DevicePlan
from fimi.optim.plans import Plan
from fimi.record import reopening, schema
from fimi.record.checkpoint_parts import CheckpointParts
from fimi.record.credit import credited, new_stretches
from fimi.record.description import to_json
from fimi.record.events import Event, Resumed, RunFinished, tag
from fimi.record.insight import Insight
from fimi.record.prediction import Residual
from fimi.record.readings_writing import write_parts
from fimi.record.record import Enrolment, Labels, RunInfo
from fimi.record.results import Deployment, DeviceRound, Preparation, RoundResult, RunStatus
from fimi.record.store_file import StoreError, StoreFile
from fimi.record.views import VIEWS

_OF_AN_ENTRY = (
    schema.SAMPLE,
    schema.TRANSFER,
    schema.PREDICTION,
    schema.EVIDENCE,
    schema.OBSERVATION,
)


class RunStore:
    """Writes one run.

    Args:
        path: the file, ``runs/<name>/run.sqlite``; must not exist yet.
        info: the description of the run, from its first moment on; its name if left out.

    Raises:
        StoreError: it exists, or cannot be created.
    """

    def __init__(self, path: Path, info: RunInfo | None = None) -> None:
        if path.exists():
            raise StoreError(f"{path} exists; choose another run name or remove that run")
        self._begin(path, info or RunInfo(run=path.parent.name))
        try:
            self._file.connect()
            self._db.execute("PRAGMA journal_mode = WAL")
            with self._file.transaction():
                for table in schema.TABLES:
                    for statement in table.create:
                        self._db.execute(statement)
                for view in VIEWS:
                    self._db.execute(view.create)
                self._db.execute(f"PRAGMA user_version = {schema.VERSION}")
                self._file.insert(schema.RUN, [self._info])
        except sqlite3.Error as error:
            self._file.abandon()
            raise StoreError(f"cannot create the run store {path}: {error}") from error

    @classmethod
    def resumable(cls, path: Path) -> RunInfo:
        """The description of a run that can be gone on with now; the store is not changed.

        Args:
            path: the file.

        Raises:
            StoreError: as for :meth:`reopen`.
        """
        store = cls._at(path)
        try:
            store._file.connect_to_read()
            return reopening.resumable(store._db)
        except (sqlite3.Error, msgspec.MsgspecError, reopening.NotResumable) as error:
            raise StoreError(f"{path}: {error}") from error
        finally:
            store._file.abandon()

    @classmethod
    def reopen(cls, path: Path, *, changes: tuple[str, ...] = ()) -> RunStore:
        """Open the store of a run that ended early, to go on with it.

        The run is ``running`` again, :attr:`info` counts the resume, and the log has a
        :class:`~fimi.record.events.Resumed`. What the log has of a round that was not finished
        stays there.

        Args:
            path: the file.
            changes: in what it goes on otherwise than it was begun, for the log.

        Raises:
            StoreError: there is none, it is of another version, the run is completed, another
                process writes it, or it cannot be read or written.
        """
        store = cls._at(path)
        try:
            store._go_on(changes)
        except BaseException as error:
            store._file.abandon()
            if isinstance(error, sqlite3.Error | msgspec.MsgspecError | reopening.NotResumable):
                raise StoreError(f"{path}: {error}") from error
            raise
        return store

    @classmethod
    def _at(cls, path: Path) -> RunStore:
        """An object for a store that is there, with its lock and without a connection."""
        if not path.exists():
            raise StoreError(
                f"{path}: there is no run to go on with; name a run that was begun, or start a new "
                "one"
            )
        store = cls.__new__(cls)
        store._begin(path, RunInfo(run=path.parent.name))
        return store

    def _begin(self, path: Path, info: RunInfo) -> None:
        """What every new object has, before there is a connection."""
        self.path = path
        self._info = info
        self._before = info  # what earlier processes have spent
        self._opened_s = time.monotonic()
        self.resumed_after: int | None = None
        self._file = StoreFile(path)
        self._checkpoint = CheckpointParts(self._file)

    @property
    def _db(self) -> sqlite3.Connection:
        return self._file.db

    def _go_on(self, changes: tuple[str, ...]) -> None:
        """Take up a run that is there, and say so in its record."""
        self._file.connect()
        self._before = info = reopening.resumable(self._db)
        self._db.execute("PRAGMA journal_mode = WAL")
        (last,) = self._db.execute(f"SELECT max(number) FROM {schema.ROUNDS.name}").fetchone()
        event = Resumed(after_round=last or 0, changes=changes)
        self._info = msgspec.structs.replace(
            info, status="running", reason="", finished_at="", resumed=info.resumed + 1
        )
        with self._file.transaction():
            self._describe()
            self._file.insert(
                schema.EVENT, [event], at=time.time(), event=tag(Resumed), body=to_json(event)
            )
        self.resumed_after = event.after_round

    @property
    def info(self) -> RunInfo:
        """The description of the run, as it is stored."""
        return self._info

    def describe(self, info: RunInfo) -> None:
        """Store the description of the run; until then it has a name and is ``running``."""
        before, self._info = self._info, info
        try:
            with self._file.transaction():
                self._describe()
        except BaseException:
            self._info = before
            raise

    def spend(
        self, *, wall_s: float | None = None, stages_wall_s: Mapping[str, float] = {}
    ) -> None:
        """Store the wall time that this process has spent; what is left out stays.

        It is added to what earlier processes have spent on the same run.

        Args:
            wall_s: on the run so far, s.
            stages_wall_s: on each stage of the coordinator so far, s.
        """
        self.describe(self._spent(wall_s, stages_wall_s))

    def _spent(self, wall_s: float | None, stages_wall_s: Mapping[str, float]) -> RunInfo:
        """The description of the run with the time of all its processes."""
        known, before = self._info, self._before
        if wall_s is not None:
            known = msgspec.structs.replace(known, wall_s=wall_s + (before.wall_s or 0.0))
        if stages_wall_s:
            earlier = before.stages_wall_s
            stages = {
                name: earlier.get(name, 0.0) + stages_wall_s.get(name, 0.0)
                for name in dict.fromkeys((*earlier, *stages_wall_s))
            }
            known = msgspec.structs.replace(known, stages_wall_s=stages)
        return known

    def _describe(self) -> None:
        self._db.execute(f"DELETE FROM {schema.RUN.name}")
        self._file.insert(schema.RUN, [self._info])

    def end(self, status: RunStatus, reason: str, finished_at: str = "") -> None:
        """Store how the run ended and why; ``finished_at`` (ISO 8601) stays if it is left out."""
        known = self._info
        self.describe(
            msgspec.structs.replace(
                known, status=status, reason=reason, finished_at=finished_at or known.finished_at
            )
        )

    def write_event(self, event: Event) -> None:
        """Append what the log keeps of an event; the end of the run is in its description too."""
        body = event.logged()
        if body is None:
            return
        if isinstance(event, RunFinished):
            with self.together():
                self._log(event, body)
                self.end(event.status, event.reason)
            return
        self._log(event, body)

    def _log(self, event: Event, body: Mapping[str, Any]) -> None:
        with self._file.transaction(synchronous="NORMAL"):
            self._file.insert(
                schema.EVENT, [event], at=time.time(), event=body["event"], body=to_json(body)
            )

    def write_profile(self, device: str, profile: Profile) -> None:
        """Store a device's profile and the contract it confirms, in place of an earlier one."""
        with self._file.transaction():
            self._file.insert(
                schema.PROFILE,
                [profile],
                replace=True,
                device=device,
                contract_digest=profile.contract,
            )

    def write_enrolments(self, enrolments: Iterable[Enrolment]) -> None:
        """Store what became of devices that asked to take part, in place of what was before."""
        with self._file.transaction():
            self._file.insert(schema.ENROLMENT, enrolments, replace=True)

    def write_plan(self, plan: Plan | Mapping[str, Any]) -> None:
        """Store a plan of the fleet."""
        with self._file.transaction():
            self._file.insert(schema.PLAN, [plan])

    def write_device_plans(self, devices: Mapping[str, DevicePlan]) -> None:
        """Store each device's share of the latest plan."""
        with self._file.transaction():
            (number,) = self._db.execute(f"SELECT max(id) FROM {schema.PLAN.name}").fetchone()
            for device, share in devices.items():
                self._file.insert(
                    schema.DEVICE_PLAN, [share], replace=True, plan=number, device=device
                )

    @property
    def worth_keeping(self) -> bool:
        """Whether the run has a plan, or a round without one."""
        with self._file.lock:
            return any(
                self._db.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone() is not None
                for table in (schema.PLAN, schema.ROUNDS)
            )

    def write_preparation(
        self, preparation: Preparation, *, checkpoint: Mapping[str, bytes] = {}
    ) -> None:
        """Store what a device did before the first round; the same a second time adds nothing.

        Args:
            preparation: its phases.
            checkpoint: as for :meth:`write_checkpoint`, in the same transaction.
        """
        device = preparation.device
        with self._file.transaction():
            known = schema.SAMPLE.values(self._db, round=0, device=device)
            new = new_stretches(preparation.phases, known)
            if schema.EVIDENCE.values(self._db, round=0, device=device):
                preparation = msgspec.structs.replace(preparation, evidence=())
            if new or preparation.evidence or not preparation.phases:
                kept = msgspec.structs.replace(preparation, phases=new)
                self._insert_phases(kept, round=0, device=device)
            if checkpoint:
                self._check_point(checkpoint, {})

    def write_insight(self, insight: Insight) -> None:
        """Store what the updates of a round, already stored, say."""
        with self._file.transaction():
            self._file.insert(schema.INSIGHT, [insight])
            self._file.insert(schema.DEVICE_INSIGHT, insight.devices, round=insight.round)

    def write_refit(
        self, number: int, boards: Mapping[str, BoardModel], drifts: Mapping[str, float]
    ) -> None:
        """Store the cost parameters that were fitted after a round, and why they were."""
        with self._file.transaction():
            for device, board in boards.items():
                drift = drifts.get(device)
                self._file.insert(
                    schema.REFIT,
                    [board],
                    replace=True,
                    round=number,
                    device=device,
                    drift_percent=drift,
                )

    def write_round(
        self,
        result: RoundResult,
        residuals: Iterable[Residual] = (),
        *,
        checkpoint: Mapping[str, bytes] = {},
        drop: Iterable[str] = (),
        stages_wall_s: Mapping[str, float] = {},
    ) -> None:
        """Store a finished round with its residuals and a checkpoint, whole or not at all.

        Args:
            result: the round.
            residuals: predicted less measured.
            checkpoint: as for :meth:`write_checkpoint`.
            drop: parts of the checkpoint that are not needed after it.
            stages_wall_s: as for :meth:`spend`, with the checkpoint.
        """
        number = result.number
        with self._file.transaction():
            self._file.insert(schema.ROUNDS, [result])
            for entry in result.devices:
                self._insert_entry(number, entry)
            if result.server is not None:
                self._file.insert(schema.SERVER_ROUND, [result.server], round=number)
            self._file.insert(schema.LATE_UPDATE, result.late, round=number)
            self._file.insert(schema.RESIDUAL, residuals)
            self._checkpoint.drop(drop)
            if checkpoint:
                self._check_point(checkpoint, stages_wall_s)

    def write_checkpoint(
        self, parts: Mapping[str, bytes], stages_wall_s: Mapping[str, float] = {}
    ) -> None:
        """Store what a process needs to go on with the run, and the wall time so far.

        Args:
            parts: by key, in place of earlier ones; other keys stay as they are.
            stages_wall_s: as for :meth:`spend`.
        """
        with self._file.transaction():
            self._check_point(parts, stages_wall_s)

    def read_checkpoint(self) -> dict[str, bytes]:
        """All parts of the checkpoint but the large ones, by key; empty if none was written."""
        return self._checkpoint.read_small()

    def read_part(self, key: str) -> bytes:
        """One part of the checkpoint.

        Raises:
            KeyError: there is none.
            StoreError: the store cannot be read.
        """
        return self._checkpoint.read(key)

    def drop_parts(self, keys: Iterable[str]) -> None:
        """Forget these parts of the checkpoint."""
        with self._file.transaction():
            self._checkpoint.drop(keys)

    def entry(self, number: int, device: str) -> DeviceRound | None:
        """What became of a device in a stored round, with what was credited; without its phases."""
        with self._file.lock, self._file.faults():
            entries = schema.DEVICE_ROUND.values(self._db, round=number, device=device)
        return entries[0] if entries else None

    def credit(
        self,
        number: int,
        device: str,
        report: RoundReport | None = None,
        settled: RoundSettled | None = None,
    ) -> DeviceRound | None:
        """Add what a device reported after a round was stored to its entry in that round.

        The same report or idle phase a second time adds nothing, whoever stored it first. See
        :func:`fimi.record.credit.credited`.

        Args:
            number: of the round.
            device: whose entry.
            report: its report; one that was judged implausible must not be given.
            settled: its idle phase.

        Returns:
            The entry as it is now; ``None`` if there was nothing to add, or no such entry.

        Raises:
            StoreError: the store cannot be read or written.
        """
        where = {"round": number, "device": device}
        with self._file.transaction():
            entries = schema.DEVICE_ROUND.values(self._db, **where)
            length_s = f"SELECT duration_s FROM {schema.ROUNDS.name} WHERE number = ?"
            found = self._db.execute(length_s, [number]).fetchone()
            if not entries or found is None:
                return None
            before = msgspec.structs.replace(
                entries[0],
                phases=tuple(schema.SAMPLE.values(self._db, **where)),
                predicted=tuple(schema.PREDICTION.values(self._db, **where)),
                transfers=tuple(schema.TRANSFER.values(self._db, **where)),
                evidence=tuple(schema.EVIDENCE.values(self._db, **where)),
                observed=next(iter(schema.OBSERVATION.values(self._db, **where)), None),
            )
            after = credited(before, found[0], report, settled)
            if after == before:
                return None
            for table in _OF_AN_ENTRY:
                self._db.execute(
                    f"DELETE FROM {table.name} WHERE round = :round AND device = :device", where
                )
            self._insert_entry(number, after, replace=True)
        return after

    def write_readings(self, number: int, device: str, parts: Iterable[ReadingsPart]) -> None:
        """Store what a device's meters showed; what is there already stays as it is.

        Args:
            number: of the round with which it came; 0 for the time before the first.
            device: whose.
            parts: as it has sent them.
        """
        with self._file.transaction():
            write_parts(self._file, number, device, parts)

    def write_labels(self, devices: Iterable[str], stages: Mapping[str, LabelSkew]) -> None:
        """Store the label histograms of devices at some stages, and how uneven they are."""
        names = list(devices)
        with self._file.transaction():
            for stage, skew in stages.items():
                for name, counts, emd, bits in zip(
                    names, skew.counts, skew.emd, skew.entropy_bits, strict=True
                ):
                    labels = Labels(counts=counts, emd=emd, entropy_bits=bits)
                    self._file.insert(
                        schema.LABEL_SKEW, [labels], replace=True, device=name, stage=stage
                    )

    def write_deployment(self, made: Deployment, *, checkpoint: Mapping[str, bytes] = {}) -> None:
        """Store what was exported and how devices ran it.

        Args:
            made: the files and their trials.
            checkpoint: as for :meth:`write_checkpoint`, in the same transaction.
        """
        silent = tuple(Trial(variant=file.variant, error="did not answer") for file in made.files)
        with self._file.transaction():
            self._file.insert(schema.MODEL_FILE, made.files, round=made.round)
            for device, trials in {**made.trials, **dict.fromkeys(made.silent, silent)}.items():
                self._file.insert(schema.DEPLOYMENT, trials, round=made.round, device=device)
            if checkpoint:
                self._check_point(checkpoint, {})

    def drop_deployment(self, number: int, *, checkpoint: Mapping[str, bytes] = {}) -> None:
        """Forget what was exported after a round.

        Args:
            number: of the round.
            checkpoint: as for :meth:`write_checkpoint`, in the same transaction.
        """
        with self._file.transaction():
            for table in (schema.MODEL_FILE, schema.DEPLOYMENT):
                self._db.execute(f"DELETE FROM {table.name} WHERE round = ?", [number])
            if checkpoint:
                self._check_point(checkpoint, {})

    def close(self, patience_s: float = 5.0) -> None:
        """Fold the write-ahead log into the file and close it.

        If somebody still reads the store after that time, the log stays beside the file until they
        have finished; nothing is lost.

        Args:
            patience_s: how long to wait for readers, s.

        Raises:
            StoreError: the file cannot be written, for example because the disk is full.
        """
        self._file.close(patience_s)

    def _insert_entry(self, number: int, entry: DeviceRound, *, replace: bool = False) -> None:
        device = entry.device
        self._file.insert(schema.DEVICE_ROUND, [entry], replace=replace, round=number)
        self._insert_phases(entry, round=number, device=device)
        if entry.observed is not None:
            self._file.insert(schema.OBSERVATION, [entry.observed], round=number, device=device)

    def _check_point(self, parts: Mapping[str, bytes], stages_wall_s: Mapping[str, float]) -> None:
        self._checkpoint.write(parts)
        self._info = self._spent(time.monotonic() - self._opened_s, stages_wall_s)
        self._describe()

    def _insert_phases(self, entry: DeviceRound | Preparation, **beside: Any) -> None:
        self._file.insert(schema.SAMPLE, entry.phases, **beside)
        self._file.insert(schema.PREDICTION, entry.predicted, **beside)
        self._file.insert(schema.TRANSFER, entry.transfers, **beside)
        self._file.insert(schema.EVIDENCE, entry.evidence, **beside)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written in the block is on the disk when it ends: all of it, or nothing.

        Blocks may be nested; the outermost counts. What is to be told of it goes to :meth:`then`.

        Raises:
            StoreError: the store cannot be written.
        """
        with self._file.transaction():
            yield

    def then(self, call: Callable[[], None]) -> None:
        """Call it once everything written so far is stored: at once, or after the block.

        If the block fails, it is not called.
        """
        self._file.then(call)

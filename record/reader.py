"""Reads a run from its store, read-only, also if it ended early; what is missing stays unknown.

* :func:`read_run`     the store of a run folder as a :class:`~fimi.record.record.RunData`
* :func:`open_store`   a store for SQL; an older one with the tables of this version
* :func:`info_of`      the table ``run`` of an open store
* :class:`ReportError` no such run, not a run store, unreadable

A part that cannot be read is named in ``RunData.warnings`` if the rest can be used.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from fimi.energy.hardware import Applied
from fimi.energy.joules import total
from fimi.files import FileLock
from fimi.messaging.messages.facts import Trial
from fimi.messaging.messages.orders import DevicePlan
from fimi.messaging.topics import COORDINATOR
from fimi.record import migration, schema
from fimi.record.clean import clean
from fimi.record.description import StoreTable, T
from fimi.record.events import (
    BatchDelivered,
    Deployed,
    DeviceLost,
    DeviceSetAside,
    Event,
    Intervened,
    LearningRefitted,
    Logged,
    NotDeployed,
    PlanInForce,
    Resumed,
    RunFinished,
    SenderSetAside,
    tag,
)
from fimi.record.insight import Insight
from fimi.record.interventions import Intervention
from fimi.record.record import (
    Enrolment,
    Generation,
    Labels,
    PlanSummary,
    Resumption,
    RunData,
    RunInfo,
)
from fimi.record.results import Deployment, DeviceRound, Preparation, RoundResult
from fimi.record.store_file import StoreError

__all__ = [
    "STORE_NAME",
    "ReportError",
    "RunData",
    "faults",
    "info_of",
    "open_store",
    "read_info",
    "read_run",
]

STORE_NAME = "run.sqlite"

_MAY_LACK_ROWS = {
    table.name
    for table in (
        schema.OBSERVATION,
        schema.EVIDENCE,
        schema.LABEL_SKEW,
        schema.MODEL_FILE,
        schema.INSIGHT,
        schema.DEVICE_INSIGHT,
        schema.ENROLMENT,
    )
}
"""Tables of which a row that cannot be read is left out: no sum is made of them."""


class ReportError(StoreError):
    """A run cannot be read or reported; the message says which, why and what to do."""

    code = "R003"


def read_run(path: Path | str) -> RunData:
    """Read a run.

    Args:
        path: its folder, or the store itself.

    Raises:
        ReportError: there is none, it is no run store, it is of a newer version, or it cannot be
            read.
    """
    with open_store(path) as (store, db), faults(store):
        return _Reader(store, db).read()


def read_info(path: Path | str) -> tuple[RunInfo, int]:
    """The table ``run`` of a run, and how many rounds it has finished.

    Args:
        path: its folder, or the store itself.

    Raises:
        ReportError: as :func:`read_run`.
    """
    with open_store(path) as (store, db), faults(store):
        (rounds,) = db.execute(f"SELECT count(*) FROM {schema.ROUNDS.name}").fetchone()
        return info_of(store, db), rounds


def info_of(store: Path, db: sqlite3.Connection) -> RunInfo:
    """The table ``run`` of an open store; what of it cannot be read is left out.

    Raises:
        sqlite3.Error: the store cannot be read.
    """
    return _Reader(store, db).info()


@contextmanager
def open_store(path: Path | str) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A run store for reading, inside one transaction: one moment of a run that may be going on.

    Tables and views are those of ``docs/record.md``, also where the store is an older one.

    Args:
        path: the folder of the run, or the store itself.

    Yields:
        The path of the store, and the connection.

    Raises:
        ReportError: there is none, it is no run store, it is of a newer version, or it cannot be
            read.
    """
    path = Path(path)
    store = path / STORE_NAME if path.is_dir() else path
    if not store.exists():
        others = path / "runs"  # an experiment has its own there
        below = others if others.is_dir() else "runs/"
        raise ReportError(
            f"{path}: there is no run here (no {STORE_NAME}); name a folder below {below}",
            code="R004",
        )
    with ExitStack() as stack:
        with faults(store):
            db = stack.enter_context(_open(store))
            _check(store, db)
            migration.bring_up(db)
        yield store, db


@contextmanager
def faults(store: Path) -> Iterator[None]:
    """Errors of reading become a :class:`ReportError` that names the store."""
    try:
        yield
    except sqlite3.Error as error:
        raise ReportError(f"{store}: not a readable run store: {error}") from error
    except OSError as error:
        raise ReportError(f"{store}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, IndexError, msgspec.MsgspecError) as error:
        raise ReportError(f"{store}: damaged, or of another version: {error}") from error


def _check(store: Path, db: sqlite3.Connection) -> None:
    found = migration.version(db)
    if found > schema.VERSION:
        raise ReportError(
            f"{store}: written by a newer version of the testbed (run store version {found}, this "
            f"one reads up to {schema.VERSION}); update fimi-testbed to read it"
        )
    if found not in migration.READ:
        known = f"{', '.join(map(str, migration.READ[:-1]))} and {migration.READ[-1]}"
        raise ReportError(
            f"{store}: there is no run store version {found}, only {known}; another "
            "program has changed 'PRAGMA user_version', set it back"
        )
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    if not there >= migration.ALWAYS:
        log = store.with_name(f"{store.name}-wal")
        hint = f"; an unfinished run has them in {log.name}: copy its whole folder"
        raise ReportError(
            f"{store}: not a run store; it lacks the tables "
            f"{', '.join(sorted(migration.ALWAYS - there))}{'' if there or log.exists() else hint}"
        )


@contextmanager
def _open(store: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection.

    A log left over by a crash can be unreadable where the folder is read-only, since SQLite wants
    to index it; then a copy is read.

    The file is opened by SQLite alone: closing it any other way would take away the locks of a
    store that this process is writing, and whoever looks into it next would remove its log.
    """
    if not os.access(store, os.R_OK):  # SQLite would say "unable to open"
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(store))
    try:
        db = _connect(store)
    except sqlite3.OperationalError:
        if FileLock.holder(store.with_suffix(".lock")):  # it is being written: nothing was left
            raise
        with tempfile.TemporaryDirectory(prefix="fimi-report-") as folder:
            copy = Path(folder) / STORE_NAME
            shutil.copyfile(store, copy)
            log = store.with_name(store.name + "-wal")
            if log.exists():
                shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
            with closing(_connect(copy)) as db:
                yield db
        return
    with closing(db):
        yield db


def _connect(store: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


class _Reader:
    """One pass over an open store."""

    def __init__(self, store: Path, db: sqlite3.Connection) -> None:
        self._store = store
        self._db = db
        self._warnings: list[str] = []

    def read(self) -> RunData:
        """All of it."""
        plan, device_plans = self._plan()
        events, spoilt = self._events(
            DeviceLost, PlanInForce, BatchDelivered, LearningRefitted, DeviceSetAside
        )
        preparations, rounds = self._metered()
        profiles = self._bodies(schema.PROFILE)
        told = {device: (profile, digest) for (device, digest), profile in profiles}
        return RunData(
            path=self._store,
            info=self.info(),
            profiles={device: profile for device, (profile, _) in told.items()},
            confirmed={device: digest for device, (_, digest) in told.items() if digest},
            enrolments=self._enrolments(),
            resumptions=self._resumptions(),
            interventions=self._interventions(),
            offenders=self._offenders(),
            plan=plan,
            device_plans=device_plans,
            preparations=preparations,
            rounds=rounds,
            residuals=tuple(residual for _, residual in self._values(schema.RESIDUAL)),
            refits=tuple(sorted({number for (number, *_), _ in schema.REFIT.rows(self._db)})),
            learning_refits=tuple(e for e in events if isinstance(e, LearningRefitted)),
            labels=self._labels(),
            made=self._made(),
            not_made=self._not_made(),
            generation=None if tag(BatchDelivered) in spoilt else generation(events),
            insights=self._insights(),
            applied=applied(events),
            notes=notes(events),
            set_aside=tuple(e for e in events if isinstance(e, DeviceSetAside)),
            warnings=tuple(self._warnings),
        )

    def info(self) -> RunInfo:
        """The run itself; the log knows the end of one that could not enter it any more."""
        found: dict[str, Any] = {}
        shape = schema.RUN.shape()
        rows = [row for _, row in schema.RUN.rows(self._db)]
        for row in rows[-1:]:
            found = shape.build(row, spoilt=lambda field, why: self._warn(f"run.{field}", why))
        if len(rows) > 1:
            self._warn(f"run {rows[0][0]}", f"table run has {len(rows)} rows, the last is taken")
        for field in msgspec.structs.fields(RunInfo):
            try:
                msgspec.convert(found.get(field.name), field.type | None, strict=False)
            except msgspec.ValidationError as error:
                self._warn(f"run.{field.name}", str(error))
                del found[field.name]
        found.setdefault("run", self._store.resolve().parent.name)
        info = msgspec.convert(found, RunInfo, strict=False)
        for last in self._events(RunFinished, Resumed)[0][-1:]:
            if info.status == "running" and isinstance(last, RunFinished):
                info = replace(info, status=last.status, reason=last.reason)
        return info

    def _warn(self, what: str, why: str) -> None:
        self._warnings.append(f"{clean(what)} cannot be read and is left out: {why}")

    def _values(
        self, table: StoreTable[T], stand_in: Any = None
    ) -> Iterator[tuple[tuple[Any, ...], T]]:
        """Rows as values, with the columns beside each of them.

        Args:
            table: of the rows.
            stand_in: for JSON that cannot be read.

        Raises:
            ValueError: a row that sums need cannot be read; the message names it.
        """
        shape = table.shape()

        def spoilt(field: str, why: str) -> Any:
            self._warn(f"{table.place(beside, row)}: {field}", why)
            return stand_in

        for beside, row in table.rows(self._db):
            try:
                value = msgspec.convert(shape.build(row, spoilt) or {}, table.of, strict=False)
            except msgspec.ValidationError as error:
                if table.name not in _MAY_LACK_ROWS:
                    raise ValueError(f"{table.place(beside, row)}: {error}") from error
                self._warn(table.place(beside, row), str(error))
                continue
            yield beside, value

    def _bodies(self, table: StoreTable[T]) -> Iterator[tuple[tuple[Any, ...], T]]:
        """The same of values in one column; what cannot be read is left out and named."""
        for beside, (text,) in table.rows(self._db):
            try:
                yield beside, msgspec.json.decode(text, type=table.of, strict=False)
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                said = (str(each) for each in beside if each)
                self._warn(" ".join([table.name, *said]), str(error))

    def _groups(self, table: StoreTable[T]) -> dict[tuple[Any, ...], tuple[T, ...]]:
        """Values by the columns beside them."""
        found: dict[tuple[Any, ...], list[T]] = {}
        for beside, value in self._values(table):
            found.setdefault(beside, []).append(value)
        return {beside: tuple(values) for beside, values in found.items()}

    def _log(self, *kinds: type[Event]) -> list[tuple[str, str]]:
        marks = ", ".join("?" * len(kinds))
        return self._db.execute(
            f"SELECT event, body FROM {schema.EVENT.name} WHERE event IN ({marks}) ORDER BY id",
            [tag(kind) for kind in kinds],
        ).fetchall()

    def _events(self, *kinds: type[Event]) -> tuple[list[Event], set[str]]:
        """What the log says of these kinds, and the kinds of which some cannot be read."""
        found: list[Event] = []
        spoilt = set()
        for name, body in self._log(*kinds):
            try:
                found.append(msgspec.json.decode(body, type=Logged))
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                self._warn(f"event {name}", str(error))
                spoilt.add(name)
        return found, spoilt

    def _offenders(self) -> tuple[SenderSetAside, ...]:
        events, _ = self._events(SenderSetAside)
        last = {each.sender: each for each in events if isinstance(each, SenderSetAside)}
        return tuple(last.values())

    def _resumptions(self) -> tuple[Resumption, ...]:
        name = tag(Resumed)
        query = f"SELECT at, body FROM {schema.EVENT.name} WHERE event = ? ORDER BY id"
        found = []
        for at, body in self._db.execute(query, [name]):
            try:
                event = msgspec.json.decode(body, type=Resumed)
                told = {"after_round": event.after_round, "at": at, "changes": event.changes}
                found.append(msgspec.convert(told, Resumption))
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                self._warn(f"event {name}", str(error))
        return tuple(found)

    def _interventions(self) -> tuple[Intervention, ...]:
        name = tag(Intervened)
        query = f"SELECT at, body FROM {schema.EVENT.name} WHERE event = ? ORDER BY id"
        found = []
        for at, body in self._db.execute(query, [name]):
            try:
                event = msgspec.json.decode(body, type=Intervened)
                found.append(
                    Intervention(
                        after_round=event.round,
                        request=event.request,
                        by=clean(event.by),
                        asked_at=event.asked_at,
                        at=msgspec.convert(at, float),
                        done=event.done,
                        words=clean(event.words, 1000),
                        paused_s=event.paused_s,
                        planned=event.planned,
                    )
                )
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                self._warn(f"event {name}", str(error))
        return tuple(found)

    def _enrolments(self) -> tuple[Enrolment, ...]:
        """By index, those without one last."""
        found = [each for _, each in self._values(schema.ENROLMENT)]
        return tuple(sorted(found, key=lambda e: (e.device_index is None, e.device_index or 0)))

    def _not_made(self) -> NotDeployed | None:
        """Why the last export gave no file; ``None`` if it did, or nothing was exported."""
        last = self._log(Deployed, NotDeployed)[-1:]
        if not last or last[0][0] == tag(Deployed):
            return None
        try:
            event = msgspec.json.decode(last[0][1], type=NotDeployed)
        except msgspec.DecodeError as error:
            self._warn(f"event {last[0][0]}", str(error))
            return None
        return replace(event, reason=clean(event.reason, 1000))

    def _plan(self) -> tuple[PlanSummary | None, dict[str, DevicePlan]]:
        """The last plan, and each device's share of it."""
        number, plan = None, None
        query = f"SELECT id, body FROM {schema.PLAN.name} ORDER BY id DESC LIMIT 1"
        for number, body in self._db.execute(query):  # none, or the last one
            try:
                plan = msgspec.json.decode(body, type=PlanSummary, strict=False)
            except msgspec.DecodeError as error:
                self._warn(f"plan {number}, the one in force,", str(error))
        shares = self._bodies(schema.DEVICE_PLAN)
        return plan, {device: each for (n, device), each in shares if n == number}

    def _metered(self) -> tuple[tuple[Preparation, ...], tuple[RoundResult, ...]]:
        """What devices did before the first round and in every round."""
        phases, predicted = self._groups(schema.SAMPLE), self._groups(schema.PREDICTION)
        transfers, evidence = self._groups(schema.TRANSFER), self._groups(schema.EVIDENCE)
        observed, server = dict(self._values(schema.OBSERVATION)), self._groups(schema.SERVER_ROUND)
        late = self._groups(schema.LATE_UPDATE)

        def of(number: int, device: str) -> dict[str, Any]:
            key = (number, device)
            return {
                "phases": phases.get(key, ()),
                "predicted": predicted.get(key, ()),
                "transfers": transfers.get(key, ()),
                "evidence": evidence.get(key, ()),
            }

        before = sorted({d for n, d in (*phases, *predicted, *transfers, *evidence) if n == 0})
        devices: dict[int, list[DeviceRound]] = {}
        for (number,), entry in self._values(schema.DEVICE_ROUND):
            seen = observed.get((number, entry.device))
            more = of(number, entry.device)
            devices.setdefault(number, []).append(replace(entry, observed=seen, **more))
        results = [result for _, result in self._values(schema.ROUNDS, ())]
        there = {(r.number, entry.device) for r in results for entry in devices.get(r.number, ())}
        entries = {(number, entry.device) for number, own in devices.items() for entry in own}
        found = {*phases, *predicted, *transfers, *evidence, *observed, *entries}
        if lost := sorted({key for key in found if key[0] != 0} - there):
            which = ", ".join(f"round {number} of {device}" for number, device in lost[:3])
            others = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            self._warn(f"what the store has of {which}{others}", "there is no such round of it")
        return (
            tuple(Preparation(device=device, **of(0, device)) for device in before),
            tuple(
                replace(
                    result,
                    devices=tuple(devices.get(result.number, ())),
                    server=next(iter(server.get((result.number,), ())), None),
                    late=late.get((result.number,), ()),
                )
                for result in results
            ),
        )

    def _labels(self) -> dict[str, dict[str, Labels]]:
        found: dict[str, dict[str, Labels]] = {}
        for (device, stage), labels in self._values(schema.LABEL_SKEW):
            found.setdefault(stage, {})[device] = labels
        return found

    def _made(self) -> tuple[Deployment, ...]:
        trials: dict[int, dict[str, tuple[Trial, ...]]] = {}
        for (number, device), own in self._groups(schema.DEPLOYMENT).items():
            trials.setdefault(number, {})[device] = own
        return tuple(
            Deployment(round=number, files=files, trials=trials.get(number, {}))
            for (number,), files in self._groups(schema.MODEL_FILE).items()
        )

    def _insights(self) -> tuple[Insight, ...]:
        devices = self._groups(schema.DEVICE_INSIGHT)
        return tuple(
            replace(insight, devices=devices.get((insight.round,), ()))
            for _, insight in self._values(schema.INSIGHT)
        )


def applied(events: Iterable[Event]) -> dict[str, Applied]:
    """What each device set and read back, by its last answer to a plan."""
    return {
        event.device: event.applied
        for event in events
        if isinstance(event, PlanInForce) and event.applied is not None
    }


def notes(events: Iterable[Event]) -> dict[str, tuple[str, ...]]:
    """The messages of each device, each one once."""
    found: dict[str, list[str]] = {}
    for event in events:
        if isinstance(event, PlanInForce):
            said = [*event.notes, event.error]
        elif isinstance(event, BatchDelivered):
            said = [event.error]
            if event.delivered != event.requested:
                said.append(
                    f"{event.delivered} of {event.requested} synthetic samples were delivered"
                )
        elif isinstance(event, DeviceLost):
            said = [event.reason]
        else:
            continue
        found.setdefault(event.device, []).extend(clean(each) for each in said if each)
    return {device: tuple(dict.fromkeys(said)) for device, said in found.items() if said}


def generation(events: Iterable[Event]) -> Generation | None:
    """What the generator node made; ``None`` if no batch came.

    A device has one batch: where it was delivered again, as after a resume, the last counts. What
    was drawn and what that took counts every time. The server's images come in several batches, and
    those of devices where the learning curve was fitted to the run and images were lacking.
    """
    told = list(events)
    batches = [event for event in told if isinstance(event, BatchDelivered)]
    if not batches:
        return None
    topped_up = any(isinstance(event, LearningRefitted) and event.images for event in told)
    several = [batch for batch in batches if topped_up or batch.device == COORDINATOR]
    of_device = {batch.device: batch for batch in batches if batch not in several}
    held = [*of_device.values(), *several]
    drawn = [batch for batch in batches if batch.drawn]
    energies = [batch.energy for batch in drawn if batch.energy is not None]
    by_receiver: dict[str, int] = {}
    for batch in held:
        by_receiver[batch.device] = by_receiver.get(batch.device, 0) + batch.delivered
    return Generation(
        requested=sum(batch.requested for batch in held),
        delivered=sum(batch.delivered for batch in held),
        drawn=sum(batch.drawn for batch in drawn),
        refused=sum(batch.refused for batch in drawn),
        seconds=sum(batch.seconds for batch in drawn),
        energy=total(energies, one_meter=True) if len(energies) == len(drawn) else None,
        by_receiver=by_receiver,
    )

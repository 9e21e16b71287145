"""Reading a run from its store: read-only, tolerant of a run that ended early, never inventing.

* :func:`read_run`     the store of a run folder as a :class:`~testbed.report.run_data.RunData`
* :class:`ReportError` no such run, not a run store, unreadable

What cannot be read for a reason that does not spoil the rest is named in ``RunData.warnings``.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from coordinator.insight import DeviceInsight, Insight
from coordinator.prediction import Parts, Residual
from coordinator.results import DeviceRound, Preparation, RoundResult, ServerRound
from energy.cost_model import PhaseCost
from energy.hardware import Observation
from energy.ledger import PhaseRecord
from learning.classifier import FileCheck
from learning.training import Evaluation
from messaging.messages import DevicePlan, Goodput, Profile
from testbed.report import rows, told
from testbed.report.run_data import (
    FileTrial,
    Labels,
    Made,
    PlanSummary,
    ReportError,
    RunData,
    RunInfo,
)
from testbed.report.text import clean

__all__ = ["STORE_NAME", "ReportError", "RunData", "read_run"]

STORE_NAME = "run.sqlite"

_TABLES = {"run", "event", "profile", "plan", "device_plan", "round", "device_round", "sample"}

_T = TypeVar("_T")


def read_run(path: Path) -> RunData:
    """Read a run.

    Args:
        path: its folder, or the store itself.

    Raises:
        ReportError: there is none, it is no run store, or it cannot be read.
    """
    store = path / STORE_NAME if path.is_dir() else path
    if not store.exists():
        raise ReportError(
            f"{path}: there is no run here (no {STORE_NAME}); name a folder below runs/"
        )
    try:
        with _open(store) as db:
            return _Reader(store, db).read()
    except sqlite3.Error as error:
        raise ReportError(f"{store}: not a readable run store: {error}") from error
    except OSError as error:
        raise ReportError(f"{store}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, IndexError, msgspec.MsgspecError) as error:
        raise ReportError(f"{store}: damaged, or of another version: {error}") from error


@contextmanager
def _open(store: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection inside one transaction: one moment of a run that may be going on.

    A log left over by a crash can be unreadable where the folder is read-only, since SQLite wants
    to index it; then a copy is read.
    """
    with store.open("rb"):
        pass  # says "permission denied" where SQLite says "unable to open"
    try:
        db = _connect(store)
    except sqlite3.OperationalError:
        with tempfile.TemporaryDirectory(prefix="fimi-report-") as folder:
            copy = Path(folder) / STORE_NAME
            shutil.copyfile(store, copy)
            log = store.with_name(store.name + "-wal")
            if log.exists():
                shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
            db = _connect(copy)
            try:
                yield db
            finally:
                db.close()
        return
    try:
        yield db
    finally:
        db.close()


def _connect(store: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        db.row_factory = sqlite3.Row
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
        there = {row["name"] for row in self._rows("SELECT name FROM sqlite_master")}
        if not there >= _TABLES:
            raise ReportError(
                f"{self._store}: not a run store; it lacks the tables "
                f"{', '.join(sorted(_TABLES - there))}"
            )
        events = self._events()
        samples = self._samples()
        transfers = self._transfers() if "transfer" in there else {}
        observed = self._observed() if "observation" in there else {}
        plan, device_plans = self._plan()
        return RunData(
            path=self._store,
            info=self._info(events),
            profiles=self._bodies("SELECT device, body FROM profile ORDER BY device", Profile),
            plan=plan,
            device_plans=device_plans,
            preparations=tuple(
                Preparation(
                    device=device,
                    phases=phases,
                    predicted=predicted,
                    transfers=transfers.get((0, device), ()),
                )
                for (number, device), (phases, predicted) in samples.items()
                if number == 0
            ),
            rounds=self._rounds(
                samples, transfers, observed, self._server() if "server_round" in there else {}
            ),
            residuals=self._residuals() if "residual" in there else (),
            refits=tuple(
                row["round"]
                for row in self._rows("SELECT DISTINCT round FROM refit ORDER BY round")
            )
            if "refit" in there
            else (),
            labels=self._labels() if "label_skew" in there else {},
            made=self._made() if "deployment" in there else (),
            not_made=told.not_made(events),
            insights=self._insights() if "device_insight" in there else (),
            applied=told.applied(events),
            notes=told.notes(events),
            undelivered=told.undelivered(events),
            warnings=tuple(self._warnings),
        )

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        return self._db.execute(query, values).fetchall()

    def _decode(self, what: str, text: str, kind: type[_T]) -> _T | None:
        try:
            return msgspec.json.decode(text, type=kind, strict=False)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            self._warnings.append(f"{clean(what)} cannot be read and is left out: {error}")
            return None

    def _bodies(self, query: str, kind: type[_T], values: tuple[object, ...] = ()) -> dict[str, _T]:
        found = (
            (row["device"], self._decode(f"{kind.__name__} of {row['device']}", row["body"], kind))
            for row in self._rows(query, values)
        )
        return {device: body for device, body in found if body is not None}

    def _info(self, events: list[dict[str, Any]]) -> RunInfo:
        known: dict[str, Any] = {"run": self._store.resolve().parent.name}
        for event in events:
            if event.get("event") == "run-finished":
                known |= {"status": event.get("status"), "reason": event.get("reason")}
        fields = {field.name: field.type for field in msgspec.structs.fields(RunInfo)}
        for row in self._rows("SELECT key, value FROM run"):
            key = row["key"]
            if key in fields:
                value = self._decode(f"run.{key}", row["value"], fields[key])
                if value is not None:
                    known[key] = value
        return msgspec.convert({k: v for k, v in known.items() if v is not None}, RunInfo)

    def _events(self) -> list[dict[str, Any]]:
        query = (
            "SELECT event, body FROM event WHERE event IN ('plan-in-force', 'batch-delivered', "
            "'device-lost', 'deployed', 'not-deployed', 'run-finished') ORDER BY id"
        )
        bodies = (
            self._decode(f"event {row['event']}", row["body"], dict[str, Any])
            for row in self._rows(query)
        )
        return [body for body in bodies if body is not None]

    def _plan(self) -> tuple[PlanSummary | None, dict[str, DevicePlan]]:
        latest = self._rows("SELECT id, body FROM plan ORDER BY id DESC LIMIT 1")
        if not latest:
            return None, {}
        plan = self._decode("the plan", latest[0]["body"], PlanSummary)
        devices = self._bodies(
            "SELECT device, body FROM device_plan WHERE plan = ? ORDER BY device",
            DevicePlan,
            (latest[0]["id"],),
        )
        return plan, devices

    def _samples(
        self,
    ) -> dict[tuple[int, str], tuple[tuple[PhaseRecord, ...], tuple[PhaseCost, ...]]]:
        found: dict[tuple[int, str], tuple[list[PhaseRecord], list[PhaseCost]]] = {}
        for row in self._rows("SELECT * FROM sample ORDER BY round, device, id"):
            phases, predicted = found.setdefault((row["round"], row["device"]), ([], []))
            if row["duration_s"] is not None:
                phases.append(rows.phase_record(row))
            if row["predicted_s"] is not None:
                predicted.append(
                    PhaseCost(
                        phase=row["phase"],
                        duration_s=row["predicted_s"],
                        dynamic_j=row["predicted_dynamic_j"],
                        board_j=row["predicted_board_j"],
                    )
                )
        return {key: (tuple(p), tuple(c)) for key, (p, c) in found.items()}

    def _transfers(self) -> dict[tuple[int, str], tuple[Goodput, ...]]:
        found: dict[tuple[int, str], list[Goodput]] = {}
        for row in self._rows("SELECT * FROM transfer ORDER BY round, device, id"):
            found.setdefault((row["round"], row["device"]), []).append(rows.goodput(row))
        return {key: tuple(moved) for key, moved in found.items()}

    def _observed(self) -> dict[tuple[int, str], Observation]:
        return {
            (row["round"], row["device"]): rows.observation(row)
            for row in self._rows("SELECT * FROM observation ORDER BY round, device")
        }

    def _server(self) -> dict[int, ServerRound]:
        return {
            row["round"]: rows.server_round(row) for row in self._rows("SELECT * FROM server_round")
        }

    def _insights(self) -> tuple[Insight, ...]:
        devices: dict[int, list[DeviceInsight]] = {}
        for row in self._rows("SELECT * FROM device_insight ORDER BY round, device"):
            values = {key: row[key] for key in DeviceInsight.__struct_fields__}
            devices.setdefault(row["round"], []).append(DeviceInsight(**values))
        return tuple(
            Insight(
                round=row["round"],
                orthogonality=row["orthogonality"],
                reference_samples=row["reference_samples"],
                devices=tuple(devices.get(row["round"], ())),
            )
            for row in self._rows("SELECT * FROM insight ORDER BY round")
        )

    def _residuals(self) -> tuple[Residual, ...]:
        parts = Parts.__struct_fields__
        found = []
        for row in self._rows("SELECT * FROM residual ORDER BY round, device, rowid"):
            values = {key: row[key] for key in row.keys() if key not in parts}  # noqa: SIM118
            found.append(Residual(**values, parts=Parts(**{name: row[name] for name in parts})))
        return tuple(found)

    def _labels(self) -> dict[str, dict[str, Labels]]:
        found: dict[str, dict[str, Labels]] = {}
        for row in self._rows("SELECT * FROM label_skew ORDER BY device"):
            counts = self._decode("a label histogram", row["counts"], tuple[int, ...])
            if counts is not None:
                found.setdefault(row["stage"], {})[row["device"]] = Labels(
                    counts=counts, emd=row["emd"], entropy_bits=row["entropy_bits"]
                )
        return found

    def _made(self) -> tuple[Made, ...]:
        files: dict[int, list[FileCheck]] = {}
        for row in self._rows("SELECT * FROM model_file ORDER BY round, variant"):
            files.setdefault(row["round"], []).append(rows.file_check(row))
        trials: dict[int, list[FileTrial]] = {}
        for row in self._rows("SELECT * FROM deployment ORDER BY round, device, variant"):
            trials.setdefault(row["round"], []).append(
                FileTrial(device=row["device"], trial=rows.trial(row))
            )
        return tuple(
            Made(round=number, files=tuple(each), trials=tuple(trials.get(number, ())))
            for number, each in files.items()
        )

    def _rounds(
        self,
        samples: dict[tuple[int, str], tuple[tuple[PhaseRecord, ...], tuple[PhaseCost, ...]]],
        transfers: dict[tuple[int, str], tuple[Goodput, ...]],
        observed: dict[tuple[int, str], Observation],
        server: dict[int, ServerRound],
    ) -> tuple[RoundResult, ...]:
        devices: dict[int, list[DeviceRound]] = {}
        for row in self._rows("SELECT * FROM device_round ORDER BY round, device"):
            values = {key: row[key] for key in row.keys() if key != "round"}  # noqa: SIM118
            span = values.pop("trained_from", None), values.pop("trained_until", None)
            key = (row["round"], row["device"])
            phases, predicted = samples.get(key, ((), ()))
            devices.setdefault(row["round"], []).append(
                DeviceRound(
                    **values,
                    trained_at=None if None in span else span,
                    phases=phases,
                    predicted=predicted,
                    transfers=transfers.get(key, ()),
                    observed=observed.get(key),
                )
            )
        return tuple(
            RoundResult(
                number=row["number"],
                start_s=row["start_s"],
                duration_s=row["duration_s"],
                evaluation=Evaluation(
                    accuracy=row["accuracy"],
                    loss=row["loss"],
                    class_accuracy=self._decode(
                        f"class accuracy of round {row['number']}",
                        row["class_accuracy"],
                        tuple[float | None, ...],
                    )
                    or (),
                    samples=row["test_samples"],
                ),
                devices=tuple(devices.get(row["number"], ())),
                server=server.get(row["number"]),
            )
            for row in self._rows("SELECT * FROM round ORDER BY number")
        )

"""Reading a run from its store: read-only, tolerant of a run that ended early, never inventing.

* :func:`read_run`     the store of a run folder as a :class:`~fimi.record.record.RunData`
* :class:`ReportError` no such run, not a run store, unreadable

What cannot be read for a reason that does not spoil the rest is named in ``RunData.warnings``.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fimi.energy.cost_model import PhaseCost
from fimi.energy.hardware import Applied, Observation
from fimi.energy.joules import Energy, total
from fimi.energy.ledger import PhaseRecord
from fimi.energy.meters.sampler import MonitorCost
from fimi.energy.observe.link import LinkState
from fimi.learning.training.classifier import FileCheck
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages import DevicePlan, Goodput, Profile, Trial
from fimi.record import reader
from fimi.record.clean import clean
from fimi.record.events import BatchDelivered
from fimi.record.insight import DeviceInsight, Insight
from fimi.record.prediction import Parts, Residual
from fimi.record.record import (
    DeviceNotes,
    FileTrial,
    Generation,
    Labels,
    Made,
    NotMade,
    PlanSummary,
    ReportError,
    RunData,
    RunInfo,
)
from fimi.record.results import DeviceRound, Preparation, RoundResult, ServerRound

__all__ = ["STORE_NAME", "ReportError", "RunData", "read_run"]

STORE_NAME = "run.sqlite"

_TABLES = {"run", "event", "profile", "plan", "device_plan", "round", "device_round", "sample"}

_T = TypeVar("_T")


def read_run(path: Path | str) -> RunData:
    """Read a run.

    Args:
        path: its folder, or the store itself.

    Raises:
        ReportError: there is none, it is no run store, or it cannot be read.
    """
    path = Path(path)
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
            not_made=reader.not_made(events),
            generation=reader.generation(events),
            insights=self._insights() if "device_insight" in there else (),
            applied=reader.applied(events),
            notes=reader.notes(events),
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
                phases.append(reader.phase_record(row))
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
            found.setdefault((row["round"], row["device"]), []).append(reader.goodput(row))
        return {key: tuple(moved) for key, moved in found.items()}

    def _observed(self) -> dict[tuple[int, str], Observation]:
        return {
            (row["round"], row["device"]): reader.observation(row)
            for row in self._rows("SELECT * FROM observation ORDER BY round, device")
        }

    def _server(self) -> dict[int, ServerRound]:
        return {
            row["round"]: reader.server_round(row)
            for row in self._rows("SELECT * FROM server_round")
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
            files.setdefault(row["round"], []).append(reader.file_check(row))
        trials: dict[int, list[FileTrial]] = {}
        for row in self._rows("SELECT * FROM deployment ORDER BY round, device, variant"):
            trials.setdefault(row["round"], []).append(
                FileTrial(device=row["device"], trial=reader.trial(row))
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


def phase_record(row: sqlite3.Row) -> PhaseRecord:
    """A row of ``sample`` that was metered."""
    return PhaseRecord(
        phase=row["phase"],
        start_s=row["start_s"],
        duration_s=row["duration_s"],
        energy=_energy(row),
        sample_count=row["readings"],
        largest_gap_s=row["largest_gap_s"],
        cpu=_energy(row, "cpu_", "cpu_j") if "cpu_j" in row.keys() else None,  # noqa: SIM118
    )


def goodput(row: sqlite3.Row) -> Goodput:
    """A row of ``transfer``."""
    return Goodput(phase=row["phase"], size_bytes=row["size_bytes"], duration_s=row["duration_s"])


def observation(row: sqlite3.Row) -> Observation:
    """A row of ``observation``."""
    link = monitor = None
    if row["link_interface"] is not None:
        link = LinkState(
            interface=row["link_interface"],
            rate_bps=row["link_rate_bps"],
            signal_dbm=row["link_signal_dbm"],
        )
    if row["monitor_cpu_s"] is not None:
        monitor = MonitorCost(
            cpu_s=row["monitor_cpu_s"],
            wall_s=row["monitor_wall_s"],
            looks=row["monitor_looks"],
            failed=row["monitor_failed"],
        )
    counts = row["throttled"]
    return Observation(
        frequency_hz=row["frequency_hz"],
        frequency_source=row["frequency_source"],
        cap_hz=row["cap_hz"],
        throttled=None if counts is None else msgspec.json.decode(counts, type=dict[str, int]),
        link=link,
        rate_limit_bps=row["rate_limit_bps"],
        monitor=monitor,
        monitor_energy=_energy(row, "monitor_", "monitor_j"),
        temperature_c=row["temperature_c"] if "temperature_c" in row.keys() else None,  # noqa: SIM118
    )


def file_check(row: sqlite3.Row) -> FileCheck:
    """A row of ``model_file``."""
    return msgspec.convert({name: row[name] for name in FileCheck.__struct_fields__}, FileCheck)


def trial(row: sqlite3.Row) -> Trial:
    """A row of ``deployment``."""
    if row["accuracy"] is None:
        return Trial(variant=row["variant"], error=row["error"])
    metered = PhaseRecord(
        phase="inference",
        start_s=row["start_s"],
        duration_s=row["duration_s"],
        energy=_energy(row),
        sample_count=row["readings"],
        largest_gap_s=row["largest_gap_s"],
    )
    return Trial(
        variant=row["variant"],
        inferences=row["inferences"],
        images=row["images"],
        accuracy=row["accuracy"],
        latency_median_s=row["latency_median_s"],
        latency_p95_s=row["latency_p95_s"],
        latency_kind=row["latency_kind"],
        metered=metered,
        error=row["error"],
    )


def server_round(row: sqlite3.Row) -> ServerRound:
    """A row of ``server_round``."""
    return ServerRound(
        images=row["images"],
        seconds=row["seconds"],
        energy=_energy(row),
        loss=row["loss"],
        weight=row["weight"],
        federated_accuracy=row["federated_accuracy"],
        augmented_accuracy=row["augmented_accuracy"],
    )


def _energy(row: sqlite3.Row, prefix: str = "", value: str = "energy_j") -> Energy | None:
    if row[value] is None:
        return None
    fields = {name: row[f"{prefix}{name}"] for name in ("kind", "source", "scope", "uncertainty_j")}
    return msgspec.convert({"value_j": row[value], **fields}, Energy)


Events = Iterable[Mapping[str, Any]]


def applied(events: Events) -> dict[str, Applied]:
    """What each device set and read back, by its last answer to a plan."""
    return {
        str(event.get("device", "")): msgspec.convert(event["applied"], Applied)
        for event in events
        if event.get("event") == "plan-in-force" and event.get("applied") is not None
    }


def notes(events: Events) -> tuple[DeviceNotes, ...]:
    """What each device had to say, once each, sorted by device."""
    found: dict[str, list[str]] = {}
    for event in events:
        device = str(event.get("device", ""))
        said: list[object] = []
        if event.get("event") == "plan-in-force":
            said += [*event.get("notes", ()), event.get("error")]
        elif event.get("event") == "batch-delivered":
            said.append(event.get("error"))
            if event.get("delivered") != event.get("requested"):
                said.append(
                    f"{event.get('delivered')} of {event.get('requested')} synthetic samples "
                    "were delivered"
                )
        elif event.get("event") == "device-lost":
            said.append(event.get("reason"))
        found.setdefault(device, []).extend(clean(each) for each in said if each)
    return tuple(
        DeviceNotes(device=d, notes=tuple(dict.fromkeys(n))) for d, n in sorted(found.items()) if n
    )


def generation(events: Events) -> Generation | None:
    """What the generator node made; ``None`` if no batch came, or one cannot be read."""
    try:
        batches = [
            msgspec.convert(event, BatchDelivered)
            for event in events
            if event.get("event") == "batch-delivered"
        ]
    except msgspec.ValidationError:  # a sum of some would be wrong
        return None
    if not batches:
        return None
    drawn = [batch for batch in batches if batch.drawn]
    energies = [batch.energy for batch in drawn if batch.energy is not None]
    return Generation(
        requested=sum(batch.requested for batch in batches),
        delivered=sum(batch.delivered for batch in batches),
        drawn=sum(batch.drawn for batch in drawn),
        refused=sum(batch.refused for batch in drawn),
        seconds=sum(batch.seconds for batch in drawn),
        energy=total(energies, one_meter=True) if len(energies) == len(drawn) else None,
    )


def not_made(events: Events) -> NotMade | None:
    """Why the last export gave no file; ``None`` if it did, or nothing was exported."""
    last = next(
        (e for e in reversed([*events]) if e.get("event") in ("deployed", "not-deployed")), None
    )
    if last is None or last["event"] == "deployed":
        return None
    return NotMade(round=int(last["round"]), reason=clean(last.get("reason", ""), 1000))

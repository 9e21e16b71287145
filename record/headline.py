"""A run in one line, read from its store without the rest of it.

* :class:`Headline`   what a list of runs says of one
* :func:`headline`    the same of a run folder
* :func:`standing`    how a run stands: also whether it still runs, or was killed

Of a store that holds thousands of stretches only the table ``run``, the last round and the joules
of the phases are read. The joules are those of :func:`fimi.record.summary.summarise`, digit by
digit; a property test holds the two against each other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.energy.joules import Energy, total
from fimi.files import FileLock
from fimi.record import schema
from fimi.record.events import Intervened, tag
from fimi.record.interventions import GoOn, PauseRun
from fimi.record.phases import WAITED_MIN_S
from fimi.record.reader import faults, info_of, open_store
from fimi.record.record import RunInfo

Standing = Literal["completed", "interrupted", "failed", "running", "killed"]
"""How a run stands. ``running``: a process writes its store. ``killed``: it did not end and nobody
writes it, so that it can be gone on with."""


class Headline(Struct, frozen=True, kw_only=True):
    """A run in one line; what is not known of it is ``None`` or empty.

    Attributes:
        run: its name.
        strategy: short name.
        data: data set.
        alpha: Dirichlet α of the devices' parts.
        seed: of everything that was drawn.
        devices: that are known of.
        rounds: that were finished.
        rounds_asked: that were to be.
        accuracy: of the last global model on the test set, 0 to 1.
        energy: known joules of whole boards in all phases.
        whole: whether that is all of them; ``False`` also where none is known.
        standing: how the run stands.
        paused: whether it runs and pauses, as somebody has asked (``fimi control``).
        reason: why it ended, in one sentence.
        started_at: ISO 8601.
        finished_at: ISO 8601.
        wall_s: wall time of all of its processes, s.
        resumed: how often another process went on with it.
        command: that began it.
    """

    run: str
    strategy: str
    data: str
    alpha: float | None
    seed: int | None
    devices: int
    rounds: int
    rounds_asked: int | None
    accuracy: float | None
    energy: Energy | None
    whole: bool
    standing: Standing
    paused: bool
    reason: str
    started_at: str
    finished_at: str
    wall_s: float | None
    resumed: int
    command: str


def headline(path: Path) -> Headline:
    """A run in one line.

    Args:
        path: its folder, or the store itself.

    Raises:
        ReportError: as :func:`fimi.record.reader.read_run`.
    """
    with open_store(path) as (store, db), faults(store):
        info = info_of(store, db)
        rounds, accuracy = db.execute(
            "SELECT count(*), (SELECT accuracy FROM round ORDER BY number DESC LIMIT 1) FROM round"
        ).fetchone()
        (devices,) = db.execute(_DEVICES).fetchone()
        energy, whole = _energy(db)
        stands = standing(store, info)
        paused = stands == "running" and _pauses(db)
    asked = info.config.get("rounds.count")
    return Headline(
        run=info.run,
        strategy=info.strategy,
        data=info.dataset.name,
        alpha=info.dataset.alpha,
        seed=info.seed,
        devices=devices,
        rounds=rounds,
        rounds_asked=asked if isinstance(asked, int) else None,
        accuracy=accuracy,
        energy=energy,
        whole=whole,
        standing=stands,
        paused=paused,
        reason=info.reason,
        started_at=info.started_at,
        finished_at=info.finished_at,
        wall_s=info.wall_s,
        resumed=info.resumed,
        command=info.command,
    )


def standing(store: Path, info: RunInfo) -> Standing:
    """How a run stands, by its store and by the lock of whoever writes it.

    Raises:
        OSError: the lock cannot be looked at.
    """
    if info.status != "running":
        return info.status
    return "running" if FileLock.holder(store.with_suffix(".lock")) else "killed"


def _pauses(db: sqlite3.Connection) -> bool:
    """Whether the last that was served of pauses and their ends is a pause."""
    query = f"SELECT body FROM {schema.EVENT.name} WHERE event = ? ORDER BY id DESC"
    for (body,) in db.execute(query, [tag(Intervened)]):
        try:
            served = msgspec.json.decode(body, type=Intervened)
        except (msgspec.DecodeError, msgspec.ValidationError):
            continue  # the report names it
        if served.done and isinstance(served.request, PauseRun | GoOn):
            return isinstance(served.request, PauseRun)
    return False


_DEVICES = (
    "SELECT count(*) FROM (SELECT device FROM profile UNION SELECT device FROM device_plan WHERE "
    "plan = (SELECT max(id) FROM plan) UNION SELECT device FROM device_round d JOIN round r ON "
    "r.number = d.round)"
)
_OF_THE_RUN = (
    "(s.round = 0 OR EXISTS (SELECT 1 FROM device_round d JOIN round r ON r.number = d.round "
    "WHERE (d.round, d.device) = (s.round, s.device)))"
)
_FIRST = "(SELECT coalesce(min(number), 0) FROM round)"
_STRETCHES = (  # those of before the first round count to it
    f"SELECT max(s.round, {_FIRST}), s.device, s.round || ' ' || s.phase, s.energy_j, s.kind, "
    f"s.source, s.scope, s.uncertainty_j, s.common_j FROM sample s WHERE {_OF_THE_RUN} "
    f"ORDER BY max(s.round, {_FIRST}), s.device, s.round, s.id"
)
_TOLD = "EXISTS (SELECT 1 FROM sample s WHERE (s.round, s.device) = (x.round, x.device)"
_LACKING = (
    # a device that told nothing of a round, unless it had not joined
    "SELECT EXISTS (SELECT 1 FROM device_round x JOIN round r ON r.number = x.round WHERE NOT "
    f"{_TOLD}) AND NOT (x.status = 'absent' AND (x.unknown_max_j + length(x.unknown_kind) + "
    "length(x.unknown_source)) IS NULL)) "
    # one that told something of it, and not of a phase that was to be
    "OR EXISTS (SELECT 1 FROM prediction x JOIN round r ON r.number = x.round JOIN device_round d "
    f"ON (d.round, d.device) = (x.round, x.device) WHERE {_TOLD}) AND NOT {_TOLD} AND s.phase = "
    "x.phase) AND CASE x.phase WHEN 'idle' THEN coalesce(d.busy_s, 0) + (SELECT "
    "coalesce(sum(w.duration_s), 0) FROM sample w WHERE (w.round, w.device) = (x.round, x.device) "
    f"AND w.phase = 'waiting') + {WAITED_MIN_S} < r.duration_s ELSE d.status <> 'failed' END) "
    # one that was to receive its samples before the first round
    f"OR EXISTS (SELECT 1 FROM prediction x WHERE x.round = 0 AND NOT {_TOLD}))"
)


def _energy(db: sqlite3.Connection) -> tuple[Energy | None, bool]:
    """Known joules of the boards, and whether no part of them is missing.

    They are added up as :class:`fimi.record.sums.EnergyTally` adds them, round by round.
    """
    (lacking,) = db.execute(_LACKING).fetchone()
    whole, so_far = not lacking, dict[str, Energy]()
    for (_, device), rows in groupby(db.execute(_STRETCHES), key=itemgetter(0, 1)):
        parts = list(_parts(rows))
        whole = whole and None not in parts
        known = [part for part in parts if part is not None]
        if known:
            before = [so_far[device]] if device in so_far else []
            so_far[device] = _one_meter([*before, *known])
    energy = total(so_far.values())
    return energy, whole and energy is not None


def _parts(rows: Iterator[tuple[Any, ...]]) -> Iterator[Energy | None]:
    """The energy of each phase of a device in a round; ``None`` where a stretch was not read."""
    phases: dict[str, list[Energy | None]] = {}
    for _, _, phase, value_j, kind, source, scope, uncertainty_j, common_j in rows:
        read = value_j is not None and kind is not None and source is not None
        phases.setdefault(phase, []).append(
            Energy(
                value_j=value_j,
                kind=kind,
                source=source,
                scope=scope or "board",
                uncertainty_j=uncertainty_j or 0.0,
                common_j=common_j,
            )
            if read
            else None
        )
    for stretches in phases.values():
        known = [each for each in stretches if each is not None]
        yield _one_meter(known) if len(known) == len(stretches) else None


def _one_meter(parts: list[Energy]) -> Energy:
    added = parts[0] if len(parts) == 1 else total(parts, one_meter=True)
    assert added is not None
    return added

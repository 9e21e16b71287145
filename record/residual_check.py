"""Whether the residuals of a stored run are those of its phases and predictions.

A residual is stored when its round ends, and what is said of predictions follows from it
(:mod:`fimi.record.prediction`). :func:`check_residuals` computes each once more: predicted seconds
and joules from the predictions of the round, measured ones from the phases as the readings give
them, and what the difference comes from with the plans and cost parameters that the store has.

A meter that is late corrects phases after their round has ended; a residual may be of what was
known before.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from fimi.energy.cost_model import OperatingPoint
from fimi.energy.ledger import PhaseRecord
from fimi.record import schema
from fimi.record.description import StoreTable, T
from fimi.record.prediction import Parts, Residual, parts_of
from fimi.record.record import RunData
from fimi.record.recount import SAME, Recount, Recounted
from fimi.record.results import DeviceRound, metered

_TINY_J = 1e-9
_TRIED_MOST = 4096
_Key = tuple[int, str]


class ResidualCheck(Struct, frozen=True, kw_only=True):
    """What is known of the residuals of a run.

    Attributes:
        count: how many there are.
        wrong: a sentence for each that does not hold, or is not there.
        unchecked: those whose phases have no readings, and differ from them.
        without: rounds of devices that were predicted and metered, and have no residual.
    """

    count: int
    wrong: tuple[str, ...] = ()
    unchecked: int = 0
    without: int = 0


def check_residuals(db: sqlite3.Connection, run: RunData, found: Recount) -> ResidualCheck:
    """Compute the residuals of a run again.

    Args:
        db: its open store.
        run: that run.
        found: its phases, recounted.
    """
    phases: dict[_Key, list[Recounted]] = {}
    for each in found.phases:
        if each.record is not None:
            phases.setdefault((each.round, each.device), []).append(each)
    entries = {
        (result.number, entry.device): entry
        for result in run.rounds
        for entry in result.participants
    }
    stored: dict[_Key, list[Residual]] = {}
    wrong: list[str] = []
    for residual in run.residuals:
        key = (residual.round, residual.device)
        if key in entries:
            stored.setdefault(key, []).append(residual)
        else:
            wrong.append(f"{_place(residual)}: the device did not take part in the round")
    known = _Known(db, run)
    unchecked = without = 0
    for key, entry in entries.items():
        own, of_round = stored.get(key, []), phases.get(key, [])
        for residual in own:
            said = _fault(residual, entry, of_round, known)
            if said and any(each.verdict == "unchecked" for each in of_round):
                unchecked += 1
            elif said:
                wrong.append(f"{_place(residual)}: {said}")
        lacking = list(_lacking(entry, of_round, own))
        if lacking and own:
            where = f"{entry.device}, round {key[0]}"
            wrong.append(
                f"{where}: {', '.join(lacking)} was predicted and metered, and is left out"
            )
        elif lacking:
            without += 1
    return ResidualCheck(
        count=len(run.residuals), wrong=tuple(wrong), unchecked=unchecked, without=without
    )


class _Known:
    """The operating points and cost parameters that a store has of each device."""

    def __init__(self, db: sqlite3.Connection, run: RunData) -> None:
        self._points: dict[str, list[OperatingPoint]] = {}
        self._boards = {device: [profile.board] for device, profile in run.profiles.items()}
        for device, board in _bodies(db, schema.REFIT):
            _add(self._boards.setdefault(device, []), board)
        for device, plan in _bodies(db, schema.DEVICE_PLAN):
            _add(self._points.setdefault(device, []), plan.point)

    def parts(self, residual: Residual, frequency_hz: float | None) -> Iterator[Parts]:
        """What its difference comes from, by each plan and each fit."""
        points = self._points.get(residual.device, [])
        for point, board in itertools.product(points, self._boards.get(residual.device, [])):
            yield parts_of(
                residual.phase,
                (residual.predicted_s, residual.predicted_j),
                (residual.measured_s, residual.measured_j),
                point,
                frequency_hz or point.frequency_hz,
                board,
            )


def _bodies(db: sqlite3.Connection, table: StoreTable[T]) -> Iterator[tuple[str, T]]:
    """Values in one column, with their device; those that cannot be read are named elsewhere."""
    for device, body in db.execute(f"SELECT device, body FROM {table.name}"):
        with contextlib.suppress(msgspec.DecodeError):
            yield device, msgspec.json.decode(body, type=table.of, strict=False)


def _add(known: list[Any], value: Any) -> None:
    if value not in known:
        known.append(value)


def _fault(
    residual: Residual, entry: DeviceRound, phases: Iterable[Recounted], known: _Known
) -> str:
    """What is wrong with a residual, in words; empty where it holds."""
    cost = next((c for c in entry.predicted if c.phase == residual.phase), None)
    if cost is None:
        return "nothing was predicted of it"
    if not _close(cost.board_j, residual.predicted_j):
        return f"predicted {residual.predicted_j:.9g} J, its prediction says {cost.board_j:.9g} J"
    if not _close(cost.duration_s, residual.predicted_s):
        return (
            f"predicted {residual.predicted_s:.9g} s, its prediction says {cost.duration_s:.9g} s"
        )
    own = _of_phase(residual.phase, phases)
    if not any(
        _close(seconds, residual.measured_s) and _close(joules, residual.measured_j)
        for seconds, joules in _measured(own)
    ):
        energy = metered([_last(each) for each in own])
        said = "nothing" if energy is None else f"{energy.value_j:.9g} J"
        seconds = math.fsum(_last(each).duration_s for each in own)
        return (
            f"measured {residual.measured_j:.9g} J in {residual.measured_s:.9g} s, its phases have "
            f"{said} in {seconds:.9g} s"
        )
    if not any(_same(residual.parts, each) for each in known.parts(residual, entry.frequency_hz)):
        return "what its difference comes from follows from no plan and no fit of the device"
    return ""


def _lacking(
    entry: DeviceRound, phases: Iterable[Recounted], stored: Iterable[Residual]
) -> Iterator[str]:
    """Phases that were predicted, and metered by the end of the round, without a residual."""
    there = {each.phase for each in stored}
    for cost in entry.predicted:
        own = _of_phase(cost.phase, phases)
        if cost.phase in there or not own:
            continue
        if all(record.resolved and record.energy for each in own for record in _versions(each)):
            yield cost.phase


def _of_phase(phase: str, phases: Iterable[Recounted]) -> list[Recounted]:
    """The stretches that a prediction is compared with: idling together with waiting."""
    names = ("idle", "waiting") if phase == "idle" else (phase,)
    return [each for each in phases if each.phase in names]


def _measured(own: list[Recounted]) -> Iterator[tuple[float, float]]:
    """Seconds and joules of stretches, as known at the end and at any time before."""
    ways = math.prod(len(_versions(each)) + 1 for each in own)
    choices: Iterable[tuple[PhaseRecord | None, ...]]
    if ways <= _TRIED_MOST:
        choices = itertools.product(*([*_versions(each), None] for each in own))
    else:
        choices = (
            tuple(_last(each) for each in own),
            tuple(_versions(each)[-1] for each in own),
        )
    for choice in choices:
        records = [record for record in choice if record is not None]
        energy = metered(records)
        if energy is not None:
            yield math.fsum(record.duration_s for record in records), energy.value_j


def _last(each: Recounted) -> PhaseRecord:
    """A stretch as its readings give it in the end; as it is stored, where they do not."""
    return _versions(each)[0]


def _versions(each: Recounted) -> list[PhaseRecord]:
    """The same, and what was told of it before."""
    assert each.record is not None
    now = each.record if each.again is None or each.verdict == "unchecked" else each.again
    return [now, *(version for version in each.versions if version != now)]


def _same(one: Parts, other: Parts) -> bool:
    return all(
        math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e3 * SAME, abs_tol=_TINY_J)
        for name in Parts.__struct_fields__
    )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=10 * SAME, abs_tol=_TINY_J)


def _place(residual: Residual) -> str:
    return f"{residual.device}, round {residual.round}, {residual.phase}"

"""Every joule of a stored run, computed once more from the readings of its devices' meters.

:func:`recount` feeds the readings of each device to ledgers (:mod:`fimi.energy.replay`), and
compares what these say with what the store has, phase by phase and with all that is known of a
phase: energy, uncertainty, whether it is resolved, the processor's share, the second meter. What
readings say beside phases (equations of powers, resting powers) is compared too: the figures of
:mod:`fimi.record.summary` follow from both.

What becomes of a phase:

``holds``      the readings give what is stored
``differs``    they give something else
``unchecked``  there is nothing to compare it with, and why: no readings, a part that is missing,
               a power that was declared
``absent``     the readings have a phase that was reported, and the store has not

:func:`recounted` gives the run with the energies that the readings give, so that sums of both can
be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Energy
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.energy.ledger_parts import LoggedPart
from fimi.energy.replay import Replayed, Told, replay
from fimi.record.credit import FULL
from fimi.record.reader import open_store, read_run
from fimi.record.readings import StoredPart, devices_in, parts_in
from fimi.record.record import RunData
from fimi.record.results import DeviceStretch

Verdict = Literal["holds", "differs", "unchecked", "absent"]

SAME = 1e-9
"""Relative difference of two numbers that are the same but for another processor's rounding."""

LEFT_OUT = "but for what other meters say, whose readings had no room"
"""What does not count into a verdict where only the meter in the sums can be asked."""

_TINY = 1e-12
_GAP_MOST = 1000
"""Missing parts that are named one by one."""
_UNSURE = 2
"""So many phases behind a missing part, what came before counts in their joules."""
_WAITS: tuple[Phase, ...] = ("idle", "waiting")
_COMPARED = (
    *("duration_s", "energy", "sample_count", "largest_gap_s", "cpu", "second"),
    *("second_resolved", "resolved", "most_j"),
)
_SERIES = {
    "total": "the meter",
    "cpu": "the processor's share",
    "second": "the second meter",
}
_NAMES = {
    "energy": "energy",
    "cpu": "the processor's share",
    "second": "the second meter's energy",
    "most_j": "at most, J,",
    "sample_count": "readings",
}


class Recounted(Struct, frozen=True, kw_only=True):
    """A phase, and what its readings give.

    Attributes:
        device: whose.
        round: in which it stands; 0 for the time before the first.
        record: as it is stored; ``None`` where it is absent.
        again: as its readings give it; ``None`` where nothing gives it.
        verdict: whether both are the same.
        why: what differs, or why it is not known, in words; empty where it holds.
        declared: whether its joules are of a declared power, which no meter has shown.
        versions: as its readings gave it, each time: a meter that is late corrects it.
    """

    device: str
    round: int
    record: PhaseRecord | None
    again: PhaseRecord | None
    verdict: Verdict
    why: str = ""
    declared: bool = False
    versions: tuple[PhaseRecord, ...] = ()

    @property
    def phase(self) -> Phase:
        """Of which kind it is."""
        record = self.record or self.again
        assert record is not None
        return record.phase

    @property
    def difference_j(self) -> float:
        """Stored less recounted energy, J; 0 where either is unknown."""
        again = self.again.energy if self.again is not None else None
        stored = self.record.energy if self.record is not None else None
        if again is None or (stored is None and self.verdict != "absent"):
            return 0.0
        return (stored.value_j if stored is not None else 0.0) - again.value_j


class Recount(Struct, frozen=True, kw_only=True):
    """A run, recounted.

    Attributes:
        phases: of all devices, those of trials of the model included.
        evidence: pieces of evidence that can be checked, and how many of these hold.
        other_evidence: sentences, one for each piece that does not.
        missing: sentences on parts of readings that are not there, one for each.
        left_out: sentences on parts without the readings of a meter that is in no sum.
        damaged: sentences on those that are there, and are not as they came.
        parts: how many parts of readings there are.
        readings: how many readings are in them.
        said: what readings say beside the joules of phases, by device.
    """

    phases: tuple[Recounted, ...]
    evidence: tuple[int, int] = (0, 0)
    other_evidence: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    parts: int = 0
    readings: int = 0
    said: dict[str, tuple[Evidence, ...]] = {}

    def of(self, verdict: Verdict) -> list[Recounted]:
        """The phases with this verdict, those with the largest differences first."""
        found = [each for each in self.phases if each.verdict == verdict]
        return sorted(found, key=lambda each: -abs(each.difference_j))

    @property
    def holds(self) -> bool:
        """Whether nothing that can be checked differs."""
        wrong = any(each.verdict in ("differs", "absent") for each in self.phases)
        return not wrong and not self.other_evidence and not self.damaged


class _Given(Struct, frozen=True):
    """A phase as a ledger gave it, and what is known of the ledger.

    Attributes:
        told: the phase.
        is_last: whether it was given in the last part that is stored of the ledger.
        is_first: whether its ledger knew little before it.
    """

    told: Told
    is_last: bool
    is_first: bool


class _Known(Struct):
    """What the readings of a device say.

    Attributes:
        told: phases by kind and beginning, each as often as it was given.
        evidence: what was said beside them.
        missing: sentences on parts that are not there.
        left_out: sentences on parts without the readings of a meter that is in no sum.
        damaged: sentences on parts that are there, and are not as they came.
        parts: how many there are.
        readings: how many readings these have.
        declared: whether the meter is a declared power.
        lives: how many ledgers there were.
    """

    told: dict[tuple[Phase, float], list[_Given]] = {}
    evidence: list[Evidence] = []
    missing: list[str] = []
    left_out: list[str] = []
    damaged: list[str] = []
    parts: int = 0
    readings: int = 0
    declared: bool = False
    lives: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether no part is missing or damaged."""
        return not self.missing and not self.damaged


def recount(path: Path | str, run: RunData | None = None) -> Recount:
    """Compute the joules of a run again.

    Args:
        path: a run folder or its store.
        run: that run, where it has been read already.

    Raises:
        fimi.record.record.ReportError: there is no run, or it cannot be read.
    """
    run = run or read_run(path)
    with open_store(path) as (_, db):
        known = {device: _known(device, list(parts_in(db, device))) for device in devices_in(db)}
    stored = list(_stored(run))
    phases = [_compared(known.get(each[0]), *each) for each in stored]
    phases += _absent(run, known, stored)
    told = [each for each in _evidence(run) if each[0] in known and known[each[0]].is_whole]
    wrong = [
        f"{device}, {_of(number)}: no readings give this evidence"
        for device, number, evidence in told
        if not _is_in(evidence, known[device])
    ]
    return Recount(
        phases=tuple(phases),
        evidence=(len(told), len(told) - len(wrong)),
        other_evidence=tuple(wrong),
        missing=tuple(said for each in known.values() for said in each.missing),
        left_out=tuple(said for each in known.values() for said in each.left_out),
        damaged=tuple(said for each in known.values() for said in each.damaged),
        parts=sum(each.parts for each in known.values()),
        readings=sum(each.readings for each in known.values()),
        said={device: tuple(each.evidence) for device, each in known.items()},
    )


def recounted(run: RunData, found: Recount) -> RunData:
    """The run with the energies that its readings give; what was not checked stays."""
    again = {
        (each.device, each.record.phase, each.record.start_s): each.again
        for each in found.phases
        if each.record is not None and each.again is not None and each.verdict != "unchecked"
    }

    def of(entry: DeviceStretch) -> DeviceStretch:
        phases = tuple(again.get((entry.device, p.phase, p.start_s), p) for p in entry.phases)
        return msgspec.structs.replace(entry, phases=phases)

    return msgspec.structs.replace(
        run,
        preparations=tuple(map(of, run.preparations)),
        rounds=tuple(
            msgspec.structs.replace(each, devices=tuple(map(of, each.devices)))
            for each in run.rounds
        ),
    )


_Stored = tuple[str, int, PhaseRecord]


def _stored(run: RunData) -> Iterator[_Stored]:
    """The phases that a run has, with device and round."""
    for before in run.preparations:
        yield from ((before.device, 0, record) for record in before.phases)
    for result in run.rounds:
        for entry in result.devices:
            yield from ((entry.device, result.number, record) for record in entry.phases)
    for made in run.made:
        for device, trials in made.trials.items():
            for trial in trials:
                if trial.metered is not None:
                    yield device, made.round, trial.metered


def _evidence(run: RunData) -> Iterator[tuple[str, int, Evidence]]:
    for before in run.preparations:
        yield from ((before.device, 0, each) for each in before.evidence)
    for result in run.rounds:
        for entry in result.devices:
            yield from ((entry.device, result.number, each) for each in entry.evidence)


def _known(device: str, parts: list[StoredPart]) -> _Known:
    """What the parts of a device say, one life after the other."""
    known = _Known()
    lives: dict[str, list[StoredPart]] = {}
    for part in parts:
        lives.setdefault(part.row.life, []).append(part)
    for own in lives.values():
        noted: list[LoggedPart | None] = []
        for part in own:
            for number in range(len(noted), min(part.row.part, len(noted) + _GAP_MOST)):
                known.missing.append(
                    f"{device}: part {number} of its readings, before those of "
                    f"{_of(part.round)}, is not there"
                )
                noted.append(None)
            try:
                said = part.noted()
            except ValueError as error:
                where = known.missing if part.row.body is None else known.damaged
                where.append(f"{device}, {_of(part.round)}, part {part.row.part}: {error}")
                noted.append(None)
                continue
            noted.append(said)
            known.left_out += [
                f"{device}, {_of(part.round)}, part {part.row.part}: without those of "
                f"{_SERIES[name]}: {why}"
                for name, why in said.left_out.items()
            ]
            known.parts += 1
            known.readings += part.row.count
        found = _replayed(noted, known)
        after_gap: dict[int, int] = {}
        for told in found.told:
            seen = after_gap.get(told.part, 0)
            after_gap[told.part] = seen + 1
            gap = bool(told.part) and noted[told.part - 1] is None
            key = (told.record.phase, told.record.start_s)
            given = _Given(told, told.part == len(noted) - 1, gap and seen < _UNSURE)
            known.told.setdefault(key, []).append(given)
        known.evidence += [evidence for evidence, _ in found.evidence]
        known.lives += 1
        meters = [each.meters["total"] for each in noted if each is not None]
        known.declared |= any(m.kind == "modelled" and m.rate_hz == 0.0 for m in meters)
    return known


def _replayed(noted: list[LoggedPart | None], known: _Known) -> Replayed:
    try:
        return replay(noted)
    except (ValueError, KeyError) as error:
        known.missing.append(f"readings that cannot be told to a ledger: {error}")
        return Replayed()


def _compared(known: _Known | None, device: str, number: int, record: PhaseRecord) -> Recounted:
    """A stored phase against what readings say of it."""

    def found(verdict: Verdict, why: str, again: PhaseRecord | None = None) -> Recounted:
        return Recounted(
            device=device,
            round=number,
            record=record,
            again=again,
            verdict=verdict,
            why=why,
            declared=known is not None and known.declared,
            versions=tuple(given.told.record for given in versions),
        )

    versions = known.told.get((record.phase, record.start_s), []) if known is not None else []
    for given in versions:
        again = _as_known(record, given.told)
        if not _differences(record, again):
            whole = not _differences(again, given.told.record)
            return found("holds", "" if whole else LEFT_OUT, again)
    if not versions:
        if record.energy is None and record.sample_count == 0:
            return found("unchecked", "nothing was metered")
        if known is None:
            return found("unchecked", "its device has reported no readings")
        if gone := known.missing + known.damaged:
            return found("unchecked", f"its readings are not there: {gone[0]}")
        return found("differs", "there are no readings of such a phase")
    last = versions[-1]
    again = _as_known(record, last.told)
    if record.energy is None and last.told.without:
        return found("unchecked", "it has no joules, and some of its readings had no room")
    why = "; ".join(_differences(record, again))
    if last.told.whole:
        return found("differs", why, again)
    if _same_energy(record.energy, again.energy):
        return found("holds", "but for what follows from readings before it, which are not there")
    if last.is_first or not record.resolved:
        return found("unchecked", "readings before it are not there")
    return found("differs", why, again)


def _as_known(record: PhaseRecord, told: Told) -> PhaseRecord:
    """What readings say of a phase; as stored, where those of a series were left out."""
    again = told.record
    if "cpu" in told.without:
        again = msgspec.structs.replace(again, cpu=record.cpu)
    if "second" in told.without:
        again = msgspec.structs.replace(
            again, second=record.second, second_resolved=record.second_resolved
        )
    return again


def _absent(
    run: RunData, known: dict[str, _Known], stored: Iterable[_Stored]
) -> Iterator[Recounted]:
    """Phases that were reported, and that the store has not."""
    there = {(device, record.phase, record.start_s) for device, _, record in stored}
    apart = {
        (entry.device, result.number)
        for result in run.rounds
        for entry in result.devices
        if entry.status == "refused" or FULL in entry.reason
    }
    for device, own in known.items():
        for (phase, start_s), versions in own.told.items():
            told = versions[0].told
            if (device, phase, start_s) in there or phase == "inference":
                continue
            if phase in _WAITS and not told.record.duration_s:
                continue  # not reported
            owed = told.number == 0 and (versions[0].is_last or own.lives > 1)
            if owed or (device, told.number) in apart:
                continue
            yield Recounted(
                device=device,
                round=told.number,
                record=None,
                again=told.record,
                verdict="absent",
                why="it was reported, and is not in the store",
            )


def _is_in(evidence: Evidence, known: _Known) -> bool:
    return any(_alike(evidence, each) for each in known.evidence)


def _differences(stored: PhaseRecord, again: PhaseRecord) -> list[str]:
    """What is not the same in two records of a phase, in words."""
    found = []
    for name in _COMPARED:
        one, other = getattr(stored, name), getattr(again, name)
        if not _alike(one, other):
            found.append(f"{_NAMES.get(name, name)} {_said(one)}, its readings give {_said(other)}")
    return found


def _same_energy(one: Energy | None, other: Energy | None) -> bool:
    return one is not None and other is not None and _alike(one.value_j, other.value_j)


def _alike(one: object, other: object) -> bool:
    """Whether two values are the same, but for the last digits of numbers."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=SAME, abs_tol=_TINY)
    if isinstance(one, Struct) and type(one) is type(other):
        return all(_alike(getattr(one, n), getattr(other, n)) for n in one.__struct_fields__)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return one == other


def _said(value: object) -> str:
    if isinstance(value, Energy):
        return f"{value.value_j:.9g} ± {value.uncertainty_j:.3g} J ({value.kind}, {value.source})"
    return (
        "nothing" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
    )


def _of(number: int) -> str:
    return f"round {number}" if number else "before the first round"

"""What a device reports after its round was closed is still credited to that round.

* :func:`credited`  a device's entry with a report, an idle phase, or both that came late
* :func:`reported`  the fields of an entry that come from a report
* :func:`idle_only`  the entry of a device that has idled through a round
* :func:`new_stretches`  those of a device's phases that are not known yet
* :func:`prepared_again`  what a device did before the first round, told once more
* :func:`corrected`      those that are known, with what a late meter said of them afterwards

The same report or idle phase a second time changes nothing. However much a device tells after the
first report, its entry has :data:`STRETCHES_MOST` stretches and :data:`EVIDENCE_MOST` pieces of
evidence, and says so: nobody fills the record by reporting on and on. The model of the round is
made: a late report changes joules, seconds and what is known of the training, never whether an
update counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.messaging.messages.facts import RoundReport, RoundSettled
from fimi.record.bounds import own_s, remaining, unmetered_s
from fimi.record.results import DeviceRound, DeviceStatus, Preparation

AFTERWARDS = "reported after the round closed"
"""Said in the reason of a device whose report came late."""
STRETCHES_MOST = 1000
"""Stretches of an entry beyond which nothing more is credited to it; a round has about ten, and one
more for each time in which a transfer waited."""
EVIDENCE_MOST = 16
"""The same for what readings say beside their joules: one each of work and idling of a start."""
FULL = (
    f"reported on and on; {STRETCHES_MOST} stretches and {EVIDENCE_MOST} readings of a round are "
    "kept"
)
"""Said in the reason of a device of which something was left out because of that."""

_UNREPORTED: tuple[DeviceStatus, ...] = ("missing", "failed", "absent", "late")
"""Statuses of a device whose report may still come; a refused one has been judged."""

_SAME = {*DeviceRound.__struct_fields__} & {*RoundReport.__struct_fields__} - {"device"}


def reported(report: RoundReport) -> dict[str, Any]:
    """The fields of a device's entry that come from its report, by name."""
    fields = {name: getattr(report, name) for name in _SAME}
    loss = report.training_loss
    fields["training_loss"] = loss if loss is not None and math.isfinite(loss) else None
    fields["evidence"] = (report.evidence,) if report.evidence is not None else ()
    return fields | {"unlabelled_samples": report.unlabelled}


def credited(
    entry: DeviceRound,
    round_s: float,
    report: RoundReport | None = None,
    settled: RoundSettled | None = None,
) -> DeviceRound:
    """A device's entry with what came after its round was closed.

    Args:
        entry: as it is stored.
        round_s: length of the round, s.
        report: its report of the round, if it came; of a second one, by another start of the device
            for example, its phases are added.
        settled: its idle phase, if it came; stretches that the entry has already are not added.

    Returns:
        The entry itself where nothing is new.
    """
    before, was_s = entry.phases, _unmetered_s(entry, round_s)
    if report is not None and entry.busy_s is None and entry.status in _UNREPORTED:
        fields = reported(report)
        fields["phases"] = (*new_stretches(report.phases, before), *before)
        fields["evidence"] = (*fields["evidence"], *entry.evidence)
        said = "; ".join(filter(None, [entry.reason, report.error, AFTERWARDS]))
        failed = report.error and entry.status != "late"  # that one broke off because it was late
        status: DeviceStatus = "failed" if failed else "late"
        entry = msgspec.structs.replace(entry, **fields, status=status, reason=said)
    elif report is not None and entry.busy_s is not None:
        at = len(before) - _stands_in(before[-1:])
        new = new_stretches(report.phases, before)
        entry = _with_more(entry, before[:at], new, before[at:], report.evidence)
    if settled is not None:
        known = entry.phases[:-1] if _stands_in(entry.phases[-1:]) else entry.phases
        idle = new_stretches(settled.phases, known)
        after = () if idle else entry.phases[len(known) :]
        entry = _with_more(entry, known, idle, after, settled.evidence)
        again = corrected(entry.phases, settled.phases)
        if again != entry.phases:
            entry = msgspec.structs.replace(entry, phases=again)
    if entry.phases != before:
        left = remaining(entry.unknown_max, was_s, _unmetered_s(entry, round_s))
        entry = idle_only(msgspec.structs.replace(entry, unknown_max=left), round_s)
    return entry


def _with_more(
    entry: DeviceRound,
    before: tuple[PhaseRecord, ...],
    new: tuple[PhaseRecord, ...],
    after: tuple[PhaseRecord, ...],
    evidence: Evidence | None,
) -> DeviceRound:
    """An entry with these stretches and with evidence, as far as there is room for them."""
    kept, full = (*before, *new, *after), False
    if new and len(kept) > STRETCHES_MOST:
        kept, full = entry.phases, True
    told = entry.evidence
    if evidence is not None and evidence not in told:
        full |= len(told) >= EVIDENCE_MOST
        told = (*told, evidence)[:EVIDENCE_MOST]
    reason = entry.reason
    if full and FULL not in reason:
        reason = "; ".join(filter(None, [reason, FULL]))
    return msgspec.structs.replace(entry, phases=kept, evidence=told, reason=reason)


def idle_only(entry: DeviceRound, round_s: float) -> DeviceRound:
    """A device's entry; one that told nothing but of idling all the round has done nothing else.

    Then nothing that was predicted of its work is missing.
    """
    told_more = entry.busy_s is not None or any(p.phase != "idle" for p in entry.phases)
    if told_more or unmetered_s(round_s, entry.phases) > 0.0:
        return entry
    idle = tuple(cost for cost in entry.predicted if cost.phase == "idle")
    return msgspec.structs.replace(entry, predicted=idle)


def corrected(
    known: tuple[PhaseRecord, ...], told: Iterable[PhaseRecord]
) -> tuple[PhaseRecord, ...]:
    """Known phases, of which those that were not final are replaced by what was told of them."""
    there = {(phase.phase, phase.start_s): phase for phase in told if phase.final}
    return tuple(
        phase if phase.final else there.get((phase.phase, phase.start_s), phase) for phase in known
    )


def new_stretches(
    told: Iterable[PhaseRecord], known: Iterable[PhaseRecord]
) -> tuple[PhaseRecord, ...]:
    """Stretches that are not known; a device does one thing at a time, so its clock tells them."""
    there = {(phase.phase, phase.start_s) for phase in known}
    return tuple(phase for phase in told if (phase.phase, phase.start_s) not in there)


def prepared_again(before: Preparation, told: Preparation) -> Preparation:
    """What a device did before the first round, told once more: as the run store keeps both."""
    new = new_stretches(told.phases, before.phases)
    if told.phases and not new:
        return before
    return replace(
        before,
        phases=(*before.phases, *new),
        predicted=(*before.predicted, *told.predicted),
        transfers=(*before.transfers, *told.transfers),
        evidence=before.evidence or told.evidence,
    )


def _unmetered_s(entry: DeviceRound, round_s: float) -> float:
    left_s = own_s(round_s, entry.busy_s, entry.waited_s, entry.phases)
    return unmetered_s(left_s, entry.phases)


def _stands_in(last: tuple[PhaseRecord, ...]) -> bool:
    """Whether the last phase is the one that is written where a device's own idle phase is not."""
    return any(p.phase == "idle" and p.energy is None and p.sample_count == 0 for p in last)

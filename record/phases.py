"""A run phase by phase: the parts that all sums are made of, and the sum of each phase.

* :func:`round_parts`, :func:`preparation_parts`, :func:`run_parts`  the parts of a round, of a
  preparation, and of a whole run
* :func:`foreseen`        what was predicted of a device, waiting included
* :class:`PhaseCell`      one device, or the fleet, in one phase over the whole run
* :func:`device_cells`    the phases of a device
* :func:`fleet_cells`     the same of all devices together
* :func:`phase_seconds`   how long a device's phases take in a round
* :func:`add_dynamic`     the paper's energy: compute and upload above idle
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from fimi.energy.cost_model import PHASES, Phase, PhaseCost
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.record.record import RunData
from fimi.record.resolution import DYNAMIC, DeviceMetering, PartKey
from fimi.record.results import APART, DeviceStretch, Preparation, RoundResult, metered
from fimi.record.sums import Compared, EnergyPart, EnergyTally, How, Sum, mean

_OF_A_ROUND: tuple[Phase, ...] = ("model-download", "compute", "upload", "idle")
WAITED_MIN_S = 1e-6
"""A device that waited for less at the end of a round has no idle phase, s."""


class PhaseCell(Struct, frozen=True, kw_only=True):
    """One phase of one device over the whole run, or of the fleet.

    Attributes:
        device: its id; empty for the fleet.
        phase: which.
        energy: whole board, every time that it took place.
        compared: the same against its prediction.
        measured_s: mean length of one occurrence (of the fleet: mean over devices), s.
        predicted_s: what the model said, s.
        count: occurrences that were metered.
        hows: in which ways its energy was told.
        most_j: the most that it can have taken, J, where a part is not told; ``None`` if unknown.
        rounds_needed: about how many rounds a regression needs until it can tell it; ``None`` if
            that cannot be said.
    """

    device: str
    phase: Phase
    energy: Sum
    compared: Compared
    measured_s: float | None
    predicted_s: float | None
    count: int
    hows: tuple[How, ...] = ()
    most_j: float | None = None
    rounds_needed: int | None = None


def round_parts(result: RoundResult) -> tuple[EnergyPart, ...]:
    """What a round is made of, device by device in the order of a round.

    A device that told nothing has a silent part for each phase that was predicted of it; without a
    prediction for each phase of a round, or for idling alone if it was not to train. One that told
    something lacks what was predicted and is not there: any phase unless it failed before it, and
    idling unless it was busy, or waited for its pull, to the end of the round. A device that had
    not joined yet has no part in it.
    """
    parts: list[EnergyPart] = []
    for entry in result.devices:
        if entry.is_outside:
            continue
        apart = entry.status in APART
        silent = tuple(cost.phase for cost in entry.predicted)
        silent = silent or (("idle",) if apart else _OF_A_ROUND)
        idled = (entry.busy_s or 0.0) + entry.waited_s + WAITED_MIN_S < result.duration_s
        due = [p for p in silent if (idled if p == "idle" else entry.status != "failed")]
        parts += _parts(
            entry,
            result.number,
            silent,
            due if entry.predicted else (),
            participant=not apart,
            absent=entry.status == "absent",
            unknown_max=entry.unknown_max,
        )
    return tuple(parts)


def run_parts(run: RunData) -> tuple[EnergyPart, ...]:
    """What a run is made of, from the preparations on."""
    before = (part for each in run.preparations for part in preparation_parts(each))
    return (*before, *(part for result in run.rounds for part in round_parts(result)))


def preparation_parts(preparation: Preparation) -> tuple[EnergyPart, ...]:
    """What a device's preparation is made of; its round is 0."""
    if not preparation.phases and not preparation.predicted:  # it has rested, and received nothing
        return ()
    return tuple(_parts(preparation, 0, ("synthetic-download",)))


def foreseen(entry: DeviceStretch) -> tuple[PhaseCost, ...]:
    """What was predicted of a device, with the waiting that it did: no time and no joules.

    No plan has ``waiting``. Its predicted phases fill the round, so that leaving it out would set
    only a part of what the board used against a prediction of all of it.
    """
    waits = any(phase.phase == "waiting" for phase in entry.phases)
    if not waits or not entry.predicted or any(c.phase == "waiting" for c in entry.predicted):
        return entry.predicted
    nothing = PhaseCost(phase="waiting", duration_s=0.0, dynamic_j=0.0, board_j=0.0)
    return (*entry.predicted, nothing)


def device_cells(
    run: RunData,
    device: str,
    parts: Sequence[EnergyPart],
    metering: DeviceMetering | None = None,
) -> tuple[PhaseCell, ...]:
    """The phases of a device over the whole run, in the order of a round.

    Args:
        run: the run.
        device: which.
        parts: its own, as :func:`fimi.record.resolution.told_apart` gives them.
        metering: what its readings say beside them.
    """
    costs = [cost for stretch in run.stretches_of(device) for cost in foreseen(stretch)]
    return tuple(
        _cell(
            device,
            phase,
            chosen,
            mean(part.duration_s for part in chosen),
            mean(cost.duration_s for cost in costs if cost.phase == phase),
            metering.rounds_needed(phase)
            if metering is not None and any(part.how == "unresolved" for part in chosen)
            else None,
        )
        for phase in PHASES
        if (chosen := [part for part in parts if part.phase == phase])
        or any(cost.phase == phase for cost in costs)
    )


def fleet_cells(cells: Sequence[PhaseCell], parts: Sequence[EnergyPart]) -> tuple[PhaseCell, ...]:
    """The phases of all devices together, in the order of a round."""
    there = [phase for phase in PHASES if any(cell.phase == phase for cell in cells)]
    return tuple(
        _cell(
            "",
            phase,
            [part for part in parts if part.phase == phase],
            mean(cell.measured_s for cell in cells if cell.phase == phase),
            mean(cell.predicted_s for cell in cells if cell.phase == phase),
        )
        for phase in there
    )


def phase_seconds(run: RunData, device: str) -> dict[Phase, tuple[float | None, float | None]]:
    """Mean length of a device's phases in the rounds it took part in, metered and predicted, s."""
    own = {number: d for number, d in run.rounds_of(device) if d.status not in APART}
    rounds = tuple(
        msgspec.structs.replace(r, devices=(own[r.number],)) for r in run.rounds if r.number in own
    )
    alone = msgspec.structs.replace(run, preparations=(), rounds=rounds)
    return {
        cell.phase: (cell.measured_s, cell.predicted_s)
        for cell in device_cells(alone, device, run_parts(alone))
    }


def add_dynamic(
    tally: EnergyTally, parts: Iterable[EnergyPart], above: Mapping[PartKey, Energy]
) -> None:
    """Add what compute and upload took above resting.

    Args:
        tally: what it is added to.
        parts: of the run, or of a time in it.
        above: from :func:`fimi.record.resolution.above_rest`; a part that is not there is missing.
    """
    for part in parts:
        if part.phase in DYNAMIC:
            key = (part.device, part.round, part.phase)
            tally.enter(part.gap, above.get(key), part.predicted_dynamic_j)


def _parts(
    entry: DeviceStretch,
    number: int,
    silent: tuple[Phase, ...],
    due: Iterable[Phase] = (),
    **more: Any,
) -> list[EnergyPart]:
    part = partial(EnergyPart, device=entry.device, round=number, **more)
    if not entry.phases:
        return [part(phase=phase, silent=True) for phase in silent]
    costs = {cost.phase: cost for cost in foreseen(entry)}
    found = []
    for phase in dict.fromkeys([*(record.phase for record in entry.phases), *due]):
        same = [record for record in entry.phases if record.phase == phase]
        cost = costs.get(phase)
        found.append(
            part(
                phase=phase,
                energy=metered(same),
                resolved=all(record.resolved for record in same),
                most_j=_most_j(same),
                middle_s=_middle_s(same),
                duration_s=math.fsum(record.duration_s for record in same) if same else None,
                predicted_j=cost.board_j if cost else None,
                predicted_dynamic_j=cost.dynamic_j if cost else None,
            )
        )
    return found


def _most_j(same: Sequence[PhaseRecord]) -> float | None:
    """The most that stretches of a phase can have taken, J; ``None`` if one has no bound."""
    bounds = [
        (record.energy.value_j if record.energy is not None else None)
        if record.resolved
        else record.most_j
        for record in same
    ]
    known = [bound for bound in bounds if bound is not None]
    return math.fsum(known) if same and len(known) == len(bounds) else None


def _middle_s(same: Sequence[PhaseRecord]) -> float | None:
    """The middle of stretches, weighted by their length, on the device's clock, s."""
    seconds = math.fsum(record.duration_s for record in same)
    if not seconds:
        return same[0].start_s if same else None
    middles = ((r.start_s + r.duration_s / 2.0) * r.duration_s for r in same)
    return math.fsum(middles) / seconds


def _cell(
    device: str,
    phase: Phase,
    parts: Sequence[EnergyPart],
    measured_s: float | None,
    predicted_s: float | None,
    rounds_needed: int | None = None,
) -> PhaseCell:
    tally = EnergyTally(parts)
    untold = [part for part in parts if part.how == "unresolved"]
    bounds = [part.most_j for part in untold if part.most_j is not None]
    return PhaseCell(
        device=device,
        phase=phase,
        energy=tally.sum(),
        compared=tally.compared(),
        measured_s=measured_s,
        predicted_s=predicted_s,
        count=sum(part.energy is not None or part.how == "unresolved" for part in parts),
        hows=tuple(sorted({p.how for p in parts if p.energy is not None or p.how != "direct"})),
        most_j=math.fsum(bounds) if untold and len(bounds) == len(untold) else None,
        rounds_needed=rounds_needed,
    )

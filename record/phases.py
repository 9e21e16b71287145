"""Joules and seconds phase by phase, and how uncertain their sums are.

* :class:`PhaseCell`      one device, or the fleet, in one phase over the whole run
* :func:`device_cells`    the phases of a device
* :func:`fleet_cells`     the same of all devices together
* :func:`phase_seconds`   how long a device's phases take in a round
* :func:`correlated`, :func:`independent`  sums of energies with an honest uncertainty

All readings of a device share the gain of its meter, which dominates. So the phases of one device
add up linearly (an upper estimate), and different devices in quadrature.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from fimi.energy.cost_model import PHASES, Phase, PhaseCost
from fimi.energy.joules import Energy, total
from fimi.energy.ledger import PhaseRecord
from fimi.record import results
from fimi.record.record import RunData
from fimi.record.results import DeviceRound, Preparation


class PhaseCell(Struct, frozen=True, kw_only=True):
    """One phase of one device over the whole run, or of the fleet.

    Attributes:
        device: who; empty for the fleet.
        phase: which.
        measured: over every occurrence that was metered; ``None`` if none was.
        compared_j: the part of ``measured`` that has a prediction, J.
        predicted_j: what the model said of that part, board, J.
        measured_s: mean length of one occurrence (of the fleet: mean over devices), s.
        predicted_s: what the model said, s.
        count: occurrences that were metered.
    """

    device: str
    phase: Phase
    measured: Energy | None
    compared_j: float
    predicted_j: float
    measured_s: float | None
    predicted_s: float | None
    count: int

    @property
    def error_percent(self) -> float | None:
        """Signed error of the prediction."""
        return error_percent(self.predicted_j, self.compared_j)


def error_percent(predicted: float, measured: float) -> float | None:
    """(predicted − measured) / measured in percent; ``None`` where nothing was measured."""
    return 100.0 * (predicted - measured) / measured if measured > 0 else None


def device_cells(run: RunData, device: str) -> tuple[PhaseCell, ...]:
    """The phases of a device over the whole run, in the order of a round."""
    return _phase_cells(device, _entries(run, device))


def fleet_cells(cells: Sequence[PhaseCell]) -> tuple[PhaseCell, ...]:
    """The phases of all devices together, in the order of a round."""
    there = {cell.phase for cell in cells}
    return tuple(_fleet_cell(phase, cells) for phase in PHASES if phase in there)


def phase_seconds(run: RunData, device: str) -> dict[Phase, tuple[float | None, float | None]]:
    """Mean length of a device's phases in the rounds it took part in, metered and predicted, s."""
    entries = [
        (entry.phases, entry.predicted)
        for result in run.rounds
        for entry in result.participants
        if entry.device == device
    ]
    cells = _phase_cells(device, entries)
    return {cell.phase: (cell.measured_s, cell.predicted_s) for cell in cells}


def correlated(parts: Iterable[Energy]) -> Energy | None:
    """Sum of one meter's energies: what its gain is off by does not average out."""
    items = list(parts)
    return _with_uncertainty(total(items), math.fsum(part.uncertainty_j for part in items))


def independent(whole: Energy | None, parts: Iterable[Energy | None]) -> Energy | None:
    """``whole``, with the uncertainty of a sum of different meters' energies."""
    return _with_uncertainty(whole, math.hypot(*(p.uncertainty_j for p in parts if p is not None)))


def _with_uncertainty(energy: Energy | None, uncertainty_j: float) -> Energy | None:
    return msgspec.structs.replace(energy, uncertainty_j=uncertainty_j) if energy else None


def mean(values: Sequence[float]) -> float | None:
    """Mean, or ``None`` of nothing."""
    return math.fsum(values) / len(values) if values else None


_Entry = tuple[Sequence[PhaseRecord], Sequence[PhaseCost]]


def _entries(run: RunData, device: str) -> list[_Entry]:
    """What a device metered and was predicted, one entry per round."""
    before: list[Preparation | DeviceRound] = list(run.preparations)
    during = [entry for result in run.rounds for entry in result.devices]
    return [
        (entry.phases, entry.predicted) for entry in (*before, *during) if entry.device == device
    ]


def _phase_cells(device: str, entries: Iterable[_Entry]) -> tuple[PhaseCell, ...]:
    energies: dict[Phase, list[Energy]] = defaultdict(list)
    compared: dict[Phase, list[tuple[float, float]]] = defaultdict(list)
    measured_s: dict[Phase, list[float]] = defaultdict(list)
    predicted_s: dict[Phase, list[float]] = defaultdict(list)
    for phases, predicted in entries:
        costs = {cost.phase: cost for cost in predicted}
        for phase in dict.fromkeys(record.phase for record in phases):
            records = [record for record in phases if record.phase == phase]
            measured_s[phase].append(math.fsum(record.duration_s for record in records))
            energy = results.metered(records)
            if energy is not None:
                energies[phase].append(energy)
                if phase in costs:
                    compared[phase].append((energy.value_j, costs[phase].board_j))
        for phase, cost in costs.items():
            predicted_s[phase].append(cost.duration_s)
    return tuple(
        PhaseCell(
            device=device,
            phase=phase,
            measured=correlated(energies[phase]),
            compared_j=math.fsum(measured for measured, _ in compared[phase]),
            predicted_j=math.fsum(cost for _, cost in compared[phase]),
            measured_s=mean(measured_s[phase]),
            predicted_s=mean(predicted_s[phase]),
            count=len(energies[phase]),
        )
        for phase in PHASES
        if measured_s[phase] or predicted_s[phase]
    )


def _fleet_cell(phase: Phase, cells: Iterable[PhaseCell]) -> PhaseCell:
    """A phase of all devices."""
    chosen = [cell for cell in cells if cell.phase == phase]
    parts = [cell.measured for cell in chosen if cell.measured is not None]
    return PhaseCell(
        device="",
        phase=phase,
        measured=independent(total(parts), parts),
        compared_j=math.fsum(cell.compared_j for cell in chosen),
        predicted_j=math.fsum(cell.predicted_j for cell in chosen),
        measured_s=mean([c.measured_s for c in chosen if c.measured_s is not None]),
        predicted_s=mean([c.predicted_s for c in chosen if c.predicted_s is not None]),
        count=sum(cell.count for cell in chosen),
    )

"""The numbers of a run: measured against predicted, device by device and phase by phase.

* :func:`summarise`         everything below at once, as :class:`Summary`
* :class:`DeviceSummary`    one row of the device table
* :class:`RoundPoint`       one point of the curves
* :func:`energy_to_target`  the joules until the model first reached an accuracy

What energies mean is decided in :mod:`fimi.record.results` and only there. An *error* is always
(predicted − measured) / measured: positive where the model promised more than was used. Devices
and rounds without a reading are left out of both sides and listed in ``Summary.unmetered``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from fimi.energy.joules import Energy
from fimi.record import results
from fimi.record.observed import DeviceObserved, device_observed
from fimi.record.phases import (
    PhaseCell,
    correlated,
    device_cells,
    error_percent,
    fleet_cells,
    independent,
    mean,
)
from fimi.record.record import RunData
from fimi.record.results import (
    RoundResult,
)


class DeviceSummary(Struct, frozen=True, kw_only=True):
    """One device over the whole run.

    Attributes:
        device: who.
        board: make; empty if its profile is missing.
        hardware: ``physical`` or ``emulated``; empty if its profile is missing.
        backend: what it trained with; before its first round, what it could train with.
        meter: source of its joules.
        local_counts: real samples per class.
        synthetic_counts: synthetic samples per class, as delivered.
        frequency_planned_hz: the plan's.
        frequency_achieved_hz: mean over its rounds, read back.
        bandwidth_hz: the plan's.
        transmit_power_w: the plan's.
        measured: board energy of all its metered rounds and its preparation.
        predicted_j: of the same, J.
        busy_s: mean time per round without waiting, metered, s.
        predicted_busy_s: the plan's, s.
        rounds: it took part in; where k of n devices are drawn, its joules are of all rounds.
        accepted: of its updates.
        unmetered: rounds (0: preparation) whose energy could not be read.
        problems: round, status and reason of every update that was not accepted.
        notes: what it could not do as planned.
        observed: clock, throttling, network, and what watching it took.
    """

    device: str
    board: str
    hardware: str
    backend: str
    meter: str
    local_counts: tuple[int, ...]
    synthetic_counts: tuple[int, ...]
    frequency_planned_hz: float | None
    frequency_achieved_hz: float | None
    bandwidth_hz: float | None
    transmit_power_w: float | None
    measured: Energy | None
    predicted_j: float
    busy_s: float | None
    predicted_busy_s: float | None
    rounds: int
    accepted: int
    unmetered: tuple[int, ...]
    problems: tuple[tuple[int, str, str], ...]
    notes: tuple[str, ...]
    observed: DeviceObserved

    @property
    def error_percent(self) -> float | None:
        """Signed error of the predicted joules."""
        return error_percent(self.predicted_j, self.measured.value_j) if self.measured else None


class RoundPoint(Struct, frozen=True, kw_only=True):
    """The run after a round; energies accumulate from the beginning, preparation included.

    Attributes:
        number: from 1.
        accuracy: of the global model, 0 to 1.
        loss: of the global model.
        duration_s: of this round, fleet's clock, s.
        board_j: metered so far, J; ``None``, as all of these, where nothing was.
        dynamic_j: the paper's energy so far, J.
        predicted_board_j: predicted of the same, J.
        predicted_dynamic_j: predicted of the same, J.
        accepted: updates in this round's model.
        participants: devices in this round.
    """

    number: int
    accuracy: float
    loss: float
    duration_s: float
    board_j: float | None
    dynamic_j: float | None
    predicted_board_j: float | None
    predicted_dynamic_j: float | None
    accepted: int
    participants: int


class TargetReached(Struct, frozen=True, kw_only=True):
    """When an accuracy was first reached, and what it had cost by then.

    Attributes:
        accuracy: asked for, 0 to 1.
        reached: the point; ``None`` if the run never got there.
    """

    accuracy: float
    reached: RoundPoint | None


class Summary(Struct, frozen=True, kw_only=True):
    """All numbers of a run.

    Attributes:
        devices: one per device that is known.
        phases: of the fleet, in the order of a round.
        cells: of each device, in the same order.
        points: one per finished round.
        measured: board energy of the run; ``None`` if nothing was metered.
        predicted_j: of the same, J; likewise.
        dynamic_j: the paper's energy of the rounds, J; likewise.
        predicted_dynamic_j: of the same, J; likewise.
        idle_power_w: by device: metered where it idled, declared elsewhere.
        mape_percent: mean absolute error over devices and rounds; ``None`` without readings.
        bias_percent: error of the sum.
        unmetered: device and its rounds (0: preparation) that are in no sum.
        warnings: what else a reader must know.
    """

    devices: tuple[DeviceSummary, ...]
    phases: tuple[PhaseCell, ...]
    cells: tuple[PhaseCell, ...]
    points: tuple[RoundPoint, ...]
    measured: Energy | None
    predicted_j: float | None
    dynamic_j: float | None
    predicted_dynamic_j: float | None
    idle_power_w: dict[str, float]
    mape_percent: float | None
    bias_percent: float | None
    unmetered: tuple[tuple[str, tuple[int, ...]], ...]
    warnings: tuple[str, ...]


def summarise(run: RunData) -> Summary:
    """Every number of a run."""
    idle_w, rounds, warnings = _idle_power(run)
    devices = tuple(_device(run, name) for name in run.devices)
    cells = tuple(cell for name in run.devices for cell in device_cells(run, name))
    measured = independent(
        results.board_energy(run.preparations, run.rounds), [d.measured for d in devices]
    )
    predicted_j = results.predicted_energy_j(run.preparations, run.rounds)
    errors = [
        abs(error)
        for result in run.rounds
        for device in result.participants
        if (energy := device.energy) is not None
        and (error := error_percent(device.predicted_j, energy.value_j)) is not None
    ]
    return Summary(
        devices=devices,
        phases=fleet_cells(cells),
        cells=cells,
        points=_points(run, rounds, idle_w),
        measured=measured,
        predicted_j=predicted_j,
        dynamic_j=results.dynamic_energy_j(rounds, idle_w),
        predicted_dynamic_j=results.predicted_dynamic_j(rounds),
        idle_power_w=idle_w,
        mape_percent=math.fsum(errors) / len(errors) if errors else None,
        bias_percent=(
            error_percent(predicted_j, measured.value_j)
            if measured and predicted_j is not None
            else None
        ),
        unmetered=tuple((d.device, d.unmetered) for d in devices if d.unmetered),
        warnings=(*run.warnings, *warnings),
    )


def energy_to_target(summary: Summary, accuracies: Sequence[float]) -> tuple[TargetReached, ...]:
    """Joules until each accuracy was first reached."""
    return tuple(
        TargetReached(
            accuracy=accuracy,
            reached=next((p for p in summary.points if p.accuracy >= accuracy), None),
        )
        for accuracy in accuracies
    )


def _device(run: RunData, name: str) -> DeviceSummary:
    profile, plan = run.profiles.get(name), run.device_plans.get(name)
    preparation = [p for p in run.preparations if p.device == name]
    entries = [(r.number, d) for r in run.rounds for d in r.devices if d.device == name]
    metered = [d for _, d in entries if d.energy is not None]
    drawn = [(number, d) for number, d in entries if d.status != "resting"]
    read = (
        *(p.phases for p in preparation if results.metered(p.phases)),
        *(d.phases for d in metered),
    )
    measured = correlated(p.energy for phases in read for p in phases if p.energy is not None)
    busy = [
        math.fsum(phase.duration_s for phase in d.phases if phase.phase != "idle")
        for _, d in drawn
        if d.phases
    ]
    return DeviceSummary(
        device=name,
        board=profile.hardware.board if profile else "",
        hardware=profile.hardware.kind if profile else "",
        backend=next(
            (d.backend for _, d in reversed(entries) if d.backend),
            profile.backend if profile else "",
        ),
        meter=profile.hardware.meter.source if profile else "",
        local_counts=profile.label_counts if profile else (),
        synthetic_counts=plan.synthetic_counts if plan else (),
        frequency_planned_hz=plan.point.frequency_hz if plan else None,
        frequency_achieved_hz=mean(
            [d.frequency_hz for _, d in entries if d.frequency_hz is not None]
        ),
        bandwidth_hz=plan.point.bandwidth_hz if plan else None,
        transmit_power_w=plan.point.transmit_power_w if plan else None,
        measured=measured,
        predicted_j=math.fsum(
            [
                *(c.board_j for p in preparation if results.metered(p.phases) for c in p.predicted),
                *(d.predicted_j for d in metered),
            ]
        ),
        busy_s=mean(busy),
        predicted_busy_s=(
            math.fsum(cost.duration_s for cost in plan.predicted if cost.phase != "idle")
            if plan
            else None
        ),
        rounds=len(drawn),
        accepted=sum(d.status == "accepted" for _, d in entries),
        unmetered=(
            *(0 for p in preparation if results.metered(p.phases) is None),
            *(number for number, d in entries if d.energy is None),
        ),
        problems=tuple((n, d.status, d.reason) for n, d in drawn if d.status != "accepted"),
        notes=next((each.notes for each in run.notes if each.device == name), ()),
        observed=device_observed(run, name),
    )


def _idle_power(run: RunData) -> tuple[dict[str, float], tuple[RoundResult, ...], list[str]]:
    """Idle powers, the rounds with only what dynamic energy is known of, and a warning.

    A device-round that is left out of the board energy is left out of the dynamic energy too, even
    where some of its phases were metered, so that both speak of the same work.
    """
    declared = {device: profile.board.idle_power_w for device, profile in run.profiles.items()}
    idle_w = results.idle_powers_w(run.rounds, declared)
    metered = {d.device for r in run.rounds for d in r.devices if d.energy is not None}
    unknown = sorted(metered - set(idle_w))
    rounds = tuple(
        msgspec.structs.replace(
            r,
            devices=tuple(d for d in r.devices if d.energy is not None and d.device in idle_w),
        )
        for r in run.rounds
    )
    warnings = [
        f"the idle power of {device} is unknown (no profile, no idle phase): the dynamic energy "
        "is without it"
        for device in unknown
    ]
    return idle_w, rounds, warnings


def _points(
    run: RunData, rounds: Sequence[RoundResult], idle_w: dict[str, float]
) -> tuple[RoundPoint, ...]:
    before = results.board_energy(run.preparations, ())
    board_j = before.value_j if before else None
    predicted_j = results.predicted_energy_j(run.preparations, ())
    dynamic_j = predicted_dynamic_j = None
    points = []
    for result, known in zip(run.rounds, rounds, strict=True):
        board_j = _with(board_j, result.energy.value_j if result.energy else None)
        predicted_j = _with(predicted_j, results.predicted_energy_j((), [result]))
        dynamic_j = _with(dynamic_j, results.dynamic_energy_j([known], idle_w))
        predicted_dynamic_j = _with(predicted_dynamic_j, results.predicted_dynamic_j([known]))
        points.append(
            RoundPoint(
                number=result.number,
                accuracy=result.evaluation.accuracy,
                loss=result.evaluation.loss,
                duration_s=result.duration_s,
                board_j=board_j,
                dynamic_j=dynamic_j,
                predicted_board_j=predicted_j,
                predicted_dynamic_j=predicted_dynamic_j,
                accepted=result.accepted,
                participants=len(result.participants),
            )
        )
    return tuple(points)


def _with(so_far: float | None, more: float | None) -> float | None:
    """A sum that stays missing until there is something to add."""
    return so_far if more is None else more if so_far is None else so_far + more

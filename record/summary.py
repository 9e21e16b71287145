"""The figures of a run, for report, terminal, ``--format json`` and experiments.

* :func:`summarise`         everything below at once, as :class:`Summary`
* :class:`DeviceSummary`    one row of the device table

Two energies are kept apart everywhere. *Board* energy is what the meter read over every phase,
idling included. *Dynamic* energy is the paper's: compute and upload above idle; it is the metered
energy of those phases less the idle power of the same device times their duration. The idle
power is what the device measured at rest, before, between and after its work
(:mod:`fimi.energy.resting`); in older stores the mean over its idle phases; its profile's where it
never idled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from fimi.energy.joules import Energy
from fimi.record.carbon import Carbon, carbon
from fimi.record.codings import CodingFigures, coding_figures
from fimi.record.curve import (
    Price,
    RoundPoint,
    device_errors,
    generator_sum,
    points,
    price,
)
from fimi.record.interventions import Intervention
from fimi.record.observed import DeviceObserved, device_observed
from fimi.record.phases import PhaseCell, device_cells, fleet_cells, run_parts
from fimi.record.planned import PlanHeld, plan_held
from fimi.record.prediction import Agreement, agreement
from fimi.record.record import RunData
from fimi.record.resolution import RestFigure, above_rest, meterings, told_apart
from fimi.record.results import APART
from fimi.record.second import SecondMeter, second_meter
from fimi.record.sums import Compared, EnergyPart, EnergyTally, Sum, joined, mean


class Budget(Struct, frozen=True, kw_only=True):
    """A budget, and what was taken of it.

    Attributes:
        device: whose; empty for that of the fleet.
        taken: metered energy of the run, as far as it is known.
        budget_j: the budget, J.
        whole: whether all these joules are known.
    """

    device: str
    taken: Energy
    budget_j: float
    whole: bool

    @property
    def is_kept(self) -> bool:
        """Whether no more was taken, as far as it is known."""
        return self.taken.value_j <= self.budget_j


class DeviceSummary(Struct, frozen=True, kw_only=True):
    """One device over the whole run.

    Attributes:
        device: its id.
        board: make; empty if its profile is missing.
        hardware: ``physical`` or ``emulated``; empty if its profile is missing.
        backend: what it trained with; before its first round, what it could train with.
        local_counts: real samples per class.
        synthetic_counts: synthetic samples per class, as delivered.
        frequency_planned_hz: the plan's.
        setting: name of the measured operating point in the plan; empty where a frequency is all
            that is set.
        frequency_achieved_hz: mean over its rounds, read back.
        bandwidth_hz: the plan's.
        energy: whole board, in all its rounds and its preparation.
        compared: the same against its prediction.
        agreement: how predictions held in the rounds that it took part in; ``None`` if the store
            has no residuals of it.
        busy_s: mean time per round without waiting for its pull and for the others, metered, s.
        predicted_busy_s: the plan's, s.
        rounds: it took part in; where k of n devices are drawn, its joules are of all rounds.
        accepted: of its updates.
        problems: round, status and reason of every update that was not accepted.
        absent: rounds that began without it.
        notes: what it could not do as planned.
        observed: clock, throttling, network, and what watching it took.
        second: what a second meter says beside the first; ``None`` where it has none.
        accuracy: of the last global model as this device would see it, 0 to 1; ``None`` where that
            is not known.
    """

    device: str
    board: str
    hardware: str
    backend: str
    local_counts: tuple[int, ...]
    synthetic_counts: tuple[int, ...]
    frequency_planned_hz: float | None
    setting: str
    frequency_achieved_hz: float | None
    bandwidth_hz: float | None
    energy: Sum
    compared: Compared
    agreement: Agreement | None
    busy_s: float | None
    predicted_busy_s: float | None
    rounds: int
    accepted: int
    problems: tuple[tuple[int, str, str], ...]
    absent: tuple[int, ...]
    notes: tuple[str, ...]
    observed: DeviceObserved
    second: SecondMeter | None = None
    accuracy: float | None = None


class Summary(Struct, frozen=True, kw_only=True):
    """All numbers of a run.

    Attributes:
        devices: one per device that is known.
        phases: of the fleet, in the order of a round.
        cells: of each device, in the same order.
        points: one per finished round.
        energy: of all whole boards in all phases.
        compared: the same against its prediction.
        dynamic: the paper's energy of all rounds.
        dynamic_compared: the same against its prediction.
        idle_power_w: by device: metered at rest, declared elsewhere; W, at the middle of the run.
        resting: the same with drift and uncertainty.
        mape_percent: mean absolute error of the predicted joules of a participant in a round, over
            the phases that were both metered and predicted; ``None`` without any.
        agreement: how predictions held in all rounds, and what errors come from; ``None`` if the
            store has no residuals.
        held: the plan's round against the rounds that were run by it; ``None`` without a plan or
            such a round.
        prices: of the accuracies that the run was asked for, sorted.
        synthetic_samples: that the plan fills all devices with, with labels or without.
        server: what training on the server took; empty if it does not train.
        generator: what drawing images took; empty where none were asked for.
        total: boards, generator node and server together; in no other sum is more than one.
        server_s: wall time of that, s; ``None`` likewise.
        insight_s: wall time of the server for learning metrics, s; ``None`` without any, and in
            older stores. Devices compute nothing for them.
        insight_idle_j: about what real boards drew at rest meanwhile, J: a part of their idle
            energy; ``None`` without a real board or ``insight_s``.
        budgets: of joules, the fleet's first, as far as any joules are known.
        coding: what codings of models and updates did; ``None`` where nothing was coded.
        carbon: emissions by ISO/IEC 21031; ``None`` where no intensity is given.
        warnings: what else a reader must know.
        interventions: what people have changed while it went on: with any, it is no undisturbed
            run.
    """

    devices: tuple[DeviceSummary, ...]
    phases: tuple[PhaseCell, ...]
    cells: tuple[PhaseCell, ...]
    points: tuple[RoundPoint, ...]
    energy: Sum
    compared: Compared
    dynamic: Sum
    dynamic_compared: Compared
    idle_power_w: dict[str, float]
    resting: dict[str, RestFigure]
    mape_percent: float | None
    agreement: Agreement | None
    held: PlanHeld | None
    prices: tuple[Price, ...]
    synthetic_samples: int
    server: Sum
    generator: Sum
    total: Sum
    server_s: float | None
    insight_s: float | None
    insight_idle_j: float | None
    budgets: tuple[Budget, ...]
    coding: CodingFigures | None
    carbon: Carbon | None
    warnings: tuple[str, ...]
    interventions: tuple[Intervention, ...]

    @property
    def overspent(self) -> tuple[Budget, ...]:
        """The budgets that were not kept."""
        return tuple(budget for budget in self.budgets if not budget.is_kept)


def summarise(run: RunData) -> Summary:
    """Every number of a run, as report, terminal and ``--format json`` show it.

    Args:
        run: from :func:`fimi.record.reader.read_run`.

    Returns:
        Sums of joules with what is missing from them: a sum with a missing part is unknown.
    """
    parts = run_parts(run)
    metering = meterings(run, parts)
    above = above_rest(parts, metering)
    told = told_apart(parts, metering)
    of_device = by_device(run, parts)
    cells = tuple(
        cell
        for name, own in by_device(run, told).items()
        for cell in device_cells(run, name, own, metering.get(name))
    )
    curve = points(run, parts, above)
    end = curve[-1] if curve else None
    before = EnergyTally(parts)
    dynamic = end.dynamic_so_far if end else Sum()
    server = end.server_so_far if end else Sum()
    generator = generator_sum(run)
    trained = [r.server for r in run.rounds if r.server is not None]
    seen = end.fairness.devices if end else {}
    devices = tuple(_device(run, name, own, seen.get(name)) for name, own in of_device.items())
    energy = end.energy_so_far if end else before.sum()
    resting = {
        name: RestFigure.of(seen.resting)
        for name, seen in metering.items()
        if seen.resting is not None
    }
    unknown = sorted({gap.device for gap in dynamic.missing} - set(resting))
    looked = [each.seconds for each in run.insights if each.seconds is not None]
    insight_s = math.fsum(looked) if looked else None
    prices = tuple(price(curve, target) for target in run.targets)
    total = end.total_so_far if end else joined(energy, generator)
    emitted, unread = _carbon(run, curve, prices, energy, total)
    return Summary(
        devices=devices,
        phases=fleet_cells(cells, told),
        cells=cells,
        points=curve,
        energy=energy,
        compared=end.compared_so_far if end else before.compared(),
        dynamic=dynamic,
        dynamic_compared=end.dynamic_compared_so_far if end else Compared(),
        idle_power_w={name: rest.power_w for name, rest in resting.items()},
        resting=resting,
        mape_percent=mean(device_errors(parts)),
        agreement=agreement(run.residuals),
        held=plan_held(run, parts, above),
        prices=prices,
        synthetic_samples=sum(
            sum(plan.synthetic_counts) + plan.unlabelled for plan in run.device_plans.values()
        ),
        server=server,
        generator=generator,
        total=total,
        server_s=math.fsum(training.seconds for training in trained) if trained else None,
        insight_s=insight_s,
        insight_idle_j=_idled_j(run, resting, insight_s),
        budgets=_budgets(run, devices, energy),
        coding=coding_figures(run, parts),
        carbon=emitted,
        warnings=(
            *run.warnings,
            *unread,
            *(
                f"the idle power of {device} is unknown (no profile, no idle phase): its dynamic "
                "energy is unknown, too"
                for device in unknown
            ),
        ),
        interventions=run.changed_by_hand,
    )


def by_device(run: RunData, parts: Iterable[EnergyPart]) -> dict[str, list[EnergyPart]]:
    """Parts by device, those of devices without any as well."""
    found: dict[str, list[EnergyPart]] = {name: [] for name in run.devices}
    for part in parts:
        found.setdefault(part.device, []).append(part)
    return found


def _budgets(run: RunData, devices: tuple[DeviceSummary, ...], fleet: Sum) -> tuple[Budget, ...]:
    """All budgets of the run, the fleet's first, as far as any joules are known."""
    config = run.info.config
    each_j, fleet_j = config.get("plan.device_budget_j"), config.get("plan.fleet_budget_j")
    given = [("", fleet, fleet_j), *((row.device, row.energy, each_j) for row in devices)]
    return tuple(
        Budget(device=device, taken=taken.known, budget_j=budget_j, whole=not taken.missing)
        for device, taken, budget_j in given
        if budget_j and taken.known is not None
    )


def _carbon(
    run: RunData,
    curve: tuple[RoundPoint, ...],
    prices: tuple[Price, ...],
    energy: Sum,
    total: Sum,
) -> tuple[Carbon | None, tuple[str, ...]]:
    """The carbon figures; none, and why, where a store has settings that no run can have."""
    try:
        return carbon(run, curve, prices, energy, total), ()
    except (msgspec.ValidationError, ValueError) as error:
        return None, (f"there is no carbon figure: carbon.* of the configuration: {error}",)


def _idled_j(run: RunData, resting: dict[str, RestFigure], seconds: float | None) -> float | None:
    """What real boards draw at rest in some time, J; ``None`` without any."""
    powers_w = [
        resting[device].power_w if device in resting else profile.board.idle_power_w
        for device, profile in run.profiles.items()
        if profile.hardware.kind == "physical"
    ]
    return None if seconds is None or not powers_w else seconds * math.fsum(powers_w)


def _device(
    run: RunData, name: str, parts: list[EnergyPart], accuracy: float | None
) -> DeviceSummary:
    profile, plan = run.profiles.get(name), run.device_plans.get(name)
    entries = run.rounds_of(name)
    drawn = [(number, d) for number, d in entries if d.status not in APART]
    tally = EnergyTally(parts)
    busy = [
        math.fsum(p.duration_s for p in d.phases if p.phase not in ("waiting", "idle"))
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
        local_counts=profile.label_counts if profile else (),
        synthetic_counts=plan.synthetic_counts if plan else (),
        frequency_planned_hz=plan.point.frequency_hz if plan else None,
        setting=plan.point.setting if plan else "",
        frequency_achieved_hz=mean(d.frequency_hz for _, d in entries),
        bandwidth_hz=plan.point.bandwidth_hz if plan else None,
        energy=tally.sum(),
        compared=tally.compared(),
        agreement=agreement(run.residuals_of(name)),
        busy_s=mean(busy),
        predicted_busy_s=(
            math.fsum(cost.duration_s for cost in plan.predicted if cost.phase != "idle")
            if plan
            else None
        ),
        rounds=len(drawn),
        accepted=sum(d.status == "accepted" for _, d in entries),
        problems=tuple((n, d.status, d.reason) for n, d in drawn if d.status != "accepted"),
        absent=tuple(number for number, d in entries if d.status == "absent"),
        notes=run.notes.get(name, ()),
        observed=device_observed(run, name),
        second=second_meter(run, name),
        accuracy=accuracy,
    )

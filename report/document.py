"""A run in numbers as one JSON document, which ``fimi dry-run`` and ``fimi report`` print.

* :class:`RunDocument`  its keys
* :func:`document`      of a run

docs/report.md describes the keys with their units.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from fimi.learning.training.classifier import FileCheck
from fimi.record.carbon import Carbon
from fimi.record.codings import CodingFigures
from fimi.record.curve import Price
from fimi.record.events import LearningRefitted
from fimi.record.fairness import Fairness
from fimi.record.interventions import Intervention
from fimi.record.planned import PlanHeld
from fimi.record.record import Expectation, PlanSummary, RunData
from fimi.record.summary import Budget, Summary
from fimi.record.sums import Compared, Sum


class RunDocument(Struct, frozen=True, kw_only=True):
    """A run in numbers, as ``--format json`` prints it.

    docs/report.md says of each key what it is and in which unit. Keys that end in ``_j`` are
    ``None`` where a part of the sum is missing; the key of the same energy without that ending has
    the known part and what is missing.
    """

    status: str
    strategy: str
    seed: int | None
    rounds: int
    accuracy: tuple[float, ...]
    validation_accuracy: tuple[float | None, ...]
    energy_kind: str | None
    energy_measured_j: float | None
    energy_predicted_j: float | None
    energy: Sum
    energy_compared: Compared
    dynamic_measured_j: float | None
    dynamic_predicted_j: float | None
    dynamic: Sum
    dynamic_compared: Compared
    round_energy_j: tuple[float | None, ...]
    round_energy_known_j: tuple[float | None, ...]
    round_dynamic_j: tuple[float | None, ...]
    round_dynamic_known_j: tuple[float | None, ...]
    round_error_percent: tuple[float | None, ...]
    refitted_after: tuple[int, ...]
    planned_local_error: tuple[float | None, ...]
    measured_local_error: tuple[float | None, ...]
    learning_refits: tuple[LearningRefitted, ...]
    unmetered: tuple[str, ...]
    synthetic_samples: int
    plan_objective: str
    plan_search: str
    plan_energy_j: float | None
    plan_bound_j: float | None
    plan_gap_percent: float | None
    plan_board_j: float | None
    plan_board_bound_j: float | None
    plan_board_gap_percent: float | None
    plan_dynamic_j: float | None
    plan_dynamic_bound_j: float | None
    plan_dynamic_gap_percent: float | None
    plan_round_s: float | None
    plan_preparation_j: float | None
    plan_budget_cost_j: float | None
    plan_epochs: int | None
    plan_expected: Expectation | None
    plan_held: PlanHeld | None
    coding: CodingFigures | None
    carbon: Carbon | None
    budgets: tuple[Budget, ...]
    overspent: tuple[Budget, ...]
    orthogonality: dict[int, float | None]
    local_error: dict[int, dict[str, float]]
    gradient_similarity: dict[int, dict[str, float | None]]
    similarity: dict[int, dict[str, float | None]]
    insight_seconds: float | None
    insight_idle_j: float | None
    fairness: tuple[Fairness, ...]
    targets: tuple[Price, ...]
    run_dir: str
    deployment: DeployedModel | None
    deployment_problem: str
    server_seconds: float | None
    server_j: float | None
    server: Sum
    generator_j: float | None
    generator: Sum
    total_j: float | None
    total: Sum
    wall_s: float | None
    statuses: tuple[dict[str, int], ...]
    outcomes: tuple[dict[str, int], ...]
    late_updates: tuple[LateEntry, ...]
    absent: dict[str, tuple[int, ...]]
    joined_late: dict[str, int]
    not_used: dict[str, str]
    clipped: dict[str, tuple[int, ...]]
    set_aside: dict[str, int]
    model_kept: dict[int, str]
    resumed_after: tuple[int, ...]
    interventions: tuple[Intervention, ...]
    offenders: dict[str, str]
    exposed: str | None


class LateEntry(Struct, frozen=True, kw_only=True):
    """An update that was late for its round and entered the mean of another one, ``round``.

    Attributes:
        round: in whose mean it is.
        device: whose.
        of_round: for which it was trained.
        weight: (1 + s)^(−a), by which its samples counted less.
        share: of it in the devices' mean model; ``None`` where each number is aggregated by itself.
    """

    round: int
    device: str
    of_round: int
    weight: float
    share: float | None


class DeviceFigures(Struct, frozen=True, kw_only=True):
    """How a device ran a file.

    Attributes:
        device: its id.
        variant: ``fp32`` or ``int8``.
        accuracy: on its own training images.
        latency_median_s: of one inference, s.
        latency_p95_s: 95th percentile, s.
        latency_kind: ``measured`` or ``emulated``.
        energy_per_inference_j: whole board, J; ``None`` if not metered.
        energy_kind: ``measured``, ``modelled`` or ``emulated``.
        error: why it could not, or empty.
    """

    device: str
    variant: str
    accuracy: float | None
    latency_median_s: float | None
    latency_p95_s: float | None
    latency_kind: str
    energy_per_inference_j: float | None
    energy_kind: str | None
    error: str


class DeployedModel(Struct, frozen=True, kw_only=True):
    """The trained model as files; the joules are in no other figure.

    Attributes:
        round: after which it was exported.
        files: each as it was checked against PyTorch.
        devices: each file on each device that answered.
    """

    round: int
    files: tuple[FileCheck, ...]
    devices: tuple[DeviceFigures, ...]


def document(run: RunData, summary: Summary) -> RunDocument:
    """A run in numbers, from its record and its summary."""
    plan, points = run.plan or PlanSummary(), summary.points
    energy, dynamic = summary.energy, summary.dynamic
    return RunDocument(
        status=run.info.status,
        strategy=run.info.strategy,
        seed=run.info.seed,
        rounds=len(points),
        accuracy=tuple(point.accuracy for point in points),
        validation_accuracy=tuple(point.validation_accuracy for point in points),
        energy_kind=energy.known.kind if energy.known else None,
        energy_measured_j=energy.value_j,
        energy_predicted_j=summary.compared.whole_predicted_j,
        energy=energy,
        energy_compared=summary.compared,
        dynamic_measured_j=dynamic.value_j,
        dynamic_predicted_j=summary.dynamic_compared.whole_predicted_j,
        dynamic=dynamic,
        dynamic_compared=summary.dynamic_compared,
        round_energy_j=tuple(point.energy.value_j for point in points),
        round_energy_known_j=tuple(point.energy.known_j for point in points),
        round_dynamic_j=tuple(point.dynamic.value_j for point in points),
        round_dynamic_known_j=tuple(point.dynamic.known_j for point in points),
        round_error_percent=tuple(point.error_percent for point in points),
        refitted_after=run.refits,
        planned_local_error=tuple(each.planned_error for each in run.rounds),
        measured_local_error=tuple(each.local_error for each in run.rounds),
        learning_refits=run.learning_refits,
        unmetered=tuple(dict.fromkeys(f"{gap.round}/{gap.device}" for gap in energy.missing)),
        synthetic_samples=summary.synthetic_samples,
        plan_objective=plan.objective,
        plan_search=plan.search,
        plan_energy_j=plan.least.energy_j,
        plan_bound_j=plan.least.bound_j,
        plan_gap_percent=plan.least.gap_percent,
        plan_board_j=plan.board.energy_j,
        plan_board_bound_j=plan.board.bound_j,
        plan_board_gap_percent=plan.board.gap_percent,
        plan_dynamic_j=plan.dynamic.energy_j,
        plan_dynamic_bound_j=plan.dynamic.bound_j,
        plan_dynamic_gap_percent=plan.dynamic.gap_percent,
        plan_round_s=plan.round_s,
        plan_preparation_j=plan.preparation_j,
        plan_budget_cost_j=plan.budget_cost_j,
        plan_epochs=plan.epochs,
        plan_expected=plan.expected,
        plan_held=summary.held,
        coding=summary.coding,
        carbon=summary.carbon,
        budgets=summary.budgets,
        overspent=summary.overspent,
        orthogonality={each.round: each.orthogonality for each in run.insights},
        local_error={
            each.round: {d.device: d.local_error for d in each.devices} for each in run.insights
        },
        gradient_similarity={
            each.round: {d.device: d.gradient_similarity for d in each.devices}
            for each in run.insights
        },
        insight_seconds=summary.insight_s,
        insight_idle_j=summary.insight_idle_j,
        fairness=tuple(point.fairness for point in points),
        similarity={
            each.round: {d.device: d.similarity for d in each.devices} for each in run.insights
        },
        targets=summary.prices,
        run_dir=str(run.path.parent),
        deployment=_deployed(run),
        deployment_problem=run.not_made.reason if run.not_made else "",
        server_seconds=summary.server_s,
        server_j=summary.server.value_j,
        server=summary.server,
        generator_j=summary.generator.value_j,
        generator=summary.generator,
        total_j=summary.total.value_j,
        total=summary.total,
        wall_s=run.info.wall_s,
        statuses=tuple(dict(Counter(d.status for d in each.devices)) for each in run.rounds),
        outcomes=tuple(
            dict(Counter(d.outcome for d in each.devices if d.outcome)) for each in run.rounds
        ),
        late_updates=tuple(
            LateEntry(
                round=each.number,
                device=late.device,
                of_round=late.of_round,
                weight=late.weight,
                share=late.share,
            )
            for each in run.rounds
            for late in each.late
        ),
        absent={row.device: row.absent for row in summary.devices if row.absent},
        joined_late=run.joined_late,
        not_used=run.not_used,
        clipped={
            device: rounds
            for device in run.devices
            if (rounds := tuple(n for n, entry in run.rounds_of(device) if entry.is_clipped))
        },
        set_aside={event.device: event.round for event in run.set_aside},
        model_kept={r.number: r.model_kept for r in run.rounds if r.model_kept is not None},
        resumed_after=tuple(each.after_round for each in run.resumptions),
        interventions=run.interventions,
        offenders={each.sender: each.words for each in run.offenders},
        exposed=run.info.exposed,
    )


def _deployed(run: RunData) -> DeployedModel | None:
    if not run.made:
        return None
    last = run.made[-1]
    return DeployedModel(
        round=last.round,
        files=last.files,
        devices=tuple(
            DeviceFigures(
                device=device,
                variant=trial.variant,
                accuracy=trial.accuracy,
                latency_median_s=trial.latency_median_s,
                latency_p95_s=trial.latency_p95_s,
                latency_kind=trial.latency_kind,
                energy_per_inference_j=trial.energy_j,
                energy_kind=energy.kind if energy else None,
                error=trial.error,
            )
            for device, trial in last.tried
            for energy in [trial.metered.energy if trial.metered else None]
        ),
    )

"""A run in numbers: what ``--format json`` prints, and what terminal and experiments read."""

from __future__ import annotations

from msgspec import Struct

from fimi.coordinator.federation import Federation
from fimi.coordinator.settings import targets
from fimi.learning.training.classifier import FileCheck
from fimi.learning.training.metrics import TargetCost
from fimi.record.results import (
    RoundResult,
    board_energy,
    dynamic_energy_j,
    idle_powers_w,
    predicted_dynamic_j,
    predicted_energy_j,
    server_energy,
)
from fimi.record.targets import costs_to_targets


class RunSummary(Struct, frozen=True, kw_only=True):
    """A run in numbers, as ``--format json`` prints it.

    Attributes:
        status: ``completed`` or ``interrupted``.
        strategy: its name.
        seed: of the run.
        rounds: finished rounds.
        accuracy: on the test set after each round, 0 to 1.
        energy_kind: ``measured``, ``modelled`` or ``emulated``: what the joules below are.
        energy_measured_j: whole boards, all phases, all devices, J; ``None`` if nothing was read.
        energy_predicted_j: the cost model's figure for the same, J.
        dynamic_measured_j: compute and upload above idle, the paper's energy, J.
        dynamic_predicted_j: the cost model's figure for the same, J.
        round_energy_j: whole boards, each round, J; the first holds the synthetic download too.
        round_dynamic_j: the paper's energy, each round, J.
        round_error_percent: mean absolute error of the predicted joules of each round's devices.
        refitted_after: rounds after which boards were fitted again.
        unmetered: ``round/device`` whose energy is in none of these figures.
        synthetic_samples: shipped to all devices together, with labels or without.
        plan_energy_j: the plan's dynamic energy of a round, J.
        plan_bound_j: certified lower bound of it, J.
        plan_gap_percent: distance between the two.
        orthogonality: of the devices' updates, in rounds that were looked at
            (``rounds.insight_every``); ``None`` with fewer than two updates.
        local_error: Δ_i of each device in those rounds, 0 to 1.
        similarity: cosine of each device's update to the IID one in those rounds; ``None`` if there
            is none.
        targets: rounds, joules, seconds and bytes to each of ``rounds.target_accuracies`` and to
            ``plan.target_accuracy``; ``null`` where it was never reached.
        run_dir: where everything is kept.
        deployment: each exported file as each device ran it, the last time it was tried.
        deployment_problem: why there is no exported file, or empty.
        server_seconds: wall time of training on the server, s; ``None`` if it does not train.
        server_j: joules of that, not among the devices'; ``None`` if they were not metered.
        wall_s: how long it took.
    """

    status: str
    strategy: str
    seed: int
    rounds: int
    accuracy: tuple[float, ...]
    energy_kind: str | None
    energy_measured_j: float | None
    energy_predicted_j: float | None
    dynamic_measured_j: float | None
    dynamic_predicted_j: float | None
    round_energy_j: tuple[float | None, ...]
    round_dynamic_j: tuple[float | None, ...]
    round_error_percent: tuple[float | None, ...]
    refitted_after: tuple[int, ...]
    unmetered: tuple[str, ...]
    synthetic_samples: int
    plan_energy_j: float | None
    plan_bound_j: float | None
    plan_gap_percent: float | None
    orthogonality: dict[int, float | None]
    local_error: dict[int, dict[str, float]]
    similarity: dict[int, dict[str, float | None]]
    targets: tuple[TargetCost, ...]
    run_dir: str
    deployment: DeployedModel | None
    deployment_problem: str
    server_seconds: float | None
    server_j: float | None
    wall_s: float


class DeviceFigures(Struct, frozen=True, kw_only=True):
    """How a device ran a file.

    Attributes:
        device: who.
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


def _deployed(federation: Federation) -> DeployedModel | None:
    if not federation.deployments:
        return None
    last = federation.deployments[-1]
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
                energy_kind=trial.metered.energy.kind
                if trial.metered and trial.metered.energy
                else None,
                error=trial.error,
            )
            for device, trials in last.trials.items()
            for trial in trials
        ),
    )


def summarise(federation: Federation, run_dir: str, wall_s: float) -> RunSummary:
    """Sum up a run."""
    server = [r.server for r in federation.rounds if r.server is not None]
    rounds, preparations, plan = federation.rounds, federation.preparations, federation.plan
    idle_w = idle_powers_w(
        rounds, {d: p.board.idle_power_w for d, p in federation.profiles.items()}
    )
    energy = board_energy(preparations, rounds)
    each = [board_energy(preparations if r.number == 1 else (), (r,)) for r in rounds]
    return RunSummary(
        status=federation.status,
        strategy=federation.settings.run.strategy,
        seed=federation.settings.run.seed,
        rounds=len(rounds),
        accuracy=tuple(r.evaluation.accuracy for r in rounds),
        energy_kind=energy.kind if energy else None,
        energy_measured_j=energy.value_j if energy else None,
        energy_predicted_j=predicted_energy_j(preparations, rounds),
        dynamic_measured_j=dynamic_energy_j(rounds, idle_w),
        dynamic_predicted_j=predicted_dynamic_j(rounds),
        round_energy_j=tuple(e.value_j if e else None for e in each),
        round_dynamic_j=tuple(dynamic_energy_j((r,), idle_w) for r in rounds),
        round_error_percent=tuple(_error_percent(r) for r in rounds),
        refitted_after=federation.refits,
        unmetered=tuple(f"{r.number}/{d}" for r in rounds for d in r.unmetered),
        synthetic_samples=sum(
            sum(p.synthetic_counts) + p.unlabelled for p in federation.device_plans.values()
        ),
        plan_energy_j=plan.energy_j if plan else None,
        plan_bound_j=plan.bound_j if plan else None,
        plan_gap_percent=plan.gap_percent if plan else None,
        orthogonality={each.round: each.orthogonality for each in federation.insights},
        local_error={
            each.round: {d.device: d.local_error for d in each.devices}
            for each in federation.insights
        },
        similarity={
            each.round: {d.device: d.similarity for d in each.devices}
            for each in federation.insights
        },
        targets=costs_to_targets(
            targets(federation.settings), federation.preparations, federation.rounds
        ),
        run_dir=run_dir,
        deployment=_deployed(federation),
        deployment_problem=federation.not_deployed,
        server_seconds=sum(each.seconds for each in server) if server else None,
        server_j=server_j.value_j if (server_j := server_energy(rounds)) else None,
        wall_s=wall_s,
    )


def _error_percent(result: RoundResult) -> float | None:
    errors = [
        abs(device.predicted_j / energy.value_j - 1.0)
        for device in result.participants
        if (energy := device.energy) is not None and energy.value_j > 0.0
    ]
    return 100.0 * sum(errors) / len(errors) if errors else None

"""A coordinator from a configuration: run it, store what happens, sum it up.

Shared by ``fimi dry-run``, which also starts everything else, and ``fimi coordinator run``.
"""

from __future__ import annotations

import importlib.metadata
import platform
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from coordinator.deployment import Export
from coordinator.events import Listener
from coordinator.federation import Coordinator, Federation
from coordinator.results import (
    RoundResult,
    board_energy,
    dynamic_energy_j,
    idle_powers_w,
    predicted_dynamic_j,
    predicted_energy_j,
    server_energy,
)
from coordinator.strategies import STRATEGIES
from coordinator.targets import costs_to_targets
from generator_node.metering import Metered, open_meters
from learning import graphs
from learning.classifier import Exported, FileCheck
from learning.datasets import Dataset
from learning.metrics import TargetCost
from learning.model_cost import model_cost
from learning.partition_schemes import LABEL_DIRICHLET
from learning.tensors import Parameters
from learning.torch_trainer import TorchTrainer, initial_parameters
from messaging.address import BrokerAddress
from messaging.client import Peer
from messaging.topics import COORDINATOR
from testbed.config import Effective, values
from testbed.devices import load_split, partition_digest
from testbed.run_folder import RunFolder
from testbed.sections import Config

if TYPE_CHECKING:
    from learning.deployment import Deployer

_PACKAGES = (
    "fimi-testbed",
    "torch",
    "diffusers",
    "numpy",
    "cvxpy",
    "paho-mqtt",
    "onnx",
    "onnxruntime",
)


def coordinate(
    effective: Effective,
    address: BrokerAddress,
    folder: RunFolder,
    *,
    broker: str,
    view: Listener,
    cancel: threading.Event,
    say: Callable[[str], None] = lambda text: None,
) -> Federation:
    """Run a federation as its coordinator.

    Args:
        effective: configuration and origins.
        address: of the broker.
        folder: where results go; its store is filled and stays open.
        broker: name and version, for the record.
        view: hears every event.
        cancel: ends the run.
        say: told what devices train with.

    Raises:
        learning.export.ExportError: the configuration asks for ONNX and the network cannot.
        learning.models.ModelError: the network cannot be trained as configured.
    """
    config = effective.config
    settings = config.federation(folder.name)
    split = load_split(config)
    shape, classes = split.test.image_shape, split.test.classes
    store = folder.store
    store.put(
        run=settings.run,
        strategy=settings.strategy,
        strategy_title=STRATEGIES[settings.strategy].title,
        seed=settings.seed,
        status="running",
        reason="",
        started_at=_now(),
        config=values(config),
        origins=effective.origins,
        versions=versions(),
        broker=broker,
        dataset={
            "name": config.data.dataset,
            "limit": config.data.limit or None,
            "split": split.kind,
            "partition": config.data.partition,
            "alpha": config.data.alpha if config.data.partition in LABEL_DIRICHLET else None,
            "public": len(split.public),
            "private": len(split.private),
            "test": len(split.test),
            "class_names": split.test.class_names,
            "public_digest": split.public.digest(),
            "private_digest": split.private.digest(),
            "test_digest": split.test.digest(),
            "partition_digest": partition_digest(config, split),
        },
    )
    trainer = TorchTrainer.of(config.training, classes, shape)
    offered: list[bytes] = []
    if config.training.backend == "onnx":  # what cannot be exported is known before anything begins
        offered.append(training_graphs(config, classes, shape, say))

    def make_graphs() -> bytes:
        return offered[0] if offered else training_graphs(config, classes, shape, say)

    trains = STRATEGIES[settings.strategy].trains_on_server
    meter = open_meters(say, whose="server") if trains else Metered()
    peer = Peer(address, fleet=config.fleet.name, peer=COORDINATOR, role="coordinator")
    try:
        with peer:
            federation = Coordinator(
                settings,
                peer,
                trainer,
                initial_parameters(config.training.model, classes, shape, seed=config.run.seed),
                split.test,
                store=store,
                listener=view,
                on_model=folder.write_model,
                cancel=cancel,
                graphs=make_graphs,
                export=_export(config, trainer, split.test, folder),
                public=split.public,
                meter=meter,
            ).run()
    except KeyboardInterrupt:
        store.put(status="interrupted", reason="broken off", finished_at=_now())
        raise
    except BaseException as error:
        store.put(status="failed", reason=str(error), finished_at=_now())
        raise
    finally:
        meter.close()
    store.put(status=federation.status, reason=federation.reason, finished_at=_now())
    return federation


def training_graphs(
    config: Config,
    classes: int,
    image_shape: tuple[int, int, int],
    say: Callable[[str], None],
) -> bytes:
    """What devices without PyTorch train with; empty if they train with PyTorch.

    Args:
        config: network and backend.
        classes: K.
        image_shape: channels, height, width.
        say: told which backend it is, and why.

    Raises:
        learning.export.ExportError: ``training.backend`` is ``"onnx"`` and the network cannot.
    """
    training = config.training
    if training.backend == "torch":
        say('devices train with PyTorch (training.backend = "torch")')
        return b""
    from learning.export import ExportError, export

    try:
        payload = graphs.encode(export(training, classes, image_shape))
    except ExportError as error:
        if training.backend == "onnx":
            raise
        say(f"devices train with PyTorch: {error}")
        return b""
    say(f"devices are offered {training.model} as a training graph of {len(payload)} bytes")
    return payload


def _export(config: Config, trainer: TorchTrainer, test: Dataset, folder: RunFolder) -> Export:
    """How the trained model becomes files in the run folder."""
    model = config.training.model
    kept: list[Deployer] = []

    def make(parameters: Parameters) -> tuple[Exported, ...]:
        from learning.deployment import Deployer

        if not kept:
            kept.append(Deployer(model, trainer, test, quantise=config.deployment.quantise))
        return kept[0].export(parameters)

    return Export(
        make=make,
        keep=folder.write_files,
        inference_share=model_cost(model, test.classes, test.image_shape).inference_share,
    )


class Summary(Struct, frozen=True, kw_only=True):
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
    energy_predicted_j: float
    dynamic_measured_j: float
    dynamic_predicted_j: float
    round_energy_j: tuple[float | None, ...]
    round_dynamic_j: tuple[float, ...]
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
    deployment: Deployed | None
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


class Deployed(Struct, frozen=True, kw_only=True):
    """The trained model as files; the joules are in no other figure.

    Attributes:
        round: after which it was exported.
        files: each as it was checked against PyTorch.
        devices: each file on each device that answered.
    """

    round: int
    files: tuple[FileCheck, ...]
    devices: tuple[DeviceFigures, ...]


def _deployed(federation: Federation) -> Deployed | None:
    if not federation.deployments:
        return None
    last = federation.deployments[-1]
    return Deployed(
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


def summarise(federation: Federation, run_dir: str, wall_s: float) -> Summary:
    """Sum up a run."""
    server = [r.server for r in federation.rounds if r.server is not None]
    rounds, preparations, plan = federation.rounds, federation.preparations, federation.plan
    idle_w = idle_powers_w(
        rounds, {d: p.board.idle_power_w for d, p in federation.profiles.items()}
    )
    energy = board_energy(preparations, rounds)
    each = [board_energy(preparations if r.number == 1 else (), (r,)) for r in rounds]
    return Summary(
        status=federation.status,
        strategy=federation.settings.strategy,
        seed=federation.settings.seed,
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
            federation.settings.targets, federation.preparations, federation.rounds
        ),
        run_dir=run_dir,
        deployment=_deployed(federation),
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


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results; absent ones left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")

"""A coordinator from a configuration: run it, store what happens.

Shared by ``fimi dry-run``, which also starts everything else, and ``fimi coordinator run``.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fimi.coordinator import checkpoint, curves
from fimi.coordinator.context import Stopwatch
from fimi.coordinator.deployment import Export
from fimi.coordinator.enrolment import Terms
from fimi.coordinator.federation import Coordinator
from fimi.coordinator.outcome import Federation, UnfinishedRun
from fimi.coordinator.strategies import STRATEGIES
from fimi.energy.work_meter import Metered, open_meters
from fimi.learning.data import leak
from fimi.learning.training.classifier import Exported
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingCancelled
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.messages.orders import EmulatedDevice
from fimi.messaging.topics import COORDINATOR
from fimi.optim.rounds_defaults import (
    EPOCHS_EXPONENT,
    ROUNDS_OF,
    ROUNDS_SCALE,
    ROUNDS_SENSITIVITY,
)
from fimi.record.events import Resumed
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes.devices import emulated_device
from fimi.testbed.processes.training_graphs import training_graphs
from fimi.testbed.processes.windows import Windows
from fimi.testbed.resuming import BeginCommand, describe
from fimi.testbed.run_folder import RunFolder, RunFolderError

if TYPE_CHECKING:
    from fimi.learning.training.deployment import Deployer


def coordinate(
    scenario: Scenario,
    address: BrokerAddress,
    folder: RunFolder,
    *,
    broker: str,
    view: Windows,
    cancel: threading.Event,
    one_machine: bool = False,
) -> Federation:
    """Run a federation as its coordinator, or go on with it.

    Args:
        scenario: what to run.
        address: of the broker.
        folder: where results go; its store is filled and stays open. One that was opened again
            says what there is already.
        broker: name and version, for the record.
        view: all that shows what happens.
        cancel: ends the run.
        one_machine: whether the devices are emulated here, as in a dry run.

    Raises:
        RunFolderError: the run cannot be gone on with; says what is lost or damaged.
        fimi.optim.known_curve.CurveError: there is no learning curve that fits the run.
        fimi.learning.onnx.export.ExportError: ``training.backend`` is ``"onnx"`` and the network
            cannot be exported.
        fimi.learning.networks.models.ModelError: the network cannot be trained as configured.
    """
    config, split = scenario.config, scenario.split
    strategy = STRATEGIES[config.run.strategy]
    shape, classes = split.test.image_shape, split.test.classes
    store, say = folder.store, view.say
    info = store.info
    if not info.instance:  # a folder that was made without the description of its run
        command: BeginCommand = "dry-run" if one_machine else "coordinator run"
        info = replace(describe(scenario, command, secrets.token_hex(8)), run=folder.name)
    exposed = address.exposed()
    store.describe(replace(info, broker=broker, exposed=exposed))
    watch = Stopwatch()
    try:
        with watch.stage("curve"):
            _describe_curve(scenario, folder, say, cancel)
            _doubt_rounds(config, say)
    except TrainingCancelled:
        reason = "stopped while the learning curve was measured"
        store.end("interrupted", reason, _now())
        model = initial_parameters(config.training.model, classes, shape, seed=config.run.seed)
        return Federation(
            status="interrupted",
            reason=reason,
            profiles={},
            plan=None,
            device_plans={},
            rounds=(),
            model=model,
        )
    resume = _unfinished(folder)
    model = initial_parameters(config.training.model, classes, shape, seed=config.run.seed)
    if resume is not None and resume.checkpoint.rounds.model:
        model = folder.model(resume.checkpoint.rounds.model)
    if store.resumed_after is not None:
        view(Resumed(after_round=store.resumed_after))
    trainer = TorchTrainer.of(config.training, classes, shape)
    offered: list[bytes] = []
    if config.training.backend == "onnx":  # what cannot be exported is known before anything begins
        offered.append(training_graphs(folder, config, classes, shape, say))

    def make_graphs() -> bytes:
        if offered:
            return offered[0]
        return training_graphs(folder, config, classes, shape, say)

    meter = open_meters(say, whose="server") if strategy.trains_on_server else Metered()
    peer = Peer(
        address,
        fleet=config.fleet.name,
        peer=COORDINATOR,
        role="coordinator",
        epoch_after=resume.checkpoint.run.epoch if resume is not None else 0,
        what=f"run {folder.name}",
    )
    try:
        with peer:
            view.connect(peer, broker=broker, exposed=exposed)
            federation = Coordinator(
                folder.name,
                config,
                peer,
                trainer,
                model,
                split.test,
                terms(scenario, one_machine=one_machine),
                store=store,
                curve=store.info.curve.curve if store.info.curve else None,
                resume=resume,
                instance=store.info.instance,
                listener=view,
                keeper=folder,
                cancel=cancel,
                graphs=make_graphs,
                export=_export(scenario, trainer, folder),
                public=split.public,
                validation=split.validation,
                meter=meter,
                watch=watch,
                controls=view.controls,
            ).run()
    except KeyboardInterrupt:
        store.end("interrupted", "broken off", _now())
        raise
    except BaseException as error:
        store.end("failed", str(error), _now())
        raise
    finally:
        meter.close()
    store.end(federation.status, federation.reason, _now())
    return federation


def _doubt_rounds(config: Config, say: Callable[[str], None]) -> None:
    """Say where rounds(Δ, E) is that of other data or another network."""
    plan = config.plan
    used = (plan.rounds_scale, plan.rounds_sensitivity, plan.rounds_epochs_exponent)
    if (
        plan.target_accuracy
        and STRATEGIES[config.run.strategy].plans_data
        and used == (ROUNDS_SCALE, ROUNDS_SENSITIVITY, EPOCHS_EXPONENT)
        and (config.data.dataset, config.training.model) != ROUNDS_OF
    ):
        say(
            f"rounds to {100 * plan.target_accuracy:g} % are predicted as of {ROUNDS_OF[1]} on "
            f"{ROUNDS_OF[0]}; 'fimi pilot' fits plan.rounds_* to these data and this network"
        )


def _describe_curve(
    scenario: Scenario, folder: RunFolder, say: Callable[[str], None], cancel: threading.Event
) -> None:
    """Store which learning curve the run is planned with; measure it where there is none.

    A run that is gone on with keeps its curve, and a strategy that plans no data needs none.
    """
    config, store = scenario.config, folder.store
    if store.info.curve is not None:
        return
    subject, plans_data = scenario.subject, STRATEGIES[config.run.strategy].plans_data
    known = curves.chosen(config.plan, subject)
    if known is None and plans_data:
        known = curves.fitted(
            subject,
            scenario.split,
            config.training,
            curves.folder_of(config.run.directory),
            seconds=config.plan.curve_seconds,
            say=say,
            cancelled=cancel.is_set,
        )
    if known is None:
        return
    store.describe(replace(store.info, curve=known))
    if plans_data:
        say(f"learning curve: {known.law}, {known.provenance}")
        for doubt in known.doubts:
            say(f"learning curve: {doubt}")


def _unfinished(folder: RunFolder) -> UnfinishedRun | None:
    """What an earlier coordinator of the run has left; ``None`` if it had stored nothing yet."""
    before, stored = folder.before, folder.store.read_checkpoint()
    if before is None or not (stored or folder.store.worth_keeping):
        return None
    try:
        found = checkpoint.read(stored)
        last = before.rounds[-1].number if before.rounds else 0
        if found.rounds.number != last:
            raise ValueError(
                f"its checkpoint is of round {found.rounds.number}, its last round is {last}"
            )
    except ValueError as error:
        raise RunFolderError(
            f"{folder.path} cannot be gone on with: {error}; start a new run"
        ) from error
    return UnfinishedRun(checkpoint=found, results=before.rounds, deployments=before.made)


def terms(scenario: Scenario, *, one_machine: bool) -> Terms:
    """What devices are invited with."""
    config, contract = scenario.config, scenario.contract
    way = scenario.way(one_machine=one_machine)
    cycles = config.fleet.reference_cycles_per_sample or scenario.network.cycles_per_sample()

    def share(index: int) -> bytes:
        return scenario.payload(index, way) or b""

    def hashes(instance: str) -> bytes:
        return leak.encode(leak.held_out(scenario.split, instance), contract)

    def emulated(index: int) -> EmulatedDevice:
        return emulated_device(config, index, cycles)

    return Terms(
        contract=contract,
        way=way,
        share=share,
        hashes=hashes,
        emulated=emulated,
        samples=None if way == "file" else scenario.share,
    )


def _export(scenario: Scenario, trainer: TorchTrainer, folder: RunFolder) -> Export:
    """How the trained model becomes files in the run folder."""
    config, test = scenario.config, scenario.split.test
    model = config.training.model
    kept: list[Deployer] = []

    def make(parameters: Parameters) -> tuple[Exported, ...]:
        from fimi.learning.training.deployment import Deployer

        if not kept:
            kept.append(Deployer(model, trainer, test, quantise=config.deployment.quantise))
        return kept[0].export(parameters)

    return Export(
        make=make,
        keep=folder.write_files,
        inference_share=scenario.network.inference_share,
    )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")

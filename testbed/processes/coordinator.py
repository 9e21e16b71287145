"""A coordinator from a configuration: run it, store what happens.

Shared by ``fimi dry-run``, which also starts everything else, and ``fimi coordinator run``.
"""

from __future__ import annotations

import importlib.metadata
import platform
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from fimi.coordinator.deployment import Export
from fimi.coordinator.federation import Coordinator, Federation
from fimi.coordinator.strategies import STRATEGIES
from fimi.energy.work_meter import Metered, open_meters
from fimi.learning.onnx import graphs
from fimi.learning.training.classifier import Exported
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.topics import COORDINATOR
from fimi.record.events import Listener
from fimi.record.record import RunInfo
from fimi.testbed.configuration.load import values
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.run_folder import RunFolder

if TYPE_CHECKING:
    from fimi.learning.training.deployment import Deployer

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
    scenario: Scenario,
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
        scenario: what to run.
        address: of the broker.
        folder: where results go; its store is filled and stays open.
        broker: name and version, for the record.
        view: called with every event.
        cancel: ends the run.
        say: called with the backend that devices train with.

    Raises:
        fimi.learning.onnx.export.ExportError: ``training.backend`` is ``"onnx"`` and the network
            cannot be exported.
        fimi.learning.networks.models.ModelError: the network cannot be trained as configured.
    """
    config, split = scenario.config, scenario.split
    strategy = STRATEGIES[config.run.strategy]
    shape, classes = split.test.image_shape, split.test.classes
    store = folder.store
    store.describe(
        RunInfo(
            run=folder.name,
            strategy=strategy.name,
            strategy_title=strategy.title,
            fills_devices=strategy.fills_devices,
            seed=config.run.seed,
            started_at=_now(),
            config=values(config),
            origins=scenario.origins,
            versions=versions(),
            broker=broker,
            dataset=scenario.dataset,
        )
    )
    trainer = TorchTrainer.of(config.training, classes, shape)
    offered: list[bytes] = []
    if config.training.backend == "onnx":  # what cannot be exported is known before anything begins
        offered.append(training_graphs(config, classes, shape, say))

    def make_graphs() -> bytes:
        return offered[0] if offered else training_graphs(config, classes, shape, say)

    meter = open_meters(say, whose="server") if strategy.trains_on_server else Metered()
    peer = Peer(address, fleet=config.fleet.name, peer=COORDINATOR, role="coordinator")
    try:
        with peer:
            federation = Coordinator(
                folder.name,
                config,
                peer,
                trainer,
                initial_parameters(config.training.model, classes, shape, seed=config.run.seed),
                split.test,
                store=store,
                listener=view,
                on_model=folder.write_model,
                cancel=cancel,
                graphs=make_graphs,
                export=_export(scenario, trainer, folder),
                public=split.public,
                meter=meter,
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
        say: called with the backend, and why.

    Raises:
        ExportError: ``training.backend`` is ``"onnx"`` and the network cannot.
    """
    training = config.training
    if training.backend == "torch":
        say('devices train with PyTorch (training.backend = "torch")')
        return b""
    from fimi.learning.onnx.export import ExportError, export

    try:
        payload = graphs.encode(export(training, classes, image_shape))
    except ExportError as error:
        if training.backend == "onnx":
            raise ExportError(
                f'{error}. Or let devices train with PyTorch: training.backend = "torch"'
            ) from error
        say(f"devices train with PyTorch, for there is no training graph: {error}")
        return b""
    say(f"devices are offered {training.model} as a training graph of {len(payload)} bytes")
    return payload


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

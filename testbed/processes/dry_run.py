"""A whole federation on one machine: broker, generator node, emulated devices, coordinator.

Nothing here is a simulation of the parts: they are the same programs that run on a fleet, each in
its own process (the coordinator in this one), talking over a real broker. Only the boards are
emulated, and every joule of theirs says so.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack

from fimi.coordinator.outcome import Federation
from fimi.coordinator.strategies import STRATEGIES
from fimi.edge_agent.backends import torch_is_faster
from fimi.learning.networks.built_in_cost import BUILT_IN
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.errors import PortTaken
from fimi.messaging.topics import device_names
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes.generator_node import check as check_generator
from fimi.testbed.processes.nursery import LEFT_OVER_S, ChildFailedError, Nursery
from fimi.testbed.processes.orders import FleetOrders, GeneratorOrders
from fimi.testbed.processes.windows import Windows
from fimi.testbed.run_folder import RunFolder

DEVICES_PER_PROCESS_MAX = 50


def dry_run(
    scenario: Scenario, folder: RunFolder, *, view: Windows, cancel: threading.Event
) -> Federation:
    """Run a federation of emulated devices on this machine, or go on with one.

    Args:
        scenario: what to run.
        folder: where results go, and what need not be made again if the run is gone on with.
        view: all that shows what happens.
        cancel: ends the run; what was done is in the result.

    Raises:
        GeneratorError: there is no generator for the public part.
        fimi.learning.networks.models.ModelError: a network of one's own does not fit the data.
        ChildFailedError: the generator node or the emulated devices ended by themselves.
    """
    config = scenario.config
    makes_images = STRATEGIES[config.run.strategy].needs_images
    if makes_images:
        check_generator(scenario)
    cache = folder.work / "devices"
    cache.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks: threads only get in the way
    # Of glibc's memory pools, one for each thread, every device that trained would keep one full.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    with ExitStack() as stack:
        patience_s = 0.0 if folder.before is None else LEFT_OVER_S
        broker = stack.enter_context(_broker(config, patience_s))
        view.say(f"broker: {broker.kind} {broker.version} on {broker.address.host}")
        preload = ("fimi.learning.training.torch_trainer",) if _trains_with_torch(scenario) else ()
        nursery = stack.enter_context(Nursery(folder.logs, preload=preload))
        names = device_names(config.fleet.devices, config.fleet.members)
        for index, devices in enumerate(_shares(config)):
            nursery.start(
                f"devices-{index + 1}",
                "fimi.testbed.processes.emulated_fleet",
                FleetOrders(
                    broker=broker.address,
                    fleet=config.fleet.name,
                    devices=tuple(names[each] for each in devices),
                    place=config.data.root,
                    cache=str(cache),
                    telemetry_s=view.telemetry_s,
                    looked_s=view.looked_s,
                ),
            )
        if makes_images:
            nursery.start(
                "generator",
                "fimi.testbed.processes.generator_node",
                GeneratorOrders(
                    config=config,
                    broker=broker.address,
                    pool=config.generator.pool or str(folder.work / "generator"),
                ),
            )
        guard = stack.enter_context(_Guard(nursery, cancel))
        # Loads PyTorch while the children do as well.
        from fimi.testbed.processes.coordinator import coordinate

        try:
            federation = coordinate(
                scenario,
                broker.address,
                folder,
                broker=f"{broker.kind} {broker.version}",
                view=view,
                cancel=guard.cancel,
                one_machine=True,
            )
        finally:
            if guard.failure is not None:
                folder.store.end("failed", guard.failure.what)
                raise guard.failure
        return federation


def _broker(config: Config, patience_s: float) -> EmbeddedBroker:
    """A broker that runs; waits for its port, which that of a killed run may still have."""
    limit_s = time.monotonic() + patience_s
    while True:
        broker = EmbeddedBroker(kind=config.broker.kind, port=config.broker.port)
        try:
            broker.start()
            return broker
        except PortTaken:
            if time.monotonic() > limit_s:
                raise
            time.sleep(0.2)


def _trains_with_torch(scenario: Scenario) -> bool:
    """Whether all devices will: they share what is loaded before they are made.

    Devices that train with ONNX Runtime have no use for PyTorch, and no memory for it.
    """
    training = scenario.config.training
    if training.backend != "auto" or training.model not in BUILT_IN:
        return training.backend == "torch"
    return torch_is_faster(training, scenario.network.forward_macs)


def _shares(config: Config) -> list[tuple[int, ...]]:
    """Device indices per process: one process per core, and not too many devices in one."""
    devices = config.fleet.devices
    cores = os.cpu_count() or 1
    processes = min(devices, max(min(cores, 4), -(-devices // DEVICES_PER_PROCESS_MAX)))
    return [tuple(range(start, devices, processes)) for start in range(processes)]


class _Guard:
    """Ends the run when the person asks for it, or when a child has died.

    Args:
        nursery: whose children to watch.
        asked: set by the person (Ctrl-C).

    Attributes:
        cancel: ends the coordinator's run.
        failure: what a child died of, if one did.
    """

    def __init__(self, nursery: Nursery, asked: threading.Event) -> None:
        self.cancel = threading.Event()
        self._nursery = nursery
        self._asked = asked
        self.failure: ChildFailedError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)

    def __enter__(self) -> _Guard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            if self._asked.wait(0.2):
                self.cancel.set()
                return
            try:
                self._nursery.check()
            except ChildFailedError as failure:
                self.failure = failure
                self.cancel.set()
                return
            time.sleep(0.1)

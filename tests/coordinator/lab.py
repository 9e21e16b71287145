"""A coordinator with a scripted fleet on a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from run_contract import of
from scripted import CLASSES, MODEL, Behaviour, ScriptedDevice

from fimi.coordinator import checkpoint
from fimi.coordinator.controls import Controls
from fimi.coordinator.deployment import Export
from fimi.coordinator.enrolment import Terms
from fimi.coordinator.federation import Coordinator
from fimi.coordinator.outcome import Federation, UnfinishedRun
from fimi.coordinator.settings import (
    DeploymentSettings,
    PlanSettings,
    RoundSettings,
    TransferSettings,
)
from fimi.learning.data.dataset import Dataset, Images, Labels
from fimi.learning.training import tensors
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Evaluation, TrainingResult, TrainingSettings
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.topics import COORDINATOR
from fimi.optim.learning_curve import LearningCurve
from fimi.record.events import Event
from fimi.record.reader import read_run
from fimi.record.store import RunStore
from fimi.testbed.configuration.sections import Config, FleetConfig, RunConfig

TEST_SET = Dataset(
    name="three/test",
    images=np.zeros((4, 1, 2, 2), np.uint8),
    labels=np.array([0, 1, 2, 0]),
    class_names=("a", "b", "c"),
)

CURVE = LearningCurve(alpha=5.8, beta=0.93, delta0=0.027)

TERMS = Terms(
    contract=of(TEST_SET),
    way="file",
    share=lambda index: b"",
)


class MeanOfWeights:
    """Evaluates a model by the mean of its weights; the coordinator never trains."""

    backend = "arithmetic"

    def train(
        self,
        parameters: Parameters,
        images: Images,
        labels: Labels,
        settings: TrainingSettings,
        *,
        stream: tuple[int, ...],
    ) -> TrainingResult:
        raise AssertionError("the coordinator does not train")

    def evaluate(self, parameters: Parameters, images: Images, labels: Labels) -> Evaluation:
        mean = float(parameters["w"].mean(dtype=np.float64))
        return Evaluation(
            accuracy=max(0.0, min(1.0, mean / 10)),
            loss=1.0 if abs(mean) < 1e30 else None,
            class_accuracy=(None,) * CLASSES,
            samples=len(labels),
        )


class Lab:
    """A coordinator and its scripted fleet on a broker."""

    def __init__(self, broker: EmbeddedBroker, fleet: str, folder: Path) -> None:
        self.broker, self.fleet = broker, fleet
        self.path = folder / "run.sqlite"
        self.events: list[Event] = []
        self.models: list[dict[str, np.ndarray]] = []
        self.devices: list[ScriptedDevice] = []
        self.cancel = threading.Event()
        self.controls: Controls | None = Controls()
        self.on_event: Callable[[Event], None] = lambda event: None

    def run(
        self,
        *behaviours: Behaviour,
        rounds: int = 2,
        strategy: str = "tfl",
        wall_timeout_s: float = 4.0,
        min_devices: int = 1,
        participants: int = 0,
        wanted: int | None = None,
        members: tuple[str, ...] = (),
        gather_timeout_s: float = 3.0,
        deadline_s: float = 10.0,
        kinds: str = "emulated",
        export: Export | None = None,
        deployment: DeploymentSettings | None = None,
        mute: tuple[int, ...] = (),
        unsettled: tuple[int, ...] = (),
        quorum: int = 0,
        terms: Terms | None = None,
        resumes: bool = False,
        prepare: Callable[[list[ScriptedDevice]], None] = lambda devices: None,
        plan: PlanSettings | None = None,
        validation: Dataset | None = None,
        curve: LearningCurve = CURVE,
        aggregating: Mapping[str, Any] = {},
        addresses: Mapping[int, BrokerAddress] = {},
        transfer: TransferSettings | None = None,
        **more: Any,
    ) -> Federation:
        """Run a federation; ``more`` are further keys of section ``rounds``."""
        settings = Config(
            run=RunConfig(strategy=strategy),
            fleet=FleetConfig(devices=wanted or len(behaviours), members=members),
            training=TrainingSettings(epochs=1),
            plan=plan or PlanSettings(deadline_s=deadline_s, iterations=20, error_max=0.08),
            rounds=RoundSettings(
                count=rounds,
                wall_timeout_s=wall_timeout_s,
                gather_timeout_s=gather_timeout_s,
                min_devices=min_devices,
                participants=participants,
                quorum=quorum,
                **aggregating,
                **more,
            ),
            transfer=transfer or TransferSettings(),
            deployment=deployment or DeploymentSettings(),
        )

        def listen(event: Event) -> None:
            self.events.append(event)
            self.on_event(event)

        self.devices = [
            ScriptedDevice(
                addresses.get(i, self.broker.address),
                self.fleet,
                f"device-{i + 1}",
                behave,
                index=i,
                kind=kinds,
            )
            for i, behave in enumerate(behaviours)
        ]
        for index in mute:
            self.devices[index].tries = False
        for index in unsettled:
            self.devices[index].settles = False
        prepare(self.devices)
        resume = None
        if resumes:  # the run that was here before
            results = read_run(self.path).rounds
            store = RunStore.reopen(self.path)
            found = checkpoint.read(store.read_checkpoint())
            resume = UnfinishedRun(checkpoint=found, results=results)
        else:
            store = RunStore(self.path)
        with ExitStack() as stack:
            stack.callback(store.close)
            for device in self.devices:
                stack.enter_context(device)
            peer = stack.enter_context(
                Peer(
                    self.broker.address,
                    fleet=self.fleet,
                    peer=COORDINATOR,
                    role="coordinator",
                    heartbeat_s=1.0,
                )
            )
            federation = Coordinator(
                "r1",
                settings,
                peer,
                MeanOfWeights(),
                self.models[-1] if resumes else {n: t.copy() for n, t in MODEL.items()},
                TEST_SET,
                terms or TERMS,
                store=store,
                curve=curve,
                resume=resume,
                listener=listen,
                keeper=self,
                cancel=self.cancel,
                export=export,
                validation=validation,
                controls=self.controls,
            ).run()
            limit = time.monotonic() + 3
            while time.monotonic() < limit and any(d.waits_for_the_end for d in self.devices):
                time.sleep(0.01)
        return federation

    def propose(self, model: dict[str, np.ndarray]) -> str:
        self.models.append(model)
        return tensors.digest(tensors.dump(model))

    def accept(self) -> None:
        """The model is kept already."""

    def said(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def statuses(federation: Federation, number: int = 1) -> dict[str, str]:
    """The status of each device in a round."""
    return {d.device: d.status for d in federation.rounds[number - 1].devices}

"""An agent running in a thread on an emulated board, and the coordinator's end of its line."""

from __future__ import annotations

import threading
import time
from typing import TypeVar

import numpy as np

from fimi.edge_agent.agent import Agent, AgentSettings
from fimi.edge_agent.backends import Backends
from fimi.edge_agent.data import MixedData
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.emulation.board import Disturbance, EmulatedBoard
from fimi.energy.emulation.boards import fleet
from fimi.learning.data import batches
from fimi.learning.data.dataset import load_digits
from fimi.learning.training import tensors, torch_trainer
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages import (
    DevicePlan,
    Message,
    Offer,
    RoundReport,
    RoundStart,
    UpdateReady,
)
from fimi.messaging.topics import COORDINATOR

DIGITS = load_digits()
LOCAL = DIGITS.subset(np.arange(40), "digits/device-1")
POINT = OperatingPoint(frequency_hz=1e9, bandwidth_hz=50e3, transmit_power_w=0.05, time_split=0.6)
SETTINGS = TrainingSettings(epochs=2, batch_size=20, learning_rate=0.1)
MODEL = torch_trainer.initial_parameters("small-cnn", 10, (1, 8, 8), seed=0)
Kind = TypeVar("Kind", bound=Message)


def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
    return batches.encode(images, labels)


class Bench:
    """An agent running in a thread, and the coordinator's end of its line."""

    def __init__(self, broker: EmbeddedBroker, name: str) -> None:
        (declaration,) = fleet(1, 0, cycles_per_sample=4e6)
        self.board = EmulatedBoard(declaration, seed=0, index=0, disturbance=Disturbance())
        self.data = MixedData(LOCAL)
        self.device = Peer(broker.address, fleet=name, peer="device-1", role="device")
        self.desk = Peer(broker.address, fleet=name, peer=COORDINATOR, role="coordinator")
        self.agent = Agent(
            self.device,
            self.board,
            self.data,
            Backends(10, (1, 8, 8)),
            settings=AgentSettings(transfer_timeout_s=4.0, batch_max_bytes=50_000),
        )
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.agent.run, args=(self.stop,))
        self.model = tensors.dump(MODEL)

    def __enter__(self) -> Bench:
        self.device.connect()
        self.thread.start()
        self.desk.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.device.close()
        self.desk.close()

    def hear(self, kind: type[Kind], timeout_s: float = 10.0) -> Kind:
        limit = time.monotonic() + timeout_s
        while (left := limit - time.monotonic()) > 0:
            received = self.desk.receive(timeout_s=left)
            if received is not None and isinstance(received[1], kind):
                return received[1]
        raise AssertionError(f"no {kind.__name__} within {timeout_s} s")

    def hears_nothing_of(self, kind: type[Message], for_s: float = 0.4) -> bool:
        try:
            self.hear(kind, for_s)
        except AssertionError:
            return True
        return False

    def plan(
        self, batch: Offer | None = None, run: str = "r1", fleet_time_s: float = 0.0
    ) -> DevicePlan:
        return DevicePlan(
            fleet_time_s=fleet_time_s,
            run=run,
            device="device-1",
            device_index=0,
            synthetic_counts=(0,) * 10,
            batch=batch,
            point=POINT,
            predicted=(),
        )

    def start(self, number: int = 1, at_s: float = 0.0, run: str = "r1") -> RoundStart:
        offer = self.desk.transfers.serve(self.model, "safetensors")
        return RoundStart(
            run=run,
            device="device-1",
            round=number,
            model=offer,
            training=SETTINGS,
            seed=5,
            fleet_time_s=at_s,
        )

    def round(self, start: RoundStart) -> tuple[bytes, RoundReport]:
        self.desk.send("device-1", start)
        update = self.desk.transfers.fetch(self.hear(UpdateReady).update, 5.0)
        return update, self.hear(RoundReport)

"""An agent running in a thread on an emulated board, and the coordinator's end of its line."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import run_contract
from desk import Desk
from msgspec.structs import replace

from fimi.edge_agent.agent import Agent
from fimi.edge_agent.data import MixedData
from fimi.edge_agent.tools import AgentSettings
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.emulation.board import EmulatedBoard
from fimi.energy.hardware import Hardware
from fimi.learning.data import batches, shares
from fimi.learning.data.dataset import load_digits
from fimi.learning.training import tensors, torch_trainer
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import PlanApplied, Profile, RoundReport, RoundSettled
from fimi.messaging.messages.orders import (
    DevicePlan,
    EmulatedDevice,
    Invitation,
    RoundClosed,
    RoundStart,
    RunEnded,
)

DEVICE = "device-1"
DIGITS = load_digits()
LOCAL = DIGITS.subset(np.arange(40), "digits/device-1")
CONTRACT = run_contract.of(DIGITS)
POINT = OperatingPoint(frequency_hz=1e9, bandwidth_hz=50e3, transmit_power_w=0.05, time_split=0.6)
SETTINGS = TrainingSettings(epochs=2, batch_size=20, learning_rate=0.1)
MODEL = torch_trainer.initial_parameters("small-cnn", 10, (1, 8, 8), seed=0)
EMULATED = EmulatedDevice(
    board="raspberry-pi-4",
    seed=0,
    emulation="model",
    profile_error=0.03,
    cycles_per_sample=4e6,
)


def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
    return batches.encode(images, labels, contract=CONTRACT.digest)


class Device:
    """An agent in a thread: one start of a device. A context manager."""

    def __init__(self, broker: EmbeddedBroker, fleet: str, **options: Any) -> None:
        self.peer = Peer(broker.address, fleet=fleet, peer=DEVICE, role="device")
        options.setdefault("settings", AgentSettings(batch_max_bytes=50_000))
        self.agent = Agent(self.peer, **options)
        self.stop = threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.agent.run(self.stop)
        except Exception as error:
            self.error = error

    @property
    def data(self) -> MixedData:
        assert self.agent.member is not None
        return self.agent.member.data

    @property
    def board(self) -> EmulatedBoard:
        assert self.agent.member is not None
        board = self.agent.member._hardware
        assert isinstance(board, EmulatedBoard)
        return board

    def __enter__(self) -> Device:
        self.peer.connect()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.peer.close()


class Bench:
    """An agent running in a thread, and the coordinator's end of its line.

    Args:
        hardware: the device's own board; ``None``: emulated.
        joins: whether it is invited at once.
    """

    def __init__(
        self,
        broker: EmbeddedBroker,
        fleet: str,
        *,
        hardware: Hardware | None = None,
        joins: bool = True,
        **options: Any,
    ) -> None:
        self.broker, self.fleet = broker, fleet
        self._joins = joins
        self.device = Device(broker, fleet, hardware=hardware, **options)
        self.desk = Desk(broker, fleet)
        self.model = tensors.dump(MODEL)

    def __enter__(self) -> Bench:
        self.device.__enter__()
        self.desk.__enter__()
        if self._joins:
            self.profile = self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.device.__exit__()
        self.desk.__exit__()

    @property
    def data(self) -> MixedData:
        return self.device.data

    @property
    def board(self) -> EmulatedBoard:
        return self.device.board

    def serve(self, payload: bytes, media: str = "synthetic-batch") -> Offer:
        return self.desk.peer.transfers.serve(payload, media)

    def invitation(self, samples: int = len(LOCAL), **others: Any) -> Invitation:
        share = shares.encode_indices(np.arange(samples), CONTRACT)
        return Invitation(
            run=self.desk.run,
            device=DEVICE,
            index=0,
            contract=CONTRACT,
            way="indices",
            share=self.serve(share, shares.INDICES_MEDIA),
            emulated=EMULATED,
            **others,
        )

    def join(self) -> Profile:
        self.desk.order(self.invitation())
        return self.desk.hear(Profile)

    def follow(self, plan: DevicePlan) -> PlanApplied:
        self.desk.order(plan)
        return self.desk.hear(PlanApplied)

    def plan(self, batch: Offer | None = None, fleet_time_s: float = 0.0) -> DevicePlan:
        return DevicePlan(
            fleet_time_s=fleet_time_s,
            run=self.desk.run,
            device=DEVICE,
            device_index=0,
            synthetic_counts=(0 if batch is None else 10,) * 10,
            batch=batch,
            point=POINT,
            predicted=(),
        )

    def start(self, number: int = 1, at_s: float = 0.0) -> RoundStart:
        return RoundStart(
            run=self.desk.run,
            device=DEVICE,
            round=number,
            model=self.serve(self.model, "safetensors"),
            training=SETTINGS,
            seed=5,
            fleet_time_s=at_s,
        )

    def pull(self) -> bytes:
        return self.desk.pull()

    def round(self, start: RoundStart) -> tuple[bytes, RoundReport]:
        self.desk.order(start)
        update = self.pull()
        return update, self.desk.hear(RoundReport)

    def offered(self, start: RoundStart) -> None:
        """An update waits to be pulled, and the coordinator stores nothing of the round."""
        self.desk.stores = False
        self.desk.order(start)
        self.desk.until(lambda reported: reported.stage == "offering", "the update is ready")

    def close(self, number: int, at_s: float, accepted: bool = True) -> RoundSettled:
        self.desk.order(self.closed(number, at_s, accepted))
        return self.desk.hear(RoundSettled)

    def closed(self, number: int, at_s: float, accepted: bool = True) -> RoundClosed:
        return RoundClosed(
            run=self.desk.run,
            device=DEVICE,
            round=number,
            accepted=accepted,
            fleet_time_s=at_s,
        )

    def end(self) -> None:
        self.desk.order(RunEnded(run=self.desk.run, reason="completed"))

    def another_run(self, run: str) -> None:
        """The coordinator is replaced by one of another run."""
        self.desk.__exit__()
        self.desk = Desk(self.broker, self.fleet, run=run, instance=f"{run:0>16}")
        self.desk.__enter__()

    def another_coordinator(self, **others: Any) -> None:
        """The coordinator dies and is started again: the same run, from what it had stored."""
        before = self.desk
        before.__exit__()
        self.desk = Desk(
            self.broker,
            self.fleet,
            run=before.run,
            instance=before.instance,
            epoch=before.conversation.epoch + 1,
            heard=before.conversation.heard(),
            **others,
        )
        self.desk.__enter__()


def slower(plan: DevicePlan) -> DevicePlan:
    return replace(plan, point=replace(plan.point, frequency_hz=0.6e9))

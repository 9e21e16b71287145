"""A coordinator and devices that talk over a network which loses, repeats and reorders.

Both sides are the real state machines; only the network, the work and the run store are written
here, as plainly as possible: the store survives its coordinator, a device's memory does not survive
its device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from run_contract import DIGITS as CONTRACT

from fimi.coordinator.conversation import Conversation
from fimi.edge_agent.course import Course, Forget
from fimi.energy.cost_model import OperatingPoint
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages import (
    AnyMessage,
    Desired,
    DevicePlan,
    Heard,
    Invitation,
    Offer,
    PlanApplied,
    Refusal,
    Reported,
    RoundClosed,
    RoundReport,
    RoundSettled,
    RoundStart,
    RunEnded,
    UpdateReady,
)

POINT = OperatingPoint(frequency_hz=1e9, bandwidth_hz=1e4, transmit_power_w=0.1, time_split=0.5)
ROUNDS = 3
Body = Any
_decode = msgspec.json.Decoder[Any](AnyMessage).decode


def over_the_wire(message: Any) -> Any:
    """What arrives: decoded from bytes, as in life, so that nothing is shared."""
    return _decode(msgspec.json.encode(message))


def offer(name: int, holder: str) -> Offer:
    digest = f"{name:064x}"
    return Offer(holder=holder, digest=digest, size_bytes=1, media="m")


@dataclass
class Network:
    """Messages under way, and what the broker keeps."""

    under_way: list[tuple[str, Any]] = field(default_factory=list)
    kept: dict[tuple[str, str], Any] = field(default_factory=dict)
    history: list[tuple[str, Any]] = field(default_factory=list)

    def publish(self, to: str, device: str, message: Any) -> None:
        self.kept[to, device] = message
        self.history.append((to, message))
        self.under_way.append((to, message))


@dataclass
class Store:
    """What is on the coordinator's disk."""

    rounds: list[int] = field(default_factory=list)
    profiles: set[str] = field(default_factory=set)
    plans_applied: list[str] = field(default_factory=list)
    reports: list[tuple[int, str, str]] = field(default_factory=list)
    settled: list[tuple[int, str, str]] = field(default_factory=list)
    heard: dict[str, Heard] = field(default_factory=dict)
    done: bool = False
    epoch: int = 0
    ever_closed: set[int] = field(default_factory=set)
    """Rounds that any coordinator has closed; only the tests read it."""
    interrupted: set[int] = field(default_factory=set)
    """Rounds in which a coordinator was asked to stop; only the tests read it."""


class Device:
    """One start after another of a device."""

    def __init__(self, name: str, network: Network) -> None:
        self.name, self.network = name, network
        self.boots = 0
        self.lives = 0
        self.work: list[tuple[str, str, int, int]] = []
        self.broken_off: list[tuple[str, int]] = []
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.boot_id = f"{self.name}-{self.boots}"
        self.course = Course(self.name, self.boot_id)
        self.step: Any = None
        kept = self.network.kept.get(("device", self.name))
        if kept is not None:
            self.take(kept)

    def take(self, desired: Desired) -> None:
        self.course.take(over_the_wire(desired))
        self.publish()

    def publish(self) -> None:
        if (document := self.course.document()) is not None:
            self.network.publish("coordinator", self.name, document)

    def tick(self) -> None:
        """Say again what has not been confirmed."""
        if self.course.unheard:
            self.publish()

    def advance(self) -> bool:
        """Begin the next step, or end the one that was begun; returns whether there was any."""
        course = self.course
        if self.step is None:
            self.step = course.next()
            if self.step is None:
                return False
            course.begin(self.step)
            self.begun_in = course.instance
            return True
        step, self.step = self.step, None
        wanted = course.wants(step)
        here: dict[str, Any] = {"run": "r", "device": self.name}
        match step:
            case Forget():
                self.lives += 1
                course.finish(step)
            case Invitation():
                # A refusal stands for a profile here: it is as much a fact, and shorter.
                course.finish(step, Refusal(**here, reason=self.boot_id))
            case DevicePlan():
                course.finish(step, PlanApplied(**here, applied=None, phases=()))
            case RoundStart():
                here |= {"round": step.round}
                facts: list[Body] = []
                if wanted:
                    facts = [UpdateReady(**here, update=offer(step.round, self.name))]
                    self.work.append((course.instance, self.boot_id, self.lives, step.round))
                else:
                    self.broken_off.append((self.begun_in, step.round))
                report = RoundReport(
                    **here,
                    local_samples=1,
                    synthetic_samples=0,
                    training_loss=1.0,
                    training_accuracy=0.0,
                    frequency_hz=None,
                    busy_s=1.0,
                    phases=(),
                    backend=f"{self.boot_id}, life {self.lives}",
                    error="" if wanted else "broken off",
                )
                course.finish(step, *facts, report)
            case RoundClosed():
                course.finish(step, RoundSettled(**here, round=step.round, phases=()))
        self.publish()
        return True


class Coordinator:
    """A run of :data:`ROUNDS` rounds, written down before it is said."""

    def __init__(self, devices: list[str], network: Network, store: Store, instance: str) -> None:
        self.devices, self.network, self.store, self.instance = devices, network, store, instance
        self.starts = 0
        self.now_s = 0.0
        self.boot()

    def boot(self) -> None:
        self.starts += 1
        self.gone = False
        self.facts: dict[str, dict[type[Any], Body]] = {device: {} for device in self.devices}
        self.again: list[Body] = []
        store = self.store
        store.epoch = max(self.starts, store.epoch + 1)
        self.conversation = Conversation(
            "r",
            self.instance,
            store.epoch,
            lambda device, message: self.network.publish("device", device, message),
            lambda: self.now_s,
            dict(self.store.heard),
            lambda epoch: setattr(store, "epoch", epoch),
        )
        self.closing = False
        self.silent = True  # it comes only after a while to what it wants
        for device in self.devices:
            kept = self.network.kept.get(("coordinator", device))
            if kept is not None:
                self.take(kept)
        self.say()

    @property
    def number(self) -> int:
        return len(self.store.rounds) + 1

    def say(self) -> None:
        """Everything that is wanted now follows from what is stored."""
        for device in self.devices:
            here: dict[str, Any] = {"run": "r", "device": device}
            if self.store.done:
                self.conversation.order(device, RunEnded(run="r", reason="completed"))
                continue
            orders: list[Any] = [Invitation(**here, index=0, contract=CONTRACT, way="file")]
            if self.silent:
                self.conversation.order(device, *orders)
                continue
            if device in self.store.profiles:
                orders.append(
                    DevicePlan(
                        **here,
                        device_index=0,
                        synthetic_counts=(),
                        batch=None,
                        point=POINT,
                        predicted=(),
                    )
                )
            if self.number > 1 or self.closing:
                last = self.number if self.closing else self.number - 1
                orders.append(RoundClosed(**here, round=last, accepted=True, fleet_time_s=last))
            orders.append(
                RoundStart(
                    **here,
                    round=self.number,
                    model=offer(1000 + self.number, "coordinator"),
                    training=TrainingSettings(),
                    seed=0,
                    fleet_time_s=self.number,
                )
            )
            self.conversation.order(device, *orders)

    def take(self, reported: Reported) -> None:
        store = self.store
        if self.gone:
            return
        for body in self.conversation.take(over_the_wire(reported)):
            device = reported.device
            if isinstance(body, RoundReport) and body.error:
                assert body.round in store.ever_closed, "broken off, and nobody has closed it"
            match body:
                case Refusal():
                    store.profiles.add(device)
                    self.keep(device, body)
                case PlanApplied():
                    store.plans_applied.append(device)
                    self.keep(device, body)
                case RoundReport() | RoundSettled() | UpdateReady() if body.round < self.number:
                    self.book(body)
                    self.keep(device, body)
                case _:
                    self.facts[device].setdefault(type(body), body)
                    if self.facts[device][type(body)] is not body:
                        self.again.append(body)  # of another start, in the same round
        if not store.done:
            self.say()

    def interrupt(self) -> None:
        """It is asked to stop: it says so to everybody, and hears nothing more."""
        if not self.store.done:
            self.store.interrupted.add(self.number)
            for device in self.devices:
                self.conversation.order(device, RunEnded(run="r", reason="stopped"))
            self.gone = True

    def publish_again(self) -> None:
        """What a peer does after a reconnect."""
        for device in self.devices:
            document = self.conversation.desired(device)
            if document is not None:
                self.network.publish("device", device, document)

    def speak(self) -> None:
        """It has looked at what is stored."""
        if self.gone:
            return
        self.silent = False
        self.say()

    def keep(self, device: str, *bodies: Body) -> None:
        self.conversation.stored(device, *bodies)
        self.store.heard = self.conversation.heard()

    def book(self, body: Body) -> None:
        if isinstance(body, RoundReport):
            self.store.reports.append((body.round, body.device, body.backend))
        elif isinstance(body, RoundSettled):
            self.store.settled.append((body.round, body.device, ""))

    def close(self) -> None:
        """The round's time is over, or everybody has reported."""
        if not self.store.done and not self.silent and not self.gone:
            self.closing = True
            self.store.ever_closed.add(self.number)
            self.say()

    def finish(self) -> None:
        """Write the closed round with everything that has come, at once."""
        if not self.closing or self.store.done or self.gone:
            return
        number = self.number
        for device in self.devices:
            bodies = list(self.facts[device].values())
            for body in bodies:
                self.book(body)
            self.conversation.stored(device, *bodies)
            self.facts[device] = {}
        for body in self.again:
            self.book(body)
            self.conversation.stored(body.device, body)
        self.again = []
        self.store.rounds.append(number)
        self.store.heard = self.conversation.heard()
        self.store.done = number == ROUNDS
        self.closing = False
        self.say()

    @property
    def complete(self) -> bool:
        return all(RoundReport in self.facts[device] for device in self.devices)

    @property
    def all_settled(self) -> bool:
        return all(RoundSettled in self.facts[device] for device in self.devices)

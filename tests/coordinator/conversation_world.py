"""A coordinator and devices that talk over a network which loses, repeats and reorders.

Both sides are the real state machines; only the network, the work and the run store are written
here, as plainly as possible: the store survives its coordinator, a device's memory does not survive
its device, and its disk does where it has one.

Work is told in *stretches*, each with a number of its own as its beginning: what is in the store
can be held against what was done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from run_contract import DIGITS as CONTRACT

from fimi.coordinator.conversation import Conversation
from fimi.edge_agent.course import Course, Forget
from fimi.edge_agent.outbox import Unsent
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.documents import Desired, Heard, Reported
from fimi.messaging.messages.every import AnyMessage
from fimi.messaging.messages.facts import (
    PlanApplied,
    Refusal,
    RoundReport,
    RoundSettled,
    UpdateReady,
)
from fimi.messaging.messages.orders import DevicePlan, Invitation, RoundClosed, RoundStart, RunEnded

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
    stretches: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    updates: dict[tuple[int, str], str] = field(default_factory=dict)
    settled: list[tuple[int, str, str]] = field(default_factory=list)
    heard: dict[str, Heard] = field(default_factory=dict)
    done: bool = False
    epoch: int = 0
    ever_closed: set[int] = field(default_factory=set)
    """Rounds that any coordinator has closed; only the tests read it."""
    interrupted: set[int] = field(default_factory=set)
    """Rounds in which a coordinator was asked to stop; only the tests read it."""


def stretches_of(body: Body) -> list[float]:
    return [phase.start_s for phase in getattr(body, "phases", ())]


class Device:
    """One start after another of a device.

    Args:
        name: its id.
        network: to the coordinator.
        durable: whether it has a disk.
    """

    def __init__(self, name: str, network: Network, *, durable: bool = False) -> None:
        self.name, self.network, self.durable = name, network, durable
        self.disk: bytes | None = None
        self.boots = 0
        self.lives = 0
        self.stretch = 0
        self.work: list[tuple[str, str, int, int]] = []
        self.trained: list[tuple[str, int, int]] = []
        """Rounds, with the instance and how often that was interrupted."""
        self.interrupted = 0
        self.broken_off: list[tuple[str, int]] = []
        self.told: set[float] = set()
        """Stretches that it has told, or would tell after a kill."""
        self.forgiven: set[float] = set()
        """Those that nobody wants any more: of another run, or of one that was stopped."""
        self.acknowledged: set[float] = set()
        self.done: tuple[PhaseRecord, ...] = ()
        """What was done of the round that it works in."""
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.boot_id = f"{self.name}-{self.boots}"
        self.left: Unsent | None = None
        if self.durable and self.disk is not None:
            self.left = msgspec.json.decode(self.disk, type=Unsent)
        else:
            self.forgiven |= self.told
        self.course = Course(self.name, self.boot_id, self.left)
        self.step: Any = None
        self.ready, self.done = False, ()
        kept = self.network.kept.get(("device", self.name))
        if kept is not None:
            self.take(kept)

    @property
    def held(self) -> set[float]:
        """Stretches that are to be told and not known to be stored."""
        left = self.course.unsent()
        return set() if left is None else self.within(left)

    @staticmethod
    def within(left: Unsent) -> set[float]:
        bodies = [fact.body for start in left.starts for fact in start.facts]
        bodies += [left.ready.report] if left.ready is not None else []
        return {stretch for body in bodies for stretch in stretches_of(body)}

    def take(self, desired: Desired) -> None:
        course = self.course
        known, before = course.desired, self.held
        if not course.take(over_the_wire(desired)):
            self.publish()
            return
        ended = desired.ended is not None or (known is not None and known.ended is not None)
        other = known is not None and known.instance != desired.instance
        if known is None and self.left is not None:
            before = self.within(self.left)
            other = self.left.instance != desired.instance
        gone = before - self.held
        if ended or other:
            self.forgiven |= gone
            self.interrupted += ended
        else:
            self.acknowledged |= gone
        self.write()
        self.publish()

    def write(self) -> None:
        """As the agent does: before anything is said."""
        left = self.course.unsent()
        self.told |= self.held
        if left is not None:
            self.disk = msgspec.json.encode(left)
        elif (now := self.course.desired) is not None and now.ended is not None:
            self.disk = None if now.ended.reason == "completed" else self.disk

    def phase(self) -> PhaseRecord:
        """Something that was done, unlike anything else."""
        self.stretch += 1
        return PhaseRecord(
            phase="compute",
            start_s=float(self.stretch),
            duration_s=1.0,
            energy=None,
            sample_count=1,
            largest_gap_s=0.0,
        )

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
        step = self.step
        wanted = course.wants(step)
        here: dict[str, Any] = {"run": "r", "device": self.name}
        if isinstance(step, RoundStart) and wanted and not self.ready:
            self.train(step, here | {"round": step.round})
            self.write()
            self.publish()
            return True
        self.step = None
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
                self.ready = False
                if not wanted:
                    self.broken_off.append((self.begun_in, step.round))
                done = (*self.done, self.phase())  # with sending the update
                self.done = ()
                course.finish(step, self.report(here | {"round": step.round}, done, wanted))
            case RoundClosed():
                idle = (self.phase(),)
                course.finish(step, RoundSettled(**here, round=step.round, phases=idle))
        self.write()
        self.publish()
        return True

    def train(self, step: RoundStart, where: dict[str, Any]) -> None:
        """Train, or take up what an earlier start has trained, and offer the update."""
        course, self.ready = self.course, True
        earlier = course.ready_update(step)
        if earlier is not None:
            self.done = earlier.report.phases
        else:
            self.done = (self.phase(),)
            self.work.append((course.instance, self.boot_id, self.lives, step.round))
            self.trained.append((course.instance, self.interrupted, step.round))
        ready = UpdateReady(**where, update=offer(step.round, self.name))
        if self.durable:
            course.update_is_ready(step, self.report(where, self.done, False), ready)
        else:
            course.report(ready)

    def report(
        self, where: dict[str, Any], phases: tuple[PhaseRecord, ...], whole: bool
    ) -> RoundReport:
        return RoundReport(
            **where,
            local_samples=1,
            synthetic_samples=0,
            training_loss=1.0,
            training_accuracy=0.0,
            frequency_hz=None,
            busy_s=1.0,
            phases=phases,
            backend=f"{self.boot_id}, life {self.lives}",
            error="" if whole else "broken off",
        )


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
                    late_rounds=self.number % 2,  # of some rounds a late update is wanted, too
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
        if isinstance(body, UpdateReady):
            self.store.updates.setdefault((body.round, body.device), body.update.digest)
        if isinstance(body, RoundReport | RoundSettled):
            known = self.store.stretches.setdefault((body.round, body.device), [])
            known += [each for each in stretches_of(body) if each not in known]
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

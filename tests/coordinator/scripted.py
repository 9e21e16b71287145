"""Devices that follow a script over a real broker: honest, hostile, late, silent."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import safetensors.numpy

from fimi.energy.cost_model import PHASES
from fimi.energy.emulation.boards import declare_board
from fimi.energy.hardware import Applied, HardwareDescription, Observation
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.energy.meters import MeterDescription
from fimi.learning.training import tensors
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Goodput
from fimi.messaging.messages.documents import Desired, Fact, Reported
from fimi.messaging.messages.facts import (
    DeploymentReport,
    FactBody,
    PlanApplied,
    Profile,
    Refusal,
    RoundReport,
    RoundSettled,
    Trial,
    UpdateReady,
)
from fimi.messaging.messages.orders import (
    DeploymentTest,
    DevicePlan,
    Invitation,
    ModelFile,
    RoundClosed,
    RoundStart,
    RunEnded,
)
from fimi.messaging.topics import COORDINATOR

MODEL = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)}
CLASSES = 3

Behaviour = Callable[["ScriptedDevice", RoundStart], None]


def record(phase: str, joules: float | None = 2.0, duration_s: float = 1.0) -> PhaseRecord:
    assert phase in PHASES
    energy = None
    if joules is not None:
        energy = Energy(value_j=joules, kind="emulated", source="script", uncertainty_j=0.1)
    return PhaseRecord(
        phase=phase,  # type: ignore[arg-type]
        start_s=0.0,
        duration_s=duration_s,
        energy=energy,
        sample_count=3,
        largest_gap_s=0.1,
    )


class ScriptedDevice:
    """A device whose answer to a round is a function."""

    def __init__(
        self,
        address: BrokerAddress,
        fleet: str,
        name: str,
        behaviour: Behaviour,
        *,
        counts: tuple[int, ...] = (30, 20, 10),
        index: int = 0,
        kind: str = "emulated",
    ) -> None:
        self.peer = Peer(address, fleet=fleet, peer=name, role="device", heartbeat_s=1.0)
        self.behaviour = behaviour
        self.counts = counts
        self.kind = kind
        self.fingerprint = ""
        self.refuses = ""
        self.follows = True
        self.online, self.invited = threading.Event(), threading.Event()
        self.followed, self.over = threading.Event(), threading.Event()
        self.shares: list[bytes] = []
        self.desired: Desired | None = None
        self.fleet_times_s: list[float] = []
        self.number = 0
        self.told: list[FactBody] = []
        self.meter = ""
        """What it says of its meter."""
        self.facts: list[Fact] = []
        self.invitations: list[Invitation] = []
        self.tries = True
        self.settles = True
        self.tests: list[DeploymentTest] = []
        self.board = declare_board(
            "raspberry-pi-4",
            seed=0,
            index=index,
            cycles_per_sample=1e6,
            noise_density_w_per_hz=4e-21,
            path_loss_db=(100.0, 101.0),
            downlink_rate_bps=(10e6, 11e6),
        ).model
        self.plans: list[DevicePlan] = []
        self.closed: list[RoundClosed] = []
        self.ended: list[RunEnded] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._live, name=name)

    def __enter__(self) -> ScriptedDevice:
        self.peer.connect()
        self.online.set()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.peer.close()

    @property
    def name(self) -> str:
        return self.peer.id

    @property
    def waits_for_the_end(self) -> bool:
        """Whether it is still there and has not been told that the run is over."""
        return not self.ended and not self.stop.is_set() and self.thread.is_alive()

    def profile(self, invitation: Invitation) -> Profile:
        meter = MeterDescription(source="script", kind="emulated", scope="board", rate_hz=10)
        return Profile(
            run=invitation.run,
            device=self.name,
            boot_id=self.peer.boot_id,
            contract=invitation.contract.digest,
            fingerprint=self.fingerprint or self.name,
            dataset="three",
            label_counts=self.counts,
            hardware=HardwareDescription(
                board="script",
                kind=self.kind,  # type: ignore[arg-type]
                meter=meter,
            ),
            board=self.board,
            backend="script 1",
        )

    def tell(self, *facts: FactBody) -> None:
        """Report facts, in the document that also holds all that the coordinator has not stored."""
        assert self.desired is not None
        for body in facts:
            self.facts.append(Fact(number=len(self.told) + 1, body=body))
            self.told.append(body)
        self.number += 1
        document = Reported(
            run=self.desired.run,
            device=self.name,
            instance=self.desired.instance,
            boot_id=self.peer.boot_id,
            number=self.number,
            epoch=self.desired.epoch,
            heard=self.desired.number,
            stage="idle",
            meter=self.meter,
            facts=tuple(self.facts),
        )
        self.peer.publish_state(COORDINATOR, "reported", document)

    def offer(self, start: RoundStart, data: bytes) -> None:
        """Offer an update and wait until it was pulled, or for two seconds."""
        offer = self.peer.transfers.serve(data, "safetensors")
        self.tell(UpdateReady(run=start.run, device=self.name, round=start.round, update=offer))
        self.peer.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=2.0)

    def report(
        self,
        start: RoundStart,
        *,
        busy_s: float = 1.0,
        error: str = "",
        samples: int | None = None,
        doubts: tuple[str, ...] = (),
    ) -> None:
        self.tell(
            RoundReport(
                run=start.run,
                device=self.name,
                round=start.round,
                local_samples=sum(self.counts) if samples is None else samples,
                synthetic_samples=sum(self.plans[-1].used_counts) if self.plans else 0,
                training_loss=0.5,
                training_accuracy=0.5,
                frequency_hz=1e9,
                busy_s=busy_s,
                phases=(record("model-download", 0.0, 0.0), record("compute"), record("upload")),
                error=error,
                transfers=(Goodput(phase="upload", size_bytes=1000, duration_s=0.5),),
                observed=Observation(throttled={"script": 2}, cap_hz=1e9, doubts=doubts),
            ),
        )

    def _try(self, file: ModelFile) -> Trial:
        assert self.peer.transfers.fetch(file.model, 5.0) == file.variant.encode()
        if file.variant == "int8":
            return Trial(variant="int8", error="GraphError: no")
        return Trial(
            variant="fp32",
            inferences=10,
            images=5,
            accuracy=0.6,
            latency_median_s=0.01,
            latency_p95_s=0.02,
            latency_kind="emulated",
            metered=record("inference", 1.0),
        )

    def _live(self) -> None:
        while not self.stop.is_set():
            received = self.peer.receive(timeout_s=0.02)
            if received is not None and isinstance(received[1], Desired):
                self._obey(received[1])

    def _obey(self, desired: Desired) -> None:
        """Do what is new in a document, in the order in which it makes sense."""
        if self.desired is not None and (desired.epoch, desired.number) <= (
            self.desired.epoch,
            self.desired.number,
        ):
            return
        before, self.desired = self.desired, desired
        if before is not None and before.ended is not None:
            before = None  # nothing of a run that was over has been done
        self.fleet_times_s.append(desired.fleet_time_s)
        if desired.heard.boot_id == self.peer.boot_id:
            self.facts = [fact for fact in self.facts if fact.number > desired.heard.fact]
        for name in ("invitation", "closed", "plan", "test", "resume", "start", "ended"):
            order = getattr(desired, name)
            closed = desired.closed.round if desired.closed is not None else 0
            if name == "start" and order is not None and closed >= order.round:
                continue  # that round is over
            if desired.ended is not None and name in ("invitation", "plan", "test", "start"):
                continue  # of a run that is over: the broker keeps its last document
            if order is not None and (before is None or getattr(before, name) != order):
                self._do(order)
                if self.stop.is_set():
                    return
        self.tell()

    def _do(self, order: object) -> None:
        match order:
            case Invitation() as invitation:
                self.invitations.append(invitation)
                if invitation.share is not None:
                    self.shares.append(self.peer.transfers.fetch(invitation.share, 5.0))
                if self.refuses:
                    self.tell(Refusal(run=invitation.run, device=self.name, reason=self.refuses))
                else:
                    self.tell(self.profile(invitation))
                self.invited.set()
            case DevicePlan() as plan:
                self.plans.append(plan)
                if self.follows:
                    self.follow_now()
            case RoundStart() as start:
                self.behaviour(self, start)
            case RoundClosed() as closed:
                self.closed.append(closed)
                if self.settles:
                    self.settle(closed.run, closed.round)
            case DeploymentTest() as test:
                if not self.tries:
                    return
                self.tests.append(test)
                self.tell(
                    DeploymentReport(
                        run=test.run,
                        device=self.name,
                        round=test.round,
                        trials=tuple(self._try(file) for file in test.files),
                        seconds=3.0,
                    )
                )
            case RunEnded() as ended:
                self.ended.append(ended)
                self.over.set()

    def follow_now(self) -> None:
        """Answer the last plan."""
        plan = self.plans[-1]
        self.tell(
            PlanApplied(
                run=plan.run,
                device=self.name,
                applied=Applied(
                    frequency_hz=plan.point.frequency_hz,
                    frequency_control="emulated",
                    rate_bps=None,
                    rate_control="none",
                ),
                phases=(),
            )
        )
        self.followed.set()

    def settle(self, run: str, number: int) -> None:
        """Report the idle phase of a round."""
        idle = (record("idle", 1.0),)
        self.tell(RoundSettled(run=run, device=self.name, round=number, phases=idle))


def honest(value: float = 1.0, busy_s: float = 1.0, doubts: tuple[str, ...] = ()) -> Behaviour:
    """Sends the global model plus ``value``, and what it doubts about its meter."""

    def behave(device: ScriptedDevice, start: RoundStart) -> None:
        model = tensors.load(device.peer.transfers.fetch(start.model, 5.0))
        device.offer(start, tensors.dump({n: t + np.float32(value) for n, t in model.items()}))
        device.report(start, busy_s=busy_s, doubts=doubts)

    return behave


def sends(data: bytes) -> Behaviour:
    """Sends these bytes as its update."""

    def behave(device: ScriptedDevice, start: RoundStart) -> None:
        device.offer(start, data)
        device.report(start)

    return behave


def tampered(**update: np.ndarray) -> bytes:
    return safetensors.numpy.save({**MODEL, **update})


def boastful(device: ScriptedDevice, start: RoundStart) -> None:
    """Claims more samples than it has, to weigh more in the mean."""
    device.offer(start, tampered(b=np.full(2, 1e6, np.float32)))
    device.report(start, samples=10**12)


def silent(device: ScriptedDevice, start: RoundStart) -> None:
    """Never reports."""


def empty_handed(device: ScriptedDevice, start: RoundStart) -> None:
    """Reports without an update."""
    device.report(start)


def failing(device: ScriptedDevice, start: RoundStart) -> None:
    """Says that it failed."""
    device.report(start, error="RuntimeError: out of memory")

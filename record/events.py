"""Events of a federation.

The coordinator gives every event to one callback; the run store stores it, the live view shows it.
:meth:`Event.logged` is what the log keeps of an event: plans, rounds and exports have tables of
their own.

* :class:`Event`        base of all events
* :data:`Logged`        the events that the log keeps whole; it is read back as these
* :func:`tag`           the name of an event in the log
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from fimi.energy.hardware import Applied
from fimi.energy.joules import Energy
from fimi.messaging.messages.orders import DevicePlan
from fimi.messaging.messages.synthesis import SamplePicture
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import Plan
from fimi.optim.problem import Objective
from fimi.record.interventions import Request
from fimi.record.results import (
    Deployment,
    DeviceRound,
    Preparation,
    RoundResult,
    RunStatus,
)


class Event(Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all events."""

    def logged(self) -> dict[str, Any] | None:
        """What the run store's log keeps of it, with its tag; ``None`` for nothing."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def tag(kind: type[Event]) -> str:
    """The name of an event in the log."""
    return str(kind.__struct_config__.tag)


class DeviceJoined(Event, frozen=True, kw_only=True, tag="device-joined"):
    """A device published its profile."""

    device: str
    board: str
    kind: str
    samples: int
    backend: str


class DeviceLost(Event, frozen=True, kw_only=True, tag="device-lost"):
    """A device went away."""

    device: str
    reason: str


class Gathering(Event, frozen=True, kw_only=True, tag="gathering"):
    """The fleet is not complete yet. Not stored; each device that comes or goes is.

    Attributes:
        here: how many devices have come.
        wanted: how many are waited for.
        missing: devices that have not joined; empty where names are not known.
        left_s: until waiting ends, wall time, s.
    """

    here: int
    wanted: int
    missing: tuple[str, ...]
    left_s: float

    def logged(self) -> None:
        """Nothing."""


class AwaitingGenerator(Event, frozen=True, kw_only=True, tag="awaiting-generator"):
    """Images are asked for and there is no generator node. Not stored.

    Attributes:
        left_s: until waiting ends, wall time, s.
        gone: whether there was one, which went away.
    """

    left_s: float
    gone: bool = False

    def logged(self) -> None:
        """Nothing."""


class BrokerAway(Event, frozen=True, kw_only=True, tag="broker-away"):
    """The connection to the broker is lost, and the run waits. Not stored.

    Attributes:
        seconds: since it was lost, wall time, s.
    """

    seconds: float

    def logged(self) -> None:
        """Nothing."""


class Awaiting(Event, frozen=True, kw_only=True, tag="awaiting"):
    """Somebody is waited for. Not stored.

    Attributes:
        what: for what, for example ``"to follow their plans"``.
        devices: who is waited for.
    """

    what: str
    devices: tuple[str, ...]

    def logged(self) -> None:
        """Nothing."""


class DeviceRefused(Event, frozen=True, kw_only=True, tag="device-refused"):
    """A device does not take part.

    Attributes:
        device: its id.
        reason: why, in one sentence.
    """

    device: str
    reason: str


class Planning(Event, frozen=True, kw_only=True, tag="planning"):
    """The fleet is being planned, which takes long for a target or within budgets. Not stored.

    Attributes:
        devices: number of devices.
        target_accuracy: the accuracy to which joules are to be fewest; 0 for none.
        budgets: whether budgets of joules are to be kept.
    """

    devices: int
    target_accuracy: float
    budgets: bool

    def logged(self) -> None:
        """Nothing."""


class SearchProgress(Event, frozen=True, kw_only=True, tag="search-progress"):
    """Planning has come a step further: an error limit was tried, a search did an iteration.

    Attributes:
        step: how many steps of planning there were, of all plans of this process.
    """

    step: int

    def logged(self) -> None:
        """Nothing: the plan holds the history of its search."""


class Planned(Event, frozen=True, kw_only=True, tag="planned"):
    """The fleet has a plan."""

    plan: Plan
    synthetic_samples: int

    def logged(self) -> dict[str, Any]:
        """All but the plan."""
        return {"event": tag(Planned), "synthetic_samples": self.synthetic_samples}


class PlanChanged(Event, frozen=True, kw_only=True, tag="plan-changed"):
    """The fleet has another plan, whatever for. Not stored: it has a table of its own.

    Attributes:
        plan: the one in force from now on.
        devices: what devices are told of it: with the rates of their links, and the images that
            they hold, of which a plan of given data has none.
    """

    plan: Plan
    devices: Mapping[str, DevicePlan] = {}

    def logged(self) -> None:
        """Nothing."""


class BatchDelivered(Event, frozen=True, kw_only=True, tag="batch-delivered"):
    """The generator node has a device's synthetic batch."""

    device: str
    requested: int
    delivered: int
    seconds: float
    error: str
    refused: int = 0
    energy: Energy | None = None
    drawn: int = 0


class GenerationProgress(Event, frozen=True, kw_only=True, tag="generation-progress"):
    """How far the generator node is with the batches that it was asked for.

    Attributes:
        devices_done: batches that are ready.
        devices_asked: batches that were asked for.
        lacking: images still to be drawn.
        images_per_s: drawn per second of late.
    """

    devices_done: int
    devices_asked: int
    lacking: int
    images_per_s: float


class SamplesDrawn(Event, frozen=True, kw_only=True, tag="samples-drawn"):
    """The generator node shows some of its images. Not stored.

    Attributes:
        pictures: one image of each of some classes.
    """

    pictures: tuple[SamplePicture, ...]

    def logged(self) -> None:
        """Nothing."""


class Prepared(Event, frozen=True, kw_only=True, tag="prepared"):
    """A device has received its synthetic batch, and its phases are known."""

    preparation: Preparation

    def logged(self) -> None:
        """Nothing: the run store has preparations in a table of their own."""


class PlanInForce(Event, frozen=True, kw_only=True, tag="plan-in-force"):
    """A device follows its plan, or reports why it cannot.

    Attributes:
        device: its id.
        notes: what could not be applied.
        error: why it cannot follow the plan, or empty.
        applied: what was set and read back.
    """

    device: str
    notes: tuple[str, ...]
    error: str
    applied: Applied | None = None


class RoundStarted(Event, frozen=True, kw_only=True, tag="round-started"):
    """A round has begun."""

    round: int
    devices: tuple[str, ...]


class DeviceReported(Event, frozen=True, kw_only=True, tag="device-reported"):
    """A device has finished its part of a round."""

    round: int
    device: str
    error: str


class MeterDoubted(Event, frozen=True, kw_only=True, tag="meter-doubted"):
    """A device reports doubts about its meter: it is silent, frozen, at zero, or implausible.

    Attributes:
        round: in whose report; 0 for what is told at once, which is that it shows nothing, or that
            it reads again.
        device: its id.
        doubts: a sentence each.
    """

    round: int
    device: str
    doubts: tuple[str, ...]


class SenderSetAside(Event, frozen=True, kw_only=True, tag="sender-set-aside"):
    """Most of what comes under a name cannot be used: it is set aside for a while.

    Attributes:
        sender: the name.
        offences: messages that could not be used so far.
        seconds: for how long it is set aside, s.
        words: what is wrong, what follows from it, and what to do.
    """

    sender: str
    offences: int
    seconds: float
    words: str


class UpdateRejected(Event, frozen=True, kw_only=True, tag="update-rejected"):
    """An update does not go into the model."""

    round: int
    device: str
    reason: str


class UpdateClipped(Event, frozen=True, kw_only=True, tag="update-clipped"):
    """An update goes into the model with a smaller change than it was sent with.

    Attributes:
        round: the round.
        device: its id.
        norm: L2 norm of the change as it was sent.
        limit: the norm that it was clipped to.
        reason: what that limit follows from, in one sentence.
    """

    round: int
    device: str
    norm: float
    limit: float
    reason: str


class DeviceSetAside(Event, frozen=True, kw_only=True, tag="device-set-aside"):
    """A device trains no more in this run: its updates were refused again and again.

    Attributes:
        round: after which.
        device: its id.
        reason: why, in one sentence.
    """

    round: int
    device: str
    reason: str


class ModelKept(Event, frozen=True, kw_only=True, tag="model-kept"):
    """A round gave no usable model: the one before it stays.

    Attributes:
        round: the round.
        reason: why, in one sentence.
    """

    round: int
    reason: str


class RoundFinished(Event, frozen=True, kw_only=True, tag="round-finished"):
    """A round is over and accounted for."""

    result: RoundResult

    def logged(self) -> dict[str, Any]:
        """The number of the round."""
        return {"event": tag(RoundFinished), "round": self.result.number}


class Credited(Event, frozen=True, kw_only=True, tag="credited"):
    """What a device reported after a round was closed is in that round now.

    Attributes:
        round: which.
        device: its id.
        entry: the device in that round, as it is stored now.
    """

    round: int
    device: str
    entry: DeviceRound | None = None

    def logged(self) -> dict[str, Any]:
        """Round and device: the entry is in a table of its own."""
        return {"event": tag(Credited), "round": self.round, "device": self.device}


class LateAdded(Event, frozen=True, kw_only=True, tag="late-added"):
    """An update that was late for its round is in the mean of a later one.

    Attributes:
        round: in whose mean it is.
        device: whose.
        of_round: for which round it was trained.
        weight: by which its samples count less.
    """

    round: int
    device: str
    of_round: int
    weight: float


class Resumed(Event, frozen=True, kw_only=True, tag="resumed"):
    """A process goes on with a run that another one has begun.

    Attributes:
        after_round: the last round that was stored; 0 for none.
        changes: in what it goes on otherwise than it was begun, a sentence each.
    """

    after_round: int
    changes: tuple[str, ...] = ()


class Refitted(Event, frozen=True, kw_only=True, tag="refitted"):
    """Predictions had drifted, or budgets would not last: the fleet was planned again.

    Attributes:
        round: after which.
        drift_percent: of each device that was beyond the limit.
        energy_j: predicted energy of a round under the new plan, J; ``None`` if the old one stays
            in force.
        reason: why it does, or empty.
        objective: which energy that is: the one that the plan makes least.
        short: devices whose budgets would not have lasted; "the fleet" for that of the fleet.
        fitted: whether the boards were fitted again; not where drifts say nothing of them.
    """

    round: int
    drift_percent: dict[str, float]
    energy_j: float | None
    reason: str
    objective: Objective = "dynamic"
    short: tuple[str, ...] = ()
    fitted: bool = True


class LearningRefitted(Event, frozen=True, kw_only=True, tag="learning-refitted"):
    """Planned errors did not fit the measured ones: the learning curve was fitted to the run.

    Attributes:
        round: after which.
        before: Δ of the plan until then, 0 to 1.
        measured: to which error the devices' training falls.
        planned: Δ of the plan from now on, by the fitted curve.
        curve: the fitted curve.
        images: further images that devices got.
        reason: why they got none, or why the plan stays; empty if neither.
    """

    round: int
    before: float
    measured: float
    planned: float
    curve: LearningCurve
    images: int
    reason: str = ""


class SyntheticUse(Event, frozen=True, kw_only=True, tag="synthetic-use"):
    """Rounds train on another share of the synthetic images from now on.

    Attributes:
        round: after which.
        share: of each device's synthetic images, 0 to 1.
        fades: because the target accuracy is reached, or is not held any more; else by the
            schedule.
    """

    round: int
    share: float
    fades: bool


class InterventionAsked(Event, frozen=True, kw_only=True, tag="intervention-asked"):
    """Somebody asks something of the run; it is served between two rounds.

    Attributes:
        number: of the request in this process.
        request: for what.
        by: who asks, in words.
        asked_at: UNIX time, s.
    """

    number: int
    request: Request
    by: str
    asked_at: float


class Intervened(Event, frozen=True, kw_only=True, tag="intervened"):
    """A request was served: done, or refused, which changes nothing.

    Attributes:
        round: after which.
        number: of the request in this process.
        request: for what.
        by: who asked, in words.
        asked_at: UNIX time, s.
        done: whether it was done.
        words: what became of it; of what was refused, the reason.
        paused_s: of a pause that has ended with it, wall time, s; else ``None``.
        planned: whether the fleet has another plan since then.
    """

    round: int
    number: int
    request: Request
    by: str
    asked_at: float
    done: bool
    words: str
    paused_s: float | None = None
    planned: bool = False


class Paused(Event, frozen=True, kw_only=True, tag="paused"):
    """The run pauses between two rounds, as somebody has asked. Not stored; its beginning is.

    Attributes:
        run: its name.
        round: after which.
        by: who has asked for it, in words.
        seconds: for how long now, wall time, s.
    """

    run: str
    round: int
    by: str
    seconds: float

    def logged(self) -> None:
        """Nothing."""


class StillInForce(Event, frozen=True, kw_only=True, tag="still-in-force"):
    """What people had changed in a run holds as it goes on. Not stored; the changes are.

    Attributes:
        excluded: devices that rest.
        deadline_s: that was set, s; ``None``: as configured.
        paused: whether the run pauses.
    """

    excluded: tuple[str, ...]
    deadline_s: float | None
    paused: bool

    def logged(self) -> None:
        """Nothing."""


class Deployed(Event, frozen=True, kw_only=True, tag="deployed"):
    """The global model was exported, and tried where that was asked for."""

    deployment: Deployment

    def logged(self) -> dict[str, Any]:
        """The number of the round."""
        return {"event": tag(Deployed), "round": self.deployment.round}


class NotDeployed(Event, frozen=True, kw_only=True, tag="not-deployed"):
    """The global model could not be exported; the run goes on."""

    round: int
    reason: str


class RunFinished(Event, frozen=True, kw_only=True, tag="run-finished"):
    """The run is over."""

    status: RunStatus
    reason: str


Logged = (
    DeviceJoined | DeviceLost | DeviceRefused | BatchDelivered | GenerationProgress | PlanInForce
    | RoundStarted | DeviceReported | MeterDoubted | SenderSetAside
    | UpdateRejected | UpdateClipped | DeviceSetAside | ModelKept
    | Credited | LateAdded | Resumed | Refitted | LearningRefitted
    | SyntheticUse | InterventionAsked | Intervened | NotDeployed | RunFinished
)  # fmt: skip
"""Events that the log keeps whole; the tag names the type."""

Listener = Callable[[Event], None]
"""Is called with every event."""

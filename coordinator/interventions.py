"""Serves, between two rounds, what people ask of a run that goes on.

A pause, going on, a stop, devices that are excluded or taken in again, another plan, another
deadline. Each is done whole or refused whole: what it changes, the checkpoint and the event are one
transaction. A pause lasts until somebody asks to go on, also over a coordinator that is killed and
started again; devices idle meanwhile as they do between any two rounds.

* :class:`Interventions`   serves the requests of a :class:`~fimi.coordinator.controls.Controls`
* :class:`StoppedAsAsked`  ends a run that somebody has asked to stop
"""

from __future__ import annotations

import math
import time

from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator import checkpoint
from fimi.coordinator.checkpoint import ControlPart
from fimi.coordinator.context import Context
from fimi.coordinator.controls import Controls, unknown_device
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.inbox import Cancelled
from fimi.coordinator.patience import Reminder
from fimi.coordinator.replanning import NoProposalError, Proposal, Replanning
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.energy.joules import format_joules
from fimi.optim.plans import Plan
from fimi.record.events import Intervened, InterventionAsked, Paused, StillInForce
from fimi.record.interventions import (
    ControlState,
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    Pausing,
    PendingRequest,
    PlanAgain,
    RefusalKind,
    SetDeadline,
    StopRun,
)

_TOLD_S = 1.0
"""Between two events that say that the run pauses, wall time, s."""
_BY_ITSELF = "the coordinator, as nobody can reach it"


class StoppedAsAsked(Cancelled):
    """The run ends because somebody has asked for it; the text says who."""


class _Refused(Exception):  # noqa: N818
    """A request cannot be met; the text says why."""

    def __init__(self, reason: str, kind: RefusalKind = "unfit") -> None:
        super().__init__(reason)
        self.kind: RefusalKind = kind


class _Effect(Struct, frozen=True, kw_only=True):
    """What a request comes to.

    Attributes:
        words: in a sentence.
        part: what people have changed from then on.
        proposal: a plan to be put into force; ``None``: the plan stays.
        paused_s: of a pause that ends with it, s.
    """

    words: str
    part: ControlPart
    proposal: Proposal | None = None
    paused_s: float | None = None


class Interventions:
    """Serves requests between the rounds of a run.

    Args:
        context: the context of the run.
        planner: plans the fleet.
        controls: where requests come from; ``None``: nobody can reach this coordinator.
        part: what people had changed in a run that goes on.
        after_round: the last round that is stored.
    """

    def __init__(
        self,
        context: Context,
        planner: FleetPlanner,
        controls: Controls | None,
        part: ControlPart,
        after_round: int = 0,
    ) -> None:
        self._context = context
        self._planner = planner
        self._is_reachable = controls is not None
        self._controls = controls or Controls()
        self._part = part
        self._number = after_round
        self._wait_began_s: float | None = None  # of a pause, in this process
        self._plans: DevicePlans | None = None
        self._rounds: TrainingRounds | None = None
        self._replanning: Replanning | None = None
        self._take_effect(part)
        self.expect(after_round)
        context.inbox.meanwhile = self.tell

    def begin(
        self, plans: DevicePlans, rounds: TrainingRounds, replanning: Replanning | None
    ) -> None:
        """The run has come so far that requests can be served.

        Args:
            plans: of the devices.
            rounds: the rounds so far.
            replanning: makes other plans; ``None`` where devices do not train.
        """
        self._plans, self._rounds, self._replanning = plans, rounds, replanning
        part = self._part
        if part != ControlPart():
            self._context.notify(
                StillInForce(
                    excluded=tuple(sorted(part.excluded)),
                    deadline_s=part.deadline_s,
                    paused=part.paused is not None,
                )
            )

    def expect(self, number: int) -> None:
        """Round ``number`` begins: requests that come now are served after it."""
        self._number = number
        devices = self._plans.members.keys() if self._plans is not None else frozenset()
        self._controls.know(self._state, set(devices), number, self._context.settings.rounds.count)

    def between(self, number: int, plan: Plan | None) -> Plan | None:
        """Serve what was asked, and wait as long as the run is to pause.

        Args:
            number: of the round that has ended; 0 before the first.
            plan: the plan in force.

        Returns:
            The plan in force from now on.

        Raises:
            StoppedAsAsked: somebody has asked to stop.
            Cancelled: the run was asked to stop in another way.
        """
        self.expect(number)
        if self._part.paused is not None and not self._is_reachable:
            at = time.time()
            asked = PendingRequest(number=0, request=GoOn(), by=_BY_ITSELF, at=at)
            plan = self._serve(asked, plan)
        while True:
            self.tell()
            while (asked_next := self._controls.next()) is not None:
                with self._context.watch.stage("adapt"):
                    plan = self._serve(asked_next, plan)
            if self._part.paused is None:
                return plan
            with self._context.watch.stage("paused"):
                self._wait(self._part.paused)

    def tell(self) -> None:
        """Store, and say, what was asked since the last time."""
        for asked in self._controls.untold():
            self._context.notify(
                InterventionAsked(
                    number=asked.number, request=asked.request, by=asked.by, asked_at=asked.at
                )
            )

    def close(self, reason: str) -> None:
        """The run is over: nothing is served any more, and what still waits is refused.

        Args:
            reason: how the run has ended.
        """
        over = f"the run is over: {reason}"
        self._controls.close(over)
        self._context.inbox.meanwhile = lambda: None
        self.tell()
        while (asked := self._controls.next()) is not None:
            self._refuse(asked, over, "over")

    @property
    def _state(self) -> ControlState:
        part = self._part
        return ControlState(
            paused=part.paused, excluded=dict(part.excluded), deadline_s=part.deadline_s
        )

    def _wait(self, pausing: Pausing) -> None:
        """Wait until something is asked."""
        began_s = time.monotonic()
        if self._wait_began_s is None:
            self._wait_began_s = began_s
        reminder = Reminder(_TOLD_S)

        def asked() -> bool:
            if reminder.due():
                seconds = max(0.0, time.time() - pausing.at)
                self._context.notify(
                    Paused(round=pausing.after_round, by=pausing.by, seconds=seconds)
                )
            return self._controls.next() is not None

        self._context.inbox.wait(asked, math.inf)

    def _serve(self, asked: PendingRequest, plan: Plan | None) -> Plan | None:
        """Do what was asked, or say why not; returns the plan in force."""
        if isinstance(asked.request, StopRun):
            self._settle(asked, _Effect(words=f"stops after {self._done}", part=self._part))
            raise StoppedAsAsked(f"as {asked.by} has asked")
        try:
            effect = self._effect(asked, plan)
        except _Refused as reason:
            self._refuse(asked, str(reason), reason.kind)
            return plan
        self._settle(asked, effect)
        return plan if effect.proposal is None else effect.proposal.plan

    def _settle(self, asked: PendingRequest, effect: _Effect) -> None:
        """Store what a request comes to, all of it in one transaction; then it is so."""
        store, proposal = self._context.store, effect.proposal
        before, self._part = self._part, effect.part
        self._take_effect(effect.part)  # plans leave out who is excluded
        try:
            with store.together():
                if proposal is not None and self._replanning is not None:
                    self._replanning.put(self._number, proposal)
                store.write_checkpoint(checkpoint.of_controls(effect.part))
                self._notify(asked, effect)
        except BaseException:
            self._part = before
            self._take_effect(before)
            raise
        self.expect(self._number)
        self._controls.served(asked, after_round=self._number, said=f"done: {effect.words}")

    def _refuse(self, asked: PendingRequest, reason: str, kind: RefusalKind) -> None:
        self._context.notify(
            Intervened(
                round=self._number,
                number=asked.number,
                request=asked.request,
                by=asked.by,
                asked_at=asked.at,
                done=False,
                words=reason,
            )
        )
        self._controls.served(asked, after_round=self._number, said=reason, refusal=kind)

    def _notify(self, asked: PendingRequest, effect: _Effect) -> None:
        self._context.notify(
            Intervened(
                round=self._number,
                number=asked.number,
                request=asked.request,
                by=asked.by,
                asked_at=asked.at,
                done=True,
                words=effect.words,
                paused_s=effect.paused_s,
                planned=effect.proposal is not None,
            )
        )

    def _take_effect(self, part: ControlPart) -> None:
        """What others read of it."""
        in_force = self._context.in_force
        in_force.excluded = dict(part.excluded)
        if part.deadline_s != in_force.deadline_s:
            in_force.deadline_s = part.deadline_s
            self._planner.plan_within(self._context.deadline_s)

    def _effect(self, asked: PendingRequest, plan: Plan | None) -> _Effect:
        """What a request comes to; nothing is changed yet.

        Raises:
            _Refused: it cannot be met.
        """
        part, request = self._part, asked.request
        match request:
            case PauseRun():
                return self._pause(asked)
            case GoOn():
                return self._go_on()
            case ExcludeDevice():
                return self._exclude(request.device, asked.by)
            case IncludeDevice():
                return self._include(request.device, plan)
            case PlanAgain():
                proposal = self._propose(plan)
                return _Effect(words=_plan_words(proposal.plan), part=part, proposal=proposal)
            case SetDeadline():
                return self._within(request.deadline_s, plan)
        raise AssertionError(request)

    def _pause(self, asked: PendingRequest) -> _Effect:
        if (paused := self._part.paused) is not None:
            raise _Refused(f"the run pauses already, since {paused.by} has asked for it")
        pausing = Pausing(after_round=self._number, by=asked.by, at=time.time())
        return _Effect(words=f"pauses after {self._done}", part=replace(self._part, paused=pausing))

    def _go_on(self) -> _Effect:
        if (paused := self._part.paused) is None:
            raise _Refused("the run does not pause")
        seconds = max(0.0, time.time() - paused.at)
        if self._wait_began_s is not None and self._rounds is not None:
            self._rounds.paused_s += time.monotonic() - self._wait_began_s
        self._wait_began_s = None
        return _Effect(
            words=f"goes on with round {self._number + 1} after a pause of {seconds:.0f} s",
            part=replace(self._part, paused=None),
            paused_s=seconds,
        )

    def _exclude(self, device: str, by: str) -> _Effect:
        plans, rounds = self._trained_by_devices()
        if reason := unknown_device(device, plans.members.keys()):
            raise _Refused(reason)
        if device in self._part.excluded:
            raise _Refused(f"{device} is excluded already")
        left, least = rounds.there - {device}, self._context.settings.rounds.min_devices
        if len(left) < least:
            raise _Refused(
                f"without {device} {len(left)} devices would be left for a round, "
                f"rounds.min_devices asks for {least}"
            )
        return _Effect(
            words=f"{device} rests from round {self._number + 1} on",
            part=replace(self._part, excluded={**self._part.excluded, device: by}),
        )

    def _include(self, device: str, plan: Plan | None) -> _Effect:
        self._trained_by_devices()
        if device not in self._part.excluded:
            raise _Refused(f"{device} is not excluded")
        excluded = {d: by for d, by in self._part.excluded.items() if d != device}
        part, proposal = replace(self._part, excluded=excluded), None
        words = f"{device} takes part from round {self._number + 1} on"
        if plan is not None and all(share.device != device for share in plan.devices):
            proposal = self._propose(plan, part)  # it was planned without this device
            words = f"{words}; {_plan_words(proposal.plan)}"
        return _Effect(words=words, part=part, proposal=proposal)

    def _within(self, deadline_s: float, plan: Plan | None) -> _Effect:
        before_s, part = self._context.deadline_s, replace(self._part, deadline_s=deadline_s)
        proposal = self._propose(plan, part)
        words = f"the deadline is {deadline_s:g} s instead of {before_s:g} s"
        return _Effect(words=f"{words}; {_plan_words(proposal.plan)}", part=part, proposal=proposal)

    def _propose(self, plan: Plan | None, part: ControlPart | None = None) -> Proposal:
        """A plan of the fleet as it would be with ``part``.

        Raises:
            _Refused: there is none; says what would help.
        """
        replanning = self._replanning
        if replanning is None:
            raise _Refused("devices do not train under this strategy: there is nothing to plan")
        self._take_effect(part or self._part)
        try:
            return replanning.propose(plan, refit=True)
        except NoProposalError as error:
            raise _Refused(str(error), "no-plan") from error
        finally:
            self._take_effect(self._part)

    def _trained_by_devices(self) -> tuple[DevicePlans, TrainingRounds]:
        """The plans and the rounds, where devices train."""
        if self._plans is None or self._rounds is None or self._replanning is None:
            raise _Refused("devices do not train under this strategy")
        return self._plans, self._rounds

    @property
    def _done(self) -> str:
        return f"round {self._number}" if self._number else "no round"


def _plan_words(plan: Plan) -> str:
    """A new plan in a few words, its joules with their kind."""
    return (
        f"new plan of {len(plan.devices)} devices: {format_joules(plan.energy_j)} "
        f"{plan.objective} energy a round (modelled), rounds of {plan.round_s:.3g} s"
    )

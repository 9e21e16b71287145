"""What a request to a run that goes on comes to: worked out first, changed afterwards.

* :class:`Consequence`   what people have changed from then on, and a plan, if it needs one
* :class:`Consequences`  works that out
* :class:`Unmet`         why a request cannot be met
"""

from __future__ import annotations

import time

from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator.checkpoint import ControlPart
from fimi.coordinator.context import Context
from fimi.coordinator.controls import unknown_device
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.replanning import NoProposalError, Proposal, Replanning
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.energy.joules import format_modelled
from fimi.optim.plans import Plan
from fimi.record.interventions import (
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
    after_round,
)


class Unmet(Exception):  # noqa: N818 - no error: nothing is wrong with the run
    """A request cannot be met; the text says why."""

    def __init__(self, reason: str, kind: RefusalKind = "unfit") -> None:
        super().__init__(reason)
        self.kind: RefusalKind = kind


class Consequence(Struct, frozen=True, kw_only=True):
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


class Consequences:
    """Works out what requests come to.

    Args:
        context: the context of the run.
        planner: plans the fleet.
    """

    def __init__(self, context: Context, planner: FleetPlanner) -> None:
        self._context = context
        self._planner = planner
        self._plans: DevicePlans | None = None
        self._rounds: TrainingRounds | None = None
        self._replanning: Replanning | None = None

    def begin(
        self, plans: DevicePlans, rounds: TrainingRounds, replanning: Replanning | None
    ) -> None:
        """The run has come so far.

        Args:
            plans: of the devices.
            rounds: the rounds so far.
            replanning: makes other plans; ``None`` where devices do not train.
        """
        self._plans, self._rounds, self._replanning = plans, rounds, replanning

    def take(self, part: ControlPart) -> None:
        """Let everybody who reads it have what people have changed."""
        in_force = self._context.in_force
        in_force.excluded = dict(part.excluded)
        if part.deadline_s != in_force.deadline_s:
            in_force.deadline_s = part.deadline_s
            self._planner.plan_within(self._context.deadline_s)

    def of(
        self, asked: PendingRequest, part: ControlPart, number: int, plan: Plan | None
    ) -> Consequence:
        """What a request comes to; nothing is changed yet.

        Args:
            asked: the request.
            part: what people have changed so far.
            number: of the round that has ended.
            plan: the plan in force.

        Raises:
            Unmet: it cannot be met.
        """
        request = asked.request
        match request:
            case PauseRun():
                return self._pause(asked, part, number)
            case GoOn():
                return self._go_on(part, number)
            case StopRun():
                return Consequence(words=f"stops {after_round(number)}", part=part)
            case ExcludeDevice():
                return self._exclude(request.device, asked.by, part, number)
            case IncludeDevice():
                return self._include(request.device, part, number, plan)
            case PlanAgain():
                proposal = self._propose(plan, part, part)
                return Consequence(words=_plan_words(proposal.plan), part=part, proposal=proposal)
            case SetDeadline():
                return self._within(request.deadline_s, part, plan)
        raise AssertionError(request)

    def _pause(self, asked: PendingRequest, part: ControlPart, number: int) -> Consequence:
        if (paused := part.paused) is not None:
            raise Unmet(f"the run pauses already, since {paused.by} has asked for it")
        pausing = Pausing(after_round=number, by=asked.by, at=time.time())
        return Consequence(
            words=f"pauses {after_round(number)}", part=replace(part, paused=pausing)
        )

    def _go_on(self, part: ControlPart, number: int) -> Consequence:
        if (paused := part.paused) is None:
            raise Unmet("the run does not pause")
        seconds = max(0.0, time.time() - paused.at)
        return Consequence(
            words=f"goes on with round {number + 1} after a pause of {seconds:.0f} s",
            part=replace(part, paused=None),
            paused_s=seconds,
        )

    def _exclude(self, device: str, by: str, part: ControlPart, number: int) -> Consequence:
        plans, rounds = self._trained_by_devices()
        if reason := unknown_device(device, plans.members.keys()):
            raise Unmet(reason)
        if device in part.excluded:
            raise Unmet(f"{device} is excluded already")
        left, least = rounds.there - {device}, self._context.settings.rounds.min_devices
        if len(left) < least:
            devices = "device" if len(left) == 1 else "devices"
            raise Unmet(
                f"without {device} {len(left)} {devices} would be left for a round, "
                f"rounds.min_devices asks for {least}"
            )
        return Consequence(
            words=f"{device} rests from round {number + 1} on",
            part=replace(part, excluded={**part.excluded, device: by}),
        )

    def _include(
        self, device: str, part: ControlPart, number: int, plan: Plan | None
    ) -> Consequence:
        _, rounds = self._trained_by_devices()
        if device not in part.excluded:
            aside = device in rounds.aside
            why = ", but set aside: its updates were refused again and again" if aside else ""
            raise Unmet(f"{device} is not excluded{why}")
        excluded = {d: by for d, by in part.excluded.items() if d != device}
        then, proposal = replace(part, excluded=excluded), None
        words = f"{device} takes part from round {number + 1} on"
        if plan is not None and all(share.device != device for share in plan.devices):
            proposal = self._propose(plan, then, part)  # it was planned without this device
            words = f"{words}; {_plan_words(proposal.plan)}"
        return Consequence(words=words, part=then, proposal=proposal)

    def _within(self, deadline_s: float, part: ControlPart, plan: Plan | None) -> Consequence:
        before_s, then = self._context.deadline_s, replace(part, deadline_s=deadline_s)
        proposal = self._propose(plan, then, part)
        words = f"the deadline is {deadline_s:g} s instead of {before_s:g} s"
        return Consequence(
            words=f"{words}; {_plan_words(proposal.plan)}", part=then, proposal=proposal
        )

    def _propose(self, plan: Plan | None, then: ControlPart, now: ControlPart) -> Proposal:
        """A plan of the fleet as it would be with ``then``; ``now`` stays in force.

        Raises:
            Unmet: there is none; says what would help.
        """
        replanning = self._replanning
        if replanning is None:
            raise Unmet("devices do not train under this strategy: there is nothing to plan")
        self.take(then)
        try:
            return replanning.propose(plan, refit=True)
        except NoProposalError as error:
            raise Unmet(str(error), "no-plan") from error
        finally:
            self.take(now)

    def _trained_by_devices(self) -> tuple[DevicePlans, TrainingRounds]:
        """The plans and the rounds, where devices train."""
        if self._plans is None or self._rounds is None or self._replanning is None:
            raise Unmet("devices do not train under this strategy")
        return self._plans, self._rounds


def _plan_words(plan: Plan) -> str:
    """A new plan in a few words, its joules with their kind."""
    return (
        f"new plan of {len(plan.devices)} devices: {format_modelled(plan.energy_j)} "
        f"of {plan.objective} energy a round, rounds of {plan.round_s:.3g} s"
    )

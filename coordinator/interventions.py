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

from fimi.coordinator import checkpoint
from fimi.coordinator.checkpoint import ControlPart
from fimi.coordinator.consequences import Consequence, Consequences, Unmet
from fimi.coordinator.context import Context
from fimi.coordinator.controls import Controls
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.inbox import Cancelled
from fimi.coordinator.patience import Reminder
from fimi.coordinator.replanning import Replanning
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.optim.plans import Plan
from fimi.record.events import Intervened, InterventionAsked, Paused, StillInForce
from fimi.record.interventions import (
    ControlState,
    GoOn,
    Pausing,
    PendingRequest,
    RefusalKind,
    StopRun,
)

_TOLD_S = 1.0
"""Between two events that say that the run pauses, wall time, s."""
_BY_ITSELF = "the coordinator, as nobody can reach it"


class StoppedAsAsked(Cancelled):
    """The run ends because somebody has asked for it; the text says who."""


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
        self._consequences = Consequences(context, planner)
        self._is_reachable = controls is not None
        self._controls = controls or Controls()
        self._part = part
        self._number = after_round
        self._wait_began_s: float | None = None  # of a pause, in this process
        self._plans: DevicePlans | None = None
        self._rounds: TrainingRounds | None = None
        self._replanning: Replanning | None = None
        self._consequences.take(part)
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
        self._consequences.begin(plans, rounds, replanning)
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
                    Paused(
                        run=self._context.run,
                        round=pausing.after_round,
                        by=pausing.by,
                        seconds=seconds,
                    )
                )
            return self._controls.next() is not None

        self._context.inbox.wait(asked, math.inf)

    def _serve(self, asked: PendingRequest, plan: Plan | None) -> Plan | None:
        """Do what was asked, or say why not; returns the plan in force."""
        try:
            effect = self._consequences.of(asked, self._part, self._number, plan)
        except Unmet as reason:
            self._refuse(asked, str(reason), reason.kind)
            return plan
        self._settle(asked, effect)
        if isinstance(asked.request, StopRun):
            raise StoppedAsAsked(f"as {asked.by} has asked")
        if isinstance(asked.request, GoOn):
            self._count_pause()
        return plan if effect.proposal is None else effect.proposal.plan

    def _count_pause(self) -> None:
        """A pause is over: real boards have idled in it, as far as this process waited."""
        if self._wait_began_s is not None and self._rounds is not None:
            self._rounds.paused_s += time.monotonic() - self._wait_began_s
        self._wait_began_s = None

    def _settle(self, asked: PendingRequest, effect: Consequence) -> None:
        """Store what a request comes to, all of it in one transaction; then it is so."""
        store, proposal = self._context.store, effect.proposal
        before, self._part = self._part, effect.part
        self._consequences.take(effect.part)  # plans leave out who is excluded
        try:
            with store.together():
                if proposal is not None and self._replanning is not None:
                    self._replanning.put(self._number, proposal)
                store.write_checkpoint(checkpoint.of_controls(effect.part))
                self._notify(asked, effect)
        except BaseException:
            self._part = before
            self._consequences.take(before)
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

    def _notify(self, asked: PendingRequest, effect: Consequence) -> None:
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

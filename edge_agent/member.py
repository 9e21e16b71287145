"""A device in one run: it follows its plan, works in rounds, and meters every phase.

* :meth:`Member.follow`   fetches the synthetic batch and sets the operating point
* :meth:`Member.work`     one round: download, train, offer, report
* :meth:`Member.settle`   the idle phase of a round that was closed
* :meth:`Member.try_out`  the trial of the trained model
* :meth:`Member.go_on`    rounds continue after a trial

Each is a step of :mod:`fimi.edge_agent.course` and gives back its facts. What is broken off gives
back the phases so far: their joules were drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from fimi.edge_agent.data import MixedData
from fimi.edge_agent.failures import BrokenOff, words
from fimi.edge_agent.metering import Metering
from fimi.edge_agent.plan_batches import PlanBatches
from fimi.edge_agent.round_training import RoundTraining
from fimi.edge_agent.round_work import RoundWork
from fimi.edge_agent.tools import Tools
from fimi.edge_agent.trials import try_out
from fimi.energy.hardware import Hardware, Observation
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.learning.data.dataset import Dataset
from fimi.learning.training.trainer import TrainingCancelled
from fimi.messaging.errors import TransferCancelled
from fimi.messaging.messages.basis import Goodput, Offer
from fimi.messaging.messages.facts import (
    DeploymentReport,
    PlanApplied,
    RoundReport,
    RoundSettled,
    UpdateReady,
)
from fimi.messaging.messages.orders import (
    DeploymentClosed,
    DeploymentTest,
    DevicePlan,
    Invitation,
    RoundClosed,
    RoundStart,
)

log = logging.getLogger(__name__)

Metered = TypeVar("Metered", PlanApplied, RoundReport, RoundSettled)


class Member:
    """A device in one run.

    Args:
        tools: what it works with.
        invitation: to the run.
        hardware: its board.
        data: its samples.

    Attributes:
        rounds: how many rounds it finished.
    """

    def __init__(
        self, tools: Tools, invitation: Invitation, hardware: Hardware, data: Dataset
    ) -> None:
        self._tools = tools
        self._line, self._exchange = tools.line, tools.exchange
        self._invitation = invitation
        self._hardware = hardware
        self.data = MixedData(data)
        """Its own samples, and the synthetic ones."""
        self._metering = Metering(invitation.device, hardware, keeps=invitation.readings)
        self._batches = PlanBatches(tools, self._metering, self.data, invitation.contract.digest)
        self._training = RoundTraining(tools, self._metering, self.data)
        self._plan: DevicePlan | None = None
        self._owed: tuple[PhaseRecord, ...] = ()  # of plans, to be reported with what comes next
        self._unsettled: int | None = None  # the round it has worked in, until that is settled
        self.rounds = 0

    @property
    def hardware(self) -> Hardware:
        """Its board."""
        return self._hardware

    @property
    def ledger(self) -> Ledger:
        """Where its phases are metered."""
        return self._metering.ledger

    @property
    def backend(self) -> str:
        """The trainers that are installed."""
        return self._training.backend

    def follow(self, plan: DevicePlan) -> PlanApplied:
        """Follow a plan: fetch the batch, set the operating point, read it back.

        Raises:
            BrokenOff: another plan is wanted, or none.
        """
        metering, rests = self._metering, False
        metering.close()
        anew = not self._batches.are_of(plan)
        if anew:
            metering.drop()
            began_s = self._fleet_time_s(plan)
            if rests := not began_s:  # no round has begun
                metering.rest("before", self._line.unwanted(plan))
            self._hardware.join_fleet(began_s)
            self._batches.clear()
        idle = metering.take(0)  # of rounds to come: it is reported with the next one
        self._plan = None
        own: tuple[PhaseRecord, ...] = ()  # of receiving the first batch
        moved: tuple[Goodput, ...] = ()
        applied, error = None, ""
        try:
            if anew:
                try:
                    self._batches.fetch_first(plan)
                finally:
                    spent, moved = (*self._owed, *metering.take(0)), self._exchange.take()
                    own = tuple(record for record in spent if record.phase != "idle")
                    self._owed = tuple(record for record in spent if record.phase == "idle")
            self._batches.fetch_top_ups(plan)
            self.data.use = plan.synthetic_use
            applied = self._hardware.apply(plan.point)
            self._training.cores = applied.setting.cores if applied.setting is not None else None
            metering.ledger.regime = applied.point or f"{plan.point.frequency_hz / 1e6:.6g} MHz"
            self._plan = plan
        except TransferCancelled:
            self._owed = (*self._owed, *own, *metering.take(0), *idle)
            self._exchange.take()
            raise BrokenOff from None
        except Exception as problem:
            error = self._words(problem, "cannot follow its plan")
        reply = PlanApplied(
            run=plan.run,
            device=plan.device,
            applied=applied,
            phases=own,
            error=error,
            transfers=moved,
            evidence=metering.evidence() if rests else None,
            top_ups=self._batches.top_ups,
            readings=metering.readings() if anew else (),  # else they go with the next report
        )
        # what a device receives within the rounds is reported with the next one
        self._owed = (*self._owed, *metering.take(0), *idle)
        self._idle()
        return self._with_faults(reply)

    def work(self, start: RoundStart) -> RoundReport:
        """One round: download, train, offer, report."""
        line, hardware, metering, plan = self._line, self._hardware, self._metering, self._plan
        assert plan is not None
        line.show("fetching")
        began_s = hardware.has_waited_until(start.fleet_time_s)
        metering.close()
        hardware.begin_round(start.round)
        done, update = RoundWork(), None
        if (ready := line.ready_update(start)) is not None:  # an earlier start has trained
            before, update = ready
            done = RoundWork.of_earlier(
                before.report, with_update=update is not None, waits_count=metering.waits_count
            )
        try:
            size_bytes = start.model_bytes or start.model.size_bytes
            with self._tools.turns.holding(size_bytes, line.unwanted(start)):
                if update is None:
                    update = self._training.train(plan, start, done)
                self._line.show("offering")
                done.in_vain_s = self._exchange.deliver(
                    start, update, self._announce(start, done, began_s, update), metering
                )
                self._training.coder.sent(start.round)
        except (TransferCancelled, TrainingCancelled):
            if line.keeps(start):
                raise BrokenOff from None  # the next start offers the update, and reports
            done.error = f"broken off: {line.why_not(start)}"
            log.debug("%s, round %d: %s", start.device, start.round, done.error)
        except Exception as problem:
            done.error = self._words(problem, f"round {start.round}")
        metering.close()
        observed = self._observed()
        busy_s = hardware.has_been_busy(began_s)
        phases = (*self._owed, *metering.take(start.round))
        self._owed = ()
        self._idle()
        self.rounds += not done.error
        self._unsettled = start.round
        report = replace(
            done.report(start, self.data, phases, busy_s),
            frequency_hz=(observed.frequency_hz or observed.cap_hz) if observed else None,
            error=done.error,
            transfers=(*done.moved, *self._exchange.take()),
            observed=observed,
            evidence=metering.evidence(),
            coded=done.coded if not done.error else None,
            readings=metering.readings(done.readings),
        )
        return self._with_faults(report)

    def settle(self, closed: RoundClosed) -> tuple[RoundSettled, ...]:
        """End the idle phase of a round that was closed, and report it.

        A device that was so slow that it missed the whole of that round has idled in the round it
        worked in as well: until the other one began. Phases of rounds before, whose readings had
        not come yet when they were reported, are reported once more.
        """
        self._training.coder.settle(closed)
        found, worked = [], self._unsettled
        if worked is not None and worked < closed.round:
            found += self._settled(closed, worked, closed.began_s)
        found += self._settled(closed, closed.round, closed.fleet_time_s)
        self._unsettled = None
        return tuple(found)

    def _settled(self, closed: RoundClosed, number: int, end_s: float) -> list[RoundSettled]:
        """What the device has idled in a round that ended at ``end_s`` on the fleet's clock."""
        phases: tuple[PhaseRecord, ...] = ()
        again: dict[int, tuple[PhaseRecord, ...]] = {}
        if self._plan is not None:
            self._hardware.has_waited_until(end_s)
            self._metering.close()
            if closed.last and number == closed.round:
                self._metering.rest("after", self._line.unwanted(closed))
            again = self._metering.corrections()
            phases = (*again.pop(number, ()), *self._owed, *self._metering.take(number))
            self._owed = ()
            self._idle()
        settled = RoundSettled(
            run=closed.run,
            device=closed.device,
            round=number,
            phases=phases,
            evidence=self._metering.evidence(),
            readings=self._metering.readings(),
        )
        earlier = [
            RoundSettled(run=closed.run, device=closed.device, round=before, phases=own)
            for before, own in sorted(again.items())
        ]
        return [*earlier, self._with_faults(settled)]

    def try_out(self, test: DeploymentTest) -> DeploymentReport:
        """Run the trained model. Its energy, and that of waiting after it, belong to no round."""
        return try_out(test, self._tools, self._metering, self.data)

    def go_on(self, closed: DeploymentClosed) -> None:
        """Rounds continue: idle energy belongs to a round again from here on."""
        if self._plan is not None:
            self._hardware.has_waited_until(closed.fleet_time_s)
            self._metering.drop()
            self._idle()

    def leave(self) -> None:
        """End the run: restore the board and drop all data of the run."""
        self._metering.drop()
        self._hardware.restore()
        self._batches.clear()
        self._training.coder.clear()
        self._plan = None

    def _idle(self) -> None:
        self._hardware.begin_idle()
        self._metering.begin("idle")

    def _fleet_time_s(self, plan: DevicePlan) -> float:
        """The fleet's time at which a device joins that follows its first plan.

        The plan may be old: it stays in the coordinator's document for the life of a run. The
        rounds that began or ended since then are in the same document. What an earlier start has
        told of its own clock, and kept, is not told again.
        """
        desired = self._line.desired
        told_s = desired.fleet_time_s if desired is not None else 0.0
        return max(plan.fleet_time_s, told_s, self._line.clock_s)

    def _announce(
        self, start: RoundStart, done: RoundWork, began_s: float, update: bytes
    ) -> Callable[[Offer], None]:
        """Tells the coordinator of an update, once what was done for it is on disk."""

        def announce(offer: Offer) -> None:
            ready = UpdateReady(run=start.run, device=start.device, round=start.round, update=offer)
            own = (*self._owed, *self._metering.so_far())
            busy_s = self._hardware.clock.now_s() - began_s
            so_far = replace(
                done.report(start, self.data, own, busy_s),
                transfers=(*done.moved, *self._exchange.moved),
                readings=self._metering.readings(done.readings, cut=False),
                error="broken off: its agent was started again, and the round was closed meanwhile",
            )
            self._line.report_update(start, so_far, ready, update, self._hardware.clock.now_s())

        return announce

    def _with_faults(self, fact: Metered) -> Metered:
        """A fact with what was wrong with the meter's readings."""
        if not (faults := self._metering.faults()):
            return fact
        before = f"{fact.error}; " if fact.error else ""
        return replace(fact, error=f"{before}{fact.device}: {faults}")

    def _observed(self) -> Observation | None:
        """What the board did; ``None`` if that cannot be read."""
        try:
            return self._hardware.observed()
        except Exception:
            log.exception("%s cannot be observed", self._invitation.device)
            return None

    def _words(self, problem: Exception, what: str) -> str:
        """A problem in words, for the report; one that nobody has thought of with its traceback."""
        return words(self._invitation.device, problem, what)

"""One round: start, collect, close, settle.

A round ends when every participant has reported, at its deadline with those that have, or when a
rule ends it early (:mod:`fimi.coordinator.round_end`). A device whose connection was lost keeps its
place for ``rounds.grace_s``. Only checked updates of punctual devices go into the model
(:mod:`fimi.coordinator.round_verdict`). Everybody who was invited has an entry, also who was
absent; what is not known of joules is bounded. What comes after the round was closed is credited to
it later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import msgspec

from fimi.coordinator import round_end
from fimi.coordinator.context import Context
from fimi.coordinator.patience import Reminder
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.round_end import SoFar
from fimi.coordinator.round_order import RoundOrder, RoundOutcome
from fimi.coordinator.round_updates import UpdateIntake
from fimi.coordinator.round_verdict import EndedEarly, Verdict, draws
from fimi.coordinator.update_store import UpdateStore
from fimi.energy.ledger import PhaseRecord
from fimi.energy.resting import enough_s
from fimi.learning.training.tensors import Parameters
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import RoundReport, RoundSettled, UpdateReady
from fimi.messaging.messages.orders import RoundClosed, RoundStart
from fimi.messaging.transfers.collecting import Collector
from fimi.record.bounds import own_s, unknown_max
from fimi.record.credit import corrected, idle_only, new_stretches
from fimi.record.events import Awaiting, DeviceReported, MeterDoubted
from fimi.record.results import DeviceRound

RoundFact = UpdateReady | RoundReport | RoundSettled

SETTLE_TIMEOUT_S = 20.0
"""Wall time to wait for the last idle phases of emulated devices, s."""
SETTLE_PHYSICAL_S = 3.0
"""The same for physical devices, s: what comes later is credited later."""
COLLECTED_BYTES = 256 << 20
"""Most bytes of updates that are pulled at the same time."""
_FIRST_TOLD_S, _TOLD_S = 10.0, 1.0
"""Until it is said who is waited for, and between two such events, wall time, s."""


class Round:
    """Runs one round.

    Args:
        context: the context of the run.
        order: inputs of the round.
        global_model: parameters with which every update is compared.
        spool: keeps the updates; cleared first.
        payload: that model as devices are sent it.
    """

    def __init__(
        self,
        context: Context,
        order: RoundOrder,
        global_model: Parameters,
        spool: UpdateStore,
        payload: RoundPayload,
    ) -> None:
        self._context = context
        self._order = order
        self._registry = context.registry
        self._model = global_model
        self._spool = spool
        self._payload = payload
        self._ended: EndedEarly | None = None
        self._reports: dict[str, RoundReport] = {}
        self._reported_s: dict[str, float] = {}
        self._settled: dict[str, RoundSettled] = {}
        self._boots = {device: self._registry.boot_id(device) for device in order.predicted}
        self._began_s = context.inbox.clock.now_s()
        self._reminder = Reminder(_TOLD_S, first_s=_FIRST_TOLD_S)
        self.facts: list[tuple[str, RoundFact]] = []
        """What was reported of this round and is in its entries, with its device. What else came of
        it, such as the report of a second start, or one after the verdict, is credited to it once
        it is stored."""

    @property
    def restarted(self) -> frozenset[str]:
        """Devices that were restarted in this round: what they report is not a whole round."""
        return frozenset(d for d, boot in self._boots.items() if self._registry.boot_id(d) != boot)

    def run(self, model_offer: Offer, meanwhile: Callable[[], None] = lambda: None) -> RoundOutcome:
        """Start the round, wait for the reports, check them.

        Args:
            model_offer: the model that devices train.
            meanwhile: called again and again while it waits.
        """
        context, order = self._context, self._order
        rounds = context.settings.rounds
        self._spool.clear()
        for device in order.plans:
            context.conversation.order(
                device,
                RoundStart(
                    run=context.run,
                    device=device,
                    round=order.number,
                    model=model_offer,
                    training=order.training,
                    graphs=order.graphs,
                    seed=context.settings.run.seed,
                    fleet_time_s=order.start_s,
                    model_coding=self._payload.of_model,
                    update_coding=self._payload.of_update,
                    model_bytes=self._payload.model_bytes,
                    late_rounds=rounds.late_rounds if rounds.late_updates == "add" else 0,
                ),
            )
        self._began_s = context.inbox.clock.now_s()
        with (
            ThreadPoolExecutor(1, thread_name_prefix="updates") as pool,
            Collector(context.peer.transfers, budget_bytes=COLLECTED_BYTES) as collector,
        ):
            # A device reports after its update was pulled: when the round is over, no pull that is
            # wanted goes on. It may have been pulled by a coordinator that was killed.
            plain = self._payload.plain if self._payload.decodes else None
            intake = UpdateIntake(self._model, self._spool, collector, pool, plain)
            earlier: list[tuple[str, RoundFact]] = context.conversation.open(
                UpdateReady, RoundReport, RoundSettled
            )
            early = {device for device, fact in earlier if fact.round == order.number}
            self._collect(
                lambda: self._waited_for(intake, early),
                order.wall_timeout_s,
                intake=intake,
                earlier=earlier,
                meanwhile=meanwhile,
            )
        return Verdict(context, order, self._reports, intake, self._spool, self._ended).judge()

    def _waited_for(self, intake: UpdateIntake, early: set[str]) -> set[str]:
        """Who may still report, or has an update on its way; nobody once a rule ends the round.

        Not those that wait in vain for their update to be pulled.
        """
        pending = self._pending(self._order.plans, self._reports)
        left = {device for device in pending if intake.unusable(device) is None}
        left |= {d for d in intake.under_way(early) if self._registry.is_expected(d)}
        if left and (self._ended is not None or self._ends_early(intake)):
            return set()
        return left

    def _ends_early(self, intake: UpdateIntake) -> bool:
        """Whether a rule ends the round now; by the clocks of emulated devices none does."""
        rule = round_end.early(self._context.settings.rounds)
        if rule is None or not self._order.by_wall_clock:
            return False
        so_far = SoFar(
            invited=len(self._order.plans),
            updates_s=tuple(
                at_s
                for device, at_s in self._reported_s.items()
                if not self._reports[device].error and intake.is_kept(device)
            ),
            draws=draws(self._order, self._reports),
        )
        now_s = self._now_s()
        if now_s < rule.ends_s(so_far):
            return False
        self._ended = EndedEarly(now_s, rule.why(so_far))
        return True

    def _now_s(self) -> float:
        """Seconds since the round began, without those in which the broker was away."""
        return self._context.inbox.clock.now_s() - self._began_s

    def settle(self, outcome: RoundOutcome) -> tuple[DeviceRound, ...]:
        """Close the round for all devices and collect their idle phases.

        Resting devices have idled for the whole round: their clocks advance, and their joules
        count. Of absent ones those are told that are back: each has idled for a part of the round,
        which is credited to it when the device says so. The others hear of it in the next round.
        """
        order = self._order
        end_s = order.start_s + outcome.duration_s
        adds = self._context.settings.rounds.late_updates == "add"
        for device in order.resting:
            outcome.devices[device] = DeviceRound(
                device=device, status="resting", predicted=order.foreseen(device)
            )
        for device in order.absent:
            outcome.devices[device] = DeviceRound(
                device=device, status="absent", reason=self._why_absent(device)
            )
        for device, entry in outcome.devices.items():
            if entry.status == "absent" and not self._registry.is_online(device):
                continue
            self._context.conversation.order(
                device,
                RoundClosed(
                    run=self._context.run,
                    device=device,
                    round=order.number,
                    accepted=entry.status == "accepted",
                    late=entry.status in ("late", "missing") and not order.is_last and adds,
                    began_s=order.start_s,
                    fleet_time_s=end_s,
                    last=order.is_last,
                ),
            )
        waiting = {*self._reports, *order.resting}
        boards = [order.members[device].hardware for device in waiting]
        kinds = {board.kind for board in boards}
        patience_s = SETTLE_PHYSICAL_S if kinds == {"physical"} else SETTLE_TIMEOUT_S
        if order.is_last:
            physical = (enough_s(board.meter) for board in boards if board.kind == "physical")
            patience_s += max(physical, default=0.0)

        def open_() -> set[str]:
            """After the last round nobody hears what an absent device would tell later."""
            left = self._pending(waiting, self._settled) - self.restarted
            return left if order.is_last else left & self._registry.online

        self._collect(open_, patience_s)
        return tuple(
            self._bounded(
                _settled(entry, self._settled.get(device), outcome.duration_s),
                outcome.duration_s,
            )
            for device, entry in sorted(outcome.devices.items())
        )

    def _why_absent(self, device: str) -> str:
        if not self._registry.is_online(device):
            return f"{device} was offline when the round began"
        if device not in self._order.members:
            return f"{device} was invited and had not joined when the round began"
        answer = self._registry.answer(device)
        if answer is None:
            return f"{device} had no plan in force when the round began"
        return answer.error or f"{device} had just come"

    def _bounded(self, entry: DeviceRound, round_s: float) -> DeviceRound:
        """A device's entry with the most that it can have used of what is not known.

        Who has told all of the round, by its own clock, lacks nothing but what it could not read. A
        round of real devices may be shorter than the fleet's clock says.
        """
        profile = self._order.members.get(entry.device)
        if profile is None:
            return entry
        worked = entry.busy_s is not None or entry.status == "resting"
        if worked and entry.device in self._settled and entry.device not in self.restarted:
            round_s = 0.0
        plan = self._order.plans.get(entry.device)
        rate_bps = plan.point.rate_bps if plan is not None and plan.point.rate_bps else 0.0
        left_s = own_s(round_s, entry.busy_s, entry.waited_s, entry.phases)
        return msgspec.structs.replace(
            entry, unknown_max=unknown_max(profile.board, left_s, entry.phases, rate_bps)
        )

    def _pending(self, wanted: Iterable[str], done: Iterable[str]) -> set[str]:
        """Who may still answer: online or expected back, and not refused or unable to follow."""
        registry = self._registry
        return {
            device
            for device in set(wanted) - set(done)
            if registry.is_expected(device)
            and registry.has_joined(device)
            and not ((answer := registry.answer(device)) is not None and answer.error)
        }

    def _collect(
        self,
        pending: Callable[[], set[str]],
        timeout_s: float,
        intake: UpdateIntake | None = None,
        earlier: Iterable[tuple[str, RoundFact]] = (),
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Take facts in until nobody is pending.

        Args:
            pending: who may still answer.
            timeout_s: wall time, s.
            intake: pulls updates; ``None``: they are not wanted.
            earlier: facts that have come before, of the round that a coordinator before this one
                had begun.
            meanwhile: called again and again.
        """

        def done() -> bool:
            meanwhile()
            if intake is not None:
                intake.try_again()
            left = pending()
            if left and self._reminder.due():
                what = f"in round {self._order.number}"
                self._context.notify(Awaiting(what=what, devices=tuple(sorted(left))))
            return not left

        for sender, message in chain(earlier, self._context.inbox.until(done, timeout_s)):
            if not self._is_ours(sender, message):
                continue
            if isinstance(message, UpdateReady):
                self.facts.append((sender, message))
                if intake is not None:
                    intake.offered(sender, message.update)
            elif isinstance(message, RoundReport):
                if sender in self._reports or intake is None:
                    continue
                self.facts.append((sender, message))
                self._reports[sender] = message
                self._reported_s[sender] = self._now_s()
                if (idled := self._settled.pop(sender, None)) is not None:
                    # that was before its work: another coordinator had closed the round without it
                    self.facts = [each for each in self.facts if each[1] is not idled]
                self._context.notify(
                    DeviceReported(round=message.round, device=sender, error=message.error)
                )
                if message.observed is not None and (doubts := message.observed.doubts):
                    self._context.notify(
                        MeterDoubted(round=message.round, device=sender, doubts=doubts)
                    )
            elif isinstance(message, RoundSettled) and sender not in self._settled:
                self.facts.append((sender, message))
                self._settled[sender] = message

    def _is_ours(self, sender: str, message: object) -> bool:
        return (
            isinstance(message, UpdateReady | RoundReport | RoundSettled)
            and message.run == self._context.run
            and message.round == self._order.number
            and sender
            in (self._order.predicted if isinstance(message, RoundSettled) else self._order.plans)
        )


def _settled(entry: DeviceRound, settled: RoundSettled | None, round_s: float) -> DeviceRound:
    """A device's entry with its idle phase.

    For a participant that did not report, the idle phase is only a part of its energy. For a
    resting device it is all of it. If a device reported its part of the round and not its idle
    phase, this phase has no energy until it comes. What was predicted stays as it was.

    Args:
        entry: the device's entry without its idle phase.
        settled: its idle phase; ``None`` if it was not received.
        round_s: length of the round on the fleet's clock, s.
    """
    if not entry.phases and settled is None and entry.status != "resting":
        return entry
    phases: tuple[PhaseRecord, ...] = ()
    evidence = entry.evidence
    if settled is not None:
        entry = msgspec.structs.replace(entry, phases=corrected(entry.phases, settled.phases))
        phases = new_stretches(settled.phases, entry.phases)
        evidence = (*evidence, *((settled.evidence,) if settled.evidence is not None else ()))
    elif entry.phases and entry.busy_s is not None and entry.busy_s < round_s:
        last = entry.phases[-1]
        idle = PhaseRecord(
            phase="idle",
            start_s=last.start_s + last.duration_s,
            duration_s=round_s - entry.busy_s,
            energy=None,
            sample_count=0,
            largest_gap_s=0.0,
        )
        phases = (idle,)
    entry = msgspec.structs.replace(entry, phases=entry.phases + phases, evidence=evidence)
    return idle_only(entry, round_s)

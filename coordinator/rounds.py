"""One round: start, collect, check, close, settle.

A round ends when every participant has reported, or at its deadline with those that have. A report
is late if the device was busy for longer than the deadline on its own clock. A device that is
offline, or silent until the wall-clock limit, is missing. Only checked updates of punctual devices
go into the model. Everybody who was invited has an entry, also who was absent; what is not known of
joules is bounded. What comes after the round was closed is credited to it later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import msgspec
from msgspec import Struct

from fimi.coordinator.context import Context
from fimi.coordinator.patience import Reminder
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.energy.cost_model import PhaseCost
from fimi.energy.ledger import PhaseRecord
from fimi.energy.resting import enough_s
from fimi.learning.training import tensors
from fimi.learning.training.tensors import Parameters, UpdateRefusedError
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.errors import PayloadUnusable, TransferError
from fimi.messaging.messages import (
    DevicePlan,
    FactBody,
    Offer,
    Profile,
    RoundClosed,
    RoundReport,
    RoundSettled,
    RoundStart,
    UpdateReady,
)
from fimi.messaging.transfers.collecting import Collector
from fimi.record.bounds import own_s, unknown_max
from fimi.record.credit import corrected, idle_only, new_stretches, reported
from fimi.record.events import Awaiting, DeviceReported, MeterDoubted, UpdateRejected
from fimi.record.results import DeviceRound, DeviceStatus

RoundFact = UpdateReady | RoundReport | RoundSettled

SETTLE_TIMEOUT_S = 20.0
"""Wall time to wait for the last idle phases of emulated devices, s."""
SETTLE_PHYSICAL_S = 3.0
"""The same for physical devices, s: what comes later is credited later."""
COLLECTED_BYTES = 256 << 20
"""Most bytes of updates that are pulled at the same time."""
_FIRST_TOLD_S, _TOLD_S = 10.0, 1.0
"""Until it is said who is waited for, and between two such events, wall time, s."""


class _Update(NamedTuple):
    """What a device has offered, and the keeping of it."""

    offer: Offer
    kept: Future[None]

    @property
    def error(self) -> BaseException | None:
        """Why it is not kept; ``None`` as long as it may be."""
        return self.kept.exception() if self.kept.done() else None


class RoundOrder(Struct, frozen=True, kw_only=True):
    """The inputs of a round.

    Attributes:
        number: number of the round, from 1.
        start_s: its beginning on the fleet's clock, s.
        wall_timeout_s: how long to wait for reports, wall time, s.
        plans: plan of every participant.
        predicted: predicted phases of every device that is online, participating or resting.
        training: how participants train.
        members: profile of every device that takes part in the run, online or not.
        invited: all of these, and those that have not joined yet.
        graphs: offer of the training graphs; ``None`` if there are none.
        is_last: no round follows.
    """

    number: int
    start_s: float
    wall_timeout_s: float
    plans: dict[str, DevicePlan]
    predicted: dict[str, tuple[PhaseCost, ...]]
    training: TrainingSettings
    members: dict[str, Profile]
    invited: frozenset[str] = frozenset()
    graphs: Offer | None = None
    is_last: bool = False

    @property
    def resting(self) -> tuple[str, ...]:
        """Resting devices, sorted."""
        return tuple(sorted(set(self.predicted) - set(self.plans)))

    @property
    def absent(self) -> tuple[str, ...]:
        """Devices that are not there, or have no plan in force, sorted."""
        return tuple(sorted({*self.members, *self.invited} - set(self.predicted)))

    def samples(self, device: str, report: RoundReport) -> tuple[int, int]:
        """Planned local and synthetic samples of a participant.

        Of unlabelled images the device keeps some or all; their number is that of its report.
        """
        plan = self.plans[device]
        synthetic = sum(plan.used_counts) or min(report.synthetic_samples, plan.unlabelled)
        return sum(self.members[device].label_counts), synthetic


class RoundOutcome(Struct, kw_only=True):
    """The result of a round before it is settled.

    Attributes:
        duration_s: its length on the fleet's clock, s.
        updates: checked parameters of punctual devices, in order of device id; each access decodes
            one again.
        weights: training samples of those devices, in the same order.
        devices: entry of each participant, without its idle phase.
    """

    duration_s: float
    updates: Updates
    weights: list[float]
    devices: dict[str, DeviceRound]


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
        self._reports: dict[str, RoundReport] = {}
        self._settled: dict[str, RoundSettled] = {}
        self._boots = {device: self._registry.boot_id(device) for device in order.predicted}
        self._deadline_s = context.settings.plan.deadline_s
        self._updates: dict[str, _Update] = {}
        self._reminder = Reminder(_TOLD_S, first_s=_FIRST_TOLD_S)
        self.facts: list[tuple[str, RoundFact]] = []
        """Everything that was reported of this round, with its device."""
        self.again: list[RoundReport] = []
        """Reports of devices that had reported before they were restarted."""

    @property
    def restarted(self) -> frozenset[str]:
        """Devices that were restarted in this round: what they report is not a whole round."""
        return frozenset(d for d, boot in self._boots.items() if self._registry.boot_id(d) != boot)

    def run(self, model_offer: Offer) -> RoundOutcome:
        """Start the round, wait for the reports, check them."""
        context, order = self._context, self._order
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
                ),
            )
        with (
            ThreadPoolExecutor(1, thread_name_prefix="updates") as pool,
            Collector(context.peer.transfers, budget_bytes=COLLECTED_BYTES) as collector,
        ):
            # A device reports after its update was pulled: when the round is over, no pull that is
            # wanted goes on. It may have been pulled by a coordinator that was killed.
            earlier = context.conversation.open(UpdateReady, RoundReport, RoundSettled)
            early = {device for device, _ in earlier}
            self._collect(
                lambda: self._reporting() | self._pulled_from(early),
                order.wall_timeout_s,
                updates_into=(collector, pool),
                earlier=earlier,
            )
        return self._judge()

    def settle(self, outcome: RoundOutcome) -> tuple[DeviceRound, ...]:
        """Close the round for all devices and collect their idle phases.

        Resting devices have idled for the whole round: their clocks advance, and their joules
        count. Of absent ones those are told that are back: each has idled for a part of the round,
        which is credited to it when the device says so. The others hear of it in the next round.
        """
        order = self._order
        end_s = order.start_s + outcome.duration_s
        for device in order.resting:
            outcome.devices[device] = DeviceRound(
                device=device, status="resting", predicted=order.predicted[device]
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
        self._collect(lambda: self._pending(waiting, self._settled) - self.restarted, patience_s)
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
        """Who may still answer: online, and not unable to follow its plan."""
        registry = self._registry
        return {
            device
            for device in set(wanted) - set(done)
            if registry.is_online(device)
            and not ((answer := registry.answer(device)) is not None and answer.error)
        }

    def _reporting(self) -> set[str]:
        """Who may still report: not those that wait in vain for their update to be pulled."""
        pending = self._pending(self._order.plans, self._reports)
        return {device for device in pending if self._unusable(device) is None}

    def _unusable(self, device: str) -> PayloadUnusable | None:
        """Why the update that a device offers can never be had."""
        update = self._updates.get(device)
        error = None if update is None else update.error
        return error if isinstance(error, PayloadUnusable) else None

    def _pulled_from(self, devices: Iterable[str]) -> set[str]:
        """Those of these devices that are online and whose update is on its way."""
        return {
            device
            for device in devices
            if (update := self._updates.get(device)) is not None
            and not update.kept.done()
            and self._registry.is_online(device)
        }

    def _collect(
        self,
        pending: Callable[[], set[str]],
        timeout_s: float,
        updates_into: tuple[Collector, ThreadPoolExecutor] | None = None,
        earlier: Iterable[tuple[str, FactBody]] = (),
    ) -> None:
        """Take facts in until nobody is pending.

        Args:
            pending: who may still answer.
            timeout_s: wall time, s.
            updates_into: what pulls updates, and what checks them; ``None``: they are not wanted.
            earlier: facts that have come before, of the round that a coordinator before this one
                had begun.
        """

        def done() -> bool:
            left = pending()
            if left and self._reminder.due():
                what = f"in round {self._order.number}"
                self._context.notify(Awaiting(what=what, devices=tuple(sorted(left))))
            return not left

        for sender, message in chain(earlier, self._context.inbox.until(done, timeout_s)):
            if not self._is_ours(sender, message):
                continue
            self.facts.append((sender, message))
            if isinstance(message, UpdateReady):
                if updates_into is not None and self._wants(sender, message.update):
                    self._updates[sender] = self._pull(sender, message.update, *updates_into)
            elif isinstance(message, RoundReport):
                if sender in self._reports:
                    self.again.append(message)
                    continue
                self._reports[sender] = message
                self._context.notify(
                    DeviceReported(round=message.round, device=sender, error=message.error)
                )
                if message.observed is not None and (doubts := message.observed.doubts):
                    self._context.notify(
                        MeterDoubted(round=message.round, device=sender, doubts=doubts)
                    )
            elif isinstance(message, RoundSettled):
                self._settled.setdefault(sender, message)

    def _wants(self, device: str, offer: Offer) -> bool:
        """Whether there is no update of a device yet, and this one is not on its way.

        A device that was started again offers another update, or the same one in other chunks: what
        it offered before can no longer be had.
        """
        update = self._updates.get(device)
        if update is None or update.error is not None:
            return True
        known = update.offer
        same = (known.digest, known.chunk_bytes) == (offer.digest, offer.chunk_bytes)
        return not update.kept.done() and not same

    def _is_ours(self, sender: str, message: object) -> bool:
        return (
            isinstance(message, UpdateReady | RoundReport | RoundSettled)
            and message.run == self._context.run
            and message.round == self._order.number
            and sender
            in (self._order.predicted if isinstance(message, RoundSettled) else self._order.plans)
        )

    def _pull(
        self, device: str, offer: Offer, collector: Collector, pool: ThreadPoolExecutor
    ) -> _Update:
        """Collect an update; when it has come, check it and keep it."""
        limit = 2 * tensors.size_bytes(self._model) + 1_000_000
        kept: Future[None] = Future()

        def keep(payload: bytes) -> None:
            try:
                self._spool.put(device, self._payload.plain(payload))
                kept.set_result(None)
            except Exception as error:
                kept.set_exception(error)

        def arrived(pull: Future[bytes]) -> None:
            if (error := pull.exception()) is not None:
                kept.set_exception(error)
            else:
                pool.submit(keep, pull.result())

        collector.cancel(device)
        collector.pull(offer, max_bytes=limit).add_done_callback(arrived)
        return _Update(offer, kept)

    def _judge(self) -> RoundOutcome:
        order = self._order
        updates = Updates(self._spool, ())
        outcome = RoundOutcome(duration_s=0.0, updates=updates, weights=[], devices={})
        for device in sorted(order.plans):
            status, reason = self._verdict(device)
            report = self._reports.get(device)
            if report is not None and _implausible(report, order.samples(device, report)):
                report = None
            outcome.devices[device] = DeviceRound(
                device=device,
                status=status,
                reason=reason,
                predicted=order.predicted[device],
                **(reported(report) if report is not None else {}),
            )
            if status == "accepted" and report is not None:
                outcome.updates = Updates(self._spool, (*outcome.updates.devices, device))
                outcome.weights.append(float(sum(order.samples(device, report))))
            else:
                self._context.notify(
                    UpdateRejected(round=order.number, device=device, reason=reason)
                )
        everybody = order.plans.keys() <= self._reports.keys()
        punctual = all(entry.status != "late" for entry in outcome.devices.values())
        busy = [e.busy_s + e.waited_s for e in outcome.devices.values() if e.busy_s is not None]
        ended_s = max(busy, default=0.0) if everybody and punctual else 0.0
        outcome.duration_s = ended_s or self._deadline_s
        return outcome

    def _verdict(self, device: str) -> tuple[DeviceStatus, str]:
        report = self._reports.get(device)
        if report is None:
            return self._silent(device)
        if report.error:
            return "failed", report.error
        if reason := _implausible(report, self._order.samples(device, report)):
            return "refused", reason
        if report.busy_s > self._deadline_s:
            return "late", f"busy {report.busy_s:.3f} s, deadline {self._deadline_s:g} s"
        try:
            kept = self._updates[device].kept
        except KeyError:
            return "refused", f"{device} reported without offering an update"
        try:
            kept.result(timeout=SETTLE_TIMEOUT_S)
        except (UpdateRefusedError, TransferError, OSError) as error:
            return "refused", str(error)
        return "accepted", ""

    def _silent(self, device: str) -> tuple[DeviceStatus, str]:
        """What became of a device that has not reported."""
        if (unusable := self._unusable(device)) is not None:
            return "refused", str(unusable)
        answer = self._registry.answer(device)
        if answer is not None and answer.error:
            return "failed", answer.error
        if not self._registry.is_online(device):
            return "missing", f"{device} went offline"
        document = self._context.conversation.reported(device)
        if document is None or not self._context.conversation.answered(device):
            return "missing", f"{device} is online and does not answer"
        waits = f", waiting for {document.waits_for}" if document.waits_for else ""
        return "missing", f"{device} did not report; it was {document.stage}{waits}"


def _implausible(report: RoundReport, samples: tuple[int, int]) -> str:
    """Why a report is implausible, or an empty string. An implausible report is not used."""
    if (report.local_samples, report.synthetic_samples) != samples:
        return (
            f"reports {report.local_samples} local and {report.synthetic_samples} synthetic "
            f"samples, its profile and plan say {samples[0]} and {samples[1]}"
        )
    return ""


def _settled(entry: DeviceRound, settled: RoundSettled | None, round_s: float) -> DeviceRound:
    """A device's entry with its idle phase.

    For a participant that did not report, the idle phase is only a part of its energy. For a
    resting device it is all of it. If a device reported its part of the round and not its idle
    phase, this phase has no energy, and its prediction is left out until it comes.

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
    else:
        busy = tuple(cost for cost in entry.predicted if cost.phase != "idle")
        entry = msgspec.structs.replace(entry, predicted=busy)
        if entry.busy_s is not None and entry.busy_s < round_s and entry.phases:
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

"""Runs the rounds one after another, and holds the global model.

A round's updates are averaged, or mixed with the server's model; late ones of earlier rounds with
them, where that is asked for. The result is evaluated, stored, and compared with the predictions.
The model is written before the round is stored and is the current one from then on, so that a run
can go on after any moment. What devices report of a stored round is credited to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.coordinator import checkpoint, participation
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.checkpoint import HeldUpdate, RoundPart
from fimi.coordinator.combining import Combining
from fimi.coordinator.context import Context, FederationError
from fimi.coordinator.dealt import Samples
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.enrolment import Roster
from fimi.coordinator.inbox import Cancelled
from fimi.coordinator.insight import Observer
from fimi.coordinator.late_updates import LateUpdates
from fimi.coordinator.learning_adaptation import LearningAdaptation
from fimi.coordinator.local_errors import LocalErrors
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.round_order import RoundOrder, RoundOutcome
from fimi.coordinator.rounds import Round, RoundFact
from fimi.coordinator.screening import Screening, left_out
from fimi.coordinator.server_training import Aggregate, Server
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.energy.cost_model import BoardModel, PhaseCost, idle_cost
from fimi.learning.data.dataset import Dataset
from fimi.learning.training import memory, tensors
from fimi.learning.training.aggregation import is_finite
from fimi.learning.training.trainer import Evaluation, Trainer, TrainingCancelled
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import RoundReport, RoundSettled, UpdateReady
from fimi.messaging.messages.orders import DevicePlan
from fimi.messaging.transfers import stream
from fimi.record.events import Credited, LateAdded, ModelKept, RoundFinished, RoundStarted
from fimi.record.insight import Insight
from fimi.record.prediction import Residual
from fimi.record.results import DeviceRound, LateUpdate, RoundResult

Model = dict[str, NDArray[np.float32]]

DEADLINE_GRACE_S = 5.0
"""Wall time beyond the deadline after which a silent physical device counts as missing, s."""
KEPT_MOST = 3
"""After so many rounds in a row without a usable model a run ends."""


class ModelKeeper(Protocol):
    """Keeps the global model where a later process finds it."""

    def propose(self, model: Model) -> str:
        """Write a model beside the current one, on the disk; returns its SHA-256."""

    def accept(self) -> None:
        """The model that was proposed last is the current one."""


class ForgetfulKeeper:
    """Keeps no model."""

    def propose(self, model: Model) -> str:
        """Nothing but the digest."""
        return tensors.digest(tensors.dump(model))

    def accept(self) -> None:
        """Nothing."""


class _Ended(Struct, frozen=True, kw_only=True):
    """A round that is over, before its model is judged and it is stored.

    Attributes:
        number: of the round.
        duration_s: on the fleet's clock, s.
        aggregate: the model that came of it.
        devices: entries of all who were invited.
        plans: of those who took part.
        current: the round with devices; ``None`` where the server trains alone.
        insight: if one is due.
        payload: the model as devices were sent it.
        late: updates of earlier rounds that entered it.
        awaited: devices whose update of this round may still come.
        held: parts for the run store: updates that came too late for it.
        drop: keys of what the run store forgets: late updates that entered it.
    """

    number: int
    duration_s: float
    aggregate: Aggregate
    devices: tuple[DeviceRound, ...] = ()
    plans: dict[str, DevicePlan] = {}
    current: Round | None = None
    insight: Insight | None = None
    payload: RoundPayload | None = None
    late: tuple[LateUpdate, ...] = ()
    awaited: Set[str] = frozenset()
    held: Iterable[Mapping[str, bytes]] = ()
    drop: Sequence[str] = ()


class TrainingRounds:
    """Runs the rounds of a federation, one by one.

    Args:
        context: the context of the run.
        roster: the devices that take part.
        plans: plans of devices; the fleet's clock in it advances with every round.
        adaptation: compares predictions with measurements; ``None`` where devices do not train.
        learning: the same for the errors of devices' models; ``None`` where none is planned.
        trainer: evaluates the global model.
        test: held-out data.
        validation: public samples that nobody trains on; ``None`` for none.
        server: the server's part of a round.
        observer: computes insights.
        samples: what devices train on, for the observer.
        spool: keeps updates until they are averaged.
        model: parameters to start from.
        keeper: keeps the global model.
        results: finished rounds of a run that goes on.
        held: late updates of such a run.

    Attributes:
        model: the global model after the last finished round.
        results: finished rounds.
    """

    def __init__(
        self,
        context: Context,
        roster: Roster,
        plans: DevicePlans,
        adaptation: Adaptation | None,
        learning: LearningAdaptation | None,
        trainer: Trainer,
        test: Dataset,
        validation: Dataset | None,
        server: Server,
        observer: Observer,
        samples: Samples,
        spool: UpdateStore,
        model: Model,
        keeper: ModelKeeper,
        results: Sequence[RoundResult] = (),
        held: Sequence[HeldUpdate] = (),
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._roster = roster
        self._plans = plans
        self._adaptation = adaptation
        self._learning = learning
        self._trainer = trainer
        self._test = test
        self._validation = validation
        self._errors = LocalErrors(trainer, validation, seed=context.settings.run.seed)
        self._server = server
        self._observer = observer
        self._samples = samples
        self._spool = spool
        self._screening = Screening(context.settings.rounds, context.notify, results)
        self._keeper = keeper
        self.model = model
        self.results: list[RoundResult] = list(results)
        self._begun_before = bool(results)  # the next round, by a coordinator that is gone
        self._digest = tensors.digest(tensors.dump(model)) if results else ""
        self.paused_s = 0.0
        """Wall time for which the run has paused since the last round, s."""
        self._late = LateUpdates(context, lambda: self.model, self._most_samples, held)
        self._combining = Combining(
            context.settings.rounds, spool, self._screening, self._late, server
        )

    def close(self) -> None:
        """End the transfers of late updates."""
        self._late.close(over=self._stored >= self._settings.rounds.count)

    def run(self, number: int, graphs: Offer | None) -> None:
        """One round, from its start to its entry in the result.

        Args:
            number: number of the round, from 1.
            graphs: offer of the training graphs, if devices train with ONNX Runtime.

        Raises:
            FederationError: too few devices are online, the server trains alone and diverged, or
                rounds give no usable model again and again.
            Cancelled: the run was asked to stop.
        """
        if self._context.strategy.devices_train:
            self._with_devices(number, graphs)
        else:
            self._on_the_server(number)
        memory.give_back(tensors.size_bytes(self.model))

    def late(self, fact: RoundFact) -> bool:
        """Credit a fact of a round that is stored; returns whether that is so."""
        if fact.round > self._stored:
            return False
        store, device = self._context.store, fact.device
        with store.together():
            changed = None
            if not isinstance(fact, UpdateReady):
                store.write_readings(fact.round, device, fact.readings)
            if isinstance(fact, RoundReport):
                changed = store.credit(fact.round, device, report=fact)
            elif isinstance(fact, RoundSettled):
                changed = store.credit(fact.round, device, settled=fact)
            if changed is not None:
                self._context.notify(Credited(round=fact.round, device=device, entry=changed))
        if not (isinstance(fact, UpdateReady) and self._late.offered(fact, self.results)):
            self._context.conversation.stored(device, fact)
        return True

    @property
    def aside(self) -> frozenset[str]:
        """Devices that rest in every round: set aside for their updates, or excluded."""
        return self._screening.set_aside | self._context.in_force.excluded.keys()

    @property
    def there(self) -> frozenset[str]:
        """Devices that the next round can be with: their plan is in force."""
        return frozenset(self._plans.ready().keys() - self.aside)

    @property
    def _stored(self) -> int:
        """Number of the last stored round."""
        return self.results[-1].number if self.results else 0

    def require_an_update(self) -> None:
        """Make sure that the model was trained.

        Raises:
            FederationError: no update was accepted in any round, or no round gave a usable model.
        """
        if self.results and all(each.model_kept is not None for each in self.results):
            raise FederationError(
                f"not one usable model came of {in_words(len(self.results))}; of the last one: "
                f"{self.results[-1].model_kept}",
                code="R010",
            )
        devices = [device for each in self.results for device in each.participants]
        late = any(each.late for each in self.results)
        if devices and not late and not any(device.status == "accepted" for device in devices):
            last = devices[-1]
            raise FederationError(
                f"not one update was accepted in {in_words(len(self.results))}; the last of "
                f"{last.device}: {last.status}{': ' + last.reason if last.reason else ''}",
                code="R010",
            )

    def _with_devices(self, number: int, graphs: Offer | None) -> None:
        """A round in which devices train."""
        context, before = self._context, self.model
        plans, present = self._drawn(number)
        context.notify(RoundStarted(round=number, devices=tuple(plans)))
        payload = RoundPayload(before, self._settings.transfer)
        self._late.sent(number, payload)
        offer = context.peer.transfers.serve(
            payload.data, media="safetensors", shared=stream.is_for(len(plans))
        )
        order = self._order(number, plans, present, graphs)
        current = Round(context, order, before, self._spool, payload)
        with context.watch.stage("devices"), self._server.beside(number, before):
            outcome = current.run(offer, meanwhile=lambda: self._late.take_in(number))
        self._screening.screen(number, outcome, self._spool)
        with context.watch.stage("settle"):
            devices = current.settle(outcome)
            context.peer.transfers.withdraw(offer.digest)
            memory.give_back(tensors.size_bytes(before))
        with context.watch.stage("errors"):
            devices = self._errors.beside(
                devices, outcome.updates, lambda entry: self._planned_error(number, entry)
            )
        with context.watch.stage("aggregate"):
            end_s = self._plans.fleet_time_s + outcome.duration_s
            made = self._combining.combine(number, outcome, before, end_s)
        if made.aggregate.shares is not None:
            devices = _with_shares(devices, made.shares)
        insight = None
        if self._settings.rounds.looks_into(number):
            with context.watch.stage("insight"):
                insight = self._look(number, before, outcome.updates)
        awaited, held = self._late_of(number, devices, outcome)
        self._finish(
            _Ended(
                number=number,
                duration_s=outcome.duration_s,
                devices=devices,
                aggregate=made.aggregate,
                plans=plans,
                current=current,
                insight=insight,
                payload=payload,
                late=made.late,
                awaited=awaited,
                held=held,
                drop=made.drop,
            )
        )
        self._spool.close()  # nothing of a round that is stored need come again

    def _drawn(self, number: int) -> tuple[dict[str, DevicePlan], dict[str, DevicePlan]]:
        """The plans of those who take part in a round, and of all who are there.

        Raises:
            FederationError: these are too few.
        """
        present = self._present(number)
        drawn = participation.draw(
            tuple(self._plans.devices),
            present.keys() - self.aside,
            self._settings.rounds.participants,
            seed=self._settings.run.seed,
            number=number,
        )
        return {device: present[device] for device in drawn}, present

    def _order(
        self,
        number: int,
        plans: dict[str, DevicePlan],
        present: dict[str, DevicePlan],
        graphs: Offer | None,
    ) -> RoundOrder:
        """What a round begins with."""
        assert self._adaptation is not None
        members = self._roster.members
        boards = {d: p.board for d, p in self._adaptation.profiles(members).items()}
        return RoundOrder(
            number=number,
            start_s=self._plans.fleet_time_s,
            is_last=number == self._settings.rounds.count,
            paused=self._paused(present, boards),
            wall_timeout_s=self._wall_timeout_s(plans),
            by_wall_clock=self._are_real(plans),
            plans=plans,
            predicted=participation.predicted(
                self._plans.with_receipts(present), tuple(plans), boards
            ),
            training=self._plans.training,
            members=members,
            invited=frozenset(self._roster.indices),
            graphs=graphs,
        )

    def _paused(
        self, present: Mapping[str, DevicePlan], boards: Mapping[str, BoardModel]
    ) -> dict[str, PhaseCost]:
        """What real boards idled while the run paused; the time of emulated ones stood still."""
        if not self.paused_s:
            return {}
        kinds = {device: self._roster.members[device].hardware.kind for device in present}
        return {
            device: idle_cost(boards[device], self.paused_s)
            for device, kind in kinds.items()
            if kind == "physical"
        }

    def _late_of(
        self, number: int, devices: tuple[DeviceRound, ...], outcome: RoundOutcome
    ) -> tuple[Set[str], Iterable[Mapping[str, bytes]]]:
        """Of which devices an update of this round may still come, and late ones that have."""
        if not self._late.wanted or number == self._settings.rounds.count:
            return frozenset(), ()
        open_ = {entry.device for entry in devices if entry.status in ("late", "missing")}
        kept = {device: outcome.devices[device] for device in outcome.late}
        held = self._late.keep(number, self._plans.fleet_time_s, kept, self._spool.where)
        return open_ - set(outcome.late), held

    def _most_samples(self, device: str) -> tuple[int, int] | None:
        """Local samples of a device, and the most synthetic ones that it can have used."""
        profile, plan = self._roster.members.get(device), self._plans.devices.get(device)
        if profile is None or plan is None:
            return None
        return sum(profile.label_counts), sum(plan.synthetic_counts) or plan.unlabelled

    def _on_the_server(self, number: int) -> None:
        """A round in which only the server trains; it lasts as long as this training."""
        self._context.inbox.check_cancelled()
        self._context.notify(RoundStarted(round=number, devices=()))
        aggregate = self._server.aggregate(number, self.model, (), ())
        server = aggregate.server
        duration_s = server.seconds if server else 0.0
        self._finish(_Ended(number=number, duration_s=duration_s, aggregate=aggregate))
        if server and server.error:  # nobody else trains: the next round would end as this one
            raise FederationError(f"round {number}: {server.error}")

    def _finish(self, ended: _Ended) -> None:
        """Evaluate the new global model and store the round, with all that belongs to it."""
        result = self._judged(ended)
        self._plans.sizes.learn(result)
        self._plans.fleet_time_s += result.duration_s
        whole = self._whole(ended)
        residuals = self._adaptation.learn(result, whole) if self._adaptation else ()
        if self._learning is not None and self._plans.use == 1.0:
            self._learning.learn(result)
        with self._context.watch.stage("store"):
            self._store(ended, result, residuals)
        self.credit_earlier()
        last = self.results[-KEPT_MOST:]
        if len(last) == KEPT_MOST and all(each.model_kept is not None for each in last):
            raise FederationError(
                f"{in_words(KEPT_MOST)} in a row gave no usable model; of round {result.number}: "
                f"{result.model_kept}. The model is that of round {result.number - KEPT_MOST}",
                code="R010",
            )

    def _judged(self, ended: _Ended) -> RoundResult:
        """The result of a round with its new model, or with the one before where that is unusable.

        From here on the global model is the one of the result.
        """
        before, self.model = self.model, ended.aggregate.model
        devices, late = ended.devices, ended.late
        with self._context.watch.stage("evaluate"):
            kept = None if is_finite(self.model) else "the model that came of it is not finite"
            if kept is None:
                evaluation, validation = self._evaluated()
                judged = [evaluation, *([] if validation is None else [validation])]
                if any(each.loss is None for each in judged):
                    kept = "the loss of the model that came of it is not finite"
            if kept is not None:
                self.model = before
                evaluation, validation = self._evaluated()
                devices = _with_shares(devices, {})
                late = tuple(replace(each, share=None) for each in late)
        payload = ended.payload
        coded = payload is not None and not payload.of_update.is_plain
        return RoundResult(
            number=ended.number,
            start_s=self._plans.fleet_time_s,
            duration_s=ended.duration_s,
            evaluation=evaluation,
            validation=validation,
            devices=devices,
            server=ended.aggregate.server,
            model_kept=kept,
            late=late,
            model_coded=payload.coded if payload is not None else None,
            planned_update_bytes=self._plans.update_bytes if coded else None,
        )

    def _whole(self, ended: _Ended) -> dict[str, DevicePlan]:
        """Plans of those of whom a whole round was measured: predictions are compared with it."""
        plans = ended.plans
        apart = {e.device for e in ended.devices if e.status == "failed"}  # a part of a round
        if ended.current is not None:
            apart |= ended.current.restarted
        if self._begun_before or self.paused_s:
            # real devices have sent twice, or waited: emulated ones have not
            members, self._begun_before, self.paused_s = self._roster.members, False, 0.0
            apart |= {d for d in plans if members[d].hardware.kind == "physical"}
        if self.results:  # who had just come has idled for longer than a round
            here = {e.device for e in self.results[-1].devices if e.status != "absent"}
            apart |= set(plans) - here
        return {device: plan for device, plan in plans.items() if device not in apart}

    def _store(self, ended: _Ended, result: RoundResult, residuals: tuple[Residual, ...]) -> None:
        """Write the round, the state after it and what it takes in; then say so."""
        context, store = self._context, self._context.store
        self._digest = self._keeper.propose(self.model)
        for device, fact in ended.current.facts if ended.current is not None else ():
            if not (isinstance(fact, UpdateReady) and device in ended.awaited):
                context.conversation.stored(device, fact)  # told only once it is true
        with store.together():
            for part in ended.held:
                store.write_checkpoint(part)
            store.write_round(
                result,
                residuals,
                checkpoint=checkpoint.of_rounds(self._part(result.number, self._digest)),
                drop=ended.drop,
                stages_wall_s=context.watch.seconds,
            )
            for device, fact in ended.current.facts if ended.current is not None else ():
                if not isinstance(fact, UpdateReady):
                    store.write_readings(fact.round, device, fact.readings)
            if ended.insight is not None:
                store.write_insight(ended.insight)
            store.then(lambda: self._accept(result))
            if result.model_kept is not None:
                context.notify(ModelKept(round=result.number, reason=result.model_kept))
            self._screening.stored(result)
            context.notify(RoundFinished(result=result))
            for each in result.late:
                context.notify(
                    LateAdded(
                        round=result.number,
                        device=each.device,
                        of_round=each.of_round,
                        weight=each.weight,
                    )
                )

    def _evaluated(self) -> tuple[Evaluation, Evaluation | None]:
        """The global model on both parts of the data."""
        return self._judge(self._test), (
            None if self._validation is None else self._judge(self._validation)
        )

    def _planned_error(self, number: int, entry: DeviceRound) -> float | None:
        """What is said of a device's error; nothing where it trains on a part of its images."""
        if self._learning is None or self._plans.use < 1.0:
            return None
        return self._learning.planned(number, entry)

    def _judge(self, data: Dataset) -> Evaluation:
        """How good the global model is on a part of the data."""
        return self._trainer.evaluate(self.model, data.images, data.labels)

    def credit_earlier(self) -> None:
        """Credit what came of stored rounds when nobody could deal with it.

        That is before they were stored, from devices that they did not wait for, and while the
        fleet of a run that goes on was gathered.
        """
        earlier: list[tuple[str, RoundFact]] = self._context.conversation.open(
            UpdateReady, RoundReport, RoundSettled
        )
        for _, fact in earlier:
            self.late(fact)

    def _accept(self, result: RoundResult) -> None:
        """The round is stored."""
        self._keeper.accept()
        self.results.append(result)

    def _part(self, number: int, digest: str) -> RoundPart:
        return RoundPart(
            number=number,
            fleet_time_s=self._plans.fleet_time_s,
            model=digest,
            adaptation=self._adaptation.state if self._adaptation else None,
            learning=self._learning.state if self._learning else None,
            heard=self._context.conversation.heard(),
        )

    def checkpoint(self, later_s: float = 0.0) -> dict[str, bytes]:
        """The state between two rounds, for the run store.

        Args:
            later_s: seconds by which the fleet's clock is about to be moved on.
        """
        part = self._part(self._stored, self._digest)
        moved = replace(part, fleet_time_s=part.fleet_time_s + later_s)
        return checkpoint.of_rounds(moved)

    def _look(self, number: int, before: Model, updates: Updates) -> Insight:
        """Compute the insight of a round.

        Raises:
            Cancelled: the run was asked to stop. The round is not stored then: the updates are
                gone afterwards, and a run that goes on repeats the round with its insight.
        """
        try:
            return self._observer.look(number, before, updates, self._samples)
        except TrainingCancelled as error:
            raise Cancelled from error

    def _present(self, number: int) -> dict[str, DevicePlan]:
        """Devices whose plan is in force; waits for their return if they are too few."""
        settings, ready = self._settings.rounds, self._plans.ready
        excluded = self._context.in_force.excluded.keys()

        def here() -> int:
            return len(self.there)

        if not self._context.inbox.wait(
            lambda: here() >= settings.min_devices, settings.gather_timeout_s
        ):
            raise FederationError(
                f"round {number}: {here()} devices are there with a plan in force"
                f"{left_out(self._screening.set_aside, excluded)}, rounds.min_devices asks for "
                f"{settings.min_devices}; the {number - 1} finished rounds are stored",
                code="R008",
            )
        return ready()

    def _wall_timeout_s(self, participants: dict[str, DevicePlan]) -> float:
        """How long to wait: for physical devices until the deadline, else the configured limit."""
        if self._are_real(participants):
            return self._context.deadline_s + DEADLINE_GRACE_S
        return self._settings.rounds.wall_timeout_s

    def _are_real(self, participants: dict[str, DevicePlan]) -> bool:
        """Whether all of these are physical devices."""
        members = self._roster.members
        return {members[device].hardware.kind for device in participants} == {"physical"}


def _with_shares(
    devices: tuple[DeviceRound, ...], shares: Mapping[str, float]
) -> tuple[DeviceRound, ...]:
    """Entries with each device's share of the mean model; others have none."""
    return tuple(replace(entry, share=shares.get(entry.device)) for entry in devices)


def in_words(rounds: int) -> str:
    """A number of rounds as text."""
    return f"{rounds} round{'' if rounds == 1 else 's'}"

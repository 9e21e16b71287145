"""Runs the rounds one after another, from the draw to the entry in the store.

A round's updates are averaged, or mixed with the server's model; late ones of earlier rounds with
them, where that is asked for. The result is evaluated, stored, and compared with the predictions.

* :class:`TrainingRounds`  does that, and knows what came of it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from msgspec.structs import replace

from fimi.coordinator import fruitless
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.checkpoint import HeldUpdate
from fimi.coordinator.combining import Combining
from fimi.coordinator.context import Context, FederationError
from fimi.coordinator.crediting import Crediting
from fimi.coordinator.dealt import Samples
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.enrolment import Roster
from fimi.coordinator.global_model import GlobalModel, ModelKeeper
from fimi.coordinator.inbox import Cancelled
from fimi.coordinator.insight import Observer
from fimi.coordinator.late_updates import LateUpdates
from fimi.coordinator.learning_adaptation import LearningAdaptation
from fimi.coordinator.local_errors import LocalErrors
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.round_book import EndedRound, RoundBook
from fimi.coordinator.round_opening import RoundOpening
from fimi.coordinator.round_order import RoundOutcome
from fimi.coordinator.rounds import Round, RoundFact
from fimi.coordinator.screening import Screening
from fimi.coordinator.server_training import Server
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.data.dataset import Dataset
from fimi.learning.training import memory, tensors
from fimi.learning.training.aggregation import Model
from fimi.learning.training.trainer import Trainer, TrainingCancelled
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import DevicePlan
from fimi.messaging.transfers import stream
from fimi.record.events import RoundStarted
from fimi.record.insight import Insight
from fimi.record.results import DeviceRound, RoundResult


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
        self._errors = LocalErrors(trainer, validation, seed=context.settings.run.seed)
        self._server = server
        self._observer = observer
        self._samples = samples
        self._spool = spool
        self._begun_before = bool(results)  # the next round, by a coordinator that is gone
        self.paused_s = 0.0
        """Wall time for which the run has paused since the last round, s."""
        self._model = GlobalModel(model, trainer, test, validation)
        self._screening = Screening(context.settings.rounds, context.notify, results)
        self._opening = RoundOpening(context, roster, plans, adaptation, self._screening)
        self._book = RoundBook(
            context, plans, adaptation, learning, self._screening, self._model, keeper, results
        )
        self._late = LateUpdates(context, lambda: self.model, self._most_samples, held)
        self._crediting = Crediting(context, self._book, self._late)
        self._combining = Combining(
            context.settings.rounds, spool, self._screening, self._late, server
        )

    @property
    def model(self) -> Model:
        """The global model after the last finished round."""
        return self._model.current

    @property
    def results(self) -> list[RoundResult]:
        """Finished rounds."""
        return self._book.results

    @property
    def aside(self) -> frozenset[str]:
        """Devices that rest in every round: set aside for their updates, or excluded."""
        return self._opening.aside

    @property
    def there(self) -> frozenset[str]:
        """Devices that the next round can be with: their plan is in force."""
        return self._opening.there

    def close(self) -> None:
        """End the transfers of late updates."""
        self._late.close(over=self._book.last >= self._settings.rounds.count)

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
        return self._crediting.late(fact)

    def credit_earlier(self) -> None:
        """Credit what came of stored rounds when nobody could deal with it."""
        self._crediting.earlier()

    def checkpoint(self, later_s: float = 0.0) -> dict[str, bytes]:
        """The state between two rounds, for the run store.

        Args:
            later_s: seconds by which the fleet's clock is about to be moved on.
        """
        return self._book.checkpoint(later_s)

    def require_an_update(self) -> None:
        """Make sure that the model was trained.

        Raises:
            FederationError: no update was accepted in any round, or no round gave a usable model.
        """
        fruitless.require_an_update(self.results)

    def _with_devices(self, number: int, graphs: Offer | None) -> None:
        """A round in which devices train."""
        context, before = self._context, self.model
        plans, present = self._opening.drawn(number)
        context.notify(RoundStarted(round=number, devices=tuple(plans)))
        payload = RoundPayload(before, self._settings.transfer)
        self._late.sent(number, payload)
        offer = context.peer.transfers.serve(
            payload.data, media="safetensors", shared=stream.is_for(len(plans))
        )
        order = self._opening.order(number, plans, present, graphs, self.paused_s)
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
            EndedRound(
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
        self._finish(EndedRound(number=number, duration_s=duration_s, aggregate=aggregate))
        if server and server.error:  # nobody else trains: the next round would end as this one
            raise FederationError(f"round {number}: {server.error}")

    def _finish(self, ended: EndedRound) -> None:
        """Evaluate the new global model and store the round, with all that belongs to it."""
        result = self._judged(ended)
        self._plans.sizes.learn(result)
        self._plans.fleet_time_s += result.duration_s
        whole = self._whole(ended)
        residuals = self._adaptation.learn(result, whole) if self._adaptation else ()
        if self._learning is not None and self._plans.use == 1.0:
            self._learning.learn(result)
        with self._context.watch.stage("store"):
            self._book.enter(ended, result, residuals)
        self.credit_earlier()
        fruitless.require_a_new_model(self.results)

    def _judged(self, ended: EndedRound) -> RoundResult:
        """The result of a round with its new model, or with the one before where that is unusable.

        From here on the global model is the one of the result.
        """
        devices, late = ended.devices, ended.late
        with self._context.watch.stage("evaluate"):
            judgement = self._model.take(ended.aggregate.model)
        if judgement.kept is not None:
            devices = _with_shares(devices, {})
            late = tuple(replace(each, share=None) for each in late)
        payload = ended.payload
        coded = payload is not None and not payload.of_update.is_plain
        return RoundResult(
            number=ended.number,
            start_s=self._plans.fleet_time_s,
            duration_s=ended.duration_s,
            evaluation=judgement.evaluation,
            validation=judgement.validation,
            devices=devices,
            server=ended.aggregate.server,
            model_kept=judgement.kept,
            late=late,
            model_coded=payload.coded if payload is not None else None,
            planned_update_bytes=self._plans.update_bytes if coded else None,
        )

    def _whole(self, ended: EndedRound) -> dict[str, DevicePlan]:
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

    def _planned_error(self, number: int, entry: DeviceRound) -> float | None:
        """What is said of a device's error; nothing where it trains on a part of its images."""
        if self._learning is None or self._plans.use < 1.0:
            return None
        return self._learning.planned(number, entry)

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


def _with_shares(
    devices: tuple[DeviceRound, ...], shares: Mapping[str, float]
) -> tuple[DeviceRound, ...]:
    """Entries with each device's share of the mean model; others have none."""
    return tuple(replace(entry, share=shares.get(entry.device)) for entry in devices)

"""The whole run, from the first profile to the result.

Gather the fleet, plan, have the generator node fill what each device lacks, put the plans into
force, run the rounds, say goodbye. What happens goes to the listeners as it happens; what is
finished is in the result, however the run ends. Every transition is stored before anybody is told,
so that another coordinator can go on from it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fimi.coordinator import checkpoint, learning_adaptation, planning
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.checkpoint import ControlPart, InterimPart, PlanPart, RoundPart, RunPart
from fimi.coordinator.context import Context, Stopwatch
from fimi.coordinator.context import FederationError as FederationError
from fimi.coordinator.controls import Controls
from fimi.coordinator.conversation import Conversation
from fimi.coordinator.data_replanning import DataReplanning
from fimi.coordinator.dealt import DealtData
from fimi.coordinator.deployment import Deployments, Export
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.enrolment import Roster, Terms
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.gathering import gather
from fimi.coordinator.global_model import ForgetfulKeeper, ModelKeeper
from fimi.coordinator.host import RunHost
from fimi.coordinator.inbox import Cancelled, Inbox
from fimi.coordinator.insight import Observer
from fimi.coordinator.interventions import Interventions, StoppedAsAsked
from fimi.coordinator.learning_adaptation import LearningAdaptation
from fimi.coordinator.newcomers import Newcomers
from fimi.coordinator.outcome import Federation, UnfinishedRun
from fimi.coordinator.patience import BrokerClock
from fimi.coordinator.payloads import PayloadSizes
from fimi.coordinator.registry import Registry
from fimi.coordinator.replanning import Replanning
from fimi.coordinator.server_training import Server
from fimi.coordinator.settings import FederationSettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.coordinator.synthesis import Synthesis, parts
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.coordinator.update_store import UpdateStore, clear_leftovers
from fimi.energy.work_meter import Metered
from fimi.learning.data.batches import packed_bytes
from fimi.learning.data.dataset import Dataset
from fimi.learning.onnx.graphs import MEDIA
from fimi.learning.training import tensors
from fimi.learning.training.aggregation import Model
from fimi.learning.training.trainer import Trainer
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import PlanApplied
from fimi.messaging.messages.orders import DeploymentClosed, RunEnded
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.messaging.topics import COORDINATOR, EVERYBODY
from fimi.messaging.transfers import stream
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import Plan
from fimi.plural import plural
from fimi.record.events import (
    Event,
    Listener,
    Planned,
    RunFinished,
    SearchProgress,
)
from fimi.record.results import RunStatus
from fimi.record.store import RunStore


class Coordinator:
    """Runs one federation, or goes on with it.

    Args:
        run: name of the run.
        settings: settings of the run.
        peer: connected, with the peer id ``coordinator``.
        trainer: evaluates the global model.
        model: parameters to start from, or those after the last stored round.
        test: held-out data.
        terms: what devices are invited with.
        store: keeps everything; stays open.
        curve: learning curve of the run; needed only by strategies that plan data.
        resume: what an earlier coordinator of the run has left; ``None`` for a new run.
        instance: random id of the run; that of ``resume`` if there is one, and drawn if left out.
        listener: called with every event, in order, on the coordinator's thread.
        keeper: keeps the global model after every round.
        cancel: set from outside to end the run.
        graphs: makes training and evaluation as ONNX graphs, offered to every device; empty for
            none. Called once, on a thread of its own while the generator node draws.
        export: makes files of the trained model; ``None`` for none.
        public: samples for the IID reference; ``None`` for none.
        validation: public samples that nobody trains on, for judging models beside the test set;
            ``None`` for none.
        meter: of this machine, for what the server trains; seconds only if left out.
        watch: knows what was done before.
        controls: what people ask of the run while it goes on; ``None``: nobody can reach it.
    """

    def __init__(
        self,
        run: str,
        settings: FederationSettings,
        peer: Peer,
        trainer: Trainer,
        model: Model,
        test: Dataset,
        terms: Terms,
        *,
        store: RunStore,
        curve: LearningCurve | None = None,
        resume: UnfinishedRun | None = None,
        instance: str = "",
        listener: Listener = lambda event: None,
        keeper: ModelKeeper | None = None,
        cancel: threading.Event | None = None,
        graphs: Callable[[], bytes] = bytes,
        export: Export | None = None,
        public: Dataset | None = None,
        validation: Dataset | None = None,
        meter: Metered | None = None,
        watch: Stopwatch | None = None,
        controls: Controls | None = None,
    ) -> None:
        self._settings = settings
        self._model_bytes = len(tensors.dump(model))
        self._sizes = PayloadSizes.of(model, settings.transfer)
        if resume is not None and resume.results:
            self._sizes.learn(resume.results[-1])
        self._test = test
        self._validation = validation
        self._listener = listener
        self._store = store
        self._resume = resume
        cancel = cancel or threading.Event()
        found = resume.checkpoint if resume is not None else None
        drawn = instance or secrets.token_hex(8)
        instance = found.run.instance if found is not None else drawn
        epoch = max(peer.epoch, found.run.epoch + 1 if found is not None else 1)
        clock = BrokerClock()
        registry = Registry(settings.rounds.grace_s, clock)
        conversation = Conversation(
            run,
            instance,
            epoch,
            lambda device, desired: peer.publish_state(device, "desired", desired),
            time.monotonic,
            found.rounds.heard if found is not None else None,
            lambda epoch: store.write_checkpoint(
                checkpoint.of_run(RunPart(instance=instance, epoch=epoch))
            ),
        )
        self._context = context = Context(
            run=run,
            instance=instance,
            settings=settings,
            strategy=STRATEGIES[settings.run.strategy],
            peer=peer,
            registry=registry,
            conversation=conversation,
            inbox=Inbox(peer, registry, conversation, self._notify, cancel, clock),
            store=store,
            notify=self._notify,
            watch=watch or Stopwatch(),
        )
        self._server = Server(
            context.strategy,
            settings,
            trainer,
            meter=meter,
            validation=validation,
            cancelled=cancel.is_set,
        )
        clear_leftovers(store.path.parent)
        self._observer = Observer(
            trainer,
            test,
            public,
            settings.training,
            seed=settings.run.seed,
            spool=UpdateStore(store.path.parent),
            cancelled=cancel.is_set,
        )
        self._terms, self._cancelled = terms, cancel.is_set
        self._dealt = UpdateStore(store.path.parent)
        self._trainer = trainer
        self._model = model
        self._keeper = keeper or ForgetfulKeeper()
        self._spool = UpdateStore(store.path.parent)
        self._roster = Roster(context, terms, found.devices if found is not None else {})
        self._synthesis = Synthesis(
            context,
            terms.contract,
            found.batches if found is not None else {},
            found.requests if found is not None else {},
        )
        self._planner = FleetPlanner(
            settings,
            self._sizes,
            self._searched,
            sample_bytes=packed_bytes(test.image_shape),
            curve=curve,
        )
        self._interventions = Interventions(
            context,
            self._planner,
            controls,
            found.controls if found is not None else ControlPart(),
            found.rounds.number if found is not None else 0,
        )
        self._interim = found.interim.number if found is not None else 0
        done = tuple(d for d in resume.deployments if d.round != self._interim) if resume else ()
        self._deployments = Deployments(context, export, done) if export is not None else None
        self._host = RunHost(conversation, self._roster, self._synthesis, self._deployments)
        self._graphs = graphs
        self._graphs_offer: Offer | None = None
        self._steps = 0  # of planning
        # What there is only once the run has come so far:
        self._plan: Plan | None = None
        self._replanning: Replanning | None = None
        self._data_replanning: DataReplanning | None = None

    def run(self) -> Federation:
        """Run the federation to its end, or to wherever it is cancelled.

        Raises:
            FederationError: no devices, no generator node, or too few devices to go on.
            fimi.optim.problem.InfeasibleError: no plan meets the limits.
        """
        status: RunStatus = "failed"
        reason = "stopped by an error"
        context = self._context
        context.inbox.tell(self._host)
        try:
            with context.store.together():
                context.store.write_checkpoint(
                    checkpoint.of_run(
                        RunPart(instance=context.instance, epoch=context.conversation.epoch)
                    )
                )
                if self._interim:
                    context.store.drop_deployment(
                        self._interim, checkpoint=checkpoint.of_interim(InterimPart())
                    )
            plans, rounds = self._prepare()
            self._train(plans, rounds)
            status, reason = "completed", self._done
        except Cancelled as stopped:
            status, reason = "interrupted", f"stopped after {self._done}"
            if isinstance(stopped, StoppedAsAsked):
                reason = f"{reason}, {stopped}"
            if self._deployments and self._host.rounds and self._host.rounds.results:
                number = self._host.rounds.results[-1].number
                interim = checkpoint.of_interim(InterimPart(number=number))
                self._deployments.make(
                    number, self._host.rounds.model, checkpoint=lambda seconds: interim
                )
        except KeyboardInterrupt:
            status, reason = "interrupted", f"broken off after {self._done}"
            raise
        except Exception as error:
            reason = str(error)
            raise
        finally:
            if self._host.rounds is not None:
                self._host.rounds.close()
            self._spool.close()
            self._dealt.close()
            self._interventions.close(f"{status}, {reason}")
            self._store.spend(stages_wall_s=context.watch.seconds)
            self._say_goodbye(status, reason)
            self._notify(RunFinished(status=status, reason=reason))
        return self.result(status, reason)

    def result(self, status: RunStatus, reason: str) -> Federation:
        """What there is so far."""
        plans, rounds = self._host.plans, self._host.rounds
        return Federation(
            status=status,
            reason=reason,
            profiles=self._roster.members,
            plan=self._plan,
            device_plans=plans.devices if plans else {},
            rounds=tuple(rounds.results) if rounds else (),
            model=rounds.model if rounds else self._model,
            deployments=tuple(self._deployments.done) if self._deployments else (),
            not_deployed=self._deployments.problem if self._deployments else "",
        )

    @property
    def _done(self) -> str:
        """The finished rounds in words."""
        results = self._resume.results if self._resume is not None else ()
        if self._host.rounds is not None:
            results = tuple(self._host.rounds.results)
        kept = sum(each.model_kept is not None for each in results)
        return plural(len(results), "round") + (
            f", {kept} of them without a new model" if kept else ""
        )

    def _say_goodbye(self, status: RunStatus, reason: str) -> None:
        """The run is over for now. A node keeps the batches of a run that may go on."""
        context = self._context
        ended = RunEnded(run=context.run, instance=context.instance, reason=reason)
        self._roster.close()
        if self._graphs_offer is not None:
            context.peer.transfers.withdraw(self._graphs_offer.digest)
        for device in context.conversation.devices:
            if device not in self._roster.refused:
                context.conversation.order(device, ended)
        if status == "completed":
            context.peer.send(EVERYBODY, ended)

    def _prepare(self) -> tuple[DevicePlans, TrainingRounds]:
        """Everything before the first round: fleet, plan, synthetic batches, plans in force."""
        context, watch = self._context, self._context.watch
        found = self._resume.checkpoint if self._resume is not None else None
        with watch.stage("gather"):
            gather(
                context,
                self._roster,
                self._listener,
                quorum=self._quorum,
                going_on=found is not None and found.plan is not None,
            )
        with watch.stage("plan"):
            part = found.plan if found is not None else None
            if part is None:
                part = self._make_plan()
            self._plan = self._planner.first = plan = part.plan
        with ThreadPoolExecutor(1, thread_name_prefix="graphs") as beside:
            export = beside.submit(self._graphs)
            with watch.stage("synthesis"):
                batches = self._synthesise(plan, part.server_counts)
            with watch.stage("graphs"):
                graphs = export.result()
        if graphs:
            many = stream.is_for(context.settings.fleet.devices)
            self._graphs_offer = context.peer.transfers.serve(graphs, media=MEDIA, shared=many)
        plans = DevicePlans(context, self._roster, self._sizes, part)
        self._host.plans = plans
        self._observer.training = plans.training
        for device, reply in context.conversation.open(PlanApplied):
            plans.record(reply)  # it came while the fleet was gathered
            context.conversation.stored(device, reply)
        adaptation = None
        after = found.rounds if found is not None else RoundPart()
        if after.number:
            plans.fleet_time_s = after.fleet_time_s
        if plan is not None:
            adaptation = Adaptation(
                self._settings.plan,
                self._roster.members,
                training=plans.training,
                model_bits=8.0 * self._model_bytes,
                state=after.adaptation,
            )
            with watch.stage("announce"):
                self._synthesis.offer_again(batches)
                plans.put(plan, batches, self._quorum)
                self._roster.used_since(plans.devices, 1)
        learning = self._learning(plan, after)
        self._host.rounds = rounds = TrainingRounds(
            context,
            self._roster,
            plans,
            adaptation,
            learning,
            self._trainer,
            self._test,
            self._validation,
            self._server,
            self._observer,
            DealtData(
                context,
                self._terms,
                self._roster,
                plans,
                self._trainer,
                self._dealt,
                self._cancelled,
            ),
            self._spool,
            self._model,
            self._keeper,
            self._resume.results if self._resume is not None else (),
            found.late if found is not None else (),
        )
        if adaptation is not None:
            self._replanning = Replanning(context, self._planner, plans, rounds, adaptation)
            self._data_replanning = DataReplanning(
                context, self._planner, plans, rounds, adaptation, learning, self._synthesis
            )
            self._host.newcomers = Newcomers(
                context, self._roster, plans, adaptation, self._planner, self._synthesis
            )
        self._interventions.begin(plans, rounds, self._replanning)
        rounds.credit_earlier()
        return plans, rounds

    def _learning(self, plan: Plan | None, after: RoundPart) -> LearningAdaptation | None:
        """What is known of learning; ``None`` where the plan says nothing of it."""
        if not (plan is not None and self._context.strategy.fills_devices):
            return None
        state, settings = after.learning, self._settings
        if state is not None:
            self._planner.plan_by(state.curve, state.rounds)
        elif plan.error and (curve := self._planner.curve) is not None:
            model = planning.rounds_model(settings)
            model = model.at(plan.epochs or model.epochs)
            state = learning_adaptation.begin(curve, model, plan.error, self._test.classes)
        return None if state is None else LearningAdaptation(settings.plan, state)

    def _make_plan(self) -> PlanPart:
        if (planning := self._planner.planned_for(len(self._roster.members))) is not None:
            self._notify(planning)
        made = self._planner.plan(self._roster.members)
        use = self._settings.plan.use_in(1) if self._context.strategy.fills_devices else 1.0
        part = PlanPart(plan=made.plan, server_counts=made.server_counts, synthetic_use=use)
        with self._store.together():
            if made.plan is not None:
                self._store.write_plan(made.plan)
                synthetic = sum(sum(device.synthetic_counts) for device in made.plan.devices)
                self._notify(Planned(plan=made.plan, synthetic_samples=synthetic))
            self._store.write_checkpoint(checkpoint.of_plan(part))
        return part

    def _synthesise(
        self, plan: Plan | None, server_counts: tuple[int, ...]
    ) -> dict[str, SyntheticBatch]:
        """What the generator node makes for the devices; the server's own images are fetched."""
        context = self._context
        wanted = {share.device: share.synthetic_counts for share in plan.devices} if plan else {}
        own_parts = parts(server_counts, self._settings.generator.images_max)
        if own_parts:
            wanted[COORDINATOR] = own_parts[0].counts
        batches = self._synthesis.of(wanted, unlabelled=context.strategy.unlabelled)
        if (own := batches.pop(COORDINATOR, None)) is not None:
            self._server.receive(own, context.peer, self._test.image_shape)
        for part in own_parts[1:]:
            more = self._synthesis.of({COORDINATOR: part.counts}, skip={COORDINATOR: part.skip})
            self._server.receive(more[COORDINATOR], context.peer, self._test.image_shape)
        return batches

    def _train(self, plans: DevicePlans, rounds: TrainingRounds) -> None:
        """All rounds, and what becomes of the model."""
        last = self._settings.rounds.count
        after = rounds.results[-1].number if rounds.results else 0
        if after < last:
            self._follow_up(after, plans, rounds)  # as far as it was not done before
        for number in range(after + 1, last + 1):
            self._interventions.expect(number)
            rounds.run(number, self._graphs_offer)
            if number < last:
                self._follow_up(number, plans, rounds)
        rounds.require_an_update()
        with self._context.watch.stage("deploy"):
            self._deploy(last, plans, rounds, at_end=True)

    def _follow_up(self, number: int, plans: DevicePlans, rounds: TrainingRounds) -> None:
        """What is due between two rounds, and what people ask for; 0: before the first."""
        watch = self._context.watch
        if number:
            with watch.stage("deploy"):
                self._deploy(number, plans, rounds)
        self._plan = self._interventions.between(number, self._plan)
        if not number:
            return
        with watch.stage("adapt"):
            if self._plan is not None and self._replanning and self._host.newcomers:
                assert self._data_replanning is not None
                self._plan = self._replanning.follow(number, self._plan)
                self._plan = self._host.newcomers.admit(self._plan, number + 1, rounds.results)
                self._plan = self._data_replanning.follow(number, self._plan)

    @property
    def _quorum(self) -> int:
        """Devices with which a run may start."""
        return self._settings.rounds.quorum or self._settings.fleet.devices // 2 + 1

    def _deploy(
        self, number: int, plans: DevicePlans, rounds: TrainingRounds, *, at_end: bool = False
    ) -> None:
        """Export the global model where it is due, and have it tried; no round is charged."""
        if self._deployments is None or not (at_end or self._deployments.is_due(number)):
            return
        context = self._context
        devices = [d for d in self._roster.members if context.registry.is_expected(d)]
        plans.fleet_time_s += self._deployments.make(
            number, rounds.model, devices, rounds.checkpoint
        )
        if not at_end:
            for device in devices:
                context.conversation.order(
                    device,
                    DeploymentClosed(
                        run=context.run,
                        device=device,
                        round=number,
                        fleet_time_s=plans.fleet_time_s,
                    ),
                )

    def _searched(self) -> None:
        """The planner has come a step further; stop it if the run is to stop."""
        self._context.inbox.check_cancelled()
        self._steps += 1
        self._notify(SearchProgress(step=self._steps))

    def _notify(self, event: Event) -> None:
        self._store.write_event(event)
        self._store.then(lambda: self._listener(event))

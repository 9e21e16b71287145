"""The whole run, from the first profile to the result.

Gather the fleet, plan, have the generator node fill what each device lacks, put the plans into
force, run the rounds, say goodbye. What happens goes to the listeners as it happens; what is
finished is in the result, however the run ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.context import Context, Stopwatch
from fimi.coordinator.context import FederationError as FederationError
from fimi.coordinator.deployment import Deployments, Export
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.inbox import Cancelled, Inbox
from fimi.coordinator.insight import Observer
from fimi.coordinator.registry import Registry
from fimi.coordinator.server_training import Server
from fimi.coordinator.settings import FederationSettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.coordinator.synthesis import Synthesis, parts
from fimi.coordinator.training_rounds import Model, TrainingRounds, in_words
from fimi.coordinator.update_store import UpdateStore
from fimi.energy.work_meter import Metered
from fimi.learning.data.dataset import Dataset
from fimi.learning.onnx.graphs import MEDIA
from fimi.learning.training import tensors
from fimi.learning.training.trainer import Trainer
from fimi.messaging.client import Peer
from fimi.messaging.messages import (
    DeploymentClosed,
    DevicePlan,
    Offer,
    Profile,
    RunEnded,
    SyntheticBatch,
)
from fimi.messaging.topics import COORDINATOR, EVERYBODY, missing
from fimi.optim.planner import Plan
from fimi.optim.problem import InfeasibleError
from fimi.record.clean import enumerated
from fimi.record.events import (
    Event,
    Gathering,
    Listener,
    Planned,
    Refitted,
    RunFinished,
    SearchProgress,
)
from fimi.record.results import Deployment, RoundResult, RunStatus
from fimi.record.store import RunStore

_GATHERING_S = 0.5
"""Between two events that say who is missing."""


class Federation(Struct, frozen=True, kw_only=True):
    """What a run leaves behind.

    Attributes:
        status: how it ended.
        reason: why, in one sentence.
        profiles: of the devices that were planned for.
        plan: of the fleet; ``None`` if none was made.
        device_plans: the last plan sent to each device.
        rounds: finished rounds.
        model: the global model after the last finished round.
        deployments: what was exported, and how devices ran it.
        not_deployed: why the last export gave no file; empty if it did.
    """

    status: RunStatus
    reason: str
    profiles: dict[str, Profile]
    plan: Plan | None
    device_plans: dict[str, DevicePlan]
    rounds: tuple[RoundResult, ...]
    model: Model
    deployments: tuple[Deployment, ...] = ()
    not_deployed: str = ""


class Coordinator:
    """Runs one federation.

    Args:
        run: run id, unique within the fleet.
        settings: settings of the run.
        peer: connected, with the peer id ``coordinator``.
        trainer: evaluates the global model.
        model: parameters to start from.
        test: held-out data.
        store: keeps everything; stays open.
        listener: called with every event, in order, on the coordinator's thread.
        on_model: called with the new global model after every round.
        cancel: set from outside to end the run.
        graphs: makes training and evaluation as ONNX graphs, offered to every device; empty for
            none. Called once, on a thread of its own while the generator node draws.
        export: makes files of the trained model; ``None`` for none.
        public: samples for judging models beside the test set; ``None`` for none.
        meter: of this machine, for what the server trains; seconds only if left out.
    """

    def __init__(
        self,
        run: str,
        settings: FederationSettings,
        peer: Peer,
        trainer: Trainer,
        model: Model,
        test: Dataset,
        *,
        store: RunStore,
        listener: Listener = lambda event: None,
        on_model: Callable[[Model], None] = lambda model: None,
        cancel: threading.Event | None = None,
        graphs: Callable[[], bytes] = bytes,
        export: Export | None = None,
        public: Dataset | None = None,
        meter: Metered | None = None,
    ) -> None:
        self._settings = settings
        self._model_bytes = len(tensors.dump(model))
        self._test = test
        self._listener = listener
        self._store = store
        cancel = cancel or threading.Event()
        registry = Registry()
        self._context = context = Context(
            run=run,
            settings=settings,
            strategy=STRATEGIES[settings.run.strategy],
            peer=peer,
            registry=registry,
            inbox=Inbox(peer, registry, self._notify, cancel),
            store=store,
            notify=self._notify,
            watch=Stopwatch(),
        )
        self._server = Server(
            context.strategy, settings, trainer, meter=meter, public=public, cancelled=cancel.is_set
        )
        self._observer = Observer(
            trainer,
            test,
            public,
            settings.training,
            seed=settings.run.seed,
            cancelled=cancel.is_set,
        )
        self._trainer = trainer
        self._model = model
        self._on_model = on_model
        self._spool = UpdateStore(store.path.parent)
        self._synthesis = Synthesis(context)
        self._planner = FleetPlanner(settings, self._model_bytes, self._searched)
        self._deployments = Deployments(context, export) if export is not None else None
        self._graphs = graphs
        self._graphs_offer: Offer | None = None
        # What there is only once the run has come so far:
        self._profiles: dict[str, Profile] = {}
        self._plan: Plan | None = None
        self._plans: DevicePlans | None = None
        self._rounds: TrainingRounds | None = None

    def run(self) -> Federation:
        """Run the federation to its end, or to wherever it is cancelled.

        Raises:
            FederationError: no devices, no generator node, or too few devices to go on.
            fimi.optim.problem.InfeasibleError: no plan meets the limits.
        """
        status: RunStatus = "failed"
        reason = "stopped by an error"
        try:
            plans, rounds = self._prepare()
            self._train(plans, rounds)
            status, reason = "completed", self._done
        except Cancelled:
            status, reason = "interrupted", f"stopped after {self._done}"
            if self._deployments and self._rounds and self._rounds.results:
                self._deployments.make(self._rounds.results[-1].number, self._rounds.model)
        except KeyboardInterrupt:
            status, reason = "interrupted", f"broken off after {self._done}"
            raise
        except Exception as error:
            reason = str(error)
            raise
        finally:
            self._spool.clear()
            self._store.spend(stages_wall_s=self._context.watch.seconds)
            if self._graphs_offer is not None:
                self._context.peer.transfers.withdraw(self._graphs_offer.digest)
            self._context.peer.send(EVERYBODY, RunEnded(run=self._context.run, reason=reason))
            self._notify(RunFinished(status=status, reason=reason))
        return self.result(status, reason)

    def result(self, status: RunStatus, reason: str) -> Federation:
        """What there is so far."""
        plans, rounds = self._plans, self._rounds
        return Federation(
            status=status,
            reason=reason,
            profiles=self._profiles,
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
        return in_words(len(self._rounds.results) if self._rounds else 0)

    def _prepare(self) -> tuple[DevicePlans, TrainingRounds]:
        """Everything before the first round: fleet, plan, synthetic batches, plans in force."""
        context, watch = self._context, self._context.watch
        with watch.stage("gather"):
            self._profiles = profiles = self._gather()
        with watch.stage("plan"):
            made = self._planner.plan(profiles)
            self._plan = plan = made.plan
            if plan is not None:
                self._store.write_plan(plan)
                synthetic = sum(sum(device.synthetic_counts) for device in plan.devices)
                self._notify(Planned(plan=plan, synthetic_samples=synthetic))
        with ThreadPoolExecutor(1, thread_name_prefix="graphs") as beside:
            export = beside.submit(self._graphs)
            with watch.stage("synthesis"):
                batches = self._synthesise(plan, made.server_counts)
            with watch.stage("graphs"):
                graphs = export.result()
        if graphs:
            self._graphs_offer = context.peer.transfers.serve(graphs, media=MEDIA)
        self._plans = plans = DevicePlans(context, profiles, self._model_bytes)
        adaptation = None
        if plan is not None:
            adaptation = Adaptation(
                self._settings.plan,
                profiles,
                training=self._settings.training,
                model_bits=8.0 * self._model_bytes,
            )
            with watch.stage("announce"):
                plans.put(plan, batches)
        self._rounds = rounds = TrainingRounds(
            context,
            profiles,
            plans,
            adaptation,
            self._trainer,
            self._test,
            self._server,
            self._observer,
            self._spool,
            self._model,
            self._on_model,
        )
        return plans, rounds

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
            more = self._synthesis.of({COORDINATOR: part.counts}, skip=part.skip)
            self._server.receive(more[COORDINATOR], context.peer, self._test.image_shape)
        return batches

    def _train(self, plans: DevicePlans, rounds: TrainingRounds) -> None:
        """All rounds, and what becomes of the model."""
        watch, last = self._context.watch, self._settings.rounds.count
        for number in range(1, last + 1):
            rounds.run(number, self._graphs_offer)
            if number < last:
                with watch.stage("deploy"):
                    self._deploy(number, plans, rounds)
                with watch.stage("adapt"):
                    self._adapt(number, plans, rounds.adaptation)
        rounds.require_an_update()
        with watch.stage("deploy"):
            self._deploy(last, plans, rounds, at_end=True)

    def _gather(self) -> dict[str, Profile]:
        """Wait for the fleet; device id to profile."""
        wanted, patience = self._settings.fleet.devices, self._settings.rounds.gather_timeout_s
        registry = self._context.registry
        limit_s, told = time.monotonic() + patience, 0.0

        def complete() -> bool:
            nonlocal told
            there, now_s = registry.devices, time.monotonic()
            if now_s - told > _GATHERING_S:
                told = now_s
                self._listener(  # not stored: it only says what has not happened yet
                    Gathering(
                        here=len(there),
                        wanted=wanted,
                        missing=missing(there, wanted),
                        left_s=max(0.0, limit_s - now_s),
                    )
                )
            return len(there) >= wanted

        if not self._context.inbox.wait(complete, patience):
            there = registry.devices
            names = missing(there, wanted)
            raise FederationError(
                f"{len(there)} of {wanted} devices came within {patience:g} s"
                f"{': ' + ', '.join(there) if there else ''}"
                f"{'; missing: ' + enumerated(names) if names else ''}; start the missing agents, "
                "ask for fewer devices, or raise rounds.gather_timeout_s"
            )
        profiles = {d: registry.profile(d) for d in registry.devices[:wanted]}
        for device, profile in profiles.items():
            self._store.write_profile(device, profile)
            if len(profile.label_counts) != self._test.classes:
                raise FederationError(
                    f"{device} counts {len(profile.label_counts)} classes ({profile.dataset}), the "
                    f"test set has {self._test.classes}; give every process the same data settings"
                )
        return profiles

    def _adapt(self, number: int, plans: DevicePlans, adaptation: Adaptation | None) -> None:
        """Where predictions have drifted: fit the boards again, and plan again for the same data.

        A fleet for which there is no plan any more keeps the one it has, with new predictions.
        """
        if adaptation is None or self._plan is None or not (drifts := adaptation.drifted()):
            return
        if self._context.strategy.unlabelled:
            return  # the prediction has every image kept: being off says nothing of the board
        self._store.write_refit(number, adaptation.refit(), drifts)
        profiles = adaptation.profiles(self._profiles)
        energy_j, reason = None, ""
        try:
            self._plan = self._planner.replan(profiles, plans.delivered, self._plan)
            energy_j = self._plan.energy_j
        except InfeasibleError as error:
            reason = f"the plan in force stays: {error}"
        self._store.write_plan(self._plan)
        self._notify(Refitted(round=number, drift_percent=drifts, energy_j=energy_j, reason=reason))
        plans.change(self._plan, profiles)

    def _deploy(
        self, number: int, plans: DevicePlans, rounds: TrainingRounds, *, at_end: bool = False
    ) -> None:
        """Export the global model where it is due, and have it tried; no round is charged."""
        if self._deployments is None or not (at_end or self._deployments.is_due(number)):
            return
        context = self._context
        devices = [d for d in sorted(self._profiles) if context.registry.is_online(d)]
        plans.fleet_time_s += self._deployments.make(number, rounds.model, devices)
        if not at_end:
            for device in devices:
                context.peer.send(
                    device,
                    DeploymentClosed(
                        run=context.run,
                        device=device,
                        round=number,
                        fleet_time_s=plans.fleet_time_s,
                    ),
                )

    def _searched(self, iteration: int, best_j: float) -> None:
        """A search has come so far; stop it if the run is to stop."""
        self._context.inbox.check_cancelled()
        self._notify(SearchProgress(iteration=iteration, best_j=best_j))

    def _notify(self, event: Event) -> None:
        self._store.write_event(event)
        self._listener(event)

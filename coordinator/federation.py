"""The whole run, from the first profile to the result.

Gather the fleet, plan, have the generator node fill what each device lacks, put the plans into
force, run the rounds, say goodbye. What happens goes to the listeners as it happens; what is
finished is in the result, however the run ends.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from coordinator import fixed_steps, participation, planning, strategy_plans
from coordinator.adaptation import Adaptation
from coordinator.deployment import Deployments, Export
from coordinator.errors import FederationError as FederationError
from coordinator.events import (
    Event,
    Listener,
    Planned,
    Refitted,
    RoundFinished,
    RoundStarted,
    RunFinished,
    SearchProgress,
)
from coordinator.inbox import Cancelled, Inbox
from coordinator.insight import Insight, Observer
from coordinator.registry import Registry
from coordinator.results import (
    Deployment,
    DeviceRound,
    Preparation,
    RoundResult,
    RunStatus,
    ServerRound,
)
from coordinator.rounds import Round, RoundOrder
from coordinator.server_training import Server, WorkMeter
from coordinator.settings import FederationSettings
from coordinator.spool import Spool, Updates
from coordinator.stopwatch import Stopwatch
from coordinator.store import RunStore
from coordinator.strategies import STRATEGIES
from coordinator.synthesis import Synthesis
from energy.cost_model import download_cost
from learning import tensors
from learning.datasets import Dataset
from learning.graphs import MEDIA
from learning.partition_summary import summarise
from learning.training import Trainer, TrainingCancelled
from messaging.client import Peer
from messaging.messages import (
    DeploymentClosed,
    DevicePlan,
    Offer,
    PlanApplied,
    Profile,
    RunEnded,
    SyntheticBatch,
)
from messaging.topics import COORDINATOR, EVERYBODY
from optim import quality
from optim.planner import Plan, SearchSettings
from optim.planner import plan as make_plan
from optim.problem import FimiProblem, InfeasibleError
from optim.unplanned import equal_shares

Model = dict[str, NDArray[np.float32]]

DEADLINE_GRACE_S = 5.0
"""Wall time beyond the deadline before a physical device's silence counts as missing, s."""


class Federation(Struct, frozen=True, kw_only=True):
    """What a run leaves behind.

    Attributes:
        settings: what was decided.
        status: how it ended.
        reason: why, in one sentence.
        profiles: of the devices that were planned for.
        plan: of the fleet; ``None`` if it never came to that.
        device_plans: what each device was told.
        preparations: what receiving the synthetic batches took.
        rounds: finished rounds.
        model: the global model after the last finished round.
        refits: rounds after which boards were fitted again.
        deployments: what was exported, and how devices ran it.
        insights: what the updates of some rounds say.
    """

    settings: FederationSettings
    status: RunStatus
    reason: str
    profiles: dict[str, Profile]
    plan: Plan | None
    device_plans: dict[str, DevicePlan]
    preparations: tuple[Preparation, ...]
    rounds: tuple[RoundResult, ...]
    model: Model
    refits: tuple[int, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    insights: tuple[Insight, ...] = ()


class Coordinator:
    """Runs one federation.

    Args:
        settings: what was decided.
        peer: connected, with the peer id ``coordinator``.
        trainer: evaluates the global model.
        model: parameters to start from.
        test: held-out data.
        store: keeps everything; stays open.
        listener: hears every event, in order, on the coordinator's thread.
        on_model: called with the new global model after every round.
        cancel: set from outside to end the run.
        graphs: training and evaluation as ONNX graphs, offered to every device; empty for none.
        export: makes files of the trained model; ``None`` for none.
        public: what models may be judged by besides the test set, if there is anything.
        meter: of this machine, for what the server trains; seconds only if left out.
    """

    def __init__(
        self,
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
        graphs: bytes = b"",
        export: Export | None = None,
        public: Dataset | None = None,
        meter: WorkMeter | None = None,
    ) -> None:
        self._settings = settings
        self._strategy = STRATEGIES[settings.strategy]
        self._peer = peer
        self._trainer = trainer
        self._model = model
        self._model_bytes = len(tensors.dump(model))
        self._test = test
        self._store = store
        self._listener = listener
        self._on_model = on_model
        self._registry = Registry()
        cancel = cancel or threading.Event()
        self._server = Server(
            self._strategy, settings, trainer, meter=meter, public=public, cancelled=cancel.is_set
        )
        self._server_counts: tuple[int, ...] = ()
        self._inbox = Inbox(
            peer,
            self._registry,
            self._notify,
            cancel,
            on_return=self._send_plan,
            on_plan_applied=self._record_preparation,
        )
        self._spool = Spool(store.path.parent)
        self._observer = Observer(
            trainer,
            test,
            public,
            settings.training,
            seed=settings.seed,
            cancelled=cancel.is_set,
        )
        self._insights: list[Insight] = []
        self._watch = Stopwatch()
        self._synthesis = Synthesis(settings, peer, self._inbox, self._registry, self._notify)
        self._profiles: dict[str, Profile] = {}
        self._plan: Plan | None = None
        self._device_plans: dict[str, DevicePlan] = {}
        self._preparations: list[Preparation] = []
        self._rounds: list[RoundResult] = []
        self._adaptation: Adaptation | None = None
        self._refits: list[int] = []
        self._fleet_time_s = 0.0
        self._graphs = graphs
        self._graphs_offer: Offer | None = None
        self._deployments: Deployments | None = None
        if export is not None:
            self._deployments = Deployments(
                settings.deployment,
                export,
                peer,
                self._registry,
                self._inbox,
                store,
                self._notify,
                run=settings.run,
                wall_timeout_s=settings.rounds.wall_timeout_s,
            )

    def run(self) -> Federation:
        """Run the federation to its end, or to wherever it is cancelled.

        Raises:
            FederationError: no devices, no generator node, or too few devices to go on.
            optim.problem.InfeasibleError: no plan meets the limits.
        """
        status: RunStatus = "failed"
        reason = "stopped by an error"
        try:
            with self._watch.stage("gather"):
                self._gather()
            if self._graphs:
                self._graphs_offer = self._peer.transfers.serve(self._graphs, media=MEDIA)
            with self._watch.stage("plan"):
                plan = self._make_plan()
            with self._watch.stage("synthesis"):
                batches = self._synthesis.of(
                    self._wanted(plan), unlabelled=self._strategy.unlabelled
                )
            if (own := batches.pop(COORDINATOR, None)) is not None:
                self._server.receive(own, self._peer, self._test.image_shape)
            if plan is not None:
                with self._watch.stage("announce"):
                    self._put_into_force(plan, batches)
            for number in range(1, self._settings.rounds.count + 1):
                self._run_round(number)
                if number < self._settings.rounds.count:
                    with self._watch.stage("deploy"):
                        self._deploy(number)
                    with self._watch.stage("adapt"):
                        self._adapt(number)
            self._require_an_update()
            with self._watch.stage("deploy"):
                self._deploy(self._settings.rounds.count, at_end=True)
            status, reason = "completed", _rounds(len(self._rounds))
        except Cancelled:
            status, reason = "interrupted", f"stopped after {_rounds(len(self._rounds))}"
            if self._deployments and self._rounds:
                self._deployments.make(self._rounds[-1].number, self._model)
        except KeyboardInterrupt:
            status, reason = "interrupted", f"broken off after {_rounds(len(self._rounds))}"
            raise
        except Exception as error:
            reason = str(error)
            raise
        finally:
            self._spool.clear()
            self._store.put(stages_wall_s=self._watch.seconds)
            if self._graphs_offer is not None:
                self._peer.transfers.withdraw(self._graphs_offer.digest)
            self._peer.send(EVERYBODY, RunEnded(run=self._settings.run, reason=reason))
            self._notify(RunFinished(status=status, reason=reason))
        return self.result(status, reason)

    def _require_an_update(self) -> None:
        """A model that nobody has trained is no result."""
        results = [result for each in self._rounds for result in each.participants]
        if results and not any(result.status == "accepted" for result in results):
            last = results[-1]
            raise FederationError(
                f"not one update was accepted in {_rounds(len(self._rounds))}; the last of "
                f"{last.device}: {last.status}{': ' + last.reason if last.reason else ''}"
            )

    def result(self, status: RunStatus, reason: str) -> Federation:
        """What there is so far."""
        return Federation(
            settings=self._settings,
            status=status,
            reason=reason,
            profiles=self._profiles,
            plan=self._plan,
            device_plans=self._device_plans,
            preparations=tuple(self._preparations),
            rounds=tuple(self._rounds),
            model=self._model,
            refits=tuple(self._refits),
            deployments=tuple(self._deployments.done) if self._deployments else (),
            insights=tuple(self._insights),
        )

    def _gather(self) -> None:
        """Wait for the fleet."""
        wanted, patience = self._settings.devices, self._settings.rounds.gather_timeout_s
        registry = self._registry
        if not self._inbox.wait(lambda: len(registry.devices) >= wanted, patience):
            there = registry.devices
            raise FederationError(
                f"{len(there)} of {wanted} devices came within {patience:g} s"
                f"{': ' + ', '.join(there) if there else ''}; start the missing agents, ask for "
                "fewer devices, or raise rounds.gather_timeout_s"
            )
        self._profiles = {d: registry.profile(d) for d in registry.devices[:wanted]}
        for device, profile in self._profiles.items():
            self._store.write_profile(device, profile)
            if len(profile.label_counts) != self._test.classes:
                raise FederationError(
                    f"{device} counts {len(profile.label_counts)} classes ({profile.dataset}), the "
                    f"test set has {self._test.classes}; give every process the same data settings"
                )

    def _wanted(self, plan: Plan | None) -> dict[str, tuple[int, ...]]:
        """Images per class that devices, and this server itself, are to get."""
        wanted = {share.device: share.synthetic_counts for share in plan.devices} if plan else {}
        return {**wanted, COORDINATOR: self._server_counts}

    def _make_plan(self) -> Plan | None:
        """Solve the fleet's problem under the strategy; ``None`` if devices do not train."""
        try:
            return self._solve()
        except InfeasibleError as error:
            if not self._strategy.planned_at_once or self._settings.training.steps:
                raise  # the smallest deadline is that of another problem
            deadline_s = planning.smallest_deadline_s(
                self._profiles, self._settings, self._strategy, model_bytes=self._model_bytes
            )
            if deadline_s is None or deadline_s <= self._settings.plan.deadline_s:
                raise
            given = self._settings.plan
            shown = math.ceil(deadline_s * 1000) / 1000
            error.args = (
                f"{error}\n  plan.deadline_s is {given.deadline_s:g}, of which "
                f"plan.deadline_margin {given.deadline_margin:g} is kept free; the smallest that "
                f"this fleet can meet is {shown:g}",
            )
            raise

    def _solve(self) -> Plan | None:
        problem = planning.make_problem(
            self._profiles, self._settings, self._strategy, model_bytes=self._model_bytes
        )
        problem = planning.with_target(problem, self._profiles, self._settings)
        value = self._settings.plan.synthetic_value

        def progress(iteration: int, best_j: float) -> None:
            self._inbox.check_cancelled()
            self._notify(SearchProgress(iteration=iteration, best_j=best_j))

        def planner(problem: FimiProblem) -> Plan:
            return quality.plan(
                problem,
                synthetic_value=value,
                seed=self._settings.seed,
                settings=self._search(),
                progress=progress,
            )

        made = strategy_plans.make_plans(
            self._strategy,
            problem,
            self._around(planner),
            settings=self._settings.options,
            rounds=self._settings.rounds.count,
            synthetic_value=value,
            unplanned=self._around(equal_shares),
        )
        self._plan, self._server_counts = made.plan, made.server_counts
        if self._plan is not None:
            self._store.write_plan(self._plan)
            self._notify(
                Planned(
                    plan=self._plan,
                    synthetic_samples=sum(sum(d.synthetic_counts) for d in self._plan.devices),
                )
            )
        return self._plan

    def _around(self, planner: fixed_steps.Planner) -> fixed_steps.Planner:
        """The planner for the way devices train: epochs, or steps."""
        value = self._settings.plan.synthetic_value
        return fixed_steps.around(planner, self._settings.training, value)

    def _search(self) -> SearchSettings:
        settings = self._settings.plan
        return SearchSettings(
            samples=settings.candidates or None,
            iterations=settings.iterations,
            gap_tolerance_percent=settings.gap_tolerance_percent,
            inner=settings.inner,
        )

    def _put_into_force(self, plan: Plan, batches: dict[str, SyntheticBatch]) -> None:
        """Tell every device its plan and wait for the answers."""
        self._device_plans = planning.device_plans(
            plan,
            self._profiles,
            self._settings,
            model_bytes=self._model_bytes,
            delivered={device: batch.delivered for device, batch in batches.items()},
            batches={device: b.offer for device, b in batches.items() if b.offer is not None},
            unlabelled=self._strategy.unlabelled,
        )
        self._record_labels()
        self._adaptation = Adaptation(
            self._settings.plan,
            self._profiles,
            training=self._settings.training,
            model_bits=8.0 * self._model_bytes,
        )
        self._announce()
        self._fleet_time_s = max(
            (
                sum(phase.duration_s for phase in preparation.phases)
                for preparation in self._preparations
                if self._profiles[preparation.device].hardware.kind == "emulated"
            ),
            default=0.0,
        )

    def _record_labels(self) -> None:
        """How uneven the devices' labels are, and what the synthetic samples make of it."""
        devices = sorted(self._device_plans)
        local = np.array([self._profiles[device].label_counts for device in devices])
        made = np.array([self._device_plans[device].synthetic_counts for device in devices])
        population = local.sum(axis=0)
        self._store.write_labels(
            devices, {"local": summarise(local), "filled": summarise(local + made, population)}
        )

    def _announce(self) -> None:
        """Send every device its plan and wait for the answers."""
        registry = self._registry
        self._store.write_device_plans(self._device_plans)
        registry.expect_answers()
        for device in self._device_plans:
            self._send_plan(device)
        self._inbox.wait(
            lambda: all(
                registry.has_answered(d) or not registry.is_online(d) for d in self._device_plans
            ),
            self._settings.rounds.gather_timeout_s,
        )

    def _adapt(self, number: int) -> None:
        """Where predictions have drifted: fit the boards again, and plan again for the same data.

        A fleet for which there is no plan any more keeps the one it has, with new predictions.
        """
        adaptation = self._adaptation
        if adaptation is None or self._plan is None or not (drifts := adaptation.drifted()):
            return
        if self._strategy.unlabelled:
            return  # the prediction has every image kept: being off says nothing of the board
        self._refits.append(number)
        self._store.write_refit(number, adaptation.refit(), drifts)
        profiles = adaptation.profiles(self._profiles)
        delivered = {d: plan.synthetic_counts for d, plan in self._device_plans.items()}
        energy_j, reason = None, ""
        try:
            problem = planning.make_problem(
                profiles, self._settings, self._strategy, model_bytes=self._model_bytes
            )
            self._plan = strategy_plans.replan(
                self._strategy,
                problem,
                [delivered[device] for device in problem.devices],
                self._around(
                    lambda fixed: make_plan(
                        fixed, seed=self._settings.seed, settings=self._search(), start=self._plan
                    )
                ),
                self._around(equal_shares),
            )
            energy_j = self._plan.energy_j
        except InfeasibleError as error:
            reason = f"the plan in force stays: {error}"
        self._store.write_plan(self._plan)
        self._device_plans = planning.device_plans(
            self._plan,
            profiles,
            self._settings,
            model_bytes=self._model_bytes,
            delivered=delivered,
            batches={d: p.batch for d, p in self._device_plans.items() if p.batch is not None},
        )
        self._notify(Refitted(round=number, drift_percent=drifts, energy_j=energy_j, reason=reason))
        self._announce()

    def _send_plan(self, device: str) -> None:
        if device in self._device_plans:
            plan = msgspec.structs.replace(
                self._device_plans[device], fleet_time_s=self._fleet_time_s
            )
            self._peer.send(device, plan)

    def _record_preparation(self, reply: PlanApplied) -> None:
        plan = self._device_plans.get(reply.device)
        if plan is None or plan.batch is None or not reply.phases:
            return  # no batch, or it was there already
        board = self._profiles[reply.device].board
        preparation = Preparation(
            device=reply.device,
            phases=reply.phases,
            predicted=(download_cost("synthetic-download", board, 8.0 * plan.batch.size_bytes),),
            transfers=reply.transfers,
        )
        self._store.write_preparation(preparation)
        self._preparations.append(preparation)
        self._preparations.sort(key=lambda preparation: preparation.device)

    def _run_round(self, number: int) -> None:
        """One round, from its start to its entry in the result."""
        settings = self._settings
        if not self._strategy.devices_train:
            self._run_server_round(number)
            return
        present = self._present(number)
        drawn = participation.draw(
            tuple(self._device_plans),
            present,
            settings.rounds.participants,
            seed=settings.seed,
            number=number,
        )
        participants = {device: present[device] for device in drawn}
        assert self._adaptation is not None
        boards = {d: p.board for d, p in self._adaptation.profiles(self._profiles).items()}
        self._notify(RoundStarted(round=number, devices=tuple(participants)))
        offer = self._peer.transfers.serve(tensors.dump(self._model), media="safetensors")
        current = Round(
            RoundOrder(
                run=settings.run,
                number=number,
                seed=settings.seed,
                start_s=self._fleet_time_s,
                deadline_s=settings.plan.deadline_s,
                wall_timeout_s=self._wall_timeout_s(participants),
                training=settings.training,
                plans=participants,
                predicted=participation.predicted(present, drawn, boards),
                local_samples={d: sum(self._profiles[d].label_counts) for d in participants},
                graphs=self._graphs_offer,
            ),
            self._peer,
            self._registry,
            self._inbox,
            self._model,
            self._spool,
            notify=self._notify,
        )
        with self._watch.stage("devices"), self._server.beside(number, self._model):
            outcome = current.run(offer)
        with self._watch.stage("settle"):
            devices = current.settle(outcome)
            self._peer.transfers.withdraw(offer.digest)
        before = self._model
        with self._watch.stage("aggregate"):
            self._model, server = self._server.aggregate(
                number, self._model, outcome.updates, outcome.weights
            )
        self._finish(number, outcome.duration_s, devices, server, participants)
        every = settings.rounds.insight_every
        if every and (number - 1) % every == 0:
            with self._watch.stage("insight"):
                self._look(number, before, outcome.updates)

    def _look(self, number: int, before: Model, updates: Updates) -> None:
        """See what the updates of a finished round say."""
        try:
            insight = self._observer.look(number, before, updates)
        except TrainingCancelled:
            return
        self._store.write_insight(insight)
        self._insights.append(insight)

    def _run_server_round(self, number: int) -> None:
        """A round in which the server trains by itself; it lasts as long as that takes."""
        self._inbox.check_cancelled()
        self._notify(RoundStarted(round=number, devices=()))
        self._model, server = self._server.aggregate(number, self._model, (), ())
        self._finish(number, server.seconds if server else 0.0, (), server, {})

    def _finish(
        self,
        number: int,
        duration_s: float,
        devices: tuple[DeviceRound, ...],
        server: ServerRound | None,
        plans: dict[str, DevicePlan],
    ) -> None:
        """Evaluate the new global model and enter the round in the result."""
        with self._watch.stage("evaluate"):
            evaluation = self._trainer.evaluate(self._model, self._test.images, self._test.labels)
        result = RoundResult(
            number=number,
            start_s=self._fleet_time_s,
            duration_s=duration_s,
            evaluation=evaluation,
            devices=devices,
            server=server,
        )
        self._fleet_time_s += duration_s
        residuals = self._adaptation.learn(result, plans) if self._adaptation else ()
        with self._watch.stage("store"):
            self._on_model(self._model)
            self._store.write_round(result, residuals)
        self._rounds.append(result)
        self._notify(RoundFinished(result=result))

    def _deploy(self, number: int, *, at_end: bool = False) -> None:
        """Export the global model where it is due, and have it tried; no round is charged."""
        if self._deployments is None or not (at_end or self._deployments.is_due(number)):
            return
        devices = [d for d in sorted(self._profiles) if self._registry.is_online(d)]
        self._fleet_time_s += self._deployments.make(number, self._model, devices)
        if not at_end:
            for device in devices:
                self._peer.send(
                    device,
                    DeploymentClosed(
                        run=self._settings.run, device=device, fleet_time_s=self._fleet_time_s
                    ),
                )

    def _present(self, number: int) -> dict[str, DevicePlan]:
        """Devices whose plan is in force; waits for their return if they are too few."""
        settings, registry = self._settings.rounds, self._registry

        def ready() -> dict[str, DevicePlan]:
            return {d: p for d, p in self._device_plans.items() if registry.follows_plan(d)}

        if not self._inbox.wait(
            lambda: len(ready()) >= settings.min_devices, settings.gather_timeout_s
        ):
            raise FederationError(
                f"round {number}: {len(ready())} devices are there with a plan in force, "
                f"rounds.min_devices asks for {settings.min_devices}; the {number - 1} finished "
                "rounds are stored"
            )
        return ready()

    def _wall_timeout_s(self, participants: dict[str, DevicePlan]) -> float:
        """Physical devices are waited for up to the deadline, emulated ones up to the limit."""
        kinds = {self._profiles[device].hardware.kind for device in participants}
        if kinds == {"physical"}:
            return self._settings.plan.deadline_s + DEADLINE_GRACE_S
        return self._settings.rounds.wall_timeout_s

    def _notify(self, event: Event) -> None:
        self._store.write_event(event)
        self._listener(event)


def _rounds(count: int) -> str:
    return f"{count} round{'' if count == 1 else 's'}"

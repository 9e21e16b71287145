"""Runs the rounds one after another, and holds the global model.

A round's updates are averaged, or mixed with the server's model. The result is evaluated, stored,
and compared with the predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fimi.coordinator import participation
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.context import Context, FederationError
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.insight import Observer
from fimi.coordinator.rounds import Round, RoundOrder
from fimi.coordinator.server_training import Server
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.data.dataset import Dataset
from fimi.learning.training import memory, tensors
from fimi.learning.training.trainer import Trainer, TrainingCancelled
from fimi.messaging.messages import DevicePlan, Offer, Profile
from fimi.record.events import RoundFinished, RoundStarted
from fimi.record.results import DeviceRound, RoundResult, ServerRound

Model = dict[str, NDArray[np.float32]]

DEADLINE_GRACE_S = 5.0
"""Wall time beyond the deadline after which a silent physical device counts as missing, s."""


class TrainingRounds:
    """Runs the rounds of a federation, one by one.

    Args:
        context: the context of the run.
        profiles: profiles of the fleet's devices.
        plans: plans of devices; the fleet's clock in it advances with every round.
        adaptation: see the attribute.
        trainer: evaluates the global model.
        test: held-out data.
        server: the server's part of a round.
        observer: computes insights.
        spool: keeps updates until they are averaged.
        model: parameters to start from.
        on_model: called with the new global model after every round.

    Attributes:
        model: the global model after the last finished round.
        results: finished rounds.
        adaptation: compares predictions with measurements; ``None`` where devices do not train.
    """

    def __init__(
        self,
        context: Context,
        profiles: Mapping[str, Profile],
        plans: DevicePlans,
        adaptation: Adaptation | None,
        trainer: Trainer,
        test: Dataset,
        server: Server,
        observer: Observer,
        spool: UpdateStore,
        model: Model,
        on_model: Callable[[Model], None],
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._profiles = profiles
        self._plans = plans
        self.adaptation = adaptation
        self._trainer = trainer
        self._test = test
        self._server = server
        self._observer = observer
        self._spool = spool
        self._on_model = on_model
        self.model = model
        self.results: list[RoundResult] = []

    def run(self, number: int, graphs: Offer | None) -> None:
        """One round, from its start to its entry in the result.

        Args:
            number: number of the round, from 1.
            graphs: offer of the training graphs, if devices train with ONNX Runtime.

        Raises:
            FederationError: too few devices are online, or the server trains alone and diverged.
            Cancelled: the run was asked to stop.
        """
        if self._context.strategy.devices_train:
            self._with_devices(number, graphs)
        else:
            self._on_the_server(number)
        memory.give_back(tensors.size_bytes(self.model))

    def require_an_update(self) -> None:
        """Make sure that the model was trained.

        Raises:
            FederationError: no update was accepted in any round.
        """
        devices = [device for each in self.results for device in each.participants]
        if devices and not any(device.status == "accepted" for device in devices):
            last = devices[-1]
            raise FederationError(
                f"not one update was accepted in {in_words(len(self.results))}; the last of "
                f"{last.device}: {last.status}{': ' + last.reason if last.reason else ''}"
            )

    def _with_devices(self, number: int, graphs: Offer | None) -> None:
        settings, context, before = self._settings, self._context, self.model
        present = self._present(number)
        drawn = participation.draw(
            tuple(self._plans.devices),
            present,
            settings.rounds.participants,
            seed=settings.run.seed,
            number=number,
        )
        participants = {device: present[device] for device in drawn}
        assert self.adaptation is not None
        boards = {d: p.board for d, p in self.adaptation.profiles(self._profiles).items()}
        context.notify(RoundStarted(round=number, devices=tuple(participants)))
        offer = context.peer.transfers.serve(tensors.dump(before), media="safetensors")
        current = Round(
            context,
            RoundOrder(
                number=number,
                start_s=self._plans.fleet_time_s,
                wall_timeout_s=self._wall_timeout_s(participants),
                plans=participants,
                predicted=participation.predicted(present, drawn, boards),
                local_samples={d: sum(self._profiles[d].label_counts) for d in participants},
                graphs=graphs,
            ),
            before,
            self._spool,
        )
        with context.watch.stage("devices"), self._server.beside(number, before):
            outcome = current.run(offer)
        with context.watch.stage("settle"):
            devices = current.settle(outcome)
            context.peer.transfers.withdraw(offer.digest)
        with context.watch.stage("aggregate"):
            self.model, server = self._server.aggregate(
                number, before, outcome.updates, outcome.weights
            )
        self._finish(number, outcome.duration_s, devices, server, participants)
        every = settings.rounds.insight_every
        if every and (number - 1) % every == 0:
            with context.watch.stage("insight"):
                self._look(number, before, outcome.updates)

    def _on_the_server(self, number: int) -> None:
        """A round in which only the server trains; it lasts as long as this training."""
        self._context.inbox.check_cancelled()
        self._context.notify(RoundStarted(round=number, devices=()))
        self.model, server = self._server.aggregate(number, self.model, (), ())
        self._finish(number, server.seconds if server else 0.0, (), server, {})
        if server and server.error:  # nobody else trains: the next round would end as this one
            raise FederationError(f"round {number}: {server.error}")

    def _finish(
        self,
        number: int,
        duration_s: float,
        devices: tuple[DeviceRound, ...],
        server: ServerRound | None,
        plans: dict[str, DevicePlan],
    ) -> None:
        """Evaluate the new global model and store the round."""
        watch = self._context.watch
        with watch.stage("evaluate"):
            evaluation = self._trainer.evaluate(self.model, self._test.images, self._test.labels)
        result = RoundResult(
            number=number,
            start_s=self._plans.fleet_time_s,
            duration_s=duration_s,
            evaluation=evaluation,
            devices=devices,
            server=server,
        )
        self._plans.fleet_time_s += duration_s
        residuals = self.adaptation.learn(result, plans) if self.adaptation else ()
        with watch.stage("store"):
            self._on_model(self.model)
            self._context.store.write_round(result, residuals)
        self.results.append(result)
        self._context.notify(RoundFinished(result=result))

    def _look(self, number: int, before: Model, updates: Updates) -> None:
        """Compute the insight of a finished round, if it is due."""
        try:
            insight = self._observer.look(number, before, updates)
        except TrainingCancelled:
            return
        self._context.store.write_insight(insight)

    def _present(self, number: int) -> dict[str, DevicePlan]:
        """Devices whose plan is in force; waits for their return if they are too few."""
        settings, ready = self._settings.rounds, self._plans.ready
        if not self._context.inbox.wait(
            lambda: len(ready()) >= settings.min_devices, settings.gather_timeout_s
        ):
            raise FederationError(
                f"round {number}: {len(ready())} devices are there with a plan in force, "
                f"rounds.min_devices asks for {settings.min_devices}; the {number - 1} finished "
                "rounds are stored"
            )
        return ready()

    def _wall_timeout_s(self, participants: dict[str, DevicePlan]) -> float:
        """How long to wait: for physical devices until the deadline, else the configured limit."""
        kinds = {self._profiles[device].hardware.kind for device in participants}
        if kinds == {"physical"}:
            return self._settings.plan.deadline_s + DEADLINE_GRACE_S
        return self._settings.rounds.wall_timeout_s


def in_words(rounds: int) -> str:
    """A number of rounds as text."""
    return f"{rounds} round{'' if rounds == 1 else 's'}"

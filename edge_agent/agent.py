"""The agent: a loop over messages, every phase metered.

The agent publishes its :class:`~fimi.messaging.messages.Profile` whenever a coordinator comes
online. It follows the :class:`~fimi.messaging.messages.DevicePlan`: it fetches its synthetic batch,
sets frequency and rate, and reads them back. In every round it downloads the model, trains,
uploads, reports all phases, and waits for the others. When asked, it tries the trained model. A
message that comes twice is answered twice, and its work is done once.
"""

from __future__ import annotations

import logging
import threading
import time

from msgspec import Struct

from fimi.edge_agent.backends import Backends
from fimi.edge_agent.data import MixedData
from fimi.edge_agent.deployment import try_file
from fimi.edge_agent.exchange import Exchange
from fimi.edge_agent.turns import Turns
from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.learning.data import batches
from fimi.learning.training import memory, pseudo_labels, tensors
from fimi.learning.training.trainer import TrainingDivergedError
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferError
from fimi.messaging.messages import (
    DeploymentClosed,
    DeploymentReport,
    DeploymentTest,
    DevicePlan,
    DeviceState,
    ModelFile,
    Offer,
    PlanApplied,
    Profile,
    RoundClosed,
    RoundReport,
    RoundSettled,
    RoundStart,
    RunEnded,
    Trial,
    UpdateReady,
)
from fimi.messaging.topics import COORDINATOR

log = logging.getLogger(__name__)


class AgentSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of an agent's transfers.

    Attributes:
        transfer_timeout_s: how long one transfer may take, wall time, s.
        batch_max_bytes: largest synthetic batch it accepts.
        model_max_bytes: largest model it accepts.
        graphs_max_bytes: largest set of training graphs it accepts.
    """

    transfer_timeout_s: float = 120.0
    batch_max_bytes: int = 200_000_000
    model_max_bytes: int = 500_000_000
    graphs_max_bytes: int = 16_000_000


class Agent:
    """One edge device.

    Args:
        turns: shared by the agents of a process; left out, an agent has its own.
    """

    def __init__(
        self,
        peer: Peer,
        hardware: Hardware,
        data: MixedData,
        backends: Backends,
        *,
        turns: Turns | None = None,
        settings: AgentSettings | None = None,
    ) -> None:
        self._peer = peer
        self._hardware = hardware
        self._data = data
        self._backends = backends
        self._turns = turns or Turns()
        self._settings = settings or AgentSettings()
        self._stop = threading.Event()
        self._exchange = Exchange(
            peer, hardware, self._settings.transfer_timeout_s, self._is_stopped
        )
        self._ledger = Ledger(hardware.clock, hardware.recorder)
        self._plan: DevicePlan | None = None
        self._last_plan_reply: PlanApplied | None = None
        self._last_report: RoundReport | None = None
        self._last_settled: RoundSettled | None = None
        self._last_deployment: DeploymentReport | None = None
        self._trained_at: tuple[float, float] | None = None
        self._rounds = 0

    def run(self, stop: threading.Event) -> None:
        """Handle messages until ``stop`` is set; then restore the board."""
        self._stop = stop
        board = self._hardware.describe()
        log.info(
            "%s: %s (%s), %d samples, joules from %s (%s, %s), connected to %s, fleet %s",
            self._peer.id,
            board.board,
            board.kind,
            len(self._data.local),
            board.meter.source,
            board.meter.kind,
            board.meter.scope,
            self._peer.address,
            self._peer.fleet,
        )
        try:
            while not stop.is_set():
                received = self._peer.receive(timeout_s=0.2)
                if received is not None and received[0] == COORDINATOR:
                    self._handle(received[1])
        finally:
            self._hardware.restore()
            done = "1 round" if self._rounds == 1 else f"{self._rounds} rounds"
            log.info("%s: stopped after %s", self._peer.id, done)

    def _handle(self, message: object) -> None:
        match message:
            case DeviceState(status="online"):
                self._say_hello()
            case DevicePlan():
                self._follow(message)
            case RoundStart():
                self._work(message)
            case RoundClosed():
                self._settle(message)
            case DeploymentTest():
                self._try_out(message)
            case DeploymentClosed():
                self._go_on(message)
            case RunEnded():
                self._forget()

    def _is_stopped(self) -> bool:
        return self._stop.is_set()

    def _say_hello(self) -> None:
        self._peer.send(
            COORDINATOR,
            Profile(
                device=self._peer.id,
                boot_id=self._peer.boot_id,
                dataset=self._data.local.name,
                label_counts=self._data.local.label_counts(),
                hardware=self._hardware.describe(),
                board=self._hardware.model(),
                backend=self._backends.available,
            ),
        )

    def _follow(self, plan: DevicePlan) -> None:
        """Follow a plan: fetch the batch, set the operating point, read it back."""
        if plan == self._plan and self._last_plan_reply is not None:
            self._peer.send(COORDINATOR, self._last_plan_reply)
            return
        self._drop_phases()
        replanned = self._has_data_of(plan)
        if not replanned:
            self._hardware.join_fleet(plan.fleet_time_s)
            self._data.clear()
        applied, error = None, ""
        try:
            if plan.batch is not None and not replanned:
                with self._ledger.phase("synthetic-download"):
                    payload = self._exchange.fetch(
                        plan.batch, self._settings.batch_max_bytes, "synthetic-download"
                    )
                self._keep(plan, payload)
            applied = self._hardware.apply(plan.point)
        except (TransferError, ValueError, OSError) as problem:
            error = _words(problem)
            log.warning("%s cannot follow its plan: %s", self._peer.id, error)
        self._plan = plan
        self._last_report = self._last_settled = None
        self._last_plan_reply = PlanApplied(
            run=plan.run,
            device=plan.device,
            applied=applied,
            phases=self._metered(0),
            error=error,
            transfers=self._exchange.take(),
        )
        self._peer.send(COORDINATOR, self._last_plan_reply)
        self._ledger.begin("idle")

    def _keep(self, plan: DevicePlan, payload: bytes) -> None:
        """Add a batch to the data, with labels or without."""
        local = self._data.local
        if plan.unlabelled:
            self._data.hold(batches.decode_unlabelled(payload, image_shape=local.image_shape))
        else:
            batch = batches.decode(payload, classes=local.classes, image_shape=local.image_shape)
            self._data.fill(batch.images, batch.labels)

    def _has_data_of(self, plan: DevicePlan) -> bool:
        """Whether the plan in force is of the same run and has the same batch."""
        before, reply = self._plan, self._last_plan_reply
        return (
            before is not None
            and reply is not None
            and not reply.error
            and (before.run, before.batch) == (plan.run, plan.batch)
        )

    def _work(self, start: RoundStart) -> None:
        """One round: download, train, upload, report."""
        plan = self._plan
        if plan is None or plan.run != start.run:
            log.warning("%s: round %d of a run without a plan", self._peer.id, start.round)
            self._say_hello()
            return
        if self._last_report is not None and self._last_report.round >= start.round:
            if self._last_report.round == start.round:
                self._peer.send(COORDINATOR, self._last_report)
            return
        began_s = self._hardware.has_waited_until(start.fleet_time_s)
        self._ledger.close()
        self._hardware.begin_round(start.round)
        loss = accuracy = 0.0
        backend = error = ""
        self._trained_at = None
        try:
            with self._turns.holding(start.model.size_bytes, self._is_stopped):
                loss, accuracy, backend = self._train_and_upload(plan, start)
        except (TransferError, ValueError, OSError, RuntimeError) as problem:
            error = _words(problem)
            log.warning("%s, round %d: %s", self._peer.id, start.round, error)
        self._ledger.close()
        observed = self._hardware.observed()
        self._last_report = RoundReport(
            run=start.run,
            device=plan.device,
            round=start.round,
            local_samples=self._data.local_samples,
            synthetic_samples=self._data.synthetic_samples,
            training_loss=loss,
            training_accuracy=accuracy,
            frequency_hz=observed.frequency_hz or observed.cap_hz,
            busy_s=self._hardware.clock.now_s() - began_s,
            phases=self._metered(start.round),
            backend=backend,
            error=error,
            transfers=self._exchange.take(),
            observed=observed,
            unlabelled=0 if self._data.unlabelled is None else len(self._data.unlabelled),
            trained_at=self._trained_at,
        )
        self._rounds += not error
        self._peer.send(COORDINATOR, self._last_report)
        self._ledger.begin("idle")

    def _train_and_upload(self, plan: DevicePlan, start: RoundStart) -> tuple[float, float, str]:
        """Train and upload; returns loss, accuracy and backend."""
        exchange, settings = self._exchange, self._settings
        with self._ledger.phase("model-download"):
            payload = exchange.fetch(start.model, settings.model_max_bytes, "model-download")

            def fetch_graphs() -> bytes:
                assert start.graphs is not None
                return exchange.fetch(start.graphs, settings.graphs_max_bytes)

            trainer = self._backends.trainer(
                start.training, start.graphs.digest if start.graphs else None, fetch_graphs
            )
        with self._turns.training, self._ledger.phase("compute"):
            began_s = time.time()
            parameters = tensors.load(payload)
            del payload  # from here on, each large object is freed as soon as possible
            looked = 0
            if (unlabelled := self._data.unlabelled) is not None:
                logits = trainer.predict(parameters, unlabelled)
                self._data.label(*pseudo_labels.choose(logits, plan.confidence_min))
                looked = pseudo_labels.looked_at(len(unlabelled))
            images, labels = self._data.training_set()
            try:
                result = trainer.train(
                    parameters,
                    images,
                    labels,
                    start.training,
                    stream=(start.seed, plan.device_index, start.round),
                    synthetic=self._data.synthetic_samples,
                    cancelled=self._is_stopped,
                )
            except TrainingDivergedError as error:  # its joules count all the same
                self._hardware.has_computed(error.samples + looked)
                raise
            self._hardware.has_computed(result.samples + looked)
            del parameters, images, labels
            update = tensors.dump(result.parameters)
            loss, accuracy = result.loss, result.accuracy
            del result
            memory.give_back(len(update))
            self._trained_at = (began_s, time.time())

        def announce(offer: Offer) -> None:
            ready = UpdateReady(run=start.run, device=plan.device, round=start.round, update=offer)
            self._peer.send(COORDINATOR, ready)

        with self._ledger.phase("upload"):
            exchange.ship(update, announce)
        return loss, accuracy, trainer.backend

    def _settle(self, closed: RoundClosed) -> None:
        """End the idle phase of a round that was closed, and report it."""
        self._exchange.withdraw()  # an update that was never pulled
        if self._plan is None or self._plan.run != closed.run:
            return
        if self._last_settled is not None and self._last_settled.round >= closed.round:
            self._peer.send(COORDINATOR, self._last_settled)
            return
        self._hardware.has_waited_until(closed.fleet_time_s)
        self._ledger.close()
        self._last_settled = RoundSettled(
            run=closed.run,
            device=self._plan.device,
            round=closed.round,
            phases=self._metered(closed.round),
        )
        self._peer.send(COORDINATOR, self._last_settled)
        self._ledger.begin("idle")

    def _try_out(self, test: DeploymentTest) -> None:
        """Run the trained model. Its energy, and that of waiting after it, belong to no round."""
        last = self._last_deployment
        if last is not None and (last.run, last.round) == (test.run, test.round):
            self._peer.send(COORDINATOR, last)
            return
        self._drop_phases()
        began_s = self._hardware.clock.now_s()
        trials = []
        for file in test.files:
            try:
                with self._turns.holding(file.model.size_bytes, self._is_stopped):
                    trials.append(self._try_file(file, test))
            except (TransferError, ValueError, OSError, RuntimeError) as problem:
                self._ledger.take()
                error = _words(problem)
                log.warning("%s, %s model: %s", self._peer.id, file.variant, error)
                trials.append(Trial(variant=file.variant, error=error))
        self._last_deployment = DeploymentReport(
            run=test.run,
            device=self._peer.id,
            round=test.round,
            trials=tuple(trials),
            seconds=self._hardware.clock.now_s() - began_s,
        )
        self._peer.send(COORDINATOR, self._last_deployment)

    def _try_file(self, file: ModelFile, test: DeploymentTest) -> Trial:
        payload = self._exchange.fetch(file.model, self._settings.model_max_bytes)
        with self._turns.training:
            return try_file(
                file,
                payload,
                self._data.local,
                test,
                hardware=self._hardware,
                ledger=self._ledger,
                cancelled=self._is_stopped,
            )

    def _go_on(self, closed: DeploymentClosed) -> None:
        """Rounds continue: idle energy belongs to a round again from here on."""
        if self._plan is None or self._plan.run != closed.run:
            return
        self._hardware.has_waited_until(closed.fleet_time_s)
        self._drop_phases()
        self._ledger.begin("idle")

    def _forget(self) -> None:
        """End the run: restore the board and drop all data of the run."""
        self._drop_phases()
        self._exchange.withdraw()
        self._hardware.restore()
        self._data.clear()
        self._plan = self._last_plan_reply = None
        self._last_report = self._last_settled = self._last_deployment = None

    def _drop_phases(self) -> None:
        """End the open phase; it and those before it are reported nowhere."""
        self._ledger.close()
        self._ledger.take()

    def _metered(self, number: int) -> tuple[PhaseRecord, ...]:
        """Phases metered since the last message, without idle phases of zero seconds."""
        records = tuple(
            record
            for record in self._ledger.take()
            if record.phase != "idle" or record.duration_s > 0
        )
        for record in records:
            log.debug(
                "%s, round %d: %s %.3g %s, %s",
                self._peer.id,
                number,
                record.phase,
                record.duration_s,
                "virtual s" if self._hardware.describe().kind == "emulated" else "s",
                record.energy or "not metered",
            )
        return records


def _words(problem: Exception) -> str:
    if isinstance(problem, TrainingDivergedError):
        return f"device {problem}"
    return f"{type(problem).__name__}: {problem}"

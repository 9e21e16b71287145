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
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from fimi.edge_agent.backends import Backends, Trainers
from fimi.edge_agent.course import Step
from fimi.edge_agent.data import MixedData
from fimi.edge_agent.deployment import try_file
from fimi.edge_agent.exchange import Exchange
from fimi.edge_agent.kept import Kept
from fimi.edge_agent.line import Line
from fimi.edge_agent.metering import Metering
from fimi.edge_agent.turns import Turns
from fimi.edge_agent.update_coder import UpdateCoder, model_of
from fimi.energy.cost_model import Phase
from fimi.energy.hardware import Hardware, Observation
from fimi.energy.ledger import PhaseRecord
from fimi.errors import FimiError
from fimi.learning.data import batches
from fimi.learning.data.dataset import Dataset
from fimi.learning.training import memory, pseudo_labels
from fimi.learning.training.coding import Coded
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import (
    Trainer,
    TrainingCancelled,
    TrainingDivergedError,
    TrainingResult,
)
from fimi.messaging.errors import TransferCancelled
from fimi.messaging.messages import (
    DeploymentClosed,
    DeploymentReport,
    DeploymentTest,
    DevicePlan,
    Goodput,
    Invitation,
    ModelFile,
    Offer,
    PlanApplied,
    RoundClosed,
    RoundReport,
    RoundSettled,
    RoundStart,
    Trial,
    UpdateReady,
)

log = logging.getLogger(__name__)


Metered = TypeVar("Metered", PlanApplied, RoundReport, RoundSettled)


class AgentSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of an agent's transfers.

    Attributes:
        batch_max_bytes: largest synthetic batch or share it accepts.
        model_max_bytes: largest model it accepts.
        graphs_max_bytes: largest set of training graphs it accepts.
    """

    batch_max_bytes: int = 200_000_000
    model_max_bytes: int = 500_000_000
    graphs_max_bytes: int = 16_000_000


class BrokenOff(Exception):  # noqa: N818 - nothing went wrong
    """A step is no longer wanted, and has nothing to report."""


class Tools(Struct, frozen=True, kw_only=True):
    """What a device works with in every run.

    Attributes:
        line: its conversation.
        exchange: its transfers.
        turns: shared by the agents of a process.
        trainers: shared by the same agents.
        cache: folder for payloads that are fetched once; ``None``: memory only.
        settings: limits.
    """

    line: Line
    exchange: Exchange
    turns: Turns
    trainers: Trainers
    cache: Path | None
    settings: AgentSettings


class _Work(Struct):
    """What became of one round's work."""

    loss: float | None = None
    accuracy: float | None = None
    backend: str = ""
    trained_at: tuple[float, float] | None = None
    in_vain_s: float = 0.0
    coded: Coded | None = None
    error: str = ""
    # Of an earlier start of the device, which had begun:
    phases: tuple[PhaseRecord, ...] = ()
    moved: tuple[Goodput, ...] = ()
    busy_s: float = 0.0
    samples: tuple[int, int, int] | None = None


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
        self._line, self._exchange, self._turns = tools.line, tools.exchange, tools.turns
        self._settings = tools.settings
        self._invitation = invitation
        self._hardware = hardware
        self.data = MixedData(data)
        """Its own samples, and the synthetic ones."""
        self._backends = Backends(
            data.classes, data.image_shape, cache=tools.cache, trainers=tools.trainers
        )
        self._batches = Kept(tools.cache, "batch")
        self._metering = Metering(invitation.device, hardware)
        self._plan: DevicePlan | None = None
        self._filled: str | None = None  # digest of the first batch that it has; empty: none
        self._topped_up = 0  # batches that came after the first one
        self._cores: int | None = None
        self._coder = UpdateCoder()
        self._owed: tuple[PhaseRecord, ...] = ()  # of plans, to be reported with what comes next
        self._unsettled: int | None = None  # the round it has worked in, until that is settled
        self.rounds = 0

    @property
    def hardware(self) -> Hardware:
        """Its board."""
        return self._hardware

    @property
    def backend(self) -> str:
        """The trainers that are installed."""
        return self._backends.available

    def follow(self, plan: DevicePlan) -> PlanApplied:
        """Follow a plan: fetch the batch, set the operating point, read it back.

        Raises:
            BrokenOff: another plan is wanted, or none.
        """
        metering, rests = self._metering, False
        metering.close()
        anew = self._filled != _digest(plan.batch)
        if anew:
            metering.drop()
            began_s = self._fleet_time_s(plan)
            if rests := not began_s:  # no round has begun
                metering.rest("before", self._unwanted(plan))
            self._hardware.join_fleet(began_s)
            self.data.clear()
            self._filled, self._topped_up = None, 0
        idle = metering.take(0)  # of rounds to come: it is reported with the next one
        self._plan = None
        own: tuple[PhaseRecord, ...] = ()  # of receiving the first batch
        moved: tuple[Goodput, ...] = ()
        applied, error = None, ""
        try:
            if anew:
                try:
                    if plan.batch is not None:
                        self._line.show("fetching")
                        self._keep(plan, self._batch(plan, _first, booked=plan.booked))
                    self._filled = _digest(plan.batch)
                finally:
                    spent, moved = (*self._owed, *metering.take(0)), self._exchange.take()
                    own = tuple(record for record in spent if record.phase != "idle")
                    self._owed = tuple(record for record in spent if record.phase == "idle")
            for number in range(self._topped_up, len(plan.top_ups)):
                self._line.show("fetching")
                booked = plan.top_ups[number].booked
                self._keep(plan, self._batch(plan, _top_up(number), booked=booked))
                self._topped_up = number + 1
            self.data.use = plan.synthetic_use
            applied = self._hardware.apply(plan.point)
            self._cores = applied.setting.cores if applied.setting is not None else None
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
            top_ups=self._topped_up,
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
        done, update = _Work(), None
        if (ready := line.ready_update(start)) is not None:  # an earlier start has trained
            before, update = ready
            done = self._taken_up(before.report, with_update=update is not None)
        try:
            size_bytes = start.model_bytes or start.model.size_bytes
            with self._turns.holding(size_bytes, self._unwanted(start)):
                if update is None:
                    update = self._train(plan, start, done)
                self._line.show("offering")
                done.in_vain_s = self._exchange.deliver(
                    start, update, self._announce(start, done, began_s, update), metering
                )
                self._coder.sent(start.round)
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
            self._report(start, done, phases, busy_s),
            frequency_hz=(observed.frequency_hz or observed.cap_hz) if observed else None,
            error=done.error,
            transfers=(*done.moved, *self._exchange.take()),
            observed=observed,
            evidence=metering.evidence(),
            coded=done.coded if not done.error else None,
        )
        return self._with_faults(report)

    def _report(
        self, start: RoundStart, done: _Work, own: tuple[PhaseRecord, ...], busy_s: float
    ) -> RoundReport:
        """What is known of a round's work: phases of this start, and seconds since it began."""
        phases = (*done.phases, *own)
        waited_s = sum(record.duration_s for record in phases if record.phase == "waiting")
        local, synthetic, unlabelled = done.samples or (
            self.data.local_samples,
            self.data.synthetic_samples,
            0 if self.data.unlabelled is None else len(self.data.unlabelled),
        )
        return RoundReport(
            run=start.run,
            device=start.device,
            round=start.round,
            local_samples=local,
            synthetic_samples=synthetic,
            training_loss=done.loss,
            training_accuracy=done.accuracy,
            frequency_hz=None,
            busy_s=max(0.0, busy_s + done.busy_s - waited_s - done.in_vain_s),
            waited_s=waited_s,
            phases=phases,
            backend=done.backend,
            transfers=done.moved,
            unlabelled=unlabelled,
            trained_at=done.trained_at,
            coded=done.coded,
        )

    def _taken_up(self, report: RoundReport, *, with_update: bool) -> _Work:
        """The work of an earlier start, which goes on here; without its update it was in vain.

        An emulated board's clock goes on from where it was, and counts the seconds of that start.
        """
        done = _Work(phases=report.phases, moved=report.transfers)
        if self._metering.waits_count:
            done.busy_s = report.busy_s + report.waited_s
        if with_update:
            done.loss, done.accuracy = report.training_loss, report.training_accuracy
            done.backend, done.trained_at = report.backend, report.trained_at
            done.coded = report.coded
            done.samples = (report.local_samples, report.synthetic_samples, report.unlabelled)
        return done

    def settle(self, closed: RoundClosed) -> tuple[RoundSettled, ...]:
        """End the idle phase of a round that was closed, and report it.

        A device that was so slow that it missed the whole of that round has idled in the round it
        worked in as well: until the other one began. Phases of rounds before, whose readings had
        not come yet when they were reported, are reported once more.
        """
        self._coder.settle(closed)
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
                self._metering.rest("after", self._unwanted(closed))
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
        )
        earlier = [
            RoundSettled(run=closed.run, device=closed.device, round=before, phases=own)
            for before, own in sorted(again.items())
        ]
        return [*earlier, self._with_faults(settled)]

    def try_out(self, test: DeploymentTest) -> DeploymentReport:
        """Run the trained model. Its energy, and that of waiting after it, belong to no round."""
        self._line.show("training")
        self._metering.drop()
        self._hardware.begin_trial(test.round)
        began_s = self._hardware.clock.now_s()
        trials = []
        for number, file in enumerate(test.files):
            try:
                with self._turns.holding(file.model.size_bytes, self._unwanted(test)):
                    trials.append(self._try_file(number, file, test))
            except (TransferCancelled, TrainingCancelled):
                error = f"broken off: {self._line.why_not(test)}"
                trials.append(Trial(variant=file.variant, error=error))
            except Exception as problem:
                error = self._words(problem, f"{file.variant} model")
                trials.append(Trial(variant=file.variant, error=error))
            self._metering.drop()
        return DeploymentReport(
            run=test.run,
            device=test.device,
            round=test.round,
            trials=tuple(trials),
            seconds=self._hardware.has_been_busy(began_s),
        )

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
        self.data.clear()
        self._coder.clear()
        self._plan = self._filled = None

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

    def _batch(self, plan: DevicePlan, of: Callable[[DevicePlan], Offer], *, booked: bool) -> bytes:
        """A synthetic batch of a plan.

        What lies in the cache is not received again, and takes neither time nor joules. An emulated
        board has received it exactly once in the record of its run, however often its process was
        started: without cost where that is in the run store already.
        """
        real, metering = self._metering.waits_count, self._metering
        digest = of(plan).digest
        payload = self._batches.get(digest)
        if payload is not None and (real or booked):
            return payload

        def latest() -> Offer:
            return of(self._line.latest(plan))

        limit = min(
            self._settings.batch_max_bytes,
            batches.largest(_images(plan), self.data.local.image_shape),
        )
        if not real and booked:
            payload = self._exchange.fetch(plan, latest, limit)
        else:
            with metering.phase("synthetic-download"):
                if payload is None:
                    payload = self._exchange.fetch(
                        plan, latest, limit, metering=metering, phase="synthetic-download"
                    )
                else:
                    self._exchange.receive_again(payload, metering, "synthetic-download")
        self._batches.put(digest, payload)
        return payload

    def _keep(self, plan: DevicePlan, payload: bytes) -> None:
        """Add a batch to the data, with labels or without."""
        local, contract = self.data.local, self._invitation.contract.digest
        if plan.unlabelled:
            self.data.hold(
                batches.decode_unlabelled(
                    payload,
                    image_shape=local.image_shape,
                    contract=contract,
                    samples=plan.unlabelled,
                )
            )
        else:
            batch = batches.decode(
                payload,
                classes=local.classes,
                image_shape=local.image_shape,
                contract=contract,
                samples=_images(plan),
            )
            self.data.add(batch.images, batch.labels)

    def _train(self, plan: DevicePlan, start: RoundStart, done: _Work) -> bytes:
        """Fetch the model and train; returns the update."""
        payload, trainer = self._download(start)
        self._line.show("training")
        unwanted = self._unwanted(start)
        with self._turns.training(unwanted), self._metering.phase("compute"):
            began_s = time.time()
            parameters = model_of(start, payload)
            del payload  # from here on, each large object is freed as soon as possible
            looked = 0
            if (unlabelled := self.data.unlabelled) is not None:
                logits = trainer.predict(parameters, unlabelled)
                self.data.label(*pseudo_labels.choose(logits, plan.confidence_min))
                looked = pseudo_labels.looked_at(len(unlabelled))
            result = self._result(plan, start, trainer, parameters, looked)
            model = parameters if start.update_coding.takes_difference else {}
            del parameters
            update, done.coded = self._coder.code(
                start, plan.device_index, model, result.parameters
            )
            done.loss, done.accuracy = result.loss, result.accuracy
            done.backend = trainer.backend
            del result, model
            memory.give_back(start.model_bytes or len(update))
            done.trained_at = (began_s, time.time())
        return self._turns.waiting(update)

    def _download(self, start: RoundStart) -> tuple[bytes, Trainer]:
        """The model, and the trainer with its graphs."""
        line, metering, settings = self._line, self._metering, self._settings

        def graphs() -> Offer:
            offer = line.latest(start).graphs
            assert offer is not None  # the round would be another one
            return offer

        def fetch_graphs() -> bytes:
            """An emulated board gets them at no cost: they come once in a process's life."""
            phase: Phase | None = "model-download" if metering.waits_count else None
            return self._exchange.fetch(
                start, graphs, settings.graphs_max_bytes, metering=metering, phase=phase
            )

        digest = start.graphs.digest if start.graphs is not None else None
        with metering.phase("model-download"):
            payload = self._exchange.fetch(
                start,
                lambda: line.latest(start).model,
                settings.model_max_bytes,
                metering=metering,
                phase="model-download",
            )
            training = start.training
            if self._cores is not None and self._cores < training.threads:
                training = replace(training, threads=self._cores)
            return payload, self._backends.trainer(training, digest, fetch_graphs)

    def _result(
        self,
        plan: DevicePlan,
        start: RoundStart,
        trainer: Trainer,
        parameters: Parameters,
        looked: int,
    ) -> TrainingResult:
        """Train; the board has computed what was trained, also if the training diverged."""
        images, labels = self.data.training_set()
        try:
            result = trainer.train(
                parameters,
                images,
                labels,
                start.training,
                stream=(start.seed, plan.device_index, start.round),
                synthetic=self.data.synthetic_samples,
                cancelled=self._unwanted(start),
            )
        except TrainingDivergedError as error:
            self._hardware.has_computed(error.samples + looked)
            raise
        self._hardware.has_computed(result.samples + looked)
        return result

    def _announce(
        self, start: RoundStart, done: _Work, began_s: float, update: bytes
    ) -> Callable[[Offer], None]:
        """Tells the coordinator of an update, once what was done for it is on disk."""

        def announce(offer: Offer) -> None:
            ready = UpdateReady(run=start.run, device=start.device, round=start.round, update=offer)
            own = (*self._owed, *self._metering.so_far())
            busy_s = self._hardware.clock.now_s() - began_s
            so_far = replace(
                self._report(start, done, own, busy_s),
                transfers=(*done.moved, *self._exchange.moved),
                error="broken off: its agent was started again, and the round was closed meanwhile",
            )
            self._line.report_update(start, so_far, ready, update, self._hardware.clock.now_s())

        return announce

    def _try_file(self, number: int, file: ModelFile, test: DeploymentTest) -> Trial:
        payload = self._exchange.fetch(
            test,
            lambda: self._line.latest(test).files[number].model,
            self._settings.model_max_bytes,
        )
        self._hardware.has_received(len(payload))
        with self._turns.training(self._unwanted(test)):
            return try_file(
                file,
                payload,
                self.data.local,
                test,
                hardware=self._hardware,
                ledger=self._metering.ledger,
                cancelled=self._unwanted(test),
            )

    def _with_faults(self, fact: Metered) -> Metered:
        """A fact with what was wrong with the meter's readings."""
        if not (faults := self._metering.faults()):
            return fact
        before = f"{fact.error}; " if fact.error else ""
        return replace(fact, error=f"{before}{fact.device}: {faults}")

    def _unwanted(self, step: Step) -> Callable[[], bool]:
        return lambda: not self._line.wants(step)

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


def _first(plan: DevicePlan) -> Offer:
    """The first batch of a plan that has one."""
    assert plan.batch is not None  # the plan would be another one
    return plan.batch


def _top_up(number: int) -> Callable[[DevicePlan], Offer]:
    """Which batch of a plan: the top-up of that number, from 0."""
    return lambda plan: plan.top_ups[number].batch


def _images(plan: DevicePlan) -> int:
    """Most images that a batch of a plan may hold."""
    return max(plan.unlabelled, sum(plan.synthetic_counts))


def _digest(offer: Offer | None) -> str:
    return "" if offer is None else offer.digest


def words(device: str, problem: Exception, what: str) -> str:
    """A problem in words, which is logged as well.

    Args:
        device: its id.
        problem: an expected one, or any other, which is logged with its traceback.
        what: what failed.
    """
    if isinstance(problem, TrainingDivergedError):
        said = f"{device} {problem}"
    else:
        said = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, FimiError | ValueError | OSError | RuntimeError):
        log.warning("%s, %s: %s", device, what, said)
    else:
        log.error("%s, %s: %s", device, what, said, exc_info=problem)
    return said

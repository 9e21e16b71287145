"""A device's training in one round: from the global model to the update, as bytes.

The model and, once, the training graphs are fetched; unlabelled images get their labels from the
model; the device trains and codes its update. Each large object is freed as soon as possible: a
board holds one model, not three.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from fimi.edge_agent.backends import Backends
from fimi.edge_agent.data import MixedData
from fimi.edge_agent.metering import Metering
from fimi.edge_agent.round_work import RoundWork
from fimi.edge_agent.tools import Tools
from fimi.edge_agent.update_coder import UpdateCoder, model_of
from fimi.energy.cost_model import Phase
from fimi.learning.training import memory, pseudo_labels
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingDivergedError, TrainingResult
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import DevicePlan, RoundStart


class RoundTraining:
    """The training of one device in one run.

    Args:
        tools: what it works with.
        metering: its phases; the board is the one that they are metered on.
        data: its samples.

    Attributes:
        cores: processor cores that the plan leaves it; ``None``: all.
        coder: codes its updates.
    """

    def __init__(self, tools: Tools, metering: Metering, data: MixedData) -> None:
        self._line, self._exchange, self._turns = tools.line, tools.exchange, tools.turns
        self._settings = tools.settings
        self._metering = metering
        self._data = data
        self._backends = Backends(
            data.local.classes,
            data.local.image_shape,
            cache=tools.cache,
            trainers=tools.trainers,
        )
        self.cores: int | None = None
        self.coder = UpdateCoder()

    @property
    def backend(self) -> str:
        """The trainers that are installed."""
        return self._backends.available

    def train(self, plan: DevicePlan, start: RoundStart, work: RoundWork) -> bytes:
        """Fetch the model and train; returns the update, and notes in ``work`` how it went.

        Raises:
            TransferCancelled: the round is no longer wanted.
            TrainingCancelled: likewise.
            TrainingDivergedError: the loss is no longer finite.
        """
        payload, trainer = self._download(start)
        self._line.show("training")
        unwanted = self._line.unwanted(start)
        with self._turns.training(unwanted), self._metering.phase("compute"):
            began_s = time.time()
            parameters = model_of(start, payload)
            del payload  # from here on, each large object is freed as soon as possible
            looked = 0
            if (unlabelled := self._data.unlabelled) is not None:
                logits = trainer.predict(parameters, unlabelled)
                self._data.label(*pseudo_labels.choose(logits, plan.confidence_min))
                looked = pseudo_labels.looked_at(len(unlabelled))
            result = self._result(plan, start, trainer, parameters, looked)
            model = parameters if start.update_coding.takes_difference else {}
            del parameters
            update, work.coded = self.coder.code(start, plan.device_index, model, result.parameters)
            work.loss, work.accuracy = result.loss, result.accuracy
            work.backend = trainer.backend
            del result, model
            memory.give_back(start.model_bytes or len(update))
            work.trained_at = (began_s, time.time())
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
            if self.cores is not None and self.cores < training.threads:
                training = replace(training, threads=self.cores)
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
        hardware = self._metering.hardware
        images, labels = self._data.training_set()
        try:
            result = trainer.train(
                parameters,
                images,
                labels,
                start.training,
                stream=(start.seed, plan.device_index, start.round),
                synthetic=self._data.synthetic_samples,
                cancelled=self._line.unwanted(start),
            )
        except TrainingDivergedError as error:
            hardware.has_computed(error.samples + looked)
            raise
        hardware.has_computed(result.samples + looked)
        return result

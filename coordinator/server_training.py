"""The server's training in a round, on images that never leave it.

* ``mix`` (GenFL) trains a model ω_a from the global model while the devices train, and mixes it in.
* ``continue`` (SST) averages the devices' updates and trains that mean further.
* ``alone`` (AIGC only) trains the global model; there are no devices.

The devices' mean has their training samples as weights, or shares by the quality of their models or
by their contribution, judged on images for validation.

The images come from the generator node before the first round. They are used class by class in
their order: with a growing set, a round trains on the first images of each class. Wall seconds are
recorded, and joules where the machine has a meter. Both belong to the server and are never added to
those of the devices. A training that diverges costs its joules and changes nothing: the round's
model is the devices' mean, or the model stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.coordinator.context import FederationError
from fimi.coordinator.inbox import Cancelled
from fimi.coordinator.mixing import (
    client_shares,
    error,
    mix,
    server_weight,
    weight_by_performance,
)
from fimi.coordinator.settings import FederationSettings
from fimi.coordinator.strategies import Strategy
from fimi.coordinator.update_store import in_slices
from fimi.energy.work_meter import Metered
from fimi.learning.data import batches
from fimi.learning.data.batches import Batch
from fimi.learning.data.dataset import Dataset, some
from fimi.learning.training.aggregation import Model, mean, without
from fimi.learning.training.robust import Aggregated
from fimi.learning.training.slices import HeldModel
from fimi.learning.training.trainer import (
    Evaluation,
    Trainer,
    TrainingCancelled,
    TrainingDivergedError,
)
from fimi.messaging.client import Peer
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.record.results import ServerRound

log = logging.getLogger(__name__)

TRANSFER_TIMEOUT_S = 600.0
BATCH_MAX_BYTES = 1 << 30


class Aggregate(NamedTuple):
    """What a round gives.

    Attributes:
        model: the new global model.
        server: the record of the server's training; ``None`` where it does not train.
        shares: ρ of each update in the devices' model; ``None`` where none has a share as a whole.
    """

    model: Model
    server: ServerRound | None
    shares: tuple[float, ...] | None


class Server:
    """The server's part of every round.

    Args:
        strategy: the strategy, which says what the server does.
        settings: the configuration.
        trainer: the trainer that also evaluates.
        meter: meter of this machine; if left out, only seconds are recorded.
        validation: public images on which models can be compared; ``None`` if there are none.
        cancelled: called repeatedly; training ends when it returns true.

    Raises:
        FederationError: weights are to be judged, and there are no images for validation.
    """

    def __init__(
        self,
        strategy: Strategy,
        settings: FederationSettings,
        trainer: Trainer,
        *,
        meter: Metered | None = None,
        validation: Dataset | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._strategy = strategy
        self._settings = settings
        self._trainer = trainer
        self._meter = meter or Metered()
        self._cancelled = cancelled
        self._batch: Batch | None = None
        self._augmented: Future[tuple[Model | None, ServerRound]] | None = None
        self._training = replace(settings.training, augment=0.0)  # devices change their own only
        if epochs := settings.strategy.server_epochs:
            self._training = replace(self._training, epochs=epochs, steps=0)
        self._validation: Dataset | None = None
        options = settings.strategy
        self._mixes_by_errors = strategy.server == "mix" and options.weights == "performance"
        judging = []
        if self._mixes_by_errors:
            judging.append('strategy.weights is "performance" (take "constant" or "scheduled")')
        weighs = strategy.devices_train and settings.rounds.rule.weighs
        if weighs and options.client_weights != "size":
            judging.append(f'strategy.client_weights is "{options.client_weights}" (take "size")')
        if judging:
            if validation is None or not len(validation):
                keys = " and ".join(judging)
                raise FederationError(f"{keys}, and there are no images for validation to judge by")
            self._validation = some(validation, options.validation_images, seed=settings.run.seed)

    def receive(self, batch: SyntheticBatch, peer: Peer, image_shape: tuple[int, int, int]) -> None:
        """Fetch the server's images, in addition to those that it has.

        Args:
            batch: the batch from the generator node.
            peer: the connection that fetches it.
            image_shape: channels, height, width that the images must have.

        Raises:
            FederationError: there are no images at all, or they cannot be used.
        """
        if batch.offer is None and self._batch is not None:
            return  # no further images; the event of the delivery has the reason
        if batch.offer is None:
            raise FederationError(
                f"{self._strategy.name}: the generator node made no images for the server: "
                f"{batch.error or 'no reason given'}"
            )
        payload = peer.transfers.fetch(
            batch.offer,
            timeout_s=TRANSFER_TIMEOUT_S,
            max_bytes=min(BATCH_MAX_BYTES, batches.largest(sum(batch.delivered), image_shape)),
            cancelled=self._cancelled,
        )
        try:
            found = batches.decode(
                payload,
                classes=len(batch.delivered),
                image_shape=image_shape,
                samples=sum(batch.delivered),
            )
        except batches.BatchError as error:
            raise FederationError(f"the server's images cannot be used: {error}") from error
        if self._batch is not None:
            found = replace(
                found,
                images=np.concatenate([self._batch.images, found.images]),
                labels=np.concatenate([self._batch.labels, found.labels]),
            )
        self._batch = found

    @contextmanager
    def beside(self, number: int, model: Model) -> Iterator[None]:
        """Train ω_a from ``model`` while the ``with`` block runs, if the strategy needs it.

        Args:
            number: number of the round.
            model: ω^t, the round's global model.
        """
        if self._strategy.server != "mix" or self._batch is None:
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="server-training") as pool:
            self._augmented = pool.submit(self._train, number, model)
            yield

    def weigh(self, updates: Sequence[Model], samples: Sequence[float]) -> list[float]:
        """The weights of the devices' updates in their mean, as they are configured.

        Args:
            updates: updates of the devices.
            samples: their training samples, which are the weights where nothing is judged.
        """
        policy = self._settings.strategy.client_weights
        if policy == "size" or len(updates) < 2 or not self._settings.rounds.rule.weighs:
            return list(samples)
        if policy == "quality":
            errors = [self._error(update) for update in updates]
        else:
            slices, whole = in_slices(updates), sum(samples)
            middle = mean(updates[0], slices, samples)
            errors = [
                self._error(without(middle, update, size / whole))
                for update, size in zip(slices, samples, strict=True)
            ]
        return client_shares(policy, samples, errors)

    def aggregate(
        self, number: int, model: Model, updates: Sequence[Model], weights: Sequence[float]
    ) -> Aggregate:
        """The new global model, and the record of the server's training.

        Args:
            number: number of the round.
            model: the round's global model, which stays if there is no new one.
            updates: updates of the devices.
            weights: their weights, by :meth:`weigh`; rules that count each device once do not use
                them.
        """
        part = self._strategy.server
        if part == "mix" and self._batch is not None:
            return self._mix(number, model, updates, weights)
        combined, shares = self._combine(model, updates, weights)
        if part == "average" or self._batch is None:  # FIMI may find that nothing is missing
            return Aggregate(combined, None, shares)
        trained, entry = self._train(number, combined)
        return Aggregate(combined if trained is None else trained, entry, shares)

    def _combine(
        self, model: Model, updates: Sequence[Model], weights: Sequence[float]
    ) -> Aggregated:
        """The devices' updates as one model by the configured rule; ``model`` without any."""
        if not updates:
            return Aggregated(model, ())
        return self._settings.rounds.rule.combine(model, in_slices(updates), weights)

    def _mix(
        self, number: int, model: Model, updates: Sequence[Model], weights: Sequence[float]
    ) -> Aggregate:
        """The devices' model and ω_a as one; without updates ``model`` stands for the devices'."""
        assert self._augmented is not None
        options, (augmented, entry) = self._settings.strategy, self._augmented.result()
        combined, shares = self._combine(model, updates, weights)
        if augmented is None:
            return Aggregate(combined, entry, shares)
        federated = judged = None
        if not self._mixes_by_errors:
            weight = server_weight(options, number, self._settings.rounds.count)
        else:
            federated = self._judge(combined)
            judged = self._judge(augmented)
            weight = weight_by_performance(federated.accuracy, judged.accuracy, judged.samples)
        if self._settings.rounds.aggregation == "mean" and updates:
            mixed = mix(in_slices(updates), weights, augmented, weight)  # one rounding, not two
        else:
            mixed = mix([HeldModel(combined)], [1.0], augmented, weight)
        entry = replace(
            entry,
            weight=weight,
            federated_accuracy=federated and federated.accuracy,
            augmented_accuracy=judged and judged.accuracy,
        )
        return Aggregate(mixed, entry, shares)

    def _error(self, model: Model) -> float:
        judged = self._judge(model)
        return error(judged.accuracy, judged.samples)

    def _judge(self, model: Model) -> Evaluation:
        assert self._validation is not None
        return self._trainer.evaluate(model, self._validation.images, self._validation.labels)

    def _train(self, number: int, model: Model) -> tuple[Model | None, ServerRound]:
        """Train from ``model`` on the images of a round; the new model and the record of it.

        There is no new model where the training diverged.
        """
        assert self._batch is not None
        chosen = self._chosen(number)
        result, problem = None, ""
        try:
            with self._meter.span() as span:
                result = self._trainer.train(
                    model,
                    self._batch.images[chosen],
                    self._batch.labels[chosen],
                    self._training,
                    # of no device
                    stream=(self._settings.run.seed, self._settings.fleet.devices, number),
                    cancelled=self._cancelled,
                )
        except TrainingCancelled as error:
            raise Cancelled from error
        except TrainingDivergedError as error:
            problem = f"server {error}"
            log.warning("round %d: %s", number, problem)
        return None if result is None else dict(result.parameters), ServerRound(
            images=len(chosen),
            seconds=span.seconds,
            energy=span.energy,
            loss=None if result is None else result.loss,
            error=problem,
        )

    def _chosen(self, number: int) -> NDArray[np.intp]:
        """Indices of a round's images: of a growing set, the first images of each class."""
        assert self._batch is not None
        labels = self._batch.labels
        if not self._strategy.grows_server_set:
            return np.arange(len(labels))
        most = min(number * self._settings.strategy.images_per_round, len(labels))
        of_class = [np.flatnonzero(labels == label)[:most] for label in np.unique(labels)]
        return np.sort(np.concatenate(of_class))

"""Insight: learning metrics of a round's updates, computed every few rounds.

* local error Δ_i, docs/model.md (L6): of each device's model on the test set, before aggregation
* gradient similarity, (L3): the cosine between the gradient on what a device trains on and the IID
  gradient, which FIMI's paper plots (:mod:`fimi.coordinator.gradients`)
* similarity, (L7): the cosine between a device's whole update and the IID update, the result of the
  same local training, from the same global model, on public samples, as many of every class
* orthogonality, (L4): how perpendicular the devices' updates are to each other

Insight does not change the model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import overload

import numpy as np

from fimi.coordinator.dealt import Samples
from fimi.coordinator.gradients import Gradients
from fimi.coordinator.update_store import MEMORY_BYTES, Updates, UpdateStore
from fimi.learning.data.dataset import Dataset
from fimi.learning.training import metrics, tensors
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingDivergedError, TrainingSettings
from fimi.record.insight import DeviceInsight, Insight

log = logging.getLogger(__name__)

REFERENCE_SAMPLES = 200
"""Largest number of public samples that the IID reference trains on."""
_STREAM = 5
"""Number of the random stream for the order of the reference's samples."""


def balanced(public: Dataset, samples: int, seed: int) -> Dataset | None:
    """The same number of samples of every class; ``None`` if a class has none.

    Args:
        public: the samples to draw from.
        samples: largest number of all samples; each class gets an equal share of it, or as many as
            the smallest class has.
        seed: seed of the draw.
    """
    counts = public.label_counts()
    each = min(min(counts), max(1, samples // len(counts)))
    if not each:
        return None
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
    order = generator.permutation(len(public))
    chosen = [order[public.labels[order] == k][:each] for k in range(public.classes)]
    return public.subset(np.sort(np.concatenate(chosen)), f"{public.name}/balanced")


class Observer:
    """Computes the insight of a round's updates.

    Args:
        trainer: evaluates the devices' models, and trains the reference.
        test: held-out data.
        public: samples for the IID reference; ``None`` for no reference.
        training: training settings of devices.
        seed: seed of the run.
        spool: keeps gradients.
        cancelled: when it returns true, what is computed ends.

    Attributes:
        training: training settings of devices; a plan may choose their epochs.
    """

    def __init__(
        self,
        trainer: Trainer,
        test: Dataset,
        public: Dataset | None,
        training: TrainingSettings,
        *,
        seed: int,
        spool: UpdateStore,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._trainer = trainer
        self._test = test
        self.training = training
        self._seed = seed
        self._cancelled = cancelled
        self._gradients = Gradients(trainer, training, seed, spool, cancelled)
        self._reference = None if public is None else balanced(public, REFERENCE_SAMPLES, seed)

    def look(self, number: int, before: Parameters, updates: Updates, samples: Samples) -> Insight:
        """The insight of a round.

        Args:
            number: number of the round.
            before: the global model from which devices trained.
            updates: accepted models, by device.
            samples: what devices train on, as far as it is known.

        Raises:
            TrainingCancelled: ``cancelled`` returned true.
        """
        began_s = time.perf_counter()
        aligned, pooled = self._gradients.alignment(number, before, updates.devices, samples)
        iid = self._iid_update(number, before) if updates else None
        found = []
        for device in updates.devices:
            model = updates.of(device)
            scored = self._trainer.evaluate(model, self._test.images, self._test.labels)
            change = metrics.update(before, model)
            found.append(
                DeviceInsight(
                    device=device,
                    local_error=metrics.local_errors({device: scored.accuracy})[device],
                    similarity=None if iid is None else metrics.cosine_similarity(change, iid),
                    gradient_similarity=aligned.get(device),
                )
            )
        orthogonality = metrics.orthogonality(_changes(before, updates))
        return Insight(
            round=number,
            orthogonality=orthogonality,
            reference_samples=len(self._reference) if iid is not None and self._reference else 0,
            gradient_samples=pooled,
            seconds=time.perf_counter() - began_s,
            devices=tuple(found),
        )

    def _iid_update(self, number: int, before: Parameters) -> metrics.Tensors | None:
        if self._reference is None:
            return None
        try:
            trained = self._trainer.train(
                before,
                self._reference.images,
                self._reference.labels,
                self.training,
                stream=(self._seed, _STREAM, number),
                cancelled=self._cancelled,
            )
        except TrainingDivergedError as error:
            log.warning("round %d: the training of the IID reference %s", number, error)
            return None
        return metrics.update(before, trained.parameters)


def _changes(before: Parameters, updates: Updates) -> Sequence[metrics.Tensors]:
    """Updates less the global model: all in memory if they are small, else one by one."""
    changes = _Changes(before, updates)
    small = len(updates) * tensors.size_bytes(before) <= MEMORY_BYTES
    return list(changes) if small else changes


class _Changes(Sequence[metrics.Tensors]):
    """Updates less the global model, one at a time."""

    def __init__(self, before: Parameters, updates: Updates) -> None:
        self._before, self._updates = before, updates

    def __len__(self) -> int:
        return len(self._updates)

    @overload
    def __getitem__(self, index: int) -> metrics.Tensors: ...

    @overload
    def __getitem__(self, index: slice) -> _Changes: ...

    def __getitem__(self, index: int | slice) -> metrics.Tensors | _Changes:
        if isinstance(index, slice):
            return _Changes(self._before, self._updates[index])
        return metrics.update(self._before, self._updates[index])

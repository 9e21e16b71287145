"""Insight: learning metrics of a round's updates, computed every few rounds.

* local error Δ_i, docs/model.md (L6): of each device's model on the test set, before aggregation
* gradient similarity, (L3): the cosine between the gradient on what a device trains on and the one
  on the real samples of all devices, both at the global model; FIMI's paper plots it
* similarity, (L7): the cosine between a device's whole update and the update of IID data, the
  result of the same local training on public samples with the same number of every class
* orthogonality, (L4): how perpendicular the devices' updates are to each other

Gradients are computed here, of samples that the coordinator has dealt out, so that a device spends
nothing on them; where devices have samples of their own there are none. Insight does not change the
model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.coordinator.dealt import Part, Samples, SamplesUnknownError
from fimi.coordinator.update_store import MEMORY_BYTES, Updates, UpdateStore
from fimi.learning.data.dataset import Dataset
from fimi.learning.training import metrics, tensors
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingDivergedError, TrainingSettings
from fimi.record.insight import DeviceInsight, Insight

log = logging.getLogger(__name__)

Gradient = dict[str, NDArray[np.floating[Any]]]

REFERENCE_SAMPLES = 200
"""Largest number of public samples that the IID reference trains on."""
GRADIENT_PIECE = 64
"""Samples of a gradient that are in memory at once."""
_STEP = 1.0
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
        spool: keeps gradients until the IID one is known; cleared after each look.
        cancelled: when it returns true, what is computed ends.
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
        self._training = training
        self._seed = seed
        self._spool = spool
        self._cancelled = cancelled
        self._reference = None if public is None else balanced(public, REFERENCE_SAMPLES, seed)

    def look(
        self, number: int, before: Parameters, updates: Updates, samples: Samples | None = None
    ) -> Insight:
        """The insight of a round.

        Args:
            number: number of the round.
            before: the global model from which devices trained.
            updates: accepted models, by device.
            samples: what devices train on; ``None`` where nothing of it is known.

        Raises:
            TrainingCancelled: ``cancelled`` returned true.
        """
        began_s = time.perf_counter()
        iid = self._iid_update(number, before) if updates else None
        aligned, pooled = self._alignment(number, before, updates, samples)
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
        return Insight(
            round=number,
            orthogonality=metrics.orthogonality(_changes(before, updates)),
            reference_samples=len(self._reference) if iid is not None and self._reference else 0,
            gradient_samples=pooled,
            seconds=time.perf_counter() - began_s,
            devices=tuple(found),
        )

    def _alignment(
        self, number: int, before: Parameters, updates: Updates, samples: Samples | None
    ) -> tuple[dict[str, float | None], int]:
        """(L3) of each device with an update, and the number of samples behind the IID gradient.

        A network with batch normalisation has no gradient of its data alone, for its loss depends
        on how they are cut into batches.
        """
        if samples is None or not updates or self._trainer.batch_min > 1:
            return {}, 0
        pooled: Gradient | None = None
        seen, kept = 0, []
        try:
            for device in samples.devices:
                own = samples.local(device)
                gradient = self._gradient(number, before, own)
                pooled, seen = _joined((pooled, seen), (gradient, len(own.labels)))
                if device in updates.devices:
                    try:
                        made = samples.synthetic(device, before)
                    except SamplesUnknownError as error:
                        log.warning("round %d: gradient of %s: %s", number, device, error)
                        continue
                    if made is not None:
                        beside = self._gradient(number, before, made), len(made.labels)
                        gradient, _ = _joined((gradient, len(own.labels)), beside)
                    self._spool.put(device, tensors.dump(gradient))
                    kept.append(device)
            if pooled is None:
                return {}, 0
            gradients = Updates(self._spool, kept)
            return metrics.alignment(zip(kept, gradients, strict=True), pooled), seen
        except TrainingDivergedError as error:
            log.warning("round %d: the gradient of a device's samples %s", number, error)
            return {}, 0
        finally:
            self._spool.clear()

    def _gradient(self, number: int, before: Parameters, part: Part) -> Gradient:
        """The gradient of the mean loss over some samples, by one step of plain SGD with all."""
        step = replace(
            self._training,
            epochs=1,
            steps=0,
            synthetic_share=0.0,
            batch_size=len(part.labels),
            micro_batch=GRADIENT_PIECE,
            learning_rate=_STEP,
            optimiser="sgd",
            momentum=0.0,
            weight_decay=0.0,
            proximal=0.0,
            clip_norm=0.0,
            amp="off",
        )
        trained = self._trainer.train(
            before,
            part.images,
            part.labels,
            step,
            stream=(self._seed, _STREAM, number),
            cancelled=self._cancelled,
        )
        return metrics.gradient_of_step(before, trained.parameters, _STEP)

    def _iid_update(self, number: int, before: Parameters) -> metrics.Tensors | None:
        if self._reference is None:
            return None
        try:
            trained = self._trainer.train(
                before,
                self._reference.images,
                self._reference.labels,
                self._training,
                stream=(self._seed, _STREAM, number),
                cancelled=self._cancelled,
            )
        except TrainingDivergedError as error:
            log.warning("round %d: the training of the IID reference %s", number, error)
            return None
        return metrics.update(before, trained.parameters)


def _joined(one: tuple[Gradient | None, int], other: tuple[Gradient, int]) -> tuple[Gradient, int]:
    """The gradient of the mean loss over the samples of both, and their number."""
    if one[0] is None:
        return other
    parts = {"one": one[0], "other": other[0]}
    counts = {"one": one[1], "other": other[1]}
    return metrics.pooled_gradient(parts, counts), one[1] + other[1]


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

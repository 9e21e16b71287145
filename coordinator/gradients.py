"""Gradient similarity of devices, docs/model.md (L3), computed of the samples that were dealt out.

* :class:`Gradients`   the cosine of each device's gradient to the IID gradient
* :class:`Gradient`    a gradient of the mean loss over some samples

A device's gradient is that of the mean loss over all that it trains on, real and synthetic, at the
round's global model; the IID gradient is the same over the real samples of all devices together.
Each is one step of plain SGD with all samples at once, as they are, whatever devices train with. No
device computes or sends any of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.coordinator.dealt import Labelled, Samples, SamplesUnknownError
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.training import metrics, tensors
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingDivergedError, TrainingSettings

log = logging.getLogger(__name__)

PIECE = 64
"""Samples that are in memory at once, where training.micro_batch does not say it."""
STEP = 1.0
"""Length of the step, of which nothing depends but rounding."""


class Gradient(NamedTuple):
    """The gradient of the mean loss over a number of samples."""

    of: dict[str, NDArray[np.floating[Any]]]
    samples: int

    def joined(self, other: Gradient | None) -> Gradient:
        """That over the samples of both."""
        if other is None:
            return self
        gradients = {"one": self.of, "other": other.of}
        samples = {"one": self.samples, "other": other.samples}
        pooled = metrics.pooled_gradient(gradients, samples)
        return Gradient({**pooled}, self.samples + other.samples)


class Gradients:
    """Gradients at global models.

    Args:
        trainer: makes the steps.
        training: training settings of devices, for their loss.
        seed: of what the network itself draws.
        spool: keeps gradients until the IID one is known; cleared each time.
        cancelled: when it returns true, what is computed ends.
    """

    def __init__(
        self,
        trainer: Trainer,
        training: TrainingSettings,
        seed: int,
        spool: UpdateStore,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._trainer = trainer
        self._step = replace(
            training,
            epochs=1,
            steps=0,
            synthetic_share=0.0,
            augment=0.0,  # else the IID gradient would not be the same under every strategy
            micro_batch=training.micro_batch or PIECE,
            learning_rate=STEP,
            optimiser="sgd",
            momentum=0.0,
            weight_decay=0.0,
            proximal=0.0,
            clip_norm=0.0,
            amp="off",
        )
        self._seed = seed
        self._spool = spool
        self._cancelled = cancelled

    def alignment(
        self, number: int, model: Parameters, devices: Collection[str], samples: Samples
    ) -> tuple[dict[str, float | None], int]:
        """The similarity of each device, and the number of samples behind the IID gradient.

        There is none where no device's samples are known, where a loss is not finite, and with
        batch normalisation, whose loss depends on how samples are cut into batches.

        Args:
            number: number of the round.
            model: its global model.
            devices: whose similarity is asked for.
            samples: what devices train on; those of all devices make the IID gradient.

        Raises:
            TrainingCancelled: ``cancelled`` returned true.
        """
        if not samples.devices or not devices or self._trainer.batch_min > 1:
            return {}, 0
        iid: Gradient | None = None
        kept = []
        try:
            for device in samples.devices:
                own = self._of(number, model, samples.local(device))
                iid = own.joined(iid)
                if device not in devices:
                    continue
                try:
                    made = samples.synthetic(device, model)
                except SamplesUnknownError as error:
                    log.warning("round %d: gradient of %s: %s", number, device, error)
                    continue
                mixed = own.joined(self._of(number, model, made) if made is not None else None)
                self._spool.put(device, tensors.dump(mixed.of))
                kept.append(device)
            assert iid is not None
            gradients = zip(kept, Updates(self._spool, kept), strict=True)
            return metrics.alignment(gradients, iid.of), iid.samples
        except TrainingDivergedError as error:
            log.warning("round %d: the gradient of a device's samples %s", number, error)
            return {}, 0
        finally:
            self._spool.clear()

    def _of(self, number: int, model: Parameters, part: Labelled) -> Gradient:
        trained = self._trainer.train(
            model,
            part.images,
            part.labels,
            replace(self._step, batch_size=len(part.labels)),
            stream=(self._seed, number),
            cancelled=self._cancelled,
        )
        step = metrics.gradient_of_step(model, trained.parameters, STEP)
        return Gradient(step, len(part.labels))

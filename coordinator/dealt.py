"""What each device trains on, where this process has dealt it out: looked at, never learned from.

* :class:`Samples`    what an observer asks for, as :class:`Labelled` of images with labels
* :class:`DealtData`  a device's own samples by its share, and its synthetic ones by its batches

A share is known here where the coordinator has sent it, as samples or as indices. A device with a
file of its own keeps its samples to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from fimi.coordinator.context import Context
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.enrolment import Roster, Terms
from fimi.coordinator.update_store import UpdateStore
from fimi.learning.data import batches
from fimi.learning.data.dataset import Images, Labels
from fimi.learning.data.use import first_of_each
from fimi.learning.training import pseudo_labels
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, TrainingCancelled
from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer

FETCH_TIMEOUT_S = 120.0
"""Time for one batch, s."""
PATIENCE_S = 10.0
"""How long this process waits in all for batches that are not offered, s."""
_AGAIN_S = 0.5


class Labelled(NamedTuple):
    """Images, (N, channels, height, width), uint8, with their labels, (N,)."""

    images: Images
    labels: Labels


class SamplesUnknownError(RuntimeError):
    """The samples of a device cannot be had now; the message says why."""


class Samples(Protocol):
    """What devices train on."""

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices of the run whose samples are known here, sorted."""

    def local(self, device: str) -> Labelled:
        """Its own samples."""

    def synthetic(self, device: str, model: Parameters) -> Labelled | None:
        """What it trains on beside them from a global model; ``None`` for nothing.

        Raises:
            SamplesUnknownError: they cannot be had now.
        """


class DealtData:
    """The samples of the devices of a run.

    Args:
        context: the context of the run.
        terms: what devices are invited with.
        roster: the devices that take part.
        plans: their plans, with their batches.
        trainer: labels unlabelled images, as the devices do.
        kept: keeps batches; cleared at the end by its owner.
        cancelled: ends a transfer when it returns true.
    """

    def __init__(
        self,
        context: Context,
        terms: Terms,
        roster: Roster,
        plans: DevicePlans,
        trainer: Trainer,
        kept: UpdateStore,
        cancelled: Callable[[], bool],
    ) -> None:
        self._context = context
        self._terms = terms
        self._roster = roster
        self._plans = plans
        self._trainer = trainer
        self._kept = kept
        self._pulled: set[str] = set()
        self._patience_s = PATIENCE_S
        self._cancelled = cancelled

    @property
    def devices(self) -> tuple[str, ...]:
        """See :class:`Samples`."""
        return tuple(sorted(self._plans.members)) if self._terms.samples is not None else ()

    def local(self, device: str) -> Labelled:
        """See :class:`Samples`."""
        assert self._terms.samples is not None
        share = self._terms.samples(self._roster.indices[device])
        return Labelled(share.images, share.labels)

    def synthetic(self, device: str, model: Parameters) -> Labelled | None:
        """See :class:`Samples`.

        Raises:
            SamplesUnknownError: the generator node is away, or the batch did not come.
            TrainingCancelled: ``cancelled`` returned true.
        """
        plan, contract = self._plans.devices[device], self._terms.contract
        offers = [*([] if plan.batch is None else [plan.batch]), *(t.batch for t in plan.top_ups)]
        if not offers:
            return None
        if plan.unlabelled:
            assert plan.batch is not None
            images = batches.decode_unlabelled(
                self._payload(plan.batch),
                image_shape=contract.image_shape,
                contract=contract.digest,
                samples=plan.unlabelled,
            )
            logits = self._trainer.predict(model, images)
            kept, labels = pseudo_labels.choose(logits, plan.confidence_min)
            return Labelled(images[kept], labels) if len(kept) else None
        made = [
            batches.decode(
                self._payload(offer),
                classes=len(contract.class_names),
                image_shape=contract.image_shape,
                contract=contract.digest,
                samples=sum(plan.synthetic_counts),
            )
            for offer in offers
        ]
        labels = np.concatenate([batch.labels for batch in made])
        used = first_of_each(labels, plan.synthetic_use)
        images = np.concatenate([batch.images for batch in made])
        return Labelled(images[used], labels[used]) if len(used) else None

    def _payload(self, offer: Offer) -> bytes:
        """A batch, pulled once from the generator node.

        In a run that goes on, a node that was started again with it may not offer its batches yet.
        """
        if offer.digest in self._pulled:
            return self._kept.get(offer.digest)
        while True:
            began_s = time.monotonic()
            try:
                payload = self._fetched(offer)
                break
            except SamplesUnknownError:
                self._patience_s -= time.monotonic() - began_s + _AGAIN_S
                if self._patience_s < 0.0:
                    raise
                self._context.inbox.wait(lambda: False, _AGAIN_S)
        self._kept.put(offer.digest, payload)
        self._pulled.add(offer.digest)
        return payload

    def _fetched(self, offer: Offer) -> bytes:
        if offer.holder not in self._context.registry.generators:
            raise SamplesUnknownError(f"generator node {offer.holder} is away")
        try:
            return self._context.peer.transfers.fetch(
                offer, timeout_s=FETCH_TIMEOUT_S, cancelled=self._cancelled
            )
        except TransferCancelled as error:
            raise TrainingCancelled("the insight was asked to stop") from error
        except TransferError as error:
            raise SamplesUnknownError(str(error)) from error

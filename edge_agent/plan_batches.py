"""The synthetic batches of a device's plan: which of them it has, and what it costs to get one.

What lies in the cache is not received again, and takes neither time nor joules. An emulated board
has received it exactly once in the record of its run, however often its process was started:
without cost where that is in the run store already.
"""

from __future__ import annotations

from collections.abc import Callable

from fimi.edge_agent.data import MixedData
from fimi.edge_agent.kept import Kept
from fimi.edge_agent.metering import Metering
from fimi.edge_agent.tools import Tools
from fimi.learning.data import batches
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import DevicePlan


class PlanBatches:
    """The batches that one device has in one run.

    Args:
        tools: what it works with.
        metering: its phases.
        data: where the samples go.
        contract: digest of the run's contract, which each batch names.
    """

    def __init__(self, tools: Tools, metering: Metering, data: MixedData, contract: str) -> None:
        self._line, self._exchange = tools.line, tools.exchange
        self._max_bytes = tools.settings.batch_max_bytes
        self._cache = Kept(tools.cache, "batch")
        self._metering = metering
        self._data = data
        self._contract = contract
        self._filled: str | None = None  # digest of the first batch that it has; empty: none
        self.top_ups = 0
        """Batches that came after the first one."""

    def are_of(self, plan: DevicePlan) -> bool:
        """Whether it has the first batch of a plan, or knows that there is none."""
        return self._filled == _digest(plan.batch)

    def clear(self) -> None:
        """Drop all samples of batches."""
        self._data.clear()
        self._filled, self.top_ups = None, 0

    def fetch_first(self, plan: DevicePlan) -> None:
        """Get the first batch of a plan, if there is one.

        Raises:
            TransferCancelled: the plan is no longer wanted.
        """
        if plan.batch is not None:
            self._line.show("fetching")
            self._keep(plan, self._batch(plan, _first, booked=plan.booked))
        self._filled = _digest(plan.batch)

    def fetch_top_ups(self, plan: DevicePlan) -> None:
        """Get the batches that a plan has beside the first one, and that are not here.

        Raises:
            TransferCancelled: the plan is no longer wanted.
        """
        for number in range(self.top_ups, len(plan.top_ups)):
            self._line.show("fetching")
            booked = plan.top_ups[number].booked
            self._keep(plan, self._batch(plan, _top_up(number), booked=booked))
            self.top_ups = number + 1

    def _batch(self, plan: DevicePlan, of: Callable[[DevicePlan], Offer], *, booked: bool) -> bytes:
        """A batch of a plan, as bytes; ``booked``: its receipt is in the run store."""
        real, metering = self._metering.waits_count, self._metering
        digest = of(plan).digest
        payload = self._cache.get(digest)
        if payload is not None and (real or booked):
            return payload

        def latest() -> Offer:
            return of(self._line.latest(plan))

        limit = min(self._max_bytes, batches.largest(_images(plan), self._data.local.image_shape))
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
        self._cache.put(digest, payload)
        return payload

    def _keep(self, plan: DevicePlan, payload: bytes) -> None:
        """Add a batch to the data, with labels or without."""
        local = self._data.local
        if plan.unlabelled:
            self._data.hold(
                batches.decode_unlabelled(
                    payload,
                    image_shape=local.image_shape,
                    contract=self._contract,
                    samples=plan.unlabelled,
                )
            )
        else:
            batch = batches.decode(
                payload,
                classes=local.classes,
                image_shape=local.image_shape,
                contract=self._contract,
                samples=_images(plan),
            )
            self._data.add(batch.images, batch.labels)


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

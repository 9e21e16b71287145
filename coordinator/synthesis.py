"""Requests the plan's synthetic batches from a generator node.

* :class:`Synthesis`  requests batches, waits for them, and has them offered again
* :func:`parts`       divides a request that is too large into several

If the generator node goes offline, the coordinator waits for it and asks again for what is missing.
It gives up a node that is online but silent. Batches are offers, which devices fetch by themselves.
A node that starts again is asked for the same batches once more, as long as devices may need them:
the same request gives the same bytes, and a node with a pool draws nothing twice.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from fimi.coordinator import checkpoint
from fimi.coordinator.context import Context, FederationError
from fimi.coordinator.patience import Reminder
from fimi.learning.data.contract import Contract
from fimi.messaging.messages.synthesis import SyntheticBatch, SyntheticProgress, SyntheticRequest
from fimi.messaging.topics import COORDINATOR
from fimi.record.events import AwaitingGenerator, BatchDelivered, GenerationProgress

SILENCE_S = 1800.0
"""How long a generator node that is online may send neither progress nor a batch before it is given
up, s of wall time. A node that dies is noticed sooner."""
ASK_AGAIN_S = 10.0
"""How long a generator node that is online may be silent before it is asked once more, s: a broker
that dies takes answers with it."""
_AWAITING_S = 0.5
"""Time between two events while there is no generator node, s."""

log = logging.getLogger(__name__)


class Synthesis:
    """Requests synthetic batches and waits for them.

    Args:
        context: the context of the run.
        contract: the data of the run.
        known: batches that are stored already, of a run that goes on.
        requests: what they were asked for with.
        silence_s: how long a generator node that is online may be silent, s.
    """

    def __init__(
        self,
        context: Context,
        contract: Contract,
        known: Mapping[str, SyntheticBatch] = {},
        requests: Mapping[str, SyntheticRequest] = {},
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._context = context
        self._contract = contract
        self._known = dict(known)
        self._silence_s = silence_s
        # Both by receiver, see :func:`fimi.coordinator.checkpoint.receiver`:
        self._requests: dict[str, SyntheticRequest] = dict(requests)
        self._asked: dict[str, str] = {}  # to the start of the node that was asked

    def of(
        self,
        counts: Mapping[str, tuple[int, ...]],
        *,
        unlabelled: bool = False,
        skip: Mapping[str, tuple[int, ...]] = {},
        patience_s: float | None = None,
    ) -> dict[str, SyntheticBatch]:
        """Ask a generator node for images; wait until all requests are answered.

        Args:
            counts: images per class, by device; those of the server by its peer id.
            unlabelled: whether the batches have no labels.
            skip: images of each class that were delivered before, by device; these follow them.
                Then it is no error if there are no further ones.
            patience_s: how long to wait for a generator node, s; ``rounds.gather_timeout_s`` if
                left out.

        Returns:
            The batch of each device.

        Raises:
            FederationError: there is no generator node, or it has made no image.
        """
        wanted = {device: each for device, each in counts.items() if sum(each)}
        to = {device: checkpoint.receiver(device, skip.get(device, ())) for device in wanted}
        for device, each in wanted.items():
            if to[device] in self._known and to[device] in self._requests:
                continue  # the same request gives the same bytes; plans have changed since
            self._requests[to[device]] = self._request(
                device, each, unlabelled, skip.get(device, ())
            )
        batches = {
            device: self._known[to[device]]
            for device in wanted
            if to[device] in self._known and device != COORDINATOR  # it needs its bytes again
        }
        if len(batches) == len(wanted):
            return batches
        context, registry = self._context, self._context.registry
        patience = patience_s
        if patience is None:
            patience = context.settings.rounds.gather_timeout_s
        if not self._await_generator(patience):
            remedy = "; start one, or use --strategy tfl" if patience_s is None else ""
            raise FederationError(
                f"{context.strategy.name} asks for {sum(map(sum, wanted.values()))} images, and "
                f"no generator node came within {patience:g} s{remedy}",
                code="R009",
            )
        while len(batches) < len(wanted):
            generator = registry.generators[0]
            lacking = {to[device] for device in wanted if device not in batches}
            boot_id = registry.generator_boot(generator)
            for receiver in sorted(lacking):
                self._ask(generator, receiver)
            for batch in self._batches_of(generator, lacking):
                batches[batch.device] = batch
                self._keep(batch)
            if len(batches) == len(wanted):
                break
            if registry.generator_boot(generator) == boot_id:
                raise FederationError(
                    f"generator node {generator} delivered {len(batches)} of {len(wanted)} batches "
                    f"and then gave no sign of life for {self._silence_s:g} s; see its log, and "
                    "start it again",
                    code="R009",
                )
            if not self._await_generator(patience, gone=True):
                remedy = "; start it again and resume the run" if patience_s is None else ""
                raise FederationError(
                    f"generator node {generator} delivered {len(batches)} of {len(wanted)} batches,"
                    f" went away and did not come back within {patience:g} s{remedy}",
                    code="R009",
                )
        if not skip and not any(sum(batch.delivered) for batch in batches.values()):
            raise FederationError(
                f"generator node {generator} made none of the {sum(map(sum, wanted.values()))} "
                f"images that the strategy asks for: {batches[min(batches)].error}",
                code="R009",
            )
        return batches

    def _await_generator(self, patience_s: float, *, gone: bool = False) -> bool:
        """Wait for a generator node and say so; returns whether there is one.

        Args:
            patience_s: for how long, s.
            gone: whether there was one, which went away.
        """
        context = self._context
        limit_s, reminder = time.monotonic() + patience_s, Reminder(_AWAITING_S)

        def come() -> bool:
            if not context.registry.generators and reminder.due():
                left_s = max(0.0, limit_s - time.monotonic())
                context.notify(AwaitingGenerator(left_s=left_s, gone=gone))
            return bool(context.registry.generators)

        return context.inbox.wait(come, patience_s)

    def want(self, device: str, counts: tuple[int, ...], *, unlabelled: bool) -> None:
        """Ask for a device's batch without waiting for it; :meth:`is_ours` knows the answer.

        Args:
            device: its receiver.
            counts: images per class.
            unlabelled: whether the batch has no labels.
        """
        self._requests[checkpoint.receiver(device)] = self._request(device, counts, unlabelled, ())
        for generator in self._context.registry.generators[:1]:
            self._ask(generator, device)

    def offer_again(self, devices: Iterable[str]) -> None:
        """Have these devices' batches offered by the node that is there, if it was not asked."""
        context = self._context
        for generator in context.registry.generators[:1]:
            chosen, boot_id = set(devices), context.registry.generator_boot(generator)
            for receiver, request in self._requests.items():
                if request.device in chosen and self._asked.get(receiver) != boot_id:
                    self._ask(generator, receiver)

    def remind(self, device: str) -> None:
        """Ask once more for a batch that has not come: the answer may be lost with a broker."""
        for generator in self._context.registry.generators[:1]:
            self._ask(generator, device)

    def take(self, batch: SyntheticBatch) -> None:
        """Keep a batch that was asked for by :meth:`want`."""
        self._keep(batch)

    def is_ours(self, message: object) -> bool:
        """Whether a message is a batch that this run has asked for."""
        return (
            isinstance(message, SyntheticBatch)
            and message.instance == self._context.instance
            and self._answers(checkpoint.receiver(message.device, message.skip), message)
        )

    def is_known(self, batch: SyntheticBatch) -> bool:
        """Whether the same batch was delivered before."""
        return checkpoint.receiver(batch.device, batch.skip) in self._known

    def _keep(self, batch: SyntheticBatch) -> None:
        """Store a batch and tell of it, once."""
        to = checkpoint.receiver(batch.device, batch.skip)
        if to in self._known:
            return
        self._known[to] = batch
        with self._context.store.together():
            self._context.store.write_checkpoint(checkpoint.of_batch(to, batch, self._requests[to]))
            self._context.notify(
                BatchDelivered(
                    device=batch.device,
                    requested=sum(self._requests[to].counts),
                    delivered=sum(batch.delivered),
                    seconds=batch.seconds,
                    error=batch.error,
                    refused=sum(batch.refused.values()),
                    energy=batch.energy,
                    drawn=batch.drawn,
                )
            )

    def _answers(self, receiver: str, batch: SyntheticBatch) -> bool:
        """Whether a batch holds no more than was asked for: receivers take memory by what it says.

        A node that delivers more counts as silent, and is named in the log.
        """
        if (request := self._requests.get(receiver)) is None:
            return False
        lengths, pairs = (
            {len(batch.delivered), len(request.counts)},
            zip(batch.delivered, request.counts, strict=False),
        )
        if len(lengths) == 1 and all(made <= asked for made, asked in pairs):
            return True
        log.error(
            "a batch for %s is refused: it holds %s images by class, and %s were asked for; the "
            "generator node is at fault, start it again with the version of this machine",
            *(receiver, batch.delivered[:100], request.counts[:100]),
        )
        return False

    def _request(
        self, device: str, counts: tuple[int, ...], unlabelled: bool, skip: tuple[int, ...]
    ) -> SyntheticRequest:
        return SyntheticRequest(
            run=self._context.run,
            device=device,
            instance=self._context.instance,
            contract=self._contract,
            counts=counts,
            seed=self._context.settings.run.seed,
            unlabelled=unlabelled,
            skip=skip,
        )

    def _ask(self, generator: str, receiver: str) -> None:
        self._asked[receiver] = self._context.registry.generator_boot(generator) or ""
        self._context.peer.send(generator, self._requests[receiver])

    def _batches_of(self, generator: str, wanted: Iterable[str]) -> Iterator[SyntheticBatch]:
        """The receivers' batches as they arrive, as long as the node is not given up."""
        context, missing = self._context, set(wanted)
        boot_id = context.registry.generator_boot(generator)
        heard_s = asked_s = time.monotonic()

        def done() -> bool:
            nonlocal asked_s
            now_s = time.monotonic()
            silent = now_s - heard_s > self._silence_s
            if now_s - max(heard_s, asked_s) > ASK_AGAIN_S:
                asked_s = now_s
                for receiver in sorted(missing):
                    self._ask(generator, receiver)
            gone = context.registry.generator_boot(generator) != boot_id
            return not missing or silent or gone

        for sender, message in context.inbox.until(done, math.inf):
            if sender != generator:
                continue
            heard_s = time.monotonic()
            if isinstance(message, SyntheticProgress) and message.instance == context.instance:
                context.notify(
                    GenerationProgress(
                        devices_done=message.devices_done,
                        devices_asked=message.devices_asked,
                        lacking=message.lacking,
                        images_per_s=message.images_per_s,
                    )
                )
            elif (
                isinstance(message, SyntheticBatch)
                and message.instance == context.instance
                and (to := checkpoint.receiver(message.device, message.skip)) in missing
                and self._answers(to, message)
            ):
                missing.remove(to)
                yield message


class Part(Struct, frozen=True, kw_only=True):
    """A part of a large request; the parts are sent one after another.

    Attributes:
        counts: images per class.
        skip: images of each class in the parts before; empty for the first part.
    """

    counts: tuple[int, ...]
    skip: tuple[int, ...] = ()


def parts(counts: Sequence[int], most: int) -> tuple[Part, ...]:
    """Divide a request for images into parts of at most ``most``; the last one may be smaller.

    Args:
        counts: images per class.
        most: most images in a part, 1 or more.
    """
    found: list[Part] = []
    before = [0] * len(counts)
    while sum(before) < sum(counts):
        room, share = most, []
        for count, had in zip(counts, before, strict=True):
            share.append(min(count - had, room))
            room -= share[-1]
        found.append(Part(counts=tuple(share), skip=tuple(before) if found else ()))
        before = [had + more for had, more in zip(before, share, strict=True)]
    return tuple(found)

"""The generator node: requests from the coordinator in, offers of batches out.

Requests are answered one after the other, each as soon as its batch is made; the batch itself waits
to be fetched by the device it is for. The node lives longer than a run: the end of one, or the
first request of the next, frees what was made for it.

Privacy: the only thing about a device that ever gets here is how many images of which class it is
to be given. No message or transfer that this node accepts carries images, labels or parameters.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from msgspec import Struct

from generator_node.service import BatchService
from learning.batches import MEDIA
from messaging.client import Peer
from messaging.errors import MessagingError
from messaging.messages import RunEnded, SyntheticBatch, SyntheticRequest
from messaging.topics import COORDINATOR

POLL_S = 0.2

log = logging.getLogger(__name__)


class _Answered(Struct, frozen=True, kw_only=True):
    request: SyntheticRequest
    answer: SyntheticBatch


class GeneratorNode:
    """Serves synthetic batches.

    Args:
        peer: its MQTT connection, connected and closed by the caller.
        service: what makes the batches.
        on_answer: called with every answer that is sent, for progress.
    """

    def __init__(
        self,
        peer: Peer,
        service: BatchService,
        *,
        on_answer: Callable[[SyntheticBatch], None] | None = None,
    ) -> None:
        self._peer = peer
        self._service = service
        self._on_answer = on_answer
        self._answered: dict[str, _Answered] = {}

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Serve until ``stop`` is set; what is still offered is withdrawn before returning.

        Args:
            stop: ends the loop; set it before closing the peer.
            once: return at the end of the first run.
        """
        try:
            while not stop.is_set():
                received = self._peer.receive(timeout_s=POLL_S)
                if received is None:
                    continue
                sender, message = received
                if isinstance(message, SyntheticRequest | RunEnded) and sender != COORDINATOR:
                    log.warning("%s from %s ignored", type(message).__name__, sender)
                elif isinstance(message, SyntheticRequest):
                    self._answer(message)
                elif isinstance(message, RunEnded):
                    self._forget(message.run)
                    if once:
                        return
        finally:
            self._forget()

    def _answer(self, request: SyntheticRequest) -> None:
        for run in {known.request.run for known in self._answered.values()} - {request.run}:
            self._forget(run)  # one coordinator, one run at a time
        known = self._answered.get(request.device)
        if known is not None and known.request == request:
            answer = known.answer
        else:
            answer = self._make(request)
        try:
            self._peer.send(COORDINATOR, answer)
        except MessagingError as error:
            log.error("answer for %s not sent: %s", request.device, error)
            return
        if self._on_answer is not None:
            self._on_answer(answer)

    def _make(self, request: SyntheticRequest) -> SyntheticBatch:
        """Make and offer a batch; whatever goes wrong is said in the answer."""
        try:
            made = self._service.make(request)
        except Exception as error:  # one bad request must not end the service
            log.warning("batch for %s failed", request.device, exc_info=True)
            return SyntheticBatch(
                run=request.run,
                device=request.device,
                delivered=(0,) * len(request.counts),
                offer=None,
                seconds=0.0,
                generator=self._service.generator.name,
                error=f"{type(error).__name__}: {error}",
            )
        offer = self._peer.transfers.serve(made.data, MEDIA) if made.data else None
        answer = SyntheticBatch(
            run=request.run,
            device=request.device,
            delivered=made.delivered,
            offer=offer,
            seconds=made.seconds,
            generator=self._service.generator.name,
        )
        self._drop(request.device)
        self._answered[request.device] = _Answered(request=request, answer=answer)
        return answer

    def _forget(self, run: str | None = None) -> None:
        """Withdraw what was made for a run, or for all."""
        for device, known in list(self._answered.items()):
            if run is None or known.request.run == run:
                self._drop(device)

    def _drop(self, device: str) -> None:
        known = self._answered.pop(device, None)
        if known is not None and known.answer.offer is not None:
            self._peer.transfers.withdraw(known.answer.offer.digest)

"""The generator node: receives requests from the coordinator and offers batches.

The images of all requests are drawn together, in chunks. Each request is answered as soon as its
batch is ready; its device then fetches the batch. The node lives longer than a run: the end of a
run, or the first request of the next one, frees the batches of the run.

A journal next to the pool holds the requests whose batches are not freed yet. A node that was
killed reads it when it starts again, draws only the images that the pool does not have, and offers
the same batches. An offer names its bytes by their digest, and the same request gives the same
bytes, so that a device can continue an interrupted download. If the coordinator is offline for
longer than :data:`PATIENCE_S`, nothing is drawn until it is back.

Privacy: of a device this node gets only the number of images of each class that it is to get. No
message or transfer that this node accepts carries images, labels or parameters.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.files import write_whole
from fimi.generator_node.service.device_batch import MadeBatch
from fimi.generator_node.service.service import BatchService, QueueProgress, RequestRefusedError
from fimi.generator_node.service.showcase import Showcase
from fimi.learning.data import contract as contracts
from fimi.learning.data.batches import MEDIA
from fimi.learning.data.contract import Contract, ContractError
from fimi.messaging.client import Peer
from fimi.messaging.errors import MessagingError
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.messages.synthesis import (
    SyntheticBatch,
    SyntheticProgress,
    SyntheticRequest,
    SyntheticSamples,
)
from fimi.messaging.topics import COORDINATOR

POLL_S = 0.2
PROGRESS_S = 1.0
"""Least time between two progress messages, s."""
PATIENCE_S = 60.0
"""How long a coordinator may be offline before the node stops drawing for it, s."""

log = logging.getLogger(__name__)


class _Answered(Struct, frozen=True, kw_only=True):
    request: SyntheticRequest
    answer: SyntheticBatch
    final: bool


class RequestJournal:
    """The requests whose batches are not freed yet, in a file, whose folder must exist.

    Args:
        path: of the file.
        survives_power_cut: whether requests are on the disk before they are served.
    """

    def __init__(self, path: Path, *, survives_power_cut: bool = True) -> None:
        self._path = path
        self._durable = survives_power_cut

    def read(self) -> list[SyntheticRequest]:
        """The requests that were written last; none if there is no file or it is damaged."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[SyntheticRequest])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s cannot be read and is left out: %s", self._path, error)
            return []

    def write(self, requests: Iterable[SyntheticRequest]) -> None:
        """Replace the content by these requests, completely or not at all."""
        try:
            data = msgspec.json.encode(list(requests))
            write_whole(self._path, data, durable=self._durable)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)


class GeneratorNode:
    """Serves synthetic batches.

    Args:
        peer: its MQTT connection, connected and closed by the caller.
        service: makes the batches.
        journal: keeps requests; ``None``: a restarted node has no requests.
        contract: what the node knows of the data; a request under a contract that differs in what
            concerns the node is refused. ``None``: it knows nothing of them.
        on_answer: called with every answer that is sent, to show progress.
        on_progress: called after every chunk.
        progress_every_s: least time between two progress messages to the coordinator, s.
        patience_s: how long the coordinator may be offline before nothing is drawn for it, s.
    """

    def __init__(
        self,
        peer: Peer,
        service: BatchService,
        *,
        journal: RequestJournal | None = None,
        contract: Contract | None = None,
        on_answer: Callable[[SyntheticBatch], None] | None = None,
        on_progress: Callable[[QueueProgress], None] | None = None,
        progress_every_s: float = PROGRESS_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._peer = peer
        self._service = service
        self._journal = journal
        self._contract = contract
        self._on_answer = on_answer
        self._on_progress = on_progress
        self._progress_every_s = progress_every_s
        self._patience_s = patience_s
        self._waiting: dict[tuple[str, int], SyntheticRequest] = {}
        self._answered: dict[tuple[str, int], _Answered] = {}
        self._showcase = Showcase()
        self._told = (time.monotonic(), 0)  # time of the last progress message, images by then

    def run(self, stop: threading.Event, *, once: bool = False) -> None:
        """Serve until ``stop`` is set; then withdraw all offers.

        Args:
            stop: ends the loop; set it before closing the peer.
            once: return at the end of the first run.
        """
        try:
            for request in self._journal.read() if self._journal else ():
                log.debug("going on with the request of run %s for %s", request.run, request.device)
                self._take(request)
            while not stop.is_set():
                if not self._service.busy:
                    self._told = (time.monotonic(), self._service.progress.drawn)
                if self._receive(once):
                    return
                if self._service.busy and not self._left_alone():
                    for made in self._service.work():
                        self._offer(made)
                    self._tell(self._service.progress)
        finally:
            self._forget()

    def _tell(self, progress: QueueProgress) -> None:
        """Report progress: always to ``on_progress``, and at intervals to the coordinator."""
        if self._on_progress is not None:
            self._on_progress(progress)
        (at, drawn), now = self._told, time.monotonic()
        if now - at < self._progress_every_s or not self._waiting:
            return
        self._told = (now, progress.drawn)
        asked = next(iter(self._waiting.values()))
        message = SyntheticProgress(
            run=asked.run,
            instance=asked.instance,
            devices_done=len(self._answered),
            devices_asked=len(self._answered) + len(self._waiting),
            lacking=progress.lacking,
            images_per_s=(progress.drawn - drawn) / (now - at),
        )
        try:
            self._peer.send(COORDINATOR, message)
        except MessagingError as error:
            log.warning("progress not sent: %s", error)

    def _receive(self, once: bool) -> bool:
        """Handle all messages that have arrived; returns whether the node is to end (``once``)."""
        idle = not self._service.busy or self._left_alone()
        received = self._peer.receive(timeout_s=POLL_S if idle else 0)
        while received is not None:
            sender, message = received
            if isinstance(message, SyntheticRequest):  # of the coordinator: others are refused
                self._take(message)
            elif isinstance(message, RunEnded) and sender == COORDINATOR:
                self._forget((message.run, message.instance))
                self._note()
                if once:
                    return True
            received = self._peer.receive(timeout_s=0)
        return False

    def _left_alone(self) -> bool:
        absent_s = self._peer.absent_s(COORDINATOR)
        return absent_s is not None and absent_s > self._patience_s

    def _take(self, request: SyntheticRequest) -> None:
        """Queue a request, or answer at once if its batch exists or it cannot be served."""
        try:
            self._check_contract(request)
        except ContractError as error:
            self._refuse(request, error)
            return
        answered = [known.request for known in self._answered.values()]
        runs = {(known.run, known.instance) for known in (*answered, *self._waiting.values())}
        for run in runs - {(request.run, request.instance)}:
            self._forget(run)  # there is one coordinator, which has one run at a time
        receiver = _receiver(request)
        if self._waiting.get(receiver) == request:
            return
        known = self._answered.get(receiver)
        if known is not None and known.request == request and known.final:
            self._send(known.answer)
            return
        self._drop(receiver)
        try:
            self._service.submit(request)
        except RequestRefusedError as error:
            self._refuse(request, error)
            return
        self._waiting[receiver] = request
        self._note()

    def _check_contract(self, request: SyntheticRequest) -> None:
        if self._contract is not None and request.contract is not None:
            contracts.require(
                contracts.differences(self._contract, request.contract, contracts.OF_NODE),
                "the public data of this generator node",
                "start the node with the configuration of the run",
            )

    def _refuse(self, request: SyntheticRequest, error: Exception) -> None:
        log.warning("%s", error)
        self._send(
            SyntheticBatch(
                run=request.run,
                device=request.device,
                instance=request.instance,
                skip=request.skip,
                delivered=(0,) * len(request.counts),
                offer=None,
                seconds=0.0,
                generator=self._service.generator.name,
                error=str(error),
            )
        )

    def _offer(self, made: MadeBatch) -> None:
        """Serve a batch and tell the coordinator."""
        request = made.request
        del self._waiting[_receiver(request)]
        answer = SyntheticBatch(
            run=request.run,
            device=request.device,
            instance=request.instance,
            skip=request.skip,
            delivered=made.delivered,
            offer=self._peer.transfers.serve(made.data, MEDIA) if made.data else None,
            seconds=made.seconds,
            generator=self._service.generator.name,
            drawn=made.drawn,
            refused=made.refused,
            energy=made.energy,
            error=made.error,
        )
        self._answered[_receiver(request)] = _Answered(
            request=request, answer=answer, final=not made.failed
        )
        self._send(answer)
        self._show(made)

    def _show(self, made: MadeBatch) -> None:
        """Let the coordinator show an image of each class."""
        request = made.request
        try:
            for pictures in self._service.samples(made, self._showcase):
                message = SyntheticSamples(
                    run=request.run, instance=request.instance, pictures=pictures
                )
                self._peer.send(COORDINATOR, message)
        except MessagingError as error:
            log.debug("samples not sent: %s", error)

    def _send(self, answer: SyntheticBatch) -> None:
        try:
            self._peer.send(COORDINATOR, answer)
        except MessagingError as error:
            log.error("answer for %s not sent: %s", answer.device, error)
            return
        if self._on_answer is not None:
            self._on_answer(answer)

    def _note(self) -> None:
        """Write the present requests to the journal."""
        if self._journal is not None:
            answered = [known.request for known in self._answered.values()]
            self._journal.write([*answered, *self._waiting.values()])

    def _forget(self, run: tuple[str, str] | None = None) -> None:
        """Drop the requests and batches of one run, by name and instance, or of all."""
        answered = {receiver: known.request for receiver, known in self._answered.items()}
        for receiver, request in [*answered.items(), *self._waiting.items()]:
            if run is None or (request.run, request.instance) == run:
                self._drop(receiver)
        if not self._waiting and not self._answered:
            self._service.release()

    def _drop(self, receiver: tuple[str, int]) -> None:
        if (request := self._waiting.pop(receiver, None)) is not None:
            self._service.withdraw(request)
        known = self._answered.pop(receiver, None)
        if known is not None and known.answer.offer is not None:
            self._peer.transfers.withdraw(known.answer.offer.digest)


def _receiver(request: SyntheticRequest) -> tuple[str, int]:
    """What a request is for. A device keeps its batches; the server's come one after another."""
    return request.device, 0 if request.device == COORDINATOR else sum(request.skip)

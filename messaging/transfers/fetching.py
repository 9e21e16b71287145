"""The asker's side of transfers: pulls payloads and confirms them to their holders.

:class:`Fetching` is the base of :class:`~fimi.messaging.transfers.exchange.Transfers`, which adds
the holder's side. Each fetch runs on its caller's thread.
:class:`~fimi.messaging.transfers.chunks.Assembly` decides which chunks to ask for, and when again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct
from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.messages import Offer
from fimi.messaging.topics import Kind
from fimi.messaging.transfers.chunks import WINDOW, Assembly, check_offer
from fimi.messaging.transfers.wire import (
    Answer,
    Chunk,
    Done,
    Gone,
    Noted,
    Want,
    decode_answer,
    encode_transfer,
)

_MAX_INBOX = 4 * WINDOW
_DONE_AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)

log = logging.getLogger(__name__)


class Carrier(Protocol):
    """What transfers use of their peer."""

    @property
    def id(self) -> str:
        """Its peer id."""
        ...

    def publish(self, recipient: str, kind: Kind, payload: bytes) -> MQTTMessageInfo | None:
        """Publish without acknowledgement; ``None`` while offline."""
        ...

    def absent_s(self, peer: str) -> float | None:
        """For how long another peer has been offline; ``None`` if it is not known to be."""
        ...


class Counters(Struct):
    """Numbers of chunks and requests; for diagnosis and tests."""

    sent: int = 0
    received: int = 0
    asked_again: int = 0
    corrupt: int = 0
    refused: int = 0


class _Download:
    """One fetch in progress: the network thread adds chunks, the caller's thread takes them."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.assembly = Assembly(offer)
        self.inbox: deque[Chunk] = deque()
        self.gone = False
        self.hurry = False

    def failure(self, why: str, kind: type[TransferError] = TransferError) -> TransferError:
        """The error to raise; says how much has arrived."""
        offer, assembly = self.offer, self.assembly
        return kind(
            f"{offer.media} payload {offer.digest[:12]} ({offer.size_bytes} B) from {offer.holder}:"
            f" {why}; {assembly.received} of {assembly.count} chunks had come, "
            f"{assembly.corrupt} damaged, {assembly.asked_again} asked for again"
        )


class Fetching:
    """All fetches of one peer."""

    def __init__(self, carrier: Carrier, max_bytes: int, gone_after_s: float) -> None:
        self.counters = Counters()
        self._carrier = carrier
        self._max_bytes = max_bytes
        self._gone_after_s = gone_after_s
        self._changed = threading.Condition()  # the lock; notified whenever something has arrived
        self._downloads: list[_Download] = []
        self._unconfirmed: dict[tuple[str, str], tuple[float, int]] = {}
        self._closed = False

    def fetch(
        self,
        offer: Offer,
        timeout_s: float,
        *,
        cancelled: Callable[[], bool] | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """Pull a payload, verify it and confirm it to its holder.

        Args:
            offer: the payload and its holder.
            timeout_s: time for the whole payload, s.
            cancelled: called a few times a second; the fetch ends when it returns true.
            max_bytes: largest payload to accept; by default that of this object.

        Raises:
            TransferError: the payload is too large, incomplete after ``timeout_s`` or differs from
                the offer, or the holder is offline.
            TransferCancelled: ``cancelled`` returned true.
        """
        check_offer(offer, self._max_bytes if max_bytes is None else max_bytes)
        download = _Download(offer)
        with self._changed:
            if self._closed:
                raise TransferError(f"cannot fetch from {offer.holder}: this peer is closed")
            self._downloads.append(download)
        try:
            self._pull(download, timeout_s, cancelled)
            data = download.assembly.finish()
        finally:
            with self._changed:
                self._downloads.remove(download)
                self.counters.asked_again += download.assembly.asked_again
                self.counters.corrupt += download.assembly.corrupt
        with self._changed:
            self._unconfirmed[offer.holder, offer.digest] = (time.monotonic(), 0)
            self._changed.notify_all()
        return data

    def _pull(
        self, download: _Download, timeout_s: float, cancelled: Callable[[], bool] | None
    ) -> None:
        offer, assembly = download.offer, download.assembly
        deadline_s = time.monotonic() + timeout_s
        while assembly.missing:
            now_s = time.monotonic()
            if self._closed:
                raise download.failure("this peer was closed")
            if cancelled is not None and cancelled():
                raise download.failure("cancelled", TransferCancelled)
            if download.gone:
                raise download.failure("the holder no longer serves it; ask it to offer it")
            if now_s >= deadline_s:
                raise download.failure(
                    f"not complete after {timeout_s:g} s; check the link to the holder"
                )
            absent_s = self._carrier.absent_s(offer.holder)
            if absent_s is not None and absent_s > self._gone_after_s:
                raise download.failure(f"the holder has been offline for {absent_s:.0f} s")
            with self._changed:
                if download.hurry:
                    download.hurry = False
                    assembly.hurry()
                indices = assembly.ask(now_s)
            if indices:
                want = encode_transfer(Want(digest=offer.digest, indices=indices))
                self._carrier.publish(offer.holder, "want", want)
            with self._changed:
                wait_s = min(assembly.next_s(), deadline_s, now_s + 0.25) - time.monotonic()
                if not download.inbox and not download.gone and not download.hurry and wait_s > 0:
                    self._changed.wait(wait_s)
                chunks = list(download.inbox)
                download.inbox.clear()
            for chunk in chunks:
                if assembly.accept(chunk, time.monotonic()) == "corrupt":
                    log.warning(
                        "chunk %d of %s from %s is damaged; it will be asked for again",
                        *(chunk.index, offer.digest[:12], offer.holder),
                    )

    # Called by the peer, on the network thread.

    def on_reconnected(self) -> None:
        """Ask again now for all chunks in flight, and confirm again: both are lost."""
        with self._changed:
            for download in self._downloads:
                download.hurry = True
            now_s = time.monotonic()
            for key, (_, tries) in self._unconfirmed.items():
                self._unconfirmed[key] = (now_s, tries)
            self._changed.notify_all()

    def on_answer(self, holder: str, payload: bytes) -> None:
        """Handle a chunk, a ``gone`` or a ``noted``."""
        try:
            answer = decode_answer(payload)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(f"chunk from {holder}: {error}")
            return
        with self._changed:
            wanted = self._take(holder, answer)
            self.counters.received += wanted and isinstance(answer, Chunk)
            self.counters.refused += not wanted
            self._changed.notify_all()

    def _refuse(self, what: str) -> None:
        self.counters.refused += 1
        log.warning("dropped: %s", what)

    # With the lock held.

    def _take(self, holder: str, answer: Answer) -> bool:
        """Handle an answer of a holder; returns whether a fetch expected it."""
        if isinstance(answer, Noted):
            self._unconfirmed.pop((holder, answer.digest), None)
            return True
        wanted = False
        for download in self._downloads:
            if (download.offer.holder, download.offer.digest) != (holder, answer.digest):
                continue
            if isinstance(answer, Gone):
                download.gone = wanted = True
            elif len(download.inbox) < _MAX_INBOX and download.assembly.expects(answer.index):
                download.inbox.append(answer)
                wanted = True
        return wanted

    def _confirmations(self, now_s: float) -> list[tuple[str, Done]]:
        """The holders to which a payload is to be confirmed now."""
        due: list[tuple[str, Done]] = []
        for (holder, digest), (due_s, tries) in list(self._unconfirmed.items()):
            if due_s > now_s:
                continue
            due.append((holder, Done(digest=digest)))
            if tries < len(_DONE_AGAIN_S):
                self._unconfirmed[holder, digest] = (now_s + _DONE_AGAIN_S[tries], tries + 1)
            else:
                del self._unconfirmed[holder, digest]
        return due

    def _next_confirmation_s(self) -> float:
        """When :meth:`_confirmations` will have something to send."""
        return min((due_s for due_s, _ in self._unconfirmed.values()), default=float("inf"))

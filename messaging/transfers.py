"""Large payloads: named by their digest, cut into chunks, pulled by the receiver, verified.

Whoever has a payload :meth:`serves <Transfers.serve>` it and sends the :class:`Offer` in a message;
whoever wants it :meth:`fetches <Transfers.fetch>` it::

    asker                                   holder
      want {digest, chunk indices}   ──▶      at most 4 chunks of a payload in flight
      ◀──  chunk {digest, index, check, data}
      done {digest}                  ──▶      the holder now knows; repeated until
      ◀──  noted {digest}                     it has said so

Nothing rests on the broker: chunks travel unacknowledged (QoS 0), the asker checks every chunk and
asks again for what is lost or damaged, at once after a reconnect, else after a growing wait. One
thread per peer publishes chunks, a few at a time, so that neither the network thread nor the
messages between the chunks have to wait.
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

from messaging.chunks import (
    DEFAULT_CHUNK_BYTES,
    MAX_CHUNK_BYTES,
    WINDOW,
    Assembly,
    check_offer,
)
from messaging.errors import TransferCancelled, TransferError
from messaging.messages import Offer
from messaging.pacing import TokenBucket
from messaging.shelf import Shelf, sha256
from messaging.topics import Kind
from messaging.wire import (
    Chunk,
    Done,
    Gone,
    Noted,
    Want,
    decode_answer,
    decode_request,
    encode_transfer,
)

DEFAULT_MAX_BYTES = 256 << 20
_MAX_ANSWERS = 1024
_MAX_INBOX = 4 * WINDOW
_CHUNK_S = 0.25
_LEAST_CHUNK_BYTES = 1024
_DONE_AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)

log = logging.getLogger(__name__)


class Carrier(Protocol):
    """What transfers need of the peer that they belong to."""

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
    """What has happened to chunks so far; for diagnosis and tests."""

    sent: int = 0
    received: int = 0
    asked_again: int = 0
    corrupt: int = 0
    refused: int = 0


class _Download:
    """One fetch in progress, filled by the network thread and emptied by the caller's."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.assembly = Assembly(offer)
        self.inbox: deque[Chunk] = deque()
        self.gone = False
        self.hurry = False


class Transfers:
    """All transfers of one peer, both ways. Belongs to a peer, which feeds and closes it."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        gone_after_s: float = 15.0,
    ) -> None:
        """No transfers yet.

        Args:
            carrier: the peer.
            chunk_bytes: size of the chunks it serves.
            max_bytes: largest payload it fetches.
            gone_after_s: give a fetch up when its holder has been offline for this long.
        """
        if not 1 <= chunk_bytes <= MAX_CHUNK_BYTES:
            raise ValueError(f"chunk_bytes is {chunk_bytes}; take 1 to {MAX_CHUNK_BYTES}")
        self.counters = Counters()
        self._carrier = carrier
        self._max_bytes = max_bytes
        self._gone_after_s = gone_after_s
        self._changed = threading.Condition()
        self._shelf = Shelf(carrier.id, chunk_bytes)
        self._answers: deque[tuple[str, Gone | Noted]] = deque(maxlen=_MAX_ANSWERS)
        self._downloads: list[_Download] = []
        self._unconfirmed: dict[tuple[str, str], tuple[float, int]] = {}
        self._closed = False
        self._worker: threading.Thread | None = None
        self.bucket: TokenBucket | None = None
        self._chunk_bytes = chunk_bytes
        self._paced_bytes: int | None = None

    def pace(self, rate_bps: float | None, bucket: TokenBucket | None) -> None:
        """What is served from now on comes in chunks that suit a rate.

        A chunk that takes longer than its asker is patient would be asked for twice, and messages
        would have to wait for it.

        Args:
            rate_bps: of sending; ``None`` for unlimited.
            bucket: holds the chunks back; ``None`` where the operating system does.
        """
        with self._changed:
            self.bucket = bucket
            self._paced_bytes = None
            if rate_bps is not None:
                suiting = max(_LEAST_CHUNK_BYTES, round(rate_bps / 8.0 * _CHUNK_S))
                self._paced_bytes = min(self._chunk_bytes, suiting)
            self._changed.notify_all()

    # The holder's side.

    def serve(self, data: bytes, media: str, *, keep: int | None = None) -> Offer:
        """Let others fetch ``data``.

        Serving the same bytes again counts: each :meth:`serve` needs its :meth:`withdraw`.

        Args:
            data: the payload; kept by reference.
            media: what it is, for example ``"safetensors"``.
            keep: forget it once this many peers have all of it; ``None`` until withdrawn.

        Returns:
            What to send to whoever shall fetch it.
        """
        digest = sha256(data)
        with self._changed:
            return self._shelf.put(digest, data, media, keep, self._paced_bytes)

    def withdraw(self, digest: str) -> None:
        """Stop serving a payload; no effect if it is not served."""
        with self._changed:
            self._shelf.take(digest)

    def served(self) -> tuple[str, ...]:
        """Digests of what is being served."""
        with self._changed:
            return self._shelf.digests()

    def wait_served(self, digest: str, *, by: str, timeout_s: float) -> bool:
        """Wait until the peer ``by`` has said that it has all of a payload.

        Returns:
            Whether it has; ``False`` after ``timeout_s``, after :meth:`close`, and for a payload
            that was never served.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._shelf.is_done(by, digest), timeout_s
            )
            return self._shelf.is_done(by, digest)

    # The asker's side.

    def fetch(
        self,
        offer: Offer,
        timeout_s: float,
        *,
        cancelled: Callable[[], bool] | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """Pull a payload, verify it and tell its holder that it is here.

        Args:
            offer: what, from whom.
            timeout_s: for the whole payload.
            cancelled: asked a few times a second whether to give up.
            max_bytes: largest payload to accept; by default that of this object.

        Raises:
            TransferError: too large, not complete in time, holder gone, or not what was offered.
            TransferCancelled: given up because ``cancelled`` said so.
        """
        check_offer(offer, self._max_bytes if max_bytes is None else max_bytes)
        download = _Download(offer)
        with self._changed:
            if self._closed:
                raise TransferError(f"cannot fetch from {offer.holder}: this peer is closed")
            self._downloads.append(download)
        try:
            self._pull(download, time.monotonic() + timeout_s, timeout_s, cancelled)
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
        self,
        download: _Download,
        deadline_s: float,
        timeout_s: float,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        offer, assembly = download.offer, download.assembly
        while assembly.missing:
            now_s = time.monotonic()
            if self._closed:
                raise self._failure(download, "this peer was closed")
            if cancelled is not None and cancelled():
                raise TransferCancelled(str(self._failure(download, "cancelled")))
            if download.gone:
                raise self._failure(download, "the holder no longer serves it; ask it to offer it")
            if now_s >= deadline_s:
                raise self._failure(
                    download, f"not complete after {timeout_s:g} s; check the link to the holder"
                )
            absent_s = self._carrier.absent_s(offer.holder)
            if absent_s is not None and absent_s > self._gone_after_s:
                raise self._failure(download, f"the holder has been offline for {absent_s:.0f} s")
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
                verdict = assembly.accept(chunk, time.monotonic())
                if verdict == "corrupt":
                    log.warning(
                        "chunk %d of %s from %s is damaged; it will be asked for again",
                        *(chunk.index, offer.digest[:12], offer.holder),
                    )

    def _failure(self, download: _Download, why: str) -> TransferError:
        offer, assembly = download.offer, download.assembly
        return TransferError(
            f"{offer.media} payload {offer.digest[:12]} ({offer.size_bytes} B) from {offer.holder}:"
            f" {why}; {assembly.received} of {assembly.count} chunks had come, "
            f"{assembly.corrupt} damaged, {assembly.asked_again} asked for again"
        )

    # Fed by the peer, on the network thread.

    def start(self) -> None:
        """Start the thread that publishes chunks."""
        self._worker = threading.Thread(
            target=self._work, name=f"transfers-{self._carrier.id}", daemon=True
        )
        self._worker.start()

    def close(self) -> None:
        """End all transfers; waiting callers return or raise."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def on_reconnected(self) -> None:
        """What was in flight is lost: ask again now."""
        with self._changed:
            for download in self._downloads:
                download.hurry = True
            now_s = time.monotonic()
            for key, (_, tries) in self._unconfirmed.items():
                self._unconfirmed[key] = (now_s, tries)
            self._changed.notify_all()

    def on_request(self, asker: str, payload: bytes) -> None:
        """A ``want`` or ``done`` has come."""
        try:
            request = decode_request(payload)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(f"request from {asker}: {error}")
            return
        with self._changed:
            if isinstance(request, Done):
                self._shelf.done(asker, request.digest)
                self._answers.append((asker, Noted(digest=request.digest)))
            elif self._shelf.has(request.digest):
                refused = self._shelf.order(asker, request.digest, request.indices)
                self.counters.refused += refused
            else:
                self._answers.append((asker, Gone(digest=request.digest)))
            self._changed.notify_all()

    def on_answer(self, holder: str, payload: bytes) -> None:
        """A chunk, or word that there is none, has come."""
        try:
            answer = decode_answer(payload)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(f"chunk from {holder}: {error}")
            return
        with self._changed:
            if isinstance(answer, Noted):
                self._unconfirmed.pop((holder, answer.digest), None)
                return
            wanted = False
            for download in self._downloads:
                if (download.offer.holder, download.offer.digest) != (holder, answer.digest):
                    continue
                if isinstance(answer, Gone):
                    download.gone = wanted = True
                elif len(download.inbox) < _MAX_INBOX and download.assembly.expects(answer.index):
                    download.inbox.append(answer)
                    wanted = True
            if wanted:
                self.counters.received += isinstance(answer, Chunk)
                self._changed.notify_all()
            else:
                self.counters.refused += 1

    def _refuse(self, what: str) -> None:
        self.counters.refused += 1
        log.warning("dropped: %s", what)

    # The worker thread.

    def _work(self) -> None:
        leaving: deque[MQTTMessageInfo] = deque()
        while True:
            with self._changed:
                if self._closed:
                    return
                notes = self._notes(time.monotonic())
                order = self._shelf.next_order()
                if not notes and order is None:
                    self._changed.wait(self._idle_s())
                    continue
                self.counters.sent += order is not None
            for recipient, kind, body in notes:
                self._carrier.publish(recipient, kind, encode_transfer(body))
            if order is not None:
                chunk = encode_transfer(order.chunk())
                if (bucket := self.bucket) is not None:
                    self._hold_back(bucket.take(len(chunk)))
                info = self._carrier.publish(order.asker, "chunk", chunk)
                if info is not None:
                    leaving.append(info)
            while len(leaving) >= WINDOW and not self._closed:
                info = leaving.popleft()
                try:
                    info.wait_for_publish(5.0)
                except (RuntimeError, ValueError):
                    continue  # lost with the connection: it will be asked for again

    def _hold_back(self, wait_s: float) -> None:
        """Wait, unless this object is closed or the rate is lifted meanwhile."""
        with self._changed:
            bucket = self.bucket
            self._changed.wait_for(lambda: self._closed or self.bucket is not bucket, wait_s)

    def _notes(self, now_s: float) -> list[tuple[str, Kind, Gone | Noted | Done]]:
        """The short answers and confirmations that are due."""
        notes: list[tuple[str, Kind, Gone | Noted | Done]] = []
        while self._answers:
            recipient, answer = self._answers.popleft()
            notes.append((recipient, "chunk", answer))
        for (holder, digest), (due_s, tries) in list(self._unconfirmed.items()):
            if due_s > now_s:
                continue
            notes.append((holder, "want", Done(digest=digest)))
            if tries < len(_DONE_AGAIN_S):
                self._unconfirmed[holder, digest] = (now_s + _DONE_AGAIN_S[tries], tries + 1)
            else:
                del self._unconfirmed[holder, digest]
        return notes

    def _idle_s(self) -> float | None:
        due_s = min((due for due, _ in self._unconfirmed.values()), default=None)
        return None if due_s is None else max(0.0, due_s - time.monotonic())

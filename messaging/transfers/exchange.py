"""Large payloads: named by their digest, divided into chunks, pulled by the receiver, verified.

The holder of a payload :meth:`serves <Transfers.serve>` it and sends the :class:`Offer` in a
message; the receiver (asker) :meth:`fetches <Transfers.fetch>` it::

    asker                                   holder
      want {digest, runs of blocks}  ──▶      as much on its way as the link holds
      ◀──  chunk {digest, start, check, data}
      done {digest}                  ──▶      repeated until the holder
      ◀──  noted {digest}                     has confirmed it

Nothing depends on the broker: chunks travel unacknowledged (QoS 0). The asker checks every chunk
and asks again for lost or damaged ones, at once after a reconnect, else after a growing wait. One
thread per peer publishes chunks, a few at a time, in turn for all askers and no faster than its
rate, so that neither the network thread nor the messages between the chunks have to wait. The
asker's side is :mod:`fimi.messaging.transfers.fetching`.

A payload that many get at once can be served over a topic that all of them hear
(:mod:`fimi.messaging.transfers.stream`).
"""

from __future__ import annotations

import threading
import time
from collections import deque

import msgspec
from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging.messages.basis import Offer
from fimi.messaging.topics import Kind
from fimi.messaging.transfers import buffers
from fimi.messaging.transfers.blocks import BLOCK_BYTES
from fimi.messaging.transfers.fetching import Carrier, Fetching
from fimi.messaging.transfers.pacing import TokenBucket, paced_chunk_bytes
from fimi.messaging.transfers.serving import Order, ServedPayloads, sha256
from fimi.messaging.transfers.window import MAX_CHUNK_BYTES
from fimi.messaging.transfers.wire import (
    Apart,
    Done,
    Gone,
    Noted,
    decode_request,
    encode_transfer,
)

DEFAULT_MAX_BYTES = 256 << 20
CHUNK_OVERHEAD = 256
"""Most bytes of a chunk's message besides the chunk."""

LONGEST_NAME = 64 * "x"
LEAVING = 16
"""Chunks that may wait in front of the network: everything else waits behind them."""
MAX_NOTES = 64
"""Most short answers that wait for one asker; the oldest gives way. It asks again."""

Note = Gone | Noted | Apart


class Transfers(Fetching):
    """All transfers of one peer, in both directions. The peer passes messages in and closes it."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        chunk_bytes: int = MAX_CHUNK_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        gone_after_s: float = 15.0,
    ) -> None:
        """An object without transfers; no chunk that it sends is larger than ``chunk_bytes``.

        A fetch fails when its holder has been offline for ``gone_after_s``.
        """
        if not BLOCK_BYTES <= chunk_bytes <= MAX_CHUNK_BYTES:
            raise ValueError(
                f"chunk_bytes is {chunk_bytes}; take {BLOCK_BYTES} to {MAX_CHUNK_BYTES}"
            )
        super().__init__(carrier, max_bytes, gone_after_s)
        self._chunk_bytes = chunk_bytes
        self._shelf = ServedPayloads(carrier.id)
        self._asked = threading.Condition(self.lock)  # wakes those that wait for a peer
        self._bucket: TokenBucket | None = None
        self._next: tuple[Order, float] | None = None
        self._answers: dict[str, dict[Note, None]] = {}
        self._worker: threading.Thread | None = None

    # The holder's side.

    @property
    def rate_bps(self) -> float | None:
        """The rate at which payloads are sent, bit/s of payload; ``None`` if unlimited."""
        bucket = self._bucket
        return None if bucket is None else bucket.rate_bps

    def pace(self, rate_bps: float | None) -> None:
        """Limit the rate of all payloads that are served, bit/s; ``None`` removes the limit.

        Chunks suit the rate: messages would have to wait for a larger one.
        """
        with self._changed:
            self._bucket = None if rate_bps is None else TokenBucket(rate_bps)
            if self._next is not None:
                self._next = (self._next[0], time.monotonic())
            self._changed.notify_all()

    def serve(
        self, data: bytes | memoryview, media: str, *, keep: int | None = None, shared: bool = False
    ) -> Offer:
        """Let others fetch ``data``.

        Calls for the same bytes are counted: each :meth:`serve` needs its :meth:`withdraw`.

        Args:
            data: the payload; kept by reference.
            media: type of the payload, for example ``"safetensors"``.
            keep: withdraw it once this many peers have all of it; ``None``: never by itself.
            shared: send it over a topic that all who want it hear, once for all of them.

        Returns:
            The offer to send to the receivers.
        """
        digest = sha256(data)
        with self.lock:
            return self._shelf.put(digest, data, media, keep, self.rate_bps, shared=shared)

    def withdraw(self, digest: str) -> None:
        """Stop serving a payload; no effect if it is not served."""
        with self._changed:
            self._shelf.take(digest)

    def served(self) -> tuple[str, ...]:
        """Digests of the payloads that are served."""
        with self._changed:
            return self._shelf.digests()

    def wait_served(self, digest: str, *, by: str, timeout_s: float) -> bool:
        """Wait until the peer ``by`` has confirmed that it has all of a payload.

        Returns:
            Whether it has; ``False`` after ``timeout_s``, after :meth:`close`, and for a payload
            that was never served.
        """
        with self.lock:
            self._asked.wait_for(lambda: self._closed or self._shelf.is_done(by, digest), timeout_s)
            return self._shelf.is_done(by, digest)

    def wait_requested(self, digest: str, *, by: str, timeout_s: float) -> bool:
        """Wait until the peer ``by`` has asked for a chunk of a payload, or has all of it.

        Returns:
            Whether it has; ``False`` after ``timeout_s``, after :meth:`close`, and for a payload
            that was never served.
        """
        with self.lock:
            self._asked.wait_for(
                lambda: self._closed or self._shelf.is_asked(by, digest), timeout_s
            )
            return self._shelf.is_asked(by, digest)

    def forget_request(self, digest: str, *, by: str) -> None:
        """The peer ``by`` has started again: :meth:`wait_requested` waits for a new request."""
        with self.lock:
            self._shelf.forget(by, digest)

    # Called by the peer, on the network thread.

    def start(self) -> None:
        """Start the thread that publishes chunks."""
        buffers.recycle()
        self._worker = threading.Thread(
            target=self._work, name=f"transfers-{self._carrier.id}", daemon=True
        )
        self._worker.start()

    def close(self) -> None:
        """End all transfers; waiting callers return or raise."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._asked.notify_all()
            for wake in (*self._when_closed, *(download.wake for download in self._all())):
                wake()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def on_request(self, asker: str, payload: bytes) -> bool:
        """Handle a ``want`` or ``done``; returns whether it changed anything."""
        try:
            request = decode_request(payload)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(f"request from {asker}: {error}")
            return False
        with self._changed:
            if isinstance(request, Done):
                of_use = self._shelf.done(asker, request.digest)
                self._note(asker, Noted(digest=request.digest))
                self._asked.notify_all()
            else:
                first = not self._shelf.is_asked(asker, request.digest)
                impossible = self._shelf.impossible
                said = self._shelf.order(
                    asker, request, self._largest_chunk_bytes(), time.monotonic()
                )
                of_use = self._shelf.of_use
                if self._shelf.impossible > impossible:
                    self._refuse(f"request from {asker}: blocks beyond the end of the payload")
                if said:
                    kind = Gone if said == "gone" else Apart
                    self._note(asker, kind(digest=request.digest))
                if first and said != "gone":
                    self._asked.notify_all()
            self._changed.notify_all()
        return of_use

    def _note(self, asker: str, note: Note) -> None:
        """Let a short answer wait, each once."""
        notes = self._answers.setdefault(asker, {})
        notes[note] = None
        if len(notes) > MAX_NOTES:
            del notes[next(iter(notes))]

    def _largest_chunk_bytes(self) -> int:
        """The largest chunk that the broker takes and that suits the rate, bytes."""
        largest = self._chunk_bytes
        if (limit := self._carrier.largest_payload(LONGEST_NAME, "chunk")) is not None:
            largest = min(largest, limit - CHUNK_OVERHEAD)
        if (rate_bps := self.rate_bps) is not None:
            largest = min(largest, paced_chunk_bytes(rate_bps))
        return max(BLOCK_BYTES, largest)

    # The worker thread.

    def _work(self) -> None:
        leaving: deque[MQTTMessageInfo] = deque()
        while True:
            with self._changed:
                if self._closed:
                    return
                now_s = time.monotonic()
                notes = self._notes(now_s)
                order, due_s = self._next_chunk(now_s)
                if not notes and order is None:
                    wait_s = min(due_s, self._next_confirmation_s()) - now_s
                    self._changed.wait(min(max(0.0, wait_s), threading.TIMEOUT_MAX))
                    continue
                if order is not None:
                    self.counters.sent += 1
                    self.counters.sent_bytes += len(order.data)
            for recipient, kind, body in notes:
                self._carrier.publish(recipient, kind, encode_transfer(body))
            if order is not None:
                chunk = encode_transfer(order.chunk())
                if order.asker:
                    info = self._carrier.publish(order.asker, "chunk", chunk)
                else:
                    info = self._carrier.publish_shared(order.digest, chunk)
                if info is not None:
                    leaving.append(info)
            while len(leaving) >= LEAVING and not self._closed:
                info = leaving.popleft()
                try:
                    info.wait_for_publish(5.0)
                except (RuntimeError, ValueError):
                    continue  # lost with the connection: it will be asked for again

    def _next_chunk(self, now_s: float) -> tuple[Order | None, float]:
        """The chunk to send now, or the wait until the next one, s."""
        if self._next is not None and not self._shelf.has(self._next[0].digest):
            self._next = None
        if self._next is None:
            if (order := self._shelf.next_order(now_s)) is None:
                return None, float("inf")
            wait_s = 0.0 if self._bucket is None else self._bucket.take(len(order.data))
            self._next = (order, now_s + wait_s)
        order, due_s = self._next
        if due_s > now_s:
            return None, due_s
        self._next = None
        return order, due_s

    def _notes(self, now_s: float) -> list[tuple[str, Kind, Note | Done]]:
        """The short answers and confirmations that are due."""
        notes: list[tuple[str, Kind, Note | Done]] = [
            (recipient, "chunk", note) for recipient, each in self._answers.items() for note in each
        ]
        self._answers.clear()
        notes += [(holder, "want", done) for holder, done in self._confirmations(now_s)]
        return notes

"""Large payloads: named by their digest, divided into chunks, pulled by the receiver, verified.

The holder of a payload :meth:`serves <Transfers.serve>` it and sends the :class:`Offer` in a
message; the receiver (asker) :meth:`fetches <Transfers.fetch>` it::

    asker                                   holder
      want {digest, chunk indices}   ──▶      at most 4 chunks of a payload in flight
      ◀──  chunk {digest, index, check, data}
      done {digest}                  ──▶      repeated until the holder
      ◀──  noted {digest}                     has confirmed it

Nothing depends on the broker: chunks travel unacknowledged (QoS 0). The asker checks every chunk
and asks again for lost or damaged ones, at once after a reconnect, else after a growing wait. One
thread per peer publishes chunks, a few at a time and no faster than its rate, so that neither the
network thread nor the messages between the chunks have to wait. The asker's side is
:mod:`fimi.messaging.transfers.fetching`.
"""

from __future__ import annotations

import threading
import time
from collections import deque

import msgspec
from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging.messages import Offer
from fimi.messaging.topics import Kind
from fimi.messaging.transfers.chunks import DEFAULT_CHUNK_BYTES, MAX_CHUNK_BYTES, WINDOW
from fimi.messaging.transfers.fetching import Carrier, Fetching
from fimi.messaging.transfers.pacing import TokenBucket
from fimi.messaging.transfers.serving import Order, ServedPayloads, sha256
from fimi.messaging.transfers.wire import Done, Gone, Noted, decode_request, encode_transfer

DEFAULT_MAX_BYTES = 256 << 20
CHUNK_OVERHEAD = 256
"""Most bytes of a chunk's message besides the chunk."""

LONGEST_NAME = 64 * "x"
_MAX_ANSWERS = 1024


class Transfers(Fetching):
    """All transfers of one peer, in both directions. The peer passes messages in and closes it."""

    def __init__(
        self,
        carrier: Carrier,
        *,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        gone_after_s: float = 15.0,
    ) -> None:
        """An object without transfers; the sizes are explained in :mod:`fimi.messaging.client`.

        A fetch fails when its holder has been offline for ``gone_after_s``.
        """
        if not 1 <= chunk_bytes <= MAX_CHUNK_BYTES:
            raise ValueError(f"chunk_bytes is {chunk_bytes}; take 1 to {MAX_CHUNK_BYTES}")
        super().__init__(carrier, max_bytes, gone_after_s)
        self._shelf = ServedPayloads(carrier.id, chunk_bytes)
        self._asked = threading.Condition(self.lock)  # wakes those that wait for a peer
        self._bucket: TokenBucket | None = None
        self._next: tuple[Order, float] | None = None
        self._answers: deque[tuple[str, Gone | Noted]] = deque(maxlen=_MAX_ANSWERS)
        self._worker: threading.Thread | None = None

    # The holder's side.

    @property
    def rate_bps(self) -> float | None:
        """The rate at which payloads are sent, bit/s of payload; ``None`` if unlimited."""
        bucket = self._bucket
        return None if bucket is None else bucket.rate_bps

    def pace(self, rate_bps: float | None) -> None:
        """Limit the rate of all payloads that are served, bit/s; ``None`` removes the limit.

        Payloads served from now on have chunks that suit the rate. A larger chunk would take longer
        than its asker waits and be asked for twice, and messages would have to wait for it.
        """
        with self._changed:
            self._bucket = None if rate_bps is None else TokenBucket(rate_bps)
            if self._next is not None:
                self._next = (self._next[0], time.monotonic())
            self._changed.notify_all()

    def serve(self, data: bytes, media: str, *, keep: int | None = None) -> Offer:
        """Let others fetch ``data``.

        Calls for the same bytes are counted: each :meth:`serve` needs its :meth:`withdraw`.

        Args:
            data: the payload; kept by reference.
            media: type of the payload, for example ``"safetensors"``.
            keep: withdraw it once this many peers have all of it; ``None``: never by itself.

        Returns:
            The offer to send to the receivers.
        """
        digest = sha256(data)
        limit = self._carrier.largest_payload(LONGEST_NAME, "chunk")
        with self.lock:
            return self._shelf.put(
                digest,
                data,
                media,
                keep,
                self.rate_bps,
                largest=None if limit is None else max(1, limit - CHUNK_OVERHEAD),
            )

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

    def on_request(self, asker: str, payload: bytes) -> None:
        """Handle a ``want`` or ``done``."""
        try:
            request = decode_request(payload)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(f"request from {asker}: {error}")
            return
        with self._changed:
            if isinstance(request, Done):
                self._shelf.done(asker, request.digest)
                self._answers.append((asker, Noted(digest=request.digest)))
                self._asked.notify_all()
            elif self._shelf.has(request.digest):
                first = not self._shelf.is_asked(asker, request.digest)
                refused = self._shelf.order(asker, request.digest, request.indices)
                self.counters.refused += refused
                if first:
                    self._asked.notify_all()
            else:
                self._answers.append((asker, Gone(digest=request.digest)))
            self._changed.notify_all()

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
                self.counters.sent += order is not None
            for recipient, kind, body in notes:
                self._carrier.publish(recipient, kind, encode_transfer(body))
            if order is not None:
                chunk = encode_transfer(order.chunk())
                info = self._carrier.publish(order.asker, "chunk", chunk)
                if info is not None:
                    leaving.append(info)
            while len(leaving) >= WINDOW and not self._closed:
                info = leaving.popleft()
                try:
                    info.wait_for_publish(5.0)
                except (RuntimeError, ValueError):
                    continue  # lost with the connection: it will be asked for again

    def _next_chunk(self, now_s: float) -> tuple[Order | None, float]:
        """The chunk to send now, or the wait until the next one, s."""
        if self._next is not None and not self._shelf.has(self._next[0].digest):
            self._shelf.has_left(self._next[0])
            self._next = None
        if self._next is None:
            if (order := self._shelf.next_order()) is None:
                return None, float("inf")
            wait_s = 0.0 if self._bucket is None else self._bucket.take(len(order.data))
            self._next = (order, now_s + wait_s)
        order, due_s = self._next
        if due_s > now_s:
            return None, due_s
        self._next = None
        self._shelf.has_left(order)
        return order, due_s

    def _notes(self, now_s: float) -> list[tuple[str, Kind, Gone | Noted | Done]]:
        """The short answers and confirmations that are due."""
        notes: list[tuple[str, Kind, Gone | Noted | Done]] = [
            (recipient, "chunk", answer) for recipient, answer in self._answers
        ]
        self._answers.clear()
        notes += [(holder, "want", done) for holder, done in self._confirmations(now_s)]
        return notes

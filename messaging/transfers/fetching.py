"""The asker's side of transfers: pulls payloads and confirms them to their holders.

:class:`Fetching` is the base of :class:`~fimi.messaging.transfers.exchange.Transfers`, which adds
the holder's side. A :class:`Download` is one payload on its way; whoever began it calls
:meth:`Fetching.advance` when it is due or has been woken: :meth:`Fetching.fetch` on its caller's
thread, a :class:`~fimi.messaging.transfers.collecting.Collector` for many at once. What arrives
wakes the download that it belongs to, and no other.
:class:`~fimi.messaging.transfers.chunks.Assembly` decides which chunks to ask for, and when again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
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

    @property
    def online(self) -> bool:
        """Whether the broker is connected at present."""
        ...

    def largest_payload(self, recipient: str, kind: Kind) -> int | None:
        """The largest payload that the broker takes, bytes; ``None`` if it names none."""
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


class Download:
    """One payload on its way: the network thread adds chunks, :meth:`Fetching.advance` takes them.

    Attributes:
        offer: the payload and its holder.
        assembly: what has arrived.
        progress_s: when a chunk arrived last, the connection was made again, or it began, s.
    """

    def __init__(self, offer: Offer, wake: Callable[[], None], now_s: float) -> None:
        self.offer = offer
        self.assembly = Assembly(offer)
        self.progress_s = now_s
        self.wake = wake
        self.inbox: deque[Chunk] = deque()
        self.gone = False
        self.hurry = False

    @property
    def woken(self) -> bool:
        """Whether there is something to take in."""
        return bool(self.inbox) or self.gone or self.hurry

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
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)  # wakes the thread that publishes
        self._downloads: dict[tuple[str, str], list[Download]] = {}
        self._unconfirmed: dict[tuple[str, str], tuple[float, int]] = {}
        self._closed = False
        self._when_closed: list[Callable[[], None]] = []

    @property
    def online(self) -> bool:
        """Whether the broker is connected at present."""
        return self._carrier.online

    @property
    def closed(self) -> bool:
        """Whether nothing can be fetched any more."""
        return self._closed

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
        arrived = threading.Condition(self.lock)
        download = self.begin(offer, arrived.notify_all, max_bytes)
        deadline_s = time.monotonic() + timeout_s
        try:
            while download.assembly.missing:
                now_s = time.monotonic()
                if cancelled is not None and cancelled():
                    raise download.failure("cancelled", TransferCancelled)
                if now_s >= deadline_s:
                    raise download.failure(
                        f"not complete after {timeout_s:g} s; check the link to the holder"
                    )
                absent_s = self._carrier.absent_s(offer.holder)
                if absent_s is not None and absent_s > self._gone_after_s:
                    raise download.failure(f"the holder has been offline for {absent_s:.0f} s")
                due_s = self.advance(download, now_s)
                with self.lock:
                    wait_s = min(due_s, deadline_s, now_s + 0.25) - time.monotonic()
                    idle = download.assembly.missing and not download.woken and not self._closed
                    if idle and wait_s > 0:
                        arrived.wait(wait_s)
            return self.finish(download)
        finally:
            self.end(download)

    def away(self, peer: str) -> bool:
        """Whether a peer is known to be offline."""
        return self._carrier.absent_s(peer) is not None

    def expected_bytes(self) -> int:
        """Bytes of chunks that were asked for and have not come; at most, of all payloads."""
        with self.lock:
            return sum(download.assembly.expected_bytes for download in self._all())

    def tell_when_closed(self, wake: Callable[[], None], *, no_more: bool = False) -> None:
        """Call ``wake``, with :attr:`lock` held, when this object is closed; or ``no_more``."""
        with self.lock:
            self._when_closed = [known for known in self._when_closed if known != wake]
            if not no_more:
                self._when_closed.append(wake)

    def check(self, offer: Offer, max_bytes: int | None = None) -> None:
        """Refuse what must not be pulled.

        Raises:
            TransferError: the payload is too large.
        """
        check_offer(offer, self._max_bytes if max_bytes is None else max_bytes)

    def begin(
        self, offer: Offer, wake: Callable[[], None], max_bytes: int | None = None
    ) -> Download:
        """Begin to pull a payload; each needs its :meth:`end`.

        ``wake`` is called, with :attr:`lock` held, when something has arrived for it.

        Raises:
            TransferError: the payload is too large, or this peer is closed.
        """
        self.check(offer, max_bytes)
        download = Download(offer, wake, time.monotonic())
        with self.lock:
            if self._closed:
                raise TransferError(f"cannot fetch from {offer.holder}: this peer is closed")
            self._downloads.setdefault((offer.holder, offer.digest), []).append(download)
        return download

    def advance(self, download: Download, now_s: float) -> float:
        """Take what has arrived and ask for what is due; returns when to call it again at latest.

        Raises:
            TransferError: the holder no longer serves the payload, or this peer was closed.
        """
        offer, assembly = download.offer, download.assembly
        with self.lock:
            if self._closed:
                raise download.failure("this peer was closed")
            if download.gone:
                raise download.failure("the holder no longer serves it; ask it to offer it")
            chunks = list(download.inbox)
            download.inbox.clear()
            if download.hurry:
                download.hurry = False
                download.progress_s = now_s
                assembly.hurry()
        for chunk in chunks:
            if (verdict := assembly.accept(chunk, now_s)) == "new":
                download.progress_s = now_s
            elif verdict == "corrupt":
                log.warning(
                    "chunk %d of %s from %s is damaged; it will be asked for again",
                    *(chunk.index, offer.digest[:12], offer.holder),
                )
        with self.lock:  # the network thread asks the assembly what it expects
            indices = assembly.ask(now_s)
        if indices:
            want = encode_transfer(Want(digest=offer.digest, indices=indices))
            self._carrier.publish(offer.holder, "want", want)
        return assembly.next_s()

    def finish(self, download: Download) -> bytes:
        """The payload of a download in which nothing is missing; it is confirmed to its holder.

        Raises:
            TransferError: it is not what was offered.
        """
        data = download.assembly.finish()
        self.confirm(download.offer)
        return data

    def confirm(self, offer: Offer) -> None:
        """Tell a holder, until it has heard it, that nothing more of its payload is needed."""
        with self.lock:
            self._unconfirmed[offer.holder, offer.digest] = (time.monotonic(), 0)
            self._changed.notify_all()

    def end(self, download: Download) -> None:
        """Forget a download, complete or not."""
        key = (download.offer.holder, download.offer.digest)
        with self.lock:
            same = self._downloads[key]
            same.remove(download)
            if not same:
                del self._downloads[key]
            self.counters.asked_again += download.assembly.asked_again
            self.counters.corrupt += download.assembly.corrupt

    # Called by the peer, on the network thread.

    def on_reconnected(self) -> None:
        """Ask again now for all chunks in flight, and confirm again: both are lost."""
        with self.lock:
            self._hurry(self._all())
            now_s = time.monotonic()
            for key, (_, tries) in self._unconfirmed.items():
                self._unconfirmed[key] = (now_s, tries)
            self._changed.notify_all()

    def on_back(self, holder: str) -> None:
        """A holder is online again, perhaps in another start: what it was asked for is lost."""
        with self.lock:
            self._hurry(d for d in self._all() if d.offer.holder == holder)

    def on_answer(self, holder: str, payload: bytes) -> None:
        """Handle a chunk, a ``gone`` or a ``noted``."""
        try:
            answer = decode_answer(payload)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(f"chunk from {holder}: {error}")
            return
        with self.lock:
            wanted = self._take(holder, answer)
            self.counters.received += wanted and isinstance(answer, Chunk)
            self.counters.refused += not wanted

    def _refuse(self, what: str) -> None:
        self.counters.refused += 1
        log.warning("dropped: %s", what)

    # With the lock held.

    @staticmethod
    def _hurry(downloads: Iterable[Download]) -> None:
        """Have everything asked for again at once, and not when patience is over."""
        for download in downloads:
            download.hurry = True
            download.wake()

    def _all(self) -> list[Download]:
        return [download for same in self._downloads.values() for download in same]

    def _take(self, holder: str, answer: Answer) -> bool:
        """Handle an answer of a holder; returns whether a fetch expected it."""
        if isinstance(answer, Noted):
            self._unconfirmed.pop((holder, answer.digest), None)
            return True
        wanted = False
        for download in self._downloads.get((holder, answer.digest), ()):
            if isinstance(answer, Gone):
                download.gone = wanted = True
                download.wake()
            elif len(download.inbox) < _MAX_INBOX and download.assembly.expects(answer.index):
                download.inbox.append(answer)
                wanted = True
                download.wake()
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

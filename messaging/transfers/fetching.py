"""The asker's side of transfers: pulls payloads and confirms them to their holders.

:class:`Fetching` belongs to a :class:`~fimi.messaging.transfers.exchange.Transfers`, which shares
its lock with it and passes it what arrives. Each fetch runs on its caller's thread.
:class:`~fimi.messaging.transfers.chunks.Assembly` decides which chunks to ask for, and when again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.messages import Offer
from fimi.messaging.topics import Kind
from fimi.messaging.transfers.chunks import WINDOW, Assembly, check_offer
from fimi.messaging.transfers.wire import Chunk, Done, Gone, Noted, Want, encode_transfer

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


class Fetching:
    """All fetches of one peer. Its owner holds the lock ``changed`` where a comment says so."""

    def __init__(
        self,
        carrier: Carrier,
        changed: threading.Condition,
        counters: Counters,
        *,
        max_bytes: int,
        gone_after_s: float,
    ) -> None:
        """An object without fetches.

        Args:
            carrier: the peer.
            changed: the owner's lock, notified whenever something has arrived.
            counters: the owner's counters.
            max_bytes: largest payload it fetches.
            gone_after_s: a fetch fails when its holder has been offline for this long, s.
        """
        self._carrier = carrier
        self._changed = changed
        self._counters = counters
        self._max_bytes = max_bytes
        self._gone_after_s = gone_after_s
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
        """See :meth:`fimi.messaging.transfers.exchange.Transfers.fetch`."""
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
                self._counters.asked_again += download.assembly.asked_again
                self._counters.corrupt += download.assembly.corrupt
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

    # With the lock held.

    def close(self) -> None:
        """Let fetches in progress fail, and refuse later ones."""
        self._closed = True

    def hurry(self) -> None:
        """Ask again now for all chunks in flight: they are lost."""
        for download in self._downloads:
            download.hurry = True
        now_s = time.monotonic()
        for key, (_, tries) in self._unconfirmed.items():
            self._unconfirmed[key] = (now_s, tries)

    def take(self, holder: str, answer: Chunk | Gone | Noted) -> bool:
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
        self._counters.received += wanted and isinstance(answer, Chunk)
        return wanted

    def confirmations(self, now_s: float) -> list[tuple[str, Done]]:
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

    def next_s(self) -> float:
        """When :meth:`confirmations` will have something to send."""
        return min((due_s for due_s, _ in self._unconfirmed.values()), default=float("inf"))

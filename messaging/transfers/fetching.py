"""The asker's side of transfers: pulls payloads and confirms them to their holders.

:class:`Fetching` is the base of :class:`~fimi.messaging.transfers.exchange.Transfers`, which adds
the holder's side. Whoever began a :class:`~fimi.messaging.transfers.download.Download` calls
:meth:`Fetching.advance` when it is due or has been woken: :meth:`Fetching.fetch` on its caller's
thread, a :class:`~fimi.messaging.transfers.collecting.Collector` for many at once. What arrives
wakes the download that it belongs to, and no other.
:class:`~fimi.messaging.transfers.assembly.Assembly` decides which blocks to ask for, and when
again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct

from fimi.messaging.errors import (
    PayloadGone,
    PayloadUnusable,
    TransferCancelled,
    TransferError,
)
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.assembly import check_offer
from fimi.messaging.transfers.blocks import block_count
from fimi.messaging.transfers.carrier import Carrier
from fimi.messaging.transfers.download import Download
from fimi.messaging.transfers.parts import PartFiles
from fimi.messaging.transfers.receipts import Receipts
from fimi.messaging.transfers.window import MAX_WINDOW_BYTES, LinkWindow
from fimi.messaging.transfers.wire import (
    Answer,
    Apart,
    Chunk,
    Gone,
    Noted,
    Want,
    decode_answer,
    encode_transfer,
)

WINDOWS_BYTES = 8 << 20
"""Most bytes that all downloads together have on their way."""
LEAST_WINDOW_BYTES = 64 << 10
"""Of one of them, at least."""
MAX_WAITING_BYTES = 8 << 20
"""Most bytes of one download that wait to be taken in."""
LEAST_FILE_BYTES = 64 << 10
"""Smaller payloads are put together in memory: they are soon fetched anew."""
KNOWN_LINKS = 4096
"""So many holders whose links are remembered."""
OFFLINE_S = 0.25
"""While the broker is away, it is looked this often whether a request can be sent, s."""
log = logging.getLogger(__name__)


class Counters(Struct):
    """Numbers of chunks and requests; for diagnosis and tests."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    asked_again: int = 0
    corrupt: int = 0
    refused: int = 0


class Fetching:
    """All fetches of one peer."""

    def __init__(self, carrier: Carrier, max_bytes: int, gone_after_s: float) -> None:
        self.counters = Counters()
        self.refusals: deque[str] = deque(maxlen=16)
        """What was wrong with requests and answers that could not be decoded; the peer takes it."""
        self.on_damaged: Callable[[str, int], None] = lambda holder, size_bytes: None
        """Told, on any thread, of a holder whose chunk is damaged, and of the chunk's size."""
        self._carrier = carrier
        self._max_bytes = max_bytes
        self._gone_after_s = gone_after_s
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)  # wakes the thread that publishes
        self._downloads: dict[tuple[str, str], list[Download]] = {}
        self._links: dict[str, tuple[float | None, LinkWindow]] = {}
        self._receipts = Receipts()
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
        parts: PartFiles | None = None,
    ) -> bytes:
        """Pull a payload, verify it and confirm it to its holder.

        Args:
            offer: the payload and its holder.
            timeout_s: time for the whole payload, s.
            cancelled: called a few times a second; the fetch ends when it returns true.
            max_bytes: largest payload to accept; by default that of this object.
            parts: where it is put together, so that another fetch, also of another process, goes on
                with what has come; ``None``: in memory.

        Raises:
            TransferError: the payload is too large, incomplete after ``timeout_s`` or differs from
                the offer, or the holder is offline.
            TransferCancelled: ``cancelled`` returned true.
        """
        arrived = threading.Condition(self.lock)
        download = self.begin(offer, arrived.notify_all, max_bytes, parts)
        deadline_s = time.monotonic() + timeout_s
        try:
            while download.assembly.missing or not self.complete(download):
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
            return download.assembly.store.payload()
        finally:
            self.end(download)

    def away(self, peer: str) -> bool:
        """Whether a peer is known to be offline."""
        return self._carrier.absent_s(peer) is not None

    def reachable(self, peer: str) -> bool:
        """Whether something that is said to a peer now can be heard."""
        return self.online and not self.away(peer)

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
        self,
        offer: Offer,
        wake: Callable[[], None],
        max_bytes: int | None = None,
        parts: PartFiles | None = None,
    ) -> Download:
        """Begin to pull a payload; each needs its :meth:`end`.

        ``wake`` is called, with :attr:`lock` held, when something has arrived for it.

        Raises:
            TransferError: the payload is too large, there is no room for it on the disk, or this
                peer is closed.
        """
        self.check(offer, max_bytes)
        with self.lock:
            if self._closed:
                raise TransferError(f"cannot fetch from {offer.holder}: this peer is closed")
            known = self._links.pop(offer.holder, None)
        try:
            in_file = parts is not None and offer.size_bytes >= LEAST_FILE_BYTES
            store = parts.open(offer) if parts is not None and in_file else None
        except OSError as error:
            raise TransferError(
                f"{offer.media} payload {offer.digest[:12]} of {offer.size_bytes} B cannot be "
                f"received: {error}"
            ) from error
        window = known[1] if known is not None and known[0] == offer.rate_bps else None
        if window is not None:
            window.resume()
        download = Download(offer, wake, time.monotonic(), store, window)
        with self.lock:
            self._downloads.setdefault((offer.holder, offer.digest), []).append(download)
            self._share_window()
        return download

    def advance(self, download: Download, now_s: float) -> float:
        """Take what has arrived and ask for what is due; returns when to call it again at latest.

        Raises:
            TransferError: the holder no longer serves the payload, there is no room for it, or this
                peer was closed.
        """
        offer, assembly = download.offer, download.assembly
        with self.lock:
            if self._closed:
                raise download.failure("this peer was closed")
            if download.gone:
                raise download.failure(
                    "the holder no longer serves it; ask it to offer it", PayloadGone
                )
            chunks, download.inbox = download.inbox, deque()
            download.waiting_bytes = 0
            hurry, download.hurry = download.hurry, False
            apart, download.apart = download.apart, False
            download.has_come = False
            if hurry:
                download.progress_s = now_s
                assembly.hurry()
        if apart:
            self._leave(download)
        for chunk, shared in chunks:
            self._accept(download, chunk, shared, now_s)
        assembly.store.read_on()
        if download.streams and not assembly.joined and assembly.missing:
            return self._join(download, now_s)
        with self.lock:
            wanted = assembly.ask(now_s)
            most_bytes = assembly.window.chunk_bytes
        for runs, is_shared in ((wanted.direct, False), (wanted.shared, True)):
            if not runs:
                continue
            want = Want(
                digest=offer.digest,
                runs=tuple(runs),
                chunk_bytes=most_bytes,
                shared=is_shared,
                shared_bytes=assembly.shared_bytes,
            )
            if self._carrier.publish(offer.holder, "want", encode_transfer(want)) is None:
                with self.lock:
                    assembly.unsent(wanted)
                return now_s + OFFLINE_S
        with self.lock:
            return assembly.next_s()

    def complete(self, download: Download) -> bool:
        """Verify a download in which nothing is missing, and confirm it to its holder.

        Returns:
            Whether it is right; if it is not and a part of it was of an earlier download, all of it
            is asked for anew.

        Raises:
            TransferError: it is not what was offered.
        """
        assembly, offer = download.assembly, download.offer
        try:
            assembly.finish()
        except PayloadUnusable:
            if not assembly.begin_anew():
                raise
            log.warning(
                "what had come of payload %s from %s is damaged; it is fetched anew",
                *(offer.digest[:12], offer.holder),
            )
            return False
        except OSError as error:
            raise download.failure(str(error)) from error
        self.confirm(offer)
        return True

    def confirm(self, offer: Offer) -> None:
        """Tell a holder, until it has heard it, that nothing more of its payload is needed."""
        with self.lock:
            self._receipts.add(offer.holder, offer.digest, time.monotonic())
            self._changed.notify_all()

    def _accept(self, download: Download, chunk: Chunk, shared: bool, now_s: float) -> None:
        """Put a chunk in its place."""
        try:
            with self.lock:
                verdict = download.assembly.accept(chunk, now_s, shared=shared)
        except OSError as error:
            raise download.failure(str(error)) from error
        if verdict == "new":
            download.progress_s = now_s
        elif verdict == "corrupt":  # it will be asked for again
            self.on_damaged(download.offer.holder, len(chunk.data))

    def _join(self, download: Download, now_s: float) -> float:
        """Join the shared stream; returns when to look again."""
        offer, assembly = download.offer, download.assembly
        if not self._carrier.online:
            return now_s + OFFLINE_S
        self._carrier.listen(offer.holder, offer.digest)
        with self.lock:
            assembly.join(now_s)
            most_bytes = assembly.window.chunk_bytes
        join = Want(digest=offer.digest, runs=(), chunk_bytes=most_bytes, shared=True)
        self._carrier.publish(offer.holder, "want", encode_transfer(join))
        return assembly.next_s()

    def _leave(self, download: Download) -> None:
        """Leave the shared stream; the rest comes for this peer alone."""
        offer = download.offer
        with self.lock:
            download.streams = False
            download.assembly.leave()
            others = self._downloads.get((offer.holder, offer.digest), ())
            heard = any(each.assembly.joined for each in others)
        if not heard:
            self._carrier.unlisten(offer.holder, offer.digest)

    def end(self, download: Download) -> None:
        """Forget a download, complete or not; what was put into a file stays there."""
        offer = download.offer
        if download.assembly.joined:
            self._leave(download)
        with self.lock:
            same = self._downloads[offer.holder, offer.digest]
            same.remove(download)
            if not same:
                del self._downloads[offer.holder, offer.digest]
            self.counters.asked_again += download.assembly.asked_again
            self.counters.corrupt += download.assembly.corrupt
            self._links[offer.holder] = (offer.rate_bps, download.assembly.window)
            while len(self._links) > KNOWN_LINKS:
                del self._links[next(iter(self._links))]
            self._share_window()
        download.assembly.store.close()

    # Called by the peer, on the network thread.

    def on_reconnected(self) -> None:
        """Ask again now for all chunks in flight, and confirm again: both are lost."""
        with self.lock:
            self._hurry(self._all())
            self._receipts.begin_anew(time.monotonic())
            self._changed.notify_all()

    def on_back(self, holder: str) -> None:
        """A holder is online again, perhaps in another start: what it was asked for is lost."""
        with self.lock:
            self._hurry(d for d in self._all() if d.offer.holder == holder)
            self._receipts.begin_anew(time.monotonic(), holder)
            self._changed.notify_all()

    def on_answer(self, holder: str, payload: bytes, *, shared: bool = False) -> bool:
        """Handle a holder's answer; returns whether it was expected.

        ``shared``: it came over a shared stream.
        """
        try:
            answer = decode_answer(payload)
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(f"chunk from {holder}: {error}")
            return False
        with self.lock:
            wanted = self._take(holder, answer, shared)
            self.counters.received += wanted and isinstance(answer, Chunk)
            self.counters.refused += not wanted
        return wanted

    def _refuse(self, what: str) -> None:
        self.counters.refused += 1
        self.refusals.append(what)

    # With the lock held.

    @staticmethod
    def _hurry(downloads: Iterable[Download]) -> None:
        """Have everything asked for again at once, and not when patience is over."""
        for download in downloads:
            download.hurry = True
            download.wake()

    def _all(self) -> list[Download]:
        return [download for same in self._downloads.values() for download in same]

    def _take(self, holder: str, answer: Answer, shared: bool) -> bool:
        """Handle an answer of a holder; returns whether a fetch expected it."""
        if isinstance(answer, Noted):
            return self._receipts.noted(holder, answer.digest)
        wanted = False
        for download in self._downloads.get((holder, answer.digest), ()):
            if isinstance(answer, Gone):
                download.gone = wanted = True
            elif isinstance(answer, Apart):
                download.apart = wanted = True
            elif self._has_room(download, answer):
                wanted = True
                if download.assembly.store.is_quick:  # it need not wait, and take memory
                    self._accept(download, answer, shared, time.monotonic())
                    download.has_come = True
                else:
                    download.inbox.append((answer, shared))
                    download.waiting_bytes += len(answer.data)
            else:
                continue
            download.wake()
        return wanted

    @staticmethod
    def _has_room(download: Download, chunk: Chunk) -> bool:
        fits = download.waiting_bytes + len(chunk.data) <= MAX_WAITING_BYTES
        return fits and download.assembly.expects(chunk.start, block_count(len(chunk.data)))

    def _share_window(self) -> None:
        """Divide what may be on its way among all downloads."""
        downloads = self._all()
        share = WINDOWS_BYTES // max(1, len(downloads))
        for download in downloads:
            most_bytes = max(LEAST_WINDOW_BYTES, min(MAX_WINDOW_BYTES, share))
            download.assembly.window.most_bytes = most_bytes

"""Many payloads at once: a coordinator collects the updates of its devices.

:class:`Collector` pulls them on one thread, all at the same time as long as their sizes fit into a
budget of memory. Beyond the budget they wait in a queue. A pull that has come to a halt (nothing
arrives from its holder) gives its place to one that waits, and goes to the end of the queue;
holders that are online come before those that are not. So a device that offers and does not send
costs the others nothing while there is room, and a few seconds of one place where there is none.

A pull does not fail because its holder or the broker is away: what has arrived is kept, and it goes
on when they are back. Whoever has asked for it ends it when it is no longer wanted.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import Any

from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.fetching import Download, Fetching
from fimi.messaging.transfers.parts import InFile, PartFiles
from fimi.messaging.transfers.window import LinkWindow

BUDGET_BYTES = 512 << 20
AT_LEAST = 4
AT_MOST = 256
HALT_S = 5.0
"""A pull from which nothing came for so long is at a halt, s; longer for slow holders."""

log = logging.getLogger(__name__)


class _Pull:
    """A payload that is to be collected; ``download`` while it has a place."""

    def __init__(
        self, offer: Offer, max_bytes: int | None, halt_s: float, parts: PartFiles | None
    ) -> None:
        self.offer = offer
        self.max_bytes = max_bytes
        self.parts = parts
        self.halt_s = max(halt_s, LinkWindow(offer.rate_bps).patience_s)
        self.future: Future[Any] = Future()
        self.download: Download | None = None
        self.due_s = 0.0
        self.dropped: TransferError | None = None


class Collector:
    """Pulls payloads of many holders at once. A context manager; ``close`` ends it."""

    def __init__(
        self,
        transfers: Fetching,
        *,
        budget_bytes: int = BUDGET_BYTES,
        at_least: int = AT_LEAST,
        halt_s: float = HALT_S,
    ) -> None:
        """Start its thread.

        Args:
            transfers: those of the peer that collects.
            budget_bytes: sizes of all payloads that are pulled at the same time, bytes.
            at_least: so many are pulled at the same time even if they are larger.
            halt_s: after this silence of its holder a pull gives its place to one that waits, s.
        """
        self._transfers = transfers
        self._budget_bytes = budget_bytes
        self._at_least = at_least
        self._halt_s = halt_s
        self._arrived = threading.Condition(transfers.lock)
        self._queue: list[_Pull] = []
        self._active: list[_Pull] = []
        self._closed = False
        transfers.tell_when_closed(self._arrived.notify_all)
        self._worker = threading.Thread(target=self._work, name="collector", daemon=True)
        self._worker.start()

    def pull(self, offer: Offer, *, max_bytes: int | None = None) -> Future[bytes]:
        """Collect a payload; returns at once.

        Args:
            offer: the payload and its holder.
            max_bytes: largest payload to accept; by default that of the peer's transfers.

        Returns:
            The payload, verified and confirmed to its holder, or a :class:`TransferError`: it is
            too large, is not what was offered, or its holder no longer serves it; a
            :class:`TransferCancelled` after :meth:`cancel` and :meth:`close`. What is added by
            ``add_done_callback`` runs on the collector's thread and must return quickly.
        """
        return self._pull(_Pull(offer, max_bytes, self._halt_s, None))

    def pull_into(
        self, parts: PartFiles, offer: Offer, *, max_bytes: int | None = None
    ) -> Future[bytes | Path]:
        """Collect a payload into a folder, where what has come stays: :meth:`pull`, but for that.

        Returns:
            The file of the payload, verified and confirmed to its holder; a small one itself.
        """
        return self._pull(_Pull(offer, max_bytes, self._halt_s, parts))

    def _pull(self, pull: _Pull) -> Future[Any]:
        offer, max_bytes = pull.offer, pull.max_bytes
        try:
            self._transfers.check(offer, max_bytes)
        except TransferError as error:
            pull.future.set_exception(error)
            return pull.future
        with self._arrived:
            if self._closed:
                pull.future.set_exception(_unwanted(pull))
                return pull.future
            self._queue.append(pull)
            self._arrived.notify_all()
        return pull.future

    def confirm(self, offer: Offer) -> None:
        """Tell a holder that nothing of its payload is needed, as if it had been pulled."""
        self._transfers.confirm(offer)

    def cancel(self, holder: str | None = None) -> None:
        """End the pulls from a holder, or all of them: they are no longer wanted."""
        with self._arrived:
            for pull in (*self._queue, *self._active):
                if holder in (None, pull.offer.holder):
                    pull.dropped = _unwanted(pull)
            self._arrived.notify_all()

    def waiting(self) -> tuple[str, ...]:
        """The holders whose payloads are collected or wait for a place."""
        with self._arrived:
            return tuple(pull.offer.holder for pull in (*self._active, *self._queue))

    def close(self) -> None:
        """End all pulls and the thread; may be called again, not from a done callback."""
        with self._arrived:
            self._closed = True
        self.cancel()
        self._worker.join()
        self._transfers.tell_when_closed(self._arrived.notify_all, no_more=True)

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The worker thread.

    def _work(self) -> None:
        while True:
            with self._arrived:
                ended = [pull for pull in (*self._active, *self._queue) if self._is_over(pull)]
                now_s = time.monotonic()
                if not ended:
                    self._fill(now_s)
                ready = [pull for pull in self._active if self._is_ready(pull, now_s)]
                if not ended and not ready:
                    if self._closed or self._transfers.closed:
                        return
                    self._arrived.wait(self._sleep_s(now_s))
                    continue
            for pull in ended:
                self._end(pull, pull.dropped or _unwanted(pull))
            for pull in ready:
                if pull not in ended:
                    self._advance(pull)

    def _advance(self, pull: _Pull) -> None:
        download = pull.download
        assert download is not None
        try:
            pull.due_s = self._transfers.advance(download, time.monotonic())
            if not download.assembly.missing and self._transfers.complete(download):
                self._end(pull, _result(download))
        except TransferError as error:
            self._end(pull, error)
        except Exception as error:  # of this one; the others are collected all the same
            log.exception("a payload of %s cannot be collected", pull.offer.holder)
            self._end(pull, TransferError(f"{pull.offer.holder}: {error!r}"))

    def _end(self, pull: _Pull, result: bytes | Path | TransferError) -> None:
        with self._arrived:
            self._give_back(pull)
            (self._active if pull in self._active else self._queue).remove(pull)
        with suppress(InvalidStateError):  # its owner has cancelled the future
            if isinstance(result, TransferError):
                pull.future.set_exception(result)
            else:
                pull.future.set_result(result)

    # With the lock held.

    def _is_over(self, pull: _Pull) -> bool:
        return pull.dropped is not None or self._transfers.closed or pull.future.cancelled()

    @staticmethod
    def _is_ready(pull: _Pull, now_s: float) -> bool:
        return pull.download is not None and (pull.download.woken or pull.due_s <= now_s)

    def _sleep_s(self, now_s: float) -> float | None:
        times_s = [pull.due_s for pull in self._active]
        if self._queue:
            times_s += [max(self._halt_at_s(pull), now_s + 0.25) for pull in self._active]
        soonest_s = min(times_s, default=None)
        if soonest_s is None or soonest_s == float("inf"):
            return None
        return max(0.0, soonest_s - now_s)

    def _fill(self, now_s: float) -> None:
        """Give places to those that wait, if need be the places of pulls at a halt."""
        self._queue.sort(key=lambda pull: self._transfers.away(pull.offer.holder))  # stable
        tried = list(self._queue)
        for pull in tried:
            while not self._has_room(pull):
                halted = (
                    self._halted(now_s) if not self._transfers.away(pull.offer.holder) else None
                )
                if halted is None:
                    return
                log.info(
                    "nothing comes from %s; %s is collected first",
                    *(halted.offer.holder, pull.offer.holder),
                )
                self._give_back(halted)
                self._active.remove(halted)
                self._queue.append(halted)
            self._queue.remove(pull)
            self._active.append(pull)
            pull.due_s = now_s
            try:
                pull.download = self._transfers.begin(
                    pull.offer, self._arrived.notify_all, pull.max_bytes, pull.parts
                )
            except TransferError as error:
                pull.dropped = error

    def _has_room(self, pull: _Pull) -> bool:
        if len(self._active) < self._at_least:
            return True
        size_bytes = sum(active.offer.size_bytes for active in self._active)
        fits = size_bytes + pull.offer.size_bytes <= self._budget_bytes
        return fits and len(self._active) < AT_MOST

    def _halted(self, now_s: float) -> _Pull | None:
        """The active pull that has been at a halt for longest, if any is."""
        if not self._transfers.online:
            return None  # the broker is away, and no holder is to blame
        halted = [pull for pull in self._active if self._halt_at_s(pull) <= now_s]
        return min(halted, key=self._halt_at_s, default=None)

    @staticmethod
    def _halt_at_s(pull: _Pull) -> float:
        assert pull.download is not None
        return pull.download.progress_s + pull.halt_s

    def _give_back(self, pull: _Pull) -> None:
        if pull.download is not None:
            self._transfers.end(pull.download)
            pull.download = None


def _result(download: Download) -> bytes | Path:
    store = download.assembly.store
    return store.path if isinstance(store, InFile) else store.payload()


def _unwanted(pull: _Pull) -> TransferCancelled:
    offer = pull.offer
    return TransferCancelled(
        f"{offer.media} payload {offer.digest[:12]} from {offer.holder} is no longer wanted"
    )

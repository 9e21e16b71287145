"""A payload that is being assembled: which blocks to ask for, when again, and what has come.

There is no network, no thread and no clock here: times are arguments. :class:`Assembly` keeps the
requests that are on their way (:class:`Flight`), a
:class:`~fimi.messaging.transfers.window.LinkWindow` says how many there may be, and a
:class:`~fimi.messaging.transfers.parts.Store` holds the blocks.

A payload that many get at once comes over a shared topic as well, where others have asked for it.
Whoever has joined that stream asks for what comes after the last blocks that it brought.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fimi.messaging.errors import PayloadUnusable
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.blocks import (
    MAX_BLOCKS,
    block_bounds,
    block_count,
    blocks_of,
)
from fimi.messaging.transfers.parts import InMemory, Store
from fimi.messaging.transfers.window import LinkWindow, Loss
from fimi.messaging.transfers.wire import MAX_WANTED, Chunk, chunk_check

OVERTAKEN = 3
"""A request that so many later ones have overtaken is lost: whoever answers does so in order."""
JOIN_S = 1.0
"""How long to wait for a stream that was joined before the blocks are asked for directly, s."""

Verdict = Literal["new", "duplicate", "corrupt"]
Run = tuple[int, int]
"""Consecutive blocks: the first, and how many."""


def check_offer(offer: Offer, max_bytes: int) -> None:
    """Refuse an offer beyond the limits, before memory is allocated.

    Raises:
        PayloadUnusable: the offer is beyond a limit, which is named.
    """
    what = f"{offer.media} payload {offer.digest[:12]} offered by {offer.holder}"
    if offer.size_bytes > max_bytes:
        raise PayloadUnusable(
            f"{what} has {offer.size_bytes} B, the limit here is {max_bytes} B; "
            "raise max_bytes if that size is expected"
        )
    if block_count(offer.size_bytes) > MAX_BLOCKS:
        raise PayloadUnusable(f"{what} has {offer.size_bytes} B, more than any payload may have")


class Wanted(Struct):
    """Blocks to ask for: for oneself, and over the stream that others hear as well."""

    direct: list[Run] = []
    shared: list[Run] = []


class Flight(Struct):
    """Blocks that were asked for and have not all come.

    Attributes:
        start: the first block.
        stop: the block after the last one.
        left: how many are still missing.
        size_bytes: of all of them.
        asked_s: when they were asked for, s.
        patience_s: how long to wait for them, s.
        again: whether some were asked for before: which request is answered cannot be told.
        overtaken: how many later ones have come since.
    """

    start: int
    stop: int
    left: int
    size_bytes: int
    asked_s: float
    patience_s: float
    again: bool
    overtaken: int = 0


class Assembly:
    """A payload that is being assembled.

    :meth:`ask` says which blocks to ask for now, :meth:`accept` takes a chunk, :meth:`next_s` says
    when to call :meth:`ask` again. What does not come is asked for again, each time after a longer
    wait; while other chunks of the payload arrive, the holder is alive and the wait starts again.

    Attributes:
        offer: the payload and its holder.
        asked_again: how often a request had to be repeated.
        corrupt: chunks that were damaged.
        joined: whether the shared stream is listened to.
        shared_bytes: what came over the stream since it was joined.
    """

    def __init__(
        self, offer: Offer, *, store: Store | None = None, window: LinkWindow | None = None
    ) -> None:
        """An assembly; ``store`` may hold blocks of an earlier one."""
        self.offer = offer
        self.store = InMemory(offer.size_bytes) if store is None else store
        self.window = LinkWindow(offer.rate_bps) if window is None else window
        self.asked_again = 0
        self.corrupt = 0
        self.joined = False
        self.shared_bytes = 0
        self._joined_s: float | None = None  # until the stream is heard for the first time
        self._lost: list[tuple[int, int]] = []
        self._cursor = 0
        self._flights: list[Flight] = []
        self._progress_s = float("-inf")

    @property
    def missing(self) -> int:
        """Number of blocks that have not come."""
        return self.store.blocks.missing

    @property
    def here_bytes(self) -> int:
        """About so much has come, bytes."""
        blocks = self.store.blocks
        share = 1.0 - blocks.missing / blocks.count if blocks.count else 1.0
        return round(share * self.offer.size_bytes)

    @property
    def expected_bytes(self) -> int:
        """Bytes of the blocks that were asked for and have not all come."""
        return sum(flight.size_bytes for flight in self._flights)

    def join(self, now_s: float) -> None:
        """The shared stream is listened to from now on."""
        self.joined, self._joined_s, self.shared_bytes = True, now_s, 0

    def leave(self) -> None:
        """The shared stream is not listened to any more."""
        self.joined, self._joined_s = False, None

    def ask(self, now_s: float) -> Wanted:
        """Blocks to ask for now: those that were lost again, and new ones up to the window."""
        self._give_up_overdue(now_s)
        if self._joined_s is not None:
            if self.shared_bytes == 0 and now_s < self._joined_s + JOIN_S:
                return Wanted()  # it will show where the stream is
            self._joined_s = None
        window = self.window
        wanted = Wanted()
        room = window.size_bytes - self.expected_bytes
        chunk = window.chunk_bytes
        while room >= chunk and len(wanted.direct) + len(wanted.shared) < MAX_WANTED:
            found = self.store.blocks.next_run(self._cursor, blocks_of(chunk))
            if found is None:
                break
            flight = self._begin(*found, now_s)
            room -= flight.size_bytes
            run = (flight.start, flight.left)
            over_stream = self.joined and not flight.again
            (wanted.shared if over_stream else wanted.direct).append(run)
        return wanted

    def next_s(self) -> float:
        """When :meth:`ask` will have blocks to ask for if nothing arrives until then."""
        waits = [self._due_s(flight) for flight in self._flights]
        if self._joined_s is not None and self.shared_bytes == 0:
            waits.append(self._joined_s + JOIN_S)
        return min(waits, default=float("inf"))

    def expects(self, start: int, count: int) -> bool:
        """Whether one of these blocks is to come, and has not come yet."""
        blocks, stop = self.store.blocks, start + count
        if count < 1 or stop > blocks.count:
            return False
        return blocks.asked(start, stop) or (self.joined and not blocks.has(start, stop))

    def accept(self, chunk: Chunk, now_s: float, *, shared: bool = False) -> Verdict:
        """Take a chunk, check its place, size and checksum, and keep it if it is new.

        Raises:
            OSError: there is no room for it.
        """
        blocks = self.store.blocks
        start, stop = chunk.start, chunk.start + block_count(len(chunk.data))
        if not 0 <= start < stop <= blocks.count:
            self.corrupt += 1
            return "corrupt"
        begin, end = block_bounds(self.offer.size_bytes, start, stop)
        if len(chunk.data) != end - begin or chunk_check(start, chunk.data) != chunk.check:
            self.corrupt += 1
            return "corrupt"
        if shared:
            self.shared_bytes += len(chunk.data)
            self._cursor = stop
        if blocks.has(start, stop):
            return "duplicate"
        for first, last in blocks.gaps(start, stop):  # what is here was read by the digest
            a, b = block_bounds(self.offer.size_bytes, first, last)
            self.store.write(a, chunk.data[a - begin : b - begin])
        blocks.add(start, stop)
        self._progress_s = now_s
        self._land(start, stop, now_s)
        return "new"

    def hurry(self) -> None:
        """Ask again at once for all that is on its way: the connection was lost."""
        for flight in list(self._flights):
            self._lose(flight, "disconnected")
        self._progress_s = float("-inf")

    def unsent(self, wanted: Wanted) -> None:
        """The request for these blocks could not be sent."""
        starts = {start for start, _ in (*wanted.direct, *wanted.shared)}
        for flight in [flight for flight in self._flights if flight.start in starts]:
            self._flights.remove(flight)
            self.store.blocks.unask(flight.start, flight.stop)
        self._cursor = 0

    def finish(self) -> None:
        """Verify the payload by its SHA-256; afterwards its store has it.

        Returns without effect on the payload's blocks if it is right.

        Raises:
            PayloadUnusable: the blocks do not give the offered payload.
        """
        found = self.store.digest()
        if self.missing or found != self.offer.digest:
            raise PayloadUnusable(
                f"{self.offer.media} payload from {self.offer.holder} has SHA-256 {found[:12]}…, "
                f"offered was {self.offer.digest[:12]}…; its holder serves something else than it "
                "offers"
            )
        self.store.settle()

    def begin_anew(self) -> bool:
        """Drop what an earlier download left, if there is any; returns whether that is so.

        Only of what is whole and has the wrong digest.
        """
        self._flights.clear()
        self._cursor = 0
        return self.store.begin_anew()

    def _begin(self, start: int, stop: int, now_s: float) -> Flight:
        """Ask for blocks."""
        begin, end = block_bounds(self.offer.size_bytes, start, stop)
        self.store.blocks.ask(start, stop)
        self._cursor = stop
        patience_s = self.window.patience_s
        flight = Flight(
            start=start,
            stop=stop,
            left=stop - start,
            size_bytes=end - begin,
            asked_s=now_s,
            patience_s=max(patience_s, JOIN_S) if self.joined else patience_s,
            again=any(begun < stop and start < ended for begun, ended in self._lost),
        )
        self._flights.append(flight)
        return flight

    def _land(self, start: int, stop: int, now_s: float) -> None:
        """Note of every request what has come of it."""
        landed: list[int] = []
        for number, flight in enumerate(self._flights):
            both = min(stop, flight.stop) - max(start, flight.start)
            if both <= 0:
                continue
            flight.left = self.store.blocks.lacking(flight.start, flight.stop)
            if not flight.left:
                landed.append(number)
                if flight.again:
                    continue
                took_s = max(now_s - flight.asked_s, 1e-6)
                self.window.came(flight.size_bytes, took_s, now_s)
        if not landed:
            return
        for number, flight in enumerate(self._flights):
            flight.overtaken += number < landed[-1] and number not in landed
        for number in reversed(landed):
            del self._flights[number]
        if not self.joined:  # a stream brings what others ask for, in their order
            for flight in [each for each in self._flights if each.overtaken >= OVERTAKEN]:
                self._lose(flight, "overtaken")

    def _give_up_overdue(self, now_s: float) -> None:
        overdue = [flight for flight in self._flights if self._due_s(flight) <= now_s]
        for flight in overdue:
            self._lose(flight, "silence")
        if overdue:
            self.window.back_off()

    def _lose(self, flight: Flight, why: Loss) -> None:
        self.window.lost(flight.size_bytes, why)
        self.asked_again += 1
        self._flights.remove(flight)
        self.store.blocks.unask(flight.start, flight.stop)
        self._lost = [each for each in self._lost if self.store.blocks.lacking(*each)]
        self._lost.append((flight.start, flight.stop))
        self._cursor = 0

    def _due_s(self, flight: Flight) -> float:
        return max(flight.asked_s, self._progress_s) + flight.patience_s

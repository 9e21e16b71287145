"""How a payload is divided into chunks, and how it is assembled from the chunks that arrive.

There is no network, no thread and no clock here: times are arguments. :class:`Assembly` decides
which chunks to ask for and when to ask again; :mod:`fimi.messaging.transfers.exchange` sends the
requests.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct

from fimi.messaging.errors import PayloadUnusable
from fimi.messaging.messages import Offer
from fimi.messaging.transfers.wire import Chunk, chunk_check

DEFAULT_CHUNK_BYTES = 120 * 1024
MAX_CHUNK_BYTES = 1 << 20
MAX_CHUNKS = 1 << 16
WINDOW = 4
"""Chunks in flight per fetch. With more, everything else on the connection would only wait."""

PATIENCE_S = 2.0
"""How long to wait for a chunk before it is asked for again, if its holder is not slow, s."""

MAX_PATIENCE_S = 10.0
"""How long to wait at most after several attempts, if its holder is not slow, s."""

WINDOWS = 3.0
"""How long to wait for a slow holder, in windows: one for the chunks before, two for delay."""

Verdict = Literal["new", "duplicate", "corrupt"]


def chunk_count(size_bytes: int, chunk_bytes: int) -> int:
    """Number of chunks of a payload; an empty payload has none."""
    return -(-size_bytes // chunk_bytes)


def chunk_bounds(size_bytes: int, chunk_bytes: int, index: int) -> tuple[int, int]:
    """Where chunk ``index`` begins and ends in the payload, bytes.

    Raises:
        IndexError: the payload has no such chunk.
    """
    if not 0 <= index < chunk_count(size_bytes, chunk_bytes):
        raise IndexError(f"no chunk {index} in {size_bytes} B of chunks of {chunk_bytes} B")
    start = index * chunk_bytes
    return start, min(start + chunk_bytes, size_bytes)


def check_offer(offer: Offer, max_bytes: int) -> None:
    """Refuse an offer beyond the limits, before memory is allocated.

    Raises:
        PayloadUnusable: the offer is beyond a limit, which is named.
    """
    what = f"{offer.media} payload {offer.digest[:12]} offered by {offer.holder}"
    size, chunk = offer.size_bytes, offer.chunk_bytes
    count = chunk_count(size, chunk)
    if size > max_bytes:
        raise PayloadUnusable(
            f"{what} has {size} B, the limit here is {max_bytes} B; "
            "raise max_bytes if that size is expected"
        )
    if chunk > MAX_CHUNK_BYTES or count > MAX_CHUNKS:
        limit = f"{MAX_CHUNK_BYTES} B" if chunk > MAX_CHUNK_BYTES else f"{MAX_CHUNKS} chunks"
        raise PayloadUnusable(f"{what} comes in {count} chunks of {chunk} B, the limit is {limit}")


def first_patience_s(offer: Offer) -> float:
    """How long to wait for a chunk before it is asked for again, by its holder's rate, s."""
    if offer.rate_bps is None:
        return PATIENCE_S
    return max(PATIENCE_S, WINDOWS * WINDOW * 8.0 * offer.chunk_bytes / offer.rate_bps)


class _Flight(Struct):
    """A chunk in flight: when it was asked for, and how long to wait for it."""

    asked_s: float
    patience_s: float


class Assembly:
    """A payload that is being assembled.

    :meth:`ask` says which chunks to ask for now, :meth:`accept` takes a chunk, :meth:`next_s` says
    when to call :meth:`ask` again. A chunk that does not come is asked for again, each time after a
    longer wait. While other chunks of the payload arrive, the holder is alive and the wait starts
    again.
    """

    def __init__(self, offer: Offer, *, patience_s: float | None = None) -> None:
        """An assembly without chunks; ``patience_s`` replaces :func:`first_patience_s`."""
        self.offer = offer
        self.count = chunk_count(offer.size_bytes, offer.chunk_bytes)
        self.missing = self.count
        self.asked_again = 0
        self.corrupt = 0
        self._data = bytearray(offer.size_bytes)
        self._have = bytearray(self.count)
        self._next = 0
        self._flights: dict[int, _Flight] = {}
        self._patience_s = first_patience_s(offer) if patience_s is None else patience_s
        self._max_patience_s = max(MAX_PATIENCE_S, self._patience_s)
        self._progress_s = float("-inf")

    @property
    def received(self) -> int:
        """Number of chunks that have arrived."""
        return self.count - self.missing

    @property
    def expected_bytes(self) -> int:
        """Most bytes of the chunks that were asked for and have not arrived."""
        return len(self._flights) * self.offer.chunk_bytes

    def ask(self, now_s: float) -> tuple[int, ...]:
        """Chunks to ask for now: overdue ones again, then new ones up to the window."""
        due = [index for index, flight in self._flights.items() if self._due_s(flight) <= now_s]
        for index in due:
            patience_s = min(2 * self._flights[index].patience_s, self._max_patience_s)
            self._flights[index] = _Flight(asked_s=now_s, patience_s=patience_s)
        self.asked_again += len(due)
        while len(self._flights) < WINDOW and self._next < self.count:
            self._flights[self._next] = _Flight(asked_s=now_s, patience_s=self._patience_s)
            due.append(self._next)
            self._next += 1
        return tuple(due)

    def next_s(self) -> float:
        """When :meth:`ask` will have chunks to ask for if nothing arrives until then."""
        return min(map(self._due_s, self._flights.values()), default=float("inf"))

    def expects(self, index: int) -> bool:
        """Whether this chunk has been asked for and has not arrived yet."""
        return index in self._flights

    def accept(self, chunk: Chunk, now_s: float) -> Verdict:
        """Take a chunk, check its place, size and checksum, and keep it if it is new."""
        if not 0 <= chunk.index < self.count:
            self.corrupt += 1
            return "corrupt"
        if self._have[chunk.index]:
            return "duplicate"
        start, stop = chunk_bounds(self.offer.size_bytes, self.offer.chunk_bytes, chunk.index)
        if len(chunk.data) != stop - start or chunk_check(chunk.index, chunk.data) != chunk.check:
            self.corrupt += 1
            return "corrupt"
        self._data[start:stop] = chunk.data
        self._have[chunk.index] = 1
        self.missing -= 1
        self._progress_s = now_s
        if (flight := self._flights.pop(chunk.index, None)) is not None:
            # a slow link does not lose chunks: wait a few times as long as the last answer took
            took_s = 3 * (now_s - flight.asked_s)
            self._patience_s = min(max(self._patience_s, took_s), self._max_patience_s)
        return "new"

    def hurry(self) -> None:
        """Ask again at once for all chunks in flight: the connection was lost."""
        self._progress_s = float("-inf")
        for flight in self._flights.values():
            flight.asked_s = float("-inf")
            flight.patience_s = self._patience_s / 2  # asking again doubles it

    def finish(self) -> bytes:
        """The payload, its SHA-256 checked.

        Raises:
            PayloadUnusable: the chunks do not give the offered payload.
        """
        found = hashlib.sha256(self._data).hexdigest()
        if self.missing or found != self.offer.digest:
            raise PayloadUnusable(
                f"{self.offer.media} payload from {self.offer.holder} has SHA-256 {found[:12]}…, "
                f"offered was {self.offer.digest[:12]}…; its holder serves something else than it "
                "offers"
            )
        return bytes(self._data)

    def _due_s(self, flight: _Flight) -> float:
        return max(flight.asked_s, self._progress_s) + flight.patience_s

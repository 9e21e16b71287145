"""The holder's side of transfers: payloads, requested chunks, and the peers that have all of them.

It has no network and no thread. :class:`~fimi.messaging.transfers.exchange.Transfers` guards it
with its lock and publishes the chunks.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque

from msgspec import Struct

from fimi.messaging.messages import Offer
from fimi.messaging.transfers.chunks import chunk_bounds, chunk_count
from fimi.messaging.transfers.pacing import paced_chunk_bytes
from fimi.messaging.transfers.wire import Chunk, chunk_check

MAX_WAITING = 4096
"""Most chunks that may wait to be sent; further ones have to be asked for again."""

REMEMBERED = 256
"""Number of withdrawn payloads for which it is still known which peers had them."""


class _Payload(Struct):
    data: memoryview
    keep: int | None
    chunk_bytes: int
    served: int = 1


class Order(Struct, frozen=True):
    """A chunk to send; :meth:`chunk` makes it, which takes some time and needs no lock."""

    asker: str
    digest: str
    index: int
    data: memoryview

    def chunk(self) -> Chunk:
        """The chunk with its checksum."""
        return Chunk(
            digest=self.digest,
            index=self.index,
            check=chunk_check(self.index, self.data),
            data=self.data,
        )


class ServedPayloads:
    """The payloads that one peer serves. Not safe to use from several threads without a lock."""

    def __init__(self, holder: str, chunk_bytes: int) -> None:
        self._holder = holder
        self._chunk_bytes = chunk_bytes
        self._payloads: dict[str, _Payload] = {}
        self._have_it: dict[str, set[str]] = {}
        self._asked_for: dict[str, set[str]] = {}
        self._orders: deque[tuple[str, str, int]] = deque()
        self._ordered: set[tuple[str, str, int]] = set()

    def put(
        self,
        digest: str,
        data: bytes,
        media: str,
        keep: int | None,
        rate_bps: float | None = None,
        *,
        largest: int | None = None,
    ) -> Offer:
        """Serve a payload in chunks that suit the rate, no larger than ``largest`` bytes.

        Put again, it keeps their size.
        """
        if (payload := self._payloads.get(digest)) is not None:
            payload.served += 1
            payload.keep = keep
        else:
            suits = math.inf if rate_bps is None else paced_chunk_bytes(rate_bps)
            size = int(min(self._chunk_bytes, suits, math.inf if largest is None else largest))
            payload = _Payload(data=memoryview(data), keep=keep, chunk_bytes=size)
            self._payloads[digest] = payload
            self._have_it.pop(digest, None)
            self._have_it[digest] = set()
            self._asked_for[digest] = set()
            old = [known for known in self._have_it if known not in self._payloads]
            for known in old[: max(0, len(old) - REMEMBERED)]:
                del self._have_it[known]
                del self._asked_for[known]
        return Offer(
            holder=self._holder,
            digest=digest,
            size_bytes=len(data),
            chunk_bytes=payload.chunk_bytes,
            media=media,
            rate_bps=rate_bps,
        )

    def take(self, digest: str) -> None:
        """Undo one :meth:`put`."""
        if (payload := self._payloads.get(digest)) is not None:
            payload.served -= 1
            if payload.served <= 0:
                del self._payloads[digest]

    def digests(self) -> tuple[str, ...]:
        """Digests of the payloads that are served."""
        return tuple(self._payloads)

    def has(self, digest: str) -> bool:
        """Whether this payload is served."""
        return digest in self._payloads

    def done(self, asker: str, digest: str) -> None:
        """Note that ``asker`` has all of a payload."""
        if (have_it := self._have_it.get(digest)) is None:
            return
        have_it.add(asker)
        payload = self._payloads.get(digest)
        if payload is not None and payload.keep is not None and len(have_it) >= payload.keep:
            del self._payloads[digest]

    def is_done(self, asker: str, digest: str) -> bool:
        """Whether ``asker`` has confirmed that it has all of a payload."""
        return asker in self._have_it.get(digest, ())

    def is_asked(self, asker: str, digest: str) -> bool:
        """Whether ``asker`` has asked for a chunk of a payload, or has all of it."""
        return asker in self._asked_for.get(digest, ()) or self.is_done(asker, digest)

    def forget(self, asker: str, digest: str) -> None:
        """Forget that ``asker`` has asked for chunks of a payload."""
        self._asked_for.get(digest, set()).discard(asker)

    def order(self, asker: str, digest: str, indices: tuple[int, ...]) -> int:
        """Note chunks to send, each once; returns how many were refused."""
        if (payload := self._payloads.get(digest)) is None:
            return len(indices)
        count = chunk_count(len(payload.data), payload.chunk_bytes)
        self._asked_for[digest].add(asker)
        refused = 0
        for index in indices:
            key = (asker, digest, index)
            if index >= count or len(self._orders) >= MAX_WAITING:
                refused += 1
            elif key not in self._ordered:
                self._ordered.add(key)
                self._orders.append(key)
        return refused

    def next_order(self) -> Order | None:
        """The chunk to send next; orders for withdrawn payloads are forgotten.

        Until :meth:`has_left`, asking for it again has no effect.
        """
        while self._orders:
            key = self._orders.popleft()
            asker, digest, index = key
            if (payload := self._payloads.get(digest)) is not None:
                start, stop = chunk_bounds(len(payload.data), payload.chunk_bytes, index)
                return Order(asker, digest, index, payload.data[start:stop])
            self._ordered.discard(key)
        return None

    def has_left(self, order: Order) -> None:
        """Note that a chunk was sent: from now on it may be asked for again."""
        self._ordered.discard((order.asker, order.digest, order.index))


def sha256(data: bytes) -> str:
    """SHA-256 of a payload, hexadecimal: its name."""
    return hashlib.sha256(data).hexdigest()

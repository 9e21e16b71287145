"""The holder's side of transfers: payloads, requested blocks, and the peers that have all of them.

It has no network and no thread. :class:`~fimi.messaging.transfers.exchange.Transfers` guards it
with its lock and publishes the chunks.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct

from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.blocks import block_bounds, block_count, blocks_of
from fimi.messaging.transfers.stream import Stream
from fimi.messaging.transfers.turns import Asked, Requests
from fimi.messaging.transfers.wire import Chunk, Want, chunk_check

REMEMBERED = 256
"""Number of withdrawn payloads for which it is still known which peers had them."""
MAX_KNOWN = 10_000
"""Of a payload, so many peers are known that have asked for it, or have it; names are free."""
FIRST_RUN_BLOCKS = 16
"""Blocks with which a shared stream begins."""

Said = Literal["", "gone", "apart"]
"""What an asker is to be told: nothing, that the payload is not served, or to leave the stream."""


class _Payload(Struct):
    data: memoryview
    keep: int | None
    stream: Stream | None
    served: int = 1


class Order(Struct, frozen=True):
    """A chunk to send; :meth:`chunk` makes it, which takes some time and needs no lock.

    Attributes:
        asker: for whom it is; empty: for all that hear the shared stream.
        digest: of the payload.
        start: the first block.
        data: the blocks.
    """

    asker: str
    digest: str
    start: int
    data: memoryview

    def chunk(self) -> Chunk:
        """The chunk with its checksum."""
        return Chunk(
            digest=self.digest,
            start=self.start,
            check=chunk_check(self.start, self.data),
            data=self.data,
        )


class ServedPayloads:
    """The payloads that one peer serves. Not safe to use from several threads without a lock.

    Attributes:
        refused: requests that were impossible, or too many.
        impossible: the impossible ones: for blocks that the payload does not have.
        of_use: whether the last request has made this peer send anything.
    """

    def __init__(self, holder: str) -> None:
        self.refused = 0
        self.impossible = 0
        self.of_use = False
        self._holder = holder
        self._payloads: dict[str, _Payload] = {}
        self._have_it: dict[str, set[str]] = {}
        self._asked_for: dict[str, set[str]] = {}
        self._requests = Requests()

    def put(
        self,
        digest: str,
        data: bytes | memoryview,
        media: str,
        keep: int | None,
        rate_bps: float | None = None,
        *,
        shared: bool = False,
    ) -> Offer:
        """Serve a payload; ``shared``: over a stream that many hear."""
        if (payload := self._payloads.get(digest)) is not None:
            payload.served += 1
            payload.keep = keep
            self._have_it[digest].clear()
            self._asked_for[digest].clear()
        else:
            payload = _Payload(
                data=memoryview(data), keep=keep, stream=Stream() if shared else None
            )
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
            media=media,
            rate_bps=rate_bps,
            shared=payload.stream is not None,
        )

    def take(self, digest: str) -> None:
        """Undo one :meth:`put`."""
        if (payload := self._payloads.get(digest)) is not None:
            payload.served -= 1
            if payload.served <= 0:
                self._drop(digest)

    def digests(self) -> tuple[str, ...]:
        """Digests of the payloads that are served."""
        return tuple(self._payloads)

    def has(self, digest: str) -> bool:
        """Whether this payload is served."""
        return digest in self._payloads

    def done(self, asker: str, digest: str) -> bool:
        """Note that ``asker`` has all of a payload; returns whether that was not known."""
        if (have_it := self._have_it.get(digest)) is None:
            return False
        is_new = asker not in have_it and len(have_it) < MAX_KNOWN
        if is_new:
            have_it.add(asker)
        payload = self._payloads.get(digest)
        if payload is None:
            return is_new
        if payload.stream is not None:
            payload.stream.leave(asker)
        if payload.keep is not None and len(have_it) >= payload.keep:
            self._drop(digest)
        return is_new

    def is_done(self, asker: str, digest: str) -> bool:
        """Whether ``asker`` has confirmed that it has all of a payload."""
        return asker in self._have_it.get(digest, ())

    def is_asked(self, asker: str, digest: str) -> bool:
        """Whether ``asker`` has asked for blocks of a payload, or has all of it."""
        return asker in self._asked_for.get(digest, ()) or self.is_done(asker, digest)

    def forget(self, asker: str, digest: str) -> None:
        """Forget that ``asker`` has asked for blocks of a payload."""
        self._asked_for.get(digest, set()).discard(asker)

    def order(self, asker: str, want: Want, largest_bytes: int, now_s: float) -> Said:
        """Note blocks to send, each once; returns what the asker is to be told.

        Afterwards :attr:`of_use` says whether there was anything to do.

        Args:
            asker: who asks.
            want: its request.
            largest_bytes: no chunk may be larger.
            now_s: the present time, s.
        """
        self.of_use = False
        payload = self._payloads.get(want.digest)
        if payload is None:
            return "gone"
        if len(self._asked_for[want.digest]) < MAX_KNOWN:
            self._asked_for[want.digest].add(asker)
        chunk_blocks = blocks_of(min(want.chunk_bytes, largest_bytes))
        stream = payload.stream if want.shared else None
        if want.shared and (stream is None or stream.is_apart(asker)):
            stream, said = None, "apart"
        else:
            said = ""
        runs = [(start, start + count) for start, count in want.runs]
        if stream is not None:
            if not stream.hears(asker):
                begin = stream.join(asker, now_s)
                if not runs and begin:
                    runs = [(0, min(FIRST_RUN_BLOCKS, block_count(len(payload.data))))]
            elif stream.falls_behind(asker, want.shared_bytes, now_s):
                stream, said = None, "apart"
            else:  # others may have asked for the same blocks
                self.of_use = stream.has_moved(asker)
        for start, stop in runs:
            if not 0 <= start < stop <= block_count(len(payload.data)):
                self.refused += 1
                self.impossible += 1
            elif stream is None:
                self._ask(asker, Asked(want.digest, start, stop, chunk_blocks))
            else:
                for a, b in stream.not_under_way(asker, start, stop, now_s):
                    self._ask("", Asked(want.digest, a, b, chunk_blocks))
        return "apart" if said else ""

    def next_order(self, now_s: float) -> Order | None:
        """The chunk to send next, of the asker whose turn it is."""
        while (turn := self._requests.next()) is not None:
            asker, asked = turn
            if (payload := self._payloads.get(asked.digest)) is None:
                continue
            start, stop = block_bounds(len(payload.data), asked.start, asked.stop)
            if not asker and payload.stream is not None:
                payload.stream.sent(asked.start, asked.stop, stop - start, now_s)
            return Order(asker, asked.digest, asked.start, payload.data[start:stop])
        return None

    def _ask(self, asker: str, asked: Asked) -> None:
        added = self._requests.add(asker, asked)
        self.refused += added is None
        self.of_use = self.of_use or bool(added)

    def _drop(self, digest: str) -> None:
        del self._payloads[digest]
        self._requests.forget(digest)


def sha256(data: bytes | memoryview) -> str:
    """SHA-256 of a payload, hexadecimal: its name."""
    return hashlib.sha256(data).hexdigest()

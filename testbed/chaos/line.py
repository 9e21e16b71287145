"""One way of a slow link: a rate, a queue of bounded bytes before it, a delay behind it.

A router has a queue. What waits in it delays everything behind it, and a queue that is full makes
the sender wait. :class:`SlowLine` does the same to pieces of data, in a time that its caller gives
it: it has no clock, no thread and no socket, so that a test can hold it against arithmetic.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

Item = TypeVar("Item")

BUFFER_BYTES = 64 << 10
"""What a cheap router queues: 26 ms at 20 Mbit/s."""

PIECE_BYTES = 1448
"""The payload of an Ethernet packet."""

READ_BYTES = 256 << 10
"""The largest piece."""

FLIGHT_BYTES = 16 << 20
"""What an unlimited way with a delay holds at most, bytes."""

_LOOK_S = 0.005


class LinkShape(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one way of a link is like.

    Attributes:
        rate_bps: bits per second, MQTT's headers included; ``None`` for unlimited.
        buffer_bytes: what waits before it at most, bytes; or what it sends in 5 ms, if that is
            more: it would be empty between two looks at it.
        delay_s: how long every piece travels, s.
        jitter_s: up to how much longer, drawn for each piece, s; the order stays.
    """

    rate_bps: Annotated[float, Meta(ge=1.0, le=1e12)] | None = None
    buffer_bytes: Annotated[int, Meta(ge=2048, le=1 << 30)] = BUFFER_BYTES
    delay_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.0
    jitter_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether it changes nothing."""
        return self.rate_bps is None and not self.delay_s and not self.jitter_s

    @property
    def queue_bytes(self) -> int:
        """What waits before it at most, bytes."""
        return max(self.buffer_bytes, int((self.rate_bps or 0.0) / 8.0 * _LOOK_S))


class SlowLine(Generic[Item]):
    """The pieces on one way of a link, first in, first out.

    Args:
        shape: what the way is like.
        dice: draws the jitter.
    """

    def __init__(self, shape: LinkShape, dice: random.Random) -> None:
        self.shape = shape
        self.is_frozen = False
        """Whether nothing moves; see :meth:`freeze`."""
        self._dice = dice
        self._waiting: deque[tuple[Item, int]] = deque()
        self._waiting_bytes = 0
        self._since_s = 0.0  # until when the first of them has been sent,
        self._left_bits = 0.0  # and what was left of it then
        self._travelling: deque[tuple[float, Item, int]] = deque()
        self._travelling_bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether what is put in comes out at once: nothing is shaped, frozen or under way."""
        return (
            self.shape.is_plain
            and not self.is_frozen
            and not self._waiting
            and not self._travelling
        )

    @property
    def room_bytes(self) -> int:
        """How much may be put in now, bytes; none while it is frozen."""
        if self.is_frozen:
            return 0
        if self.shape.rate_bps is None:
            return FLIGHT_BYTES - self._travelling_bytes - self._waiting_bytes
        return self.shape.queue_bytes - self._waiting_bytes

    @property
    def piece_bytes(self) -> int:
        """How large a piece should be, bytes: a millisecond's, and an Ethernet packet at least."""
        rate_bps = self.shape.rate_bps
        if rate_bps is None:
            return READ_BYTES
        return max(PIECE_BYTES, min(self.shape.queue_bytes // 8, int(rate_bps / 8e3), READ_BYTES))

    def put(self, item: Item, size_bytes: int, now_s: float) -> None:
        """A piece joins the queue."""
        if not self._waiting:
            self._since_s, self._left_bits = now_s, 8.0 * size_bytes
        self._waiting.append((item, size_bytes))
        self._waiting_bytes += size_bytes

    def take(self, now_s: float) -> list[Item]:
        """The pieces that have arrived by ``now_s``, in order."""
        if self.is_frozen:
            return []
        while self._waiting and (done_s := self._first_done_s()) <= now_s:
            item, size_bytes = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            self._since_s = done_s
            self._left_bits = 8.0 * self._waiting[0][1] if self._waiting else 0.0
            self._depart(item, size_bytes, done_s)
        arrived = []
        while self._travelling and self._travelling[0][0] <= now_s:
            _, item, size_bytes = self._travelling.popleft()
            self._travelling_bytes -= size_bytes
            arrived.append(item)
        return arrived

    def next_s(self) -> float:
        """When :meth:`take` will have something to do; infinite for never."""
        if self.is_frozen:
            return math.inf
        first_s = self._first_done_s() if self._waiting else math.inf
        return min(first_s, self._travelling[0][0]) if self._travelling else first_s

    def reshape(self, shape: LinkShape, now_s: float) -> None:
        """Be another link from now on. Call :meth:`take` with the same time before."""
        self._settle(now_s)
        self.shape = shape

    def freeze(self, now_s: float) -> None:
        """Let nothing move. Call :meth:`take` with the same time before."""
        self._settle(now_s)
        self.is_frozen = True

    def thaw(self, now_s: float) -> None:
        """Go on; nothing was lost."""
        if self.is_frozen:
            self.is_frozen = False
            self._since_s = max(now_s, self._since_s)

    def _first_done_s(self) -> float:
        rate_bps = self.shape.rate_bps
        return self._since_s if rate_bps is None else self._since_s + self._left_bits / rate_bps

    def _depart(self, item: Item, size_bytes: int, left_s: float) -> None:
        shape = self.shape
        due_s = left_s + shape.delay_s + self._dice.random() * shape.jitter_s
        if self._travelling:
            due_s = max(due_s, self._travelling[-1][0])
        self._travelling.append((due_s, item, size_bytes))
        self._travelling_bytes += size_bytes

    def _settle(self, now_s: float) -> None:
        """Count what of the first piece has been sent by now."""
        if self._waiting and not self.is_frozen:
            if self.shape.rate_bps is not None:
                sent_bits = max(0.0, now_s - self._since_s) * self.shape.rate_bps
                self._left_bits = max(0.0, self._left_bits - sent_bits)
            self._since_s = max(now_s, self._since_s)

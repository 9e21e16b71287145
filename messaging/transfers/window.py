"""How much to ask for at once, in chunks of what size, and how long to wait: from what arrives.

:class:`LinkWindow` measures a link while a payload comes over it: the least time from a request to
its chunk, the times of the last ones, and the usual one. From these follow

* the window: it grows, twofold in each round trip at most, as long as the shortest of the last
  times shows no queue of :data:`QUEUE_S` in front of the link, and shrinks if it does. So the link
  is never idle, and other messages do not wait for long. That the shortest time counts and not each
  of them is the principle of CoDel (Nichols and Jacobson 2012, ACM Queue 10(5)): a process that
  stood still for a moment is no queue. That delay decides and not loss is Vegas's (Brakmo and
  Peterson 1995, IEEE JSAC 13(8));
* the chunk: a quarter of the window, at most :data:`CHUNK_S` of the link;
* the patience: the usual time and four deviations of it (RFC 6298), twice as long after each
  request that remained without an answer.

A chunk that is larger than any that ever came, and does not come while others do, may be too large
for the broker: the next ones are smaller. If nothing else is on its way, that shows when it has not
come :data:`SILENCES` times and one of a size that has come before does. It may have been the link
after all: once :data:`RAISE_AFTER` chunks have come, larger ones are tried again, and each time
that they do not come, after twice as many. There is no network, no thread and no clock here: times
are arguments.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from fimi.messaging.transfers.blocks import BLOCK_BYTES

FIRST_BYTES = 16 * 1024
"""The window before anything is known of the link, bytes."""
FIRST_CHUNK_BYTES = 4 * 1024
MAX_CHUNK_BYTES = 256 << 10
MAX_WINDOW_BYTES = 8 << 20
CHUNK_S = 0.02
"""Duration of a chunk, s."""
QUEUE_S = 0.05
"""Duration of the queue that keeps the link busy, s."""
FIRST_PATIENCE_S = 2.0
"""How long to wait for a chunk before anything is known of the link, s."""
MIN_PATIENCE_S = 0.3
MAX_PATIENCE_S = 10.0
PACED_WINDOWS = 3.0
"""How long to wait for a paced holder, in windows: one for the chunks before, two for delay."""
LAST = 4
"""So many times are the last ones. With the least window they are no queue of one's own: if all are
longer than the least time ever, the link has changed."""
STRIKES = 2
"""So often a connection is lost under a larger chunk than ever came, until chunks are smaller."""
SILENCES = 2
"""So often in a row nothing has come, until larger chunks than ever came are not asked for."""
RAISE_AFTER = 128
"""After so many chunks those that were too large are tried again; twice as many the next time."""

Loss = Literal["silence", "overtaken", "disconnected"]
"""Why a chunk is lost: nothing came for too long, later ones came, or the connection went."""

_BASE_S = 10.0
"""For how long the least time counts at least, s; it is forgotten after twice that."""
PROBES = 2
"""Chunks for which the window is small then: its own queue is not to be taken for the link."""


class LinkWindow:
    """What is known of a link.

    Args:
        rate_bps: at most so fast the holder sends, bit/s; ``None``: unlimited.

    Attributes:
        ceiling_bytes: no chunk may be larger.
        most_bytes: nor the window.
    """

    def __init__(self, rate_bps: float | None = None) -> None:
        self.ceiling_bytes = MAX_CHUNK_BYTES
        self.most_bytes = MAX_WINDOW_BYTES
        self._paced_bps = rate_bps
        self._bytes = float(self._paced_bytes(FIRST_BYTES, QUEUE_S))
        self._bases = (float("inf"), float("inf"))
        self._base_since_s = float("-inf")
        self._last_s: deque[float] = deque(maxlen=LAST)
        self._usual_s: float | None = None
        self._deviation_s = 0.0
        self._backoff = 0
        self._probes = 0
        self._probed_s = 0.0
        self._largest_bytes = 0
        self._strikes = 0
        self._silent_bytes = 0
        self._raise_after, self._since = RAISE_AFTER, 0

    @property
    def size_bytes(self) -> int:
        """Most bytes to be on their way at the same time."""
        wanted = 0.0 if self._probes else min(self.most_bytes, self._bytes)
        return int(max(2 * self.chunk_bytes, wanted))

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk, a multiple of a block."""
        chunks = 4.0
        if self._usual_s is not None:
            chunks = max(chunks, (min(self._bases) + QUEUE_S) / CHUNK_S)
        wanted = min(self.most_bytes, self._bytes) / chunks
        if self._largest_bytes:
            wanted = max(wanted, self._paced_bytes(FIRST_CHUNK_BYTES, CHUNK_S))
        wanted = min(wanted, self.ceiling_bytes)
        if self._in_doubt:
            wanted = min(wanted, self._largest_bytes)
        return max(BLOCK_BYTES, int(wanted) // BLOCK_BYTES * BLOCK_BYTES)

    @property
    def _in_doubt(self) -> bool:
        """Whether silence may be about the size of what was asked for."""
        return bool(self._silent_bytes) and self._backoff >= SILENCES

    @property
    def patience_s(self) -> float:
        """How long to wait for a chunk after the last sign of life, s."""
        if self._usual_s is None:
            wait_s = FIRST_PATIENCE_S
        else:
            wait_s = max(MIN_PATIENCE_S, self._usual_s + 4.0 * self._deviation_s)
        if self._paced_bps is not None:
            wait_s = max(wait_s, PACED_WINDOWS * 8.0 * self.size_bytes / self._paced_bps)
        longest_s = max(MAX_PATIENCE_S, wait_s)
        return float(min(longest_s, wait_s * 2.0**self._backoff))

    def resume(self) -> None:
        """Another payload begins: the link may have changed, which soon shows."""
        self._backoff = 0
        self._last_s.clear()
        self._bytes = max(self._bytes / 4.0, self._paced_bytes(FIRST_BYTES, QUEUE_S))

    def came(self, size_bytes: int, took_s: float, now_s: float) -> None:
        """A chunk has come.

        Args:
            size_bytes: its size.
            took_s: since it was asked for, s.
            now_s: the present time, s.
        """
        if self._in_doubt and size_bytes <= self._largest_bytes:
            self._lower(self._silent_bytes, "silence")
        self._silent_bytes = 0
        self._since += 1
        if self._raise_after and self._since >= self._raise_after:
            self.ceiling_bytes = min(2 * self.ceiling_bytes, MAX_CHUNK_BYTES)
            self._since = 0
        self._backoff = 0
        self._largest_bytes = max(self._largest_bytes, size_bytes)
        if self._probes and now_s - took_s >= self._probed_s:
            self._probes -= 1
        if now_s - self._base_since_s > _BASE_S:
            self._probes, self._probed_s = (0 if self._usual_s is None else PROBES), now_s
            self._base_since_s = now_s
            self._bases = (took_s, self._bases[0])
        else:
            self._bases = (min(took_s, self._bases[0]), self._bases[1])
        if self._usual_s is None:
            self._usual_s, self._deviation_s = took_s, took_s / 2.0
        else:
            self._deviation_s += (abs(took_s - self._usual_s) - self._deviation_s) / 4.0
            self._usual_s += (took_s - self._usual_s) / 8.0
        self._last_s.append(took_s)
        if not self._probes:
            self._adjust(size_bytes, now_s)

    def _adjust(self, size_bytes: int, now_s: float) -> None:
        """Bring the window towards a queue of :data:`QUEUE_S`, as far as this chunk is part of it.

        By Little's law a window that is w / (b + q) times as large would take b + q instead of w.
        """
        shortest_s = max(min(self._last_s), 1e-6)
        if self._is_stale(shortest_s):
            self._bases, self._base_since_s = (shortest_s, shortest_s), now_s
            self._last_s.clear()
        times = min(2.0, max(0.5, (min(self._bases) + QUEUE_S) / shortest_s))
        least = 2.0 * self._paced_bytes(FIRST_CHUNK_BYTES, CHUNK_S)
        grown = self._bytes + (times - 1.0) * size_bytes
        self._bytes = min(max(grown, least), 2.0 * self.most_bytes)

    def _is_stale(self, shortest_s: float) -> bool:
        """Whether the least time is of another link: with the least window no queue is our own."""
        if self.size_bytes > 2 * FIRST_CHUNK_BYTES:
            return False
        return len(self._last_s) == LAST and shortest_s > min(self._bases) + 2.0 * QUEUE_S

    def lost(self, size_bytes: int, why: Loss) -> None:
        """A chunk has not come; see :data:`Loss`."""
        if not self._largest_bytes or size_bytes <= self._largest_bytes:
            return
        if why == "silence":
            self._silent_bytes = size_bytes
            return
        self._strikes += 1
        if why == "overtaken" or self._strikes >= STRIKES:
            self._strikes = 0
            self._lower(size_bytes, why)

    def _lower(self, size_bytes: int, why: Loss) -> None:
        """Chunks of that size are too large; a broker that hangs up for them is not tried again."""
        self.ceiling_bytes = max(self._largest_bytes, size_bytes // 2)
        self._raise_after = 0 if why == "disconnected" else 2 * self._raise_after
        self._since = 0

    def back_off(self) -> None:
        """Wait longer the next time: a request remained without an answer."""
        self._backoff = min(self._backoff + 1, 10)
        if not self._largest_bytes:
            self._bytes = max(4.0 * BLOCK_BYTES, self._bytes / 2.0)

    def _paced_bytes(self, size_bytes: int, seconds: float) -> int:
        """So many bytes, or less where the holder needs more than so long for them."""
        if self._paced_bps is None:
            return size_bytes
        return int(max(BLOCK_BYTES, min(size_bytes, self._paced_bps / 8.0 * seconds)))

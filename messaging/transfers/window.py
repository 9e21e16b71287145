"""How much to ask for at once, in chunks of what size, and how long to wait: from what arrives.

:class:`LinkWindow` measures a link while a payload comes over it, as TCP's BBR and Vegas do
(Cardwell et al. 2016, ACM Queue 14(5); Brakmo and Peterson 1995, IEEE JSAC 13(8)): the rate at
which bytes arrive, the least time from a request to its chunk, and the usual one. From these follow

* the window: what the link holds, and a queue of :data:`QUEUE_S`, so that the link is never idle
  and other messages do not wait for long; in the beginning it doubles until there is that queue,
  and again where chunks meet none (:data:`UNFILLED`);
* the chunk: :data:`CHUNK_S` of the link;
* the patience: the usual time and four deviations of it (RFC 6298), twice as long after each
  request that remained without an answer.

A chunk that is larger than any that ever came, and does not come while others do, may be too large
for the broker: the next ones are smaller. There is no network, no thread and no clock here: times
are arguments.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from fimi.messaging.transfers.blocks import BLOCK_BYTES

FIRST_BYTES = 16 * 1024
"""The window before anything is known of the link, bytes."""
FIRST_CHUNK_BYTES = 4 * 1024
MAX_CHUNK_BYTES = 1 << 20
MAX_WINDOW_BYTES = 4 << 20
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
STALE = 8
"""So many chunks that take longer with the least window show that the link has changed."""
UNFILLED = 8
"""So many chunks in a row that meet no queue show that the link holds more: its usual delay is
above its least, as on Wi-Fi."""
STRIKES = 2
"""So often a connection is lost under a larger chunk than ever came, until chunks are smaller."""

Loss = Literal["silence", "overtaken", "disconnected"]
"""Why a chunk is lost: nothing came for too long, later ones came, or the connection went."""

_REMEMBERED = 10
"""Chunks of which the upper quartile gives the rate: a process that stood still takes several at
once."""
_BASE_S = 10.0
"""For how long the least time counts at least, s; it is forgotten after twice that."""
PROBES = 2
"""Chunks for which the window is small then: its own queue is not to be taken for the link."""


class LinkWindow:
    """What is known of a link.

    Args:
        rate_bps: at most so fast the holder sends, bit/s; ``None``: unlimited.
        ceiling_bytes: no chunk may be larger.
        most_bytes: nor the window.
    """

    def __init__(
        self,
        rate_bps: float | None = None,
        *,
        ceiling_bytes: int = MAX_CHUNK_BYTES,
        most_bytes: int = MAX_WINDOW_BYTES,
    ) -> None:
        self.ceiling_bytes = ceiling_bytes
        self.most_bytes = most_bytes
        self._paced_bps = rate_bps
        self._rates: deque[float] = deque(maxlen=_REMEMBERED)
        self._bases = (float("inf"), float("inf"))
        self._base_since_s = float("-inf")
        self._last_s: deque[float] = deque(maxlen=STALE)
        self._usual_s: float | None = None
        self._deviation_s = 0.0
        self._backoff = 0
        self._grown_bytes: int | None = FIRST_BYTES  # while the link is not full
        self._unfilled = 0  # chunks in a row that have met no queue
        self._probes = 0
        self._probed_s = 0.0
        self._largest_bytes = 0
        self._start_bytes = FIRST_CHUNK_BYTES
        self._strikes = 0

    @property
    def rate(self) -> float | None:
        """Bytes per second that arrive; ``None`` before the first."""
        if not self._rates:
            return None
        rate = sorted(self._rates)[(3 * len(self._rates) - 1) // 4]
        return rate if self._paced_bps is None else min(rate, self._paced_bps / 8.0)

    @property
    def size_bytes(self) -> int:
        """Most bytes to be on their way at the same time."""
        rate = self.rate
        if rate is None:
            wanted = float(self._paced_bytes(FIRST_BYTES, QUEUE_S))
        elif self._probes:
            wanted = 0.0
        else:
            wanted = rate * (1.5 * min(self._bases) + QUEUE_S)
            wanted = max(wanted, self._grown_bytes or 0)
        return int(max(2 * self.chunk_bytes, min(self.most_bytes, wanted)))

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk, a multiple of a block."""
        rate = self.rate
        if rate is None:
            wanted = float(self._paced_bytes(self._start_bytes, CHUNK_S))
        else:
            wanted = min(max(rate * CHUNK_S, FIRST_CHUNK_BYTES), self.most_bytes / 4)
        wanted = min(wanted, self.ceiling_bytes)
        return max(BLOCK_BYTES, int(wanted) // BLOCK_BYTES * BLOCK_BYTES)

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
        rate, self._backoff = self.rate, 0
        if rate is not None:
            self._rates.clear()
            self._rates.append(rate / 4.0)
            self._grown_bytes = self.size_bytes

    def came(self, size_bytes: int, took_s: float, rate: float, now_s: float) -> None:
        """A chunk has come.

        Args:
            size_bytes: its size.
            took_s: since it was asked for, s.
            rate: bytes per second that arrived meanwhile.
            now_s: the present time, s.
        """
        self._backoff = 0
        self._largest_bytes = max(self._largest_bytes, size_bytes)
        self._rates.append(rate)
        if self._probes and now_s - took_s >= self._probed_s:
            self._probes -= 1
        if now_s - self._base_since_s > _BASE_S:
            self._probes, self._probed_s = (0 if self._usual_s is None else PROBES), now_s
            self._base_since_s = now_s
            self._bases = (took_s, self._bases[0])
        else:
            self._bases = (min(took_s, self._bases[0]), self._bases[1])
        is_full = took_s > min(self._bases) + QUEUE_S
        self._unfilled = 0 if is_full or self._probes else self._unfilled + 1
        if self._grown_bytes is not None:
            self._grown_bytes = None if is_full else self._grown_bytes + size_bytes
        elif self._unfilled >= UNFILLED:
            self._grown_bytes = self.size_bytes
        self._last_s.append(took_s)
        if self._is_stale():
            self._bases = (min(self._last_s), min(self._last_s))
            self._base_since_s = now_s
            self._grown_bytes = 2 * self.chunk_bytes
            self._last_s.clear()
        if self._usual_s is None:
            self._usual_s, self._deviation_s = took_s, took_s / 2.0
        else:
            self._deviation_s += (abs(took_s - self._usual_s) - self._deviation_s) / 4.0
            self._usual_s += (took_s - self._usual_s) / 8.0

    def _is_stale(self) -> bool:
        """Whether the least time is of another link: with the least window no queue is our own."""
        if self._probes or self.size_bytes > 2 * FIRST_CHUNK_BYTES:
            self._last_s.clear()
        if len(self._last_s) < STALE:
            return False
        return min(self._last_s) > min(self._bases) + 2.0 * QUEUE_S

    def lost(self, size_bytes: int, why: Loss) -> None:
        """A chunk has not come; see :data:`Loss`."""
        if not self._largest_bytes or size_bytes <= self._largest_bytes or why == "silence":
            return
        self._strikes += 1
        if why == "overtaken" or self._strikes >= STRIKES:
            self._strikes = 0
            self.ceiling_bytes = max(self._largest_bytes, size_bytes // 2)

    def back_off(self) -> None:
        """Wait longer the next time: a request remained without an answer."""
        self._backoff = min(self._backoff + 1, 10)
        if not self._largest_bytes:
            self._start_bytes = max(BLOCK_BYTES, self._start_bytes // 2)

    def _paced_bytes(self, size_bytes: int, seconds: float) -> int:
        """So many bytes, or less where the holder needs more than so long for them."""
        if self._paced_bps is None:
            return size_bytes
        return int(max(BLOCK_BYTES, min(size_bytes, self._paced_bps / 8.0 * seconds)))

"""Sending at a rate: what a peer serves leaves as if a link of exactly that rate carried it.

The reference is the payload. A plan's seconds of an upload are the bits of the update over the
planned rate (equation 4 of docs/model.md), so those are the bits that are counted; what MQTT, TCP
and IP add goes on top.

The operating system's own pacing (SO_MAX_PACING_RATE) cannot hold such a rate: Linux counts
headers, lets the first ten packets of a connection and up to half of every pause go for nothing,
and sends a packet of 64 kB at once where packets are that large. So a :class:`TokenBucket` settles
the rate, and the kernel, at :data:`SMOOTHING` times that rate, spreads each chunk over the wire.
"""

from __future__ import annotations

import time
from collections.abc import Callable

CHUNK_S = 0.25
"""How long a chunk of a paced peer takes: messages wait no longer for the one before them."""

LEAST_CHUNK_BYTES = 1024
"""Smaller chunks would be mostly headers; MQTT and this protocol add about 130 B to each."""

SMOOTHING = 4.0
"""The kernel's limit over the planned rate: above what headers need at any chunk size, so that it
holds nothing up; the last chunk of a payload arrives a quarter of its time late, at most."""


def paced_chunk_bytes(rate_bps: float) -> int:
    """Size of a chunk that suits a rate, bytes."""
    return max(LEAST_CHUNK_BYTES, round(rate_bps / 8.0 * CHUNK_S))


class TokenBucket:
    """Says how long to wait until a link of this rate would have carried so many bytes.

    Whoever comes back late, because a thread was not woken in time, has so much of the delay made
    good that the average stays the rate.

    Args:
        rate_bps: bits per second on average.
        late_s: how much delay is made good, s.
        now_s: a clock that never runs backwards.

    Raises:
        ValueError: for a rate that is not positive.
    """

    def __init__(
        self,
        rate_bps: float,
        *,
        late_s: float = 0.05,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not rate_bps > 0:
            raise ValueError(f"a sending rate of {rate_bps} bit/s is not possible; it must be > 0")
        self.rate_bps = rate_bps
        self._late_s = late_s
        self._now_s = now_s
        self._free_s = now_s()

    def take(self, size_bytes: int) -> float:
        """Book these bytes; seconds to wait until the last of them would be sent."""
        now_s = self._now_s()
        self._free_s = max(self._free_s, now_s - self._late_s) + 8.0 * size_bytes / self.rate_bps
        return max(0.0, self._free_s - now_s)

"""Sending at a rate: payloads leave as over a link of exactly that rate.

The rate counts payload. A plan's seconds of an upload are the bits of the update over the planned
rate (equation 4 of docs/model.md), so only those bits are counted; the headers of MQTT, TCP and IP
come in addition.

The operating system's pacing (SO_MAX_PACING_RATE) cannot hold such a rate: Linux counts headers,
does not count the first ten packets of a connection and up to half of every pause, and sends a
packet of 64 kB at once where packets are that large. So a :class:`TokenBucket` sets the rate, and
the kernel, at :data:`SMOOTHING` times that rate, spreads each chunk over time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

CHUNK_S = 0.25
"""Duration of a chunk of a paced peer, s: a message waits no longer for the chunk before it."""

LEAST_CHUNK_BYTES = 1024
"""Smaller chunks would be mostly headers; MQTT and this protocol add about 130 B to each."""

SMOOTHING = 4.0
"""The kernel's limit over the planned rate: enough for the headers at any chunk size, so that it
delays nothing. The last chunk of a payload arrives late by a quarter of its duration at most."""


def paced_chunk_bytes(rate_bps: float) -> int:
    """Size of a chunk that suits a rate, bytes."""
    return max(LEAST_CHUNK_BYTES, round(rate_bps / 8.0 * CHUNK_S))


class TokenBucket:
    """Says how long to wait until a link of this rate would have carried so many bytes.

    A thread may wake up late. Up to ``late_s`` of such a delay is subtracted from the next waits,
    so that the average rate is kept.

    Args:
        rate_bps: bits per second on average.
        late_s: largest delay that is subtracted, s.
        now_s: a clock that never runs backwards.

    Raises:
        ValueError: the rate is not positive.
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
        """Count these bytes; returns the seconds until the last of them would be sent."""
        now_s = self._now_s()
        self._free_s = max(self._free_s, now_s - self._late_s) + 8.0 * size_bytes / self.rate_bps
        return max(0.0, self._free_s - now_s)

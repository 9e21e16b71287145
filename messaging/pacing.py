"""A token bucket: sending at a rate where the operating system does not pace a socket."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Says how long to wait before so many bytes may go.

    Args:
        rate_bps: bits per second on average.
        burst_bytes: as much may go at once after a pause.
        now_s: a clock that never runs backwards.

    Raises:
        ValueError: for a rate that is not positive.
    """

    def __init__(
        self,
        rate_bps: float,
        *,
        burst_bytes: int = 64 << 10,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not rate_bps > 0:
            raise ValueError(f"a sending rate of {rate_bps} bit/s is not possible; it must be > 0")
        self.rate_bps = rate_bps
        self._burst_s = 8.0 * burst_bytes / rate_bps
        self._now_s = now_s
        self._free_s = now_s() - self._burst_s

    def take(self, size_bytes: int) -> float:
        """Book these bytes; seconds to wait until they may go."""
        now_s = self._now_s()
        begin_s = max(self._free_s, now_s - self._burst_s)
        self._free_s = begin_s + 8.0 * size_bytes / self.rate_bps
        return max(0.0, self._free_s - now_s)

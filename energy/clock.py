"""Time for every duration: monotonic on hardware, virtual on emulated boards.

Wall-clock time of day is for people and file names only; no duration is ever computed from it.
"""

from __future__ import annotations

import math
import time
from typing import Protocol


class Clock(Protocol):
    """A clock that never runs backwards."""

    def now_s(self) -> float:
        """Seconds since an arbitrary start."""


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_s(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()


class VirtualClock:
    """A clock that stands still until :meth:`advance` or :meth:`show` lets time pass.

    An emulated round of a minute takes milliseconds, and the same work takes the same time on
    every machine.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """Virtual seconds since the emulation began."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Let ``duration_s`` seconds pass.

        Raises:
            ValueError: for a negative or non-finite duration.
        """
        if not 0.0 <= duration_s < float("inf"):
            raise ValueError(f"a clock cannot advance by {duration_s} s")
        self._now_s += duration_s

    def show(self, now_s: float) -> None:
        """Show this time from here on, exactly: the only way back, for a board that joins a fleet.

        Raises:
            ValueError: for a time that is not finite.
        """
        if not math.isfinite(now_s):
            raise ValueError(f"a clock cannot show {now_s} s")
        self._now_s = now_s

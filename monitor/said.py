"""The latest events in words, as a snapshot holds them. One thread uses it at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from fimi.monitor.snapshot import Said
from fimi.record.clean import clean

KEPT = 200
"""Most events in words that a snapshot holds."""
LONGEST = 1000
"""Most letters of one."""


class LatestSaid:
    """Keeps the latest of them, by a number that grows, as text.

    Args:
        unix: UNIX time, s.
    """

    def __init__(self, unix: Callable[[], float] = time.time) -> None:
        self._unix = unix
        self._kept: dict[str, Said] = {}
        self._number = 0

    def add(self, text: str, *, problem: bool = False, device: str = "") -> None:
        """Keep an event; the oldest goes where there are too many."""
        self._number += 1
        self._kept[str(self._number)] = Said(
            unix_s=round(self._unix(), 1),
            text=clean(text, LONGEST),
            problem=problem,
            device=device,
        )
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]

    def now(self) -> dict[str, Said]:
        """Those that are kept, the oldest first."""
        return dict(self._kept)

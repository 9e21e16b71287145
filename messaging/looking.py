"""Whether somebody looks at a fleet: only then do boards say many times a minute how they are.

* :class:`Onlookers`  the coordinator's part: who reads telemetry again and again looks
* :class:`Looking`    a device's part: for how long the last word of that counts

The coordinator tells all devices every :data:`AGAIN_S` on topic ``look`` as long as somebody looks.
That is a lease, which nobody keeps and nobody takes back: a device that has just come hears the
next one, and where the coordinator is killed all are quiet after :data:`LEASE_S`.

A dashboard and a terminal read once a second or more often. Who reads more seldom than every
:data:`READS_S`, as a scraper of metrics does, does not look: what boards say unasked is enough.
Several who read seldom are no viewer together: the reads of each are counted by themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

READS_S = 3.0
"""Who reads telemetry again within this time looks, s."""
AGAIN_S = 4.0
"""Time between two words that somebody looks, s."""
LEASE_S = 10.0
"""For how long a word counts, s: one may be lost."""
LOOKED_S = 1.0
"""Time between two messages of telemetry while somebody looks, s."""


class Onlookers:
    """Tells whether devices are to be told that somebody looks. Safe to use from several threads.

    Args:
        clock: monotonic time, s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._read_s: dict[str, float] = {}
        self._told_s = float("-inf")

    def read(self, reader: str = "") -> bool:
        """Somebody reads telemetry; returns whether devices are to be told now.

        Args:
            reader: who, of a few.
        """
        with self._lock:
            now_s = self._clock()
            looks = now_s - self._read_s.get(reader, float("-inf")) <= READS_S
            self._read_s[reader] = now_s
            if not looks or now_s - self._told_s < AGAIN_S:
                return False
            self._told_s = now_s
            return True


class Looking:
    """Whether somebody looks at a device. Safe to use from several threads.

    Args:
        clock: monotonic time, s.

    Attributes:
        on_change: called on the network thread when somebody begins to look.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until_s = float("-inf")
        self.on_change: Callable[[], None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether somebody looks."""
        return self._clock() < self._until_s

    @property
    def left_s(self) -> float:
        """For how long that is known, s; 0 if nobody looks."""
        return max(0.0, self._until_s - self._clock())

    def told(self) -> None:
        """The coordinator says that somebody looks."""
        began = not self.is_on
        self._until_s = self._clock() + LEASE_S
        if began and self.on_change is not None:
            self.on_change()

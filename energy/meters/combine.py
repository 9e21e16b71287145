"""Two meters at once: one for the total, one for the processor's share of it.

A wall plug sees the whole device, but not the processor's share. A CPU rail sees the processor and
nothing else. The two are not added up: the share is part of the total.
"""

from __future__ import annotations

from fimi.energy.joules import SCOPE_WIDTH
from fimi.energy.meters import MeterDescription, MeterUnavailableError, Reading
from fimi.energy.meters.sampler import MonitorCost, Sampler


class Combined:
    """A recorder of totals that also records the processor's share.

    Attributes:
        split: the recorder of the processor's share.
        split_readings: its readings between the last two marks.

    Raises:
        MeterUnavailableError: if the total's meter sees no more than the processor's.
    """

    def __init__(self, total: Sampler, split: Sampler) -> None:
        wide, narrow = total.describe(), split.describe()
        if SCOPE_WIDTH[wide.scope] <= SCOPE_WIDTH[narrow.scope]:
            raise MeterUnavailableError(
                f"{wide.source} ({wide.scope}) cannot be the total of which {narrow.source} "
                f"({narrow.scope}) is a share: choose a meter that sees more for the total"
            )
        self._total = total
        self.split = split
        self.split_readings: list[Reading] = []

    def describe(self) -> MeterDescription:
        """The meter of the total."""
        return self._total.describe()

    def mark(self) -> list[Reading]:
        """Readings of the total since the last mark."""
        self.split_readings = self.split.mark()
        return self._total.mark()

    def take_cost(self) -> MonitorCost:
        """The cost of reading both since the last call."""
        one, other = self._total.take_cost(), self.split.take_cost()
        return MonitorCost(
            cpu_s=one.cpu_s + other.cpu_s,
            wall_s=max(one.wall_s, other.wall_s),
            looks=one.looks + other.looks,
            failed=one.failed + other.failed,
        )

    def close(self) -> None:
        """Close both."""
        self._total.close()
        self.split.close()

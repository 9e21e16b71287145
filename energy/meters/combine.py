"""Two meters at once: one for the total, one for the processor's share of it.

A wall plug sees the whole device, but not the processor's share. A CPU rail sees the processor and
nothing else. The two are not added up: the share is part of the total.
"""

from __future__ import annotations

from fimi.energy.joules import SCOPE_WIDTH
from fimi.energy.meters import MeterDescription, MeterUnavailableError, Reading
from fimi.energy.meters.sampler import MonitorCost, Sampler
from fimi.energy.meters.sums import is_part


class Combined:
    """A recorder of totals that also records the processor's share.

    Attributes:
        total: the recorder of the total.
        split: the recorder of the processor's share.
        split_readings: its readings between the last two marks.

    Raises:
        MeterUnavailableError: if the total's meter sees no more than the processor's, or does not
            contain it.
    """

    def __init__(self, total: Sampler, split: Sampler) -> None:
        wide, narrow = total.describe(), split.describe()
        if SCOPE_WIDTH[wide.scope] <= SCOPE_WIDTH[narrow.scope]:
            raise MeterUnavailableError(
                f"{wide.source} ({wide.scope}) cannot be the total of which {narrow.source} "
                f"({narrow.scope}) is a share: choose a meter that sees more for the total"
            )
        if not is_part(split.meter, total.meter):
            raise MeterUnavailableError(
                f"{narrow.source} is not a part of {wide.source}, so that it is no share of it: "
                "choose a total that contains it"
            )
        self.total = total
        self.split = split
        self.split_readings: list[Reading] = []

    def describe(self) -> MeterDescription:
        """The meter of the total."""
        return self.total.describe()

    def mark(self) -> list[Reading]:
        """Readings of the total since the last mark."""
        self.split_readings = self.split.mark()
        return self.total.mark()

    def take_cost(self) -> MonitorCost:
        """The cost of reading both since the last call."""
        one, other = self.total.take_cost(), self.split.take_cost()
        return MonitorCost(
            cpu_s=one.cpu_s + other.cpu_s,
            wall_s=max(one.wall_s, other.wall_s),
            looks=one.looks + other.looks,
            failed=one.failed + other.failed,
        )

    def take_doubts(self) -> tuple[str, ...]:
        """What is doubtful about either since the last call."""
        return tuple(dict.fromkeys(self.total.take_doubts() + self.split.take_doubts()))

    @property
    def trouble(self) -> str:
        """That one of them shows nothing, or that it reads again; empty if both always did."""
        return "; ".join(filter(None, (self.total.trouble, self.split.trouble)))

    def close(self) -> None:
        """Close both."""
        self.total.close()
        self.split.close()

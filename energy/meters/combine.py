"""Two meters at once.

* :class:`Combined`    one for the total, one for the processor's share of it
* :class:`WithSecond`  a meter, and another that is recorded beside it and is in no sum
* :class:`HasBeside`   what both have: readings beside those of the first

A wall plug sees the whole device, but not the processor's share. A CPU rail sees the processor and
nothing else. The two are not added up: the share is part of the total.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from fimi.energy.joules import SCOPE_WIDTH
from fimi.energy.meters import MeterDescription, MeterUnavailableError, Reading
from fimi.energy.meters.sampler import MonitorCost, Sampler
from fimi.energy.meters.sums import is_part

Beside = Literal["cpu", "second"]
"""What a recorder beside the first shows: the processor's share, or what a second meter says."""


class Described(Protocol):
    """A recorder that is kept beside the first."""

    def describe(self) -> MeterDescription:
        """The meter that is read."""


@runtime_checkable
class HasBeside(Protocol):
    """A recorder that keeps the readings of others beside those of the first.

    Attributes:
        beside: those, by what they show.
        readings_beside: their readings between the last two marks.
    """

    @property
    def beside(self) -> Mapping[Beside, Described]: ...  # noqa: D102
    @property
    def readings_beside(self) -> Mapping[Beside, list[Reading]]: ...  # noqa: D102


class Combined:
    """A recorder of totals that also records the processor's share.

    Attributes:
        total: the recorder of the total.
        split: the recorder of the processor's share.
        beside: the recorders whose readings are kept beside those of the total, by what they show.
        readings_beside: their readings between the last two marks.

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
        self.beside: dict[Beside, Sampler] = {"cpu": split}
        self.readings_beside: dict[Beside, list[Reading]] = {}

    def describe(self) -> MeterDescription:
        """The meter of the total."""
        return self.total.describe()

    def mark(self) -> list[Reading]:
        """Readings of the total since the last mark."""
        self.readings_beside = {"cpu": self.split.mark()}
        return self.total.mark()

    def take_cost(self) -> MonitorCost:
        """The cost of reading both since the last call."""
        return _both_costs(self.total.take_cost(), self.split.take_cost())

    def take_doubts(self) -> tuple[str, ...]:
        """What is doubtful about either since the last call."""
        return tuple(dict.fromkeys(self.total.take_doubts() + self.split.take_doubts()))

    @property
    def power_w(self) -> float | None:
        """The power that the total showed last, W."""
        return self.total.power_w

    @property
    def power_age_s(self) -> float:
        """How long ago, on average, the board drew that power, s."""
        return self.total.power_age_s

    @property
    def trouble(self) -> str:
        """That one of them shows nothing, or that it reads again; empty if both always did."""
        return "; ".join(filter(None, (self.total.trouble, self.split.trouble)))

    def close(self) -> None:
        """Close both."""
        self.total.close()
        self.split.close()


class WithSecond:
    """A recorder of a meter that records a second one beside it.

    Both may see the same, or one more than the other; they may be of different kinds.

    Attributes:
        first: the recorder of the meter whose joules count.
        second: that of the other one.
        beside: the recorders whose readings are kept beside those of the first, by what they show.
        readings_beside: their readings between the last two marks.

    Raises:
        MeterUnavailableError: they are one and the same meter.
    """

    def __init__(self, first: Sampler | Combined, second: Sampler) -> None:
        one, other = first.describe().source, second.describe().source
        if one == other:
            raise MeterUnavailableError(
                f"{one} is the meter already, and cannot be the second one beside itself: choose "
                "another for second_meter, or leave it out"
            )
        self.first = first
        self.second = second
        self.beside: dict[Beside, Sampler] = {"second": second}
        if isinstance(first, Combined):
            self.beside = {**first.beside, **self.beside}
        self.readings_beside: dict[Beside, list[Reading]] = {}

    def describe(self) -> MeterDescription:
        """The meter whose joules count."""
        return self.first.describe()

    def mark(self) -> list[Reading]:
        """Readings of the first since the last mark."""
        seconds = self.second.mark()
        readings = self.first.mark()
        self.readings_beside = {"second": seconds}
        if isinstance(self.first, Combined):
            self.readings_beside = {**self.first.readings_beside, **self.readings_beside}
        return readings

    def take_cost(self) -> MonitorCost:
        """The cost of reading all since the last call."""
        return _both_costs(self.first.take_cost(), self.second.take_cost())

    def take_doubts(self) -> tuple[str, ...]:
        """What is doubtful about any since the last call."""
        return tuple(dict.fromkeys(self.first.take_doubts() + self.second.take_doubts()))[:16]

    @property
    def power_w(self) -> float | None:
        """The power that the first one showed last, W."""
        return self.first.power_w

    @property
    def power_age_s(self) -> float:
        """How long ago, on average, the board drew that power, s."""
        return self.first.power_age_s

    @property
    def trouble(self) -> str:
        """That one of them shows nothing, or that it reads again; empty if all always did."""
        return "; ".join(filter(None, (self.first.trouble, self.second.trouble)))

    def close(self) -> None:
        """Close all."""
        self.first.close()
        self.second.close()


def _both_costs(one: MonitorCost, other: MonitorCost) -> MonitorCost:
    return MonitorCost(
        cpu_s=one.cpu_s + other.cpu_s,
        wall_s=max(one.wall_s, other.wall_s),
        looks=one.looks + other.looks,
        failed=one.failed + other.failed,
    )

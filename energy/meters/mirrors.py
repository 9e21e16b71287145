"""Counters that show the same thing twice.

Kernels show the energy of some AMD processors once per die (Threadripper, EPYC of the first two
generations): every zone ``package-0-die-N`` reads the one register of the package. Added up, they
are twice the joules.

Two registers that are one have the same value whenever they are read, but for what was drawn
between the two readings. Two that are not are apart after any load: they count since the machine
began, and no two dies draw the same to half a joule. So :class:`Mirrors` compares values, not
powers, which needs no load; and it goes on comparing, so that two dies that began equal are told
apart as soon as they differ.
"""

from __future__ import annotations

from collections.abc import Sequence

ALIKE_J = 0.5
"""Values further apart than this are of two registers: what a package draws between two readings
of the same one, and within one of its refreshes, at 500 W, J."""

WORN_J = 50.0
"""A counter that has counted less than this since it began may equal another one by chance, J."""

_NEW_SHARE, _NEW_J = 0.005, 1e-3
"""The limit for such counters: a share of what they have counted, and J."""


class Mirrors:
    """Which of some registers are mirrors of an earlier one.

    Args:
        values_j: of each register when it was opened, J.
        ranges_j: at which each begins again, J.
        groups: a name for each; registers of one name are parts of one package, which are taken for
            mirrors also while they have counted nothing yet.
    """

    def __init__(
        self, values_j: Sequence[float], ranges_j: Sequence[float], groups: Sequence[str]
    ) -> None:
        self._ranges_j = ranges_j
        self.of: list[int] = []
        """For each register, the one that it mirrors: itself, or an earlier one."""
        for place, value_j in enumerate(values_j):
            self.of.append(place)
            for other in range(place):
                worn = min(value_j, values_j[other]) >= WORN_J
                if (worn or groups[place] == groups[other]) and self._alike(values_j, place, other):
                    self.of[place] = self.of[other]
                    break

    @property
    def found(self) -> bool:
        """Whether any register is the mirror of another."""
        return any(leader != place for place, leader in enumerate(self.of))

    def apart(self, values_j: Sequence[float]) -> list[int]:
        """Registers that turn out to be no mirrors, since their values differ.

        They are independent from now on.
        """
        gone = [
            place
            for place, leader in enumerate(self.of)
            if leader != place and not self._alike(values_j, place, leader)
        ]
        for place in gone:
            self.of[place] = place
        return gone

    def _alike(self, values_j: Sequence[float], one: int, other: int) -> bool:
        if self._ranges_j[one] != self._ranges_j[other]:
            return False
        counted_j = max(values_j[one], values_j[other])
        limit_j = ALIKE_J if counted_j >= WORN_J else _NEW_SHARE * counted_j + _NEW_J
        difference_j = abs(values_j[one] - values_j[other])
        return min(difference_j, abs(self._ranges_j[one] - difference_j)) <= limit_j

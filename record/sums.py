"""Sums of joules, with the parts that are missing; every energy of a report is one of these.

* :class:`Gap`       a part that is missing
* :class:`Sum`       joules, the known part of them, and the gaps
* :class:`Compared`  prediction against measurement over the parts that have both
* :class:`EnergyTally`     adds up parts, and gives both at any time
* :func:`joined`     several sums in one
* :func:`most`       what gaps can hold at most
* :func:`is_told`    whether an energy is more than its uncertainty

One rule: a sum with a missing part is unknown. Its known part and what is missing stand beside it,
so that nothing that was read is lost and nothing unread passes for zero. The smallest part is one
phase of one device in one round.

All readings of a device share the gain of its meter, which dominates. So the uncertainties of one
device's parts add up linearly (an upper estimate), those of different devices in quadrature.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Energy, total

How = Literal["direct", "regression", "unresolved"]
"""How the energy of a phase was told: from readings of its own, by regression over rounds, or not
at all."""


class Gap(Struct, frozen=True, kw_only=True):
    """A part that is not in a sum.

    Attributes:
        device: whose; ``server`` for training on the server, ``generator`` for drawing images.
        round: of which round; 0: before the first.
        phase: which; ``None`` for all of a round of which a device reported nothing.
        absent: whether that is because it was not there when the round began.
        unknown_max: the most that the device can have used in the part of this round of which
            nothing is known, all its gaps together; ``None`` if nothing bounds it.
        unresolved: whether its joules are in other sums, and only this figure cannot be told.
    """

    device: str
    round: int
    phase: Phase | None = None
    absent: bool = False
    unknown_max: Energy | None = None
    unresolved: bool = False


class Sum(Struct, frozen=True, kw_only=True):
    """A sum of joules.

    Attributes:
        value: the whole sum; ``None`` if a part is missing, or there is no part at all.
        known: the sum of the parts that are known; ``None`` if none is.
        missing: the parts that are not in ``known``.
        unknown_max: the most that these can hold, modelled; ``None`` if nothing is missing or a
            part has no bound. Never part of ``known``.
    """

    value: Energy | None = None
    known: Energy | None = None
    missing: tuple[Gap, ...] = ()
    unknown_max: Energy | None = None

    @property
    def value_j(self) -> float | None:
        """The whole sum, J; ``None`` if it is not known."""
        return self.value.value_j if self.value else None

    @property
    def known_j(self) -> float | None:
        """The known part, J; ``None`` if nothing is known."""
        return self.known.value_j if self.known else None


class Compared(Struct, frozen=True, kw_only=True):
    """Prediction against measurement, over exactly the parts of which both are known.

    Attributes:
        measured: of these parts; ``None`` if there are none.
        predicted_j: of the same parts, J; likewise.
        error_percent: (predicted − measured) / measured; ``None`` if nothing was measured.
        missing: parts that are left out, as their reading or their prediction is missing.
    """

    measured: Energy | None = None
    predicted_j: float | None = None
    error_percent: float | None = None
    missing: tuple[Gap, ...] = ()

    @property
    def whole_predicted_j(self) -> float | None:
        """The prediction of everything that was measured, J; ``None`` if a part has none."""
        return None if self.missing else self.predicted_j


class EnergyPart(Struct, frozen=True, kw_only=True):
    """One phase of one device in one round.

    Attributes:
        device: whose.
        round: number; 0: before the first.
        phase: which.
        silent: the device reported nothing of this round, so that it is a gap as a whole.
        absent: it was not there when the round began.
        participant: whether the device was to train in the round; ``False`` before the first.
        energy: of the whole board, metered; ``None`` if it could not be read.
        duration_s: metered, s; ``None`` likewise.
        predicted_j: the cost model's prediction of ``energy``, J; ``None`` without a prediction.
        predicted_dynamic_j: the same above idle, J; likewise.
        unknown_max: the most that the device can have used in all of the round of which nothing is
            known; ``None`` if nothing bounds it.
        resolved: whether its meter tells it from the phases before and after it.
        most_j: the most that it can have taken, J, where it does not; ``None`` if unknown.
        how: how its energy was told.
        middle_s: its middle on the device's own clock, s; ``None`` if it was not told.
    """

    device: str
    round: int
    phase: Phase
    silent: bool = False
    absent: bool = False
    participant: bool = False
    energy: Energy | None = None
    duration_s: float | None = None
    predicted_j: float | None = None
    predicted_dynamic_j: float | None = None
    unknown_max: Energy | None = None
    resolved: bool = True
    most_j: float | None = None
    how: How = "direct"
    middle_s: float | None = None

    @property
    def gap(self) -> Gap:
        """This part where it is missing."""
        return Gap(
            device=self.device,
            round=self.round,
            phase=None if self.silent else self.phase,
            absent=self.silent and self.absent,
            unknown_max=self.unknown_max,
            unresolved=self.how == "unresolved" or (self.energy is not None and not self.resolved),
        )


class EnergyTally:
    """Adds up parts.

    Args:
        parts: to begin with, by their board energy.
    """

    def __init__(self, parts: Iterable[EnergyPart] = ()) -> None:
        self._known: dict[str, list[Energy]] = {}
        self._both: dict[str, list[Energy]] = {}
        self._predicted: list[float] = []
        self._gaps: dict[Gap, None] = {}
        self._lacking: dict[Gap, None] = {}
        self._bounds = _Bounds()
        self._totals: tuple[Energy | None, Energy | None] | None = None
        self.add(parts)

    def add(self, parts: Iterable[EnergyPart]) -> None:
        """Add the board energy of parts."""
        for part in parts:
            self.enter(part.gap, part.energy, part.predicted_j)

    def enter(self, gap: Gap, energy: Energy | None, predicted_j: float | None = None) -> None:
        """Add any energy.

        Args:
            gap: what is missing if ``energy`` is ``None``; its device is the one of the meter.
            energy: to add.
            predicted_j: what was predicted of it, J.
        """
        self._totals = None
        if energy is None:
            self._gaps[gap] = None
            self._bounds.add(gap)
        else:
            self._known.setdefault(gap.device, []).append(energy)
        if energy is None or predicted_j is None:
            self._lacking[gap] = None
        else:
            self._both.setdefault(gap.device, []).append(energy)
            self._predicted.append(predicted_j)

    def copy(self) -> EnergyTally:
        """Another one with the same parts; what is added to one is not in the other."""
        found = EnergyTally()
        found._known = {device: [*parts] for device, parts in self._known.items()}
        found._both = {device: [*parts] for device, parts in self._both.items()}
        found._predicted = [*self._predicted]
        found._gaps, found._lacking = dict(self._gaps), dict(self._lacking)
        found._bounds, found._totals = self._bounds.copy(), self._totals
        return found

    @property
    def known(self) -> Energy | None:
        """The sum of the parts that are known; ``None`` if none is."""
        return self._added()[0]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return not self._gaps

    @property
    def missing(self) -> Iterable[Gap]:
        """The parts that are not in :attr:`known`."""
        return self._gaps.keys()

    def sum(self) -> Sum:
        """What was added so far."""
        known = self.known
        return Sum(
            value=known if self.is_whole else None,
            known=known,
            missing=tuple(self._gaps),
            unknown_max=self._bounds.total(),
        )

    def compared(self, *, gaps: bool = True) -> Compared:
        """What was added so far, prediction against measurement.

        Args:
            gaps: whether the parts that are left out are named; there may be many.
        """
        measured = self._added()[1]
        self._predicted = [math.fsum(self._predicted)] if self._predicted else []
        predicted_j = self._predicted[0] if self._predicted else None
        return Compared(
            measured=measured,
            predicted_j=predicted_j,
            error_percent=error_percent(predicted_j, measured.value_j)
            if measured is not None and predicted_j is not None and is_told(measured)
            else None,
            missing=tuple(self._lacking) if gaps else (),
        )

    def _added(self) -> tuple[Energy | None, Energy | None]:
        """All that is known, and of it all that was predicted too; added up once.

        Each device's parts become one, those of one meter; all devices' together are of many. What
        was predicted is mostly all that is known: then both are the same sums.
        """
        if self._totals is not None:
            return self._totals
        for device, parts in self._known.items():
            both = self._both.get(device, [])
            same = _are_same(parts, both)
            self._known[device] = parts = _as_one(parts)
            if both:
                self._both[device] = [*parts] if same else _as_one(both)
        known = [part for parts in self._known.values() for part in parts]
        predicted = [part for parts in self._both.values() for part in parts]
        whole = total(known)
        self._totals = whole, (whole if _are_same(known, predicted) else total(predicted))
        return self._totals


class _Bounds:
    """The most that gaps can hold, added up as they come (:func:`most`)."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], Energy | None] = {}
        self._known: list[Energy] = []
        self._unbounded = 0

    def add(self, gap: Gap) -> None:
        key, bound = (gap.device, gap.round), gap.unknown_max
        if key in self._of:
            if self._of[key] == bound:
                return
            self._of[key] = bound  # another one of the same: all again
            self._known = [each for each in self._of.values() if each is not None]
            self._unbounded = len(self._of) - len(self._known)
            return
        self._of[key] = bound
        if bound is None:
            self._unbounded += 1
        else:
            self._known.append(bound)

    def copy(self) -> _Bounds:
        found = _Bounds()
        found._of, found._known = dict(self._of), [*self._known]
        found._unbounded = self._unbounded
        return found

    def total(self) -> Energy | None:
        if self._unbounded or not self._known:
            return None
        added = total(self._known, one_meter=True)
        assert added is not None
        self._known = [added]
        return added


def joined(*sums: Sum) -> Sum:
    """Several sums in one; those in which nothing was added are no part of it."""
    missing = tuple(gap for each in sums for gap in each.missing)
    known = total(each.known for each in sums if each.known is not None)
    return Sum(
        value=None if missing else known, known=known, missing=missing, unknown_max=most(missing)
    )


def most(missing: Iterable[Gap]) -> Energy | None:
    """The most that gaps can hold; ``None`` for none, or if one has no bound.

    All gaps of a device in a round have one bound. The bounds are not errors of one meter, and do
    not cancel out: they add up, and so do their uncertainties.
    """
    bounds = {(gap.device, gap.round): gap.unknown_max for gap in missing}
    known = [bound for bound in bounds.values() if bound is not None]
    return total(known, one_meter=True) if len(known) == len(bounds) else None


def is_told(energy: Energy) -> bool:
    """Whether an energy is more than its uncertainty: above two standard deviations."""
    return energy.value_j > 2.0 * energy.uncertainty_j


def error_percent(predicted: float, measured: float) -> float | None:
    """(predicted − measured) / measured in percent; ``None`` where nothing was measured."""
    return 100.0 * (predicted - measured) / measured if measured > 0 else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known, or ``None`` of nothing."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _as_one(parts: list[Energy]) -> list[Energy]:
    """The sum of what one meter has read, if there is more than one of it."""
    if len(parts) > 1 and (added := total(parts, one_meter=True)) is not None:
        return [added]
    return parts


def _are_same(some: list[Energy], others: list[Energy]) -> bool:
    """Whether two lists hold the very same energies."""
    return len(some) == len(others) and all(map(operator.is_, some, others))

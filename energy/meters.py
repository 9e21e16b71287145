"""Things that can be read: energy counters, power meters, declared constants.

A :class:`Recorder` hands out the readings between two edges of a phase, with a forced reading at
each edge; :mod:`energy.integration` turns them into joules. :class:`DeclaredPower` is the meter of
a board that has none; :mod:`energy.rapl` and :mod:`energy.emulated` hold the others.
"""

from __future__ import annotations

import math
from typing import Protocol

from msgspec import Struct

from energy.clock import Clock
from energy.joules import Kind, Scope


class MeterUnavailableError(Exception):
    """A meter cannot be read; the message says which, why, and what to do about it."""


class MeterDescription(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a meter is.

    Attributes:
        source: name that every joule of it carries, for example ``"rapl:package-0"``.
        kind: what its joules are.
        scope: what it sees.
        rate_hz: how often it has something new: a power meter is read that often, a counter
            refreshes that often.
        resolution_w: smallest step of a power reading, W (0 if it counts energy).
        relative_uncertainty: one standard deviation of its gain, dimensionless.
    """

    source: str
    kind: Kind
    scope: Scope
    rate_hz: float
    resolution_w: float = 0.0
    relative_uncertainty: float = 0.0


class Reading(Struct, frozen=True, kw_only=True, gc=False):
    """One reading: power, or an energy counter's value, at a time of the device's clock.

    Attributes:
        time_s: when.
        power_w: power, W, for power meters.
        counter_j: accumulated energy, J, for counters (already unwrapped).
    """

    time_s: float
    power_w: float | None = None
    counter_j: float | None = None


class Recorder(Protocol):
    """A meter that is being read."""

    def describe(self) -> MeterDescription:
        """What is being read."""
        ...

    def mark(self) -> list[Reading]:
        """Readings since the last mark, both edges included.

        Forces a reading now, which closes this list; the next list opens with a reading at the
        same instant: the same one, or a fresh one where the power steps at the edge, so that no
        phase is charged with half of another's power. The list is empty where the meter could not
        be read.
        """
        ...


class DeclaredPower:
    """The meter of a board that has none: a constant power that its user has declared.

    Its joules are ``modelled``. There is no default: whoever declares a power also answers for it.

    Args:
        power_w: what the board draws, W.
        clock: the board's clock.
        scope: what the declared power covers.
        relative_uncertainty: one standard deviation of the declared power, dimensionless.

    Raises:
        ValueError: for a power that is not positive and finite.
    """

    def __init__(
        self,
        power_w: float,
        clock: Clock,
        *,
        scope: Scope = "board",
        relative_uncertainty: float = 0.2,
    ) -> None:
        if not (math.isfinite(power_w) and power_w > 0.0):
            raise ValueError(f"a declared power must be positive and finite, not {power_w} W")
        self._power_w = power_w
        self._clock = clock
        self._since_s = clock.now_s()
        self._description = MeterDescription(
            source=f"declared:{power_w:g}W",
            kind="modelled",
            scope=scope,
            rate_hz=0.0,
            relative_uncertainty=relative_uncertainty,
        )

    def describe(self) -> MeterDescription:
        """The declaration."""
        return self._description

    def mark(self) -> list[Reading]:
        """The declared power at both edges."""
        since_s, self._since_s = self._since_s, self._clock.now_s()
        return [Reading(time_s=at, power_w=self._power_w) for at in (since_s, self._since_s)]

"""Meters and their readings.

* :class:`Meter`             a meter of power, or an energy counter, that is read on demand
* :class:`Recorder`          the readings between two edges of a phase, one forced at each edge
* :class:`DeclaredPower`     the recorder of a board that has no meter

and in this folder:

* :mod:`fimi.energy.meters.response`  how late, and over how long a time, a meter shows a power
* :mod:`fimi.energy.meters.sampler`   the recorder of a meter that a thread reads, and its own cost
* :mod:`fimi.energy.meters.counter`   counters that wrap and are reset
* :mod:`fimi.energy.meters.rapl`      x86 processors
* :mod:`fimi.energy.meters.mirrors`   counters that show the same thing twice
* :mod:`fimi.energy.meters.ina3221`   NVIDIA Jetson, and other boards with this chip
* :mod:`fimi.energy.meters.hwmon`     INA219, INA226 and similar chips, USB meters
* :mod:`fimi.energy.meters.hwmon_chips`  their ranges, steps and shunts
* :mod:`fimi.energy.meters.pmic`      Raspberry Pi 5, through :mod:`fimi.energy.meters.vcgencmd`
* :mod:`fimi.energy.meters.battery`   a battery that is being discharged
* :mod:`fimi.energy.meters.nvml`      NVIDIA graphics cards
* :mod:`fimi.energy.meters.plug`      Tasmota and Shelly plugs over MQTT
* :mod:`fimi.energy.meters.plug_models`  what plugs are asked, and the channels in their answers
* :mod:`fimi.energy.meters.elsewhere` meters that another machine reads and publishes over MQTT
* :mod:`fimi.energy.meters.replay`    a recorded CSV file
* :mod:`fimi.energy.meters.live`      a CSV file that is being recorded
* :mod:`fimi.energy.meters.combine`   one meter for the total, another for the processor's share
* :mod:`fimi.energy.meters.names`     names of meters, and which one a choice is refused for
* :mod:`fimi.energy.meters.sums`      several meters added up, and those that may not be
* :mod:`fimi.energy.meters.plausibility`  what a reading cannot be, and what the board cannot draw
* :mod:`fimi.energy.meters.watch`     a meter watched during a run: silent, frozen, zero, saturated
* :mod:`fimi.energy.meters.seen`      what a meter shows now, and what speaks against it
* :mod:`fimi.energy.meters.detect`    which meters this machine has, and which one is chosen

:mod:`fimi.energy.phase_energy` turns readings into joules; :mod:`fimi.energy.emulation.meter` is
the meter of emulated boards.
"""

from __future__ import annotations

import abc
import math
from typing import NamedTuple, Protocol

from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.clock import Clock
from fimi.energy.joules import Kind, Scope
from fimi.energy.meters.response import AT_ONCE, MeterResponse
from fimi.errors import SurroundingsError


class MeterUnavailableError(SurroundingsError):
    """A meter cannot be read; the message says which, why, and what to do about it."""

    code = "M002"


class MeterDescription(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a meter is.

    Attributes:
        source: name of the source of its joules, for example ``"rapl:package-0"``.
        kind: kind of its joules.
        scope: what it sees.
        rate_hz: how often it has a new value, Hz: a power meter is read that often, a counter
            refreshes that often.
        resolution_w: smallest step of a power reading, W (0 if it counts energy).
        resolution_j: smallest step of an energy counter, J.
        noise_w: one standard deviation of readings of a constant power, W; ``None`` if unknown.
        relative_uncertainty: one standard deviation of its gain, dimensionless.
        counts: whether it is an energy counter, which misses nothing between two readings.
        response: how late, and over how long a time, a reading shows a power.
    """

    source: str
    kind: Kind
    scope: Scope
    rate_hz: float
    resolution_w: float = 0.0
    resolution_j: float = 0.0
    noise_w: float | None = None
    relative_uncertainty: float = 0.0
    counts: bool = False
    response: MeterResponse = AT_ONCE


class Reading(Struct, frozen=True, kw_only=True, gc=False):
    """One reading: power, or an energy counter's value, at a time of the device's clock.

    A reading with neither says that the meter could not be read at that time.

    Attributes:
        time_s: its time, s.
        power_w: power, W, for power meters.
        counter_j: accumulated energy, J, for counters (already unwrapped).
        reset: the counter does not continue from the reading before.
    """

    time_s: float
    power_w: float | None = None
    counter_j: float | None = None
    reset: bool = False

    @property
    def holds(self) -> bool:
        """Whether it holds a value."""
        return self.power_w is not None or self.counter_j is not None


class Look(NamedTuple):
    """What a meter shows; empty if it could not be read.

    ``time_s`` is the time of the value where the meter knows it, by the clock of the readings, s:
    it may lie before the look. Otherwise the value is as old as the meter's response says.
    """

    power_w: float | None = None
    counter_j: float | None = None
    reset: bool = False
    time_s: float | None = None

    def reading(self, looked_s: float) -> Reading:
        """The reading, which was made at ``looked_s`` if the value has no time of its own."""
        return Reading(
            time_s=looked_s if self.time_s is None else self.time_s,
            power_w=self.power_w,
            counter_j=self.counter_j,
            reset=self.reset,
        )


NOTHING = Look()
"""The meter could not be read."""


class Meter(abc.ABC):
    """A meter that is read on demand.

    A subclass sets its description. One whose counter wraps, or that holds something open,
    overrides the rest.

    Attributes:
        made_of: names of the parts that it adds up, for example ``{"rapl:package-0"}``.
        inside: names of the parts of the same family that contain it.
        step_j: smallest step of a counter, J; ``None`` if it is not known.
        may_rest: whether it sees what is switched off while nothing uses it, such as a graphics
            part: 0 W are then no fault.
        outdated: why a response that was learned of it is not used, as a sentence.
    """

    _description: MeterDescription
    made_of: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()
    step_j: float | None = None
    may_rest: bool = False
    outdated: str = ""
    _learned: MeterResponse | None = None
    _as_learned: tuple[MeterDescription, MeterDescription] | None = None

    @property
    def longest_period_s(self) -> float:
        """Longest time between two readings in which a counter cannot wrap unnoticed, s."""
        return math.inf

    def describe(self) -> MeterDescription:
        """What it is."""
        found = self._description
        if self._learned is None:
            return found
        if self._as_learned is None or self._as_learned[0] is not found:
            self._as_learned = (found, replace(found, response=self._learned))
        return self._as_learned[1]

    @property
    def stated(self) -> MeterResponse:
        """Its response as the chip or its family says, whatever was learned."""
        return self._description.response

    def adopt(self, response: MeterResponse) -> None:
        """Its response has been learned; it is described by this from now on."""
        self._learned, self._as_learned = response, None

    @abc.abstractmethod
    def look(self, time_s: float) -> Look:
        """Read it now, which is ``time_s``; :data:`NOTHING` if it cannot be read."""

    def facts(self) -> tuple[str, ...]:
        """What a person may want to know of it: address, shunt, range, volts and amperes now."""
        return ()

    def doubts(self) -> tuple[str, ...]:
        """What speaks against its last look, a sentence each; called often, so it reads nothing."""
        return ()

    def why_nothing(self) -> str:
        """Why its last look gave nothing, as the end of a sentence; empty if it is not known."""
        return ""

    def close(self) -> None:  # noqa: B027  most hold nothing open
        """Close whatever it holds open; may be called again."""


class Recorder(Protocol):
    """Keeps the readings of a meter between two edges."""

    def describe(self) -> MeterDescription:
        """The meter that is read."""

    def mark(self) -> list[Reading]:
        """Readings since the last mark, both edges included.

        Forces a reading now, which closes this list. The next list begins with a reading at the
        same instant: the same one, or a new one where the power steps at the edge, so that no
        phase gets half of another's power. Where the meter could not be read, the list is empty or
        consists of readings without a value.
        """


class DeclaredPower:
    """The recorder of a board without a meter: a constant power that its user has declared.

    Its joules are ``modelled``. There is no default power.

    Args:
        power_w: of the board, W.
        relative_uncertainty: one standard deviation of the declared power, dimensionless.

    Raises:
        ValueError: for a power that is not positive and finite.
    """

    def __init__(self, power_w: float, clock: Clock, *, relative_uncertainty: float = 0.2) -> None:
        if not (math.isfinite(power_w) and power_w > 0.0):
            raise ValueError(f"a declared power must be positive and finite, not {power_w} W")
        self._power_w = power_w
        self._clock = clock
        self._since_s = clock.now_s()
        self._description = MeterDescription(
            source=f"declared:{power_w:g}W",
            kind="modelled",
            scope="board",
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

    def close(self) -> None:
        """Nothing is held open."""

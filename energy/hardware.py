"""The one interface between an agent and the board it runs on.

An agent never asks whether its board is real. It applies a plan, does its work and tells the
hardware what it has done; a physical board ignores that (the time has already passed), an emulated
one lets its virtual time pass and draws the power that the work would have drawn.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.cost_model import BoardModel, NonNegative, OperatingPoint
from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription, Recorder
from fimi.energy.meters.sampler import MonitorCost
from fimi.energy.observe.link import LinkState

_Times = Annotated[int, Meta(ge=0, le=2**48)]


class Applied(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of an operating point: asked for, read back.

    Attributes:
        frequency_hz: the CPU frequency cap in force after applying, or ``None`` if unknown.
        frequency_control: how it was set (``"cpufreq"``, ``"nvpmodel"``, ``"duty-cycle"``,
            ``"emulated"``, ``"none"``). A duty cycle is no frequency: its energy does not follow
            κ f².
        rate_bps: the uplink rate in force, or ``None`` where nothing limits it.
        rate_control: how it was set (``"socket-pacing"``, ``"token-bucket"``, ``"tc"``,
            ``"emulated"``, ``"none"``).
        notes: what could not be applied and why, one sentence each.
    """

    frequency_hz: float | None
    frequency_control: str
    rate_bps: float | None
    rate_control: str
    notes: tuple[str, ...] = ()


class Observation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board did besides drawing power, since it was last asked.

    Attributes:
        frequency_hz: the clock that the processor ran at while the agent was busy; ``None`` if
            unknown.
        frequency_source: ``cycles`` (counted), ``firmware``, ``cpufreq`` (the kernel's last
            request), ``emulated``, or empty.
        cap_hz: the frequency cap in force now; ``None`` if unknown.
        throttled: how often it was slowed down, by what (:mod:`fimi.energy.observe.throttling`);
            ``None`` where nothing counts it.
        link: of the network interface towards the broker; ``None`` if unknown.
        rate_limit_bps: the sending rate in force now, read back; ``None`` if nothing limits it.
        monitor: what watching the meter took; ``None`` where none is watched.
        monitor_energy: the joules of that, at most, by the profile's power; ``None`` if unknown.
        temperature_c: of the processor, mean, °C; ``None`` where nothing tells.
    """

    frequency_hz: NonNegative | None = None
    frequency_source: str = ""
    cap_hz: NonNegative | None = None
    throttled: dict[str, _Times] | None = None
    link: LinkState | None = None
    rate_limit_bps: NonNegative | None = None
    monitor: MonitorCost | None = None
    monitor_energy: Energy | None = None
    temperature_c: Annotated[float, Meta(ge=-100, le=200)] | None = None


class HardwareDescription(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board says of itself in its profile.

    Attributes:
        board: model name, for example ``"raspberry-pi-4"``.
        kind: ``"physical"`` or ``"emulated"``.
        meter: the meter its joules come from.
    """

    board: str
    kind: Literal["physical", "emulated"]
    meter: MeterDescription


class Hardware(Protocol):
    """A board, physical or emulated."""

    @property
    def clock(self) -> Clock:
        """The clock of every duration on this board."""
        ...

    @property
    def recorder(self) -> Recorder:
        """The readings of its meter."""
        ...

    def describe(self) -> HardwareDescription:
        """What this board is."""
        ...

    def model(self) -> BoardModel:
        """The cost parameters this board believes in: calibrated, or declared by its preset."""
        ...

    def apply(self, point: OperatingPoint) -> Applied:
        """Set frequency and uplink rate, read back what came of it."""
        ...

    def restore(self) -> None:
        """Undo :meth:`apply`."""
        ...

    def join_fleet(self, fleet_time_s: float) -> None:
        """The fleet's clock shows this right now; emulated boards live by it from here on."""
        ...

    def begin_round(self, round_number: int) -> None:
        """A round begins: an emulated board draws its fading and background load for it."""
        ...

    def observed(self) -> Observation:
        """What it did since this was last asked."""
        ...

    def has_received(self, size_bytes: int) -> None:
        """The agent has received this much."""
        ...

    def has_computed(self, samples: float) -> None:
        """The agent has trained on this many samples; an inference is a part of one."""
        ...

    def has_sent(self, size_bytes: int) -> None:
        """The agent has sent this much."""
        ...

    def has_waited_until(self, fleet_time_s: float) -> float:
        """The agent has waited until this time (no effect if it is past, or on real boards).

        Returns:
            What the board's own clock showed at that instant, s. It lies in the past where an
            emulated board comes too late: a round is busy from the fleet's start, not from its own.
        """
        ...

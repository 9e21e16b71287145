"""The one interface between an agent and the board it runs on.

An agent does not know whether its board is physical. It applies a plan, does its work and tells the
hardware what it has done. A physical board ignores that, because the time has already passed. An
emulated one lets its virtual time pass and draws the power of that work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, Protocol

from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.cost_model import BoardModel, ComputeSetting, NonNegative, OperatingPoint
from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription, Recorder
from fimi.energy.meters.sampler import MonitorCost
from fimi.energy.observe.link import LinkState

_Doubt = Annotated[str, Meta(max_length=400)]
_Times = Annotated[int, Meta(ge=0, le=2**48)]


class Applied(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The result of applying an operating point, as read back.

    Attributes:
        frequency_hz: the CPU frequency cap in force after applying, or ``None`` if unknown. At a
            measured point: its cycles of the training per second, C / seconds per sample; where
            heat or another program holds it below its clock, times the share that is left.
        frequency_control: how it was set (``"cpufreq"``, ``"nvpmodel"``, ``"duty-cycle"``,
            ``"emulated"``, ``"none"``; at a measured point several of ``"nvpmodel"``,
            ``"cpufreq"``, ``"devfreq"``, ``"affinity"``, ``"duty-cycle"``). A duty cycle is not a
            frequency: its energy does not follow κ f².
        rate_bps: the uplink rate in force, or ``None`` where nothing limits it.
        rate_control: how it was set (``"socket-pacing"``, ``"token-bucket"``, ``"tc"``,
            ``"emulated"``, ``"none"``).
        notes: what could not be applied and why, one sentence each.
        point: name of the measured point that is in force; empty where the board has none, or where
            a part of it could not be set.
        setting: what is in force of the measured point that was asked for, as read back; ``None``
            where the board has none, or is emulated.
    """

    frequency_hz: float | None
    frequency_control: str
    rate_bps: float | None
    rate_control: str
    notes: tuple[str, ...] = ()
    point: str = ""
    setting: ComputeSetting | None = None


class Observation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board did besides drawing power, since the last observation.

    Attributes:
        frequency_hz: the frequency that the processor ran at while the agent was busy; ``None``
            if unknown. At a measured point: its cycles of the training per second, times the
            achieved share of the clock that was set.
        frequency_source: ``cycles`` (counted), ``firmware``, ``cpufreq`` (the kernel's last
            request), ``devfreq`` (the GPU's clock), ``emulated``, or empty.
        cap_hz: the frequency cap in force now; ``None`` if unknown. At a measured point: its
            cycles of the training per second, times the share of its clocks that is in force.
        throttled: how often it was throttled, by cause (:mod:`fimi.energy.observe.throttling`);
            ``None`` where nothing counts it.
        link: state of the network interface towards the broker; ``None`` if unknown.
        rate_limit_bps: the sending rate in force now, read back; ``None`` if nothing limits it.
        monitor: time that reading the meter took; ``None`` where no meter is read.
        monitor_energy: the joules of that, at most, by the profile's power; ``None`` if unknown.
        temperature_c: mean temperature of the processor, °C; ``None`` where it cannot be read.
        doubts: what speaks against the meter's readings since then, a sentence each: silent,
            frozen, at zero, beyond what the board can draw (:mod:`fimi.energy.meters.watch`).
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
    doubts: Annotated[tuple[_Doubt, ...], Meta(max_length=16)] = ()


class Glance(NamedTuple):
    """What a board was when it was read last; nothing is read for it.

    Attributes:
        power_w: W; ``None`` if unknown.
        why_no_power: why it is unknown, in words.
        temperature_c: of the processor, °C; ``None`` if unknown.
        frequency_hz: of the processor, Hz; ``None`` if unknown.
        power_age_s: how long ago it drew that power, s: the mean delay of its meter.
        rests: it idles, and so is the power, though an emulated board may not have idled for any
            time of its own yet; what it did before is over.
    """

    power_w: float | None = None
    why_no_power: str = ""
    temperature_c: float | None = None
    frequency_hz: float | None = None
    power_age_s: float = 0.0
    rests: bool = False


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
    """A board, physical or emulated. What only emulated boards must do is nothing by default.

    Attributes:
        clock: the clock of every duration on this board.
        recorder: the recorder of its meter's readings.
    """

    clock: Clock
    recorder: Recorder

    def describe(self) -> HardwareDescription:
        """What this board is."""

    def model(self) -> BoardModel:
        """The cost parameters that this board publishes: calibrated, or declared by its preset."""

    def apply(self, point: OperatingPoint) -> Applied:
        """Set frequency and uplink rate, and read them back."""

    def restore(self) -> None:
        """Undo :meth:`apply`."""

    def join_fleet(self, fleet_time_s: float) -> None:
        """The fleet's clock shows this time now; emulated boards follow it. No phase is open."""
        return

    def begin_round(self, round_number: int) -> None:
        """A round begins: an emulated board draws its fading and background load for it."""
        return

    def begin_trial(self, round_number: int) -> None:
        """The model of a round is tried: an emulated board draws the same for that."""
        return

    def begin_idle(self) -> None:
        """The device has nothing to do from now on; no phase is open."""
        return

    def observed(self) -> Observation:
        """What the board did since the last call."""

    def glance(self) -> Glance:
        """Power and temperature as they were read last; reads nothing.

        May be called from another thread.
        """
        return Glance(why_no_power="this board does not tell it")

    def trouble(self) -> str:
        """That its meter shows nothing, or that it reads again; empty if it always did.

        May be called from another thread.
        """
        return ""

    def has_received(self, size_bytes: int) -> None:
        """The agent has received so many bytes."""
        return

    def has_computed(self, samples: float) -> None:
        """The agent has trained on this many samples; an inference is a part of one."""
        return

    def has_sent(self, size_bytes: int) -> None:
        """The agent has sent so many bytes."""
        return

    def rest(self, seconds: float, over: Callable[[], bool]) -> None:
        """Do nothing for a while, so that a meter can tell what the board draws then.

        Args:
            seconds: how long, s.
            over: called a few times a second; the rest ends when it returns true.
        """

    def has_been_busy(self, began_s: float) -> float:
        """The agent's work since ``began_s``, on the board's clock, is over, and no phase is open.

        Returns:
            How long it took, s.
        """
        return self.clock.now_s() - began_s

    def has_waited_until(self, fleet_time_s: float) -> float:
        """The agent has waited until this time (no effect if it is past, or on real boards).

        Returns:
            That time on the board's own clock, s; an emulated board's clock is the fleet's. It lies
            in the past where such a board starts late: a round counts from the fleet's start, not
            from the board's.
        """

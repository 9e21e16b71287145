"""Emulated boards in virtual time.

* :class:`Disturbance`     how far a board's truth lies from its declaration
* :class:`VirtualBoard`    what all emulated boards share: settings, clock, truth, luck
* :class:`EmulatedBoard`   a board that costs what a cost model says

Both are :class:`fimi.energy.hardware.Hardware` without hardware.

The agent that runs on an emulated board is the real one. Only the cost of its work is computed
here, by a *true* cost model. It differs from the declared one, which the planner gets, and its
background load and fading change every round. Everything is labelled ``emulated``.

Random numbers come from streams keyed by seed, device and round, those of idling by seed, device
and the time at which it begins. Results depend neither on the
order in which boards are used nor on how many there are.

An emulated board's clock shows the fleet's time, and at the edges of a round it shows it exactly,
to the last digit. So a board that is made anew and joins the fleet between two rounds goes on with
the same numbers as one that lived through all of them. This holds for :class:`EmulatedBoard`; one
with physics remembers its temperature, and a new one is cold.
"""

from __future__ import annotations

import abc
import math
import struct
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.clock import VirtualClock
from fimi.energy.cost_model import (
    BoardModel,
    OperatingPoint,
    compute_time_s,
    formula_power_w,
    operating_frequency_hz,
    uplink_rate_bps,
)
from fimi.energy.emulation.boards import BoardDeclaration
from fimi.energy.emulation.meter import EmulatedMeter
from fimi.energy.hardware import Applied, Hardware, HardwareDescription, Observation
from fimi.energy.meters import MeterDescription

_TRUTH, _ROUND, _TRIAL, _IDLE = 2, 3, 5, 6  # 4 is that of a board with physics


class Disturbance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far the truth lies from the declaration. If all are zero, the declaration is true.

    Attributes:
        profile_error: relative standard deviation of the true κ, C, idle power, P_act and channel
            gain around the declared ones, fixed for a board's life.
        load_sd: relative standard deviation of the cycles a sample takes, per round.
        fading_sd_db: standard deviation of the channel gain, dB, per round.
    """

    profile_error: float = 0.03
    load_sd: float = 0.015
    fading_sd_db: float = 0.5


class VirtualBoard(Hardware):
    """A board without hardware, in virtual time; what its work costs is for a subclass to say.

    Args:
        declaration: what the planner is told of it.
        seed: seed of the emulation.
        index: index of the device; with the seed it determines everything random of the board.
        disturbance: how far its truth may lie from its declaration.
        start_s: what its clock shows at the start, s.
    """

    def __init__(
        self,
        declaration: BoardDeclaration,
        *,
        seed: int,
        index: int,
        disturbance: Disturbance | None = None,
        start_s: float = 0.0,
    ) -> None:
        self._declaration = declaration
        self._seed = seed
        self._index = index
        self._disturbance = disturbance or Disturbance()
        self.clock: VirtualClock = VirtualClock(start_s)
        truth = self._stream(_TRUTH)
        self.truth = _disturbed(declaration.model, self._disturbance.profile_error, truth)
        """The true cost model, without load and fading."""
        meter_error = truth.normal(0.0, declaration.meter.relative_uncertainty)
        self.recorder: EmulatedMeter = self._make_meter(
            declaration.meter,
            noise_w=declaration.meter_noise_w,
            gain=max(0.0, 1.0 + meter_error),
            resting_power_w=self.truth.idle_power_w,
            clock=self.clock,
        )
        self._frequency_hz = self.truth.compute.frequency_max_hz
        self._uplink: tuple[float, float] | None = None
        self._load = 1.0
        self._fading = 1.0
        self.begin_round(0)

    def describe(self) -> HardwareDescription:
        """The board and its meter, labelled ``emulated``."""
        return HardwareDescription(
            board=self._declaration.board, kind="emulated", meter=self._declaration.meter
        )

    def model(self) -> BoardModel:
        """The declared cost parameters."""
        return self._declaration.model

    def apply(self, point: OperatingPoint) -> Applied:
        """Run at the lowest operating point that is not below the planned frequency.

        The uplink rate read back is the present one; it changes with fading from round to round.
        """
        compute, link = self.truth.compute, self.truth.link
        self._frequency_hz = operating_frequency_hz(compute, point.frequency_hz)
        power_w = min(point.transmit_power_w, link.transmit_power_max_w)
        self._uplink = (point.bandwidth_hz, power_w)
        settings = (
            ("frequency", point.frequency_hz, self._frequency_hz, "Hz"),
            ("transmit power", point.transmit_power_w, power_w, "W"),
        )
        return Applied(
            frequency_hz=self._frequency_hz,
            frequency_control="emulated",
            rate_bps=self._rate_bps(*self._uplink),
            rate_control="emulated",
            notes=tuple(
                f"{name} {wanted:.4g} {unit} is above this board's highest, {highest:.4g} {unit}, "
                "which is set instead"
                for name, wanted, highest, unit in settings
                if highest < wanted * (1.0 - 1e-9)
            ),
        )

    def uplink_rate_bps(self) -> float:
        """The uplink's rate at this moment, bit/s; 0 before any plan was applied."""
        return 0.0 if self._uplink is None else self._rate_bps(*self._uplink)

    def restore(self) -> None:
        """Return to the highest frequency and give back the share of the uplink."""
        self._frequency_hz = self.truth.compute.frequency_max_hz
        self._uplink = None

    def join_fleet(self, fleet_time_s: float) -> None:
        """The clock shows the fleet's time from here on; readings so far are dropped."""
        self.recorder.begin_at(fleet_time_s)

    def begin_round(self, round_number: int) -> None:
        """Draw this round's background load and fading; later noise comes from its stream."""
        self._begin(self._stream(_ROUND, round_number))

    def begin_trial(self, round_number: int) -> None:
        """The same for the trial of this round's model."""
        self._begin(self._stream(_TRIAL, round_number))

    def begin_idle(self) -> None:
        """Later noise follows from the time alone, not from what the board did before."""
        (moment,) = struct.unpack("<Q", struct.pack("<d", self.clock.now_s()))
        self.recorder.reseed(self._stream(_IDLE, moment))

    def _begin(self, luck: np.random.Generator) -> None:
        self._load = _factor(luck, self._disturbance.load_sd)
        self._fading = 10.0 ** (luck.normal(0.0, self._disturbance.fading_sd_db) / 10.0)
        self.recorder.reseed(luck)

    def has_waited_until(self, fleet_time_s: float) -> float:
        """Idle until then, nothing if it is past; returns that instant, which is the fleet's."""
        if fleet_time_s > self.clock.now_s():
            self._idle_until(fleet_time_s)
        return fleet_time_s

    def has_been_busy(self, began_s: float) -> float:
        """The seconds since ``began_s``; the clock shows exactly so many after it from here on."""
        busy_s = self.clock.now_s() - began_s
        self.recorder.begin_at(began_s + busy_s)
        return busy_s

    @abc.abstractmethod
    def achieved_frequency_hz(self) -> float | None:
        """Mean frequency of this round's computing, Hz; ``None`` before there was any."""

    @abc.abstractmethod
    def _idle_until(self, instant_s: float) -> None:
        """Do nothing until then."""

    def _make_meter(self, description: MeterDescription, **settings: Any) -> EmulatedMeter:
        return EmulatedMeter(description, **settings)

    def _share_of_uplink(self, size_bytes: int) -> tuple[float, float]:
        """Bandwidth, Hz, and transmit power, W, to send something with.

        Raises:
            RuntimeError: before any plan was applied.
        """
        if self._uplink is None:
            raise RuntimeError(
                f"device {self._index} has no share of the uplink to send {size_bytes} bytes over; "
                "apply a plan first"
            )
        return self._uplink

    def _rate_bps(self, bandwidth_hz: float, power_w: float, fading: float = 1.0) -> float:
        link = self.truth.link
        gain = link.channel_gain * self._fading * fading
        return float(uplink_rate_bps(bandwidth_hz, power_w, gain, link.noise_density_w_per_hz))

    def _stream(self, purpose: int, number: int = 0) -> np.random.Generator:
        key = (purpose, self._index, number)
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


class EmulatedBoard(VirtualBoard):
    """A board that costs what its true cost model says."""

    def achieved_frequency_hz(self) -> float | None:
        """Mean frequency of this round's computing, Hz: this board always reaches its cap."""
        return self._frequency_hz

    def observed(self) -> Observation:
        """The frequency it runs at, labelled ``emulated``."""
        return Observation(
            frequency_hz=self.achieved_frequency_hz(),
            frequency_source="emulated",
            cap_hz=self._frequency_hz,
        )

    def has_received(self, size_bytes: int) -> None:
        """Receive at the downlink rate."""
        link = self.truth.link
        duration_s = 8.0 * size_bytes / link.downlink_rate_bps
        self.recorder.observe(duration_s, self.truth.idle_power_w + link.receive_power_w)

    def has_computed(self, samples: float) -> None:
        """Compute at the operating point in force, under this round's background load."""
        compute = self.truth.compute
        cycles = samples * compute.cycles_per_sample * self._load
        duration_s = float(compute_time_s(cycles, self._frequency_hz))
        power_w = formula_power_w(compute, self._frequency_hz)
        self.recorder.observe(duration_s, self.truth.idle_power_w + power_w)

    def has_sent(self, size_bytes: int) -> None:
        """Send over the planned share of the band at the planned power.

        Raises:
            RuntimeError: before any plan was applied.
        """
        bandwidth_hz, power_w = self._share_of_uplink(size_bytes)
        duration_s = 8.0 * size_bytes / self._rate_bps(bandwidth_hz, power_w)
        self.recorder.observe(duration_s, self.truth.idle_power_w + power_w)

    def _idle_until(self, instant_s: float) -> None:
        self.recorder.observe_until(instant_s, self.truth.idle_power_w)


def _factor(random: np.random.Generator, relative_sd: float) -> float:
    """A lognormal factor with mean 1 and the given standard deviation."""
    variance = math.log1p(relative_sd**2)
    return math.exp(random.normal(-variance / 2.0, math.sqrt(variance)))


def _disturbed(model: BoardModel, relative_sd: float, random: np.random.Generator) -> BoardModel:
    kappa, cycles, idle, active, gain = (_factor(random, relative_sd) for _ in range(5))
    return replace(
        model,
        compute=replace(
            model.compute,
            capacitance_w_per_hz3=model.compute.capacitance_w_per_hz3 * kappa,
            cycles_per_sample=model.compute.cycles_per_sample * cycles,
            active_power_w=model.compute.active_power_w * active,
        ),
        link=replace(model.link, channel_gain=model.link.channel_gain * gain),
        idle_power_w=model.idle_power_w * idle,
    )

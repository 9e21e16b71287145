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
the same numbers as one that lived through all of them. This holds for :class:`EmulatedBoard` with
the meter of its make. One with physics remembers its temperature, and a new one is cold. A late
meter shows for its settling time what was before, which a new one takes for rest; then it shows the
same, looked at at the same instants, and a counter goes on from another value.
"""

from __future__ import annotations

import abc
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.clock import VirtualClock
from fimi.energy.cost_model import (
    BoardModel,
    ComputePoint,
    OperatingPoint,
    compute_time_s,
    formula_power_w,
    measured_point,
    operating_frequency_hz,
    point_rate_bps,
    sending_power_w,
    speed_hz,
)
from fimi.energy.emulation.boards import BoardDeclaration
from fimi.energy.emulation.late_meter import LateMeter
from fimi.energy.emulation.meter import EmulatedMeter
from fimi.energy.emulation.meter_families import RELATIVE_NOISE
from fimi.energy.hardware import (
    Applied,
    Glance,
    Hardware,
    HardwareDescription,
    Observation,
)
from fimi.energy.meters import MeterDescription
from fimi.errors import InputError

# 4 is that of a board with physics.
_TRUTH, _ROUND, _TRIAL, _IDLE, _PARTS, _METER = 2, 3, 5, 6, 7, 8
_TILT_ERROR = 1.0 / 3.0


class Disturbance(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far the truth lies from the declaration. If all are zero, the declaration is true.

    Attributes:
        profile_error: relative standard deviation of the true κ, C, idle power, P_act, channel
            gain, P_el and joules per bit around the declared ones, fixed for a board's life. κ and
            c err together. All measured points err together in seconds as C does and in watts as
            P_act does. On top of that, differences between points err: the ratios of their seconds
            are raised to one power, whose relative standard deviation is a third of it, those of
            their watts to another. So what is slower than another point by declaration is slower
            in truth, and what takes more power takes more.
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
        self.truth = _disturbed(
            declaration.model, self._disturbance.profile_error, truth, self._stream(_PARTS)
        )
        """The true cost model, without load and fading."""
        meter_error = truth.normal(0.0, declaration.meter.relative_uncertainty)
        self.recorder: EmulatedMeter = self._make_meter(
            declaration.meter,
            noise_w=declaration.meter_noise_w,
            gain=max(0.0, 1.0 + meter_error),
            resting_power_w=self.truth.idle_power_w,
            clock=self.clock,
        )
        self._true_points = {point.name: point for point in self.truth.compute.points}
        self._point: ComputePoint | None = None
        self._frequency_hz = 0.0
        self._run_free()
        self._uplink: OperatingPoint | None = None
        self._load = 1.0
        self._fading = 1.0
        self._rests_from_s = math.nan
        self.begin_round(0)

    def describe(self) -> HardwareDescription:
        """The board and its meter, labelled ``emulated``."""
        return HardwareDescription(
            board=self._declaration.board, kind="emulated", meter=self._declaration.meter
        )

    def glance(self) -> Glance:
        """What it drew last, in its own time; the power of idling from where that has begun."""
        rests, power_w = self._resting()
        return Glance(power_w, frequency_hz=self._frequency_hz, rests=rests)

    def _resting(self) -> tuple[bool, float]:
        """Whether it has waited for the fleet and done nothing since; its power, W."""
        rests = self.clock.now_s() == self._rests_from_s
        return rests, self._idle_power_w if rests else self.recorder.power_w

    @property
    def _idle_power_w(self) -> float:
        """True power at rest, W."""
        return self.truth.idle_power_w

    def model(self) -> BoardModel:
        """The declared cost parameters."""
        return self._declaration.model

    def apply(self, point: OperatingPoint) -> Applied:
        """Run at the measured point that the plan names, else at the lowest that is not slower.

        Where nothing was measured it is the lowest frequency that is not below the planned one. The
        frequency of a measured point is its declared speed. The uplink rate read back is the
        present one; it changes with fading from round to round.

        Raises:
            InputError: the plan names a point that this board does not have.
        """
        compute, link = self.model().compute, self.truth.link
        if point.setting and point.setting not in self._true_points:
            known = ", ".join(repr(name) for name in self._true_points) or "none"
            raise InputError(
                f"device {self._index} ({self._declaration.board}) has no operating point "
                f"{point.setting!r}; it has {known}. Plan again with its present profile",
                code="P009",
            )
        self._point = measured_point(compute, point)
        if self._point is None:
            self._frequency_hz = operating_frequency_hz(compute, point.frequency_hz)
        else:
            self._frequency_hz = speed_hz(compute, self._point)
        wanted_w = point.transmit_power_w
        power_w = min(sending_power_w(link, wanted_w), link.transmit_power_max_w)
        self._uplink = replace(point, transmit_power_w=power_w)
        settings = (
            ("frequency", point.frequency_hz, self._frequency_hz, "Hz"),
            ("transmit power", wanted_w, power_w, "W"),
        )
        notes = [
            f"{name} {wanted:.4g} {unit} is above this board's highest, {highest:.4g} {unit}, "
            "which is set instead"
            for name, wanted, highest, unit in settings
            if highest < wanted * (1.0 - 1e-9)
        ]
        if power_w > wanted_w * (1.0 + 1e-9):
            notes.append(
                f"transmit power {wanted_w:.4g} W cannot be set on this radio, which always sends "
                f"with {power_w:.4g} W"
            )
        return Applied(
            frequency_hz=self._frequency_hz,
            frequency_control="emulated",
            rate_bps=self._rate_bps(self._uplink),
            rate_control="emulated",
            notes=tuple(notes),
            point="" if self._point is None else self._point.name,
        )

    def uplink_rate_bps(self) -> float:
        """The uplink's rate at this moment, bit/s; 0 before any plan was applied."""
        return 0.0 if self._uplink is None else self._rate_bps(self._uplink)

    def restore(self) -> None:
        """Return to the highest frequency and give back the share of the uplink."""
        self._run_free()
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
        self._rests_from_s = fleet_time_s
        return fleet_time_s

    def rest(self, seconds: float, over: Callable[[], bool]) -> None:
        """Let that much virtual time pass at rest."""
        self.begin_idle()
        self._idle_until(self.clock.now_s() + seconds)

    def has_been_busy(self, began_s: float) -> float:
        """The seconds since ``began_s``; the clock shows exactly so many after it from here on."""
        busy_s = self.clock.now_s() - began_s
        self.recorder.begin_at(began_s + busy_s)
        return busy_s

    @abc.abstractmethod
    def achieved_frequency_hz(self) -> float | None:
        """Mean frequency of this round's computing, Hz; ``None`` before there was any.

        At measured points: the mean of their declared speeds.
        """

    @abc.abstractmethod
    def _idle_until(self, instant_s: float) -> None:
        """Do nothing until then."""

    def _make_meter(self, description: MeterDescription, **settings: Any) -> EmulatedMeter:
        if self._declaration.meter_family == "preset":
            return self._make_own_meter(description, **settings)
        return LateMeter(
            description,
            relative_noise=RELATIVE_NOISE,
            refresh_from_s=-self._stream(_METER).uniform(0.0, 60.0),
            **settings,
        )

    def _make_own_meter(self, description: MeterDescription, **settings: Any) -> EmulatedMeter:
        return EmulatedMeter(description, **settings)

    def _run_free(self) -> None:
        """The fastest point, or the highest frequency."""
        compute = self.model().compute
        points = compute.points
        self._point = min(points, key=lambda p: (p.seconds_per_sample, p.power_w), default=None)
        self._frequency_hz = (
            compute.frequency_max_hz if self._point is None else speed_hz(compute, self._point)
        )

    def _share_of_uplink(self, size_bytes: int) -> OperatingPoint:
        """The share of the uplink to send something with, at the power that the radio sends with.

        Raises:
            RuntimeError: before any plan was applied.
        """
        if self._uplink is None:
            raise RuntimeError(
                f"device {self._index} has no share of the uplink to send {size_bytes} bytes over; "
                "apply a plan first"
            )
        return self._uplink

    def _rate_bps(self, share: OperatingPoint, fading: float = 1.0) -> float:
        link = self.truth.link
        gain = link.channel_gain * self._fading * fading
        return point_rate_bps(replace(link, channel_gain=gain), share)

    def _upload_power_w(self, share: OperatingPoint, rate_bps: float) -> float:
        """Power above idle while sending, W: transmit power, electronics, and the host's part."""
        link = self.truth.link
        per_bit_w = link.energy_per_bit_j * rate_bps
        return share.transmit_power_w + link.electronics_power_w + per_bit_w

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
        if self._point is not None:
            true = self._true_points[self._point.name]
            duration_s, power_w = samples * true.seconds_per_sample * self._load, true.power_w
        else:
            cycles = samples * compute.cycles_per_sample * self._load
            duration_s = float(compute_time_s(cycles, self._frequency_hz))
            power_w = formula_power_w(compute, self._frequency_hz)
        self.recorder.observe(duration_s, self.truth.idle_power_w + power_w)

    def has_sent(self, size_bytes: int) -> None:
        """Send over the planned share of the band, at the planned power if that can be set.

        Raises:
            RuntimeError: before any plan was applied.
        """
        share = self._share_of_uplink(size_bytes)
        rate_bps = self._rate_bps(share)
        power_w = self._upload_power_w(share, rate_bps)
        self.recorder.observe(8.0 * size_bytes / rate_bps, self.truth.idle_power_w + power_w)

    def _idle_until(self, instant_s: float) -> None:
        self.recorder.observe_until(instant_s, self.truth.idle_power_w)


def _factor(random: np.random.Generator, relative_sd: float) -> float:
    """A lognormal factor with mean 1 and the given standard deviation."""
    variance = math.log1p(relative_sd**2)
    return math.exp(random.normal(-variance / 2.0, math.sqrt(variance)))


def _disturbed(
    model: BoardModel, relative_sd: float, random: np.random.Generator, parts: np.random.Generator
) -> BoardModel:
    """The truth; ``parts`` draws for what not every board has, so that the rest does not change."""
    kappa, cycles, idle, active, gain = (_factor(random, relative_sd) for _ in range(5))
    electronics, per_bit = _factor(parts, relative_sd), _factor(parts, relative_sd)
    compute, link = model.compute, model.link
    tilt_sd = _TILT_ERROR * relative_sd
    seconds = _tilted([p.seconds_per_sample for p in compute.points], _factor(parts, tilt_sd))
    watts = _tilted([p.power_w for p in compute.points], _factor(parts, tilt_sd))
    return replace(
        model,
        compute=replace(
            compute,
            capacitance_w_per_hz3=compute.capacitance_w_per_hz3 * kappa,
            linear_power_w_per_hz=compute.linear_power_w_per_hz * kappa,
            cycles_per_sample=compute.cycles_per_sample * cycles,
            active_power_w=compute.active_power_w * active,
            points=tuple(
                replace(point, seconds_per_sample=cycles * true_s, power_w=active * true_w)
                for point, true_s, true_w in zip(compute.points, seconds, watts, strict=True)
            ),
        ),
        link=replace(
            link,
            channel_gain=link.channel_gain * gain,
            electronics_power_w=link.electronics_power_w * electronics,
            energy_per_bit_j=link.energy_per_bit_j * per_bit,
        ),
        idle_power_w=model.idle_power_w * idle,
    )


def _tilted(values: Sequence[float], power: float) -> list[float]:
    """Values whose ratios are raised to a power, about the middle of their range; 0 stays 0.

    With a power above 0 their order stays.
    """
    positive = [value for value in values if value > 0]
    middle = math.sqrt(min(positive) * max(positive)) if positive else 1.0
    return [value * (value / middle) ** (power - 1.0) if value > 0 else value for value in values]

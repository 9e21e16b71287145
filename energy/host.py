"""The machine the agent really runs on.

* :class:`HostProfile`    what its user knows of it, from a file: never guessed
* :func:`load_profile`    reads and checks that file
* :class:`HostHardware`   :class:`energy.hardware.Hardware` of a physical board

A profile in TOML (JSON has the same keys)::

    name = "raspberry-pi-4"
    constant_power_w = 5.0            # only where no meter can be read: joules become "modelled"

    [board]
    idle_power_w = 2.7

    [board.compute]
    cycles_per_sample = 1.1e7
    capacitance_w_per_hz3 = 4.3e-28
    active_power_w = 0.9
    frequency_min_hz = 600e6
    frequency_max_hz = 1800e6

    [board.link]
    channel_gain = 1e-10
    noise_density_w_per_hz = 4e-21
    transmit_power_max_w = 0.1
    downlink_rate_bps = 20e6
    receive_power_w = 0.3
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec
from msgspec import Struct

from energy.clock import Clock, MonotonicClock
from energy.cost_model import BoardModel, OperatingPoint, Positive, compute_power_w, uplink_rate_bps
from energy.cpufreq import CpuFrequency
from energy.hardware import Applied, HardwareDescription
from energy.meters import DeclaredPower, MeterUnavailableError, Recorder
from energy.rapl import RaplRecorder, open_rapl


class ProfileError(ValueError):
    """A board's profile is missing or wrong; the message says where and what to do."""


class HostProfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the user of a physical board knows of it.

    Attributes:
        name: of the board, for example ``"raspberry-pi-4"``.
        board: calibrated cost parameters.
        meter: which meter to use; ``auto`` takes RAPL where it can be read, else the declaration.
        constant_power_w: what the board draws, W, declared for want of a meter.
    """

    name: str
    board: BoardModel
    meter: Literal["auto", "rapl", "declared"] = "auto"
    constant_power_w: Positive | None = None


def load_profile(path: Path) -> HostProfile:
    """Read a board's profile, TOML or JSON by the file's ending.

    Raises:
        ProfileError: if there is none, it does not parse, a key is unknown, missing or of the
            wrong type, or a value cannot be in the unit that its name says.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ProfileError(
            f"{path}: no such file. A physical board needs a profile with its calibrated cost "
            "parameters (cycles per sample, κ, idle power, link): they differ from board to board "
            "and are never guessed. The keys are in the docstring of energy.host"
        ) from None
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read ({error.strerror})") from error
    decode: Callable[..., HostProfile]
    if path.suffix == ".json":
        decode = msgspec.json.decode
    elif path.suffix == ".toml":
        decode = msgspec.toml.decode
    else:
        raise ProfileError(f"{path}: a profile's name ends in .toml or .json")
    try:
        profile = decode(data, type=HostProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: {error}") from error
    for key, value in _numbers(msgspec.to_builtins(profile)):
        if not math.isfinite(value):
            raise ProfileError(f"{path}: {key} is {value}; a profile holds finite numbers only")
    _check_units(path, profile.board)
    return profile


class HostHardware:
    """A physical board.

    Its ``has_...`` methods do nothing: the work has taken its time and joules already.

    Args:
        profile: what its user knows of it.
        sysfs: root of sysfs.
        clock: of its durations.
        set_rate: limits the agent's uplink to so many bit/s and says whether it could.
        rate_control: how ``set_rate`` does it, for the record.

    Raises:
        MeterUnavailableError: if no meter can be read and no power is declared.
    """

    def __init__(
        self,
        profile: HostProfile,
        *,
        sysfs: Path = Path("/sys"),
        clock: Clock | None = None,
        set_rate: Callable[[float], bool] | None = None,
        rate_control: str = "socket-pacing",
    ) -> None:
        self._profile = profile
        self._clock = clock or MonotonicClock()
        self._set_rate = set_rate
        self._rate_control = rate_control
        self._frequency = CpuFrequency(sysfs)
        self._recorder = _open_meter(profile, sysfs, self._clock)

    def __enter__(self) -> HostHardware:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def clock(self) -> Clock:
        """The clock of every duration on this board."""
        return self._clock

    @property
    def recorder(self) -> Recorder:
        """The readings of its meter."""
        return self._recorder

    def describe(self) -> HardwareDescription:
        """The board's name and its meter."""
        return HardwareDescription(
            board=self._profile.name, kind="physical", meter=self._recorder.describe()
        )

    def model(self) -> BoardModel:
        """The calibrated cost parameters from the profile."""
        return self._profile.board

    def apply(self, point: OperatingPoint) -> Applied:
        """Cap the frequency, limit the uplink to the planned rate; what fails is noted."""
        cap = self._frequency.cap(point.frequency_hz)
        link = self._profile.board.link
        rate_bps = float(
            uplink_rate_bps(
                point.bandwidth_hz,
                point.transmit_power_w,
                link.channel_gain,
                link.noise_density_w_per_hz,
            )
        )
        notes = list(cap.notes)
        limited = False
        if self._set_rate is None:
            notes.append(f"uplink not limited to {rate_bps:.4g} bit/s: no means to limit it")
        elif not (limited := self._set_rate(rate_bps)):
            notes.append(f"uplink not limited to {rate_bps:.4g} bit/s: the limit was refused")
        return Applied(
            frequency_hz=cap.frequency_hz,
            frequency_control="cpufreq" if cap.applied else "none",
            rate_bps=rate_bps if limited else None,
            rate_control=self._rate_control if limited else "none",
            notes=tuple(notes),
        )

    def restore(self) -> None:
        """Put the frequency limits back."""
        self._frequency.restore()

    def close(self) -> None:
        """Undo :meth:`apply` and stop reading the meter."""
        self.restore()
        if isinstance(self._recorder, RaplRecorder):
            self._recorder.close()

    def achieved_frequency_hz(self) -> float | None:
        """Unknown: the cap is read back, the cycles are not counted."""
        return None

    def join_fleet(self, fleet_time_s: float) -> None:
        """Nothing to do on a physical board: it has a clock of its own."""

    def begin_round(self, round_number: int) -> None:
        """Nothing to do on a physical board."""

    def has_received(self, size_bytes: int) -> None:
        """Nothing to do on a physical board."""

    def has_computed(self, samples: int) -> None:
        """Nothing to do on a physical board."""

    def has_sent(self, size_bytes: int) -> None:
        """Nothing to do on a physical board."""

    def has_waited_until(self, fleet_time_s: float) -> float:
        """Nothing to do on a physical board; returns its clock."""
        return self._clock.now_s()


def _open_meter(profile: HostProfile, sysfs: Path, clock: Clock) -> RaplRecorder | DeclaredPower:
    declared_w = profile.constant_power_w
    if profile.meter == "declared":
        if declared_w is None:
            raise MeterUnavailableError(
                'the profile says meter = "declared" without constant_power_w; declare the power'
            )
        return DeclaredPower(declared_w, clock)
    try:
        return open_rapl(sysfs, clock)
    except MeterUnavailableError:
        if profile.meter == "rapl" or declared_w is None:
            raise
    return DeclaredPower(declared_w, clock)


def _check_units(path: Path, board: BoardModel) -> None:
    """Refuse values that no board has and a wrong unit would explain."""
    compute = board.compute
    if compute.frequency_max_hz < 1e6:
        raise ProfileError(
            f"{path}: board.compute.frequency_max_hz is {compute.frequency_max_hz:g}, below 1 MHz; "
            "frequencies are in Hz, not MHz or GHz"
        )
    power_w = board.idle_power_w + float(
        compute_power_w(
            compute.frequency_max_hz, compute.capacitance_w_per_hz3, compute.active_power_w
        )
    )
    if not 0.01 <= power_w <= 10_000.0:
        raise ProfileError(
            f"{path}: idle_power_w + active_power_w + capacitance_w_per_hz3 · frequency_max_hz³ is "
            f"{power_w:.3g} W, which no board draws; check W against mW and κ (about 1e-28 to "
            "1e-27 W/Hz³)"
        )
    if board.link.channel_gain >= 1.0:
        raise ProfileError(
            f"{path}: board.link.channel_gain is {board.link.channel_gain:g}; it is a power ratio "
            "below 1 (a path loss of L dB is 10^(−L/10)), not decibels"
        )


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a tree of built-in types, with its dotted key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from _numbers(inner, f"{key}[{place}]")
    elif isinstance(value, float):
        yield key, value

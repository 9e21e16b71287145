"""The machine the agent really runs on.

* :class:`HostProfile`    what its user knows of it, from a file: never guessed
* :func:`load_profile`    reads and checks that file
* :class:`HostHardware`   :class:`energy.hardware.Hardware` of a physical board

Keys of a profile beyond those of the example, all optional: ``meter_scope``, ``meter_rate_hz``,
``replay``, ``frequency_control``, ``rate_control``, and a table ``[plug]``
(:class:`energy.meters.plug.PlugSettings`).

A profile in TOML (JSON has the same keys)::

    name = "raspberry-pi-4"
    constant_power_w = 5.0            # only where no meter can be read: joules become "modelled"
    meter = "auto"                    # or a name, or { total = "plug", split = "rapl" }

    [board]
    idle_power_w = 2.7

    [board.compute]
    cycles_per_sample = 4.0e6
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

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from energy.clock import Clock, MonotonicClock
from energy.control import rate
from energy.control.frequency import Choice, FrequencyControl
from energy.control.journal import Journal, default_folder
from energy.control.programs import Run, run_program
from energy.control.rate import RateControl, Uplink
from energy.cost_model import BoardModel, OperatingPoint, Positive, compute_power_w, uplink_rate_bps
from energy.hardware import Applied, HardwareDescription, Observation
from energy.joules import Energy, Scope
from energy.meters import DeclaredPower, Recorder
from energy.meters.detect import MeterPair, MeterSettings, open_recorder
from energy.meters.plug import PlugSettings
from energy.meters.sampler import DEFAULT_RATE_HZ, MonitorCost
from energy.meters.vcgencmd import find_firmware
from energy.observe.frequency import PERIOD_S, Watch
from energy.observe.link import link_state, route_interface
from energy.observe.throttling import Throttling

log = logging.getLogger(__name__)


class ProfileError(ValueError):
    """A board's profile is missing or wrong; the message says where and what to do."""


class HostProfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the user of a physical board knows of it.

    Attributes:
        name: of the board, for example ``"raspberry-pi-4"``.
        board: calibrated cost parameters.
        meter: which meter to use: ``auto``, a name that ``fimi agent doctor`` lists, or
            ``{total = …, split = …}`` for one meter of the whole and one of the processor's share.
        meter_scope: what an hwmon device of unknown kind, or a recording, sees.
        meter_rate_hz: how often to look at it, Hz.
        constant_power_w: what the board draws, W, declared for want of a meter.
        plug: where the plug is that the board hangs on.
        replay: a recorded CSV file, for ``meter = "replay"``.
        frequency_control: how to cap the frequency; ``auto``: cpufreq, else a power mode (Jetson),
            else a duty cycle.
        rate_control: how to limit the uplink; ``auto`` paces the agent's own connection, ``tc``
            caps the whole interface.
    """

    name: str
    board: BoardModel
    meter: str | MeterPair = "auto"
    meter_scope: Scope | None = None
    meter_rate_hz: Annotated[float, Meta(gt=0, le=100)] = DEFAULT_RATE_HZ
    constant_power_w: Positive | None = None
    plug: PlugSettings | None = None
    replay: str | None = None
    frequency_control: Choice = "auto"
    rate_control: rate.Choice = "auto"

    def meters(self) -> MeterSettings:
        """The share of the profile that is about meters."""
        return MeterSettings(
            meter=self.meter,
            scope=self.meter_scope,
            rate_hz=self.meter_rate_hz,
            plug=self.plug,
            replay=self.replay,
            constant_power_w=self.constant_power_w,
        )


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
        root: of the file system.
        clock: of its durations.
        uplink: the agent's connection, whose sending rate is limited.
        broker_host: towards whom the agent sends; decides the network interface.
        state: folder of the journal of changes; this user's if left out.
        run: runs programs.
        watch_period_s: between two looks at clock and throttling; 0 for none by itself.

    Raises:
        MeterUnavailableError: if no meter can be read and no power is declared.
    """

    def __init__(
        self,
        profile: HostProfile,
        *,
        root: Path = Path("/"),
        clock: Clock | None = None,
        uplink: Uplink | None = None,
        broker_host: str | None = None,
        state: Path | None = None,
        run: Run = run_program,
        watch_period_s: float = PERIOD_S,
    ) -> None:
        self._profile = profile
        self._root = root
        self._clock = clock or MonotonicClock()
        self._run = run
        self._journal = Journal(state or default_folder(root), root, run)
        self._undo_the_dead()
        self._frequency = FrequencyControl(
            root,
            self._journal,
            choice=profile.frequency_control,
            frequency_max_hz=profile.board.compute.frequency_max_hz,
            run=run,
        )
        self._interface = route_interface(root, broker_host) if broker_host else None
        self._rate = RateControl(profile.rate_control, uplink, self._interface, self._journal, run)
        self._recorder = open_recorder(profile.meters(), root, self._clock)
        firmware = find_firmware(root)
        self._throttling = Throttling(root, firmware)
        self._watch = Watch(root, firmware, self._throttling, period_s=watch_period_s)

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
        rate_bps = point.rate_bps or float(
            uplink_rate_bps(
                point.bandwidth_hz,
                point.transmit_power_w,
                link.channel_gain,
                link.noise_density_w_per_hz,
            )
        )
        notes = list(cap.notes)
        in_force_bps, means = self._rate.limit(rate_bps, notes)
        self._watch.take()  # what ran until now ran under another cap
        return Applied(
            frequency_hz=cap.frequency_hz,
            frequency_control=cap.means,
            rate_bps=in_force_bps,
            rate_control=means,
            notes=tuple(notes),
        )

    def restore(self) -> None:
        """Put back what was there before."""
        self._journal.restore()
        self._rate.lift()

    def close(self) -> None:
        """Undo :meth:`apply` and stop reading the meter."""
        self.restore()
        self._journal.close()
        self._watch.close()
        self._recorder.close()

    def observed(self) -> Observation:
        """Clock, throttling, link, and the monitor's own cost since this was last asked."""
        clock = self._watch.take()
        monitor = None if isinstance(self._recorder, DeclaredPower) else self._recorder.take_cost()
        return Observation(
            frequency_hz=clock.frequency_hz,
            frequency_source=clock.source,
            cap_hz=self._frequency.cpufreq.in_force_hz(),
            throttled=self._throttling.take(),
            link=link_state(self._root, self._interface, self._run) if self._interface else None,
            rate_limit_bps=self._rate.in_force_bps(),
            monitor=monitor,
            monitor_energy=self._cost_of(monitor, clock.frequency_hz) if monitor else None,
        )

    def _undo_the_dead(self) -> None:
        """Put back what an agent that was killed has left, before anything is read or set."""
        try:
            for line in self._journal.recover():
                log.warning("left by an earlier agent, %s", line)
        except OSError as error:
            log.warning("%s: %s", error.filename, error.strerror)

    def _cost_of(self, monitor: MonitorCost, frequency_hz: float | None) -> Energy:
        """At most what the profile says that computing for so long takes."""
        compute = self._profile.board.compute
        power_w = float(
            compute_power_w(
                frequency_hz or compute.frequency_max_hz,
                compute.capacitance_w_per_hz3,
                compute.active_power_w,
            )
        )
        return Energy(
            value_j=monitor.cpu_s * power_w,
            kind="modelled",
            source="profile",
            scope="cpu",
            uncertainty_j=monitor.cpu_s * power_w / 2.0,
        )

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

"""The machine that the agent runs on: :class:`fimi.energy.hardware.Hardware` of a physical board.

Its profile comes from :mod:`fimi.energy.host_profile`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from fimi.energy.clock import Clock, MonotonicClock
from fimi.energy.control.cpufreq import FrequencyCap
from fimi.energy.control.frequency import FrequencyControl
from fimi.energy.control.journal import Journal, default_folder
from fimi.energy.control.programs import Run, run_program
from fimi.energy.control.rate import RateControl, Uplink
from fimi.energy.cost_model import (
    BoardModel,
    ComputePoint,
    ComputeSetting,
    OperatingPoint,
    computing_power_w,
    measured_point,
    point_rate_bps,
    speed_hz,
)
from fimi.energy.hardware import (
    Applied,
    Glance,
    Hardware,
    HardwareDescription,
    Observation,
)
from fimi.energy.host_profile import HostProfile
from fimi.energy.joules import Energy
from fimi.energy.meters import DeclaredPower
from fimi.energy.meters.detect import MeterRecorder, open_recorder
from fimi.energy.meters.sampler import MonitorCost
from fimi.energy.meters.vcgencmd import find_firmware
from fimi.energy.observe.frequency import PERIOD_S, AchievedClock, FrequencyWatch
from fimi.energy.observe.link import link_state, route_interface
from fimi.energy.observe.throttling import Throttling
from fimi.errors import RunFailedError

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.2


class UnknownPointError(RunFailedError, ValueError):
    """A plan names an operating point that the profile of this board does not have."""

    code = "P009"


class HostHardware(Hardware):
    """A physical board.

    Most ``has_...`` methods do nothing: the work has taken its time and joules already.

    Args:
        uplink: the agent's connection, whose sending rate is limited.
        broker_host: host that the agent sends to; decides the network interface.
        state: folder of the journal of changes; this user's if left out.
        watch_period_s: time between two samples of clock and throttling; 0 for none by itself.

    Raises:
        MeterUnavailableError: no meter can be read and no power is declared.
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
        self.clock = clock or MonotonicClock()
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
        reach = self._frequency.reachable(profile.board.compute)
        self._board = replace(profile.board, compute=reach.compute)
        self._fixed_hz = reach.compute.frequency_max_hz if reach.why_fixed else None
        self._at: ComputePoint | None = None
        self.left_out = reach.dropped
        """Why a measured point of the profile cannot be set here, by its name."""
        for name, why in reach.dropped.items():
            log.warning("the operating point %r is left out of plans: %s", name, why)
        if reach.why_fixed:
            log.warning(
                "the CPU frequency cannot be set and is planned as fixed at %.4g GHz: %s",
                reach.compute.frequency_max_hz / 1e9,
                reach.why_fixed,
            )
        self._interface = route_interface(root, broker_host) if broker_host else None
        self._rate = RateControl(profile.rate_control, uplink, self._interface, self._journal, run)
        self.recorder: MeterRecorder = open_recorder(profile.meters(), root, self.clock)
        firmware = find_firmware(root)
        self._throttling = Throttling(root, firmware)
        self._watch = FrequencyWatch(
            root,
            firmware,
            self._throttling,
            period_s=watch_period_s,
            gpu_hz=self._frequency.setting.gpu.now_hz,
        )

    def __enter__(self) -> HostHardware:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def describe(self) -> HardwareDescription:
        """The board's name and its meter."""
        return HardwareDescription(
            board=self._profile.name, kind="physical", meter=self.recorder.describe()
        )

    def model(self) -> BoardModel:
        """The profile's cost parameters, with those frequencies that can be set here."""
        return self._board

    def apply(self, point: OperatingPoint) -> Applied:
        """Set the planned operating point, limit the uplink to the planned rate.

        What fails is noted.

        Raises:
            UnknownPointError: the plan names an operating point that the profile does not have.
        """
        work = self._set(point)
        rate_bps = point.rate_bps or point_rate_bps(self._profile.board.link, point)
        notes = list(work.notes)
        in_force_bps, means = self._rate.limit(rate_bps, notes)
        self._watch.take()  # discards the samples under the cap before
        return replace(work, rate_bps=in_force_bps, rate_control=means, notes=tuple(notes))

    def restore(self) -> None:
        """Restore the state before :meth:`apply`."""
        self._at = None
        self._frequency.setting.restore()
        self._journal.restore()
        self._rate.lift()

    def close(self) -> None:
        """Undo :meth:`apply` and stop reading the meter."""
        self.restore()
        self._journal.close()
        self._watch.close()
        self.recorder.close()

    def observed(self) -> Observation:
        """Clock, throttling, link, and the cost of monitoring since the last call."""
        clock = self._watch.take()
        read = None if isinstance(self.recorder, DeclaredPower) else self.recorder
        monitor = read.take_cost() if read else None
        cap_hz = self._frequency.cpufreq.in_force_hz()
        frequency_hz, source = clock.frequency_hz, clock.source
        if self._board.compute.points:  # a clock says nothing beside speeds of the training
            cap_hz, frequency_hz, source = None, None, ""
        if self._at is not None:
            speed = speed_hz(self._profile.board.compute, self._at)
            share, source = _share_of_clock(self._at, clock)
            frequency_hz = None if share is None else speed * share
            in_force = _share_in_force(self._at, self._frequency.setting.clocks(self._at.setting))
            cap_hz = None if in_force is None else speed * in_force
        return Observation(
            frequency_hz=frequency_hz,
            frequency_source=source,
            cap_hz=cap_hz,
            throttled=self._throttling.take(),
            link=link_state(self._root, self._interface, self._run) if self._interface else None,
            rate_limit_bps=self._rate.in_force_bps(),
            monitor=monitor,
            monitor_energy=self._cost_of(monitor, frequency_hz) if monitor else None,
            temperature_c=clock.temperature_c,
            doubts=read.take_doubts() if read else (),
        )

    def glance(self) -> Glance:
        """What the meter and the sensors showed last."""
        temperature_c, clock_hz = self._watch.last_c, self._watch.last_hz
        if isinstance(self.recorder, DeclaredPower):
            why = f"no meter: {self.recorder.describe().source.replace(':', ' ')}"
            return Glance(None, why, temperature_c, clock_hz)
        power_w = self.recorder.power_w
        why = "" if power_w is not None else self.recorder.trouble or "it has not shown any yet"
        return Glance(power_w, why, temperature_c, clock_hz, self.recorder.power_age_s)

    def trouble(self) -> str:
        """That the meter shows nothing, or that it reads again; empty if it always did."""
        return "" if isinstance(self.recorder, DeclaredPower) else self.recorder.trouble

    def _set(self, point: OperatingPoint) -> Applied:
        """Set what a plan asks of the processor."""
        compute = self._profile.board.compute
        names = [each.name for each in compute.points]
        if point.setting and point.setting not in names:
            known = ", ".join(repr(name) for name in names) or "none"
            raise UnknownPointError(
                f"the plan asks for the operating point {point.setting!r}; the profile of "
                f"{self._profile.name!r} has {known}. The plan was made for another profile: start "
                "the agent again, so that the coordinator gets this one"
            )
        at = measured_point(self._board.compute, point) if self._board.compute.points else None
        if point.setting:  # also one that could not be set when the agent began
            at = next(each for each in compute.points if each.name == point.setting)
        self._at = None
        if at is None:
            cap = self._cap(point.frequency_hz)
            return Applied(
                frequency_hz=cap.frequency_hz,
                frequency_control=cap.means,
                rate_bps=None,
                rate_control="none",
                notes=cap.notes,
            )
        done = self._frequency.apply(at.setting)
        # Held below its clock, the point is watched all the same: how far below is what counts.
        self._at = at if done.whole or done.clamped else None
        frequency_hz = speed_hz(compute, at) if done.whole else None
        if done.clamped and (share := _share_in_force(at, done.setting)) is not None:
            frequency_hz = speed_hz(compute, at) * share
        return Applied(
            frequency_hz=frequency_hz,
            frequency_control=done.means,
            rate_bps=None,
            rate_control="none",
            notes=done.notes,
            point=at.name if done.whole else "",
            setting=done.setting,
        )

    def _cap(self, frequency_hz: float) -> FrequencyCap:
        """Cap the frequency, unless it is fixed and fast enough."""
        if self._fixed_hz is not None and frequency_hz >= self._fixed_hz * (1.0 - 1e-9):
            return FrequencyCap(frequency_hz=self._frequency.cpufreq.in_force_hz(), applied=False)
        return self._frequency.cap(frequency_hz)

    def _undo_the_dead(self) -> None:
        """Undo the changes of an agent that was killed, before anything is read or set."""
        try:
            for line in self._journal.recover():
                log.warning("left by an earlier agent, %s", line)
        except OSError as error:
            log.warning("%s: %s", error.filename, error.strerror)

    def _cost_of(self, monitor: MonitorCost, frequency_hz: float | None) -> Energy:
        """Energy of monitoring, at most: computing for that long by the profile's power."""
        compute = self._profile.board.compute
        power_w = computing_power_w(compute, frequency_hz or compute.frequency_max_hz)
        return Energy(
            value_j=monitor.cpu_s * power_w,
            kind="modelled",
            source="profile",
            scope="cpu",
            uncertainty_j=monitor.cpu_s * power_w / 2.0,
        )

    def rest(self, seconds: float, over: Callable[[], bool]) -> None:
        """Sleep for that long."""
        end_s = self.clock.now_s() + seconds
        while (left_s := end_s - self.clock.now_s()) > 0.0 and not over():
            time.sleep(min(left_s, _LOOK_AGAIN_S))

    def has_waited_until(self, fleet_time_s: float) -> float:
        """Nothing to do on a physical board; returns its clock."""
        return self.clock.now_s()


def _share_in_force(point: ComputePoint, found: ComputeSetting) -> float | None:
    """The lowest share of a point's clocks that is in force, at most 1; ``None`` if unknown."""
    wanted, shares = point.setting, []
    for name, hertz in wanted.cpu_hz.items():
        cap_hz = found.cpu_hz.get(name)
        shares.append(None if cap_hz is None else min(1.0, cap_hz / hertz))
    if wanted.gpu_hz is not None:
        shares.append(None if found.gpu_hz is None else min(1.0, found.gpu_hz / wanted.gpu_hz))
    known = [share for share in shares if share is not None]
    return min(known, default=1.0) if len(known) == len(shares) else None


def _share_of_clock(point: ComputePoint, clock: AchievedClock) -> tuple[float | None, str]:
    """The achieved share of a point's clock, ``None`` if unknown, and where it was read.

    It is the GPU's clock where the point sets it, else the CPU's.
    """
    set_hz, found_hz = max(point.setting.cpu_hz.values(), default=None), clock.frequency_hz
    source = clock.source
    if point.setting.gpu_hz is not None:
        set_hz, found_hz, source = point.setting.gpu_hz, clock.gpu_hz, "devfreq"
    if found_hz is None or set_hz is None:
        return None, ""
    return found_hz / set_hz, source

"""Calibrating an emulated board: the same sweep, in virtual time."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from fimi.energy.calibration.fit import Estimate, Setting, of_activity
from fimi.energy.calibration.fitted import Calibration, analyse_sweep
from fimi.energy.calibration.sweep import sweep
from fimi.energy.calibration.sweep_plan import SweepPlan, TrialPoint, at_frequencies, spread
from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    ComputePoint,
    ComputeSetting,
    OperatingPoint,
    speed_hz,
)
from fimi.energy.emulation.board import VirtualBoard
from fimi.energy.emulation.chip import SILICON

BANDWIDTHS_HZ = (50e3, 200e3, 1e6, 4e6)
"""Bandwidths at which an emulated board sends: rates of about 0.3 to 20 Mbit/s."""


class EmulatedLoad:
    """Makes an emulated board work in virtual time; nothing is computed."""

    def __init__(self, board: VirtualBoard) -> None:
        self._board = board

    def begin(self, number: int, setting: ComputeSetting) -> None:
        """Begin a setting: draw background load, fading and noise again."""
        self._board.begin_round(number)

    def rest(self, duration_s: float) -> None:
        """Idle."""
        self._board.has_waited_until(self._board.clock.now_s() + duration_s)

    def compute(self, duration_s: float) -> int:
        """Train on one sample, then on as many as the time allows; returns samples."""
        began_s = self._board.clock.now_s()
        self._board.has_computed(1)
        more = round(duration_s / (self._board.clock.now_s() - began_s)) - 1
        if more < 1:
            return 1
        self._board.has_computed(more)
        return 1 + more

    def send(self, duration_s: float) -> float:
        """Send at the present rate for the time; returns bits."""
        size = max(1, round(duration_s * self._board.uplink_rate_bps() / 8.0))
        self._board.has_sent(size)
        return 8.0 * size

    def receive(self, duration_s: float) -> float:
        """Receive at the downlink rate for the time; returns bits."""
        size = max(1, round(duration_s * self._board.model().link.downlink_rate_bps / 8.0))
        self._board.has_received(size)
        return 8.0 * size


def sweep_plan(board: BoardModel, *, frequencies: int = 7, **more: float | int) -> SweepPlan:
    """A sweep over an emulated board: its operating points, four bandwidths, receiving.

    Its own measured points are swept if it has any, else at most so many of its frequencies.
    ``more`` are other fields of the plan.
    """
    compute = board.compute
    points = tuple(
        TrialPoint(name=p.name, frequency_hz=_clock_hz(compute, p), setting=p.setting)
        for p in compute.points
    )
    steps = (
        compute.frequency_steps_hz
        or np.linspace(compute.frequency_min_hz, compute.frequency_max_hz, frequencies).tolist()
    )
    uploads = tuple(
        OperatingPoint(
            frequency_hz=steps[0],
            bandwidth_hz=bandwidth_hz,
            transmit_power_w=board.link.transmit_power_max_w,
            time_split=0.5,
        )
        for bandwidth_hz in BANDWIDTHS_HZ
    )
    return SweepPlan(
        points=points or at_frequencies(spread(steps, frequencies)),
        uploads=uploads,
        receives=True,
        **more,  # type: ignore[arg-type]
    )


def _clock_hz(compute: ComputeModel, point: ComputePoint) -> float:
    """The clock at a measured point: what is set, else the speed of its training."""
    return max(point.setting.cpu_hz.values(), default=speed_hz(compute, point))


def calibrate(board: VirtualBoard, plan: SweepPlan, **hooks: object) -> Calibration:
    """Sweep and fit an emulated board.

    ``hooks`` are ``progress`` and ``cancelled`` of :func:`fimi.energy.calibration.sweep.sweep`.
    """
    silicon = SILICON.get(board.describe().board)
    swept = sweep(
        board,
        EmulatedLoad(board),
        plan,
        voltage_v=silicon.voltage_v if silicon else lambda frequency_hz: None,
        **hooks,  # type: ignore[arg-type]
    )
    found = analyse_sweep(swept, board.describe(), board.model())
    return replace(found, channel_gain=_channel_gain(swept.settings, board.model()))


def _channel_gain(settings: tuple[Setting, ...], board: BoardModel) -> Estimate | None:
    """The channel gain h that explains the measured rates: (3) solved for h."""
    sent = of_activity(settings, "send")
    if len(sent) < 2:
        return None
    noise = board.link.noise_density_w_per_hz
    gains = [
        noise
        * s.bandwidth_hz
        / s.transmit_power_w
        * np.expm1(np.log(2.0) * s.rate_bps / s.bandwidth_hz)
        for s in sent
    ]
    logs = np.log(np.array(gains))
    middle, reach = float(logs.mean()), 2.0 * float(logs.std(ddof=1)) / np.sqrt(len(logs))
    return Estimate(
        value=float(np.exp(middle)),
        low=float(np.exp(middle - reach)),
        high=float(np.exp(middle + reach)),
    )

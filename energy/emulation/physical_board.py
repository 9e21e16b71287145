"""An emulated board with physics that its cost model does not have.

:class:`PhysicalBoard` is a :class:`fimi.energy.emulation.board.VirtualBoard` whose truth goes
beyond the cost model: a voltage for every frequency, leakage that grows with temperature, a thermal
mass and firmware that throttles, other programs, a radio with a tail, a channel that fades during
an upload, and a meter that misses what happens between its readings. It runs in virtual time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import speed_hz
from fimi.energy.emulation.board import VirtualBoard
from fimi.energy.emulation.boards import BoardDeclaration
from fimi.energy.emulation.chip import SILICON, Chip
from fimi.energy.emulation.meter import EmulatedMeter
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.emulation.sampled_meter import SampledMeter
from fimi.energy.hardware import Glance, Observation
from fimi.energy.meters import MeterDescription

STEP_S = 1.0
"""Time between two reactions of the firmware to the temperature, s."""
SENSOR_STEP_C = 0.5
"""Resolution of a board's temperature sensor, °C."""
_STEPS_MAX = 400


class Surroundings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What disturbs a physical board besides a wrong declaration.

    Attributes:
        background: mean share of the processor that other programs use.
        background_spread: one standard deviation of its logarithm, second by second.
        relative_noise: standard deviation of a meter's reading over the power, dimensionless.
        dropped: share of a meter's readings that are lost.
        warmer_k: how much the ambient is warmer than usual, K.
    """

    background: float = 0.02
    background_spread: float = 0.6
    relative_noise: float = 0.01
    dropped: float = 0.02
    warmer_k: float = 0.0


class PhysicalBoard(VirtualBoard):
    """An emulated board with voltage, leakage, heat, throttling and a fading channel.

    Args:
        declaration: what the planner is told of it; its make decides chip and radio tail.
        surroundings: heat, other programs, noise and losses of the meter.
        others: those of :class:`fimi.energy.emulation.board.VirtualBoard`.

    Raises:
        ValueError: the make has no chip and radio in :mod:`fimi.energy.emulation.chip`.
    """

    def __init__(
        self,
        declaration: BoardDeclaration,
        *,
        surroundings: Surroundings | None = None,
        **others: Any,
    ) -> None:
        if declaration.board not in SILICON:
            raise ValueError(
                f"there is no chip for {declaration.board!r}; there are {', '.join(SILICON)}"
            )
        self._surroundings = surroundings or Surroundings()
        self._luck = np.random.default_rng(0)
        super().__init__(declaration, **others)
        silicon = SILICON[declaration.board]
        compute = self.model().compute
        speeds_hz = [speed_hz(compute, point) for point in compute.points]
        self.chip = Chip(silicon, self.truth, speeds_hz)
        """Its processor."""
        self.chip.temperature_c += self._surroundings.warmer_k
        self._radio = PRESETS[declaration.board].radio
        self._awake_until_s = -math.inf
        self._achieved_hz: float | None = None
        self._steps_told = 0
        self._warmth_k_s = self._watched_s = 0.0

    def begin_round(self, round_number: int) -> None:
        """Draw this round's background load and fading; later noise comes from its stream."""
        super().begin_round(round_number)
        self._luck = self._stream(_BOARD, round_number)
        self._achieved_hz = None

    def achieved_frequency_hz(self) -> float | None:
        """Mean frequency of this round's computing, Hz: below the cap where it was throttled."""
        return self._achieved_hz

    def glance(self) -> Glance:
        """What it drew last, and how warm its chip is, in its own time."""
        rests, power_w = self._resting()
        return Glance(
            power_w,
            temperature_c=self.chip.temperature_c,
            frequency_hz=self.chip.frequency_hz(self._frequency_hz),
            rests=rests,
        )

    @property
    def _idle_power_w(self) -> float:
        return self.chip.idle_power_w()

    def observed(self) -> Observation:
        """Achieved frequency, temperature, and how often the firmware throttled."""
        steps, self._steps_told = self.chip.throttled - self._steps_told, self.chip.throttled
        mean_c = self._warmth_k_s / self._watched_s if self._watched_s else self.chip.temperature_c
        self._warmth_k_s = self._watched_s = 0.0
        return Observation(
            frequency_hz=self._achieved_hz,
            frequency_source="emulated",
            cap_hz=self._frequency_hz,
            throttled={"emulated": steps},
            temperature_c=round(mean_c / SENSOR_STEP_C) * SENSOR_STEP_C,
        )

    def has_received(self, size_bytes: int) -> None:
        """Receive at the downlink rate; then the radio stays awake for its tail."""
        link = self.truth.link
        self._rest_for(8.0 * size_bytes / link.downlink_rate_bps, link.receive_power_w)
        self._stay_awake()

    def has_computed(self, samples: float) -> None:
        """Compute at the frequency that the firmware allows, beside other programs."""
        # At measured points in cycles as declared: what errs there is the seconds per sample.
        of_a_sample = self.truth if self._point is None else self.model()
        cycles = samples * of_a_sample.compute.cycles_per_sample * self._load
        if cycles <= 0.0:
            return
        expected_s = cycles / self.chip.frequency_hz(self._frequency_hz)
        step_s = max(STEP_S, expected_s / _STEPS_MAX)
        began_s, area = self.clock.now_s(), 0.0
        while cycles > 0.0:
            frequency_hz = self.chip.frequency_hz(self._frequency_hz)
            speed, power_w = self._working(frequency_hz)
            speed *= 1.0 - self._background()
            duration_s = min(step_s, cycles / speed)
            cycles -= speed * duration_s
            if cycles < speed * 1e-9:
                cycles = 0.0
            self._draw(duration_s, power_w)
            self.chip.govern(self._frequency_hz)
            area += frequency_hz * duration_s
        self._achieved_hz = area / (self.clock.now_s() - began_s)

    def has_sent(self, size_bytes: int) -> None:
        """Send while the channel fades; then the radio stays awake for its tail.

        Raises:
            RuntimeError: before any plan was applied.
        """
        share = self._share_of_uplink(size_bytes)
        bits, mean_bps = 8.0 * size_bytes, self._rate_bps(share)
        block_s = max(self._radio.coherence_s, bits / mean_bps / _STEPS_MAX)
        while bits > 0.0:
            fading = 10.0 ** (self._luck.normal(0.0, self._disturbance.fading_sd_db) / 10.0)
            rate_bps = self._rate_bps(share, fading)
            duration_s = min(block_s, bits / rate_bps)
            bits -= rate_bps * duration_s
            if bits < rate_bps * 1e-9:
                bits = 0.0
            self._rest_for(duration_s, self._upload_power_w(share, rate_bps))
        self._stay_awake()

    def join_fleet(self, fleet_time_s: float) -> None:
        """The clock shows the fleet's time from here on; heat and the radio's tail stay."""
        self._awake_until_s += fleet_time_s - self.clock.now_s()
        super().join_fleet(fleet_time_s)

    def _idle_until(self, instant_s: float) -> None:
        duration_s = instant_s - self.clock.now_s()
        tail_s = min(duration_s, max(0.0, self._awake_until_s - self.clock.now_s()))
        self._rest_for(tail_s, self._radio.tail_power_w)
        self._rest_for(duration_s - tail_s, 0.0)

    def _make_own_meter(self, description: MeterDescription, **settings: Any) -> EmulatedMeter:
        noise, dropped = self._surroundings.relative_noise, self._surroundings.dropped
        return SampledMeter(description, relative_noise=noise, dropped=dropped, **settings)

    def _working(self, frequency_hz: float) -> tuple[float, float]:
        """Cycles of the training in a second, Hz, and board power, W, at an allowed frequency."""
        if self._point is None:
            return frequency_hz, self.chip.busy_power_w(frequency_hz)
        compute, name = self.model().compute, self._point.name
        if frequency_hz < self._frequency_hz:  # heat holds it at a slower point
            slower = [p for p in compute.points if speed_hz(compute, p) <= frequency_hz]
            name = min(slower, key=lambda p: (p.seconds_per_sample, p.power_w)).name
        true = self._true_points[name]
        speed = compute.cycles_per_sample / true.seconds_per_sample
        return speed, self.chip.measured_power_w(true.power_w, frequency_hz)

    def _rest_for(self, duration_s: float, extra_w: float) -> None:
        """Let the processor rest, except for other programs; the chip cools down."""
        step_s = max(STEP_S, duration_s / _STEPS_MAX)
        while duration_s > 0.0:
            part_s = min(step_s, duration_s)
            self._draw(part_s, self.chip.idle_power_w(self._background()), extra_w)
            self.chip.govern(self._frequency_hz)
            duration_s = duration_s - part_s if duration_s - part_s > 1e-12 else 0.0

    def _draw(self, duration_s: float, chip_w: float, extra_w: float = 0.0) -> None:
        self.recorder.observe(duration_s, chip_w + extra_w)
        before_c = self.chip.temperature_c
        self.chip.warm(chip_w, duration_s)
        self._warmth_k_s += (before_c + self.chip.temperature_c) / 2.0 * duration_s
        self._watched_s += duration_s

    def _background(self) -> float:
        here = self._surroundings
        if here.background <= 0.0:
            return 0.0
        spread = here.background_spread
        return min(0.9, here.background * self._luck.lognormal(-(spread**2) / 2.0, spread))

    def _stay_awake(self) -> None:
        self._awake_until_s = self.clock.now_s() + self._radio.tail_s


# First word of a stream's spawn key: fimi.energy.emulation.boards uses 1, board uses 2 and 3.
_BOARD = 4

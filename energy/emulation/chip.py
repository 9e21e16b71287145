"""Properties of chips that a cost model leaves out: voltage, leakage, heat, throttling.

* :class:`ChipTraits`   operating voltages, leakage, thermal mass and throttling of one make
* :data:`SILICON`       one for each make of :data:`fimi.energy.emulation.presets.PRESETS`
* :class:`Chip`         one chip that warms up, leaks and throttles

Sources. A figure marked with one of these keys was read there; all others are our estimates.

    [tegra]  Linux, drivers/clk/tegra/clk-tegra124-dfll-fcpu.c: voltages of the Tegra X1's CPU rail
             where it is joined with others (0.84 to 1.12 V, 34 mV per 102 MHz)
    [sbc21]  github.com/geerlingguy/sbc-reviews issue 21: sbc-bench on a Raspberry Pi 5,
             0.72 V at 1500 MHz, 0.91 V at 2400 MHz, 45 °C at rest
    [rpi]    Raspberry Pi documentation, frequency management: the cores are throttled from 80 °C
             on; the Pi 4 scales its voltage with its frequency
    [sng87]  github.com/ColinIanKing/stress-ng issue 87: a loaded Raspberry Pi 4 held at 80 to 82 °C
    [di1206] github.com/dusty-nv/jetson-inference issue 1206: tegrastats of a Jetson Nano, CPU at
             43 to 44 °C while the rail POM_5V_IN reads 4.1 to 4.5 W
    [orin]   NVIDIA's power and thermal guide of the Jetson Orin Nano: software throttling near
             the recommended limit, which lies some ten degrees below the shutdown at 97 °C
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import BoardModel, Positive, formula_power_w


class ChipTraits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a make's chip has beyond κ f³: voltage, leakage, heat.

    Attributes:
        frequencies_hz: frequencies at which the voltage is known, ascending.
        voltages_v: core voltage at these; linear in between, constant outside.
        leakage_w: leakage power at the highest voltage and 45 °C, W.
        leakage_doubling_k: rise in temperature that doubles the leakage, K.
        ambient_c: temperature of the chip when it draws nothing, °C.
        resistance_k_per_w: thermal resistance from the chip to the ambient, K/W.
        time_constant_s: thermal time constant, s.
        throttle_c: at this temperature and above, the frequency is stepped down, °C.
        release_c: below it the frequency is stepped up again, °C.
    """

    frequencies_hz: tuple[Positive, ...]
    voltages_v: tuple[Positive, ...]
    leakage_w: float
    leakage_doubling_k: float
    ambient_c: float
    resistance_k_per_w: float
    time_constant_s: float
    throttle_c: float
    release_c: float

    def voltage_v(self, frequency_hz: float) -> float:
        """Core voltage at a frequency, V."""
        return float(np.interp(frequency_hz, self.frequencies_hz, self.voltages_v))

    def leakage_at_w(self, voltage_v: float, temperature_c: float) -> float:
        """Leakage: in proportion to the voltage, doubling every so many kelvin, W."""
        warmer = (temperature_c - 45.0) / self.leakage_doubling_k
        growth = math.exp(math.log(2.0) * min(warmer, 6.0))
        return self.leakage_w * voltage_v / self.voltages_v[-1] * growth


SILICON: dict[str, ChipTraits] = {
    "raspberry-pi-4": ChipTraits(
        frequencies_hz=(600e6, 1000e6, 1500e6, 1800e6),
        voltages_v=(0.80, 0.82, 0.87, 0.94),  # that it scales at all: [rpi]
        leakage_w=0.25,
        leakage_doubling_k=25.0,
        ambient_c=40.0,
        resistance_k_per_w=11.5,  # no heat sink: full load ends at the limit [sng87]
        time_constant_s=90.0,
        throttle_c=80.0,  # [rpi]
        release_c=77.0,
    ),
    "raspberry-pi-5": ChipTraits(
        frequencies_hz=(1500e6, 2400e6),
        voltages_v=(0.72, 0.91),  # [sbc21]
        leakage_w=0.3,
        leakage_doubling_k=25.0,
        ambient_c=43.0,  # 45 °C at rest [sbc21]
        resistance_k_per_w=5.0,  # with the maker's fan
        time_constant_s=60.0,
        throttle_c=80.0,  # [rpi]
        release_c=77.0,
    ),
    "jetson-nano": ChipTraits(
        frequencies_hz=(408e6, 510e6, 612e6, 816e6, 1020e6, 1224e6, 1326e6, 1479e6),
        voltages_v=(0.84, 0.844, 0.878, 0.946, 1.014, 1.082, 1.09, 1.09),  # [tegra]
        leakage_w=0.3,
        leakage_doubling_k=28.0,
        ambient_c=36.0,
        resistance_k_per_w=4.0,  # 44 °C at 4.5 W [di1206]
        time_constant_s=120.0,
        throttle_c=97.0,
        release_c=94.0,
    ),
    "jetson-orin-nano": ChipTraits(
        frequencies_hz=(115.2e6, 729.6e6, 1190.4e6, 1510.4e6),
        voltages_v=(0.60, 0.65, 0.74, 0.83),
        leakage_w=0.5,
        leakage_doubling_k=28.0,
        ambient_c=42.0,
        resistance_k_per_w=4.0,
        time_constant_s=70.0,
        throttle_c=87.0,  # [orin]
        release_c=84.0,
    ),
    "mini-pc": ChipTraits(
        frequencies_hz=(700e6, 1500e6, 2500e6, 3400e6),
        voltages_v=(0.65, 0.75, 0.92, 1.08),
        leakage_w=0.8,
        leakage_doubling_k=25.0,
        ambient_c=38.0,
        resistance_k_per_w=4.2,
        time_constant_s=50.0,
        throttle_c=95.0,
        release_c=92.0,
    ),
}
"""Chips by make."""


class Chip:
    """A chip in virtual time.

    It agrees with a cost model in two states: cold and idle it draws the model's idle power, cold
    and at the highest frequency the model's busy power. In between it follows C V² f and its
    leakage, so that a law of the frequency is wrong to the extent that V² f does not follow it. At
    a measured operating point it draws what was measured there while it is cold, and leaks more
    when it is warm. The speeds of measured points then stand for the frequencies.

    Args:
        silicon: of the make.
        board: cost model that it agrees with in these states.
        speeds_hz: speeds of the measured points, in any order; empty where there are none.
    """

    def __init__(
        self, silicon: ChipTraits, board: BoardModel, speeds_hz: Sequence[float] = ()
    ) -> None:
        self._silicon = silicon
        compute = board.compute
        steps = sorted(set(speeds_hz)) or compute.frequency_steps_hz
        self._steps = tuple(steps) or tuple(
            np.linspace(compute.frequency_min_hz, compute.frequency_max_hz, 21).tolist()
        )
        # A GPU's voltages are taken from the table of the same share of the highest clock.
        self._clock_per_speed = compute.frequency_max_hz / self._steps[-1]
        self._floor_v = self._voltage_v(self._steps[0])
        cold_c = silicon.ambient_c
        top_hz, top_v = self._steps[-1], self._voltage_v(self._steps[-1])
        self._cold_leakage_w = silicon.leakage_at_w(self._floor_v, cold_c)
        more_leakage_w = silicon.leakage_at_w(top_v, cold_c) - self._cold_leakage_w
        busy_w = formula_power_w(compute, compute.frequency_max_hz) - compute.active_power_w
        self.capacitance_f = (busy_w - more_leakage_w) / (top_v**2 * top_hz)
        """C of C V² f, F."""
        if self.capacitance_f <= 0.0:
            raise ValueError(
                f"{busy_w:.3g} W of dynamic power at {top_hz:.4g} Hz are less than the "
                f"{more_leakage_w:.3g} W that leakage grows by on the way there"
            )
        self._active_w = compute.active_power_w
        self._rest_w = max(0.0, board.idle_power_w - self._cold_leakage_w)
        self.temperature_c = silicon.ambient_c
        """Present temperature, °C."""
        self._held_hz = math.inf
        self.throttled = 0
        """How often heat has stepped the frequency down."""

    def idle_power_w(self, background: float = 0.0) -> float:
        """Board power at rest, W; other programs use the share ``background`` of the processor."""
        leakage_w = self._silicon.leakage_at_w(self._floor_v, self.temperature_c)
        dynamic_w = self.capacitance_f * self._floor_v**2 * self._steps[0] + self._active_w
        return self._rest_w + leakage_w + background * dynamic_w

    def busy_power_w(self, frequency_hz: float) -> float:
        """Board power while computing, W."""
        voltage_v = self._voltage_v(frequency_hz)
        leakage_w = self._silicon.leakage_at_w(voltage_v, self.temperature_c)
        dynamic_w = self.capacitance_f * voltage_v**2 * frequency_hz
        return self._rest_w + leakage_w + self._active_w + dynamic_w

    def measured_power_w(self, power_w: float, speed_hz: float) -> float:
        """Board power at a measured point, W.

        Args:
            power_w: what was measured above idle while the chip was cold, W.
            speed_hz: of the point, Hz.
        """
        voltage_v, silicon = self._voltage_v(speed_hz), self._silicon
        warm_w = silicon.leakage_at_w(voltage_v, self.temperature_c)
        cold_w = silicon.leakage_at_w(voltage_v, silicon.ambient_c)
        return self._rest_w + self._cold_leakage_w + power_w + warm_w - cold_w

    def frequency_hz(self, cap_hz: float) -> float:
        """Frequency that the firmware allows at present under a cap, Hz."""
        return min(cap_hz, self._held_hz)

    def warm(self, power_w: float, duration_s: float) -> None:
        """Draw power for a time: the temperature approaches its final value exponentially."""
        silicon = self._silicon
        end_c = silicon.ambient_c + silicon.resistance_k_per_w * (power_w - self._rest_w)
        decay = math.exp(-duration_s / silicon.time_constant_s)
        self.temperature_c = end_c + (self.temperature_c - end_c) * decay

    def govern(self, cap_hz: float) -> None:
        """Let the firmware react to the temperature: one step down, one step up, or no change."""
        now_hz = self.frequency_hz(cap_hz)
        if self.temperature_c >= self._silicon.throttle_c:
            below = [step for step in self._steps if step < now_hz * (1.0 - 1e-9)]
            if below:
                self._held_hz = below[-1]
                self.throttled += 1
        elif self.temperature_c < self._silicon.release_c and self._held_hz < math.inf:
            above = [step for step in self._steps if step > self._held_hz * (1.0 + 1e-9)]
            self._held_hz = above[0] if above else math.inf

    def _voltage_v(self, frequency_hz: float) -> float:
        return self._silicon.voltage_v(frequency_hz * self._clock_per_speed)

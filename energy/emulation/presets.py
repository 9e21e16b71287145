"""Makes of boards that can be emulated, each figure with its origin.

* :data:`PRESETS`   the makes, by name

Origins: a figure marked with one of these keys was read there. [K] is common knowledge of the make,
which was not checked again. Everything else is our estimate, chosen so that idle + P_act + κ f_max³
gives the busy power in the comment beside it. κ stands for the whole chip with all cores training;
published κ lie between 1e-28 and 1e-27 W/Hz³. The chips' voltages and heat, with their sources, are
in :mod:`fimi.energy.emulation.chip`.

    [chip]   chipwired.com/raspberry-pi-power-use: 36 readings of a Raspberry Pi 4 by two USB meters
             and one at the wall: idle 2.2 to 3.0 W, high load 5.1 to 6.3 W
    [iiab]   github.com/iiab/iiab issue 4050: idle 0.5 A on a Raspberry Pi 4, 0.65 A on a Pi 5
    [sbc21]  github.com/geerlingguy/sbc-reviews issue 21: a Raspberry Pi 5 at 7.9 W in a
             benchmark
    [di1206] github.com/dusty-nv/jetson-inference issue 1206: POM_5V_IN of a working Jetson Nano
             reads 4.1 to 4.5 W
    [ai12]   github.com/geerlingguy/ai-benchmarks issue 12: a four-core N150 mini-PC at 26.5 W with
             memory and all cores busy; the preset stands for less: the 6 W class behind its brick
    [linux]  Linux documentation: hwmon/ina3221, hwmon/ina2xx, admin-guide/pm/intel_pstate
"""

from __future__ import annotations

from msgspec import Struct


class BoardPreset(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A make of boards.

    Attributes:
        name: of the make.
        frequency_min_hz: lowest frequency, Hz.
        frequency_max_hz: highest frequency, Hz.
        frequency_steps_hz: operating points, ascending; empty if continuous.
        idle_power_w: whole board doing nothing, W.
        active_power_w: P_act, W.
        capacitance_w_per_hz3: κ, W/Hz³.
        cycles_factor: cycles for the same work, relative to a Raspberry Pi 4.
        transmit_power_max_w: p_max, W.
        receive_power_w: extra power while receiving, W.
        meter: name of the meter that is emulated.
        meter_rate_hz: how often that is read, Hz.
        meter_noise_w: one standard deviation of a reading's noise, W.
        meter_resolution_w: smallest step of a reading, W.
        meter_uncertainty: one standard deviation of its gain, dimensionless.
    """

    name: str
    frequency_min_hz: float
    frequency_max_hz: float
    frequency_steps_hz: tuple[float, ...] = ()
    idle_power_w: float
    active_power_w: float
    capacitance_w_per_hz3: float
    cycles_factor: float
    transmit_power_max_w: float
    receive_power_w: float
    meter: str
    meter_rate_hz: float = 10.0
    meter_noise_w: float
    meter_resolution_w: float
    meter_uncertainty: float

    @property
    def busy_power_w(self) -> float:
        """Power while training at the highest frequency, W."""
        dynamic_w = self.capacitance_w_per_hz3 * self.frequency_max_hz**3
        return self.idle_power_w + self.active_power_w + dynamic_w


def _mhz(*steps: float) -> tuple[float, ...]:
    return tuple(round(step * 1e6) * 1.0 for step in steps)


_PI_4 = BoardPreset(
    name="raspberry-pi-4",
    # Operating points of the BCM2711 with arm_boost [K].
    frequency_min_hz=600e6,
    frequency_max_hz=1800e6,
    frequency_steps_hz=_mhz(*range(600, 1801, 100)),
    idle_power_w=2.7,  # [chip] [iiab]
    active_power_w=0.9,
    capacitance_w_per_hz3=4.3e-28,  # busy 6.1 W [chip]
    cycles_factor=1.0,
    transmit_power_max_w=0.10,  # 20 dBm, the limit of 2.4 GHz Wi-Fi in Europe [K]
    receive_power_w=0.3,
    # The Pi 4 has no current sensing [K]: an INA219 board in its supply line.
    # 0.1 mA steps at 5 V behind a 1 % shunt [K].
    meter="ina219",
    meter_noise_w=0.02,
    meter_resolution_w=0.002,
    meter_uncertainty=0.01,
)

_PI_5 = BoardPreset(
    name="raspberry-pi-5",
    # Operating points of the BCM2712 [K].
    frequency_min_hz=1500e6,
    frequency_max_hz=2400e6,
    frequency_steps_hz=_mhz(*range(1500, 2401, 100)),
    idle_power_w=3.0,  # [iiab]; of which VDD_CORE takes 0.7 W [K]
    active_power_w=1.2,
    capacitance_w_per_hz3=2.6e-28,  # busy 7.8 W [sbc21]
    cycles_factor=0.55,
    transmit_power_max_w=0.10,  # as the Pi 4
    receive_power_w=0.3,
    # Its power controller's rails, scaled to the board by a community fit: 10 Hz [K].
    meter="pmic",
    meter_noise_w=0.05,
    meter_resolution_w=0.01,
    meter_uncertainty=0.03,
)

_JETSON_NANO = BoardPreset(
    name="jetson-nano",
    # Operating points of the Tegra X1's A57 cluster as JetPack 4 lists them [K].
    frequency_min_hz=102e6,
    frequency_max_hz=1479e6,
    frequency_steps_hz=_mhz(
        *(102, 204, 307.2, 403.2, 518.4, 614.4, 710.4, 825.6),
        *(921.6, 1036.8, 1132.8, 1224, 1326, 1428, 1479),
    ),
    idle_power_w=2.0,
    active_power_w=0.8,
    capacitance_w_per_hz3=8.0e-28,  # busy 5.4 W, see [di1206]; its power modes are 5 W and 10 W [K]
    cycles_factor=1.1,
    transmit_power_max_w=0.15,
    receive_power_w=0.35,
    # INA3221 rail POM_5V_IN: 40 µV steps over 5 mΩ at 5 V are 40 mW [K].
    meter="ina3221:POM_5V_IN",
    meter_noise_w=0.03,
    meter_resolution_w=0.04,
    meter_uncertainty=0.02,
)

_JETSON_ORIN_NANO = BoardPreset(
    name="jetson-orin-nano",
    # Operating points of the A78AE cluster: multiples of 76.8 MHz, then the highest [K].
    frequency_min_hz=115.2e6,
    frequency_max_hz=1510.4e6,
    frequency_steps_hz=_mhz(*(115.2 + 76.8 * step for step in range(19)), 1510.4),
    idle_power_w=4.5,
    active_power_w=1.3,
    capacitance_w_per_hz3=9.0e-28,  # busy 8.9 W; its power modes are 7 W and 15 W [K]
    cycles_factor=0.4,
    transmit_power_max_w=0.15,
    receive_power_w=0.35,
    # INA3221 rail VDD_IN: voltage × current, computed by the reader [linux].
    meter="ina3221:VDD_IN",
    meter_noise_w=0.04,
    meter_resolution_w=0.04,
    meter_uncertainty=0.02,
)

_MINI_PC = BoardPreset(
    name="mini-pc",
    # A four-core x86 of the 6 W class; intel_pstate lists no operating points [linux].
    frequency_min_hz=700e6,
    frequency_max_hz=3400e6,
    idle_power_w=6.5,
    active_power_w=3.0,
    capacitance_w_per_hz3=2.0e-28,  # busy 17.4 W, see [ai12]
    cycles_factor=0.4,
    transmit_power_max_w=0.20,
    receive_power_w=0.5,
    # A USB-C meter in its supply line.
    meter="powerz",
    meter_noise_w=0.05,
    meter_resolution_w=0.001,
    meter_uncertainty=0.01,
)

PRESETS: dict[str, BoardPreset] = {
    preset.name: preset for preset in (_PI_4, _PI_5, _JETSON_NANO, _JETSON_ORIN_NANO, _MINI_PC)
}
"""All makes, by name."""

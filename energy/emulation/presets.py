"""Makes of boards that can be emulated, each figure with its origin.

* :class:`Workload`     what a processor draws above idle while it does one kind of work
* :class:`GpuStep`      a GPU clock at which training was measured
* :class:`BoardPreset`  a make
* :data:`PRESETS`       the makes, by name

Power above idle belongs to a workload, not to a make. ``training`` is a small network trained by a
deep-learning library, as recorded on boards in a federation [e2fl]: it keeps about one core of four
busy. ``stress`` is arithmetic on all cores. Boards are emulated, planned and predicted by
``training``; ``stress`` is there to try heat and to compare with published figures, most of which
are of it. The radios are in :mod:`fimi.energy.emulation.radios`.
``benchmarks/presets_against_recordings.py`` holds all of it against recordings and against what
others published.

Origins: a figure marked with one of these keys was read there. [K] is common knowledge of the make,
which was not checked again. Everything else is our estimate. P_act is an estimate throughout; c and
κ share what is left at the highest frequency so that c f + κ f³ follows V² f of the chip's voltages
at both ends of its range. The chips' voltages and heat, with their sources, are in
:mod:`fimi.energy.emulation.chip`.

    [e2fl]   github.com/sco-edge/E2FL, recordings of 2025-03-28: a Raspberry Pi 5 draws 3.46 W on
             its rails before it trains and 4.3 W while it trains, which is 4.55 W and 5.51 W of the
             whole board by the published fit 1.145 × rails + 0.59 W; a Jetson Orin 5.13 and 6.11 W
    [joular] github.com/joular/powerjoular, src/raspberry_pi_cpu_formula.adb: linear fits of board
             power over the share u of the processor under stress: Raspberry Pi 4B 1.2
             2.29 + 4.53 u W, Pi 400 1.82 + 5.03 u W, Pi 5B 1.0 4.40 + 3.46 u W
    [chip]   chipwired.com/raspberry-pi-power-use: 36 readings of a Raspberry Pi 4 by two USB meters
             and one at the wall: idle 2.2 to 3.0 W, high load 5.1 to 6.3 W
    [iiab]   github.com/iiab/iiab issue 4050: idle 0.5 A on a Raspberry Pi 4, 0.65 A on a Pi 5
    [pi5w]   github.com/geerlingguy/pi-isp issue 6: a Raspberry Pi 5 takes 4 to 5 W at idle
    [sbc21]  github.com/geerlingguy/sbc-reviews issue 21: a Raspberry Pi 5 at 7.9 W in a
             benchmark
    [di1206] github.com/dusty-nv/jetson-inference issue 1206: POM_5V_IN of a working Jetson Nano
             reads 4.1 to 4.5 W
    [jnano]  github.com/vl18398/JNano-CPU-CoarseGrain, DataCollection/parsec-final-data.txt: the CPU
             rail of a Jetson Nano in nine PARSEC programs on one core, 0.25 W at 102 MHz to 1.30 W
             at 1,479 MHz: 0.21 W + 0.59 f + 0.039 f³ (f in GHz) with 4.6 % mean error, where
             P0 + κ f³ has 15.8 %
    [tx1gpu] github.com/kranik/ARMPM_BUILDMODEL, branch GPU_tx1,
             GPU_data/power_measurement_merged_global.txt: watts of the GPU rail of a Jetson TX1 and
             number of readings, twice a second, of 29 programs at 13 GPU clocks. Taken from it is
             ``cfd``, a solver on an irregular grid which is bound by memory above 600 MHz and by
             the GPU below. A Jetson Nano has half of that GPU at the same clocks [K]
    [ai12]   github.com/geerlingguy/ai-benchmarks issue 12 and top500-benchmark issue 52: a
             four-core N150 mini-PC at 26.5 W with memory and all cores busy, 23.5 W in HPL; the
             preset stands for less: the 6 W class behind its brick
    [linux]  Linux documentation: hwmon/ina3221, hwmon/ina2xx, admin-guide/pm/intel_pstate
"""

from __future__ import annotations

from msgspec import Struct

from fimi.energy.emulation.radios import (
    SDIO_WIFI,
    SDIO_WIFI_PI_5,
    WIFI_CARD,
    WIFI_CARD_PC,
    RadioPreset,
)


class Workload(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A kind of work: P_act + c f + κ f³ above idle.

    Attributes:
        active_power_w: P_act, W.
        linear_power_w_per_hz: c, W/Hz.
        capacitance_w_per_hz3: κ, W/Hz³.
    """

    active_power_w: float
    linear_power_w_per_hz: float
    capacitance_w_per_hz3: float

    def power_w(self, frequency_hz: float) -> float:
        """Power above idle at a frequency, W."""
        rising = self.linear_power_w_per_hz + self.capacitance_w_per_hz3 * frequency_hz**2
        return self.active_power_w + rising * frequency_hz


class GpuStep(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A measured operating point of training on a GPU.

    Attributes:
        gpu_hz: clock of the GPU, Hz.
        relative_time: seconds per sample over those at the highest clock.
        power_w: power of the board above idle, W.
    """

    gpu_hz: float
    relative_time: float
    power_w: float


class BoardPreset(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A make of boards.

    Attributes:
        name: of the make.
        frequency_min_hz: lowest CPU frequency, Hz.
        frequency_max_hz: highest CPU frequency, Hz.
        frequency_steps_hz: CPU frequencies that can be set, ascending; empty if continuous.
        idle_power_w: whole board doing nothing, W.
        training: what training a small network draws above idle.
        stress: what arithmetic on all cores draws above idle.
        gpu_steps: clocks of the GPU by which this make trains; empty if it trains on its CPU.
        cycles_factor: cycles for the same work, relative to a Raspberry Pi 4. A make that trains on
            its GPU takes at the highest GPU clock as long as these cycles at the highest CPU
            frequency.
        radio: its radio.
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
    training: Workload
    stress: Workload
    gpu_steps: tuple[GpuStep, ...] = ()
    cycles_factor: float
    radio: RadioPreset
    meter: str
    meter_rate_hz: float = 10.0
    meter_noise_w: float
    meter_resolution_w: float
    meter_uncertainty: float

    @property
    def training_power_w(self) -> float:
        """Power of the board while it trains as fast as it can, W."""
        if self.gpu_steps:
            return self.idle_power_w + self.gpu_steps[-1].power_w
        return self.idle_power_w + self.training.power_w(self.frequency_max_hz)

    @property
    def stress_power_w(self) -> float:
        """Power of the board under arithmetic on all cores at the highest frequency, W."""
        return self.idle_power_w + self.stress.power_w(self.frequency_max_hz)


def _mhz(*steps: float) -> tuple[float, ...]:
    return tuple(round(step * 1e6) * 1.0 for step in steps)


_PI_4 = BoardPreset(
    name="raspberry-pi-4",
    # Operating points of the BCM2711 with arm_boost [K].
    frequency_min_hz=600e6,
    frequency_max_hz=1800e6,
    frequency_steps_hz=_mhz(*range(600, 1801, 100)),
    idle_power_w=2.7,  # [chip] [iiab] [joular]
    # 1.3 W: the share of all cores that training takes on a Pi 5, 0.96 W of 3.46 W [e2fl] [joular],
    # of what stress takes here, 4.53 W [joular].
    training=Workload(
        active_power_w=0.3, linear_power_w_per_hz=3.83e-10, capacitance_w_per_hz3=5.3e-29
    ),
    # 3.4 W: busy 6.1 W [chip].
    stress=Workload(
        active_power_w=0.8, linear_power_w_per_hz=1.0e-9, capacitance_w_per_hz3=1.38e-28
    ),
    cycles_factor=1.0,
    radio=SDIO_WIFI,
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
    idle_power_w=4.4,  # [joular] [e2fl] [pi5w]; [iiab] has 3.3 W
    # 1.0 W [e2fl].
    training=Workload(
        active_power_w=0.2, linear_power_w_per_hz=1.29e-10, capacitance_w_per_hz3=3.55e-29
    ),
    # 3.5 W: busy 7.9 W [joular] [sbc21].
    stress=Workload(
        active_power_w=0.7, linear_power_w_per_hz=4.45e-10, capacitance_w_per_hz3=1.225e-28
    ),
    cycles_factor=0.55,
    radio=SDIO_WIFI_PI_5,
    # Its power controller's rails, scaled to the board by a community fit: 10 Hz [K].
    meter="pmic",
    meter_noise_w=0.05,
    meter_resolution_w=0.01,
    meter_uncertainty=0.03,
)


def _nano_gpu(*cfd: tuple[float, float, int]) -> tuple[GpuStep, ...]:
    """GPU clock, MHz, watts of a TX1's GPU rail, and readings of one run of ``cfd`` [tx1gpu].

    Half of the watts above those at rest (0.31 W), and 0.8 W of the core that feeds the GPU, about
    1 GHz by [jnano].
    """
    fastest = cfd[-1][2]
    return tuple(
        GpuStep(
            gpu_hz=round(mhz * 1e6) * 1.0,
            relative_time=readings / fastest,
            power_w=0.8 + 0.5 * (watts - 0.31),
        )
        for mhz, watts, readings in cfd
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
    # On one core of the CPU, as measured: [jnano] without what its rail takes at rest.
    training=Workload(
        active_power_w=0.1, linear_power_w_per_hz=5.9e-10, capacitance_w_per_hz3=3.9e-29
    ),
    # 3.4 W: busy 5.4 W; its power modes are 5 W and 10 W [K].
    stress=Workload(
        active_power_w=0.5, linear_power_w_per_hz=1.161e-9, capacitance_w_per_hz3=3.66e-28
    ),
    # Clocks up to the limit of its power mode MAXN, 921.6 MHz [K]. 5.0 W while training, see
    # [di1206].
    gpu_steps=_nano_gpu(
        *((76.8, 0.57, 933), (153.6, 0.89, 540), (230.4, 1.20, 382), (307.2, 1.46, 312)),
        *((384.0, 1.72, 264), (460.8, 1.99, 226), (537.6, 2.23, 203), (614.4, 2.64, 192)),
        *((691.2, 3.09, 184), (768.0, 3.56, 179), (844.8, 4.07, 174), (921.6, 4.64, 170)),
    ),
    cycles_factor=1.1,
    radio=WIFI_CARD,
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
    idle_power_w=5.1,  # [e2fl]
    # 1.0 W [e2fl].
    training=Workload(
        active_power_w=0.3, linear_power_w_per_hz=2.29e-10, capacitance_w_per_hz3=1.03e-28
    ),
    # 4.4 W: busy 9.5 W; its power modes are 7 W and 15 W [K].
    stress=Workload(
        active_power_w=1.0, linear_power_w_per_hz=1.114e-9, capacitance_w_per_hz3=4.98e-28
    ),
    cycles_factor=0.4,
    radio=WIFI_CARD,
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
    # 4.0 W: a core of four at its highest clock takes more than a quarter of what stress takes.
    training=Workload(
        active_power_w=1.2, linear_power_w_per_hz=2.75e-10, capacitance_w_per_hz3=4.74e-29
    ),
    # 10.9 W: busy 17.4 W, see [ai12].
    stress=Workload(
        active_power_w=3.0, linear_power_w_per_hz=7.76e-10, capacitance_w_per_hz3=1.339e-28
    ),
    cycles_factor=0.4,
    radio=WIFI_CARD_PC,
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

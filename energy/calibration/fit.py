"""Cost parameters from measured settings: pure functions, NumPy only.

* :class:`Setting`      one measured setting: what the board did, for how long, with which joules
* :class:`Estimate`     a value with its confidence interval
* :func:`fit_power`     P_idle, P_act, c and κ of P = P_idle + P_act + c f + κ f³, docs/model.md
                        (39), or the capacitance of V² f and the leakage, where voltage and
                        temperature are known
* :func:`fit_cycles`    C from times and frequencies
* :func:`along_frequency`  the settings that a law of the frequency can describe

Sending and receiving: :mod:`fimi.energy.calibration.radio_fit`. How well they predict:
:mod:`fimi.energy.calibration.held_out`.

Each power is weighted by 1/P², because a meter's noise grows with the power: the fit minimises
relative errors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.calibration import student_t
from fimi.energy.cost_model import ComputeSetting
from fimi.energy.sysfs import complete

Array = NDArray[np.float64]
Activity = Literal["idle", "compute", "send", "receive"]
Law = Literal["mixed", "cubic", "voltage"]
"""How power grows with frequency: c f + κ f³; κ f³; C V² f."""

CONFIDENCE = 0.95
LEAKAGE_DOUBLING_K = 25.0
"""Rise in temperature that doubles a chip's leakage, K. The value is our choice, because a sweep is
too cool and too short to determine it: its estimates scatter from 12 to 60. 20 or 35 change the
capacitance by 2 to 4 %."""
LEAST_WARMING_K = 3.0
"""Smallest difference between the temperatures of settings for which leakage is fitted, K."""


class Setting(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board did for some seconds, and what its meter read.

    Attributes:
        activity: what it did.
        frequency_hz: achieved CPU frequency, Hz.
        duration_s: how long.
        energy_j: metered energy of the board, J.
        uncertainty_j: one standard deviation of it.
        samples: number of samples trained on.
        bits: number of bits sent or received.
        transmit_power_w: p while sending.
        voltage_v: core voltage at that frequency, where known.
        temperature_c: mean temperature of the processor, °C, where it can be read.
        point: name of the operating point; empty where a frequency is all that was set.
        applied: what was set.
        bandwidth_hz: b while sending, Hz.
        again: whether it was measured once more, because its point broke the order of the table.
    """

    activity: Activity
    frequency_hz: float
    duration_s: float
    energy_j: float
    uncertainty_j: float = 0.0
    samples: int = 0
    bits: float = 0.0
    transmit_power_w: float = 0.0
    voltage_v: float | None = None
    temperature_c: float | None = None
    point: str = ""
    applied: ComputeSetting = ComputeSetting()
    bandwidth_hz: float = 0.0
    again: bool = False

    @property
    def power_w(self) -> float:
        """Mean power, W."""
        return self.energy_j / self.duration_s

    @property
    def rate_bps(self) -> float:
        """Mean rate, bit/s."""
        return self.bits / self.duration_s


class FitError(ValueError):
    """The settings do not determine the parameters; the message says what is missing."""


class Estimate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fitted value.

    Attributes:
        value: best estimate.
        low: lower end of the confidence interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """The same estimate times a factor, for another unit."""
        return Estimate(value=self.value * factor, low=self.low * factor, high=self.high * factor)


class PowerFit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """P = P_idle, and P_idle + P_act + slope · g(f) while computing, + c f by the mixed law.

    Attributes:
        law: which function g is. ``"mixed"`` and ``"cubic"``: f³, and the slope is κ in W/Hz³.
            ``"voltage"``: V² f, and the slope is the switched capacitance in F.
        idle_w: P_idle; without the leakage at rest, where the leakage is fitted.
        active_w: P_act.
        slope: κ or C.
        leakage_a: leakage current at 45 °C, A. Times V it is a power that flows in every state; it
            doubles every :data:`LEAKAGE_DOUBLING_K`. ``None`` where voltage or temperature is
            not known.
        linear_w_per_hz: c; ``None`` for the other laws.
        degrees: degrees of freedom.
        residual_percent: root mean square of the relative residuals.
    """

    law: Law
    idle_w: Estimate
    active_w: Estimate
    slope: Estimate
    degrees: int
    residual_percent: float
    leakage_a: Estimate | None = None
    linear_w_per_hz: Estimate | None = None

    def busy_power_w(
        self,
        frequency_hz: float,
        voltage_v: float | None = None,
        temperature_c: float | None = None,
    ) -> float:
        """Fitted power while computing, W.

        Raises:
            FitError: the law needs a voltage or a temperature, and it is not given.
        """
        growth = _activity(self.law, frequency_hz, voltage_v)
        power_w = self.idle_w.value + self.active_w.value + self.slope.value * growth
        if self.linear_w_per_hz is not None:
            power_w += self.linear_w_per_hz.value * frequency_hz
        if self.leakage_a is not None:
            if voltage_v is None or temperature_c is None:
                raise FitError(f"voltage or temperature at {frequency_hz:.4g} Hz is unknown")
            power_w += self.leakage_a.value * voltage_v * _warmth(temperature_c)
        return power_w

    def power_w(self, setting: Setting) -> float:
        """Fitted power of a compute setting, W."""
        return self.busy_power_w(setting.frequency_hz, setting.voltage_v, setting.temperature_c)


def fit_power(settings: Sequence[Setting], law: Law = "cubic") -> PowerFit:
    """Least squares for P_idle, P_act and κ (or C), with c by the mixed law; none below zero.

    Args:
        settings: idle and compute settings; others are ignored, and so are those in which more
            than the frequency was set.
        law: how power grows with frequency. ``"voltage"`` needs the voltage of every compute
            setting. Where every setting has a temperature as well, leakage, which grows with
            temperature, is separated from switching power.

    Raises:
        FitError: there is no idle setting, there are fewer than three frequencies, voltages are
            unknown, or a power is not positive and finite.
    """
    idle, busy = of_activity(settings, "idle"), along_frequency(settings)
    if not idle:
        raise FitError("nothing was measured at rest: P_idle cannot be told from P_act")
    frequencies = [frequency_hz for frequency_hz, _ in by_frequency(busy)]
    if len(frequencies) < 3:
        shown = ", ".join(f"{f / 1e9:g} GHz" for f in frequencies) or "none"
        raise FitError(
            f"compute power is known at {len(frequencies)} frequencies ({shown}); three are needed "
            "to tell P_act from κ and to see whether the law holds"
        )
    if law == "voltage" and any(s.voltage_v is None for s in busy):
        raise FitError("the core voltage of some settings is unknown: only κ f³ can be fitted")
    powers = np.array([s.power_w for s in (*idle, *busy)])
    if not (np.isfinite(powers).all() and (powers > 0).all()):
        raise FitError("a setting has no positive power: the meter did not read")
    growth = np.array([_activity(law, s.frequency_hz, s.voltage_v) for s in busy])
    scale = float(growth.max())
    design = np.zeros((len(powers), 3))
    design[:, 0] = 1.0
    design[len(idle) :, 1] = 1.0
    design[len(idle) :, 2] = growth / scale
    leaking = _leaking((*idle, *busy)) if law == "voltage" else None
    if leaking is not None:
        design = np.column_stack([design, leaking])
    highest_hz = max(frequencies)
    if law == "mixed":
        linear = np.zeros(len(powers))
        linear[len(idle) :] = [s.frequency_hz / highest_hz for s in busy]
        design = np.column_stack([design, linear])
    estimates, degrees, residual = non_negative(design, powers, 1.0 / powers)
    return PowerFit(
        law=law,
        idle_w=estimates[0],
        active_w=estimates[1],
        slope=estimates[2].scaled(1.0 / scale),
        degrees=degrees,
        residual_percent=100.0 * residual,
        leakage_a=estimates[3] if leaking is not None else None,
        linear_w_per_hz=estimates[3].scaled(1.0 / highest_hz) if law == "mixed" else None,
    )


def fit_cycles(settings: Sequence[Setting]) -> Estimate:
    """C: the mean of time × frequency / samples over the compute settings.

    Raises:
        FitError: there are fewer than two compute settings, or one has no samples.
    """
    busy = along_frequency(settings)
    if len(busy) < 2 or any(s.samples < 1 for s in busy):
        raise FitError("cycles per sample need at least two compute settings with samples")
    return mean_of(_cycles(busy))


def cycles_trend(settings: Sequence[Setting]) -> float:
    """How many more cycles a sample takes at the highest than at the lowest frequency.

    Relative, dimensionless. It is well above zero where memory limits the speed, because memory
    does not become faster with the CPU's frequency.
    """
    busy = along_frequency(settings)
    frequency = np.array([s.frequency_hz for s in busy])
    cycles = _cycles(busy)
    span_hz = float(frequency.max() - frequency.min())
    if span_hz <= 0.0:
        return 0.0
    slope = np.polyfit((frequency - frequency.mean()) / span_hz, cycles, 1)[0]
    return float(slope / cycles.mean())


def _cycles(busy: Sequence[Setting]) -> Array:
    """Cycles per sample of each compute setting."""
    return np.array([s.duration_s * s.frequency_hz / s.samples for s in busy])


def _leaking(settings: Sequence[Setting]) -> Array | None:
    """What each setting draws per ampere of leakage, V; ``None`` where that is not known.

    A board at rest is taken to be at its lowest voltage.
    """
    temperatures = complete(s.temperature_c for s in settings)
    if not temperatures or max(temperatures) - min(temperatures) < LEAST_WARMING_K:
        return None
    floor_v = min(s.voltage_v for s in settings if s.voltage_v is not None)
    volts = complete(s.voltage_v if s.activity == "compute" else floor_v for s in settings)
    return np.array([v * _warmth(t) for v, t in zip(volts, temperatures, strict=True)])


def _warmth(temperature_c: float) -> float:
    """Leakage at a temperature, relative to that at 45 °C."""
    return math.pow(2.0, (temperature_c - 45.0) / LEAKAGE_DOUBLING_K)


def _activity(law: str, frequency_hz: float, voltage_v: float | None) -> float:
    if law != "voltage":
        return frequency_hz**3
    if voltage_v is None:
        raise FitError(f"the core voltage at {frequency_hz:.4g} Hz is unknown")
    return voltage_v**2 * frequency_hz


def by_frequency(busy: Sequence[Setting]) -> list[tuple[float, list[Setting]]]:
    """Settings grouped by frequency: ascending, neighbours within a percent are one group."""
    groups: list[list[Setting]] = []
    for setting in sorted(busy, key=lambda s: s.frequency_hz):
        if groups and setting.frequency_hz <= 1.01 * groups[-1][-1].frequency_hz:
            groups[-1].append(setting)
        else:
            groups.append([setting])
    return [(math.fsum(s.frequency_hz for s in each) / len(each), each) for each in groups]


def of_activity(settings: Sequence[Setting], activity: Activity) -> list[Setting]:
    """The settings of one activity."""
    return [s for s in settings if s.activity == activity]


def along_frequency(settings: Sequence[Setting]) -> list[Setting]:
    """The compute settings in which the clock of the CPU is all that was set.

    A law of the frequency describes these; fewer cores, a GPU's clock or a power mode are points of
    their own.
    """
    busy = of_activity(settings, "compute")
    return [s for s in busy if s.applied == ComputeSetting(cpu_hz=s.applied.cpu_hz)]


def mean_of(values: Array) -> Estimate:
    """The mean of some values with its confidence interval."""
    count = len(values)
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) / math.sqrt(count)
    reach = student_t.quantile(0.5 + CONFIDENCE / 2.0, count - 1) * spread
    return Estimate(value=mean, low=mean - reach, high=mean + reach)


def non_negative(design: Array, values: Array, weights: Array) -> tuple[list[Estimate], int, float]:
    """Weighted least squares with no coefficient below zero, and confidence intervals.

    There are four columns at most, so every set of free coefficients is tried: the result is exact.
    The interval of a coefficient that ends at zero is that of the free fit, cut off at zero.

    Returns:
        The coefficients, degrees of freedom, root mean square of the weighted residuals.
    """
    a, b = design * weights[:, None], values * weights
    columns = design.shape[1]
    best: tuple[float, Array, tuple[int, ...]] | None = None
    for size in range(columns, 0, -1):
        for chosen in itertools.combinations(range(columns), size):
            found = np.linalg.lstsq(a[:, chosen], b, rcond=None)[0]
            if (found < 0.0).any():
                continue
            whole = np.zeros(columns)
            whole[list(chosen)] = found
            squares = float(np.square(a @ whole - b).sum())
            if best is None or squares < best[0] * (1.0 - 1e-12):
                best = (squares, whole, chosen)
    if best is None:
        raise FitError("no non-negative coefficients fit the readings")
    squares, found, chosen = best
    degrees = max(1, len(b) - len(chosen))
    variance = squares / degrees
    covariance = variance * np.linalg.pinv(a.T @ a)
    reach = student_t.quantile(0.5 + CONFIDENCE / 2.0, degrees) * np.sqrt(np.diag(covariance))
    ends = (found, np.maximum(found - reach, 0.0), found + reach)
    rows = np.column_stack(ends).tolist()
    estimates = [Estimate(value=value, low=low, high=high) for value, low, high in rows]
    return estimates, degrees, math.sqrt(squares / len(b))

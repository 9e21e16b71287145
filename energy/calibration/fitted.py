"""Cost parameters of a board from a sweep, with their confidence intervals.

* :class:`Calibration`    the result: points, parameters, errors, notes
* :func:`analyse`         makes the result from the settings of
  :mod:`fimi.energy.calibration.sweep`
* :func:`analyse_sweep`   the same of a whole sweep, or of one that ended early
* :func:`calibrated`      a :class:`~fimi.energy.cost_model.BoardModel` with the fitted values in it

A value that could not be measured has no default: it is missing, and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.calibration.fit import (
    Estimate,
    FitError,
    PowerFit,
    Setting,
    along_frequency,
    cycles_trend,
    fit_cycles,
    fit_power,
    mean_of,
    of_activity,
)
from fimi.energy.calibration.held_out import held_out_error, mape_percent, repeat_error
from fimi.energy.calibration.monotone import in_order
from fimi.energy.calibration.points import MeasuredPoint, compute_point, measured_points
from fimi.energy.calibration.radio_fit import RadioFit, fit_radio, fit_receive
from fimi.energy.calibration.sweep import Swept
from fimi.energy.calibration.sweep_plan import CalibrationImpossibleError
from fimi.energy.compute_points import never_chosen
from fimi.energy.cost_model import Between, BoardModel, ComputeSetting
from fimi.energy.hardware import HardwareDescription

MEMORY_BOUND = 0.1
"""Relative growth of C from the lowest to the highest frequency above which a note is written."""
HELD_STILL = 0.7
"""Share of the growth that C has where a sample takes the same time at every frequency. Above it a
note says that the frequency makes no difference."""
TRUSTED_PERCENT = 10.0
"""Mean held-out error above which a note says that the profile cannot be relied on, percent."""
LEAST_KAPPA = 1e-33
"""Stands for a κ of zero, which a cost model does not have, W/Hz³: 1e-5 W at 2 GHz."""


class Calibration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cost parameters that were fitted to a sweep, and how well they predict.

    Attributes:
        hardware: board and meter.
        settings: the settings as measured.
        idle_w: P_idle.
        points: the measured operating points.
        power: the law: P_idle, P_act, c, κ; ``None`` where it cannot be fitted.
        cubic: the same without c.
        voltage: the same with V² f, where the voltages are known; with the leakage, where the
            temperature of the processor is known too.
        cycles: C.
        cycles_trend: growth of C over the frequencies, relative.
        radio: electronics and joules per bit; ``None`` where nothing was sent.
        receive_w: extra power while receiving; ``None`` where nothing was received.
        channel_gain: h, where bandwidth and power of the uploads were set.
        downlink_bps: rate of receiving, bit/s.
        held_out: signed relative error of the joules of every frequency, predicted by the law from
            the others.
        held_out_cubic: the same without c.
        held_out_voltage: the same with V² f.
        held_out_table: the same with a straight line through the neighbouring frequencies.
        repeats: relative error of the joules of every point, predicted from its other
            measurements.
        never_chosen: why no plan will choose a point, by its name.
        notes: warnings for the reader, one sentence each.
        between_points: what predicts at speeds between the measured ones: the one of law and table
            with the smaller mean held-out error.
        fixed_hz: the clock of a processor that does not follow what is set, Hz; ``None`` if it
            follows.
        stopped: why the sweep ended before all was measured; empty if it did not.
    """

    hardware: HardwareDescription
    settings: tuple[Setting, ...]
    idle_w: Estimate
    points: tuple[MeasuredPoint, ...]
    power: PowerFit | None
    cubic: PowerFit | None
    voltage: PowerFit | None
    cycles: Estimate
    cycles_trend: float
    radio: RadioFit | None
    receive_w: Estimate | None
    channel_gain: Estimate | None
    downlink_bps: float | None
    held_out: dict[float, float]
    held_out_cubic: dict[float, float]
    held_out_voltage: dict[float, float]
    held_out_table: dict[float, float]
    repeats: dict[str, float]
    never_chosen: dict[str, str]
    notes: tuple[str, ...]
    between_points: Between = "table"
    fixed_hz: float | None = None
    stopped: str = ""

    @property
    def choice(self) -> str:
        """Whether law or table predicts between the measured points, and why, as a sentence.

        Empty where there is one point, and nothing between.
        """
        if len(self.points) < 2:
            return ""
        if not self.held_out_table or not self.held_out:
            why = "there are too few frequencies to hold one out and compare it with the law"
            if self.power is None:
                why = "there is no law of what was measured"
            return f"Between measured points predictions use the table: {why}."
        table, law = (mape_percent(list(e.values())) for e in (self.held_out_table, self.held_out))
        errors = {"table": table, "law": law}
        other = "law" if self.between_points == "table" else "table"
        why = "" if self.power is not None else "; the law itself could not be told from a constant"
        return (
            f"Between measured points predictions use the {self.between_points}: the joules of a "
            f"frequency that was held out are wrong by {errors[self.between_points]:.2g} % on "
            f"average, by the {other} {errors[other]:.2g} %{why}."
        )


def analyse_sweep(swept: Swept, hardware: HardwareDescription, board: BoardModel) -> Calibration:
    """Fit what a sweep has measured; see :func:`analyse`."""
    found = analyse(swept.settings, hardware, board, notes=swept.notes)
    return replace(found, fixed_hz=swept.fixed_hz, stopped=swept.stopped)


def analyse(
    settings: Sequence[Setting],
    hardware: HardwareDescription,
    board: BoardModel,
    *,
    notes: Sequence[str] = (),
) -> Calibration:
    """Fit what was measured.

    Args:
        settings: result of :func:`fimi.energy.calibration.sweep.sweep`.
        hardware: board and meter.
        board: the cost model whose noise density was in force during uploads.
        notes: those of the sweep; others are added.

    Raises:
        CalibrationImpossibleError: the settings do not determine the parameters.
    """
    said = list(notes)
    power, cubic, why = _law(settings)
    if why:
        said.append(why)
    try:
        idle_w = power.idle_w if power is not None else _idle(settings)
        points, unordered = in_order(measured_points(settings, idle_w))
        cycles = _cycles(settings)
    except FitError as error:
        raise CalibrationImpossibleError([str(error)]) from error
    voltage = None
    line = along_frequency(settings)
    if power is not None and all(s.voltage_v is not None for s in line):
        voltage = fit_power(settings, "voltage")
    trend = cycles_trend(settings) if line else 0.0
    said += _pace(line, trend)
    said += unordered
    if hardware.meter.scope in ("cpu", "module"):
        said.append(
            f"the meter sees the {hardware.meter.scope} only: P_idle is that of the "
            f"{hardware.meter.scope}, not of the board"
        )
    radio = receive = None
    if any(s.activity == "send" for s in settings):
        try:
            radio = fit_radio(settings, idle_w.value)
        except FitError as error:
            said.append(f"radio: {error}")
    received = [s for s in settings if s.activity == "receive"]
    if received:
        try:
            receive = fit_receive(settings, idle_w.value)
        except FitError as error:
            said.append(f"receiving: {error}")
    held_out_table = held_out_error(settings, "table")
    if held_out_table and mape_percent(list(held_out_table.values())) > TRUSTED_PERCENT:
        said.append(
            f"not even the measured table predicts what was held out within {TRUSTED_PERCENT:g} %: "
            "do not rely on this profile. Measure longer (--seconds, --repeats), with nothing else "
            "running and a finer meter"
        )
    held_out = held_out_error(settings, "mixed")
    return Calibration(
        hardware=hardware,
        settings=tuple(settings),
        idle_w=idle_w,
        points=points,
        power=power,
        cubic=cubic,
        voltage=voltage,
        cycles=cycles,
        cycles_trend=trend,
        radio=radio,
        receive_w=receive,
        channel_gain=None,
        downlink_bps=float(np.mean([s.rate_bps for s in received])) if received else None,
        held_out=held_out,
        held_out_cubic=held_out_error(settings, "cubic"),
        held_out_voltage=held_out_error(settings, "voltage") if voltage else {},
        held_out_table=held_out_table,
        repeats=repeat_error(settings),
        never_chosen=never_chosen([compute_point(point) for point in points]),
        notes=tuple(said),
        between_points=_between(held_out, held_out_table, power),
    )


def _between(
    law: Mapping[float, float], table: Mapping[float, float], power: PowerFit | None
) -> Between:
    """The one with the smaller held-out error; the table where that is not known of both."""
    if power is None or not law or not table:
        return "table"
    law_percent, table_percent = (mape_percent(list(each.values())) for each in (law, table))
    return "law" if law_percent < table_percent else "table"


def _law(settings: Sequence[Setting]) -> tuple[PowerFit | None, PowerFit | None, str]:
    """The law with and without c; or why there is none, as a sentence."""
    if not along_frequency(settings):
        return (
            None,
            None,
            "no law, operating points only: at no point the CPU frequency is all that is set",
        )
    try:
        power, cubic = fit_power(settings, "mixed"), fit_power(settings, "cubic")
    except FitError as error:
        return None, None, f"no law, operating points only: {error}"
    if cubic.slope.low <= 0.0:
        return (
            None,
            None,
            "no law, operating points only: a power that grows with the frequency is not seen, κ = "
            f"{cubic.slope.value:.3g} (from {cubic.slope.low:.3g} to {cubic.slope.high:.3g}) "
            "W/Hz³ cannot be told from zero. The meter may be too coarse, the settings too "
            "short, or the frequency was not really changed",
        )
    return power, cubic, ""


def _idle(settings: Sequence[Setting]) -> Estimate:
    """P_idle without a law: the mean of what was measured at rest.

    Of one setting, as where the sweep was stopped, the interval is two of the meter's own standard
    deviations.

    Raises:
        FitError: there is no such setting, or the meter did not read.
    """
    idle = of_activity(settings, "idle")
    watts = np.array([s.power_w for s in idle])
    if not len(watts) or not (np.isfinite(watts).all() and (watts > 0).all()):
        raise FitError("the power at rest needs a setting in which the meter reads a power")
    if len(watts) > 1:
        return mean_of(watts)
    reach = 2.0 * idle[0].uncertainty_j / idle[0].duration_s
    mean = float(watts[0])
    return Estimate(value=mean, low=max(0.0, mean - reach), high=mean + reach)


def _cycles(settings: Sequence[Setting]) -> Estimate:
    """C along the frequency; where nothing was measured along it, over all points."""
    try:
        return fit_cycles(settings)
    except FitError:
        return fit_cycles([replace(s, applied=ComputeSetting()) for s in settings])


def _pace(busy: Sequence[Setting], trend: float) -> list[str]:
    """Notes where cycles per sample are not the same at every frequency."""
    if trend <= MEMORY_BOUND:
        return []
    frequencies = [s.frequency_hz for s in busy]
    low_hz, high_hz = min(frequencies), max(frequencies)
    # If the time does not depend on the frequency, C grows in proportion to the frequency.
    if trend > HELD_STILL * (high_hz - low_hz) / float(np.mean(frequencies)):
        return [
            f"a sample takes about as long at {low_hz / 1e9:.3g} as at {high_hz / 1e9:.3g} GHz: "
            "the cap does not slow this processor down, or memory alone sets the pace"
        ]
    return [
        f"a sample takes {trend:.0%} more cycles at the highest than at the lowest frequency: "
        "memory sets the pace, so C is a mean over the frequencies"
    ]


def calibrated(calibration: Calibration, board: BoardModel) -> BoardModel:
    """``board`` with every value that was measured; frequencies and limits stay.

    The measured operating points are what plans and predictions use; the law stands beside them.
    Where no law could be fitted, its required κ is such that κ f³ is the power of the fastest point
    at the highest frequency. A clock that does not follow what is set is fixed.
    """
    fitted = {"receive_power_w": calibration.receive_w, "channel_gain": calibration.channel_gain}
    if (radio := calibration.radio) is not None:
        fitted["electronics_power_w"] = radio.electronics_w
        fitted["energy_per_bit_j"] = radio.energy_per_bit_j
    found = {name: each.value for name, each in fitted.items() if each is not None}
    if calibration.downlink_bps is not None:
        found["downlink_rate_bps"] = calibration.downlink_bps
    points = tuple(compute_point(point) for point in calibration.points)
    law = calibration.power
    if law is not None:
        kappa, active_w = law.slope.value, law.active_w.value
        linear = law.linear_w_per_hz.value if law.linear_w_per_hz is not None else 0.0
    else:
        top_hz = calibration.fixed_hz or board.compute.frequency_max_hz
        kappa, active_w, linear = points[-1].power_w / top_hz**3, 0.0, 0.0
    compute = board.compute
    if (fixed_hz := calibration.fixed_hz) is not None:
        compute = replace(
            compute, frequency_min_hz=fixed_hz, frequency_max_hz=fixed_hz, frequency_steps_hz=()
        )
    return replace(
        board,
        compute=replace(
            compute,
            points=points,
            between_points=calibration.between_points,
            cycles_per_sample=calibration.cycles.value,
            capacitance_w_per_hz3=max(kappa, LEAST_KAPPA),
            active_power_w=active_w,
            linear_power_w_per_hz=linear,
        ),
        link=replace(board.link, **found),
        idle_power_w=calibration.idle_w.value,
    )

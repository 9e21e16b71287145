"""Cost parameters of a board from a sweep, with their confidence intervals.

* :class:`Calibration`    the result: parameters, errors, notes
* :func:`analyse`         makes it from the settings of :mod:`fimi.energy.calibration.sweep`
* :func:`calibrated`      a :class:`~fimi.energy.cost_model.BoardModel` with the fitted values in it

A value that could not be measured has no default: it is missing, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.calibration.fit import (
    Estimate,
    FitError,
    PowerFit,
    Setting,
    by_frequency,
    cycles_trend,
    fit_cycles,
    fit_power,
    of_activity,
    power_table,
)
from fimi.energy.calibration.held_out import held_out_error, mape_percent
from fimi.energy.calibration.radio_fit import RadioFit, fit_radio, fit_receive
from fimi.energy.calibration.sweep import CalibrationImpossibleError
from fimi.energy.cost_model import BoardModel, ComputePoint, ComputeSetting
from fimi.energy.hardware import HardwareDescription

MEMORY_BOUND = 0.1
"""Relative growth of C from the lowest to the highest frequency above which a note is written."""
HELD_STILL = 0.7
"""Share of the growth that C has where a sample takes the same time at every frequency. Above it a
note says that the frequency makes no difference."""
TRUSTED_PERCENT = 10.0
"""Mean held-out error above which a note says that the profile cannot be relied on, percent."""


class Calibration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cost parameters that were fitted to a sweep, and how well they predict.

    Attributes:
        hardware: board and meter.
        settings: the settings as measured.
        power: P_idle, P_act, κ.
        voltage: the same with V² f, where the voltages are known; with the leakage, where the
            temperature of the processor is known too.
        cycles: C.
        cycles_trend: growth of C over the frequencies, relative.
        radio: electronics and joules per bit; ``None`` where nothing was sent.
        receive_w: extra power while receiving; ``None`` where nothing was received.
        channel_gain: h, where bandwidth and power of the uploads were set.
        downlink_bps: rate of receiving, bit/s.
        held_out: signed relative error of the joules of every frequency, predicted from the
            others.
        held_out_voltage: the same with V² f.
        held_out_table: the same with a straight line through the neighbouring frequencies.
        notes: warnings for the reader, one sentence each.
    """

    hardware: HardwareDescription
    settings: tuple[Setting, ...]
    power: PowerFit
    voltage: PowerFit | None
    cycles: Estimate
    cycles_trend: float
    radio: RadioFit | None
    receive_w: Estimate | None
    channel_gain: Estimate | None
    downlink_bps: float | None
    held_out: dict[float, float]
    held_out_voltage: dict[float, float]
    held_out_table: dict[float, float]
    notes: tuple[str, ...]


def analyse(
    settings: Sequence[Setting], hardware: HardwareDescription, board: BoardModel
) -> Calibration:
    """Fit what was measured.

    Args:
        settings: result of :func:`fimi.energy.calibration.sweep.sweep`.
        hardware: board and meter.
        board: the cost model whose noise density was in force during uploads.

    Raises:
        CalibrationImpossibleError: the settings do not determine the parameters.
    """
    try:
        power, cycles = fit_power(settings), fit_cycles(settings)
    except FitError as error:
        raise CalibrationImpossibleError([str(error)]) from error
    if power.slope.low <= 0.0:
        raise CalibrationImpossibleError(
            [
                "a power that grows with the frequency: κ = "
                f"{power.slope.value:.3g} (from {power.slope.low:.3g} to {power.slope.high:.3g}) "
                "W/Hz³ cannot be told from zero. The meter may be too coarse, the settings too "
                "short, or the frequency was not really changed"
            ]
        )
    voltage = None
    if all(s.voltage_v is not None for s in settings if s.activity == "compute"):
        voltage = fit_power(settings, "voltage")
    trend = cycles_trend(settings)
    notes = _pace(settings, trend)
    if hardware.meter.scope in ("cpu", "module"):
        notes.append(
            f"the meter sees the {hardware.meter.scope} only: P_idle is that of the "
            f"{hardware.meter.scope}, not of the board"
        )
    radio = receive = None
    if any(s.activity == "send" for s in settings):
        try:
            radio = fit_radio(settings, power.idle_w.value)
        except FitError as error:
            notes.append(f"radio: {error}")
    received = [s for s in settings if s.activity == "receive"]
    if received:
        try:
            receive = fit_receive(settings, power.idle_w.value)
        except FitError as error:
            notes.append(f"receiving: {error}")
    held_out_table = held_out_error(settings, "table")
    if held_out_table and mape_percent(list(held_out_table.values())) > TRUSTED_PERCENT:
        notes.append(
            f"not even the measured table predicts what was held out within {TRUSTED_PERCENT:g} %: "
            "do not rely on this profile. Measure longer (--seconds, --repeats), with nothing else "
            "running and a finer meter"
        )
    return Calibration(
        hardware=hardware,
        settings=tuple(settings),
        power=power,
        voltage=voltage,
        cycles=cycles,
        cycles_trend=trend,
        radio=radio,
        receive_w=receive,
        channel_gain=None,
        downlink_bps=float(np.mean([s.rate_bps for s in received])) if received else None,
        held_out=held_out_error(settings),
        held_out_voltage=held_out_error(settings, "voltage") if voltage else {},
        held_out_table=held_out_table,
        notes=tuple(notes),
    )


def _pace(settings: Sequence[Setting], trend: float) -> list[str]:
    """Notes where cycles per sample are not the same at every frequency."""
    if trend <= MEMORY_BOUND:
        return []
    frequencies = [s.frequency_hz for s in settings if s.activity == "compute"]
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

    The measured operating points are what plans and predictions use; κ and P_act stand beside them.
    """
    fitted = {"receive_power_w": calibration.receive_w, "channel_gain": calibration.channel_gain}
    if (radio := calibration.radio) is not None:
        fitted["electronics_power_w"] = radio.electronics_w
        fitted["energy_per_bit_j"] = radio.energy_per_bit_j
    found = {name: each.value for name, each in fitted.items() if each is not None}
    if calibration.downlink_bps is not None:
        found["downlink_rate_bps"] = calibration.downlink_bps
    busy = by_frequency(of_activity(calibration.settings, "compute"))
    _, table_w = power_table(calibration.settings, calibration.power.idle_w.value)
    points = tuple(
        ComputePoint(
            name=f"{frequency_hz / 1e9:.4g} GHz",
            seconds_per_sample=sum(s.duration_s for s in group) / sum(s.samples for s in group),
            power_w=power_w,
            setting=ComputeSetting(cpu_hz={"all": frequency_hz}),
        )
        for (frequency_hz, group), power_w in zip(busy, table_w, strict=True)
    )
    return replace(
        board,
        compute=replace(
            board.compute,
            points=points,
            cycles_per_sample=calibration.cycles.value,
            capacitance_w_per_hz3=calibration.power.slope.value,
            active_power_w=calibration.power.active_w.value,
        ),
        link=replace(board.link, **found),
        idle_power_w=calibration.power.idle_w.value,
    )

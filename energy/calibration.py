"""Calibrating a board: sweep frequencies, load and traffic, fit, say how sure the result is.

* :class:`Load`           makes a board rest, compute, send and receive: real work or emulated
* :class:`SweepPlan`      which settings, for how long, how often
* :func:`check`           what is missing for a calibration of this board, before anything is run
* :func:`sweep`           runs the settings; whatever happens, the board is put back as it was
* :func:`analyse`         settings to :class:`Calibration`
* :func:`calibrated`      a :class:`~energy.cost_model.BoardModel` with the fitted values in it

There is no default for a value that could not be measured: it is missing, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from energy.calibration_fit import (
    Activity,
    Estimate,
    FitError,
    PowerFit,
    RadioFit,
    Setting,
    cycles_trend,
    fit_cycles,
    fit_power,
    fit_radio,
    fit_receive,
    held_out_error,
    power_table,
)
from energy.cost_model import BoardModel, OperatingPoint, Phase
from energy.hardware import Hardware, HardwareDescription
from energy.ledger import Ledger, PhaseRecord

MEMORY_BOUND = 0.1
"""Growth of C from the lowest to the highest frequency that is worth a word."""


class CalibrationImpossibleError(RuntimeError):
    """This board cannot be calibrated.

    Attributes:
        missing: one sentence for each thing that is missing.
    """

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            "this board cannot be calibrated:\n" + "\n".join(f"- {m}" for m in missing)
        )
        self.missing = tuple(missing)


class CalibrationAbortedError(RuntimeError):
    """The sweep was stopped; the board is as it was, nothing was written."""


class Load(Protocol):
    """What a sweep makes a board do. Each takes about ``duration_s``, or ends early if stopped."""

    def begin(self, number: int) -> None:
        """A new setting begins."""
        ...

    def rest(self, duration_s: float) -> None:
        """Do nothing."""
        ...

    def compute(self, duration_s: float) -> int:
        """Train; returns samples."""
        ...

    def send(self, duration_s: float) -> float:
        """Send as fast as the rate in force allows; returns bits."""
        ...

    def receive(self, duration_s: float) -> float:
        """Receive; returns bits."""
        ...


class SweepPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which settings to measure.

    Attributes:
        frequencies_hz: at which to compute.
        uploads: operating points at which to send; none: no radio fit.
        receives: whether to receive as well.
        seconds: metered time of a setting.
        settle_s: time before it in which the board already does the same, unmetered.
        repeats: how often everything is measured; odd ones in opposite order, so that warming up
            does not look like a dependence on frequency.
    """

    frequencies_hz: tuple[float, ...]
    uploads: tuple[OperatingPoint, ...] = ()
    receives: bool = False
    seconds: float = 10.0
    settle_s: float = 3.0
    repeats: int = 2

    @property
    def total_s(self) -> float:
        """How long the sweep takes, s."""
        return len(_tasks(self)) * (self.seconds + self.settle_s)


class Progress(Struct, frozen=True, kw_only=True):
    """Where a sweep stands.

    Attributes:
        done: settings measured.
        total: settings in all.
        left_s: time left on the board's clock, s.
        doing: what comes next, or what was found.
    """

    done: int
    total: int
    left_s: float
    doing: str


class Calibration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a sweep has found.

    Attributes:
        hardware: board and meter.
        settings: as measured.
        power: P_idle, P_act, κ.
        voltage: the same with V² f, where the voltages are known.
        cycles: C.
        cycles_trend: growth of C over the frequencies, relative.
        radio: electronics and joules per bit; ``None`` where nothing was sent.
        receive_w: extra power while receiving; ``None`` where nothing was received.
        channel_gain: h, where bandwidth and power of the uploads were set.
        downlink_bps: rate of receiving.
        held_out: frequency to signed relative error of its joules, predicted from the others.
        held_out_voltage: the same with V² f.
        held_out_table: the same straight through the neighbouring frequencies.
        notes: what a reader must know.
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


def check(hardware: Hardware, plan: SweepPlan) -> tuple[str, ...]:
    """What is missing to calibrate this board: empty if nothing is.

    Sets the lowest and the highest frequency for a moment and puts the board back.
    """
    missing = []
    meter = hardware.describe().meter
    if meter.kind == "modelled":
        missing.append(
            f"a meter: joules of {meter.source} are declared, not read, and say nothing about "
            "frequency or traffic. Connect one (INA board, USB meter, plug) or open RAPL"
        )
    if len(set(plan.frequencies_hz)) < 3:
        missing.append(
            f"frequencies: {len(set(plan.frequencies_hz))} can be set, three are needed to tell "
            "P_act from κ"
        )
    elif plan.frequencies_hz:
        ends = (min(plan.frequencies_hz), max(plan.frequencies_hz))
        try:
            found = [hardware.apply(_point(f, hardware.model())) for f in ends]
        finally:
            hardware.restore()
        if any(a.frequency_control == "none" or a.frequency_hz is None for a in found):
            why = "; ".join(dict.fromkeys(n for a in found for n in a.notes if "uplink" not in n))
            missing.append(f"control over the CPU frequency{': ' + why if why else ''}")
        elif found[0].frequency_hz == found[1].frequency_hz:
            missing.append(
                f"control over the CPU frequency: it reads back {found[0].frequency_hz:.4g} Hz "
                f"whether {ends[0]:.4g} or {ends[1]:.4g} Hz is set"
            )
    return tuple(missing)


def sweep(
    hardware: Hardware,
    load: Load,
    plan: SweepPlan,
    *,
    voltage_v: Callable[[float], float | None] = lambda frequency_hz: None,
    progress: Callable[[Progress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Setting, ...]:
    """Measure every setting of a plan.

    Args:
        hardware: the board.
        load: makes it work.
        plan: what to measure.
        voltage_v: core voltage at a frequency, where known.
        progress: called before every setting and at the end.
        cancelled: asked all the time.

    Raises:
        CalibrationImpossibleError: :func:`check` finds something missing, or the meter stays
            silent.
        CalibrationAbortedError: ``cancelled``.
    """
    if missing := check(hardware, plan):
        raise CalibrationImpossibleError(missing)
    tasks, settings = _tasks(plan), []
    each_s = plan.seconds + plan.settle_s
    ledger = Ledger(hardware.clock, hardware.recorder)
    hardware.join_fleet(hardware.clock.now_s())
    try:
        for number, (activity, wanted) in enumerate(tasks):
            progress(
                Progress(
                    done=number,
                    total=len(tasks),
                    left_s=each_s * (len(tasks) - number),
                    doing=_words(activity, wanted),
                )
            )
            load.begin(number + 1)
            point = _point(wanted, hardware.model()) if isinstance(wanted, float) else wanted
            applied = hardware.apply(point)
            _work(load, activity, plan.settle_s)
            _stop_if(cancelled)
            hardware.observed()  # what it did until now does not count
            with ledger.phase(_PHASES[activity]):
                amount = _work(load, activity, plan.seconds)
            (record,) = ledger.take()
            _stop_if(cancelled)
            achieved_hz = hardware.observed().frequency_hz if activity == "compute" else None
            frequency_hz = achieved_hz or applied.frequency_hz or point.frequency_hz
            settings.append(
                _setting(activity, point, record, amount, frequency_hz, voltage_v(frequency_hz))
            )
        progress(Progress(done=len(tasks), total=len(tasks), left_s=0.0, doing="fitting"))
    finally:
        hardware.restore()
    return tuple(settings)


def analyse(
    settings: Sequence[Setting], hardware: HardwareDescription, board: BoardModel
) -> Calibration:
    """Fit what was measured.

    Args:
        settings: from :func:`sweep`.
        hardware: board and meter.
        board: whose noise density and, for uploads, bandwidths were in force.

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
    notes = []
    voltage = None
    if all(s.voltage_v is not None for s in settings if s.activity == "compute"):
        voltage = fit_power(settings, "voltage")
    trend = cycles_trend(settings)
    if trend > MEMORY_BOUND:
        notes.append(
            f"a sample takes {trend:.0%} more cycles at the highest than at the lowest frequency: "
            "memory sets the pace, so C is a mean over the frequencies"
        )
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
        held_out_table=held_out_error(settings, "table"),
        notes=tuple(notes),
    )


def calibrated(calibration: Calibration, board: BoardModel) -> BoardModel:
    """``board`` with every value that was measured; frequencies and limits stay.

    Predictions follow the measured table; κ and P_act are what the optimiser needs.
    """
    radio, link = calibration.radio, board.link
    if radio is not None:
        link = replace(
            link,
            electronics_power_w=radio.electronics_w.value,
            energy_per_bit_j=radio.energy_per_bit_j.value,
        )
    if calibration.receive_w is not None:
        link = replace(link, receive_power_w=calibration.receive_w.value)
    if calibration.downlink_bps is not None:
        link = replace(link, downlink_rate_bps=calibration.downlink_bps)
    if calibration.channel_gain is not None:
        link = replace(link, channel_gain=calibration.channel_gain.value)
    table_hz, table_w = power_table(calibration.settings, calibration.power.idle_w.value)
    return replace(
        board,
        compute=replace(
            board.compute,
            table_frequencies_hz=table_hz,
            table_power_w=table_w,
            cycles_per_sample=calibration.cycles.value,
            capacitance_w_per_hz3=calibration.power.slope.value,
            active_power_w=calibration.power.active_w.value,
        ),
        link=link,
        idle_power_w=calibration.power.idle_w.value,
    )


def spread(frequencies_hz: Sequence[float], count: int) -> tuple[float, ...]:
    """At most ``count`` of these frequencies, the ends included, evenly over their order."""
    ordered = sorted(set(frequencies_hz))
    if len(ordered) <= count:
        return tuple(ordered)
    places = np.linspace(0, len(ordered) - 1, count).round().astype(int)
    return tuple(ordered[place] for place in dict.fromkeys(places.tolist()))


_PHASES: dict[Activity, Phase] = {
    "idle": "idle",
    "compute": "compute",
    "send": "upload",
    "receive": "model-download",
}


def _tasks(plan: SweepPlan) -> list[tuple[Activity, float | OperatingPoint]]:
    lowest_hz = min(plan.frequencies_hz, default=1.0)
    once: list[tuple[Activity, float | OperatingPoint]] = [("idle", lowest_hz)]
    once += [("compute", f) for f in plan.frequencies_hz]
    once += [("send", point) for point in plan.uploads]
    once += [("receive", lowest_hz)] if plan.receives else []
    once += [("idle", lowest_hz)]
    return [task for k in range(plan.repeats) for task in (once[::-1] if k % 2 else once)]


def _work(load: Load, activity: Activity, duration_s: float) -> float:
    if duration_s <= 0.0:
        return 0.0
    if activity == "idle":
        load.rest(duration_s)
        return 0.0
    if activity == "compute":
        return load.compute(duration_s)
    return load.send(duration_s) if activity == "send" else load.receive(duration_s)


def _setting(
    activity: Activity,
    point: OperatingPoint,
    record: PhaseRecord,
    amount: float,
    frequency_hz: float,
    voltage_v: float | None,
) -> Setting:
    if record.energy is None or record.duration_s <= 0.0:
        raise CalibrationImpossibleError(
            [f"readings: the meter said nothing while the board was to {_words(activity, point)}"]
        )
    return Setting(
        activity=activity,
        frequency_hz=frequency_hz,
        duration_s=record.duration_s,
        energy_j=record.energy.value_j,
        uncertainty_j=record.energy.uncertainty_j,
        samples=int(amount) if activity == "compute" else 0,
        bits=amount if activity in ("send", "receive") else 0.0,
        transmit_power_w=point.transmit_power_w if activity == "send" else 0.0,
        voltage_v=voltage_v,
    )


def _point(frequency_hz: float | OperatingPoint, board: BoardModel) -> OperatingPoint:
    if isinstance(frequency_hz, OperatingPoint):
        return frequency_hz
    return OperatingPoint(
        frequency_hz=frequency_hz,
        bandwidth_hz=1e6,
        transmit_power_w=board.link.transmit_power_max_w,
        time_split=0.5,
    )


def _words(activity: Activity, wanted: float | OperatingPoint) -> str:
    if activity == "compute" and isinstance(wanted, float):
        return f"compute at {wanted / 1e9:.3g} GHz"
    return {"idle": "rest", "send": "send", "receive": "receive", "compute": "compute"}[activity]


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise CalibrationAbortedError("stopped; the board is as it was, nothing was written")

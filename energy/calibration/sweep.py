"""Sweeping a board: frequencies, load and traffic, each metered for some seconds.

* :class:`Load`           makes a board rest, compute, send and receive: real work or emulated
* :class:`SweepPlan`      which settings, for how long, how often
* :func:`check`           what is missing for a calibration of this board, before anything is run
* :func:`sweep`           runs the settings; whatever happens, the board is restored

:mod:`fimi.energy.calibration.fitted` finds the board's cost parameters from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from fimi.energy.calibration.fit import Activity, Setting
from fimi.energy.cost_model import BoardModel, OperatingPoint, Phase
from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Ledger


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
    """The sweep was stopped; the board was restored and nothing was written."""


class Load(Protocol):
    """Makes a board work. Each method takes about ``duration_s``, or ends early if stopped."""

    def begin(self, number: int) -> None:
        """A new setting begins."""

    def rest(self, duration_s: float) -> None:
        """Do nothing."""

    def compute(self, duration_s: float) -> int:
        """Train; returns samples."""

    def send(self, duration_s: float) -> float:
        """Send as fast as the rate in force allows; returns bits."""

    def receive(self, duration_s: float) -> float:
        """Receive; returns bits."""


class SweepPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which settings to measure.

    Attributes:
        frequencies_hz: frequencies at which to compute.
        uploads: operating points at which to send; if empty, the radio is not fitted.
        receives: whether to receive as well.
        seconds: metered time of a setting, s.
        settle_s: time before it in which the board already does the same, unmetered, s.
        repeats: how often everything is measured. Every second pass runs in opposite order, so
            that warming up does not look like a dependence on frequency.
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


class SweepProgress(Struct, frozen=True, kw_only=True):
    """The progress of a sweep.

    Attributes:
        done: settings measured.
        total: settings in all.
        left_s: time left on the board's clock, s.
        doing: the next setting, or the last result.
    """

    done: int
    total: int
    left_s: float
    doing: str


def check(hardware: Hardware, plan: SweepPlan) -> tuple[str, ...]:
    """What is missing to calibrate this board: empty if nothing is.

    Sets the lowest and the highest frequency for a moment and restores the board.
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
    progress: Callable[[SweepProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Setting, ...]:
    """Measure every setting of a plan.

    ``voltage_v`` gives the core voltage at a frequency, V, where known. ``progress`` is called
    before every setting and at the end, ``cancelled`` repeatedly; the sweep stops when it is true.

    Raises:
        CalibrationImpossibleError: :func:`check` finds something missing, or the meter gives no
            reading.
        CalibrationAbortedError: ``cancelled`` returned true.
    """
    if missing := check(hardware, plan):
        raise CalibrationImpossibleError(missing)
    tasks, settings = _tasks(plan), []
    each_s = plan.seconds + plan.settle_s
    ledger = Ledger(hardware.clock, hardware.recorder)
    hardware.join_fleet(hardware.clock.now_s())
    try:
        for number, (activity, wanted) in enumerate(tasks):
            left_s, doing = each_s * (len(tasks) - number), _words(activity, wanted)
            progress(SweepProgress(done=number, total=len(tasks), left_s=left_s, doing=doing))
            load.begin(number + 1)
            point = _point(wanted, hardware.model())
            applied = hardware.apply(point)
            _work(load, activity, plan.settle_s)
            _stop_if(cancelled)
            hardware.observed()  # discards what was observed before this setting
            with ledger.phase(_PHASES[activity]):
                amount = _work(load, activity, plan.seconds)
            (record,) = ledger.take()
            _stop_if(cancelled)
            seen = hardware.observed()
            achieved_hz = seen.frequency_hz if activity == "compute" else None
            frequency_hz = achieved_hz or applied.frequency_hz or point.frequency_hz
            if record.energy is None or record.duration_s <= 0.0:
                silent = f"the meter said nothing while the board was to {_words(activity, point)}"
                raise CalibrationImpossibleError([f"readings: {silent}"])
            setting = Setting(
                activity=activity,
                frequency_hz=frequency_hz,
                duration_s=record.duration_s,
                energy_j=record.energy.value_j,
                uncertainty_j=record.energy.uncertainty_j,
                samples=int(amount) if activity == "compute" else 0,
                bits=amount if activity in ("send", "receive") else 0.0,
                transmit_power_w=point.transmit_power_w if activity == "send" else 0.0,
                voltage_v=voltage_v(frequency_hz),
                temperature_c=seen.temperature_c,
            )
            settings.append(setting)
        progress(SweepProgress(done=len(tasks), total=len(tasks), left_s=0.0, doing="fitting"))
    finally:
        hardware.restore()
    return tuple(settings)


def spread(frequencies_hz: Sequence[float], count: int) -> tuple[float, ...]:
    """At most ``count`` of these frequencies: both ends, and evenly spaced ones between them."""
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
    """Samples or bits of an activity; 0 for resting."""
    if duration_s <= 0.0:
        return 0.0
    if activity == "idle":
        load.rest(duration_s)
        return 0.0
    do = {"compute": load.compute, "send": load.send, "receive": load.receive}[activity]
    return do(duration_s)


def _point(wanted: float | OperatingPoint, board: BoardModel) -> OperatingPoint:
    if isinstance(wanted, OperatingPoint):
        return wanted
    return OperatingPoint(
        frequency_hz=wanted,
        bandwidth_hz=1e6,
        transmit_power_w=board.link.transmit_power_max_w,
        time_split=0.5,
    )


def _words(activity: Activity, wanted: float | OperatingPoint) -> str:
    if activity == "compute" and isinstance(wanted, float):
        return f"compute at {wanted / 1e9:.3g} GHz"
    return "rest" if activity == "idle" else activity


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise CalibrationAbortedError("stopped; the board is as it was, nothing was written")

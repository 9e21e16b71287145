"""Sweeping a board: operating points, load and traffic, each metered for some seconds.

* :class:`Load`           makes a board rest, compute, send and receive: real work or emulated
* :class:`TrialPoint`     an operating point to measure
* :class:`SweepPlan`      which points, for how long, how often
* :func:`try_out`         the points that this board really comes to, before anything is metered
* :func:`sweep`           measures them; whatever happens, the board is restored

:mod:`fimi.energy.calibration.fitted` finds the board's cost parameters from the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.calibration.fit import Activity, Setting
from fimi.energy.compute_points import name_of
from fimi.energy.control.cpufreq import EVERY_CLUSTER
from fimi.energy.cost_model import BoardModel, ComputeSetting, OperatingPoint, Phase
from fimi.energy.hardware import Applied, Hardware
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

    def begin(self, number: int, setting: ComputeSetting) -> None:
        """A new setting begins, in which this will be set."""

    def rest(self, duration_s: float) -> None:
        """Do nothing."""

    def compute(self, duration_s: float) -> int:
        """Train; returns samples."""

    def send(self, duration_s: float) -> float:
        """Send as fast as the rate in force allows; returns bits."""

    def receive(self, duration_s: float) -> float:
        """Receive; returns bits."""


class TrialPoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An operating point to measure.

    Attributes:
        name: name of the point.
        frequency_hz: clock of the CPU that is expected at it, Hz.
        setting: what is set. A board whose model has a point of this name is asked for that
            point, every other board for the frequency.
    """

    name: str
    frequency_hz: float
    setting: ComputeSetting = ComputeSetting()


def at_frequencies(
    frequencies_hz: Sequence[float], cluster: str = EVERY_CLUSTER
) -> tuple[TrialPoint, ...]:
    """Points at which only the clock of the CPU is set."""
    settings = [ComputeSetting(cpu_hz={cluster: hertz}) for hertz in frequencies_hz]
    return tuple(
        TrialPoint(name=name_of(setting), frequency_hz=hertz, setting=setting)
        for hertz, setting in zip(frequencies_hz, settings, strict=True)
    )


class SweepPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which settings to measure.

    Attributes:
        points: operating points at which to compute.
        uploads: operating points at which to send; if empty, the radio is not fitted.
        receives: whether to receive as well.
        seconds: metered time of a setting, s.
        settle_s: time before it in which the board already does the same, unmetered, s.
        repeats: how often everything is measured. Every second pass runs in opposite order, so
            that warming up does not look like a dependence on frequency.
    """

    points: tuple[TrialPoint, ...]
    uploads: tuple[OperatingPoint, ...] = ()
    receives: bool = False
    seconds: float = 10.0
    settle_s: float = 3.0
    repeats: int = 2

    @property
    def total_s(self) -> float:
        """How long the sweep takes, s."""
        return len(_tasks(self)) * (self.seconds + self.settle_s)


class Swept(NamedTuple):
    """The result of a sweep.

    Attributes:
        settings: the settings as measured.
        notes: which points were left out and why, and at which the processor was throttled, one
            sentence each.
    """

    settings: tuple[Setting, ...]
    notes: tuple[str, ...]


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


def try_out(hardware: Hardware, plan: SweepPlan) -> tuple[SweepPlan, tuple[str, ...]]:
    """The plan with the points that this board really comes to, and why others were left out.

    Sets every point for a moment, reads it back, and restores the board.

    Raises:
        CalibrationImpossibleError: the joules are not metered, or no point is left.
    """
    missing = []
    meter = hardware.describe().meter
    if meter.kind == "modelled":
        missing.append(
            f"a meter: joules of {meter.source} are declared, not read, and say nothing about "
            "frequency or traffic. Connect one (INA board, USB meter, plug) or open RAPL"
        )
    reasons: dict[str, list[str]] = {}
    kept = []
    try:
        for point in plan.points:
            problem = _problem(point, hardware.apply(_point(point, hardware.model())), hardware)
            if problem:
                reasons.setdefault(problem, []).append(point.name)
            else:
                kept.append(point)
    finally:
        hardware.restore()
    if not kept:
        why = "; ".join(reasons) or "there are none"
        missing.append(f"control over the CPU frequency, or any other operating point: {why}")
    if missing:
        raise CalibrationImpossibleError(missing)
    notes = [f"not measured: {', '.join(names)} ({why})" for why, names in reasons.items()]
    return replace(plan, points=tuple(kept)), tuple(notes)


def sweep(
    hardware: Hardware,
    load: Load,
    plan: SweepPlan,
    *,
    voltage_v: Callable[[float], float | None] = lambda frequency_hz: None,
    progress: Callable[[SweepProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Swept:
    """Measure every setting of a plan.

    ``voltage_v`` gives the core voltage at a frequency, V, where known. ``progress`` is called
    before every setting and at the end, ``cancelled`` repeatedly; the sweep stops when it is true.

    Raises:
        CalibrationImpossibleError: by :func:`try_out`, or the meter gives no reading.
        CalibrationAbortedError: ``cancelled`` returned true.
    """
    plan, notes = try_out(hardware, plan)
    tasks, settings, throttled = _tasks(plan), [], dict[str, int]()
    each_s = plan.seconds + plan.settle_s
    ledger = Ledger(hardware.clock, hardware.recorder)
    hardware.join_fleet(hardware.clock.now_s())
    try:
        for number, (activity, wanted) in enumerate(tasks):
            left_s, doing = each_s * (len(tasks) - number), _words(activity, wanted)
            progress(SweepProgress(done=number, total=len(tasks), left_s=left_s, doing=doing))
            setting = wanted.setting if isinstance(wanted, TrialPoint) else ComputeSetting()
            load.begin(number + 1, setting)
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
            done = Setting(
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
                point=wanted.name if isinstance(wanted, TrialPoint) else "",
                applied=setting,
            )
            settings.append(done)
            if activity == "compute" and (times := sum((seen.throttled or {}).values())):
                throttled[done.point] = throttled.get(done.point, 0) + times
        progress(SweepProgress(done=len(tasks), total=len(tasks), left_s=0.0, doing="fitting"))
    finally:
        hardware.restore()
    return Swept(tuple(settings), (*notes, *_heat(throttled)))


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


def _tasks(plan: SweepPlan) -> list[tuple[Activity, TrialPoint | OperatingPoint]]:
    lowest = min(plan.points, key=lambda point: point.frequency_hz)
    once: list[tuple[Activity, TrialPoint | OperatingPoint]] = [("idle", lowest)]
    once += [("compute", point) for point in plan.points]
    once += [("send", point) for point in plan.uploads]
    once += [("receive", lowest)] if plan.receives else []
    once += [("idle", lowest)]
    return [task for k in range(plan.repeats) for task in (once[::-1] if k % 2 else once)]


def _heat(throttled: dict[str, int]) -> list[str]:
    """A note where the firmware slowed the processor down while it was measured."""
    if not throttled:
        return []
    return [
        f"the processor was throttled at {', '.join(throttled)}: seconds and watts there are those "
        "of a hot board. Cool it (fan, heat sink) or lengthen --settle, and calibrate again"
    ]


def _problem(point: TrialPoint, applied: Applied, hardware: Hardware) -> str:
    """Why the board is not at a point, as a part of a sentence; empty if it is."""
    notes = "; ".join(note for note in applied.notes if "uplink" not in note)
    names = [each.name for each in hardware.model().compute.points]
    if point.name in names:
        return "" if applied.point == point.name else notes or "it could not be set"
    if applied.frequency_control == "none" or applied.frequency_hz is None:
        return notes or "the frequency is not known"
    if abs(applied.frequency_hz - point.frequency_hz) > 0.01 * point.frequency_hz:
        return f"it reads back {applied.frequency_hz:.4g} Hz"
    return ""


def _work(load: Load, activity: Activity, duration_s: float) -> float:
    """Samples or bits of an activity; 0 for resting."""
    if duration_s <= 0.0:
        return 0.0
    if activity == "idle":
        load.rest(duration_s)
        return 0.0
    do = {"compute": load.compute, "send": load.send, "receive": load.receive}[activity]
    return do(duration_s)


def _point(wanted: TrialPoint | OperatingPoint, board: BoardModel) -> OperatingPoint:
    if isinstance(wanted, OperatingPoint):
        return wanted
    return OperatingPoint(
        frequency_hz=wanted.frequency_hz,
        bandwidth_hz=1e6,
        transmit_power_w=board.link.transmit_power_max_w,
        time_split=0.5,
        setting=wanted.name if wanted.name in [p.name for p in board.compute.points] else "",
    )


def _words(activity: Activity, wanted: TrialPoint | OperatingPoint) -> str:
    if activity == "compute" and isinstance(wanted, TrialPoint):
        return f"compute: {wanted.name}"
    return "rest" if activity == "idle" else activity


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise CalibrationAbortedError("stopped; the board is as it was, nothing was written")

"""Sweeping a board: operating points, load and traffic, each metered for some seconds.

* :func:`try_out`         the points that this board really comes to, before anything is metered
* :func:`sweep`           measures them; whatever happens, the board is restored

What was measured is never lost. A sweep that is stopped, or whose meter or load fails, gives what
it has and says where it ended. The points at both ends of the clock come first: if neither the
seconds a sample nor the clock differ between them, the clock does not follow, and no further
frequency is measured (:mod:`fimi.energy.calibration.following`). A point that heat or another
program holds below its clock is tried once more at the end, then left out. Points that break the
order of the table by more than their errors are measured once more
(:mod:`fimi.energy.calibration.monotone`).

:mod:`fimi.energy.calibration.sweep_plan` says what is measured;
:mod:`fimi.energy.calibration.fitted` finds the board's cost parameters from the settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.calibration.fit import Activity, Estimate, FitError, Setting, of_activity
from fimi.energy.calibration.following import ClockSeen, fixed_clock_hz, why_fixed
from fimi.energy.calibration.monotone import order_breaks
from fimi.energy.calibration.points import measured_points
from fimi.energy.calibration.sweep_plan import (
    CalibrationAbortedError,
    CalibrationImpossibleError,
    Load,
    SweepPlan,
    Task,
    TrialPoint,
    clock_alone,
    clock_ends,
    tasks,
)
from fimi.energy.compute_points import AS_IT_IS
from fimi.energy.cost_model import BoardModel, ComputeSetting, OperatingPoint, Phase
from fimi.energy.hardware import Applied, Hardware
from fimi.energy.ledger import Ledger
from fimi.energy.meters import MeterDescription

NO_IDLE = Estimate(value=0.0, low=0.0, high=0.0)
_SILENT = "the meter said nothing"


class Swept(NamedTuple):
    """The result of a sweep.

    Attributes:
        settings: the settings as measured.
        notes: which points were left out and why, and at which the processor was throttled, one
            sentence each.
        fixed_hz: the clock of a processor that does not follow what is set, Hz; ``None`` if it
            follows. All that was measured of it is one point then.
        stopped: why the sweep ended before all was measured; empty if it did not.
    """

    settings: tuple[Setting, ...]
    notes: tuple[str, ...]
    fixed_hz: float | None = None
    stopped: str = ""


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
    measured: Callable[[Setting], None] = lambda setting: None,
) -> Swept:
    """Measure every setting of a plan.

    ``voltage_v`` gives the core voltage at a frequency, V, where known. ``progress`` is called
    before every setting and at the end, ``cancelled`` repeatedly; the sweep stops when it is true.
    ``measured`` is called with every setting as soon as it is measured.

    Raises:
        CalibrationImpossibleError: by :func:`try_out`, or the meter gives no reading.
        CalibrationAbortedError: ``cancelled`` returned true before there was enough for a profile:
            one setting at rest, and two in which the board trained.
    """
    plan, notes = try_out(hardware, plan)
    work = _Sweep(hardware, load, plan, voltage_v, progress, cancelled, measured)
    hardware.join_fleet(hardware.clock.now_s())
    try:
        work.run()
    finally:
        hardware.restore()
    return work.result(notes)


class _StoppedError(Exception):
    """The sweep ends here; the text says why, and whether somebody wanted it."""

    def __init__(self, why: str, *, wanted: bool = False) -> None:
        super().__init__(why)
        self.wanted = wanted


class _Sweep:
    """The work of :func:`sweep`, with what it has measured so far."""

    def __init__(
        self,
        hardware: Hardware,
        load: Load,
        plan: SweepPlan,
        voltage_v: Callable[[float], float | None],
        progress: Callable[[SweepProgress], None],
        cancelled: Callable[[], bool],
        measured: Callable[[Setting], None],
    ) -> None:
        self._hardware, self._load, self._plan = hardware, load, plan
        self._voltage_v, self._progress = voltage_v, progress
        self._cancelled, self._measured = cancelled, measured
        self._tasks = tasks(plan)
        self._settings: list[Setting] = []
        self._notes: list[str] = []
        self._throttled: dict[str, int] = {}
        self._held: dict[str, str] = {}
        self._ends = clock_ends(plan.points)
        self._looks: dict[str, ClockSeen] = {}
        self._fixed_hz: float | None = None
        self._stopped: _StoppedError | None = None
        self._number = 0
        self._ledger = Ledger(hardware.clock, hardware.recorder)

    def run(self) -> None:
        """Measure until all is done, or something ends it."""
        again = False
        try:
            while self._tasks or not again:
                if not self._tasks:
                    self._tasks, again = self._out_of_order(), True
                    continue
                self._next(again=again)
                self._look_at_the_ends()
        except _StoppedError as stopped:
            self._stopped = stopped
            return
        total = self._number
        self._progress(SweepProgress(done=total, total=total, left_s=0.0, doing="fitting"))

    def result(self, notes: Sequence[str]) -> Swept:
        """What there is.

        Raises:
            CalibrationImpossibleError: the meter, or the load, failed before there was enough.
            CalibrationAbortedError: somebody stopped it before there was enough.
        """
        settings = self._settings
        meter = self._hardware.describe().meter
        said = [*notes, *self._notes, *_heat(self._throttled), *_too_short(meter, self._plan)]
        by_why: dict[str, list[str]] = {}
        for name, why in self._held.items():
            by_why.setdefault(why, []).append(name)
        said += [f"not measured: {', '.join(names)} ({why})" for why, names in by_why.items()]
        if self._stopped is None:
            return Swept(self._named(), tuple(said), self._fixed_hz)
        why = f"stopped after {len(settings)} of {len(settings) + len(self._tasks)} settings"
        if not self._stopped.wanted:
            why += f": {self._stopped}"
        enough = len(of_activity(settings, "compute")) > 1 and of_activity(settings, "idle")
        if enough:
            said.append(f"{why}. What was measured until then is all that is known")
            return Swept(self._named(), tuple(said), self._fixed_hz, why)
        if self._stopped.wanted:
            raise CalibrationAbortedError(
                f"{why}; the board is as it was, and that is too little for a profile"
            )
        raise CalibrationImpossibleError([str(self._stopped)]) from self._stopped.__cause__

    def _named(self) -> tuple[Setting, ...]:
        """The settings; at a clock that does not follow they are all of one point."""
        if self._fixed_hz is None:
            return tuple(self._settings)
        return tuple(
            replace(s, point=AS_IT_IS, applied=ComputeSetting(), frequency_hz=self._fixed_hz)
            if s.point in self._ends_named
            else s
            for s in self._settings
        )

    @property
    def _ends_named(self) -> set[str]:
        return {point.name for point in self._ends}

    def _next(self, *, again: bool) -> None:
        """Measure the next setting, once more if the meter said nothing."""
        activity, wanted = task = self._tasks[0]
        doing = _words(activity, wanted)
        each_s = self._plan.seconds + self._plan.settle_s
        left, done = len(self._tasks), self._number
        self._progress(
            SweepProgress(done=done, total=done + left, left_s=each_s * left, doing=doing)
        )
        try:
            problem = self._measure(activity, wanted, again=again)
            if problem == _SILENT:
                problem = self._measure(activity, wanted, again=again)
            if problem == _SILENT:
                raise _StoppedError(
                    f"readings: the meter said nothing while the board was to {doing}"
                )
        except (OSError, RuntimeError, ValueError) as error:
            self._failed(activity, doing, error)
            return
        self._tasks.remove(task)
        self._number += 1
        name = wanted.name if isinstance(wanted, TrialPoint) else ""
        if problem and name not in self._held:
            self._tasks.append(task)  # heat may go
            self._number -= 1
        if problem:
            self._held[name] = problem
        elif activity == "compute":
            self._held.pop(name, None)

    def _failed(self, activity: Activity, doing: str, error: Exception) -> None:
        """A load that fails ends what it does; what was measured stays."""
        if not of_activity(self._settings, "compute"):
            raise error
        if activity not in ("send", "receive"):
            raise _StoppedError(f"{doing} failed ({error})") from error
        self._ledger.take()  # what was metered of it is a part of nothing
        self._tasks = [task for task in self._tasks if task[0] != activity]
        self._notes.append(f"{doing} failed and was given up: {error}")

    def _measure(
        self, activity: Activity, wanted: TrialPoint | OperatingPoint, *, again: bool
    ) -> str:
        """Measure one setting; returns why it was not measured, or nothing."""
        hardware, load, plan = self._hardware, self._load, self._plan
        setting = wanted.setting if isinstance(wanted, TrialPoint) else ComputeSetting()
        load.begin(self._number + 1, setting)
        point = _point(wanted, hardware.model())
        applied = hardware.apply(point)
        at = wanted if isinstance(wanted, TrialPoint) and activity == "compute" else None
        if at is not None and (problem := _problem(at, applied, hardware)):
            return problem
        _work(load, activity, plan.settle_s)
        self._stop_if_wanted()
        hardware.observed()  # discards what was observed before this setting
        with self._ledger.phase(_PHASES[activity]):
            amount = _work(load, activity, plan.seconds)
        (record,) = self._ledger.take()
        self._stop_if_wanted()
        seen = hardware.observed()
        if record.energy is None or record.duration_s <= 0.0:
            return _SILENT
        achieved_hz = seen.frequency_hz if activity == "compute" else None
        frequency_hz = achieved_hz or applied.frequency_hz or point.frequency_hz
        done = Setting(
            activity=activity,
            frequency_hz=frequency_hz,
            duration_s=record.duration_s,
            energy_j=record.energy.value_j,
            uncertainty_j=record.energy.uncertainty_j,
            samples=int(amount) if activity == "compute" else 0,
            bits=amount if activity in ("send", "receive") else 0.0,
            transmit_power_w=point.transmit_power_w if activity == "send" else 0.0,
            voltage_v=self._voltage_v(frequency_hz),
            temperature_c=seen.temperature_c,
            point=at.name if at is not None else "",
            applied=setting,
            bandwidth_hz=point.bandwidth_hz if activity == "send" else 0.0,
            again=again,
        )
        self._settings.append(done)
        self._measured(done)
        if activity == "compute" and (times := sum((seen.throttled or {}).values())):
            self._throttled[done.point] = self._throttled.get(done.point, 0) + times
        if activity == "compute" and done.point not in self._looks:
            self._looks[done.point] = ClockSeen(done, seen.frequency_hz, seen.frequency_source)
        return ""

    def _look_at_the_ends(self) -> None:
        """Leave out all other frequencies where the clock does not follow what is set."""
        if not self._ends or not all(end.name in self._looks for end in self._ends):
            return
        low, high = (self._looks[end.name] for end in self._ends)
        ends_hz = (self._ends[0].frequency_hz, self._ends[1].frequency_hz)
        said = why_fixed(low, high, ends_hz)
        if not said:
            self._ends = ()
            return
        if self._fixed_hz is not None:
            return
        self._fixed_hz = fixed_clock_hz(low, high, ends_hz)
        top = self._ends[1].setting.cpu_hz
        self._tasks = [
            (activity, wanted)
            for activity, wanted in self._tasks
            if activity != "compute"
            or not isinstance(wanted, TrialPoint)
            or not wanted.setting.cpu_hz
            or (wanted.setting.cpu_hz == top and not clock_alone(wanted))
        ]
        self._notes.append(
            f"{said}. No other frequency was measured; the profile has one fixed frequency, "
            f"{self._fixed_hz / 1e9:.4g} GHz"
        )

    def _out_of_order(self) -> list[Task]:
        """What is measured once more: points that break the order of the table."""
        if self._fixed_hz is not None:
            return []
        try:
            table = measured_points(self._settings, NO_IDLE)
        except FitError:
            return []
        broken = {name for each in order_breaks(table) for name in (each.slower, each.faster)}
        return [("compute", point) for point in self._plan.points if point.name in broken]

    def _stop_if_wanted(self) -> None:
        if self._cancelled():
            raise _StoppedError("stopped", wanted=True)


_PHASES: dict[Activity, Phase] = {
    "idle": "idle",
    "compute": "compute",
    "send": "upload",
    "receive": "model-download",
}


def _heat(throttled: dict[str, int]) -> list[str]:
    """A note where the firmware slowed the processor down while it was measured."""
    if not throttled:
        return []
    return [
        f"the processor was throttled at {', '.join(throttled)}: seconds and watts there are those "
        "of a hot board. Cool it (fan, heat sink) or lengthen --settle, and calibrate again"
    ]


def _too_short(meter: MeterDescription, plan: SweepPlan) -> list[str]:
    """A note where no reading may show a single setting alone."""
    if meter.counts or meter.rate_hz == 0.0:
        return []
    value_s = max(1.0 / meter.rate_hz, meter.response.refresh_s, meter.response.window_s)
    shown_s = meter.response.spread_s + 4.0 * meter.response.delay_sd_s + 1.0 / meter.rate_hz
    if plan.seconds >= shown_s:
        return []
    return [
        f"{plan.seconds:g} s of a setting are too short for {meter.source} ({meter.response}): no "
        "reading may be of one setting alone, and then what was drawn is divided between them, so "
        "that what tells them apart is worth nothing. Calibrate again with --seconds "
        f"{math.ceil(shown_s + 10.0 * value_s)} or more"
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
        return f"it reads back {applied.frequency_hz:.4g} Hz" + (f": {notes}" if notes else "")
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

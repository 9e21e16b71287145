"""What the operating points of a sweep cost, with uncertainty: means, no law.

* :class:`MeasuredPoint`    seconds a sample and watts of a point
* :func:`measured_points`   from the settings of a sweep
* :func:`compute_point`     as plans take it
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fimi.energy.calibration import student_t
from fimi.energy.calibration.fit import CONFIDENCE, Estimate, FitError, Setting, of_activity
from fimi.energy.cost_model import ComputePoint, ComputeSetting

LEAST_GROUPS = 5
"""Number of points with repeats from which on their usual scatter is told by a quantile."""
QUANTILE = 0.75
QUANTILE_OF_NORMAL = 1.1503494
"""That quantile of the absolute value of a standard normal variable."""
EFFICIENCY = 0.6
"""Of a standard deviation by that quantile: share of the degrees of freedom that count."""


class MeasuredPoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operating point costs, with its uncertainty.

    Attributes:
        name: name of the point.
        setting: what is set.
        seconds_per_sample: of the training that was run, s.
        power_w: power above idle, W.
        seconds_error: half of an interval of the seconds, s, by which points are compared; 0 where
            nothing was repeated. Its scatter is the usual one, which a point that is far off does
            not widen.
        power_error_w: the same of the board's power at this point, W: without the error of the idle
            power, which all points share.
        board_w: power of the board at this point, with the idle power, W.
        again: whether it was measured once more, because it broke the order of the table.
        degrees: degrees of freedom of the scatter of all points; 0 where nothing was repeated.
    """

    name: str
    setting: ComputeSetting
    seconds_per_sample: Estimate
    power_w: Estimate
    seconds_error: float = 0.0
    power_error_w: float = 0.0
    board_w: float = 0.0
    again: bool = False
    degrees: int = 0


def measured_points(settings: Sequence[Setting], idle_w: Estimate) -> tuple[MeasuredPoint, ...]:
    """The operating points of a sweep, slowest first.

    A point is the mean of its measurements; their median where it was measured once more because it
    broke the order of the table. Their intervals come from the relative scatter of all points'
    repeats together; of points that were all measured once, the power's comes from the meter's own
    uncertainty.

    Raises:
        FitError: a setting has no samples, or no energy that is positive.
    """
    groups: dict[str, list[Setting]] = {}
    for setting in of_activity(settings, "compute"):
        groups.setdefault(setting.point or f"{setting.frequency_hz:.6g} Hz", []).append(setting)
    if any(s.samples < 1 or not s.energy_j > 0.0 for group in groups.values() for s in group):
        raise FitError("an operating point has no samples, or the meter did not read")
    degrees = sum(len(group) - 1 for group in groups.values())
    time_sd = _scatter([[s.duration_s / s.samples for s in g] for g in groups.values()])
    power_sd = _scatter([[s.power_w for s in g] for g in groups.values()])
    usual_time_sd = _usual_scatter([[s.duration_s / s.samples for s in g] for g in groups.values()])
    usual_power_sd = _usual_scatter([[s.power_w for s in g] for g in groups.values()])
    reach = student_t.quantile(0.5 + CONFIDENCE / 2.0, degrees) if degrees else 2.0
    usual_reach = (
        student_t.quantile(0.5 + CONFIDENCE / 2.0, EFFICIENCY * degrees) if degrees else 2.0
    )
    idle_reach_w = (idle_w.high - idle_w.low) / 2.0
    found = []
    for name, group in groups.items():
        seconds = sum(s.duration_s for s in group) / sum(s.samples for s in group)
        mean_w = sum(s.power_w for s in group) / len(group)
        if any(s.again for s in group):  # one of them may be far off: it must not count
            seconds = float(np.median([s.duration_s / s.samples for s in group]))
            mean_w = float(np.median([s.power_w for s in group]))
        once_w = float(np.mean([s.uncertainty_j / s.duration_s for s in group]))
        sd_w = power_sd * mean_w if degrees else once_w
        above_w, root = mean_w - idle_w.value, np.sqrt(len(group))
        error_w = usual_reach / root * (usual_power_sd * mean_w if degrees else once_w)
        apart_w = float(np.hypot(reach * sd_w / root, idle_reach_w))
        apart_s = float(reach * time_sd * seconds / root)
        found.append(
            MeasuredPoint(
                name=name,
                setting=group[0].applied,
                seconds_per_sample=Estimate(
                    value=seconds, low=max(0.0, seconds - apart_s), high=seconds + apart_s
                ),
                power_w=Estimate(
                    value=max(0.0, above_w),
                    low=max(0.0, above_w - apart_w),
                    high=max(0.0, above_w + apart_w),
                ),
                seconds_error=float(usual_reach * usual_time_sd * seconds / root),
                power_error_w=float(error_w),
                board_w=mean_w,
                again=any(s.again for s in group),
                degrees=degrees,
            )
        )
    return tuple(sorted(found, key=lambda point: -point.seconds_per_sample.value))


def _scatter(groups: Sequence[Sequence[float]]) -> float:
    """Relative standard deviation within groups, of all of them together; 0 without repeats."""
    squares = [
        (value / np.mean(group) - 1.0) ** 2 for group in groups if len(group) > 1 for value in group
    ]
    degrees = sum(len(group) - 1 for group in groups)
    return float(np.sqrt(sum(squares) / degrees)) if degrees else 0.0


def _usual_scatter(groups: Sequence[Sequence[float]]) -> float:
    """Like :func:`_scatter`, by a quantile: one group that is far off does not count.

    Of few groups the quantile is chance, and all of them count.
    """
    again = [group for group in groups if len(group) > 1]
    if len(again) < LEAST_GROUPS:
        return _scatter(groups)
    residuals = [
        abs(value / np.mean(group) - 1.0) * np.sqrt(len(group) / (len(group) - 1))
        for group in again
        for value in group
    ]
    return float(np.quantile(residuals, QUANTILE) / QUANTILE_OF_NORMAL)


def compute_point(point: MeasuredPoint) -> ComputePoint:
    """A measured point as plans take it."""
    return ComputePoint(
        name=point.name,
        seconds_per_sample=point.seconds_per_sample.value,
        power_w=point.power_w.value,
        setting=point.setting,
    )

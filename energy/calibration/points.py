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


class MeasuredPoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operating point costs, with its uncertainty.

    Attributes:
        name: name of the point.
        setting: what is set.
        seconds_per_sample: of the training that was run, s.
        power_w: power above idle, W.
    """

    name: str
    setting: ComputeSetting
    seconds_per_sample: Estimate
    power_w: Estimate


def measured_points(settings: Sequence[Setting], idle_w: Estimate) -> tuple[MeasuredPoint, ...]:
    """The operating points of a sweep, slowest first.

    Their intervals come from the relative scatter of all points' repeats together; of points that
    were all measured once, the power's comes from the meter's own uncertainty.

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
    reach = student_t.quantile(0.5 + CONFIDENCE / 2.0, degrees) if degrees else 2.0
    idle_reach_w = (idle_w.high - idle_w.low) / 2.0
    found = []
    for name, group in groups.items():
        seconds = sum(s.duration_s for s in group) / sum(s.samples for s in group)
        mean_w = sum(s.power_w for s in group) / len(group)
        once_w = float(np.mean([s.uncertainty_j / s.duration_s for s in group]))
        sd_w = power_sd * mean_w if degrees else once_w
        above_w, root = mean_w - idle_w.value, np.sqrt(len(group))
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


def compute_point(point: MeasuredPoint) -> ComputePoint:
    """A measured point as plans take it."""
    return ComputePoint(
        name=point.name,
        seconds_per_sample=point.seconds_per_sample.value,
        power_w=point.power_w.value,
        setting=point.setting,
    )

"""How well fitted cost parameters predict joules that were left out of the fit.

* :func:`held_out_error`  predicts every frequency of a sweep from all the others
* :func:`repeat_error`    predicts every measurement of a point from the others of that point
* :func:`energy_errors`   compares any law with the settings along the frequency
* :func:`declared_errors`  compares a declaration with every compute setting
* :func:`mape_percent`    mean absolute error
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from fimi.energy.calibration.fit import (
    Array,
    FitError,
    Law,
    Setting,
    along_frequency,
    by_frequency,
    fit_cycles,
    fit_power,
    of_activity,
)
from fimi.energy.cost_model import BoardModel, formula_power_w

Power = Callable[[Setting], float]
"""A model: gives the board power of a compute setting, W."""


def held_out_error(
    settings: Sequence[Setting], law: Law | Literal["table"] = "cubic"
) -> dict[float, float]:
    """Leave one frequency out, fit the rest, predict its joules.

    Both the power and the cycles come from the other frequencies, so this is the error that a
    plan makes at a frequency which was never measured. ``"table"`` takes power and cycles from a
    straight line through the neighbours; it is extended beyond the ends.

    Returns:
        Frequency (Hz; neighbours within a percent are one) to mean signed relative error of the
        predicted energy, (predicted − measured) / measured. Empty where too few frequencies are
        left for a fit.
    """
    errors: dict[float, float] = {}
    for frequency_hz, here in by_frequency(along_frequency(settings)):
        rest = [s for s in settings if s not in here]
        if law == "table":
            groups = by_frequency(along_frequency(rest))
            if len(groups) < 2:
                return {}
            power_w = _straight(groups, lambda s: s.power_w)
            cycles = _straight(groups, lambda s: s.duration_s * s.frequency_hz / s.samples)
            errors[frequency_hz] = float(_errors(here, power_w, cycles).mean())
            continue
        try:
            fit, mean = fit_power(rest, law), fit_cycles(rest)
        except FitError:
            return {}
        errors[frequency_hz] = float(energy_errors(here, fit.power_w, mean.value).mean())
    return errors


def repeat_error(settings: Sequence[Setting]) -> dict[str, float]:
    """Leave one measurement of a point out, predict its joules from the others of that point.

    This is the error that a plan makes which chooses among measured points only.

    Returns:
        Name of the point to root mean square of the relative errors of the energy a sample. Points
        that were measured once are left out.
    """
    groups: dict[str, list[Setting]] = {}
    for setting in of_activity(settings, "compute"):
        groups.setdefault(setting.point, []).append(setting)
    errors = {}
    for name, group in groups.items():
        joules = np.array([s.energy_j / s.samples for s in group])
        if len(joules) > 1:
            others = (joules.sum() - joules) / (len(joules) - 1)
            errors[name] = float(np.sqrt(np.mean((others / joules - 1.0) ** 2)))
    return errors


def energy_errors(settings: Sequence[Setting], power_w: Power, cycles_per_sample: float) -> Array:
    """Relative errors of the joules that a model predicts along the frequency, signed."""
    return _errors(along_frequency(settings), power_w, lambda setting: cycles_per_sample)


def declared_errors(settings: Sequence[Setting], declared: BoardModel) -> Array:
    """Relative errors of the joules that a declaration predicts for the compute settings, signed.

    By its point of the same name, else by its law at the achieved frequency.
    """
    compute = declared.compute
    points = {point.name: point for point in compute.points}
    errors = []
    for setting in of_activity(settings, "compute"):
        if (point := points.get(setting.point)) is not None:
            seconds, power_w = point.seconds_per_sample * setting.samples, point.power_w
        else:
            seconds = compute.cycles_per_sample * setting.samples / setting.frequency_hz
            power_w = formula_power_w(compute, setting.frequency_hz)
        energy_j = seconds * (declared.idle_power_w + power_w)
        errors.append((energy_j - setting.energy_j) / setting.energy_j)
    return np.array(errors)


def _errors(busy: Sequence[Setting], power_w: Power, cycles: Power) -> Array:
    durations_s = [cycles(s) * s.samples / s.frequency_hz for s in busy]
    pairs = zip(busy, durations_s, strict=True)
    return np.array([(power_w(s) * d - s.energy_j) / s.energy_j for s, d in pairs])


def mape_percent(errors: Sequence[float] | Array) -> float:
    """Mean absolute error in percent."""
    return 100.0 * float(np.mean(np.abs(np.asarray(errors, float))))


def _straight(
    groups: Sequence[tuple[float, Sequence[Setting]]], value: Callable[[Setting], float]
) -> Power:
    """A straight line through the two neighbouring points, or through the two points at an end."""
    known = np.array([frequency_hz for frequency_hz, _ in groups])
    values = np.array([float(np.mean([value(s) for s in group])) for _, group in groups])

    def at(setting: Setting) -> float:
        frequency_hz = setting.frequency_hz
        k = int(np.clip(np.searchsorted(known, frequency_hz), 1, len(known) - 1))
        share = (frequency_hz - known[k - 1]) / (known[k] - known[k - 1])
        return float(values[k - 1] + share * (values[k] - values[k - 1]))

    return at

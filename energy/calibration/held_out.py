"""How well fitted cost parameters predict joules that were left out of the fit.

* :func:`held_out_error`  predicts every frequency of a sweep from all the others
* :func:`energy_errors`   compares any model with measured settings
* :func:`mape_percent`    mean absolute error
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from fimi.energy.calibration.fit import (
    Array,
    FitError,
    Setting,
    by_frequency,
    fit_cycles,
    fit_power,
    of_activity,
    power_table,
)

Power = Callable[[Setting], float]
"""A model: gives the board power of a compute setting, W."""


def held_out_error(
    settings: Sequence[Setting], law: Literal["cubic", "voltage", "table"] = "cubic"
) -> dict[float, float]:
    """Leave one frequency out, fit the rest, predict its joules.

    Both the power and the cycles come from the other frequencies, so this is the error that a
    plan makes at a frequency which was never measured. ``"table"`` is a straight line through the
    neighbours; it is extended beyond the ends.

    Returns:
        Frequency (Hz; neighbours within a percent are one) to mean signed relative error of the
        predicted energy, (predicted − measured) / measured. Empty where too few frequencies are
        left for a fit.
    """
    errors: dict[float, float] = {}
    for frequency_hz, here in by_frequency(of_activity(settings, "compute")):
        rest = [s for s in settings if s not in here]
        try:
            fit, cycles = fit_power(rest, "cubic" if law == "table" else law), fit_cycles(rest)
        except FitError:
            return {}
        power_w = _straight(power_table(rest, 0.0)) if law == "table" else fit.power_w
        errors[frequency_hz] = float(energy_errors(here, power_w, cycles.value).mean())
    return errors


def energy_errors(settings: Sequence[Setting], power_w: Power, cycles_per_sample: float) -> Array:
    """Relative errors of the joules that a model predicts for the compute settings, signed."""
    busy = of_activity(settings, "compute")
    durations_s = [cycles_per_sample * s.samples / s.frequency_hz for s in busy]
    pairs = zip(busy, durations_s, strict=True)
    return np.array([(power_w(s) * d - s.energy_j) / s.energy_j for s, d in pairs])


def mape_percent(errors: Sequence[float] | Array) -> float:
    """Mean absolute error in percent."""
    return 100.0 * float(np.mean(np.abs(np.asarray(errors, float))))


def _straight(table: tuple[tuple[float, ...], tuple[float, ...]]) -> Power:
    """A straight line through the two neighbouring points, or through the two points at an end."""
    known, powers = np.array(table[0]), np.array(table[1])

    def power_w(setting: Setting) -> float:
        frequency_hz = setting.frequency_hz
        k = int(np.clip(np.searchsorted(known, frequency_hz), 1, len(known) - 1))
        share = (frequency_hz - known[k - 1]) / (known[k] - known[k - 1])
        return float(powers[k - 1] + share * (powers[k] - powers[k - 1]))

    return power_w

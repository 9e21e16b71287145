"""What a board draws while it does nothing: measured before, between and after its work.

* :class:`Resting`       one measurement of it
* :class:`RestingPower`  a straight line through all of a run, with its uncertainty
* :func:`fit`            that line
* :func:`above`          an energy less that of resting for as long
* :func:`enough_s`       for how long a board must rest until its meter can tell

Dynamic energy is what a phase took above this. A mistake of a tenth of a watt in it is a tenth of a
joule in every second of the phase. So it has an uncertainty of its own, and no time is used in
which the meter still shows the work before, or the radio is still awake.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription

LEFTOVERS_S = 1.0
"""Time that a board takes to come to rest after its work, s: radio tails, caches written back."""
LEAST_S = 1.0
"""A shorter measurement is none, s."""

When = Literal["before", "between", "after"]


class Resting(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A measurement of a board's resting power.

    Attributes:
        when: before the first work of a run, between, or after the last.
        start_s: beginning on the device's own clock, s.
        duration_s: length, s.
        power_w: mean power, W.
        uncertainty_w: one standard deviation, W, without what all measurements share: the error of
            its gain, of its steps where they hide the scatter, and of looks at a counter that keep
            in step with its refreshes.
        step_w: one standard deviation of this without that of the gain, W.
    """

    when: When
    start_s: float
    duration_s: Annotated[float, Meta(gt=0)]
    power_w: Annotated[float, Meta(ge=0, le=1e6)]
    uncertainty_w: Annotated[float, Meta(ge=0, le=1e6)]
    step_w: Annotated[float, Meta(ge=0, le=1e6)] = 0.0

    @property
    def middle_s(self) -> float:
        """Its middle on the device's clock, s."""
        return self.start_s + self.duration_s / 2.0


class RestingPower(Struct, frozen=True, kw_only=True):
    """Resting power over a run: a line, fitted by weighted least squares.

    Attributes:
        at_s: time that the line is centred on, s of the device's clock.
        power_w: at that time, W.
        slope_w_per_s: its drift.
        covariance: of these two, shape (2, 2).
        step_w: one standard deviation of what all measurements have too much together, W.
        count: number of measurements.
        step_w_per_s: how that changes; short measurements have more of it than long ones.
    """

    at_s: float
    power_w: float
    slope_w_per_s: float
    covariance: NDArray[np.float64]
    step_w: float
    count: int
    step_w_per_s: float = 0.0

    def at(self, time_s: float) -> tuple[float, float]:
        """Resting power at a time of the device's clock, and one standard deviation, W."""
        since = np.array([1.0, time_s - self.at_s])
        power_w = self.power_w + self.slope_w_per_s * since[1]
        variance = float(since @ self.covariance @ since)
        step_w = self.step_w + self.step_w_per_s * float(since[1])
        return max(0.0, float(power_w)), math.hypot(math.sqrt(max(0.0, variance)), step_w)


def enough_s(meter: MeterDescription) -> float:
    """How long a board must rest until its meter can tell its power, s.

    Ten values of the meter after it has settled and the board has come to rest, three seconds at
    least, a minute at most.
    """
    if meter.rate_hz == 0.0:
        return 0.0
    response = meter.response
    value_s = max(1.0 / meter.rate_hz, response.refresh_s, response.window_s)
    return LEFTOVERS_S + response.settling_s + min(60.0, max(3.0, 10.0 * value_s))


def fit(measurements: Sequence[Resting], *, one_clock: bool = True) -> RestingPower | None:
    """The line through a run's measurements; ``None`` of none.

    A drift is fitted where there are three or more and their times are of ``one_clock``: that of a
    board begins anew when it is started again. Where they scatter more about the line than
    their uncertainties say, these are raised until they agree (Birge ratio).
    """
    if not measurements:
        return None
    times_s = np.array([m.middle_s for m in measurements])
    power_w = np.array([m.power_w for m in measurements])
    floor_w = 1e-6 + 1e-4 * float(power_w.max())
    deviations_w = np.maximum([m.uncertainty_w for m in measurements], floor_w)
    weights = 1.0 / np.square(deviations_w)
    at_s = float(weights @ times_s / weights.sum())
    columns = [np.ones(len(times_s))]
    span_s = float(np.ptp(times_s))
    if one_clock and len(measurements) > 2 and span_s > 0.0:
        columns.append(times_s - at_s)
    design = np.stack(columns, axis=1)
    gram = (design.T * weights) @ design
    covariance = np.linalg.inv(gram)
    found = covariance @ (design.T @ (weights * power_w))
    steps = covariance @ (design.T * weights) @ [m.step_w for m in measurements]
    freedom = len(measurements) - len(columns)
    if freedom > 0:
        excess = float(weights @ np.square(power_w - design @ found)) / freedom
        covariance *= max(1.0, excess)
    whole = np.zeros((2, 2))
    whole[: len(columns), : len(columns)] = covariance
    return RestingPower(
        at_s=at_s,
        power_w=float(found[0]),
        slope_w_per_s=float(found[1]) if len(columns) > 1 else 0.0,
        covariance=whole,
        step_w=float(steps[0]),
        count=len(measurements),
        step_w_per_s=float(steps[1]) if len(columns) > 1 else 0.0,
    )


def above(
    energy: Energy,
    duration_s: float,
    middle_s: float | None,
    resting: RestingPower,
    *,
    regression_j: float = 0.0,
) -> Energy:
    """An energy less that of resting for as long.

    The errors of the gain and of the resting power are shared with all other figures of the meter.

    Args:
        energy: of some time, whole board.
        duration_s: length of that time, s.
        middle_s: its middle on the device's clock, s; that of the resting power if unknown.
        resting: what the board draws at rest.
        regression_j: what else all figures of the meter share, J, and which is no error of its
            gain: it does not become smaller with what is subtracted.
    """
    rest_w, rest_sd_w = resting.at(resting.at_s if middle_s is None else middle_s)
    value_j = energy.value_j - rest_w * duration_s
    if energy.common_j is None or not energy.value_j:  # nothing is known of its parts
        shared_j = energy.shared_j
    else:
        shared_j = energy.common_j / abs(energy.value_j) * abs(value_j)
    common_j = math.hypot(shared_j, rest_sd_w * duration_s, regression_j)
    return replace(
        energy,
        value_j=value_j,
        uncertainty_j=math.hypot(energy.own_j, common_j),
        common_j=common_j,
    )

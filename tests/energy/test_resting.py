from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription
from fimi.energy.meters.response import MeterResponse
from fimi.energy.resting import Resting, above, enough_s, fit


def rest(start_s: float, power_w: float, sd_w: float = 0.01, **others: Any) -> Resting:
    settings = {"duration_s": 10.0, "when": "between", **others}
    return Resting(start_s=start_s, power_w=power_w, uncertainty_w=sd_w, **settings)


lines = st.lists(
    st.tuples(st.floats(0.0, 1e5), st.floats(2.9, 3.1), st.floats(0.005, 0.1)),
    min_size=3,
    max_size=12,
    unique_by=lambda each: round(each[0] / 100.0),
)


@given(lines, st.floats(0.0, 1e5))
def test_is_the_weighted_least_squares_line(
    points: list[tuple[float, float, float]], at_s: float
) -> None:
    found = fit([rest(*each) for each in points])
    times_s, power_w, sd_w = np.array(points).T
    middles_s = times_s + 5.0
    line, covariance = np.polyfit(
        middles_s - middles_s.mean(), power_w, 1, w=1.0 / sd_w, cov="unscaled"
    )
    assert found is not None
    since = np.array([at_s - middles_s.mean(), 1.0])
    value_w, deviation_w = found.at(at_s)
    assert value_w == pytest.approx(max(0.0, float(line @ since)), abs=1e-6)
    left = (power_w - np.polyval(line, middles_s - middles_s.mean())) / sd_w
    birge = max(1.0, float(left @ left) / max(1, len(points) - 2))
    assert deviation_w == pytest.approx(math.sqrt(since @ covariance @ since * birge), rel=1e-5)


@given(lines, st.floats(-1e7, 1e7))
def test_the_clock_may_begin_anywhere(
    points: list[tuple[float, float, float]], shift_s: float
) -> None:
    one = fit([rest(*each) for each in points])
    other = fit([rest(t + shift_s, *each) for t, *each in points])
    assert one is not None
    assert other is not None
    assert other.at(5e4 + shift_s) == pytest.approx(one.at(5e4), abs=1e-4)


@given(lines, st.floats(0.1, 50.0))
def test_scales_with_the_power(points: list[tuple[float, float, float]], factor: float) -> None:
    one = fit([rest(*each) for each in points])
    other = fit([rest(t, factor * w, factor * sd) for t, w, sd in points])
    assert one is not None
    assert other is not None
    assert other.at(1e4) == pytest.approx([factor * each for each in one.at(1e4)], rel=1e-4)


def test_two_measurements_have_no_drift() -> None:
    found = fit([rest(0.0, 3.0, 0.01), rest(100.0, 3.3, 0.02)])
    assert found is not None
    assert found.slope_w_per_s == 0.0
    assert found.power_w == pytest.approx((3.0 / 1e-4 + 3.3 / 4e-4) / (1 / 1e-4 + 1 / 4e-4))
    # They differ by far more than they say: the deviation is raised.
    assert found.at(50.0)[1] > 0.1


def test_one_measurement_is_itself_with_its_steps() -> None:
    found = fit([rest(0.0, 3.0, 0.03, step_w=0.04)])
    assert found is not None
    assert found.at(1e6) == pytest.approx((3.0, 0.05))
    assert fit([]) is None


def test_steps_that_hide_the_scatter_do_not_average_out() -> None:
    found = fit([rest(10.0 * k, 3.0, 0.0, step_w=0.3) for k in range(50)])
    assert found is not None
    assert found.at(250.0)[1] == pytest.approx(0.3, rel=1e-3)


def test_equal_times_do_not_break_it() -> None:
    found = fit([rest(5.0, 3.0), rest(5.0, 3.2), rest(5.0, 3.1)])
    assert found is not None
    assert found.at(5.0)[0] == pytest.approx(3.1)


def test_covers_the_truth() -> None:
    """Monte Carlo: a drift, measured three to eight times with the noise that is said."""
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(2_000):
        times_s = np.sort(rng.uniform(0.0, 600.0, rng.integers(3, 9)))
        sd_w = rng.uniform(0.01, 0.05, len(times_s))
        true_w = 3.0 + 1e-4 * (times_s + 5.0)
        found = fit(
            [
                rest(t, w, s)
                for t, w, s in zip(
                    times_s.tolist(), (true_w + rng.normal(0.0, sd_w)).tolist(), sd_w, strict=True
                )
            ]
        )
        assert found is not None
        value_w, deviation_w = found.at(300.0)
        inside.append(abs(value_w - 3.03) <= 2.0 * deviation_w)
    assert 0.94 <= np.mean(inside) <= 0.99


def test_how_long_is_enough() -> None:
    plug = MeterDescription(
        source="plug",
        kind="measured",
        scope="wall",
        rate_hz=1.0,
        response=MeterResponse(delay_s=2.0, window_s=1.0, refresh_s=3.0),
    )
    assert enough_s(plug) == pytest.approx(1.0 + 6.0 + 30.0)  # ten values of it, after settling
    chip = replace(plug, rate_hz=100.0, response=MeterResponse())
    assert enough_s(chip) == pytest.approx(1.0 + 3.0)
    gauge = replace(plug, response=MeterResponse(refresh_s=60.0))
    assert enough_s(gauge) == pytest.approx(1.0 + 60.0 + 60.0)  # a minute at most
    assert enough_s(replace(plug, rate_hz=0.0)) == 0.0  # a declared power needs none


def test_what_regression_does_not_know_stays_whole_above_rest() -> None:
    """The error of a gain shrinks with what is subtracted; that of a regression does not."""
    resting = fit([rest(0.0, 3.0, 0.0)])
    assert resting is not None
    told = Energy(
        value_j=40.0, kind="measured", source="m", uncertainty_j=0.4, common_j=0.4
    )  # a gain of 1 %
    found = above(told, 10.0, 5.0, resting, regression_j=2.0)
    assert found.value_j == pytest.approx(10.0)
    assert found.uncertainty_j == pytest.approx(math.hypot(0.1, 2.0), rel=1e-3)
    assert found.common_j == found.uncertainty_j
    assert above(told, 10.0, 5.0, resting).uncertainty_j == pytest.approx(0.1, rel=1e-2)

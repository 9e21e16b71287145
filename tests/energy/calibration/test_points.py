from __future__ import annotations

import numpy as np
import pytest
from measured import IDLE_W, busy
from msgspec.structs import replace

from fimi.energy.calibration.fit import Estimate, FitError, Setting
from fimi.energy.calibration.points import compute_point, measured_points
from fimi.energy.cost_model import ComputeSetting

POINTS = {"a": (1.0e9, 4.0, 1.10e7), "b": (1.5e9, 5.5, 1.21e7), "c": (1.8e9, 6.0, 1.5e7)}
IDLE = Estimate(value=IDLE_W, low=IDLE_W, high=IDLE_W)


def sweep(noise: float, seed: int, repeats: int = 4) -> list[Setting]:
    luck = np.random.default_rng(seed)
    made = []
    for _ in range(repeats):
        for name, (hertz, watts, cycles) in POINTS.items():
            exact = busy(hertz, watts, cycles)
            slower = 1.0 + noise * luck.normal()
            energy_j = exact.energy_j * slower * (1.0 + noise * luck.normal())
            made.append(
                replace(
                    exact,
                    duration_s=exact.duration_s * slower,
                    energy_j=energy_j,
                    uncertainty_j=noise * energy_j,
                    point=name,
                    applied=ComputeSetting(cores=len(name) + len(made) % 3),
                )
            )
    return made


def test_exact_readings_give_the_exact_points_slowest_first() -> None:
    found = measured_points(sweep(0.0, 0), IDLE)
    seconds = {name: cycles / hertz for name, (hertz, _, cycles) in POINTS.items()}
    assert [point.name for point in found] == sorted(seconds, key=lambda name: -seconds[name])
    for point in found:
        assert point.seconds_per_sample.value == pytest.approx(seconds[point.name])
        assert point.power_w.value == pytest.approx(POINTS[point.name][1] - IDLE_W)
        assert compute_point(point).setting == point.setting


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    inside = []
    for seed in range(250):
        for point in measured_points(sweep(0.01, seed), IDLE):
            hertz, watts, cycles = POINTS[point.name]
            inside.append(point.power_w.low <= watts - IDLE_W <= point.power_w.high)
            times = point.seconds_per_sample
            inside.append(times.low <= cycles / hertz <= times.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def test_points_measured_once_have_the_meters_uncertainty() -> None:
    for point in measured_points(sweep(0.02, 1, repeats=1), IDLE):
        reach = (point.power_w.high - point.power_w.low) / 2.0
        assert reach == pytest.approx(2.0 * 0.02 * (point.power_w.value + IDLE_W), rel=0.01)


def test_an_uncertain_idle_power_counts() -> None:
    wide = Estimate(value=IDLE_W, low=IDLE_W - 0.5, high=IDLE_W + 0.5)
    for point in measured_points(sweep(0.0, 0), wide):
        assert point.power_w.high - point.power_w.value == pytest.approx(0.5)


def test_less_than_idle_is_zero() -> None:
    cold = Estimate(value=10.0, low=10.0, high=10.0)
    assert {point.power_w.value for point in measured_points(sweep(0.0, 0), cold)} == {0.0}


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"energy_j": 0.0}, {"energy_j": float("nan")}])
def test_what_was_not_measured_is_no_point(wrong: dict[str, float]) -> None:
    with pytest.raises(FitError, match="no samples, or the meter did not read"):
        measured_points([replace(sweep(0.0, 0)[0], **wrong)], IDLE)

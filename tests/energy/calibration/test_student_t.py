from __future__ import annotations

import math

import pytest
from scipy.stats import t as reference

from fimi.energy.calibration import student_t


# Golden values: Abramowitz and Stegun, table 26.10.
@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [(0.975, 1, 12.706), (0.975, 5, 2.571), (0.975, 30, 2.042), (0.95, 10, 1.812)],
)
def test_tabulated_quantiles(probability: float, degrees: int, value: float) -> None:
    assert student_t.quantile(probability, degrees) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 7.5, 40, 1000])
@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.7, 0.99, 0.99999])
def test_agrees_with_scipy(probability: float, degrees: float) -> None:
    assert student_t.quantile(probability, degrees) == pytest.approx(
        reference.ppf(probability, degrees), rel=1e-9, abs=1e-12
    )


def test_distribution_and_quantile_are_inverse() -> None:
    for t in (-3.0, -0.2, 0.0, 1.7):
        assert student_t.cdf(t, 4) == pytest.approx(reference.cdf(t, 4), abs=1e-14)


def test_many_degrees_are_the_normal_distribution() -> None:
    assert student_t.quantile(0.975, math.inf) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.5, 0)])
def test_impossible_arguments_are_refused(probability: float, degrees: float) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        student_t.quantile(probability, degrees)

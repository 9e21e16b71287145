from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.special import lambertw

from fimi.optim.special import (
    LOG_X_MAX,
    inverse_free,
    inverse_full,
    inverse_psi,
    inverse_theta,
    log_free,
    log_full,
    log_psi,
    log_spread,
    log_theta,
)

GRID = np.concatenate([np.linspace(-40.0, -5.0, 201), np.linspace(-5.0, LOG_X_MAX, 4001)])


def exact_psi(x: Fraction) -> Fraction:
    """Σ_{k≥2} (k − 1)/k! x^k in rational arithmetic: 1 + (x − 1) eˣ without cancellation."""
    total, term = Fraction(0), Fraction(1)
    for k in range(1, 60):
        term = term * x / k
        total += (k - 1) * term
    return total


@pytest.mark.parametrize("x", [1e-12, 1e-4, 0.0499, 0.05, 0.0501, 0.5, 2.0])
def test_log_psi_against_rational_arithmetic(x: float) -> None:
    log_x = np.array([np.log(x)])
    exact = float(exact_psi(Fraction(float(np.exp(log_x)[0]))))
    assert log_psi(log_x)[0][0] == pytest.approx(np.log(exact), rel=1e-13, abs=1e-13)


def exact_growth(x: Fraction) -> Fraction:
    """(eˣ − 1)/x − 1 = Σ_{k≥1} xᵏ/(k + 1)! in rational arithmetic."""
    total, term = Fraction(0), Fraction(1)
    for k in range(1, 160):
        term = term * x / (k + 1)
        total += term
    return total


def exact_spread(x: Fraction) -> Fraction:
    """x − 1 + e^(−x) = Σ_{k≥2} (−x)ᵏ/k! in rational arithmetic."""
    total, term = Fraction(0), Fraction(1)
    for k in range(1, 160):
        term = -term * x / k
        total += term if k > 1 else 0
    return total


@pytest.mark.parametrize("x", [1e-9, 0.0299, 0.03, 0.0301, 1.0, 30.0])
def test_log_theta_against_rational_arithmetic(x: float) -> None:
    log_x = np.array([np.log(x)])
    total = exact_growth(Fraction(float(np.exp(log_x)[0])))
    assert log_theta(log_x)[0][0] == pytest.approx(float(np.log1p(float(total))), rel=1e-12)


@pytest.mark.parametrize("x", [1e-9, 0.0299, 0.03, 0.0301, 1.0, 30.0])
def test_log_spread_and_log_full_against_rational_arithmetic(x: float) -> None:
    log_x = np.array([np.log(x)])
    exact_x = Fraction(float(np.exp(log_x)[0]))
    spread = np.log(float(exact_spread(exact_x)))
    assert log_spread(log_x)[0] == pytest.approx(spread, rel=1e-12)
    full = spread + 2.0 * np.log1p(float(exact_growth(exact_x)))
    assert log_full(log_x)[0][0] == pytest.approx(full, rel=1e-12)


@pytest.mark.parametrize("x", [1e-9, 0.0499, 0.05, 0.0501, 0.5, 2.0])
def test_log_free_against_rational_arithmetic(x: float) -> None:
    log_x = np.array([np.log(x)])
    exact_x = Fraction(float(np.exp(log_x)[0]))
    free = 2.0 * np.log(float(exact_psi(exact_x))) - np.log(float(exact_x))
    assert log_free(log_x)[0][0] == pytest.approx(free, rel=1e-12)


@pytest.mark.parametrize("function", [log_psi, log_theta, log_full, log_free])
def test_slopes_match_differences(function: object) -> None:
    log_x = np.linspace(-6.0, 5.0, 101)
    h = 1e-6
    _, slope = function(log_x)  # type: ignore[operator]
    difference = (function(log_x + h)[0] - function(log_x - h)[0]) / (2 * h)  # type: ignore[operator]
    per_x = np.exp(log_x) if function is log_theta else 1.0
    np.testing.assert_allclose(slope * per_x, difference, rtol=1e-5)


def test_inverses_undo() -> None:
    log_q, _ = log_psi(GRID)
    np.testing.assert_allclose(inverse_psi(log_q)[0], GRID, rtol=0, atol=1e-10)
    theta, _ = log_theta(GRID)
    np.testing.assert_allclose(inverse_theta(theta), GRID, rtol=0, atol=1e-10)
    np.testing.assert_allclose(inverse_full(log_full(GRID)[0]), GRID, rtol=0, atol=1e-10)
    np.testing.assert_allclose(inverse_free(log_free(GRID)[0]), GRID, rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [log_psi, log_full, log_free])
def test_values_and_slopes_rise_without_a_break(function: object) -> None:
    """Where a series takes over, no step is seen."""
    grid = np.unique(GRID)
    value, slope = function(grid)  # type: ignore[operator]
    assert (np.diff(value) > 0).all()
    assert (slope > 0).all()
    assert np.isfinite(value).all()
    between = (slope[1:] + slope[:-1]) / 2.0 * np.diff(grid)  # trapezoids
    np.testing.assert_allclose(np.diff(value), between, rtol=2e-3)


def test_inverse_psi_is_lambert_w() -> None:
    q = np.logspace(-2, 20, 200)
    reference = 1.0 + lambertw((q - 1.0) / np.e).real
    np.testing.assert_allclose(np.exp(inverse_psi(np.log(q))[0]), reference, rtol=1e-10)

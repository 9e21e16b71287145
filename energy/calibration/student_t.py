"""Student's t distribution, for confidence intervals on devices that have no SciPy.

The distribution function is an incomplete beta function, evaluated by its continued fraction
(Abramowitz and Stegun, 26.5.8 and 26.7.1); the quantile is found by bisection.
"""

from __future__ import annotations

import math


def cdf(t: float, degrees: float) -> float:
    """Probability that a value of Student's t with ``degrees`` of freedom is at most ``t``."""
    tail = 0.5 * _incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + t * t))
    return tail if t < 0 else 1.0 - tail


def quantile(probability: float, degrees: float) -> float:
    """The value that is not exceeded with this probability.

    Args:
        probability: between 0 and 1.
        degrees: degrees of freedom, above 0; infinite is the normal distribution's limit.

    Raises:
        ValueError: a value is outside its range.
    """
    if not (0.0 < probability < 1.0 and degrees > 0.0):
        raise ValueError(f"no quantile for probability {probability} and {degrees} degrees")
    if probability == 0.5:
        return 0.0
    if probability < 0.5:
        return -quantile(1.0 - probability, degrees)
    if math.isinf(degrees):
        degrees = 1e9
    high = 1.0
    while cdf(high, degrees) < probability:
        high *= 2.0
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2.0


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - math.exp(log_front) * _continued_fraction(b, a, 1.0 - x) / b
    return math.exp(log_front) * _continued_fraction(a, b, x) / a


def _continued_fraction(a: float, b: float, x: float) -> float:
    """By Lentz's method, to the last digits."""
    c, d = 1.0, 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _nonzero(1.0 + term * d)
            c = _nonzero(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300

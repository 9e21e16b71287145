"""The two functions of one variable behind an upload, and their inverses.

With x = S ln2 / (b t), the nats that one hertz-second of an upload carries (docs/model.md, 9-11):

* :func:`log_theta` θ(x) = log((eˣ − 1)/x): the energy of an upload is (N0/h) S ln2 · e^θ(x).
* :func:`log_psi`   log ψ(x), ψ(x) = 1 + (x − 1) eˣ: what one more hertz saves is (N0/h) t ψ(x).

Where power flows for as long as a device sends, it ends its upload before the window does. The x
of that upload is the root of one more function of x alone, (11):

* :func:`log_full`  2 θ(x) + log(x − 1 + e^(−x)), where it sends with all its power
* :func:`log_free`  2 log ψ(x) − log x, where it chooses its power

All four are increasing in x, and no inverse is elementary (ψ⁻¹ is 1 + W0((q − 1)/e), Lambert's
W). The inverses start from a table in logarithms and take one
Newton step. Their error is 1e-11 or less for x from 0 to 690. They take a third of the time of
:func:`scipy.special.lambertw`, and have no cancellation near q = 0.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fimi.energy.cost_model import Array

LOG_X_MAX = float(np.log(690.0))
"""Largest log x handled: e^690 is still a finite double."""

_SMALL_PSI = 0.05
_SMALL_THETA = 0.03
_SMALL_SPREAD = 0.03
_LOG2 = float(np.log(2.0))
# ψ(x)/x² = Σ_{k≥2} (k − 1)/k! x^(k−2), highest power first for Horner's scheme.
_PSI_SERIES = (1 / 45360, 1 / 5760, 1 / 840, 1 / 144, 1 / 30, 1 / 8, 1 / 3, 1 / 2)
# (x − 1 + e^(−x))/x² = Σ_{k≥2} (−1)^k x^(k−2)/k!, highest power first.
_SPREAD_SERIES = (1 / 40320, -1 / 5040, 1 / 720, -1 / 120, 1 / 24, -1 / 6, 1 / 2)


def log_psi(log_x: Array) -> tuple[Array, Array]:
    """Log ψ(x) and its derivative by log x, for log x of any shape, up to :data:`LOG_X_MAX`."""
    x = np.exp(log_x)
    e = np.exp(x)
    psi = x * e - np.expm1(x)
    small = x < _SMALL_PSI
    if small.any():
        series = np.polyval(_PSI_SERIES, x[small])
        # For x below 1e-150 the square underflows; its logarithm is computed instead.
        psi[small] = series
        value = np.log(psi)
        value[small] += 2.0 * log_x[small]
        slope = np.empty_like(x)
        slope[small] = e[small] / series
        large = ~small
        slope[large] = x[large] ** 2 * e[large] / psi[large]
        return value, slope
    return np.log(psi), x * x * e / psi


def log_theta(log_x: Array) -> tuple[Array, Array]:
    """θ(x) and its derivative by x, for log x of any shape, up to :data:`LOG_X_MAX`."""
    x = np.exp(log_x)
    series = x < _SMALL_THETA
    if not series.any():
        growth = np.expm1(x)
        return np.log(growth / x), 1.0 + 1.0 / growth - 1.0 / x
    y = np.where(series, 1.0, x)
    growth = np.expm1(y)
    value = np.where(series, x * (0.5 + x * (1 / 24 - x * x / 2880)), np.log(growth / y))
    slope = np.where(series, 0.5 + x * (1 / 12 - x * x / 720), 1.0 + 1.0 / growth - 1.0 / y)
    return value, slope


def log_spread(log_x: Array) -> Array:
    """Log of x − 1 + e^(−x), for log x of any shape: d(rate)/d(bandwidth) in nats, (26)."""
    x = np.exp(log_x)
    small = x < _SMALL_SPREAD
    if not small.any():
        return np.asarray(np.log(x + np.expm1(-x)))
    y = np.where(small, 1.0, x)
    series = np.polyval(_SPREAD_SERIES, np.where(small, x, 0.0))
    return np.asarray(np.where(small, 2.0 * log_x + np.log(series), np.log(y + np.expm1(-y))))


def log_full(log_x: Array) -> tuple[Array, Array]:
    """2 θ(x) + log(x − 1 + e^(−x)) and its derivative by log x, for log x of any shape."""
    theta, slope = log_theta(log_x)
    spread = log_spread(log_x)
    x = np.exp(log_x)
    rise = np.exp(log_x + np.log(-np.expm1(-x)) - spread)
    return 2.0 * theta + spread, 2.0 * x * slope + rise


def log_free(log_x: Array) -> tuple[Array, Array]:
    """2 log ψ(x) − log x and its derivative by log x, for log x of any shape."""
    psi, slope = log_psi(log_x)
    return 2.0 * psi - log_x, 2.0 * slope - 1.0


@lru_cache(maxsize=1)
def _tables() -> tuple[Array, Array, Array, Array, Array]:
    log_x = np.linspace(np.log(1e-6), LOG_X_MAX, 8192)
    full, free = log_full(log_x)[0], log_free(log_x)[0]
    return log_x, log_psi(log_x)[0], np.log(log_theta(log_x)[0]), full, free


def inverse_psi(log_q: Array) -> tuple[Array, Array]:
    """Log x with ψ(x) = q, and d log q / d log x there, for log q of any shape."""
    nodes, log_psi_nodes = _tables()[:2]
    # ψ(x) ≥ x²/2, with equality for x → 0: used below the lower end of the table.
    start = np.minimum(np.interp(log_q, log_psi_nodes, nodes), (log_q + _LOG2) / 2.0)
    value, slope = log_psi(start)
    return np.minimum(start - (value - log_q) / slope, LOG_X_MAX), slope


def inverse_theta(theta: Array) -> Array:
    """Log x with θ(x) = ``theta``, positive, of any shape."""
    nodes, _, log_theta_nodes = _tables()[:3]
    log_c = np.log(theta)
    start = np.minimum(np.interp(log_c, log_theta_nodes, nodes), log_c + _LOG2)  # θ(x) ≥ x/2
    value, slope = log_theta(start)
    log_x = start - (np.log(value) - log_c) * value / (np.exp(start) * slope)
    return np.minimum(log_x, LOG_X_MAX)


def inverse_full(log_q: Array) -> Array:
    """Log x at which :func:`log_full` is ``log_q``, of any shape."""
    nodes, _, _, full, _ = _tables()
    start = np.minimum(np.interp(log_q, full, nodes), (log_q + _LOG2) / 2.0)
    value, slope = log_full(start)
    return np.minimum(start - (value - log_q) / slope, LOG_X_MAX)


def inverse_free(log_q: Array) -> Array:
    """Log x at which :func:`log_free` is ``log_q``, of any shape."""
    nodes, free = _tables()[0], _tables()[4]
    start = np.minimum(np.interp(log_q, free, nodes), (log_q + 2.0 * _LOG2) / 3.0)
    value, slope = log_free(start)
    return np.minimum(start - (value - log_q) / slope, LOG_X_MAX)

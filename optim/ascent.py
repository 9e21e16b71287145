"""The prices of the highest bound where roots of excesses do not find them; docs/model.md (28).

Where all devices send with all their power and run at a speed that is set, band and samples do not
move with the prices: a whole range of prices meets the limits, and the length of the round alone
says which of them is right. The dual function, the least over R included, is concave in λ and μ
wherever it is. Any devices' choice at any R gives a plane above it; the next prices are those where
the planes are highest.

* :func:`ascend`  the prices of the highest bound, by cutting planes
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linprog

from fimi.energy.cost_model import Array
from fimi.optim.device_optimum import DeviceSolver, Optima
from fimi.optim.inner import InnerSolver

_CUTS_MAX = 60
_CUT_CLOSE = 1e-8
_ROUND_CLOSE = 1e-8
_TOP = 30.0
_TOP_MAX = 1e9
_FAR, _LOG_MU = 60.0, -20.0
"""Logarithms of prices to begin with are no further from 0; of a band that had no price: this."""


def ascend(
    devices: DeviceSolver, inner: InnerSolver, log_lam: float, log_mu: float, round_s: float
) -> tuple[float, float, float]:
    """λ, μ and R at which the dual function of a fleet with one lane a device is highest.

    Args:
        devices: a solver of the fleet.
        inner: its inner problems.
        log_lam: log λ to begin with; −inf where there is no price of the error.
        log_mu: log μ to begin with.
        round_s: R to begin with, s.
    """
    problem = inner.problem
    learns = math.isfinite(log_lam)
    begin = [log_lam if learns else 0.0, log_mu if log_mu > -_FAR else _LOG_MU]
    scales = np.exp(np.clip(begin, -_FAR, _FAR))
    top = np.array([_TOP if learns else 0.0, _TOP])
    planes: list[tuple[Array, float]] = []
    at = np.array([1.0 if learns else 0.0, 1.0])
    best, best_at, best_s = -math.inf, at, round_s
    for _ in range(_CUTS_MAX):
        lam, mu = at * scales
        logs = (_log(float(lam)), _log(float(mu)))
        value = math.inf
        for length_s, optima in _shortest_and_longest(devices, inner, logs, round_s):
            slope = _slopes(inner, optima, learns)
            here = math.fsum(optima.least_j[optima.lane]) + inner.round_w * length_s
            here -= (lam * problem.error_budget if learns else 0.0) + mu * problem.bandwidth_hz
            if not (math.isfinite(here) and np.isfinite(slope).all()):
                continue
            slope = slope * scales
            planes.append((slope, here - float(slope @ at)))
            if here < value:
                value, round_s = here, length_s
        if math.isfinite(value) and value > best:
            best, best_at, best_s = value, at, round_s
        highest = linprog(
            np.array([0.0, 0.0, -1.0]),
            A_ub=np.array([[-s[0], -s[1], 1.0] for s, _ in planes]),
            b_ub=np.array([offset for _, offset in planes]),
            bounds=[(0.0, top[0]), (0.0, top[1]), (None, None)],
        ) if planes else None  # fmt: skip
        if highest is None or highest.status != 0:
            break
        if -highest.fun - best <= _CUT_CLOSE * abs(best):
            if (best_at < 0.99 * top)[top > 0].all() or top.max() > _TOP_MAX:
                break
            top = np.where(best_at >= 0.99 * top, _TOP * top, top)
        at = 0.7 * highest.x[:2] + 0.3 * best_at
    return float(best_at[0] * scales[0]), float(best_at[1] * scales[1]), best_s


def _slopes(inner: InnerSolver, optima: Optima, learns: bool) -> Array:
    """Error and band at the devices' choices, each less its limit."""
    problem = inner.problem
    slope = np.zeros(2)
    if learns:
        with np.errstate(divide="ignore"):
            error = float(inner.error_above_floor(np.log(optima.samples)))
        slope[0] = error - problem.error_budget
    slope[1] = float(optima.bandwidth_hz.sum()) - problem.bandwidth_hz
    return slope


def _shortest_and_longest(
    devices: DeviceSolver, inner: InnerSolver, logs: tuple[float, float], round_s: float
) -> list[tuple[float, Optima]]:
    """The devices just below and just above the R of least cost at prices.

    What the devices save by more time falls with log R: the R is a root, maybe at a jump.
    """
    longest = inner.problem.round_max_s

    def at(log_r: float) -> tuple[float, Optima]:
        length_s = min(math.exp(log_r), longest)
        return length_s, devices.optima(*logs, length_s)

    def rising(found: tuple[float, Optima]) -> bool:
        """Whether a longer round costs more."""
        length_s, optima = found
        if not np.isfinite(optima.least_j[optima.lane]).all():
            return False
        return math.fsum(optima.slope_j[optima.lane]) + inner.round_w * length_s >= 0

    last = at(math.log(longest))
    if not inner.free_round or not rising(last):
        return [last]
    high, step = math.log(min(round_s, longest)), 0.01
    while high < math.log(longest) and not rising(last := at(high)):
        high, step = high + step, 3.0 * step
    high = min(high, math.log(longest))
    last, low, step = at(high), high - 0.01, 0.01
    while rising(first := at(low)):
        high, last, low, step = low, first, low - step, 3.0 * step
    while high - low > _ROUND_CLOSE:
        middle = (low + high) / 2.0
        found = at(middle)
        if rising(found):
            high, last = middle, found
        else:
            low, first = middle, found
    return [first, last]


def _log(price: float) -> float:
    return math.log(price) if price > 0 else -math.inf

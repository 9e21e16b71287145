"""Every device's own optimum at given prices of error and band; docs/model.md (27)-(30).

At given prices λ and μ the devices are independent. What is left of each device's problem is convex
in log t_cmp with a derivative in closed form. One vectorised Newton iteration solves all of them at
once, in time and memory linear in their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.special import LOG_X_MAX, inverse_psi, log_psi, log_theta

_TINY, _LEAST = 1e-290, 1e-280
"""Used for a gain and for a cost of zero: where both are zero, less time is as good."""
_ITERATIONS = 120
_SETTLED = 1e-13

Flags = NDArray[np.bool_]


class DeviceSolver:
    """Every device's own optimum at given prices, (27).

    Each call starts from the result of the one before.

    Attributes:
        tau: (I,) time splits of the latest call; 0 for devices without work.
        steps: number of calls.
    """

    def __init__(self, inner: InnerSolver) -> None:
        problem = inner.problem
        self._inner = inner
        self._work = work = np.flatnonzero(inner.has_work)
        self._every = np.arange(problem.size)
        self._low_d = np.log(inner.samples_min[work])
        self._high_d = np.log(inner.samples_max[work])
        self._total_s = problem.t_max_s[work]
        self._low = np.log(inner.earliest_s[work])
        upload_s = inner.full_power_s(problem.bandwidth_hz)
        latest = np.maximum(problem.t_max_s - upload_s, inner.earliest_s)[work]
        self._high = np.maximum(np.log(latest), self._low)
        self._log_t = np.log(np.sqrt(np.exp(self._low) * np.exp(self._high)))
        self.steps = 0

    @property
    def tau(self) -> Array:
        """(I,) time splits of the latest call."""
        tau = np.zeros(self._inner.problem.size)
        tau[self._work] = np.exp(self._log_t) / self._total_s
        return tau

    def excess(self, log_lam: float, log_mu: float) -> tuple[float, float]:
        """(28) Logarithms of error over budget and bandwidth over B at log λ (or −inf), log μ."""
        inner, problem = self._inner, self._inner.problem
        self.steps += 1
        self._log_t = self._minimise(log_lam, log_mu)
        left_s = np.array(problem.t_max_s)
        left_s[self._work] -= np.exp(self._log_t)
        log_left = np.log(left_s)
        limit = inner.narrowest(log_left)[0]
        wanted = self._wanted_band(log_left, log_mu, self._every)[0]
        widest = inner.log_nats - log_left - math.log(problem.bandwidth_hz)
        log_x = np.clip(wanted, np.minimum(widest, limit), limit)
        band = float(np.exp(inner.log_nats - log_left - log_x).sum())
        wide = math.log(band / problem.bandwidth_hz)
        if not inner.bound_by_error:
            return -math.inf, wide
        log_d = np.full(problem.size, -np.inf)
        log_d[self._work] = self._samples(self._log_t, np.arange(self._work.size), log_lam)[0]
        return math.log(float(inner.error_above_floor(log_d)) / problem.error_budget), wide

    def short_at(self, log_mu: float) -> Callable[[float], float]:
        """The excess of the error as a function of log λ."""
        return lambda log_lam: self.excess(log_lam, log_mu)[0]

    def wide_at(self, log_lam: float) -> Callable[[float], float]:
        """The excess of the bandwidth as a function of log μ."""
        return lambda log_mu: self.excess(log_lam, log_mu)[1]

    def _minimise(self, log_lam: float, log_mu: float) -> Array:
        """Log t_cmp of every device with work: Newton inside a bracket, else bisection.

        Devices leave the iteration as they settle, so that a few slow ones cost little.
        """
        result = self._log_t.copy()
        active = np.arange(result.size)
        low, high = self._low.copy(), self._high.copy()
        x = np.clip(result, low, high)
        before = np.full_like(x, np.inf)
        tried_low, tried_high = np.zeros_like(x, bool), np.zeros_like(x, bool)
        for _ in range(_ITERATIONS):
            value, slope = self._balance(x, active, log_lam, log_mu)
            rises = value > 0.0
            low, high = np.where(rises, x, low), np.where(rises, high, x)
            tried_low, tried_high = tried_low | rises, tried_high | ~rises
            newton = np.clip(x - value / np.minimum(slope, -1e-12), low, high)
            # At a jump of the derivative Newton's steps return to an end that was tried before.
            back = np.where(rises, tried_high & (newton >= high), tried_low & (newton <= low))
            good = (np.abs(value) <= 0.5 * before) & ~back
            step = np.where(good, newton, (low + high) / 2.0)
            before = np.where(good, np.abs(value), np.inf)
            done = (np.abs(step - x) <= _SETTLED) | (np.abs(value) <= _SETTLED)
            result[active[done]] = step[done]
            left = ~done
            if not left.any():
                break
            active, x, before = active[left], step[left], before[left]
            low, high = low[left], high[left]
            tried_low, tried_high = tried_low[left], tried_high[left]
        else:
            result[active] = x
        return np.asarray(result)

    def _samples(
        self, log_t: Array, rows: NDArray[np.intp], log_lam: float
    ) -> tuple[Array, Flags, Flags]:
        """Log D of devices with work; where it is limited by t; where it is free."""
        inner, work = self._inner, self._work[rows]
        lowest, highest = self._low_d[rows], self._high_d[rows]
        fast = np.log(inner.problem.frequency_max_hz / inner.problem.cycles_per_pass)[work] + log_t
        wanted, slope = inner.log_samples(log_t, np.asarray(log_lam), work)
        cap = np.maximum(np.minimum(highest, fast), lowest)
        log_d = np.clip(wanted, lowest, cap)
        inside = (wanted > lowest) & (wanted < cap)
        capped = (wanted >= cap) & (fast < highest)
        return np.asarray(log_d), capped | (inside & (slope == 0.0)), inside & (slope > 0.0)

    def _wanted_band(
        self, log_left: Array, log_mu: float, columns: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        """Log x at price μ without p_max and B, and d log ψ / d log x there."""
        return inverse_psi(np.maximum(log_mu - self._inner.log_k[columns] - log_left, -700.0))

    def _balance(
        self, log_t: Array, rows: NDArray[np.intp], log_lam: float, log_mu: float
    ) -> tuple[Array, Array]:
        """(29) Log of the saving by more compute time over its cost; falls with log t."""
        inner, problem, work = self._inner, self._inner.problem, self._work[rows]
        beta = inner.beta[work]
        total_s = self._total_s[rows]
        t = np.exp(log_t)
        left = np.maximum(total_s - t, 1e-12 * total_s)
        kappa, active = problem.capacitance_w_per_hz3[work], problem.active_power_w[work]
        log_d, follows, free = self._samples(log_t, rows, log_lam)
        needed = problem.cycles_per_pass[work] * np.exp(log_d) / t
        floor = inner.floor_hz[work]
        frequency = np.clip(needed, floor, problem.frequency_max_hz[work])
        runs = needed > floor * (1.0 + 1e-14)
        switching = kappa * frequency**3 * t
        # What more time saves in computing, and the slope of its logarithm.
        worth = np.zeros_like(t)
        if inner.bound_by_error and math.isfinite(log_lam):
            log_worth = log_lam + inner.log_weight[work] + np.log(beta) - beta * log_d
            worth = np.exp(np.minimum(log_worth, 690.0))
        gain = np.where(follows, worth, np.where(runs, 2.0 * switching, 0.0))
        gain_slope = np.where(follows, -beta, np.where(free, -2.0 * beta / (3.0 + beta), -2.0))
        # What it costs: power that flows during that time, and an upload in less time.
        cost = np.where(follows, switching + active * t, np.where(runs, active * t, 0.0))
        upload, upload_slope = self._upload_cost(t, left, work, log_mu)
        total = cost + upload
        slope = (cost + upload * upload_slope) / np.maximum(total, _LEAST)
        value = np.log(np.maximum(gain, _TINY)) - np.log(np.maximum(total, _LEAST))
        return value, np.where(gain > _TINY, gain_slope, 0.0) - slope

    def _upload_cost(
        self, t: Array, left: Array, work: NDArray[np.intp], log_mu: float
    ) -> tuple[Array, Array]:
        """(30) d(e_com + μ b)/d log t_cmp, and the slope of its logarithm."""
        inner, problem = self._inner, self._inner.problem
        log_left = np.log(left)
        limit = inner.narrowest(log_left, work)[0]
        wanted, steepness = self._wanted_band(log_left, log_mu, work)
        ratio = t / left
        log_nats = inner.log_nats[work]
        # Free: −t' ∂e/∂t' = μ b.
        price = math.exp(log_mu)
        free = price * ratio * np.exp(log_nats - log_left - wanted)
        free_slope = 1.0 + ratio * (2.0 - 1.0 / steepness)
        # At full power: p_max flows for longer, bandwidth b_min(t') is saved.
        x = np.exp(limit)
        spread = np.maximum(x + np.expm1(-x), 1e-300)
        freed = price * ratio * np.exp(np.minimum(log_nats - log_left - np.log(spread), 690.0))
        bend = -np.expm1(-x) / (spread * log_theta(limit)[1])
        power = problem.transmit_power_max_w[work] * t
        limited = np.maximum(freed - power, _TINY)
        limited_slope = (freed * (1.0 + ratio * (2.0 + bend)) - power) / limited
        # With the whole band.
        log_wide = np.minimum(log_nats - log_left - math.log(problem.bandwidth_hz), LOG_X_MAX)
        psi, psi_slope = log_psi(log_wide)
        whole = np.exp(np.minimum(inner.log_k[work] + psi, 690.0)) * problem.bandwidth_hz * t
        # At the end of the window full power needs the whole band: the wanted band decides.
        at_limit = wanted >= limit
        widest = (wanted <= log_wide) & ~at_limit
        cost = np.where(at_limit, limited, np.where(widest, whole, free))
        slope = np.where(
            at_limit, limited_slope, np.where(widest, 1.0 + psi_slope * ratio, free_slope)
        )
        return cost, slope

"""Every device's own optimum at given prices of error and band; docs/model.md (27)-(30).

At given prices λ and μ, and for a given length of the round, the devices are independent. What is
left of each lane (:mod:`fimi.optim.lanes`) is a convex problem of one variable with a derivative in
closed form: log t_cmp for a law, log D at a fixed frequency. One vectorised Newton iteration solves
all of them at once, in time and memory linear in their number. A device takes its best lane.

* :class:`DeviceSolver`  solves all devices at prices and a length of the round
* :class:`Optima`        the result
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.roots import SETTLED, Balance, falling_roots
from fimi.optim.special import LOG_X_MAX

_TINY, _LEAST = 1e-290, 1e-280
"""Used for a gain and for a cost of zero: where both are zero, less time is as good."""
_LATE = 1e-12

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]


class Optima(Struct, frozen=True, eq=False):
    """Every device's optimum at prices.

    Attributes:
        least_j: lower bound on each lane's least Lagrangian, as weighted, (L,); infinite where the
            lane is too slow.
        slope_j: derivative of that least by the log of the round's length, ≤ 0, (L,).
        lane: the best lane of each device, (I,).
        samples: its D, (I,).
        compute_s: its t_cmp, (I,).
        bandwidth_hz: its b, (I,).
        time_price_w: what a second less of a round costs each device, as weighted, W, (I,).
    """

    least_j: Array
    slope_j: Array
    lane: Rows
    samples: Array
    compute_s: Array
    bandwidth_hz: Array
    time_price_w: Array


class DeviceSolver:
    """Every device's own optimum at given prices, (27).

    Each call starts from the result of the one before.

    Attributes:
        steps: number of calls.
    """

    def __init__(self, inner: InnerSolver) -> None:
        lanes = inner.lanes
        self._inner = inner
        works = inner.has_work[lanes.owner]
        self._laws = np.flatnonzero(works & ~lanes.fixed)
        self._fixed = np.flatnonzero(works & lanes.fixed)
        self._log_t = np.full(lanes.size, np.nan)
        self._full_band_s = inner.radio.full_power_s(inner.problem.bandwidth_hz)
        self.steps = 0

    def optima(self, log_lam: float, log_mu: float, round_s: float) -> Optima:
        """The optima at log λ (−inf: no learning constraint), log μ (−inf: free band)."""
        inner, lanes, problem = self._inner, self._inner.lanes, self._inner.problem
        self.steps += 1
        total_s = np.minimum(problem.t_max_s, round_s - problem.receive_s)
        late = total_s < self._full_band_s * (1.0 - _LATE)
        total_s = np.maximum(total_s, self._full_band_s)
        log_mus = log_mu - inner.log_scale
        log_t, log_d, slack = np.zeros(lanes.size), np.array(lanes.log_low), np.zeros(lanes.size)
        out = late[lanes.owner]
        price = np.zeros(lanes.size)
        at_end = np.zeros(lanes.size)
        for rows, solve in ((self._laws, self._law), (self._fixed, self._step)):
            if rows.size:
                solve(rows, total_s, log_lam, log_mus, log_t, log_d, slack, at_end, out)
        own = lanes.owner
        works = np.zeros(lanes.size, bool)
        works[self._laws] = works[self._fixed] = True
        compute_s = np.where(works, np.exp(log_t), 0.0)
        left_s = np.maximum(total_s[own] - compute_s, self._full_band_s[own])
        log_left = np.log(left_s)
        sent = inner.radio.send(log_left, log_mus[own], own)
        upload_j = inner.radio.energy_j(sent.log_t, np.minimum(sent.log_x, LOG_X_MAX), own)
        band = np.exp(sent.log_band)
        price = inner.radio.time_price(log_left, log_mus[own], own)[0]
        scale = inner.weights.dynamic[own]
        samples = np.exp(log_d)
        cycles = lanes.cycles * samples
        frequency = np.clip(
            cycles / np.where(works, compute_s, 1.0), lanes.floor_hz, lanes.highest_hz
        )
        training = cycles * (lanes.kappa * frequency**2 + lanes.active_w / frequency)
        least = training + lanes.sample_j * samples + scale * upload_j + math.exp(log_mu) * band
        if inner.bound_by_error and math.isfinite(log_lam):
            counted = np.isfinite(lanes.log_weight)
            exponent = log_lam + lanes.log_weight[counted] - lanes.beta[counted] * log_d[counted]
            least[counted] += np.exp(np.minimum(exponent, 690.0))
        least = np.where(out, np.inf, least - slack)
        # A window that ends at its limit is worth what its end is worth.
        worth = np.maximum(scale * price, at_end)
        follows = round_s - problem.receive_s < problem.t_max_s
        worth = np.where(follows[own], worth, 0.0)
        pick = lanes.least(least)
        return Optima(
            least_j=least,
            slope_j=np.where(out, 0.0, -worth * round_s),
            lane=pick,
            samples=samples[pick],
            compute_s=compute_s[pick],
            bandwidth_hz=band[pick],
            time_price_w=worth[pick],
        )

    def _law(
        self,
        rows: Rows,
        total_s: Array,
        log_lam: float,
        log_mus: Array,
        log_t: Array,
        log_d: Array,
        slack: Array,
        at_end: Array,
        out: Flags,
    ) -> None:
        """Laws: the root in log t_cmp."""
        inner, lanes = self._inner, self._inner.lanes
        own = lanes.owner[rows]
        low = lanes.log_low[rows] - inner.log_fast[rows]
        with np.errstate(divide="ignore"):
            high = np.log(total_s[own] - self._full_band_s[own])
        out[rows] |= high < low - _LATE
        high = np.maximum(high, low)

        def balance(x: Array, active: Rows) -> Balance:
            return self._law_balance(x, rows[active], total_s, log_lam, log_mus)

        found, width = falling_roots(balance, low, high, self._log_t[rows])
        end = balance(found, np.arange(rows.size))
        self._log_t[rows] = log_t[rows] = found
        log_d[rows] = self._law_samples(found, rows, log_lam)[0]
        slack[rows] = np.abs(end.net_j) * width
        own_j = self._saved_by_time(found, rows, total_s, log_lam)
        at_end[rows] = np.where(found >= high - SETTLED, own_j / np.exp(found), 0.0)

    def _step(
        self,
        rows: Rows,
        total_s: Array,
        log_lam: float,
        log_mus: Array,
        log_t: Array,
        log_d: Array,
        slack: Array,
        at_end: Array,
        out: Flags,
    ) -> None:
        """Fixed frequencies: the root in log D, written as log t_cmp = log D − log(f/(E C))."""
        inner, lanes = self._inner, self._inner.lanes
        own = lanes.owner[rows]
        fast = inner.log_fast[rows]
        low = lanes.log_low[rows] - fast
        with np.errstate(divide="ignore"):
            room = np.log(total_s[own] - self._full_band_s[own])
        high = np.minimum(lanes.log_high[rows] - fast, room)
        out[rows] |= room < low - _LATE
        high = np.maximum(high, low)

        def balance(x: Array, active: Rows) -> Balance:
            return self._step_balance(x, rows[active], total_s, log_lam, log_mus)

        found, width = falling_roots(balance, low, high, self._log_t[rows])
        end = balance(found, np.arange(rows.size))
        self._log_t[rows] = log_t[rows] = found
        log_d[rows] = found + fast
        slack[rows] = np.abs(end.net_j) * width
        gain = self._worth(log_d[rows], rows, log_lam) - inner.slow_sample_j[rows] * np.exp(
            log_d[rows]
        )
        at_end[rows] = np.where(
            (found >= high - SETTLED) & (high >= room), np.maximum(gain, 0.0) / np.exp(found), 0.0
        )

    def _worth(self, log_d: Array, rows: Rows, log_lam: float) -> Array:
        """λ w α β D^(−β): what a relative increase of the data is worth, J."""
        lanes = self._inner.lanes
        if not (self._inner.bound_by_error and math.isfinite(log_lam)):
            return np.zeros(rows.size)
        with np.errstate(divide="ignore"):
            exponent = log_lam + lanes.log_weight[rows] + np.log(lanes.beta[rows])
        return np.asarray(np.exp(np.minimum(exponent - lanes.beta[rows] * log_d, 690.0)))

    def _upload(self, t: Array, rows: Rows, total_s: Array, log_mus: Array) -> tuple[Array, Array]:
        """(30) d(ρ e_com + μ b)/d log t_cmp, and the slope of its logarithm."""
        inner = self._inner
        own = inner.lanes.owner[rows]
        left = np.maximum(total_s[own] - t, self._full_band_s[own])
        price, slope = inner.radio.time_price(np.log(left), log_mus[own], own)
        cost = inner.weights.dynamic[own] * price * t
        return cost, 1.0 - slope * t / left

    def _step_balance(
        self, log_t: Array, rows: Rows, total_s: Array, log_lam: float, log_mus: Array
    ) -> Balance:
        inner, lanes = self._inner, self._inner.lanes
        log_d = log_t + inner.log_fast[rows]
        gain = self._worth(log_d, rows, log_lam)
        cost = inner.slow_sample_j[rows] * np.exp(log_d)
        upload, upload_slope = self._upload(np.exp(log_t), rows, total_s, log_mus)
        total = cost + upload
        slope = (cost + upload * upload_slope) / np.maximum(total, _LEAST)
        value = np.log(np.maximum(gain, _TINY)) - np.log(np.maximum(total, _LEAST))
        gain_slope = np.where(gain > _TINY, -lanes.beta[rows], 0.0)
        return Balance(value, gain_slope - slope, total - gain)

    def _law_samples(
        self, log_t: Array, rows: Rows, log_lam: float
    ) -> tuple[Array, Flags, Flags, Array]:
        """Log D of laws; where it is limited by t; where it is free; d log D / d log t there."""
        inner, lanes = self._inner, self._inner.lanes
        lowest, highest = lanes.log_low[rows], lanes.log_high[rows]
        fast = inner.log_fast[rows] + log_t
        wanted, slope, by_time = inner.log_samples(log_t, log_lam, rows)
        cap = np.maximum(np.minimum(highest, fast), lowest)
        log_d = np.clip(wanted, lowest, cap)
        inside = (wanted > lowest) & (wanted < cap)
        capped = (wanted >= cap) & (fast < highest)
        return (
            np.asarray(log_d),
            capped | (inside & (slope == 0.0)),
            inside & (slope > 0.0),
            by_time,
        )

    def _saved_by_time(self, log_t: Array, rows: Rows, total_s: Array, log_lam: float) -> Array:
        """−dC/d log t of training alone, J, ≥ 0."""
        gain, cost, _, _ = self._training(log_t, rows, log_lam)
        return np.maximum(gain - cost, 0.0)

    def _training(
        self, log_t: Array, rows: Rows, log_lam: float
    ) -> tuple[Array, Array, Array, Array]:
        """(29) What more time saves in training and what it costs, J; both logarithms' slopes."""
        lanes = self._inner.lanes
        t = np.exp(log_t)
        beta, kappa, active = lanes.beta[rows], lanes.kappa[rows], lanes.active_w[rows]
        log_d, follows, free, by_time = self._law_samples(log_t, rows, log_lam)
        needed = lanes.cycles[rows] * np.exp(log_d) / t
        floor = lanes.floor_hz[rows]
        frequency = np.clip(needed, floor, lanes.highest_hz[rows])
        runs = needed > floor * (1.0 + 1e-14)
        switching = kappa * frequency**3 * t
        worth = self._worth(log_d, rows, log_lam)
        gain = np.where(follows, worth, np.where(runs, 2.0 * switching, 0.0))
        gain_slope = np.where(follows, -beta, np.where(free, 3.0 * by_time - 2.0, -2.0))
        flat = lanes.sample_j[rows] * np.exp(log_d)
        cost = np.where(follows, switching + active * t + flat, np.where(runs, active * t, 0.0))
        return gain, cost, gain_slope, np.ones_like(t)

    def _law_balance(
        self, log_t: Array, rows: Rows, total_s: Array, log_lam: float, log_mus: Array
    ) -> Balance:
        """(29) Log of the saving by more compute time over its cost; falls with log t."""
        gain, cost, gain_slope, cost_slope = self._training(log_t, rows, log_lam)
        upload, upload_slope = self._upload(np.exp(log_t), rows, total_s, log_mus)
        total = cost + upload
        slope = (cost * cost_slope + upload * upload_slope) / np.maximum(total, _LEAST)
        value = np.log(np.maximum(gain, _TINY)) - np.log(np.maximum(total, _LEAST))
        return Balance(value, np.where(gain > _TINY, gain_slope, 0.0) - slope, total - gain)

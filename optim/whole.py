"""The least bandwidth of any plan in whole samples: whether a plan that can run exists.

At full speed and power a device with D samples needs the band b(D), convex, and has the error e(D),
convex and falling. So the least Σ b(D) with Σ e(D) within its limit is a separable convex problem
in whole numbers, docs/model.md (25)-(26). Every step of a device from D to D + 1 buys less error
for more band than the one before, so that the steps in the order of error for band are a list of
plans, each the leanest with its error. The first that meets the limit is at most one step above
the least; the exact least is found among the choices that a Lagrangian bound leaves over.

Synthetic samples may be worth less than real ones, docs/model.md (43).

* :class:`FullSpeed`   b(D), e(D) and the range of D of every device
* :func:`least_whole`  the least bandwidth in whole samples, and the samples that need no more
* :func:`exists`       whether a plan in whole samples exists, budgets of joules aside
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.leanest import least_bandwidth
from fimi.optim.problem import FimiProblem
from fimi.optim.radio import Radio

_KEPT = 5e-10
"""A limit broken by less, relative to its value, is kept: half of what a plan is allowed."""
_LATE = 1e-12
_REACH = 2
"""Whole numbers on each side of the best real ones that are looked at first."""
_REACH_MAX = 4096
_CELLS = 4_000_000
_CORE, _STATES = 16, 3_000
"""Devices whose choice is searched for the exact least, and partial choices that are kept."""
_KNOWN = 1e-6
"""A least bandwidth that is known to this, relatively, is not searched for more closely."""


class WholeLeanest(Struct, frozen=True, eq=False):
    """The plan in whole samples that needs the least bandwidth.

    Attributes:
        bandwidth_hz: Σ b; infinite if no plan exists whatever the band.
        samples: D, whole numbers, (I,); the least ones if no plan exists.
    """

    bandwidth_hz: float
    samples: Array


class FullSpeed:
    """Band and error of devices that train and send as fast as they can.

    Args:
        problem: the problem.
        synthetic_value: q, what a synthetic sample is worth in real ones.

    Attributes:
        constrained: whether there is a limit on the error.
        limit: the limit on Σ w α D^(−β).
        low: least D, whole numbers, (I,).
        high: largest D that can be trained on and sent in time, (I,); below ``low`` if there is
            none.
    """

    def __init__(self, problem: FimiProblem, synthetic_value: float = 1.0) -> None:
        self.problem = problem
        self._value = synthetic_value
        self._radio = Radio(problem)
        self._sample_s = problem.cycles_per_pass / problem.frequency_max_hz
        self.constrained = problem.curve is not None and math.isfinite(problem.error_budget)
        self.limit = problem.error_budget + _KEPT * problem.error_max if self.constrained else 0.0
        local = problem.local_samples
        counts = (problem.weights > 0) & self.constrained
        self.low = np.where(counts, np.maximum(local, 1.0), local)
        most = np.where(self.constrained, local + problem.generated_max, local)
        # Without any limit on the band a device sends N0 S ln2 / (h p_max) s.
        endless_s = np.exp(self._radio.log_k + self._radio.log_nats) / problem.transmit_power_max_w
        self._sending_s = np.maximum(endless_s, self._radio.shortest_s)
        room = (problem.t_max_s - self._sending_s) / self._sample_s
        high = np.minimum(most, np.floor(room * (1.0 + _LATE)))
        # By rounding the last one may be a little too many.
        fits = np.isfinite(self.band_hz(np.maximum(high, 0.0)))
        self.high = np.where(fits, high, high - 1.0)

    def shortest_s(self, samples: Array) -> Array:
        """Shortest time for training on D and sending, with any band, s, (..., I)."""
        return np.asarray(self._sample_s * samples + self._sending_s)

    def band_hz(self, samples: Array) -> Array:
        """(26) b(D), (..., I); infinite where D is too many."""
        left_s = self.problem.t_max_s - self._sample_s * samples
        log_t = np.log(np.maximum(left_s, 1e-300))
        log_x, late = self._radio.narrowest(log_t)
        fits = (left_s > 0) & (late <= _LATE)
        log_b = np.minimum(self._radio.log_nats - log_t - log_x, 690.0)
        return np.where(fits, np.exp(log_b), np.inf)

    def error(self, samples: Array) -> Array:
        """W α D^(−β) of each device, (..., I); infinite without data."""
        problem = self.problem
        if not self.constrained or problem.curve is None:
            return np.zeros(np.shape(samples))
        local = problem.local_samples
        worth = local + self._value * (samples - local)
        worth = problem.worth_scale * worth**problem.worth_exponent
        counts = problem.weights > 0
        safe = np.where(worth > 0, worth, 1.0)
        own = problem.weights * problem.curve.alpha * safe**-problem.curve.beta
        return np.asarray(np.where(counts, np.where(worth > 0, own, np.inf), 0.0))


class _Grid(Struct, frozen=True, eq=False):
    """Whole numbers around some of every device, (K, I), with their bands and errors."""

    samples: Array
    band: Array
    error: Array


def exists(problem: FimiProblem, synthetic_value: float = 1.0) -> bool:
    """Whether a plan in whole samples exists, budgets of joules aside."""
    enough_hz = problem.bandwidth_hz * (1.0 + _KEPT)
    return least_whole(problem, synthetic_value, enough_hz=enough_hz).bandwidth_hz <= enough_hz


def least_whole(
    problem: FimiProblem, synthetic_value: float = 1.0, *, enough_hz: float = 0.0
) -> WholeLeanest:
    """The least bandwidth of plans in whole samples, at full speed and power.

    To a millionth for small fleets; for large ones at most one sample of one device above.

    Args:
        problem: the problem; its budgets of joules are ignored.
        synthetic_value: q.
        enough_hz: a plan with no more than this is returned without a search for a leaner one.
    """
    fleet = FullSpeed(problem, synthetic_value)
    nothing = WholeLeanest(math.inf, fleet.low)
    if (fleet.high < fleet.low).any():
        return nothing
    if not fleet.constrained or fleet.error(fleet.low).sum() <= fleet.limit:
        return WholeLeanest(float(fleet.band_hz(fleet.low).sum()), fleet.low)
    if fleet.error(fleet.high).sum() > fleet.limit:
        return nothing
    real = least_bandwidth(problem, synthetic_value=synthetic_value).samples
    centre = np.floor(np.clip(real, fleet.low, fleet.high))
    found = _in_order(fleet, centre)
    grid, samples, price = found
    best = float(fleet.band_hz(samples).sum())
    if best > enough_hz:
        samples = _leaner(fleet, grid, samples, price)
        best = float(fleet.band_hz(samples).sum())
    return WholeLeanest(best, samples)


def _in_order(fleet: FullSpeed, centre: Array) -> tuple[_Grid, Array, float]:
    """The first plan in the order of error for band that meets the limit, and band for error there.

    The whole numbers that are looked at lie around ``centre``; they are moved and become more until
    none but the ends of the devices' ranges limit the plan.
    """
    reach = _REACH
    while True:
        grid = _grid(fleet, centre, reach)
        samples, price = _first(fleet, grid)
        first, last = grid.samples[0], grid.samples[-1]
        cut = (samples <= first) & (first > fleet.low) | (samples >= last) & (last < fleet.high)
        short = fleet.error(samples).sum() > fleet.limit
        if not (cut.any() or short):
            return grid, samples, price
        if reach >= _REACH_MAX or grid.samples.size >= _CELLS:
            break
        centre, reach = samples, 2 * reach
    if short:  # more than whole numbers tell apart: all the data there is time for
        samples = fleet.high
    return grid, samples, price


def _grid(fleet: FullSpeed, centre: Array, reach: int) -> _Grid:
    moves = np.arange(-reach, reach + 1, dtype=float)[:, None]
    samples = np.clip(centre + moves, fleet.low, fleet.high)
    return _Grid(samples, fleet.band_hz(samples), fleet.error(samples))


def _first(fleet: FullSpeed, grid: _Grid) -> tuple[Array, float]:
    """The steps of a grid in the order of error for band, as many as the limit asks for."""
    size = grid.samples.shape[1]
    wider = np.maximum(np.diff(grid.band, axis=0), 0.0)
    with np.errstate(invalid="ignore"):
        better = np.maximum(-np.diff(grid.error, axis=0), 0.0)
    moves = np.diff(grid.samples, axis=0) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(moves, better / wider, -1.0)
    value = np.where(np.isnan(value), 0.0, value)
    # Rounding errors must not put a step before the one that it follows.
    kept = np.minimum.accumulate(np.where(moves, value, np.inf), axis=0)
    value = np.where(moves, kept, -1.0).ravel()
    order = np.argsort(-value, kind="stable")
    order = order[value[order] >= 0]
    total = float(grid.error[0].sum())
    left = total - np.cumsum(better.ravel()[order])
    count = 0 if total <= fleet.limit else int(np.argmax(left <= fleet.limit)) + 1
    if total > fleet.limit and not (left <= fleet.limit).any():
        count = order.size
    taken = np.bincount(order[:count] % size, minlength=size)
    last = order[max(count, 1) - 1] if order.size else 0
    worth = value[last] if order.size else 0.0
    return grid.samples[0] + taken, 1.0 / worth if worth > 0 else math.inf


def _leaner(fleet: FullSpeed, grid: _Grid, samples: Array, price: float) -> Array:
    """The least plan of those that a Lagrangian bound does not exclude, or the given one.

    At a price of the error every choice of a device is worse than its best by some band. A plan
    that is leaner than the given one is worse by less than the given one is above the bound.
    """
    if not math.isfinite(price):
        return samples
    best_hz = float(fleet.band_hz(samples).sum())
    while True:
        cost = grid.band + price * grid.error
        worse = cost - cost.min(axis=0)
        gap = best_hz - (float(cost.min(axis=0).sum()) - price * fleet.limit)
        if gap <= _KNOWN * best_hz:
            return samples
        gap = gap * (1.0 + 1e-9) + 1e-12 * best_hz
        open_low = (worse[0] <= gap) & (grid.samples[0] > fleet.low)
        open_high = (worse[-1] <= gap) & (grid.samples[-1] < fleet.high)
        reach = len(grid.samples) // 2
        if not (open_low | open_high).any() or reach >= _REACH_MAX:
            break
        if 2 * grid.samples.size > _CELLS:
            break
        grid = _grid(fleet, samples, 2 * reach)
    fresh = np.concatenate([np.ones((1, len(samples)), bool), np.diff(grid.samples, axis=0) > 0])
    allowed = fresh & (worse <= gap)
    # Devices with the closest second choices; the others keep their best one.
    second = np.sort(np.where(fresh, worse, np.inf), axis=0)[1]
    core = np.argsort(second, kind="stable")[:_CORE]
    core = core[second[core] <= gap]
    best = worse.argmin(axis=0)
    rest = np.ones(len(samples), bool)
    rest[core] = False
    columns = np.arange(len(samples))
    chosen = grid.samples[best, columns]
    states = np.array(
        [[grid.band[best, columns][rest].sum()], [grid.error[best, columns][rest].sum()], [0.0]]
    )
    picks = np.zeros((0, 1), np.intp)
    for device in core:
        own = np.flatnonzero(allowed[:, device])
        more = np.array([grid.band[own, device], grid.error[own, device], worse[own, device]])
        states, picks = _merged(states, picks, more, own, gap)
    meets = np.flatnonzero(states[1] <= fleet.limit)
    if not meets.size:
        return samples
    pick = meets[np.argmin(states[0, meets])]
    if states[0, pick] >= best_hz:
        return samples
    chosen[core] = grid.samples[picks[:, pick], core]
    return np.asarray(chosen)


def _merged(
    states: Array, picks: NDArray[np.intp], more: Array, own: NDArray[np.intp], gap: float
) -> tuple[Array, NDArray[np.intp]]:
    """Partial choices with one device more: those that no other one is better than in both."""
    sums = (states[:, :, None] + more[:, None, :]).reshape(3, -1)
    order = np.lexsort((sums[1], sums[0]))
    order = order[sums[2, order] <= gap]
    least = np.minimum.accumulate(np.concatenate([[np.inf], sums[1, order][:-1]]))
    order = order[sums[1, order] < least]
    if order.size > _STATES:
        order = order[np.argsort(sums[2, order], kind="stable")[:_STATES]]
    row, column = np.divmod(order, more.shape[1])
    return sums[:, order], np.concatenate([picks[:, row], own[column][None]])

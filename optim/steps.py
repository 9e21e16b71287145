"""A better choice of steps, whole samples and length of the round than rounding gives.

The prices of :mod:`fimi.optim.joint` say what each step of each device costs as a Lagrangian. Their
sum is additive over the devices, so that the choices of steps with the least sums are found by
keeping the best partial sums (a beam). For each of these choices the problem that is left is
convex: samples by one price of the error per choice, band and power by (P3). Its result is rounded
to whole samples, and the best is kept. docs/model.md (38).

:func:`improve` does this from a feasible plan.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.device_optimum import DeviceSolver
from fimi.optim.inner import InnerSolver
from fimi.optim.prices import Prices
from fimi.optim.realise import Work, cost
from fimi.optim.roots import Balance, falling_root, falling_roots

Rows = NDArray[np.intp]

_CELLS = 2_000
"""Choices of steps times devices that are looked at, for each length of the round."""
_CHOICES_MAX, _CHOICES_MIN = 256, 6
_ROUNDS = np.array([1.0, 0.985, 1.015, 0.96, 1.04, 0.92, 1.09, 0.86, 1.16])
"""Lengths of the round that are tried, relative to that of the prices."""
_SETTLING = 3
_FINE = 1e-9
_SLACK = 1e-9
_SMALL = 12
"""Fleets up to this size try all of these lengths, larger ones the first three."""
FEW = 3
"""Fleets up to this size have the whole samples around the best ones tried as well."""
_AROUND = np.array([-21, -13, -8, -5, -3, -2, -1, 0, 1, 2, 3, 5, 8, 13, 21], float)
"""By how many samples all but one device are moved."""
_CHOICES_AROUND, _AGAIN = 8, 6
_POLISHED, _FEWER = 12, 4
"""So many of the whole samples around a plan get their own best length of the round."""
_LENGTHS = np.array([1.0, 0.97, 1.03])
_POLISH = np.linspace(-1.0, 1.0, 21)
_POLISH_WIDTHS = (0.05, 0.006, 0.0006)


def improve(inner: InnerSolver, prices: Prices, start: Work, enough_j: float) -> Work:
    """The best plan found from the prices and from one feasible candidate; never a worse one.

    The search ends early when a plan takes no more than ``enough_j``.
    """
    best = _polished(inner, start)
    best_j = float(cost(inner, best).energy_j[0])
    rounds = np.array([prices.round_s])
    if inner.free_round:
        ratios = _ROUNDS if inner.problem.size <= _SMALL else _ROUNDS[:3]
        rounds = np.minimum(prices.round_s * ratios, inner.problem.round_max_s)
    devices = DeviceSolver(inner)
    tried: list[tuple[float, Work]] = []
    for round_s in dict.fromkeys(rounds):
        if best_j <= enough_j:
            return best
        found = _at_round(inner, devices, prices, float(round_s), start)
        costs = cost(inner, found).energy_j
        first = int(np.argmin(costs))
        tried += [(float(costs[row]), found.row(row)) for row in range(len(costs))]
        if costs[first] < best_j:
            best, best_j = found.row(first), float(costs[first])
    best = _polished(inner, best)
    if inner.problem.size > FEW:
        return best
    for work in [best, *_distinct(tried, prices)]:
        if best_j <= enough_j:
            return best
        near = _polished(inner, _around(inner, work))
        near_j = float(cost(inner, near).energy_j[0])
        if near_j < best_j:
            best, best_j = near, near_j
    for _ in range(_AGAIN):
        near = _polished(inner, _around(inner, best))
        near_j = float(cost(inner, near).energy_j[0])
        if near_j >= best_j:
            break
        best, best_j = near, near_j
    return best


def _distinct(tried: list[tuple[float, Work]], prices: Prices) -> list[Work]:
    """The cheapest candidate of each choice of steps, the cheapest choices first.

    Candidates that rounding has made infeasible come last, those of lengths next to the prices'
    first.
    """

    def rank(each: tuple[float, Work]) -> tuple[float, float]:
        return each[0], abs(math.log(float(each[1].round_s[0]) / prices.round_s))

    first: dict[bytes, Work] = {}
    for _, work in sorted(tried, key=rank):
        first.setdefault(work.lane.tobytes(), work)
    return list(first.values())[:_CHOICES_AROUND]


def _at_round(
    inner: InnerSolver, devices: DeviceSolver, prices: Prices, round_s: float, start: Work
) -> Work:
    """Candidates in whole samples for a length of the round: the least sums, and the start's."""
    lanes = inner.lanes
    optima = devices.optima(prices.log_lam, prices.log_mu, round_s)
    law_hz = np.broadcast_to(start.frequency_hz, (1, inner.problem.size))
    chosen = np.concatenate([_least_sums(inner, optima.least_j), start.lane])
    speed = np.where(lanes.step[chosen] >= 0, lanes.highest_hz[chosen], law_hz)
    lengths = np.full(len(chosen), round_s)
    log_d = _settled(inner, chosen, speed, lengths, prices)
    samples = _rounded(inner, log_d, chosen, speed, lengths)
    return Work(samples, chosen, speed, lengths)


def _least_sums(inner: InnerSolver, least_j: Array) -> Rows:
    """The choices of one lane for every device with the least sums, (n, I)."""
    lanes, size = inner.lanes, inner.problem.size
    keep = int(np.clip(_CELLS // size, _CHOICES_MIN, _CHOICES_MAX))
    ends = np.append(lanes.starts[1:], lanes.size)
    sums, choices = np.zeros(1), np.zeros((1, 0), np.intp)
    for first, end in zip(lanes.starts, ends, strict=True):
        own = np.arange(first, end)
        own = own[np.isfinite(least_j[own])] if np.isfinite(least_j[own]).any() else own[-1:]
        total = (sums[:, None] + np.where(np.isfinite(least_j[own]), least_j[own], 1e30)).ravel()
        order = np.argsort(total, kind="stable")[:keep]
        row, column = np.unravel_index(order, (sums.size, own.size))
        sums = total[order]
        choices = np.concatenate([choices[row], own[column][:, None]], axis=1)
    return choices


def _settled(inner: InnerSolver, lane: Rows, speed: Array, round_s: Array, prices: Prices) -> Array:
    """Log D, (S, I), of least energy for given lanes and speeds, the band shared by (P3)."""
    lanes, problem, radio = inner.lanes, inner.problem, inner.radio
    total_s = inner.windows_s(round_s)
    sample_s = problem.cycles_per_pass / speed
    idling = lanes.kappa[lane] * speed**2 + lanes.active_w[lane] / speed
    log_sample_j = np.log(lanes.sample_j[lane] + lanes.cycles[lane] * idling)
    low = np.broadcast_to(lanes.log_low[lanes.starts], lane.shape)
    works = np.broadcast_to(inner.has_work, lane.shape)
    room = total_s - radio.full_power_s(problem.bandwidth_hz)
    with np.errstate(divide="ignore", invalid="ignore"):
        high = np.minimum(lanes.log_high[lane], np.log(np.maximum(room, 1e-300) / sample_s))
    high = np.where(works, np.maximum(high, low), low)
    if not inner.bound_by_error:
        return np.array(low)
    gain = lanes.log_weight[lane] + np.log(lanes.beta[lane])
    beta = lanes.beta[lane]
    free = works & np.isfinite(gain) & (high > low)
    log_mu = np.full(len(lane), prices.log_mu)
    log_lam = np.full(len(lane), prices.log_lam if math.isfinite(prices.log_lam) else 0.0)

    own = np.broadcast_to(np.arange(problem.size), lane.shape)[free]
    row = np.broadcast_to(np.arange(len(lane))[:, None], lane.shape)[free]
    per_s, total, worth = sample_s[free], total_s[free], gain[free]
    fall, cost_j = beta[free], log_sample_j[free]
    scale, least_s = np.exp(inner.log_scale), radio.full_power_s(problem.bandwidth_hz)

    def wanted(log_lam: Array, start: Array) -> tuple[Array, Array]:
        """Log D at a price of the error, (n,), and its derivative by the log of that price."""

        def balance(log_d: Array, active: Rows) -> Balance:
            device = own[active]
            t = per_s[active] * np.exp(log_d)
            left = np.maximum(total[active] - t, least_s[device])
            price, steep = radio.time_price(
                np.log(left), log_mu[row[active]] - inner.log_scale[device], device
            )
            training = np.exp(cost_j[active] + log_d)
            waiting = scale[device] * price * t
            whole = np.maximum(training + waiting, 1e-300)
            value = log_lam[row[active]] + worth[active] - fall[active] * log_d - np.log(whole)
            slope = -fall[active] - (training + waiting * (1.0 - steep * t / left)) / whole
            return Balance(value, slope, whole)

        every = np.arange(own.size)
        root, _ = falling_roots(balance, low[free], high[free], start, tolerance=_FINE)
        inside = (root > low[free]) & (root < high[free])
        slope = np.minimum(balance(root, every).slope, -1e-12)
        return root, np.where(inside, -1.0 / slope, 0.0)

    y = np.full(own.size, np.nan)
    log_d = np.array(low)
    by_price = np.zeros(lane.shape)
    with np.errstate(invalid="ignore"):
        held = np.where(problem.weights > 0, np.exp(lanes.log_weight[lane] - beta * low), 0.0)

    for _ in range(_SETTLING):

        def excess(log_lam: Array) -> tuple[Array, Array]:
            nonlocal y
            y, moves = wanted(log_lam, y)
            by_price[free] = moves
            term = held.copy()
            term[free] = np.exp(lanes.log_weight[lane][free] - fall * y)
            error = term.sum(axis=1)
            return np.log(error / problem.error_budget), -(beta * term * by_price).sum(
                axis=1
            ) / error

        log_lam = falling_root(
            excess, log_lam - 12.0, log_lam + 12.0, start=log_lam, tolerance=1e-6, iterations=40
        )
        y, _ = wanted(log_lam + 2e-6 * np.maximum(1.0, np.abs(log_lam)), y)
        log_d[free] = y
        upload = inner.upload(total_s - sample_s * np.exp(log_d))
        log_mu = np.where(np.isfinite(upload.log_multiplier), upload.log_multiplier, -650.0)
    return log_d


def _rounded(inner: InnerSolver, log_d: Array, lane: Rows, speed: Array, round_s: Array) -> Array:
    """Whole samples, (S, I): up everywhere, then down where the error allows it."""
    problem = inner.problem
    samples = np.exp(log_d)
    down = np.maximum(np.floor(samples + 1e-6), problem.local_samples)
    least = np.where(problem.weights > 0, np.maximum(down, 1.0), down)
    if not inner.bound_by_error:
        return down
    up = np.maximum(np.minimum(np.ceil(samples - 1e-6), inner.samples_max), least)
    error_up, error_down = inner.errors(up), inner.errors(least)
    total = error_up.sum(axis=1)
    limit = problem.error_budget * (1.0 + _SLACK)
    chosen = up.copy()
    # Those next to the lower whole number lose least by going down.
    order = np.argsort(samples - least, axis=1, kind="stable")
    rows = np.arange(len(samples))
    for column in order.T:
        more = error_down[rows, column] - error_up[rows, column]
        take = (total + more <= limit) & (least[rows, column] < up[rows, column])
        total = np.where(take, total + more, total)
        chosen[rows, column] = np.where(take, least[rows, column], chosen[rows, column])
    return np.asarray(chosen)


def _polished(inner: InnerSolver, work: Work) -> Work:
    """The best row, each at its best length of the round for the same samples and speeds."""
    best, best_j = work, cost(inner, work).energy_j
    if inner.free_round:
        count, rows = _POLISH.size, np.arange(len(best_j))
        for width in _POLISH_WIDTHS:
            lengths = np.minimum(
                np.multiply.outer(best.round_s, 1.0 + width * _POLISH), inner.problem.round_max_s
            )
            near = Work(
                np.repeat(best.samples, count, axis=0),
                np.repeat(best.lane, count, axis=0),
                np.repeat(best.frequency_hz, count, axis=0),
                lengths.ravel(),
            )
            costs = cost(inner, near).energy_j.reshape(lengths.shape)
            column = np.argmin(costs, axis=1)
            better = costs[rows, column] < best_j
            best_j = np.where(better, costs[rows, column], best_j)
            length = np.where(better, lengths[rows, column], best.round_s)
            # Few of them are worth the next, finer width.
            left = np.argsort(best_j, kind="stable")[: max(len(best_j) // _FEWER, 1)]
            best = Work(best.samples[left], best.lane[left], best.frequency_hz[left], length[left])
            best_j, rows = best_j[left], rows[: len(left)]
    return best.row(int(np.argmin(best_j)))


def _around(inner: InnerSolver, work: Work) -> Work:
    """The best whole samples next to those of a candidate, for a fleet of few devices.

    All but one device have any number around theirs; the one takes the least that meets the error.
    """
    problem, size = inner.problem, inner.problem.size
    local = problem.local_samples
    low = np.where(problem.weights > 0, np.maximum(local, 1.0), local)
    high = np.maximum(inner.samples_max, low)
    first = inner.lanes.starts
    weight, beta = inner.lanes.log_weight[first], inner.lanes.beta[first]
    found: list[Array] = []
    numbers = [
        np.arange(low[k], high[k] + 1.0)
        if high[k] - low[k] < 2 * _AROUND.size
        else np.unique(np.clip(work.samples[0, k] + _AROUND, low[k], high[k]))
        for k in range(size)
    ]
    for last in range(size) if inner.bound_by_error else ():
        if not problem.weights[last] > 0:
            continue
        others = [k for k in range(size) if k != last]
        choices = list(itertools.product(*(numbers[k] for k in others)))
        rows = np.repeat(work.samples, len(choices), axis=0)
        rows[:, others] = choices
        rows = np.clip(rows, low, high)
        rest = problem.error_budget * (1.0 + _SLACK) - np.delete(
            inner.errors(rows), last, axis=1
        ).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            least = np.exp((weight[last] - np.log(rest)) / beta[last])
        rows[:, last] = np.maximum(np.ceil(least - 1e-9), low[last])
        found.append(rows[(rest > 0) & (rows[:, last] <= high[last])])
    samples = np.unique(np.concatenate([work.samples, *found]), axis=0)
    # A law takes as long as before; a step has its speed.
    lane = np.repeat(work.lane, len(samples), axis=0)
    scaled = work.frequency_hz * samples / np.maximum(work.samples, 1.0)
    speed = np.clip(scaled, inner.lanes.floor_hz[lane], inner.lanes.highest_hz[lane])
    lengths = np.repeat(work.round_s[None], len(samples), axis=0)
    if inner.free_round:
        # Whichever device sets the pace keeps its time for the upload.
        took = problem.cycles_per_pass * work.samples / work.frequency_hz
        longer = problem.cycles_per_pass * samples / speed - took
        lengths = np.concatenate(
            [work.round_s * _LENGTHS + 0.0 * lengths, work.round_s + longer], 1
        )
        lengths = np.clip(lengths, 0.5 * work.round_s, problem.round_max_s)
    each = lengths.shape[1]
    near = Work(
        np.repeat(samples, each, axis=0),
        np.repeat(lane, each, axis=0),
        np.repeat(speed, each, axis=0),
        lengths.ravel(),
    )
    costs = cost(inner, near).energy_j.reshape(len(samples), each)
    # Which samples are best is seen only at their own best lengths of the round.
    first = np.argsort(costs.min(axis=1), kind="stable")[:_POLISHED]
    row = first * each + costs[first].argmin(axis=1)
    return Work(near.samples[row], near.lane[row], near.frequency_hz[row], near.round_s[row])

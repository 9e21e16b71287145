"""The best plan of two or three devices by complete enumeration of whole samples and steps.

Every combination of samples and steps is a candidate, except that one device takes the least
samples that meet the limit on the error: at any speed more samples never cost less. A candidate is
left out only if a lower bound on its energy is above the energy of a plan that was found. The lower
bound is weak duality at any prices of band and of a round's seconds, which divides it into one
number per device and option; the prices come from the best plan so far, and bad ones only leave
more candidates to be computed.

* :func:`enumerate_plans`   the best plan in whole samples and settable speeds
* :func:`best_of`           the best plan of given samples and steps
* :func:`least_real_plan`   two devices with laws and samples that need not be whole
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array, transmit_power_w
from fimi.optim.problem import FimiProblem
from tests.optim.truth_costs import Costs, Trial, cost_of
from tests.optim.truth_resources import (
    COARSE,
    FINE,
    MIDDLE,
    Fleet,
    Options,
    Radio,
    Resources,
    device_j,
    fleet_j,
    least,
    options_of,
)

ERROR_SLACK = 1e-12
"""Relative rounding that is allowed to the learning error."""
CHUNK = 48
MARGIN = 1e-7
"""Taken off lower bounds, relative to their terms: how well their minima are known."""


class Found(Struct, frozen=True, eq=False, kw_only=True):
    """The best of all plans.

    Attributes:
        energy_j: its objective; infinite if there is no plan.
        trial: the plan; ``None`` if there is none.
        costs: what it costs by the cost model; ``None`` if there is none.
        candidates: how many there were.
        computed: for how many of them the resources were minimised.
    """

    energy_j: float
    trial: Trial | None
    costs: Costs | None
    candidates: int
    computed: int


def whole_samples(problem: FimiProblem, i: int) -> Array:
    """Every D that a device may train on."""
    low = problem.local_samples[i]
    return np.asarray(np.arange(low, low + problem.generated_max[i] + 1.0))


def errors(problem: FimiProblem, i: int, samples: Array) -> Array:
    """w α (g D^s)^(−β), a device's part in the mean error above the floor."""
    if problem.curve is None or not math.isfinite(problem.error_max) or problem.weights[i] == 0:
        return np.zeros_like(samples)
    worth = problem.worth_scale[i] * samples ** problem.worth_exponent[i]
    return np.asarray(problem.weights[i] * (problem.curve.error(worth) - problem.curve.delta0))


def enumerate_plans(problem: FimiProblem) -> Found:
    """The best plan of at most three devices; exact but for the last digits."""
    fleet, size = Fleet(problem), problem.size
    budget = problem.error_budget * (1.0 + ERROR_SLACK) if problem.curve else math.inf
    counts = [whole_samples(problem, i) for i in range(size)]
    for i in range(size):
        if not math.isfinite(budget) or problem.weights[i] == 0:
            counts[i] = counts[i][:1]  # more data only costs
    last = int(np.argmax([each.size for each in counts]))
    order = [i for i in range(size) if i != last] + [last]
    options = [options_of(problem, i, counts[i], synthetic=fleet.board) for i in range(size)]
    parts = [errors(problem, i, each.samples) for i, each in enumerate(options)]
    steps = [each.samples.size // counts[i].size for i, each in enumerate(options)]
    rows = _candidates(order, options, parts, counts, steps, budget)
    bound = _bounds(fleet, options, rows, _no_prices(size))
    best, trial, over_j, open_, computed = math.inf, None, 0.0, np.isfinite(bound), 0
    while open_.any():
        known = np.flatnonzero(open_)
        chunk = known[np.argsort(bound[known], kind="stable")[: CHUNK if computed else 8]]
        open_[chunk] = False
        computed += chunk.size
        if size > 2:  # a first look shows which are worth a precise one
            own = [options[i].take(rows[chunk, i]) for i in range(size)]
            rough_j = fleet_j(fleet, own, COARSE).value_j
            chunk = chunk[rough_j <= min(best, float(rough_j.min())) * 1.001]
        own = [options[i].take(rows[chunk, i]) for i in range(size)]
        found = fleet_j(fleet, own, MIDDLE if size > 2 else FINE)
        row = int(found.value_j.argmin())
        if found.value_j[row] < best:
            own = [options[i].take(rows[chunk[row : row + 1], i]) for i in range(size)]
            best, over_j = float(found.value_j[row]), float(found.over_j[row])
            trial = _trial(fleet, own, found, row)
            near = np.abs(bound) < math.inf
            bound[near] = np.maximum(bound, _bounds(fleet, options, rows, _prices(fleet, own)))[
                near
            ]
        open_ &= bound < best
    possible = trial is not None and over_j <= fleet.allowed_j
    return Found(
        energy_j=best if possible else math.inf,
        trial=trial if possible else None,
        costs=cost_of(problem, trial) if possible and trial is not None else None,
        candidates=len(rows),
        computed=computed,
    )


def best_of(problem: FimiProblem, samples: Array, steps: list[int]) -> Found:
    """The best plan with these samples and steps (−1: any speed of a law)."""
    fleet = Fleet(problem)
    own = []
    for i in range(problem.size):
        every = options_of(problem, i, np.array([samples[i]]), synthetic=fleet.board)
        own.append(every.take(np.flatnonzero(every.step == steps[i])))
    found = fleet_j(fleet, own)
    if not math.isfinite(found.energy_j[0]):
        return Found(energy_j=math.inf, trial=None, costs=None, candidates=1, computed=1)
    trial = _trial(fleet, own, found, 0)
    costs = cost_of(problem, trial, whole=False)
    return Found(
        energy_j=float(found.energy_j[0]), trial=trial, costs=costs, candidates=1, computed=1
    )


def least_real_plan(problem: FimiProblem) -> float:
    """The least objective of at most two devices with laws, samples in real numbers.

    In logarithms the problem is convex, so that the least over everything but the first device's
    log D is a convex function of it; the second device takes what the limit on the error asks for.
    """
    fleet, size = Fleet(problem), problem.size
    low = problem.local_samples
    high = low + problem.generated_max
    budget = problem.error_budget if problem.curve else math.inf

    def needed(i: int, rest: Array) -> Array:
        """The least D of a device with which its part in the error is at most ``rest``."""
        if not math.isfinite(budget) or problem.weights[i] == 0:
            return np.full(np.shape(rest), low[i])
        assert problem.curve is not None
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.where(rest > 0, rest, np.nan) / problem.weights[i]
            worth = (problem.curve.alpha / above) ** (1.0 / problem.curve.beta)
            d = (worth / problem.worth_scale[i]) ** (1.0 / problem.worth_exponent[i])
        return np.where(rest > 0, np.maximum(d, low[i]), np.inf)

    def value(samples: list[Array]) -> Array:
        good = np.all([s <= h * (1 + 1e-12) for s, h in zip(samples, high, strict=True)], axis=0)
        shape = good.shape
        own = [
            options_of(problem, i, np.where(good, s, low[i]).ravel(), synthetic=fleet.board)
            for i, s in enumerate(samples)
        ]
        found = np.where(good.ravel(), fleet_j(fleet, own).energy_j, np.inf)
        return found.reshape(shape)

    if size == 1:
        return float(value([needed(0, np.full(1, budget))])[0])
    assert size == 2
    # The range of the first D in which a plan exists is an interval: a fine grid finds it.
    first = float(needed(0, np.array([budget - float(errors(problem, 1, high[1:2])[0])]))[0])
    if first > high[0]:
        return math.inf
    most = float(needed(0, budget - errors(problem, 1, low[1:2]) if low[1] > 0 else np.zeros(1))[0])
    most = min(max(most, first), high[0])

    def at(log_d: Array) -> Array:
        d = np.exp(log_d)
        rest = np.full(d.shape, budget) - errors(problem, 0, d)
        return value([d, needed(1, rest)])

    if most <= first * (1 + 1e-12):
        return float(at(np.log(np.array([first])))[0])
    grid = np.linspace(math.log(first), math.log(most), 33)
    values = at(grid)
    k = int(values.argmin())
    ends = grid[max(k - 1, 0)], grid[min(k + 1, 32)]
    found = least(at, np.array([ends[0]]), np.array([ends[1]]), 12)[1]
    return min(float(found[0]), float(values[k]))


def _candidates(
    order: list[int],
    options: list[Options],
    parts: list[Array],
    counts: list[Array],
    steps: list[int],
    budget: float,
) -> Array:
    """Rows of option numbers, one per candidate; the last device's samples are the least."""
    size, last = len(order), order[-1]
    ranges = [np.arange(options[i].samples.size) for i in order[:-1]]
    grids = np.meshgrid(*ranges, indexing="ij") if ranges else []
    chosen = {i: grid.ravel() for i, grid in zip(order, grids, strict=False)}
    rows = chosen[order[0]].size if ranges else 1
    if math.isfinite(budget):
        rest = np.full(rows, budget)
        for i, index in chosen.items():
            rest = rest - parts[i][index]
        own = parts[last][: counts[last].size]  # falls with the samples
        place = np.searchsorted(-own, -rest, side="left")
    else:
        place = np.zeros(rows, int)
    good = place < counts[last].size
    table = []
    for k in range(steps[last]):
        row = np.zeros((int(good.sum()), size), int)
        for i, index in chosen.items():
            row[:, i] = index[good]
        row[:, last] = place[good] + k * counts[last].size
        table.append(row)
    return np.concatenate(table)


class Prices(Struct, frozen=True, eq=False, kw_only=True):
    """Prices of what devices share and of budgets; any that are not negative give a bound.

    Attributes:
        band: μ, J/Hz.
        seconds: of each device's time in a round, (I,), J/s.
        budgets: joules of a round per joule of a run above each device's budget, (I,).
        fleet: the same for the fleet's budget.
    """

    band: float
    seconds: Array
    budgets: Array
    fleet: float


def _no_prices(size: int) -> Prices:
    return Prices(band=0.0, seconds=np.zeros(size), budgets=np.zeros(size), fleet=0.0)


def _bounds(fleet: Fleet, options: list[Options], rows: Array, prices: Prices) -> Array:
    """Lower bounds on the value of candidates by weak duality."""
    problem = fleet.problem
    longest = problem.round_max_s
    over = prices.budgets + prices.fleet  # (I,), joules per joule of a run
    weight = 1.0 + problem.rounds * over  # (I,), of a device's own energy in a round
    limits = [(prices.band, problem.bandwidth_hz), (prices.fleet, problem.fleet_budget_j)]
    limits += zip(prices.budgets, problem.budget_j, strict=True)
    charge = math.fsum(price * limit for price, limit in limits if price > 0)
    constant = fleet.constant_j + float((prices.seconds * problem.receive_s).sum())
    constant += problem.rounds * float((over * (fleet.bits_j + fleet.received_j)).sum())
    idle_w = fleet.idle_w + problem.rounds * float((over * problem.idle_power_w).sum())
    unpaid = min(0.0, (idle_w - float(prices.seconds.sum())) * longest)
    total = np.full(len(rows), constant + unpaid - charge)
    size = np.full(len(rows), constant - unpaid + charge)
    for i, own in enumerate(options):
        window_s = fleet.window_s(i, np.asarray(longest))
        mu, eta = prices.band / weight[i], float(prices.seconds[i] / weight[i])
        each = _least_j(fleet.radios[i], own, window_s, mu, eta, problem.bandwidth_hz) * weight[i]
        if not fleet.board:
            synthetic = own.samples - problem.local_samples[i]
            each = each + over[i] * problem.synthetic_j[i] * synthetic
        total = total + each[rows[:, i]]
        size = size + each[rows[:, i]]
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(total), total - MARGIN * size, np.inf)


def _least_j(
    radio: Radio, own: Options, window_s: Array, mu: float, eta: float, band: float
) -> Array:
    """Least energy + μ b + η (t_cmp + t_com) of each option of a device."""
    law = own.slowest_s > own.fastest_s
    with np.errstate(divide="ignore", invalid="ignore"):
        # A second costs η more, so that a law's slowest useful time is a shorter one.
        best = (2.0 * own.cubic / (own.watts + eta)) ** (1.0 / 3.0)
        slowest = np.where(
            law & (own.watts + eta > 0), np.minimum(own.slowest_s, best), own.slowest_s
        )
    priced = Options(
        samples=own.samples,
        step=own.step,
        fastest_s=own.fastest_s,
        slowest_s=np.where(law, np.maximum(slowest, own.fastest_s), own.slowest_s),
        cubic=own.cubic,
        fixed=own.fixed + np.where(law, 0.0, eta * own.fastest_s),
        watts=own.watts + np.where(law, eta, 0.0),
    )
    louder = Radio(
        **{
            name: getattr(radio, name) + (eta if name == "electronics_w" else 0)
            for name in radio.__struct_fields__
        }
    )
    low = radio.narrowest(window_s - own.fastest_s, band)
    good = np.isfinite(low)
    window = np.where(good, window_s, priced.fastest_s + 2.0 * radio.full_rate_s(np.asarray(band)))

    def value(log_b: Array) -> Array:
        b = np.exp(log_b)
        return np.asarray(device_j(louder, priced, b, window)[0] + mu * b)

    # Convex in log b: with times and bands in logarithms every term and every limit is.
    widest = np.full(low.shape, math.log(band))
    return np.where(good, least(value, np.log(np.where(good, low, band)), widest)[1], np.inf)


def _prices(fleet: Fleet, own: list[Options]) -> Prices:
    """Prices at a candidate's best resources, by differences of its value."""
    problem, delta, size = fleet.problem, 1e-2, fleet.problem.size

    def value(**changes: Any) -> float:
        changed = fleet.with_changes(**changes)
        found = float(fleet_j(changed, own, COARSE).value_j[0])
        return found - changed.constant_j + fleet.constant_j

    here = value()

    def price(change: float, **changes: Any) -> float:
        after = value(**changes)
        return max(0.0, (here - after) / change) if math.isfinite(after) else 0.0

    wider = problem.bandwidth_hz * (1.0 + delta)
    band = price(wider - problem.bandwidth_hz, bandwidth_hz=wider)
    seconds, budgets, whole = np.zeros(size), np.zeros(size), 0.0
    for i in np.flatnonzero(np.isfinite(problem.budget_j)):
        more = problem.budget_j.copy()
        more[i] *= 1.0 + delta
        budgets[i] = price(more[i] - problem.budget_j[i], budget_j=more)
    if math.isfinite(problem.fleet_budget_j):
        most_j = problem.fleet_budget_j * (1.0 + delta)
        whole = price(most_j - problem.fleet_budget_j, fleet_budget_j=most_j)
    if fleet.idle_w or fleet.budgets:
        for i in range(size):
            received = problem.receive_s.copy()
            second = delta * problem.round_max_s
            received[i] += second if received[i] < second else -second
            change = problem.receive_s[i] - received[i]
            after = value(receive_s=received)
            seconds[i] = max(0.0, (here - after) / change) if math.isfinite(after) else 0.0
        over = problem.rounds * float(((budgets + whole) * problem.idle_power_w).sum())
        total = float(seconds.sum())
        seconds *= (fleet.idle_w + over) / total if total > 0 else 1.0
    return Prices(band=band, seconds=seconds, budgets=budgets, fleet=whole)


def _trial(fleet: Fleet, own: list[Options], found: Resources, row: int) -> Trial:
    """A candidate's best resources as a plan."""
    problem = fleet.problem
    samples = np.array([each.samples[0] for each in own])
    t_cmp, t_com = found.compute_s[row], found.upload_s[row]
    cycles = problem.cycles_per_pass * samples
    speed = np.empty(problem.size)
    for i, each in enumerate(own):
        k = int(each.step[0])
        if k >= 0:
            speed[i] = problem.frequency_steps_hz[i][k]
        else:
            speed[i] = cycles[i] / t_cmp[i] if samples[i] > 0 else problem.frequency_min_hz[i]
    power = transmit_power_w(
        problem.payload_bits / t_com,
        found.bandwidth_hz[row],
        problem.channel_gain,
        problem.noise_density_w_per_hz,
    )
    return Trial(
        samples=samples,
        speed_hz=speed,
        bandwidth_hz=found.bandwidth_hz[row],
        transmit_power_w=np.where(problem.power_settable, power, problem.transmit_power_max_w),
    )

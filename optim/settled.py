"""The times and bands of a plan whose samples and steps are given: best again after rounding.

Whole samples move each device's share of its time. With samples and steps given the problem has no
limit on the error and one piece for each device: it is convex, and solved as any other. A fleet of
few devices in which some have laws tries the whole samples next to those of the plan as well.

* :func:`settled`  the best plan with the samples and steps of a plan, or next to them
"""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.budgets import keep_budgets
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.prices import Prices
from fimi.optim.problem import InfeasibleError
from fimi.optim.realise import Work, cost
from fimi.optim.steps import FEW

_DEVICES_MAX = 300
"""For larger fleets rounding is too little to be worth the time."""
_AGAIN = 6
_SLACK, _LEAST_J = 1e-9, 1e-9
_ROOM = 2.5e-5
"""Budgets are kept to this share."""


def settled(
    inner: InnerSolver, work: Work, start: Prices, *, budgeted: bool
) -> tuple[InnerSolver, Work]:
    """The best plan with the samples and steps of a plan, S = 1; never a worse one.

    Args:
        inner: the fleet, with the weights of its joules.
        work: the plan.
        start: prices of the fleet's problem.
        budgeted: whether the weights make budgets hold; then they are found again.

    Returns:
        The fleet with the weights by which band is shared, and the plan.
    """
    if inner.problem.size > _DEVICES_MAX:
        return inner, work
    counted = InnerSolver(inner.problem) if budgeted else inner
    best = _given(inner, work, start, counted)
    laws = inner.lanes.step[work.lane[0]] < 0
    if inner.problem.size > FEW or not laws.any():
        return best
    best_j = _energy_j(*best, counted)
    tried = {work.samples.tobytes()}
    for _ in range(_AGAIN):
        before_j = best_j
        for samples in _neighbours(inner, best[1].samples[0]):
            if samples.tobytes() in tried:
                continue
            tried.add(samples.tobytes())
            near = _given(best[0], replace(best[1], samples=samples[None]), start, counted)
            near_j = _energy_j(*near, counted)
            if near_j < best_j:
                best, best_j = near, near_j
        if best_j >= before_j:
            break
    return best


def _energy_j(inner: InnerSolver, work: Work, counted: InnerSolver) -> float:
    return float(cost(inner, work, counted).energy_j[0])


def _given(
    inner: InnerSolver, work: Work, start: Prices, counted: InnerSolver
) -> tuple[InnerSolver, Work]:
    """The best speeds of laws and length of the round for the samples and steps of a plan."""
    problem, step = inner.problem, inner.lanes.step[work.lane[0]]
    stepped: NDArray[np.bool_] = step >= 0
    speed = inner.lanes.highest_hz[work.lane[0]]
    received_j = problem.synthetic_j * (work.samples[0] - problem.local_samples)
    given = replace(
        problem,
        local_counts=work.samples[0].astype(np.int64)[:, None],
        generated_max=np.zeros(problem.size),
        error_max=math.inf,
        frequency_min_hz=np.where(stepped, speed, problem.frequency_min_hz),
        frequency_max_hz=np.where(stepped, speed, problem.frequency_max_hz),
        frequency_steps_hz=tuple(
            (float(hertz),) if k >= 0 else () for hertz, k in zip(speed, step, strict=True)
        ),
        step_power_w=tuple(
            (watts[k],) if watts else ()
            for watts, k in zip(problem.step_power_w, step, strict=True)
        ),
        step_names=(),
        budget_j=np.maximum(problem.budget_j - received_j, _LEAST_J),
        fleet_budget_j=max(problem.fleet_budget_j - float(received_j.sum()), _LEAST_J),
    )
    start = replace(start, log_lam=-math.inf)
    again = inner
    try:
        if counted is inner:
            solution = solve(InnerSolver(given, inner.weights), start=start)
        else:
            kept = keep_budgets(given, start=start, tightened=1.0 - _ROOM)
            solution, again = kept.solution, InnerSolver(problem, kept.inner.weights)
    except InfeasibleError:  # by rounding
        return inner, work
    frequency = solution.evaluation.compute.frequency_hz
    better = Work(work.samples, work.lane, frequency, np.array([solution.round_s]))
    if _energy_j(again, better, counted) < _energy_j(inner, work, counted):
        return again, better
    return inner, work


def _neighbours(inner: InnerSolver, samples: Array) -> list[Array]:
    """One sample more or less for one device, and the least for another that meets the error."""
    problem = inner.problem
    if not inner.bound_by_error:
        return []
    counted = problem.weights > 0
    low = np.where(counted, np.maximum(problem.local_samples, 1.0), problem.local_samples)
    high = np.maximum(inner.samples_max, low)
    first = inner.lanes.starts
    log_weight, beta = inner.lanes.log_weight[first], inner.lanes.beta[first]
    found = []
    for moved in np.flatnonzero(counted):
        for by in (-1.0, 1.0):
            for other in np.flatnonzero(counted):
                near = samples.copy()
                near[moved] += by
                if other == moved or not low[moved] <= near[moved] <= high[moved]:
                    continue
                others = np.delete(inner.errors(near), other)
                rest = problem.error_budget * (1.0 + _SLACK) - others.sum()
                if rest <= 0:
                    continue
                least = math.exp((log_weight[other] - math.log(rest)) / beta[other])
                near[other] = max(math.ceil(least - 1e-9), low[other])
                if near[other] <= high[other]:
                    found.append(near)
    return found

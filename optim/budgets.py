"""Budgets of joules: a battery's, or the fleet's; docs/model.md (47).

A device's board energy in all rounds is at most its budget. Given the length of the round this is a
limit on its own energy, so that in Lagrange's way a joule of that device counts 1 + θ instead of 1.
θ is raised until the budget holds; it is what a joule more of budget would save the fleet. A plan
for weighted joules is found and certified as any other, and the bound holds for every θ ≥ 0.

* :func:`keep_budgets`  the optimum that keeps the budgets, with the weights that make it so
* :class:`BudgetedOptimum`         the result
* :func:`spent_j`       what each device uses in a run
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import JointSolution, Prices, prices_of, solve
from fimi.optim.lanes import EnergyWeights
from fimi.optim.problem import FimiProblem, InfeasibleError

_ITERATIONS = 60
_CLOSE = 2e-5
_WEIGHT_MAX = 1e7
_NAMED = 5


class BudgetedOptimum(Struct, frozen=True, eq=False):
    """An optimum that keeps the budgets.

    Attributes:
        inner: the inner problems of the weighted joules.
        solution: their optimum.
        device_prices: θ of each device's budget, (I,).
        fleet_price: θ of the fleet's budget.
        charges_j: what is taken off a bound on the weighted objective for one on the objective, J
            in a round.
    """

    inner: InnerSolver
    solution: JointSolution
    device_prices: Array
    fleet_price: float
    charges_j: float

    def energy_j(self, problem: FimiProblem) -> float:
        """The objective of the optimum in a round, every joule counted as the problem does, J."""
        if not self.charges_j:
            return self.solution.energy_j
        found = self.solution.evaluation
        parts = found.compute.energy_j, found.upload.energy_j, found.compute.samples, found.round_s
        return float(InnerSolver(problem).objective_j(*parts)[0])


def spent_j(problem: FimiProblem, worn_j: Array, samples: Array, round_s: float) -> Array:
    """Board energy of each device in all rounds, J, (I,).

    Args:
        problem: boards, rounds.
        worn_j: compute and upload of a round above idle, without joules per bit, (I,).
        samples: D, (I,).
        round_s: length of the round, s.
    """
    per_round = worn_j + problem.fixed_j + problem.idle_power_w * round_s
    made = samples - problem.local_samples
    return np.asarray(problem.rounds * per_round + problem.synthetic_j * made)


def keep_budgets(
    problem: FimiProblem, *, start: Prices | None = None, tightened: float = 1.0
) -> BudgetedOptimum:
    """The optimum of a problem with its budgets.

    Args:
        problem: the problem.
        start: prices of a similar problem.
        tightened: factor on the budgets, for plans that rounding would take above them.

    Raises:
        InfeasibleError: no plan meets the constraints, or none that was found keeps the budgets.
    """
    base = EnergyWeights.of(problem)
    theta, fleet = np.zeros(problem.size), 0.0
    device_j = problem.budget_j * tightened
    fleet_j = problem.fleet_budget_j * tightened
    limited = bool(np.isfinite(device_j).any()) or math.isfinite(fleet_j)
    for _ in range(_ITERATIONS if limited else 1):
        weights = EnergyWeights(base.dynamic + theta + fleet, base.board + theta + fleet)
        inner = InnerSolver(problem, weights)
        solution = solve(inner, start=start)
        spent = _spent(problem, solution)
        over = spent / device_j
        over_fleet = float(spent.sum()) / fleet_j
        loose = ((theta > 0) & (over < 1.0 - 10.0 * _CLOSE)).any() or (
            fleet > 0 and over_fleet < 1.0 - 10.0 * _CLOSE
        )
        kept = (over <= 1.0 + _CLOSE).all() and over_fleet <= 1.0 + _CLOSE
        if kept and not loose:
            break
        theta = np.maximum((1.0 + theta) * over**4.0 - 1.0, 0.0)
        fleet = max((1.0 + fleet) * over_fleet**4.0 - 1.0, 0.0)
        start = prices_of(solution)
        if max(float(theta.max(initial=0.0)), fleet) > _WEIGHT_MAX:
            break
    if limited and not kept:
        _refuse(problem, spent, over, over_fleet)
    owed = np.where(theta > 0, theta * np.where(theta > 0, problem.budget_j, 0.0), 0.0).sum()
    owed += fleet * problem.fleet_budget_j if fleet > 0 else 0.0
    # A budget is for all rounds, and what is received once is part of it.
    return BudgetedOptimum(inner, solution, theta, fleet, float(owed) / problem.rounds)


def _spent(problem: FimiProblem, solution: JointSolution) -> Array:
    found = solution.evaluation
    worn = found.compute.energy_j[0] + found.upload.energy_j[0]
    # A round ends when the last device is ready, also where its length costs nothing.
    ready_s = problem.receive_s + found.compute.time_s[0] + found.upload.time_s[0]
    round_s = min(solution.round_s, float(ready_s.max()))
    return spent_j(problem, worn, found.compute.samples[0], round_s)


def outwards(value: float) -> float:
    """The next number above by a thousandth with four digits: enough, and short to write."""
    above = value * 1.001
    digits = 3 - math.floor(math.log10(above)) if above > 0 else 0
    return math.ceil(above * 10.0**digits) / 10.0**digits


def _refuse(problem: FimiProblem, spent: Array, over: Array, over_fleet: float) -> None:
    """Raise: these budgets cannot be kept; with what the best plan found uses they can."""
    if over_fleet > 1.0 + _CLOSE:
        enough = outwards(float(spent.sum()))
        raise InfeasibleError(
            f"energy budget: in {problem.rounds:g} rounds the fleet needs {spent.sum():.5g} J and "
            f"fleet_budget_j is {problem.fleet_budget_j:g}; feasible with fleet_budget_j of "
            f"at least {enough:g}",
            constraint="energy budget",
            devices=problem.devices,
        )
    late = np.flatnonzero(over > 1.0 + _CLOSE)
    rows = "; ".join(
        f"{problem.devices[i]} needs {spent[i]:.5g} J and has {problem.budget_j[i]:g}: feasible "
        f"with budget_j of at least {outwards(float(spent[i])):g}"
        for i in late[:_NAMED]
    )
    more = f"; and {late.size - _NAMED} more devices" if late.size > _NAMED else ""
    raise InfeasibleError(
        f"energy budget: in {problem.rounds:g} rounds {rows}{more}",
        constraint="energy budget",
        devices=[problem.devices[i] for i in late],
    )

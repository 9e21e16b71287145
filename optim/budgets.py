"""Budgets of joules: a battery's, or the fleet's; docs/model.md (47).

A device's board energy in all rounds is at most its budget. Given the length of the round this is a
limit on its own energy, so that in Lagrange's way a joule of that device counts 1 + θ instead of 1.
θ is raised until the budget holds; it is what a joule more of budget would save the fleet. A plan
for weighted joules is found and certified as any other, and the bound holds for every θ ≥ 0.

* :func:`keep_budgets`  the optimum that keeps the budgets, with the weights that make it so
* :class:`BudgetedOptimum`  the result
* :func:`used_j`        what each device uses in a run of a solution
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import JointSolution, prices_of, solve
from fimi.optim.lanes import EnergyWeights
from fimi.optim.prices import Prices
from fimi.optim.problem import FimiProblem
from fimi.optim.spending import above, limited, over_s, spent_j

_ITERATIONS = 60
_POWER, _STRIDE, _DAMPING, _POWER_BACK = 4.0, 2.5, 0.5, 64.0
"""1 + θ is multiplied by a power of what is used over what may be, at first this one."""
_MOVE_MAX = 100.0
"""1 + θ is multiplied or divided by at most this."""
_SETTLED = 0.2
"""Where devices have steps, what they use jumps with θ. At powers below this θ is at a jump."""
_CLOSE = 2e-5
_WEIGHT_MAX = 1e7
_HIGHER = (1.02, 1.1, 1.5, 3.0)
_STALLED = 8
"""Weights that brought no plan nearer to the budgets, in a row, after which there is none."""


class BudgetedOptimum(Struct, frozen=True, eq=False):
    """An optimum that keeps the budgets.

    Attributes:
        holds: whether it keeps the budgets; if not, it is the plan found that is least above them.
        inner: the inner problems of the weighted joules.
        solution: their optimum.
        device_prices: θ of each device's budget, (I,).
        fleet_price: θ of the fleet's budget.
        charges_j: what is taken off a bound on the weighted objective for one on the objective, J
            in a round.
        bound_j: no plan that keeps the budgets takes less of the objective, J in a round.
    """

    holds: bool
    inner: InnerSolver
    solution: JointSolution
    device_prices: Array
    fleet_price: float
    charges_j: float
    bound_j: float

    def energy_j(self, problem: FimiProblem) -> float:
        """The objective of the optimum in a round, every joule counted as the problem does, J."""
        if not self.charges_j:
            return self.solution.energy_j
        found = self.solution.evaluation
        parts = found.compute.energy_j, found.upload.energy_j, found.compute.samples, found.round_s
        return float(InnerSolver(problem).objective_j(*parts)[0])


def keep_budgets(
    problem: FimiProblem, *, start: Prices | None = None, tightened: float = 1.0
) -> BudgetedOptimum:
    """The optimum of a problem with its budgets.

    Args:
        problem: the problem.
        start: prices of a similar problem.
        tightened: factor on the budgets, for plans that rounding would take above them.

    Raises:
        InfeasibleError: no plan meets the other constraints.
    """
    theta, fleet = np.zeros(problem.size), 0.0
    device_j = problem.budget_j * tightened
    fleet_j = problem.fleet_budget_j * tightened
    power = np.full(problem.size + 1, _POWER)
    last: tuple[Array, Array] | None = None
    nearest, nearest_over, stalled = None, math.inf, 0
    best: BudgetedOptimum | None = None
    bound_j, weighed = -math.inf, np.zeros(problem.size + 1, bool)
    most_j = _most_j(problem) if limited(problem) else math.inf
    for iteration in range(_ITERATIONS if limited(problem) else 1):
        inner = _weighed(problem, theta, fleet)
        solution = solve(inner, start=start, near=iteration > 0)
        spent = used_j(problem, solution)
        over = spent / device_j
        over_fleet = float(spent.sum()) / fleet_j
        loose = ((theta > 0) & (over < 1.0 - 10.0 * _CLOSE)).any() or (
            fleet > 0 and over_fleet < 1.0 - 10.0 * _CLOSE
        )
        kept = bool((over <= 1.0 + _CLOSE).all()) and over_fleet <= 1.0 + _CLOSE
        charges_j = _charges_j(problem, theta, fleet)
        bound_j = max(bound_j, solution.bound_j - charges_j)
        result = BudgetedOptimum(kept, inner, solution, theta, fleet, charges_j, bound_j)
        if kept and (best is None or result.energy_j(problem) < best.energy_j(problem)):
            best = result
        weighed = np.append(theta, fleet) > 0
        at_jump = not inner.lanes.single and power[weighed].max(initial=0.0) < _SETTLED
        if kept and (not loose or at_jump):
            break
        if not kept and bound_j > most_j:
            return result  # proved: every plan that keeps the budgets takes more than any plan can
        most_over = max(float(over.max()), over_fleet)
        stalled = 0 if kept or most_over < nearest_over * (1.0 - _CLOSE) else stalled + 1
        if nearest is None or most_over < nearest_over:
            nearest, nearest_over = result, most_over
        if stalled > _STALLED and best is None:
            break
        here = np.append(theta, fleet), np.append(over, over_fleet)
        power = _powers(power, *here, last)
        last = here
        moved = np.clip(here[1] ** power, 1.0 / _MOVE_MAX, _MOVE_MAX)
        *own, fleet = np.maximum((1.0 + here[0]) * moved - 1.0, 0.0)
        theta, fleet = np.array(own), float(fleet)
        start = prices_of(solution)
        if max(float(theta.max(initial=0.0)), fleet) > _WEIGHT_MAX:
            break
    if best is None and nearest is not None and weighed.any():
        best = _beyond_jumps(problem, nearest, np.append(theta, fleet), tightened)
    found = best or nearest
    assert found is not None
    return replace(found, bound_j=bound_j)


def _weighed(problem: FimiProblem, theta: Array, fleet: float) -> InnerSolver:
    """The inner problems of joules that count θ more, each device's and the fleet's."""
    base = EnergyWeights.of(problem)
    more = theta + fleet
    return InnerSolver(problem, EnergyWeights(base.dynamic + more, base.board + more))


def _beyond_jumps(
    problem: FimiProblem, nearest: BudgetedOptimum, prices: Array, tightened: float
) -> BudgetedOptimum | None:
    """An optimum at higher prices than those at which what devices use jumps over their budgets.

    ``prices``: θ of every device and of the fleet, (I + 1,).
    """
    prices = np.maximum(prices, np.append(nearest.device_prices, nearest.fleet_price))
    for higher in _HIGHER:
        theta, fleet = prices[:-1] * higher, float(prices[-1] * higher)
        inner = _weighed(problem, theta, fleet)
        solution = solve(inner, start=prices_of(nearest.solution))
        if above(problem, used_j(problem, solution)) <= tightened * (1.0 + _CLOSE):
            charges_j = _charges_j(problem, theta, fleet)
            return BudgetedOptimum(
                True, inner, solution, theta, fleet, charges_j, solution.bound_j - charges_j
            )
    return None


def _most_j(problem: FimiProblem) -> float:
    """No plan takes more in a round, J: all data, the dearest speed, sending all the time."""
    samples = problem.local_samples + problem.generated_max
    cycles = problem.cycles_per_pass * samples
    ends = [
        problem.compute_j(cycles, f) for f in (problem.frequency_min_hz, problem.frequency_max_hz)
    ]
    training = np.maximum(*ends)
    for i, watts in enumerate(problem.step_power_w):
        if watts:
            hertz = problem.frequency_steps_hz[i]
            training[i] = cycles[i] * max(p / f for p, f in zip(watts, hertz, strict=True))
    sending = (problem.transmit_power_max_w + problem.electronics_power_w) * problem.t_max_s
    idle = problem.idle_power_w * problem.round_max_s
    received = problem.synthetic_j * problem.generated_max / problem.rounds
    return float((training + sending + idle + received + problem.fixed_j).sum())


def _powers(power: Array, theta: Array, over: Array, last: tuple[Array, Array] | None) -> Array:
    """Powers of the next step, (n,), from those of the last and what that step has brought.

    A budget whose use hardly answers to its θ gets longer steps, one that was crossed shorter ones.

    Args:
        power: powers of the last step.
        theta: θ now.
        over: what is used over what may be.
        last: ``theta`` and ``over`` before the last step.
    """
    if last is None:
        return power
    with np.errstate(divide="ignore", invalid="ignore"):
        raised = np.log1p(theta) - np.log1p(last[0])
        answer = -(raised / (np.log(over) - np.log(last[1])))
    answer = np.where((answer > 0) & (raised != 0), answer, np.inf)
    crossed = (over > 1.0) != (last[1] > 1.0)
    longer = np.clip(answer, power / _STRIDE, power * _STRIDE)
    longer = np.where(raised == 0, power, longer)
    return np.where(crossed, np.minimum(_DAMPING * np.minimum(power, _POWER_BACK), answer), longer)


def _charges_j(problem: FimiProblem, theta: Array, fleet: float) -> float:
    """What the weights add to the objective when all budgets are used up, J in a round."""
    owed = np.where(theta > 0, theta * np.where(theta > 0, problem.budget_j, 0.0), 0.0).sum()
    owed += fleet * problem.fleet_budget_j if fleet > 0 else 0.0
    # A budget is for all rounds, and what is received once is part of it.
    return float(owed) / problem.rounds


def used_j(problem: FimiProblem, solution: JointSolution) -> Array:
    """What each device uses in all rounds of a plan in real numbers, J, (I,)."""
    found = solution.evaluation
    worn = found.compute.energy_j[0] + found.upload.energy_j[0]
    round_s = over_s(problem, found.compute.time_s[0], found.upload.time_s[0], solution.round_s)
    return spent_j(problem, worn, found.compute.samples[0], round_s)

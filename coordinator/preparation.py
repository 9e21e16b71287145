"""Receiving the synthetic samples, in plans for data that are given.

The planner counts the joules of receiving where it chooses the amounts. Where the amounts are given
(a strategy's own, or rounds of fixed steps) it plans for a fleet that holds them already, and these
joules, which no resource changes, are taken off the budgets before and added afterwards.

* :func:`afforded`  a problem with what is left of its budgets
* :func:`counted`   a plan with the joules of receiving
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.plans import Certified, Plan
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.spending import plan_spent_j, without_budgets
from fimi.optim.wording import listed, outwards

Images = NDArray[np.int64] | Array
"""Images per device, (I,)."""
_ROOM = 1.002
"""Room for whole samples in budgets that are enough."""


def afforded(
    problem: FimiProblem, images: Images, solve: Callable[[FimiProblem], Plan]
) -> FimiProblem:
    """The problem with its budgets less what receiving takes.

    Args:
        problem: the problem.
        images: synthetic samples that each device receives.
        solve: plans for these data; asked for a plan without budgets where receiving alone uses one
            up, so that the error says what would be enough.

    Raises:
        InfeasibleError: a budget is used up by receiving alone.
    """
    receiving_j = problem.synthetic_j * images
    left_j = problem.budget_j - receiving_j
    fleet_left_j = problem.fleet_budget_j - float(receiving_j.sum())
    if (left_j <= 0.0).any() or fleet_left_j <= 0.0:
        raise _used_up(problem, receiving_j, solve(without_budgets(problem)))
    return msgspec.structs.replace(
        problem,
        budget_j=left_j,
        fleet_budget_j=fleet_left_j,
        received_j=problem.received_j + receiving_j,
    )


def _used_up(problem: FimiProblem, receiving_j: Array, unlimited: Plan) -> InfeasibleError:
    """The error for budgets that receiving alone uses up; what a plan without them takes is enough.

    Args:
        problem: the problem.
        receiving_j: what receiving takes, (I,).
        unlimited: a plan without budgets, for devices that hold these data already.
    """
    run_j = plan_spent_j(problem, unlimited, problem.local_samples)
    used = (receiving_j + run_j) * _ROOM
    short = np.flatnonzero(receiving_j >= problem.budget_j)
    clauses = [
        f"{problem.devices[i]} needs {receiving_j[i]:.4g} J (modelled) to receive its synthetic "
        f"samples and its budget_j is {problem.budget_j[i]:g}"
        for i in short
    ]
    said = [listed(clauses)] if clauses else []
    if receiving_j.sum() >= problem.fleet_budget_j:
        said.append(
            f"the fleet needs {receiving_j.sum():.4g} J (modelled) to receive its synthetic "
            f"samples and fleet_budget_j is {problem.fleet_budget_j:g}"
        )
    above = used > problem.budget_j
    own_j = outwards(float(used[above].max())) if above.any() else None
    fleet_j = outwards(float(used.sum())) if used.sum() > problem.fleet_budget_j else None
    needed = {"budget_j": own_j, "fleet_budget_j": fleet_j}
    remedy = " together with ".join(
        f"{name} of at least {joules:g}" for name, joules in needed.items() if joules is not None
    )
    return InfeasibleError(
        f"energy budget: {'; '.join(said)}, before any round",
        constraint="energy budget",
        devices=[problem.devices[i] for i in short] or problem.devices,
        remedies=[remedy],
        budget_needed_j=own_j,
        fleet_budget_needed_j=fleet_j,
    )


def counted(plan: Plan, problem: FimiProblem, images: Images) -> Plan:
    """The plan with the board energy of receiving: once, and its share of a round."""
    receiving_j = float((problem.synthetic_j * images).sum())
    share_j = receiving_j / problem.rounds
    bound_j = plan.board.bound_j
    board = Certified(
        energy_j=plan.board.energy_j + share_j,
        bound_j=None if bound_j is None else bound_j + share_j,
    )
    return msgspec.structs.replace(
        plan,
        board=board,
        preparation_j=plan.preparation_j + receiving_j,
        search_energy_j=plan.search_energy_j + (share_j if plan.objective == "board" else 0.0),
    )

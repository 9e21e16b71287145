"""Receiving the synthetic samples, in plans for data that are given.

The planner counts the joules of receiving where it chooses the amounts. Where the amounts are given
(a strategy's own, or rounds of fixed steps) it plans for a fleet that holds them already, and these
joules, which no resource changes, are taken off the budgets before and added afterwards.

* :func:`afforded`  a problem with what is left of its budgets
* :func:`counted`   a plan with the joules of receiving
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.plans import Certified, Plan
from fimi.optim.problem import FimiProblem, InfeasibleError

Images = NDArray[np.int64] | Array
"""Images per device, (I,)."""


def afforded(problem: FimiProblem, images: Images) -> FimiProblem:
    """The problem with its budgets less what receiving takes.

    Raises:
        InfeasibleError: a budget is used up by receiving alone.
    """
    receiving_j = problem.synthetic_j * images
    left_j = problem.budget_j - receiving_j
    fleet_left_j = problem.fleet_budget_j - float(receiving_j.sum())
    short = [problem.devices[i] for i in np.flatnonzero(left_j <= 0.0)]
    if short or fleet_left_j <= 0.0:
        who = ", ".join(short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")
        which = f"budget_j of {who}" if short else "fleet_budget_j"
        need_j = float(receiving_j.max() if short else receiving_j.sum())
        raise InfeasibleError(
            f"energy budget: receiving the synthetic samples alone takes {which}, up to "
            f"{need_j:.4g} J; raise it, or lower generated_max",
            constraint="energy budget",
            devices=short or problem.devices,
        )
    return msgspec.structs.replace(problem, budget_j=left_j, fleet_budget_j=fleet_left_j)


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

"""What the boards of a plan use in a run, and how that compares with budgets; docs/model.md (47).

* :func:`limited`          whether a problem has any budget
* :func:`without_budgets`  the problem without them
* :func:`over_s`           when the rounds of plans are over
* :func:`spent_j`          what each device uses in a run
* :func:`plan_spent_j`     the same for a plan that runs
* :func:`above`            how far plans are above the budgets
* :func:`ranked`           their energies so that one that keeps the budgets comes first
"""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace

from fimi.energy.cost_model import Array
from fimi.optim.plans import Plan
from fimi.optim.problem import FimiProblem

_SLACK = 1e-9
_OVER_BUDGET = 1e9
"""A joule of a plan above the budgets counts as so many: any that keeps them is better."""


def limited(problem: FimiProblem) -> bool:
    """Whether a problem has any budget."""
    return bool(np.isfinite(problem.budget_j).any()) or math.isfinite(problem.fleet_budget_j)


def without_budgets(problem: FimiProblem) -> FimiProblem:
    """The problem without any budget."""
    return replace(problem, budget_j=np.full(1, np.inf), fleet_budget_j=math.inf)


def over_s(
    problem: FimiProblem, compute_s: Array, upload_s: Array, round_s: Array | float
) -> Array:
    """When rounds end, s, (...): with the last device, also where their length costs nothing.

    Args:
        problem: times to receive the model.
        compute_s: t_cmp, (..., I).
        upload_s: t_com, (..., I).
        round_s: the longest that they last, s, (...).
    """
    ready_s = problem.receive_s + compute_s + upload_s
    return np.asarray(np.minimum(round_s, ready_s.max(axis=-1)))


def spent_j(problem: FimiProblem, worn_j: Array, samples: Array, round_s: Array | float) -> Array:
    """Board energy of each device in all rounds, J, (..., I).

    Args:
        problem: boards, rounds.
        worn_j: compute and upload of a round above idle, without joules per bit, (..., I).
        samples: D, (..., I).
        round_s: length of the round, s, (...).
    """
    idle_j = np.multiply.outer(np.asarray(round_s, float), problem.idle_power_w)
    per_round = worn_j + problem.fixed_j + idle_j
    made = samples - problem.local_samples
    return np.asarray(problem.rounds * per_round + problem.synthetic_j * made)


def plan_spent_j(problem: FimiProblem, plan: Plan, samples: Array | None = None) -> Array:
    """Board energy of each device of a plan in all rounds, J, (I,).

    Args:
        problem: boards, rounds.
        plan: the plan; its upload contains the joules per bit.
        samples: D where it is not the plan's, (I,): what is more than the local data is received.
    """
    worn_j = np.array([share.compute_j + share.upload_j for share in plan.devices])
    worn_j = worn_j - problem.energy_per_bit_j * problem.payload_bits
    if samples is None:
        samples = np.array([share.samples for share in plan.devices], float)
    return spent_j(problem, worn_j, samples, plan.round_s)


def above(problem: FimiProblem, spent: Array) -> Array:
    """What is used over what may be, the largest of all budgets', (...), for (..., I) joules."""
    own = (spent / problem.budget_j).max(axis=-1)
    return np.asarray(np.maximum(own, spent.sum(axis=-1) / problem.fleet_budget_j))


def ranked(problem: FimiProblem, energy_j: Array, spent: Array) -> Array:
    """Energies, (S,), where plans above the budgets come after all others, the least above first.

    Args:
        problem: the problem.
        energy_j: objective of each plan, (S,).
        spent: what each device uses, (S, I).
    """
    over = above(problem, spent)
    return np.where(over > 1.0 + _SLACK, energy_j + _OVER_BUDGET * over, energy_j)

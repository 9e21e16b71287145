"""What would be enough where budgets of joules are in the way; docs/model.md (47).

* :func:`refusal`         the error for budgets that cannot be kept, with budgets that can
* :func:`limits_refused`  the error where the other limits have no plan either
* :func:`with_budgets`    a remedy of these limits with the budgets that it needs
* :func:`idling_j`        what each device takes without training
* :func:`below_idling`    whether a budget is smaller than that: no plan keeps it
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim import feasibility
from fimi.optim.advice import Remedies, Remedy, remedies
from fimi.optim.inner import InnerSolver
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.wording import NAMED, listed, outwards

Flags = NDArray[np.bool_]
Works = Callable[[FimiProblem], bool]
Unlimited = Callable[[FimiProblem], Array]

_TRIES = ((0.0, 1.0), (0.0, 1.002), (0.1, 1.002), (0.5, 1.002))
"""Budgets that are tried: from what the nearest plan uses to what a plan without budgets uses, and
room for whole samples."""


def limits_refused(problem: FimiProblem, works: Works, unlimited: Unlimited) -> InfeasibleError:
    """The error for limits without a plan, budgets aside, each remedy with budgets that it needs.

    Args:
        problem: a problem with budgets.
        works: whether there is a plan for a problem.
        unlimited: what each device uses in the plan of a problem without its budgets, J, (I,).
    """
    found = remedies(problem)
    each = tuple(with_budgets(remedy, works, unlimited) for remedy in found.each)
    if any(remedy is not before for remedy, before in zip(each, found.each, strict=True)):
        found = Remedies(each=each)  # a limit's number alone is not enough
    return feasibility.refusal_with(problem, found)


def with_budgets(remedy: Remedy, works: Works, unlimited: Unlimited) -> Remedy:
    """A remedy together with the budgets that it needs; itself if those there are will do.

    Args:
        remedy: what makes a plan possible, budgets aside.
        works: whether there is a plan for a problem.
        unlimited: what each device uses in the plan of a problem without its budgets, J, (I,).
    """
    changed = remedy.changed
    if not below_idling(changed) and works(changed):
        return remedy
    used = unlimited(changed)
    over = used > changed.budget_j
    over_fleet = float(used.sum()) > changed.fleet_budget_j
    if not (over.any() or over_fleet):
        over, over_fleet = np.isfinite(changed.budget_j), math.isfinite(changed.fleet_budget_j)
    enough = _enough(changed, used, over, over_fleet)
    return Remedy(text=f"{remedy.text} together with {enough.words}", changed=enough.problem)


def below_idling(problem: FimiProblem) -> bool:
    """Whether a budget is smaller than what its device, or the fleet, takes without training."""
    idle_j = idling_j(problem)
    return bool((idle_j > problem.budget_j).any() or idle_j.sum() > problem.fleet_budget_j)


def refusal(
    problem: FimiProblem,
    spent: Array,
    unlimited: Array,
    works: Works,
    *,
    fixed: str = "",
) -> InfeasibleError:
    """The error for budgets that no plan that was found keeps; with what would be enough.

    Args:
        problem: the problem.
        spent: what each device uses in the plan that is least above the budgets, J, (I,).
        unlimited: the same in the plan without budgets, which is always enough.
        works: whether there is a plan for a problem.
        fixed: how the fleet works, as the beginning of a sentence, where it can in no other way.
    """
    over = spent > problem.budget_j
    over_fleet = float(spent.sum()) > problem.fleet_budget_j
    if not (over.any() or over_fleet):  # by rounding only
        over, over_fleet = np.isfinite(problem.budget_j), math.isfinite(problem.fleet_budget_j)
    found: _Enough | None = None
    idles = below_idling(problem)
    for share, room in (*(() if idles else _TRIES), (1.0, 1.0)):
        used = (spent + share * np.maximum(unlimited - spent, 0.0)) * room
        raised, fleet_raised = over, over_fleet
        if share == 1.0:  # the plan without budgets keeps them as they are
            used = unlimited
            raised = unlimited > problem.budget_j
            fleet_raised = float(used.sum()) > problem.fleet_budget_j
        enough = _enough(problem, used, raised, fleet_raised)
        if works(enough.problem):
            over_fleet, found = fleet_raised, enough
            break
    received_j = problem.received_j
    idle_j, spent = idling_j(problem) + received_j, spent + received_j
    budget_j, fleet_j = problem.budget_j + received_j, _fleet_j(problem)
    causes = [
        f"{problem.devices[i]} {_takes(idle_j[i], spent[i], budget_j[i])} and has {budget_j[i]:g} J"
        for i in np.flatnonzero(over)
    ]
    said = [listed(causes)] if causes else []
    if over_fleet:
        takes = _takes(idle_j.sum(), spent.sum(), fleet_j)
        said.append(f"the fleet {takes} and fleet_budget_j is {fleet_j:g}")
    below = "; a budget is below what idling takes" if idles else ""
    if not (idles or fixed or InnerSolver(problem).lanes.single):
        below = "; none was found that takes less, which is no proof where speeds have steps"
    return InfeasibleError(
        f"energy budget: {fixed}in {problem.rounds:g} rounds {'; '.join(said)}{below}",
        constraint="energy budget",
        devices=[problem.devices[i] for i in np.flatnonzero(over)] or problem.devices,
        remedies=[found.words] if found else [],
        budget_needed_j=found.budget_j if found else None,
        fleet_budget_needed_j=found.fleet_budget_j if found else None,
    )


def _takes(idle_j: float, spent_j: float, budget_j: float) -> str:
    if idle_j > budget_j:
        return f"takes {idle_j:.5g} J (modelled) without training"
    return f"needs {spent_j:.5g} J (modelled)"


class _Enough(msgspec.Struct, frozen=True, kw_only=True):
    """Budgets that are large enough for a plan.

    Attributes:
        problem: the problem with them.
        words: the remedy.
        budget_j: the largest of those that devices need, as written, J; ``None`` if none does.
        fleet_budget_j: what the fleet needs, as written, J; ``None`` if it does not.
    """

    problem: FimiProblem
    words: str
    budget_j: float | None
    fleet_budget_j: float | None


def _enough(problem: FimiProblem, used: Array, over: Flags, over_fleet: bool) -> _Enough:
    """The problem with larger budgets where they are too small, and the remedy in words.

    Args:
        problem: the problem.
        used: what each device uses in all rounds, J, (I,).
        over: whose budgets are raised, (I,).
        over_fleet: whether that of the fleet is.
    """
    received_j = problem.received_j
    budget, texts, most_j = problem.budget_j + received_j, [], None
    rows = np.flatnonzero(over)
    if rows.size:
        least = np.array([outwards(float(max(used[i] + received_j[i], budget[i]))) for i in rows])
        most_j = float(least.max())
        alike = bool(np.allclose(budget, budget[0], rtol=1e-9, atol=0.0))
        if alike or rows.size > NAMED:
            whose = "" if alike else " for every device that has one"
            texts.append(f"budget_j of at least {most_j:g}{whose}")
            budget = np.where(np.isfinite(budget), np.maximum(budget, most_j), budget)
        else:
            each = [
                f"of at least {j:g} for {problem.devices[i]}"
                for i, j in zip(rows, least, strict=True)
            ]
            texts.append(f"budget_j {', '.join(each)}")
            budget[rows] = least
    fleet_j, fleet_most_j = problem.fleet_budget_j, None
    if over_fleet:
        written_j = _fleet_j(problem)
        fleet_most_j = outwards(max(float((used + received_j).sum()), written_j))
        fleet_j = fleet_most_j - float(received_j.sum())
        texts.append(f"fleet_budget_j of at least {fleet_most_j:g}")
    return _Enough(
        problem=msgspec.structs.replace(
            problem, budget_j=budget - received_j, fleet_budget_j=fleet_j
        ),
        words=" together with ".join(texts),
        budget_j=most_j,
        fleet_budget_j=fleet_most_j,
    )


def _fleet_j(problem: FimiProblem) -> float:
    """The budget of the fleet as it was written, J."""
    return problem.fleet_budget_j + float(problem.received_j.sum())


def idling_j(problem: FimiProblem) -> Array:
    """What each device takes at least in all rounds without training, J, (I,).

    It idles as long as the slowest device needs for its least data, and receives and sends.
    """
    inner = InnerSolver(problem)
    busy_s = inner.earliest_s + inner.radio.full_power_s(problem.bandwidth_hz)
    shortest_s = float((problem.receive_s + busy_s).max())
    per_round = problem.idle_power_w * shortest_s + problem.fixed_j
    return np.asarray(problem.rounds * per_round)

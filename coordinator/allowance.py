"""What is left of a run's budgets after some of its rounds; docs/model.md (47).

A budget is one of metered joules. Predictions are wrong by some percent, so that a plan that just
keeps a budget would not keep it: what was taken is subtracted, and the rest is planned again.

* :func:`taken_j`    what each device has taken in rounds
* :func:`remaining`  the problem of the rounds that are left, with what is left of its budgets
* :func:`too_small`  the error where that has no plan
* :func:`short`      whose budgets will not last if rounds go on as they do
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from fimi.coordinator.settings import PlanSettings
from fimi.energy.cost_model import Array
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.wording import listed
from fimi.plural import plural
from fimi.record.results import DeviceRound, RoundResult

FLEET = "the fleet"
_KIND = " (metered, and modelled where it was not)"
_TOLERANCE = 0.002
"""A run that will end so little above its budget, relatively, is not planned again."""


def taken_j(results: Iterable[RoundResult]) -> dict[str, float]:
    """Board energy of each device in rounds, J; that of receiving its synthetic batch is not in it.

    Joules that were not metered are those of the prediction, or, where there is none, the most that
    the board can have taken.
    """
    taken: dict[str, float] = {}
    for result in results:
        for entry in result.devices:
            if not entry.is_outside:
                taken[entry.device] = taken.get(entry.device, 0.0) + _of_round_j(entry)
    return taken


def _of_round_j(entry: DeviceRound) -> float:
    if entry.energy is not None and entry.unknown_max is None:
        return entry.energy.value_j
    known_j = math.fsum(p.energy.value_j for p in entry.phases if p.energy is not None)
    if entry.predicted:
        return max(known_j, math.fsum(cost.board_j for cost in entry.predicted))
    return known_j + (entry.unknown_max.value_j if entry.unknown_max is not None else 0.0)


def remaining(
    problem: FimiProblem, results: Sequence[RoundResult], rounds_count: int
) -> FimiProblem:
    """The problem of the rounds that are left, with what is left of its budgets.

    Args:
        problem: that of the whole run.
        results: finished rounds.
        rounds_count: of the whole run.

    Raises:
        InfeasibleError: a budget is used up.
    """
    taken = taken_j(results)
    left_j = problem.budget_j - np.array([taken.get(device, 0.0) for device in problem.devices])
    fleet_left_j = problem.fleet_budget_j - math.fsum(taken.values())
    used_up = [
        f"{device} has taken {taken[device]:.4g} J{_KIND} and its budget is {budget_j:g} J"
        for device, budget_j, rest_j in zip(problem.devices, problem.budget_j, left_j, strict=True)
        if rest_j <= 0.0
    ]
    said = [listed(used_up)] if used_up else []
    if fleet_left_j <= 0.0:
        said.append(
            f"{FLEET} has taken {math.fsum(taken.values()):.4g} J{_KIND} and its budget is "
            f"{problem.fleet_budget_j:g} J"
        )
    if said:
        raise InfeasibleError(
            f"energy budget: after {len(results)} of {rounds_count} rounds {'; '.join(said)}",
            constraint="energy budget",
            devices=[d for d, rest in zip(problem.devices, left_j, strict=True) if rest <= 0.0],
        )
    return msgspec.structs.replace(
        problem,
        rounds=problem.rounds * (1.0 - len(results) / rounds_count),
        budget_j=left_j,
        fleet_budget_j=fleet_left_j,
    )


def too_small(
    left: FimiProblem,
    whole: FimiProblem,
    devices: Sequence[str],
    rounds: int,
    *,
    received_j: Array,
    last: Sequence[RoundResult] = (),
) -> InfeasibleError:
    """The error where no plan for the rounds that are left was found.

    Args:
        left: the problem of these rounds, from :func:`remaining`.
        whole: that of the whole run.
        devices: whose budgets are too small.
        rounds: how many are left.
        received_j: what receiving the synthetic batches took, (I,).
        last: rounds that tell what one takes by the plan in force; none where that is not known.
    """
    mean_j = {device: joules / len(last) for device, joules in taken_j(last).items()}

    def clause(whose: str, of_round_j: float, rest_j: float, budget_j: float) -> str:
        takes = f"takes about {rounds * of_round_j:.4g} J (modelled) and " if last else ""
        return f"{whose} {takes}has {max(rest_j, 0.0):.4g} of {budget_j:g} J left"

    said = [
        clause(device, mean_j.get(device, 0.0), rest_j, budget_j)
        for device, rest_j, budget_j in zip(
            left.devices, left.budget_j - received_j, whole.budget_j, strict=True
        )
        if device in devices and math.isfinite(budget_j)
    ]
    clauses = [listed(said)] if said else []
    if math.isfinite(whole.fleet_budget_j):
        fleet_left_j = left.fleet_budget_j - float(received_j.sum())
        of_round_j = math.fsum(mean_j.values())
        clauses.append(clause(FLEET, of_round_j, fleet_left_j, whole.fleet_budget_j))
    count = len(last)
    like = (
        f"if they are as the last {f'{count} were' if count > 1 else 'one was'}, " if last else ""
    )
    return InfeasibleError(
        f"energy budget: no plan was found for the {plural(rounds, 'round')} "
        f"left: {like}{'; '.join(clauses)}",
        constraint="energy budget",
        devices=devices,
    )


def short(
    results: Sequence[RoundResult],
    lately: int,
    rounds_count: int,
    settings: PlanSettings,
    received_j: Mapping[str, float],
) -> tuple[str, ...]:
    """Devices, and maybe the fleet, that will have taken more than their budget at the end.

    Args:
        results: finished rounds.
        lately: so many of the last ones tell what a round takes.
        rounds_count: of the whole run.
        settings: the budgets.
        received_j: what receiving the synthetic batches took, J, by device.
    """
    if not (settings.device_budget_j or settings.fleet_budget_j) or not lately:
        return ()
    so_far, last = taken_j(results), taken_j(results[-lately:])
    left = rounds_count - len(results)
    ends_j = {
        device: received_j.get(device, 0.0) + taken + left * last.get(device, 0.0) / lately
        for device, taken in so_far.items()
    }
    most_j = settings.device_budget_j * (1.0 + _TOLERANCE) or math.inf
    found = [device for device, end_j in sorted(ends_j.items()) if end_j > most_j]
    fleet_j = settings.fleet_budget_j * (1.0 + _TOLERANCE) or math.inf
    return (*found, FLEET) if math.fsum(ends_j.values()) > fleet_j else tuple(found)

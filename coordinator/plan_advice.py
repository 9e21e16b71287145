"""What would make a plan possible, in the keys of the configuration.

The optimiser says what its problem needs. A configuration states it otherwise: its deadline
contains the download and a margin, its budget is one for all devices, and the limits go through a
strategy, a target accuracy or a fixed number of steps. So each remedy is tried by planning with it,
as it is printed; one that does not help alone is left out.

* :func:`in_keys`  a text about a problem, in the keys of the configuration
* :func:`advised`  the error with remedies that can be written into the configuration
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from fimi.coordinator.settings import PlanSettings
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.wording import outwards

_KEYS = {
    "error_max": "plan.error_max",
    "generated_max": "plan.synthetic_max",
    "bandwidth_hz": "plan.bandwidth_hz",
    "t_max_s": "plan.deadline_s",
    "synthetic_value": "plan.synthetic_value",
    "budget_j": "plan.device_budget_j",
    "fleet_budget_j": "plan.fleet_budget_j",
    "objective": "plan.objective",
}
"""Limits of a problem, to the keys of the configuration that set them."""
_MOST = {"deadline_s": 86_400.0, "error_max": 1.0, "bandwidth_hz": 1e11}
_LOOSER = (1.0, 1.01, 1.1, 1.5)
"""Factors on what the problem needs, where the configuration needs a little more."""

Changes = dict[str, float]


def in_keys(text: str) -> str:
    """A text that names limits of a problem, with the keys of the configuration instead."""
    names = "|".join(sorted(_KEYS, key=len, reverse=True))
    return re.sub(rf"(?<![.\w])({names})\b", lambda match: _KEYS[match[1]], text)


def advised(
    error: InfeasibleError,
    plan: PlanSettings,
    problem_of: Callable[[PlanSettings], FimiProblem],
    works: Callable[[PlanSettings], bool],
    smallest_deadline_s: Callable[[PlanSettings], float | None],
) -> InfeasibleError:
    """The error with the remedies of the configuration.

    Args:
        error: why there is no plan, with what the problem needs.
        plan: the limits of the configuration.
        problem_of: the problem with other limits.
        works: whether there is a plan with other limits.
        smallest_deadline_s: the smallest ``plan.deadline_s`` for which the problem has a plan.
    """

    def with_keys(changes: Changes) -> PlanSettings:
        kinds = {key: int(v) if key == "synthetic_max" else v for key, v in changes.items()}
        return replace(plan, **kinds)

    def deadline_s(changed: PlanSettings, extra_s: float | None) -> float | None:
        """What ``plan.deadline_s`` must be, where deadlines of the problem must be later."""
        smallest = smallest_deadline_s(changed)
        if smallest is not None and smallest > plan.deadline_s:
            return smallest
        if extra_s is None:
            return None
        return plan.deadline_s + extra_s / (1.0 - plan.deadline_margin)

    def tried(needed: Changes) -> str | None:
        for factor in _LOOSER:
            changes = {key: outwards(value * factor) for key, value in needed.items()}
            if any(value > _MOST.get(key, value) for key, value in changes.items()):
                return None
            if works(with_keys(changes)):
                return " together with ".join(
                    f"plan.{key} of at least {value:g}" for key, value in changes.items()
                )
        return None

    extra_s = None
    if error.smallest_t_max_s is not None:
        try:
            extra_s = float((error.smallest_t_max_s - problem_of(plan).t_max_s).max())
        except InfeasibleError:
            extra_s = None
    candidates: list[Changes] = []
    later_s = None if error.constraint == "energy budget" else deadline_s(plan, extra_s)
    if later_s is not None:
        candidates.append({"deadline_s": later_s})
    if error.smallest_error_max is not None and not plan.target_accuracy:
        candidates.append({"error_max": error.smallest_error_max})
    if error.bandwidth_needed_hz is not None:
        candidates.append({"bandwidth_hz": error.bandwidth_needed_hz})
    if error.generated_max_needed is not None:
        candidates.append({"synthetic_max": error.generated_max_needed})
    if error.together is not None and not plan.target_accuracy:
        error_max, extra_s = error.together
        later_s = deadline_s(with_keys({"error_max": error_max}), extra_s)
        if later_s is not None:
            candidates.append({"error_max": error_max, "deadline_s": later_s})
    budgets = {
        "device_budget_j": error.budget_needed_j,
        "fleet_budget_j": error.fleet_budget_needed_j,
    }
    if needed := {key: value for key, value in budgets.items() if value is not None}:
        candidates.append(needed)
    remedies = [text for needed in candidates if (text := tried(needed)) is not None]
    result = InfeasibleError(
        in_keys(error.what),
        constraint=error.constraint,
        devices=error.devices,
        remedies=remedies,
        smallest_t_max_s=error.smallest_t_max_s,
        smallest_error_max=error.smallest_error_max,
        bandwidth_needed_hz=error.bandwidth_needed_hz,
        generated_max_needed=error.generated_max_needed,
        together=error.together,
        budget_needed_j=error.budget_needed_j,
        fleet_budget_needed_j=error.fleet_budget_needed_j,
    )
    if plan.deadline_margin > 0 and any("plan.deadline_s" in text for text in remedies):
        result.args = (
            f"{result}\n  plan.deadline_s is {plan.deadline_s:g}, of which plan.deadline_margin "
            f"{plan.deadline_margin:g} is kept free",
        )
    return result

"""Remedies of an error's text, followed to the letter.

* :func:`followed`   a problem with each of the remedies that a text names
* :func:`tightened`  a random problem whose limits are drawn closer than its plan needs
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import numpy as np

from fimi.energy.cost_model import Array
from fimi.optim.problem import FimiProblem
from tests.optim.truth_problems import any_kind, planted

NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
replace = msgspec.structs.replace


def followed(problem: FimiProblem, text: str) -> Iterator[tuple[str, FimiProblem]]:
    """Each remedy in the words of a text, and the problem with it."""
    _, found, advice = text.partition("; feasible with ")
    for remedy in advice.split(", or ") if found else ():
        changed = problem
        for part in remedy.split(" together with "):
            changed = _with(changed, part)
        yield remedy, changed


def _with(problem: FimiProblem, words: str) -> FimiProblem:
    if match := re.fullmatch(rf"every deadline extended by {NUMBER} s", words):
        return replace(problem, t_max_s=problem.t_max_s + float(match[1]))
    if words == "error_max left out":
        return replace(problem, error_max=np.inf)
    if match := re.fullmatch(
        rf"(error_max|bandwidth_hz|fleet_budget_j) of at least {NUMBER}", words
    ):
        return replace(problem, **{match[1]: float(match[2])})
    if match := re.fullmatch(rf"generated_max of at least {NUMBER}(?: for (.*))?", words):
        made = _raised(problem, problem.generated_max, match[2], float(match[1]))
        return replace(problem, generated_max=made)
    if match := re.fullmatch(rf"budget_j of at least {NUMBER}(?: for every device.*)?", words):
        finite = np.isfinite(problem.budget_j)
        budget = np.where(finite, np.maximum(problem.budget_j, float(match[1])), np.inf)
        return replace(problem, budget_j=budget)
    each = re.findall(rf"of at least {NUMBER} for (device-\d+)", words)
    if words.startswith("budget_j of") and each:
        budget = problem.budget_j
        for value, device in each:
            budget = _raised(problem, budget, device, float(value))
        return replace(problem, budget_j=budget)
    raise AssertionError(f"not a remedy that can be followed: {words!r}")


def _raised(problem: FimiProblem, values: Array, names: str | None, least: float) -> Array:
    rows = [
        i for i, device in enumerate(problem.devices) if not names or device in names.split(", ")
    ]
    assert rows, names
    raised = values.copy()
    raised[rows] = np.maximum(raised[rows], least)
    return raised


def tightened(seed: int, size: int, *, budgets: bool = False) -> FimiProblem:
    """A random problem of any kind that had a plan before some limits were drawn closer."""
    rng = np.random.default_rng([seed, 7])
    problem, _ = planted(seed, size, any_kind(seed, budgets=budgets))
    for _ in range(rng.integers(1, 3)):
        pick = rng.integers(5 if budgets else 4)
        if pick == 0:
            problem = replace(problem, t_max_s=problem.t_max_s * rng.uniform(0.3, 0.99))
        elif pick == 1:
            problem = replace(problem, bandwidth_hz=problem.bandwidth_hz * rng.uniform(0.1, 0.98))
        elif pick == 2 and problem.curve is not None:
            excess = problem.error_budget * rng.uniform(0.5, 0.99)
            problem = replace(problem, error_max=problem.error_floor + excess)
        elif pick == 3:
            kept = np.floor(problem.generated_max * rng.uniform(0.0, 0.9, size))
            problem = replace(problem, generated_max=kept)
        elif pick == 4:
            less = rng.uniform(0.3, 0.99)
            problem = replace(
                problem,
                budget_j=problem.budget_j * less,
                fleet_budget_j=problem.fleet_budget_j * less,
            )
    return problem

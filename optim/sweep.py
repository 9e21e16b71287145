"""How energy depends on the limits: the same problem planned over a range of one or more of them.

A point is planned by dual decomposition, in real numbers, and keeps the budgets of joules. Where no
such plan is found the planner is asked: it plans in whole samples, or says what would be enough.

* :data:`PARAMETERS`  the parameters that can be varied
* :func:`vary`        a problem with one of them changed
* :func:`sweep`       certified plans over every combination of values
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim import planner
from fimi.optim.budget_advice import below_idling
from fimi.optim.budgets import BudgetedOptimum, keep_budgets
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import prices_of, solve
from fimi.optim.lanes import EnergyWeights
from fimi.optim.plans import Certified
from fimi.optim.prices import Prices
from fimi.optim.problem import FimiProblem, InfeasibleError, Objective, ProblemError
from fimi.optim.spending import limited, over_s

_VALUES_MAX = 10_000
_WITHIN = 1.0 - 2e-5
"""Budgets are kept to 2e-5: aimed at so much below them, what is used is not above."""


class SweepPoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One combination of values.

    Attributes:
        values: values of the parameters that were varied.
        feasible: whether any plan exists.
        energy_j: the objective in one round of the fleet, J; ``None`` if infeasible.
        bound_j: certified lower bound on it: no plan that keeps the budgets takes less.
        gap_percent: gap between the two, percent of the bound; infinite for a bound of 0.
        board_j: board energy of the same plan, J.
        board_bound_j: no plan takes less board energy.
        board_gap_percent: gap between the two.
        dynamic_j: dynamic energy of the same plan, J.
        dynamic_bound_j: no plan takes less dynamic energy.
        dynamic_gap_percent: gap between the two.
        error: mean learning error of the plan; ``None`` without a learning curve.
        synthetic_samples: of all devices, a real number.
        obstacle: the constraint that cannot be met; empty if feasible.
        message: why it cannot be met, and what would help.
    """

    values: dict[str, float]
    feasible: bool
    energy_j: float | None = None
    bound_j: float | None = None
    gap_percent: float | None = None
    board_j: float | None = None
    board_bound_j: float | None = None
    board_gap_percent: float | None = None
    dynamic_j: float | None = None
    dynamic_bound_j: float | None = None
    dynamic_gap_percent: float | None = None
    error: float | None = None
    synthetic_samples: float | None = None
    obstacle: str | None = None
    message: str | None = None


def sweep(
    problem: FimiProblem, ranges: Mapping[str, Sequence[float]], *, seed: int = 0
) -> tuple[SweepPoint, ...]:
    """Plans over every combination of values, by dual decomposition, in real numbers.

    They keep the budgets of joules.

    Args:
        problem: the problem to vary.
        ranges: values of each parameter; see :data:`PARAMETERS`.
        seed: seed of the partitions where α is varied; the same for every α.

    Raises:
        ProblemError: there is no such parameter, or a value is impossible.
    """
    points = []
    prices: dict[Objective, Prices] = {}
    for combination in itertools.product(*ranges.values()):
        values = dict(zip(ranges, map(float, combination), strict=True))
        changed = problem
        # First a new partition and a smaller fleet: the limits are those of the devices left.
        for name in dict.fromkeys((*PARAMETERS, *values)):
            if name in values:
                changed = vary(changed, name, values[name], seed=seed)
        try:
            energies, samples = _planned(changed, prices, seed)
        except InfeasibleError as error:
            points.append(
                SweepPoint(
                    values=values, feasible=False, obstacle=error.constraint, message=str(error)
                )
            )
            continue
        mean = changed.error(samples)
        points.append(
            SweepPoint(
                values=values,
                feasible=True,
                **_by_name(changed.objective, energies),
                error=mean if math.isfinite(mean) else None,
                synthetic_samples=float((samples - changed.local_samples).sum()),
            )
        )
    return tuple(points)


Energies = dict[Objective, Certified]


def _planned(
    problem: FimiProblem, prices: dict[Objective, Prices], seed: int
) -> tuple[Energies, Array]:
    """Both energies of the plan of one point, and its samples, (I,).

    ``prices`` are those of plans for each energy, which this one begins at and puts there.

    Raises:
        InfeasibleError: no plan meets the limits; what the planner says of it.
    """
    kept = _in_real_numbers(problem, prices.get(problem.objective))
    if kept is None:
        found = planner.plan(problem, seed=seed)
        samples = np.array([share.samples for share in found.devices], float)
        return {"board": found.board, "dynamic": found.dynamic}, samples
    prices[problem.objective] = prices_of(kept.solution)
    return _energies(problem, kept, prices), kept.solution.evaluation.compute.samples[0]


def _in_real_numbers(problem: FimiProblem, start: Prices | None) -> BudgetedOptimum | None:
    """The optimum in real numbers; ``None`` if there are budgets and none was found in them.

    Raises:
        InfeasibleError: no plan meets the limits of a problem without budgets.
    """
    if not limited(problem):
        return keep_budgets(problem, start=start)
    if below_idling(problem):
        return None
    try:
        kept = keep_budgets(problem, start=start, tightened=_WITHIN)
    except InfeasibleError:  # with remedies that do not know the budgets
        return None
    return kept if kept.holds else None


def _energies(
    problem: FimiProblem, kept: BudgetedOptimum, prices: dict[Objective, Prices]
) -> Energies:
    """Both energies of an optimum with their bounds; that of the objective knows the budgets.

    ``prices`` are those of plans for each energy; those of the energy that is not the objective are
    put there.
    """
    other: Objective = "dynamic" if problem.objective == "board" else "board"
    inner = InnerSolver(problem, EnergyWeights.of(problem, other))
    least = solve(inner, start=prices.get(other, prices[problem.objective]))
    prices[other] = prices_of(least)
    found = kept.solution.evaluation
    compute, upload = found.compute, found.upload
    round_s = over_s(problem, compute.time_s, upload.time_s, found.round_s)
    other_j = inner.objective_j(compute.energy_j, upload.energy_j, compute.samples, round_s)
    return {
        problem.objective: Certified(
            energy_j=kept.energy_j(problem), bound_j=max(kept.bound_j, 0.0)
        ),
        other: Certified(energy_j=float(other_j[0]), bound_j=least.bound_j),
    }


def _by_name(objective: Objective, energies: Energies) -> dict[str, Any]:
    """Energies with bounds and gaps by the names of :class:`SweepPoint`."""
    said: dict[str, Any] = {}
    for name, certified in energies.items():
        said |= {f"{name}_j": certified.energy_j, f"{name}_bound_j": certified.bound_j}
        said[f"{name}_gap_percent"] = certified.gap_percent
    for what in ("bound_j", "gap_percent"):
        said[what] = said[f"{objective}_{what}"]
    return said | {"energy_j": said[f"{objective}_j"]}


def vary(problem: FimiProblem, name: str, value: float, *, seed: int = 0) -> FimiProblem:
    """The problem with one of :data:`PARAMETERS` changed; ``seed`` is that of a new partition.

    Raises:
        ProblemError: there is no such parameter, or the value is impossible.
    """
    if name not in PARAMETERS:
        raise ProblemError(f"cannot vary {name!r}; there are {', '.join(PARAMETERS)}")
    if not (math.isfinite(value) and value > 0):
        raise ProblemError(f"{name} is {value}; it must be a finite number above 0")
    return PARAMETERS[name](problem, value, seed)


def _devices(problem: FimiProblem, value: float, _: int) -> FimiProblem:
    """The first so many devices; weights divided by their sum."""
    count = int(value)
    if count != value or count > problem.size:
        raise ProblemError(
            f"devices is {value:g}; it must be a whole number up to {problem.size}, the devices "
            "that the problem describes"
        )
    total = float(problem.weights[:count].sum())
    if total <= 0:
        raise ProblemError(f"devices is {count}: the weights of the first {count} are all 0")
    return problem.subset(slice(count), weights=problem.weights[:count] / total)


def _alpha(problem: FimiProblem, value: float, seed: int) -> FimiProblem:
    """The same samples of each class, divided again: shares by Dirichlet(α), counts multinomial."""
    rng = np.random.default_rng(seed)
    totals = problem.local_counts.sum(axis=0)
    counts = np.zeros_like(problem.local_counts)
    for k, total in enumerate(totals):
        # Gamma draws below 1e-300 are 0; at least one device must get the samples.
        draws = rng.gamma(value, size=problem.size)
        if not draws.sum() > 0:
            draws[rng.integers(problem.size)] = 1.0
        counts[:, k] = rng.multinomial(int(total), draws / draws.sum())
    return msgspec.structs.replace(problem, local_counts=counts)


def _budget(problem: FimiProblem, value: float, _: int) -> FimiProblem:
    """The budget of every device that has one, of all if none has."""
    held = np.isfinite(problem.budget_j)
    budget_j = np.where(held | (not held.any()), value, np.inf)
    return msgspec.structs.replace(problem, budget_j=budget_j)


def _replace(field: str) -> Callable[[FimiProblem, float, int], FimiProblem]:
    return lambda problem, value, _: msgspec.structs.replace(problem, **{field: value})


PARAMETERS: dict[str, Callable[[FimiProblem, float, int], FimiProblem]] = {
    "alpha": _alpha,
    "devices": _devices,
    "t_max": _replace("t_max_s"),
    "error_max": _replace("error_max"),
    "bandwidth": _replace("bandwidth_hz"),
    "budget": _budget,
    "fleet_budget": _replace("fleet_budget_j"),
}
"""The parameters: ``t_max`` (s, of every device), ``error_max``, ``bandwidth`` (Hz), ``budget`` (J
in all rounds, of every device that has one, or of all), ``fleet_budget`` (J), ``devices`` (the
first so many), ``alpha`` (of a Dirichlet partition of the same samples)."""


def parse_range(text: str) -> tuple[str, tuple[float, ...]]:
    """Parameter and values of ``t_max=5:20:7`` (from, to, how many) or ``t_max=5,8,12``.

    A range of devices is rounded to whole numbers, each once.

    Raises:
        ProblemError: the text has another form.
    """
    name, equals, spec = text.partition("=")
    name = name.strip()
    try:
        if not equals:
            raise ValueError
        if ":" in spec:
            first, last, count = spec.split(":")
            if not 1 <= int(count) <= _VALUES_MAX:
                raise ValueError
            values = tuple(map(float, np.linspace(float(first), float(last), int(count))))
        else:
            values = tuple(float(part) for part in spec.split(","))
    except ValueError:
        raise ProblemError(
            f"--sweep {text!r}: write name=from:to:count (up to {_VALUES_MAX}) or "
            "name=value,value,…, for example t_max=5:20:7"
        ) from None
    if name not in PARAMETERS:
        raise ProblemError(f"--sweep: cannot vary {name!r}; there are {', '.join(PARAMETERS)}")
    if name == "devices":
        if ":" in spec:  # from:to:count need not hit whole numbers
            values = tuple(dict.fromkeys(float(round(value)) for value in values))
        elif any(value != math.floor(value) for value in values if math.isfinite(value)):
            raise ProblemError(f"--sweep {text!r}: devices are counted in whole numbers")
    return name, values

"""A plan for a fleet: it is searched for, certified and rounded to what devices can run.

1. Whether a plan exists; if not, :class:`~fimi.optim.problem.InfeasibleError` says why.
2. The dual decomposition (:mod:`fimi.optim.joint`): a plan in real numbers of samples, and a bound
   on the energy of *every* plan. Budgets are kept by weighing joules (:mod:`fimi.optim.budgets`).
3. (P5) the cross-entropy search over the time splits and the length of the round, (P2) and (P3)
   inside it; from the splits of the dual decomposition, or from cold.
4. Whole samples, (P4) spread over the classes, and settable speeds; where devices have steps,
   these, samples and the length of the round are chosen together (:mod:`fimi.optim.steps`).

A plan has both energies, the board's and the dynamic one, each with its own bound: one is the
objective, the other shows what the choice of it costs. ``search_energy_j`` is the objective of the
plan in real numbers of samples; the gap of the plan as it runs also contains the price of whole
ones.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable

import numpy as np
from msgspec.structs import replace

from fimi.energy.cost_model import Array
from fimi.optim.budget_advice import below_idling, idling_j, limits_refused
from fimi.optim.budget_advice import refusal as over_budgets
from fimi.optim.budgets import BudgetedOptimum, keep_budgets
from fimi.optim.cross_entropy import Iteration, SearchResult, SearchSettings, minimise
from fimi.optim.feasibility import require_feasible, require_reachable_error
from fimi.optim.inner import InnerSolver, SplitCosts
from fimi.optim.joint import prices_of, solve
from fimi.optim.lanes import EnergyWeights
from fimi.optim.leanest import Leanest
from fimi.optim.plans import Certified, DeviceShare, Plan, PlanStatus, SearchName, gap_percent
from fimi.optim.prices import Prices
from fimi.optim.problem import FimiProblem, InfeasibleError, Objective
from fimi.optim.realise import RunnablePlan, Work, cost, least_whole_work, realise, runnable
from fimi.optim.settled import settled
from fimi.optim.spending import above, limited, plan_spent_j, without_budgets
from fimi.optim.splits import Z_REACH, SplitSpace, try_edges
from fimi.optim.splits import Objective as SplitObjective
from fimi.optim.steps import FEW, improve
from fimi.optim.whole import exists

__all__ = ["DeviceShare", "Plan", "SearchSettings", "plan", "whole_plan"]

_NEAR_DEVIATION = 0.02
_NEAR_SAMPLES, _NEAR_SAMPLES_MAX, _NEAR_LEAST, _NEAR_ITERATIONS = 24, 80, 12, 25
_NEAR_CELLS = 30_000
"""Candidates times lanes of an iteration that begins at the dual decomposition, at most."""
_PROVED, _PROVED_ITERATIONS = 1e-6, 6
"""Where the bound leaves less than this, a few iterations are enough to show that it does."""
_QUICK_ITERATIONS = 6
"""Iterations of the search where only the existence of a plan is asked for."""
_BETTER = 1e-9
"""A search has found a better plan if it saves this share of the energy."""
_RETREATS = np.logspace(-4.0, 0.0, 17)
"""Shares of the way to the leanest plan at which whole samples are tried."""
_TIGHTENINGS = (1.0, 0.999, 0.99, 0.97)
"""Factors on the budgets: whole samples may take a plan that just keeps them above them."""

_Found = tuple[SplitCosts, SearchName, SearchResult]
"""A plan in real numbers, what found it, and the search's own account."""

Progress = Callable[[int, float], None]
"""Called after every iteration with its number and the best energy so far (infinite before the
first feasible candidate)."""


def plan(
    problem: FimiProblem,
    *,
    seed: int,
    settings: SearchSettings | None = None,
    progress: Progress | None = None,
    start: Plan | None = None,
) -> Plan:
    """Plan a fleet.

    Args:
        problem: the problem to plan.
        seed: the same problem, settings and seed give the same plan to the last digit.
        settings: settings of the search.
        progress: called after every iteration of the search.
        start: a plan for a similar problem, whose prices are those that are tried first.

    Raises:
        InfeasibleError: no plan meets the constraints.
    """
    settings = settings or SearchSettings()
    if not limited(problem):
        return _plan(problem, seed, settings, progress, start)
    reason: InfeasibleError = _OverBudgetError(problem.devices, idling_j(problem))
    if not below_idling(problem):
        try:
            return _plan(problem, seed, settings, progress, start)
        except InfeasibleError as error:
            reason = error
    if not settings.advise:
        raise reason
    quick = replace(settings, certify=False, iterations=_QUICK_ITERATIONS)

    def works(changed: FimiProblem) -> bool:
        try:
            _plan(changed, seed, quick, None, None)
        except InfeasibleError:
            return False
        return True

    def unlimited(changed: FimiProblem) -> Array:
        free = without_budgets(changed)
        return plan_spent_j(free, _plan(free, seed, quick, None, None))

    if not exists(problem) or not isinstance(reason, _OverBudgetError):
        raise limits_refused(problem, works, unlimited) from None
    raise over_budgets(problem, reason.spent, unlimited(problem), works) from None


def whole_plan(problem: FimiProblem, proved: BudgetedOptimum) -> Plan:
    """The plan in whole samples and steps next to an optimum in real numbers.

    Nothing is searched for or certified, and the error where there is no plan has no remedies.

    Args:
        problem: the problem.
        proved: its optimum, with the budgets.

    Raises:
        InfeasibleError: no such plan was found.
    """
    return _runs(problem, proved, _unsearched, SearchSettings(certify=False), time.perf_counter())


class _OverBudgetError(InfeasibleError):
    """The plans that were found use more than the budgets; ``spent``: J of each device, (I,)."""

    def __init__(self, devices: tuple[str, ...], spent: Array) -> None:
        super().__init__("energy budget", constraint="energy budget", devices=devices)
        self.spent = spent


def _plan(
    problem: FimiProblem,
    seed: int,
    settings: SearchSettings,
    progress: Progress | None,
    start: Plan | None,
) -> Plan:
    began = time.perf_counter()
    require_reachable_error(InnerSolver(problem))
    proved = keep_budgets(problem, start=_prices_of(start))
    return _runs(
        problem, proved, lambda kept: _search(kept, seed, settings, progress), settings, began
    )


def _runs(
    problem: FimiProblem,
    proved: BudgetedOptimum,
    find: Callable[[BudgetedOptimum], _Found],
    settings: SearchSettings,
    began: float,
) -> Plan:
    """The plan in whole samples and steps, within the budgets, next to those that ``find`` finds.

    Args:
        problem: the problem.
        proved: its optimum, with the bound.
        find: a plan in real numbers next to an optimum.
        settings: whether the plan is certified, and how closely.
        began: when planning began, by ``time.perf_counter``.
    """
    nearest: Array | None = None
    kept = proved
    for tightened in _TIGHTENINGS:
        if tightened < 1.0:
            kept = keep_budgets(problem, start=prices_of(proved.solution), tightened=tightened)
        certified_s = time.perf_counter() - began
        found, name, result = find(kept)
        work = _runnable(kept.inner, found)
        if not kept.inner.lanes.single or problem.size <= FEW:
            enough_j = kept.solution.bound_j * (1.0 + settings.gap_tolerance_percent / 100.0)
            better = improve(kept.inner, prices_of(kept.solution), work, enough_j)
            if cost(kept.inner, better).energy_j[0] < cost(kept.inner, work).energy_j[0]:
                work = better
                if name == "dual decomposition":
                    name = "dual decomposition, then steps and samples"
        final, work = settled(
            kept.inner, work, prices_of(kept.solution), budgeted=kept.charges_j > 0
        )
        fleet = runnable(final, work)
        spent = fleet.spent_j(problem)
        if above(problem, spent) <= 1.0:
            break
        if nearest is None or above(problem, spent) < above(problem, nearest):
            nearest = spent
        if not kept.holds and tightened == 1.0:
            raise _OverBudgetError(problem.devices, nearest)
    else:
        assert nearest is not None
        raise _OverBudgetError(problem.devices, nearest)
    search_s = time.perf_counter() - began - certified_s
    bounds = _bounds(problem, proved) if settings.certify else {}
    return _assemble(
        problem,
        proved,
        fleet,
        found,
        result,
        settings,
        name,
        bounds,
        (search_s, time.perf_counter() - began - search_s),
    )


def _prices_of(plan: Plan | None) -> Prices | None:
    if plan is None:
        return None
    return Prices.of(plan.learning_multiplier, plan.band_multiplier, plan.round_s)


def _search(
    kept: BudgetedOptimum, seed: int, settings: SearchSettings, progress: Progress | None
) -> _Found:
    """(P5) The plan in real numbers, what found it, and the search's own account."""
    inner, solution = kept.inner, kept.solution

    def report(iteration: Iteration) -> None:
        if progress is not None:
            progress(iteration.number, math.inf if iteration.best is None else iteration.best)

    space = SplitSpace(inner if settings.inner == "fast" else _reference(inner))
    objective = SplitObjective(space)
    near = settings.start == "dual"
    if not space.dimension:
        return _unsearched(kept)
    if near:
        first = space.point(solution.window_s, solution.round_s)
        most = min(_NEAR_SAMPLES + space.dimension, _NEAR_SAMPLES_MAX)
        most = max(_NEAR_LEAST, min(most, _NEAR_CELLS // inner.lanes.size))
        proved = solution.relative_gap < _PROVED
        iterations = min(settings.iterations, _PROVED_ITERATIONS if proved else _NEAR_ITERATIONS)
        used = replace(settings, samples=settings.samples or most, iterations=iterations)
    else:
        first, used = _even(space, objective), settings
    result = minimise(
        objective,
        first,
        seed=seed,
        settings=used,
        deviation=_NEAR_DEVIATION if near else None,
        reach=math.inf if near else Z_REACH,
        progress=report,
    )
    if not near and result.violation == 0:
        result = try_edges(objective, result)
    if result.violation > 0 or (near and result.value >= solution.energy_j * (1.0 - _BETTER)):
        return solution.evaluation, "dual decomposition", result
    windows, rounds = space.decode(result.best[None])
    found = inner.evaluate(windows, rounds)
    if found.violation[0] > 0 or (near and found.energy_j[0] >= solution.energy_j):
        return solution.evaluation, "dual decomposition", result
    return found, "cross-entropy from the dual decomposition" if near else "cross-entropy", result


def _unsearched(kept: BudgetedOptimum) -> _Found:
    """The plan of the dual decomposition as it is."""
    solution = kept.solution
    nothing = SearchResult(np.zeros(0), solution.energy_j, 0.0, (), "converged", 0)
    return solution.evaluation, "dual decomposition", nothing


def _even(space: SplitSpace, objective: SplitObjective) -> Array:
    """Where a cold search begins: the best of a few even splits, feasible if any is."""
    even = np.linspace(-4.0, 4.0, 17)[:, None] * np.ones(space.dimension)
    if space.inner.free_round:
        lengths = np.array([4.0, 1.0, -1.0])
        even = np.repeat(even, len(lengths), axis=0)
        even[:, -1] = np.tile(lengths, len(even) // len(lengths))
    values, violations = objective(even)
    best = int(np.lexsort((values, violations))[0])
    if violations[best] == 0:
        return np.asarray(even[best])
    lean = require_feasible(space.inner)
    return space.point(lean.window_s, space.inner.problem.round_max_s)


def _runnable(inner: InnerSolver, found: SplitCosts) -> Work:
    """The plan in whole samples; where rounding makes it infeasible, the nearest feasible one."""
    compute, round_s = found.compute, float(found.round_s[0])
    window_s = compute.time_s[0]

    @functools.cache
    def leanest() -> Leanest:
        return require_feasible(inner)

    work = realise(inner, compute.samples[0], compute.lane[0], window_s, round_s, leanest)
    if work is not None:
        return work
    longest = inner.problem.round_max_s
    for retreat in _RETREATS:
        nearer = window_s + retreat * (leanest().window_s - window_s)
        length = round_s + retreat * (longest - round_s)
        other = inner.evaluate(nearer[None], np.array([length]))
        if other.violation[0] == 0:
            samples, lane = other.compute.samples[0], other.compute.lane[0]
            work = realise(inner, samples, lane, nearer, length, leanest)
            if work is not None:
                return work
    return least_whole_work(inner)


def _bounds(problem: FimiProblem, kept: BudgetedOptimum) -> dict[Objective, float]:
    """Certified bounds on both energies of every plan; that of the objective knows the budgets."""
    own = max(kept.bound_j, 0.0)
    other: Objective = "dynamic" if problem.objective == "board" else "board"
    second = solve(
        InnerSolver(problem, EnergyWeights.of(problem, other)), start=prices_of(kept.solution)
    ).bound_j
    return {problem.objective: own, other: second}


def _reference(inner: InnerSolver) -> InnerSolver:
    from fimi.optim.reference import ReferenceSolver  # imports CVXPY

    return ReferenceSolver(inner.problem, inner.weights)


def status_of(gap: float | None, settings: SearchSettings) -> PlanStatus:
    """What a plan with this gap (percent; ``None`` without a bound) is proved to be."""
    if gap is None:
        return "uncertified"
    return "optimal" if gap <= settings.gap_tolerance_percent else "feasible"


def _assemble(
    problem: FimiProblem,
    kept: BudgetedOptimum,
    fleet: RunnablePlan,
    found: SplitCosts,
    result: SearchResult,
    settings: SearchSettings,
    name: SearchName,
    bounds: dict[Objective, float],
    seconds: tuple[float, float],
) -> Plan:
    board = Certified(energy_j=fleet.board_j(problem), bound_j=bounds.get("board"))
    dynamic = Certified(energy_j=fleet.dynamic_j, bound_j=bounds.get("dynamic"))
    least = board if problem.objective == "board" else dynamic
    base = InnerSolver(problem)
    search_j = float(
        base.objective_j(
            found.compute.energy_j, found.upload.energy_j, found.compute.samples, found.round_s
        )[0]
    )
    budget_cost_j = 0.0
    if kept.charges_j > 0:
        budget_cost_j = max(0.0, search_j - solve(base).energy_j)
    total_s = np.minimum(problem.t_max_s, fleet.round_s - problem.receive_s)
    constrained = math.isfinite(problem.error_max)
    shares = fleet.shares(problem, fleet.compute_s / np.maximum(total_s, 1e-300))
    return Plan(
        devices=tuple(
            replace(share, budget_price=float(price + kept.fleet_price))
            for share, price in zip(shares, kept.device_prices, strict=True)
        ),
        status=status_of(least.gap_percent, settings),
        search=name,
        objective=problem.objective,
        board=board,
        dynamic=dynamic,
        round_s=fleet.round_s,
        search_energy_j=search_j,
        search_gap_percent=gap_percent(search_j, least.bound_j),
        error=problem.error(fleet.samples.astype(float)) if constrained else None,
        error_max=problem.error_max if constrained else None,
        learning_multiplier=kept.solution.learning_multiplier,
        band_multiplier=kept.solution.band_multiplier,
        history=result.history,
        stop=result.stop,
        evaluations=result.evaluations,
        search_s=seconds[0],
        certificate_s=seconds[1],
        preparation_j=fleet.preparation_j(problem),
        budget_cost_j=budget_cost_j,
    )

"""A plan for a fleet: it is searched for, certified and rounded to what devices can run.

1. Whether a plan exists; if not, :class:`~fimi.optim.problem.InfeasibleError` says why.
2. (P5) the cross-entropy search over the time splits, (P2) and (P3) inside it.
3. A certified lower bound on the energy of *every* plan, and the distance from it. A search
   result farther from the bound than the tolerance is refined from the certified time splits.
4. Whole samples, (P4) spread over the classes, and frequencies that the devices can set.

The result has two energies, each with its gap to the same bound: ``search_energy_j`` of the plan in
real numbers, whose gap says how good the search was; and ``energy_j`` of the plan as it will run,
whose gap also contains the price of whole samples and discrete frequencies.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable

import numpy as np

from fimi.energy.cost_model import Array
from fimi.optim.cross_entropy import Iteration, SearchResult, SearchSettings, minimise
from fimi.optim.dual import dual
from fimi.optim.feasibility import require_feasible, require_reachable_error
from fimi.optim.inner import InnerSolver, SplitCosts
from fimi.optim.joint import nearest_feasible, solve
from fimi.optim.plans import (
    Certified,
    DeviceShare,
    Plan,
    PlanStatus,
    SearchName,
    gap_percent,
)
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.realise import RunnablePlan, realise
from fimi.optim.splits import Z_REACH, Objective, SplitSpace, try_edges

__all__ = ["DeviceShare", "Plan", "SearchSettings", "plan"]

_PROGRAM_DEVICES_MAX = 120
"""For larger fleets dual decomposition proves the same bound in a fraction of CVXPY's time."""
_WARM_DEVIATION = 0.3
_REFINE_DEVIATION = 0.01
_RETREATS = np.logspace(-4.0, 0.0, 17)
"""Shares of the way to the leanest plan at which whole samples are tried."""

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
        start: a plan for a similar problem; the search starts from its time splits. Devices are
            matched by id.

    Raises:
        InfeasibleError: no plan meets the constraints.
    """
    settings = settings or SearchSettings()
    began = time.perf_counter()
    inner = InnerSolver(problem)
    require_reachable_error(inner)
    if np.count_nonzero(inner.has_work) > settings.devices_max:
        return _plan_large(inner, settings, began, start)
    space = SplitSpace(inner if settings.inner == "fast" else _reference(problem))
    first, leanest_tau = _starting_point(space, start)
    result = _search(space, first, seed, settings, progress, warm=start is not None)
    if result.violation > 0:  # the leanest split is feasible by construction
        result = _search(space, space.point(leanest_tau()), seed, settings, progress, warm=True)
    tau = leanest_tau()[None] if result.violation > 0 else space.tau(result.best[None])
    found = inner.evaluate(tau)
    search_s = time.perf_counter() - began
    name: SearchName = "cross-entropy" if space.dimension else "no split to search"
    bound_j = None
    if settings.certify:
        bound_j, certified_tau = _prove(inner, found)
        gap = gap_percent(float(found.energy_j[0]), bound_j)
        if status_of(gap, settings) == "feasible":
            refined = _refine(space, certified_tau, seed, settings)
            better = inner.evaluate(refined)
            if better.violation[0] == 0 and better.energy_j[0] < found.energy_j[0]:
                tau, found, name = refined, better, "cross-entropy, refined from the certificate"
    certificate_s = time.perf_counter() - began - search_s
    runnable = _runnable(inner, found, tau[0], leanest_tau)
    return _assemble(
        problem, runnable, found, result, settings, name, bound_j, (search_s, certificate_s)
    )


def _runnable(
    inner: InnerSolver, found: SplitCosts, tau: Array, leanest_tau: Callable[[], Array]
) -> RunnablePlan:
    """The plan in whole samples; where rounding makes it infeasible, the nearest feasible one."""
    try:
        return realise(inner, found.compute.samples[0], tau, leanest_tau)
    except InfeasibleError:
        leanest = leanest_tau()
    for retreat in _RETREATS[:-1]:
        nearer = tau + retreat * (leanest - tau)
        other = inner.evaluate(nearer[None])
        if other.violation[0] == 0:
            with contextlib.suppress(InfeasibleError):
                return realise(inner, other.compute.samples[0], nearer, leanest_tau)
    other = inner.evaluate(leanest[None])
    return realise(inner, other.compute.samples[0], leanest, leanest_tau)


def _starting_point(space: SplitSpace, start: Plan | None) -> tuple[Array, Callable[[], Array]]:
    """Where the search begins, and the leanest split for when it is needed.

    This also decides whether the problem is feasible: by a feasible split among a few obvious
    ones, or else by the exact answer.
    """
    inner = space.inner

    @functools.cache
    def leanest() -> Array:
        return require_feasible(inner).tau

    obvious = np.linspace(-4.0, 4.0, 17)[:, None] * np.ones(space.dimension)
    if start is not None:
        splits = {device.device: device.point.time_split for device in start.devices}
        tau = np.array([splits.get(device, 0.5) for device in inner.problem.devices])
        obvious = np.concatenate([space.point(tau)[None], obvious])
    evaluation = inner.evaluate(space.tau(obvious))
    order = np.lexsort((evaluation.energy_j, evaluation.violation))
    if evaluation.violation[order[0]] > 0:
        return space.point(leanest()), leanest
    if start is not None and evaluation.violation[0] == 0:
        return obvious[0], leanest
    return obvious[order[0]], leanest


def _search(
    space: SplitSpace,
    first: Array,
    seed: int,
    settings: SearchSettings,
    progress: Progress | None,
    *,
    warm: bool,
) -> SearchResult:
    if not space.dimension:
        energy_j, violation = Objective(space)(first[None])
        return SearchResult(first, float(energy_j[0]), float(violation[0]), (), "converged", 1)

    def report(iteration: Iteration) -> None:
        if progress is not None:
            progress(iteration.number, math.inf if iteration.best is None else iteration.best)

    objective = Objective(space)
    result = minimise(
        objective,
        first,
        seed=seed,
        settings=settings,
        deviation=_WARM_DEVIATION if warm else None,
        reach=Z_REACH,
        progress=report,
    )
    return try_edges(objective, result) if result.violation == 0 else result


def _plan_large(
    inner: InnerSolver, settings: SearchSettings, began: float, start: Plan | None
) -> Plan:
    """The plan of a large fleet: dual decomposition gives plan and bound at once."""
    prices = None if start is None else (start.learning_multiplier, start.band_multiplier)
    solution = solve(inner, start=prices)
    solved_s = time.perf_counter() - began
    tau = solution.tau
    runnable = _runnable(inner, solution.evaluation, tau, lambda: require_feasible(inner).tau)
    nothing = SearchResult(tau, solution.energy_j, 0.0, (), "converged", solution.steps)
    return _assemble(
        inner.problem,
        runnable,
        solution.evaluation,
        nothing,
        settings,
        "dual decomposition",
        solution.bound_j if settings.certify else None,
        (solved_s, 0.0),
    )


def _reference(problem: FimiProblem) -> InnerSolver:
    from fimi.optim.reference import ReferenceSolver  # imports CVXPY

    return ReferenceSolver(problem)


def _prove(inner: InnerSolver, found: SplitCosts) -> tuple[float, Array]:
    """The better of two certified bounds: at the program's multipliers, at the search's own."""
    from fimi.optim.certificate import certify

    own = dual(
        inner,
        float(np.exp(found.compute.log_multiplier[0])),
        float(np.exp(found.upload.log_multiplier[0])),
    )
    if inner.problem.size <= _PROGRAM_DEVICES_MAX:
        certificate = certify(inner, scale_j=float(found.energy_j[0]))
        if certificate.status != "failed":
            return max(own.bound_j, certificate.bound_j, 0.0), certificate.tau
    solution = solve(inner, start=(own.learning_multiplier, own.band_multiplier))
    return max(own.bound_j, solution.bound_j), solution.tau


def _refine(space: SplitSpace, tau: Array, seed: int, settings: SearchSettings) -> Array:
    """The certified splits, made feasible, or the best of a narrow search around them."""
    tau, _ = nearest_feasible(space.inner, tau)
    result = minimise(
        Objective(space),
        space.point(tau),
        seed=seed,
        settings=settings,
        deviation=_REFINE_DEVIATION,
    )
    exact = space.inner.evaluate(tau[None])
    if result.violation == 0 and result.value < exact.energy_j[0]:
        return space.tau(result.best[None])
    return tau[None]


def status_of(gap: float | None, settings: SearchSettings) -> PlanStatus:
    """What a plan with this gap (percent; ``None`` without a bound) is proved to be."""
    if gap is None:
        return "uncertified"
    return "optimal" if gap <= settings.gap_tolerance_percent else "feasible"


def _assemble(
    problem: FimiProblem,
    runnable: RunnablePlan,
    found: SplitCosts,
    result: SearchResult,
    settings: SearchSettings,
    name: SearchName,
    bound_j: float | None,
    seconds: tuple[float, float],
) -> Plan:
    search_energy_j = float(found.energy_j[0])
    least = Certified(energy_j=runnable.energy_j, bound_j=bound_j)
    board = Certified(energy_j=runnable.energy_j)
    gap = least.gap_percent
    constrained = math.isfinite(problem.error_max)
    return Plan(
        devices=runnable.shares(problem, runnable.compute_s / problem.t_max_s),
        status=status_of(gap, settings),
        search=name,
        objective="dynamic",
        dynamic=least,
        board=board,
        round_s=problem.round_max_s,
        search_energy_j=search_energy_j,
        search_gap_percent=gap_percent(search_energy_j, bound_j),
        error=problem.error(runnable.samples.astype(float)) if constrained else None,
        error_max=problem.error_max if constrained else None,
        learning_multiplier=float(np.exp(found.compute.log_multiplier[0])),
        band_multiplier=float(np.exp(found.upload.log_multiplier[0])),
        history=result.history,
        stop=result.stop,
        evaluations=result.evaluations,
        search_s=seconds[0],
        certificate_s=seconds[1],
    )

"""Plans with synthetic samples that are worth less than real ones, docs/model.md (43)-(45).

A synthetic sample teaches as much as q real ones and costs as much to train on as one. The error
then falls with D_loc + q D_gen, which is not a power of D. Its logarithm is convex in log D, so
that

* a tangent lies below it: the power law that touches it at some D never exceeds the worth of the
  data. A plan under that power law keeps the real limit on the error. The next tangent is taken at
  the best plan under the last one; the energy falls until the two are the same.
* a chord lies above it: over a range of D no plan needs less data than the chord says. The dual
  function with chords over many short ranges is a lower bound on every plan.

* :func:`plan`          a plan, with the bound of the discounted problem
* :func:`choose`        the Δ_max and the local epochs of fewest joules to an accuracy
* :func:`feasible_law`  whether there is a plan at all
* :func:`effective`     D_loc + q D_gen
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import get_args

import msgspec
import numpy as np

from fimi.energy.cost_model import Array
from fimi.optim import epochs as local_epochs
from fimi.optim import planner
from fimi.optim.cross_entropy import SearchSettings
from fimi.optim.dual import dual
from fimi.optim.feasibility import refusal
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import JointSolution, prices_of, solve
from fimi.optim.lanes import EnergyWeights, lanes_of, merged
from fimi.optim.leanest import least_bandwidth
from fimi.optim.plans import Plan, gap_percent
from fimi.optim.prices import Prices
from fimi.optim.problem import FimiProblem, InfeasibleError, Objective, ProblemError
from fimi.optim.radio import Radio
from fimi.optim.rounds_model import RoundsModel
from fimi.optim.spending import limited
from fimi.optim.target import Choice
from fimi.optim.whole import exists, least_whole

_SMALLEST_VALUE = 1e-6
_TANGENTS_MAX = 40
_SETTLED = 1e-8
"""Relative change of the energy below which the tangents have settled."""
_CHOICE_SETTLED = 1e-5
_SLACK = 1e-9
_SEGMENTS = 32


def effective(problem: FimiProblem, synthetic_value: float, samples: Array) -> Array:
    """(43) D_loc + q D_gen for D = D_loc + D_gen, (I,)."""
    local = problem.local_samples
    return np.asarray(local + synthetic_value * (samples - local))


def plan(
    problem: FimiProblem,
    *,
    synthetic_value: float = 1.0,
    seed: int,
    settings: SearchSettings | None = None,
    progress: planner.Progress | None = None,
) -> Plan:
    """Plan a fleet whose synthetic samples are worth q real ones each.

    Args:
        problem: the problem to plan, with the learning curve of real samples.
        synthetic_value: q, in (0, 1]; 1 is :func:`fimi.optim.planner.plan`.
        seed: the same problem, value, settings and seed give the same plan to the last digit.
        settings: settings of the search.
        progress: called after every iteration of the search.

    Returns:
        A plan whose ``error`` counts synthetic samples as q, at most Δ_max with whole samples. Its
        bound holds for every plan with this q; ``optimal``: its gap is within the tolerance.
        Without a bound the plan is a local optimum if q (1 + β) < 1, else the optimum.

    Raises:
        ProblemError: q is not in (0, 1].
        InfeasibleError: no plan meets the constraints.
    """
    _check(synthetic_value)
    if synthetic_value == 1.0 or not np.isfinite(problem.error_budget):
        return planner.plan(problem, seed=seed, settings=settings, progress=progress)
    settings = settings or SearchSettings()
    try:
        return _plan(problem, synthetic_value, seed, settings, progress)
    except InfeasibleError as error:
        if error.constraint == "energy budget" or not limited(problem) or not settings.advise:
            raise

    quick = msgspec.structs.replace(settings, advise=False)

    def works(changed: FimiProblem) -> bool:
        try:
            _plan(changed, synthetic_value, seed, quick, None)
        except InfeasibleError:
            return False
        return True

    raise refusal(problem, synthetic_value, also=works)


def _plan(
    problem: FimiProblem,
    synthetic_value: float,
    seed: int,
    settings: SearchSettings,
    progress: planner.Progress | None,
) -> Plan:
    began = time.perf_counter()
    law, solution = _settle(problem, synthetic_value)
    law = _whole_law(problem, synthetic_value, law)
    settled_s = time.perf_counter() - began
    found = planner.plan(law, seed=seed, settings=settings, progress=progress)
    whole = np.array([share.samples for share in found.devices], float)
    error = problem.error(effective(problem, synthetic_value, whole))
    began = time.perf_counter()
    board, dynamic = found.board, found.dynamic
    if settings.certify:
        prices = prices_of(solution)
        bounds = {
            objective: _bound(problem, synthetic_value, objective, solution, prices)
            for objective in get_args(Objective)
        }
        board = msgspec.structs.replace(board, bound_j=bounds["board"])
        dynamic = msgspec.structs.replace(dynamic, bound_j=bounds["dynamic"])
    found = msgspec.structs.replace(found, board=board, dynamic=dynamic)
    search_gap = gap_percent(found.search_energy_j, found.bound_j)
    return msgspec.structs.replace(
        found,
        status=planner.status_of(search_gap, settings),
        search_gap_percent=search_gap,
        error=error,
        synthetic_value=synthetic_value,
        search_s=found.search_s + settled_s,
        certificate_s=found.certificate_s + time.perf_counter() - began,
    )


def choose(
    problem: FimiProblem,
    accuracy: float,
    *,
    synthetic_value: float = 1.0,
    epochs: Sequence[int] = (),
    rounds: RoundsModel | None = None,
    run_rounds: float | None = None,
    progress: Callable[[], None] | None = None,
) -> Choice:
    """:func:`fimi.optim.epochs.choose` with synthetic samples worth q real ones each.

    Δ_max and E are chosen under tangents, then tangents are taken at the chosen plan, until the
    joules do not fall any more. With q < 1 the bounds of the trials hold for plans under these
    tangents only.

    Raises:
        ProblemError: q is not in (0, 1], there is no learning curve, or the target is not an
            accuracy.
        InfeasibleError: no Δ_max has a plan.
    """
    _check(synthetic_value)
    under = functools.partial(
        local_epochs.choose,
        accuracy=accuracy,
        epochs=epochs,
        rounds=rounds,
        run_rounds=run_rounds,
        progress=progress,
    )
    if synthetic_value == 1.0:
        return under(problem)
    most = problem.local_samples + problem.generated_max
    choice = under(tangent(problem, synthetic_value, most))
    for _ in range(_TANGENTS_MAX):
        law = _settle(choice.apply(problem), synthetic_value)[0]
        better = under(law)
        saved_j = choice.best.total_j - better.best.total_j
        if saved_j > 0:
            choice = better
        if saved_j <= _CHOICE_SETTLED * choice.best.total_j:
            break
    return choice


def _check(synthetic_value: float) -> None:
    if not _SMALLEST_VALUE <= synthetic_value <= 1.0:
        raise ProblemError(
            f"synthetic_value is {synthetic_value}; what a synthetic sample is worth in real ones "
            f"must be from {_SMALLEST_VALUE:g} to 1"
        )


def tangent(problem: FimiProblem, synthetic_value: float, samples: Array) -> FimiProblem:
    """(44) The problem with each device's power law that touches the discounted curve at D, (I,).

    The problem has the learning curve of real samples; D may be 0 where there are no local ones.
    """
    at = np.where(samples > 0, samples, 1.0)
    worth = effective(problem, synthetic_value, at)
    exponent = np.where(problem.local_samples > 0, synthetic_value * at / worth, 1.0)
    return _with_law(problem, at, worth, exponent)


def chord(problem: FimiProblem, synthetic_value: float, low: Array, high: Array) -> FimiProblem:
    """(45) The problem with each device's power law through the discounted curve's ends of a range.

    The problem has the learning curve of real samples. The range of D is from ``low``, (I,), at
    least 1 where there are local samples, to ``high``, (I,), not below it.
    """
    low, high = np.maximum(low, 1.0), np.maximum(high, 1.0)
    worth, worth_high = (effective(problem, synthetic_value, at) for at in (low, high))
    width = np.log(high / low)
    rise = np.log(worth_high / worth)
    exponent = np.where(width > 0, rise / np.where(width > 0, width, 1.0), 1.0)
    return _with_law(problem, low, worth, exponent)


def _with_law(problem: FimiProblem, at: Array, worth: Array, exponent: Array) -> FimiProblem:
    """The power law through (at, worth) with an exponent, per device."""
    return msgspec.structs.replace(
        problem, worth_scale=worth * at**-exponent, worth_exponent=exponent
    )


def _settle(problem: FimiProblem, q: float) -> tuple[FimiProblem, JointSolution]:
    """Tangents at the best plan under themselves, and that plan."""
    law = feasible_law(problem, q)
    solution = solve(InnerSolver(law))
    for _ in range(_TANGENTS_MAX):
        start = prices_of(solution)
        moved = tangent(problem, q, solution.evaluation.compute.samples[0])
        try:
            better = solve(InnerSolver(moved), start=start)
        except InfeasibleError:  # by rounding: the last plan is feasible under both
            break
        saved_j = solution.energy_j - better.energy_j
        if saved_j > 0:
            law, solution = moved, better
        if saved_j <= _SETTLED * solution.energy_j:
            break
    return law, solution


def feasible_law(problem: FimiProblem, q: float) -> FimiProblem:
    """Tangents under which a plan exists: at the plan that needs the least bandwidth.

    With q = 1 the problem itself is returned, unchecked.

    Raises:
        InfeasibleError: no plan in whole samples exists.
    """
    if q == 1.0 or not np.isfinite(problem.error_budget):
        return problem
    if not exists(problem, q):
        raise refusal(problem, q)
    return tangent(problem, q, least_bandwidth(problem, synthetic_value=q).samples)


def _whole_law(problem: FimiProblem, q: float, law: FimiProblem) -> FimiProblem:
    """Tangents under which whole samples have a plan: the given ones, else at the leanest plan."""
    if exists(law):
        return law
    return tangent(problem, q, least_whole(problem, q, enough_hz=problem.bandwidth_hz).samples)


def _bound(
    problem: FimiProblem, q: float, objective: Objective, solution: JointSolution, prices: Prices
) -> float:
    """(45) No plan in whole samples uses less: the dual function, chords over short ranges of D.

    Each range is a lane of its device, so that the bound is the least over all lanes and rounds.
    """
    counts = problem.weights > 0
    most = problem.local_samples + problem.generated_max
    lowest = np.where(counts, np.maximum(problem.local_samples, 1.0), problem.local_samples)
    # The largest D that can be trained on while the upload has the whole band.
    left_s = problem.t_max_s - Radio(problem).full_power_s(problem.bandwidth_hz)
    capacity = left_s * problem.frequency_max_hz / problem.cycles_per_pass
    highest = np.where(counts, np.maximum(np.minimum(most, np.floor(capacity)), lowest), lowest)
    weights = EnergyWeights.of(problem, objective)
    if objective != problem.objective:
        law = tangent(problem, q, np.maximum(solution.evaluation.compute.samples[0], 1.0))
        solution = solve(InnerSolver(law, weights), start=prices)
    best = np.clip(solution.evaluation.compute.samples[0], lowest, highest)
    ranges = [
        lanes_of(chord(problem, q, low, high), weights, low, high)
        for low, high in itertools.pairwise(_edges(lowest, best, highest))
    ]
    # Without a tightened least D: every range has its own.
    inner = InnerSolver(problem, weights, lanes=merged(ranges))
    point = dual(inner, solution.learning_multiplier, solution.band_multiplier, solution.round_s)
    return max(point.bound_j, 0.0)


def _edges(lowest: Array, best: Array, highest: Array) -> Array:
    """Whole ends of ranges from lowest to highest, the shorter the nearer the best, (K, I)."""
    ends = np.log(np.maximum([lowest, best, highest], 1.0))
    down, up = np.diff(ends, axis=0)
    steps = np.linspace(0.0, 1.0, _SEGMENTS // 2 + 1) ** 2
    below = best * np.exp(-down * steps[::-1, None])
    above = best * np.exp(up * steps[1:, None])
    edges = np.concatenate([np.floor(below), np.ceil(above)])
    edges[0], edges[-1] = lowest, highest
    return np.asarray(np.clip(edges, lowest, highest))

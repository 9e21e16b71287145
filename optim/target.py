"""The Δ_max of fewest joules to a target accuracy; docs/model.md (34)-(36).

FIMI takes Δ_max as given. With more synthetic data a round costs more and fewer rounds are needed,
so there is a best Δ_max. With rounds(Δ) = r ln(1/ε) e^(cΔ) the joules to the target are convex in
log(Δ_max − δ0) and the logarithms of the plan, the length of the round among them. So a
one-dimensional search finds the global optimum for laws; each of its steps is a certified plan. The
slope in Δ_max comes with the plan: it is −λ.

* :func:`choose`  the best Δ_max
* :func:`find`    the same without words where there is none

The local epochs are those of the problem; :mod:`fimi.optim.epochs` chooses them as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from scipy.optimize import minimize_scalar

from fimi.optim import budget_advice
from fimi.optim.budgets import BudgetedOptimum, keep_budgets, used_j
from fimi.optim.feasibility import refusal
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import prices_of
from fimi.optim.leanest import least_bandwidth
from fimi.optim.planner import whole_plan
from fimi.optim.problem import FimiProblem, InfeasibleError, ProblemError
from fimi.optim.roots import root_between
from fimi.optim.rounds_model import RoundsModel
from fimi.optim.spending import limited, without_budgets
from fimi.optim.whole import exists

_VALLEY, _LOG_MAX = 0.04, 690.0
_RESOLUTION = 1e-3
"""Resolution of log(Δ_max − δ0). At a minimum the error grows with its square."""
_RESOLUTION_TIGHT = 1e-2
"""The same where budgets are in the way, and every plan is dear to find."""
_MARGIN = 1e-3
_AROUND = np.array([-0.16, -0.08, 0.08, 0.16])
_GRID, _AROUND_BEST = 7, np.array([-0.3, -0.1, 0.0, 0.1, 0.3])
"""Where budgets are in the way, so many log(Δ_max − δ0) between the ends are tried, and these
beside the best one without budgets."""
_PLANNED_BOUNDS, _PLANNED_TOTALS = 3, 2
"""Where devices have steps, joules jump with Δ: these log(Δ_max − δ0) around the lowest bound are
tried, and those of the lowest bounds and of the fewest joules are planned in whole samples."""
_ROUNDS_MAX = 1e9
"""More rounds are none that anybody runs."""
_ROOM = 1.02
"""Room for whole samples in budgets that are enough."""


class TargetTrial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One certified plan of the search.

    Attributes:
        error_max: its Δ_max.
        round_s: length of a round, s.
        rounds: predicted rounds to the target.
        round_j: the objective of one round, without preparation, J.
        preparation_j: board energy of receiving the synthetic samples, J; 0 where the objective
            does not count it.
        total_j: joules to the target: rounds and preparation.
        bound_j: no plan with this Δ_max gets there with less, J.
    """

    error_max: float
    round_s: float
    rounds: float
    round_j: float
    preparation_j: float
    total_j: float
    bound_j: float


class EpochsTrial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number of local epochs that was not chosen.

    Attributes:
        epochs: E.
        bound_j: no Δ_max gets to the target with less, J.
        total_j: joules to the target with its best Δ_max; ``None`` where the bound was enough to
            leave it out, or where no Δ_max has a plan.
    """

    epochs: int
    bound_j: float
    total_j: float | None = None


class Choice(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The best Δ_max that was found, and all trials.

    Attributes:
        best: its trial. Its Δ_max has a plan in whole samples, so it may lie slightly above that of
            the trial of fewest joules.
        trials: all trials, by Δ_max.
        accuracy: the target.
        epochs: E, local epochs of a round.
        run_rounds: rounds for which budgets hold; ``None``: those to the target.
        others: the other numbers of local epochs that were thought of.
    """

    best: TargetTrial
    trials: tuple[TargetTrial, ...]
    accuracy: float
    epochs: int
    run_rounds: float | None = None
    others: tuple[EpochsTrial, ...] = ()

    def apply(self, problem: FimiProblem) -> FimiProblem:
        """The problem with the chosen Δ_max and E, for the rounds of the run or to the target."""
        return msgspec.structs.replace(
            problem,
            error_max=self.best.error_max,
            rounds=self.run_rounds or self.best.rounds,
            epochs=self.epochs,
        )


def choose(
    problem: FimiProblem,
    accuracy: float,
    *,
    rounds: RoundsModel | None = None,
    run_rounds: float | None = None,
    progress: Callable[[], None] | None = None,
) -> Choice:
    """The Δ_max of least predicted joules to a target accuracy; the round's length follows.

    Args:
        problem: its ``error_max`` and ``rounds`` are ignored; it needs a learning curve.
        accuracy: target, in (0, 1).
        rounds: rounds(Δ, E); the default is fitted to runs of the small CNN on the digits.
        run_rounds: of a run that goes on after the target: budgets hold for all of them.
        progress: called after every Δ_max that was tried, or planned in whole samples; may raise.

    Raises:
        ProblemError: there is no learning curve, the target is not an accuracy, or no Δ_max leads
            to it in a number of rounds that anybody runs.
        InfeasibleError: no Δ_max has a plan.
    """
    aim = _aim(problem, accuracy, rounds, run_rounds, progress)
    found, free = _searched(problem, aim)
    if found is None:
        raise _no_choice(problem, aim, free)
    return found


def find(
    problem: FimiProblem,
    accuracy: float,
    *,
    rounds: RoundsModel | None = None,
    run_rounds: float | None = None,
    progress: Callable[[], None] | None = None,
) -> Choice | None:
    """:func:`choose`, or ``None`` where no Δ_max has a plan.

    Raises:
        ProblemError: as :func:`choose`.
    """
    aim = _aim(problem, accuracy, rounds, run_rounds, progress)
    try:
        return _searched(problem, aim)[0]
    except InfeasibleError:
        return None


def _aim(
    problem: FimiProblem,
    accuracy: float,
    rounds: RoundsModel | None,
    run_rounds: float | None,
    progress: Callable[[], None] | None,
) -> _Aim:
    """What is asked for, checked.

    Raises:
        ProblemError: as :func:`choose`.
    """
    if problem.curve is None:
        raise ProblemError("target accuracy: the problem has no learning curve; give Δ(D)")
    model = (rounds or RoundsModel()).at(problem.epochs)
    model.rounds(0.0, accuracy)  # raises if it is not an accuracy
    least = problem.error_floor + excess_range(problem)[0]
    if (count := model.rounds(least, accuracy)) > _ROUNDS_MAX:
        raise ProblemError(
            f"target accuracy: the smallest error that can be met is {least:.3g}, with which "
            f"rounds(Δ) gives {count:.3g} rounds; check alpha, beta and delta0 of the learning "
            "curve, and r and c of rounds(Δ)"
        )
    return _Aim(accuracy, model, run_rounds, progress or (lambda: None))


class _Aim(NamedTuple):
    """What is asked for: the arguments of :func:`choose`."""

    accuracy: float
    model: RoundsModel
    run_rounds: float | None
    progress: Callable[[], None]


def _searched(problem: FimiProblem, aim: _Aim) -> tuple[Choice | None, Choice | None]:
    """The best Δ_max, and that without budgets where there are some; ``None`` for none."""
    free = _choose(without_budgets(problem), aim) if limited(problem) else None
    return _choose(problem, aim, free), free


def _choose(problem: FimiProblem, aim: _Aim, free: Choice | None = None) -> Choice | None:
    """The best Δ_max; ``None`` if none was found that has a plan.

    Args:
        problem: the problem.
        aim: what is asked for.
        free: the choice without budgets, for a problem that has some; ``None`` if there is none.
    """
    tried = _Tried(problem, aim)
    low, high = (math.log(excess) for excess in excess_range(problem))
    if limited(problem):
        if free is None or not _within_budgets(tried, low, high, free):
            return None
    elif tried.laws:
        _least(tried, low, high)
    else:
        _lowest_bound(tried, low, high)
    trials = tried.trials
    if not trials:
        return None
    if not tried.laws:
        middle = math.log(min(trials, key=lambda t: t.bound_j).error_max - problem.error_floor)
        for log_excess in middle + _AROUND:
            if low <= log_excess <= high:
                tried(float(log_excess))
    if limited(problem) or not tried.laws:
        trials = _planned(tried)
        if not trials:
            return None
    best = min(trials, key=lambda trial: trial.total_j)
    error_max = _with_room(problem, best)
    if error_max != best.error_max:
        tried(math.log(error_max - problem.error_floor))
        best = tried.trials[-1]
        trials = [*trials, best]
    return Choice(
        best=best,
        trials=tuple(sorted(trials, key=lambda trial: trial.error_max)),
        accuracy=aim.accuracy,
        epochs=problem.epochs,
        run_rounds=aim.run_rounds,
    )


class _Tried:
    """(35) The joules to the target as a function of log(Δ_max − δ0), and what was tried of it.

    Args:
        problem: the problem.
        aim: the target.

    Attributes:
        laws: whether every device has a law.
        trials: those that have a plan, in the order in which they were tried.
        optima: theirs, by Δ_max.
    """

    def __init__(self, problem: FimiProblem, aim: _Aim) -> None:
        self.problem, self.aim = problem, aim
        self.laws = InnerSolver(problem).lanes.single
        self.trials: list[TargetTrial] = []
        self.optima: dict[float, BudgetedOptimum] = {}

    def at(self, log_excess: float) -> FimiProblem:
        """The problem with this Δ_max, for the rounds for which it is planned."""
        error_max = self.problem.error_floor + math.exp(log_excess)
        count = self.aim.run_rounds or self.aim.model.rounds(error_max, self.aim.accuracy)
        return msgspec.structs.replace(self.problem, error_max=error_max, rounds=count)

    def __call__(self, log_excess: float) -> tuple[float, float]:
        """The log of the joules, infinite where there is no plan, and its slope.

        With steps it is the bound on these joules; the slope is then of no use.
        """
        value = self._try(log_excess)
        self.aim.progress()
        return value

    def _try(self, log_excess: float) -> tuple[float, float]:
        trial = self.at(log_excess)
        if trial.rounds > _ROUNDS_MAX:
            return math.inf, 1.0  # too much error
        last = self.trials[-1].error_max if self.trials else None
        start = None if last is None else prices_of(self.optima[last].solution)
        try:
            kept = keep_budgets(trial, start=start)
        except InfeasibleError:
            return math.inf, -1.0  # too little error
        if not kept.holds:
            return math.inf, -1.0
        model, solution = self.aim.model, kept.solution
        count = model.rounds(trial.error_max, self.aim.accuracy)
        energy_j = kept.energy_j(trial)
        made = solution.evaluation.compute.samples[0] - trial.local_samples
        prepared_j = 0.0
        if trial.objective == "board":
            prepared_j = float((trial.synthetic_j * made).sum())
        round_j = energy_j - prepared_j / trial.rounds
        found = TargetTrial(
            error_max=trial.error_max,
            round_s=solution.round_s,
            rounds=count,
            round_j=round_j,
            preparation_j=prepared_j,
            total_j=count * round_j + prepared_j,
            # Over more rounds than these a share of the preparation is smaller.
            bound_j=min(count, trial.rounds) * (solution.bound_j - kept.charges_j),
        )
        self.trials.append(found)
        self.optima[trial.error_max] = kept
        excess = math.exp(log_excess)
        # What is received once does not grow with the rounds.
        slope = -count * solution.learning_multiplier * excess
        if count > 1.0:
            slope += model.sensitivity * excess * count * found.round_j
        least_j = found.total_j if self.laws else found.bound_j  # plans with steps jump
        return math.log(least_j), slope / found.total_j


def _within_budgets(tried: _Tried, low: float, high: float, free: Choice) -> bool:
    """Visits the least joules that keep budgets; whether any Δ_max between the ends does.

    Few and many samples both use up a budget: by many rounds, or by long ones. So nothing follows
    from ends that do not keep it.
    """
    if budget_advice.below_idling(tried.at(low)):
        return False  # not even in the fewest rounds
    best = math.log(free.best.error_max - tried.problem.error_floor)
    if math.isfinite(tried(best)[0]) and not tried.optima[tried.trials[-1].error_max].charges_j:
        return True  # the budgets are not in the way of the best there is
    grid = np.union1d(np.linspace(low, high, _GRID), np.clip(best + _AROUND_BEST, low, high))
    values = [tried(float(x))[0] for x in grid]
    first = int(np.argmin(values))
    if not math.isfinite(values[first]):
        return False
    left, right = grid[max(first - 1, 0)], grid[min(first + 1, grid.size - 1)]
    _valley(tried, left, right, _RESOLUTION_TIGHT if tried.laws else _VALLEY)
    return True


def _planned(tried: _Tried) -> list[TargetTrial]:
    """The promising trials planned for whole samples and steps together, with the others.

    Of a problem with budgets those are left out that have no such plan.
    """
    problem, trials = tried.problem, tried.trials
    by_bound = sorted(trials, key=lambda trial: trial.bound_j)[:_PLANNED_BOUNDS]
    by_total = sorted(trials, key=lambda trial: trial.total_j)
    promising = [*by_bound, *by_total[:_PLANNED_TOTALS]]
    if limited(problem):  # until one has a plan
        promising += by_total[_PLANNED_TOTALS:]
    runs: dict[float, TargetTrial] = {}
    for number, trial in enumerate({each.error_max: each for each in promising}.values()):
        if runs and number >= _PLANNED_BOUNDS + _PLANNED_TOTALS:
            break
        count = tried.aim.run_rounds or trial.rounds
        changed = msgspec.structs.replace(problem, error_max=trial.error_max, rounds=count)
        try:
            found = whole_plan(changed, tried.optima[trial.error_max])
        except InfeasibleError:  # in fractions of samples only
            continue
        finally:
            tried.aim.progress()
        prepared_j = found.preparation_j if problem.objective == "board" else 0.0
        round_j = found.energy_j - prepared_j / count
        runs[trial.error_max] = msgspec.structs.replace(
            trial,
            round_s=found.round_s,
            round_j=round_j,
            preparation_j=prepared_j,
            total_j=trial.rounds * round_j + prepared_j,
        )
    if limited(problem):
        return list(runs.values())
    least = {trial.error_max: trial for trial in sorted(trials, key=lambda t: -t.total_j)}
    for error_max, trial in runs.items():
        if trial.total_j < least[error_max].total_j:
            least[error_max] = trial
    return list(least.values())


def _no_choice(problem: FimiProblem, aim: _Aim, free: Choice | None) -> InfeasibleError:
    """The error where no Δ_max has a plan, not even that of the local data alone.

    ``free``: the choice without budgets, where there are budgets and it has a plan.
    """
    largest = msgspec.structs.replace(problem, error_max=_local_error(problem))
    if free is None or not exists(largest):
        return refusal(largest)
    unlimited = free.apply(without_budgets(problem))
    used = used_j(unlimited, keep_budgets(unlimited).solution)

    def works(changed: FimiProblem) -> bool:
        aim.progress()
        nearest = free.apply(changed)
        try:
            whole_plan(nearest, keep_budgets(nearest))
        except InfeasibleError:
            return _choose(changed, aim, free) is not None
        return True

    return budget_advice.refusal(free.apply(problem), used, _ROOM * used, works)


def _with_room(problem: FimiProblem, best: TargetTrial) -> float:
    """Δ_max of the best trial, or the next above it for which whole samples have a plan.

    Close to the smallest Δ_max that can be met, only fractions of samples are feasible. Steps
    upwards start at a thousandth of Δ_max and double, up to the Δ of the local data alone.

    Raises:
        InfeasibleError: no larger Δ_max has such a plan either.
    """
    largest = _local_error(problem)
    error_max, step = best.error_max, _MARGIN * best.error_max
    while True:
        changed = msgspec.structs.replace(problem, error_max=error_max)
        if exists(changed):
            return error_max
        if error_max >= largest:
            raise refusal(changed)
        error_max = min(error_max + step, largest)
        step *= 2.0


def excess_range(problem: FimiProblem) -> tuple[float, float]:
    """Δ_max − δ0 from the smallest that can be met to that of the local data alone."""
    free = msgspec.structs.replace(problem, error_max=math.inf)
    lean = least_bandwidth(free, band_limit_hz=problem.bandwidth_hz)
    high = _local_error(problem) - problem.error_floor
    if not math.isfinite(lean.error):
        return high, high
    return min(lean.error * (1.0 + _MARGIN), high), high


def _local_error(problem: FimiProblem) -> float:
    """Δ of the local data alone, of one sample where a device has none."""
    return problem.error(np.maximum(problem.local_samples, 1.0))


def _least(function: Callable[[float], tuple[float, float]], low: float, high: float) -> None:
    """Visits the least value of a convex function that also gives its slope, between two ends."""

    def slope(x: float) -> float:
        return function(x)[1]

    at_low = slope(low)
    if at_low < 0 and high > low:
        at_high = slope(high)
        if at_high > 0:
            root_between(slope, (low, at_low), (high, at_high), tolerance=_RESOLUTION)


def _lowest_bound(
    function: Callable[[float], tuple[float, float]], low: float, high: float
) -> None:
    """Visits the least value of a function with one valley between two ends, and the ends."""
    function(low)
    if high <= low:
        return
    function(high)
    _valley(function, low, high, _VALLEY)


def _valley(
    function: Callable[[float], tuple[float, float]], low: float, high: float, resolution: float
) -> None:
    """Visits the least value between two ends, which are not visited themselves."""
    minimize_scalar(
        lambda x: min(function(float(x))[0], _LOG_MAX),
        bounds=(low, high),
        method="bounded",
        options={"xatol": resolution},
    )

"""The Δ_max of fewest joules to a target accuracy; docs/model.md (34)-(36).

FIMI takes Δ_max as given. With more synthetic data a round costs more and fewer rounds are needed,
so there is a best Δ_max. With rounds(Δ) = r ln(1/ε) e^(cΔ) the joules to the target are convex in
log(Δ_max − δ0) and the logarithms of the plan, the length of the round among them. So a
one-dimensional search finds the global optimum for laws; each of its steps is a certified plan. The
slope in Δ_max comes with the plan: it is −λ.

* :class:`RoundsModel`  rounds to an accuracy, and its fit
* :func:`choose`        the best Δ_max
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
from msgspec import Struct
from scipy.optimize import minimize_scalar

from fimi.energy.units import hint
from fimi.optim import budget_advice
from fimi.optim.budgets import BudgetedOptimum, keep_budgets, used_j
from fimi.optim.feasibility import refusal
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import JointSolution, prices_of
from fimi.optim.leanest import least_bandwidth
from fimi.optim.planner import whole_plan
from fimi.optim.problem import FimiProblem, InfeasibleError, ProblemError
from fimi.optim.roots import root_between
from fimi.optim.rounds_defaults import ROUNDS_SCALE, ROUNDS_SENSITIVITY
from fimi.optim.spending import limited, without_budgets
from fimi.optim.whole import exists

_VALLEY, _LOG_MAX = 0.04, 690.0
_RESOLUTION = 1e-3
"""Resolution of log(Δ_max − δ0). At a minimum the error grows with its square."""
_MARGIN = 1e-3
_AROUND = np.array([-0.16, -0.08, 0.08, 0.16])
_PLANNED_BOUNDS, _PLANNED_TOTALS = 3, 2
"""Where devices have steps, joules jump with Δ: these log(Δ_max − δ0) around the lowest bound are
tried, and those of the lowest bounds and of the fewest joules are planned in whole samples."""
_ROOM = 1.02
"""Room for whole samples in budgets that are enough."""


class RoundsModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """(34) rounds(Δ, a) = r ln(1/(1 − a)) e^(cΔ), at least 1.

    The factor ln(1/ε) is that of linear convergence; the exponential is empirical.

    Attributes:
        scale: r.
        sensitivity: c.
    """

    scale: float = ROUNDS_SCALE
    sensitivity: float = ROUNDS_SENSITIVITY

    def __post_init__(self) -> None:
        for field, value in (("scale", self.scale), ("sensitivity", self.sensitivity)):
            if not (math.isfinite(value) and value > 0):
                raise ProblemError(f"rounds model: {field} is {value}; it must be finite, > 0")

    def rounds(self, error: float, accuracy: float) -> float:
        """Rounds to an accuracy in (0, 1) at mean local learning error Δ, a real number ≥ 1."""
        if not 0 < accuracy < 1:
            meant = f"; {said}" if (said := hint("accuracy", accuracy)) else ""
            raise ProblemError(f"target accuracy is {accuracy}; it must be between 0 and 1{meant}")
        exponent = min(self.sensitivity * error, 690.0)
        return max(1.0, -self.scale * math.log1p(-accuracy) * math.exp(exponent))

    @classmethod
    def fit(
        cls, errors: Sequence[float], accuracies: Sequence[float], rounds: Sequence[float]
    ) -> RoundsModel:
        """Least squares in the logarithm of the rounds.

        Args:
            errors: Δ of each run, (n,), at least two different ones.
            accuracies: the accuracy that each reached, (n,).
            rounds: number of rounds to it, (n,), ≥ 1.

        Raises:
            ValueError: there are too few runs, values are out of range, or rounds grow as the
                error falls.
        """
        delta, target, count = (np.asarray(v, float) for v in (errors, accuracies, rounds))
        if not (delta.shape == target.shape == count.shape) or np.unique(delta).size < 2:
            raise ValueError("rounds model: give runs at two or more different learning errors")
        if not ((target > 0) & (target < 1) & (count >= 1) & np.isfinite(delta)).all():
            raise ValueError("rounds model: accuracies must be in (0, 1) and rounds 1 or more")
        y = np.log(count) - np.log(-np.log1p(-target))
        slope, offset = np.polyfit(delta, y, 1)
        if slope <= 0:
            raise ValueError("rounds model: these runs took no fewer rounds with less error")
        return cls(scale=float(np.exp(offset)), sensitivity=float(slope))


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


class Choice(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The best Δ_max that was found, and all trials.

    Attributes:
        best: its trial. Its Δ_max has a plan in whole samples, so it may lie slightly above that of
            the trial of fewest joules.
        trials: all trials, by Δ_max.
        accuracy: the target.
    """

    best: TargetTrial
    trials: tuple[TargetTrial, ...]
    accuracy: float

    def apply(self, problem: FimiProblem) -> FimiProblem:
        """The problem with the chosen Δ_max, for as many rounds as it takes."""
        return msgspec.structs.replace(
            problem, error_max=self.best.error_max, rounds=self.best.rounds
        )


def choose(problem: FimiProblem, accuracy: float, *, rounds: RoundsModel | None = None) -> Choice:
    """The Δ_max of least predicted joules to a target accuracy; the round's length follows.

    Args:
        problem: its ``error_max`` and ``rounds`` are ignored; it needs a learning curve.
        accuracy: target, in (0, 1).
        rounds: rounds(Δ); the default is fitted to runs of the small CNN on the digits.

    Raises:
        ProblemError: there is no learning curve, or the target is not an accuracy.
        InfeasibleError: no Δ_max has a plan.
    """
    if problem.curve is None:
        raise ProblemError("target accuracy: the problem has no learning curve; give Δ(D)")
    model = rounds or RoundsModel()
    model.rounds(0.0, accuracy)  # raises if it is not an accuracy
    laws = InnerSolver(problem).lanes.single
    trials: list[TargetTrial] = []
    last: list[JointSolution] = []
    optima: dict[float, BudgetedOptimum] = {}

    def total(log_excess: float) -> tuple[float, float]:
        """Log of the joules to the target, (35), and its derivative by ``log_excess``.

        With steps it is the bound on these joules; the derivative is then of no use.
        """
        error_max = problem.error_floor + math.exp(log_excess)
        count = model.rounds(error_max, accuracy)
        trial = msgspec.structs.replace(problem, error_max=error_max, rounds=count)
        try:
            kept = keep_budgets(trial, start=prices_of(last[-1]) if last else None)
        except InfeasibleError:
            return math.inf, -1.0  # too little error
        if not kept.holds:
            return math.inf, -1.0
        solution = kept.solution
        last.append(solution)
        optima[error_max] = kept
        energy_j = kept.energy_j(trial)
        made = solution.evaluation.compute.samples[0] - problem.local_samples
        prepared_j = 0.0
        if problem.objective == "board":
            prepared_j = float((problem.synthetic_j * made).sum())
        found = TargetTrial(
            error_max=error_max,
            round_s=solution.round_s,
            rounds=count,
            round_j=energy_j - prepared_j / count,
            preparation_j=prepared_j,
            total_j=count * energy_j,
            bound_j=count * (solution.bound_j - kept.charges_j),
        )
        trials.append(found)
        excess = math.exp(log_excess)
        # What is received once does not grow with the rounds.
        slope = -count * solution.learning_multiplier * excess
        if count > 1.0:
            slope += model.sensitivity * excess * count * found.round_j
        least_j = found.total_j if laws else found.bound_j  # plans with steps jump, bounds do not
        return math.log(least_j), slope / found.total_j

    low, high = _excess_range(problem)
    (_least if laws else _lowest_bound)(total, math.log(low), math.log(high))
    if not trials:
        raise _no_choice(problem, accuracy, model)
    if not laws:
        middle = math.log(min(trials, key=lambda t: t.bound_j).error_max - problem.error_floor)
        for log_excess in middle + _AROUND:
            if math.log(low) <= log_excess <= math.log(high):
                total(float(log_excess))
        trials = _planned(problem, trials, optima)
    best = min(trials, key=lambda trial: trial.total_j)
    error_max = _with_room(problem, best)
    if error_max != best.error_max:
        total(math.log(error_max - problem.error_floor))
        best = trials[-1]
    return Choice(
        best=best,
        trials=tuple(sorted(trials, key=lambda trial: trial.error_max)),
        accuracy=accuracy,
    )


def _planned(
    problem: FimiProblem, trials: list[TargetTrial], optima: Mapping[float, BudgetedOptimum]
) -> list[TargetTrial]:
    """The trials, the promising ones planned for whole samples and steps together.

    ``optima`` are those of the trials, by Δ_max.
    """
    by_bound = sorted(trials, key=lambda trial: trial.bound_j)[:_PLANNED_BOUNDS]
    by_total = sorted(trials, key=lambda trial: trial.total_j)[:_PLANNED_TOTALS]
    better = list(trials)
    for trial in {each.error_max: each for each in (*by_bound, *by_total)}.values():
        changed = msgspec.structs.replace(problem, error_max=trial.error_max, rounds=trial.rounds)
        try:
            found = whole_plan(changed, optima[trial.error_max])
        except InfeasibleError:  # in fractions of samples only
            continue
        prepared_j = found.preparation_j if problem.objective == "board" else 0.0
        better.append(
            msgspec.structs.replace(
                trial,
                round_s=found.round_s,
                round_j=found.energy_j - prepared_j / trial.rounds,
                preparation_j=prepared_j,
                total_j=trial.rounds * found.energy_j,
            )
        )
    least: dict[float, TargetTrial] = {}
    for trial in sorted(better, key=lambda trial: trial.total_j):
        least.setdefault(trial.error_max, trial)
    return list(least.values())


def _no_choice(problem: FimiProblem, accuracy: float, rounds: RoundsModel) -> InfeasibleError:
    """The error where no Δ_max has a plan, not even that of the local data alone."""
    largest = msgspec.structs.replace(problem, error_max=_local_error(problem))
    if not limited(problem) or not exists(largest):
        return refusal(largest)
    free = without_budgets(problem)
    chosen = choose(free, accuracy, rounds=rounds)
    used = _ROOM * used_j(chosen.apply(free), keep_budgets(chosen.apply(free)).solution)

    def works(changed: FimiProblem) -> bool:
        try:
            choose(changed, accuracy, rounds=rounds)
        except InfeasibleError:
            return False
        return True

    return budget_advice.refusal(chosen.apply(problem), used, used, works)


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


def _excess_range(problem: FimiProblem) -> tuple[float, float]:
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
    minimize_scalar(
        lambda x: min(function(x)[0], _LOG_MAX),
        bounds=(low, high),
        method="bounded",
        options={"xatol": _VALLEY},
    )

"""The Δ_max, and the deadline, of fewest joules to a target accuracy; docs/model.md (34)-(36).

FIMI takes Δ_max as given. With more synthetic data a round costs more and fewer rounds are needed,
so there is a best Δ_max. With rounds(Δ) = r ln(1/ε) e^(cΔ) the joules to the target are log-convex
in log(Δ_max − δ0) and log T, because the optimum of a generalised geometric program is log-convex
in its limits. So a one-dimensional search finds the global optimum; each of its steps is a
certified plan. The slope in Δ_max comes with the plan: it is −λ.

* :class:`RoundsModel`  rounds to an accuracy, and its fit
* :func:`choose`        the best Δ_max, and the best T if asked for
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from fimi.optim.feasibility import least_bandwidth
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import JointSolution, solve
from fimi.optim.problem import FimiProblem, InfeasibleError, ProblemError
from fimi.optim.realise import leanest_plan
from fimi.optim.roots import root_between

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_STEPS = 40
_RESOLUTION, _COARSE = 1e-3, 1e-2
"""Resolution of log(Δ_max − δ0) and log T. At a minimum the error grows with its square."""
_MARGIN = 1e-3


class RoundsModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """(34) rounds(Δ, a) = r ln(1/(1 − a)) e^(cΔ), at least 1.

    The factor ln(1/ε) is that of linear convergence; the exponential is empirical.

    Attributes:
        scale: r.
        sensitivity: c.
    """

    scale: float = 1.27
    sensitivity: float = 10.7

    def __post_init__(self) -> None:
        for field, value in (("scale", self.scale), ("sensitivity", self.sensitivity)):
            if not (math.isfinite(value) and value > 0):
                raise ProblemError(f"rounds model: {field} is {value}; it must be finite, > 0")

    def rounds(self, error: float, accuracy: float) -> float:
        """Rounds to an accuracy in (0, 1) at mean local learning error Δ, a real number ≥ 1."""
        if not 0 < accuracy < 1:
            raise ProblemError(f"target accuracy is {accuracy}; it must be between 0 and 1")
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
        deadline_scale: factor on every ``t_max_s``.
        rounds: predicted rounds to the target.
        round_j: joules of one round, constant power included.
        round_bound_j: certified lower bound on them.
        total_j: joules to the target.
    """

    error_max: float
    deadline_scale: float
    rounds: float
    round_j: float
    round_bound_j: float
    total_j: float


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
        """The problem with the chosen Δ_max and deadline."""
        return msgspec.structs.replace(
            problem,
            error_max=self.best.error_max,
            t_max_s=problem.t_max_s * self.best.deadline_scale,
        )


def choose(
    problem: FimiProblem,
    accuracy: float,
    *,
    rounds: RoundsModel | None = None,
    constant_power_w: float = 0.0,
    deadline_scales: tuple[float, float] | None = None,
) -> Choice:
    """The Δ_max (and deadline) of least predicted joules to a target accuracy.

    Args:
        problem: its ``error_max`` is ignored; it needs a learning curve.
        accuracy: target, in (0, 1).
        rounds: rounds(Δ); the default is fitted to small-CNN runs on the digits data.
        constant_power_w: power of the whole fleet that flows for as long as a round lasts, W.
        deadline_scales: smallest and largest factor on every ``t_max_s``; ``None`` keeps them.

    Raises:
        ProblemError: there is no learning curve, or the target is not an accuracy.
        InfeasibleError: no Δ_max has a plan.
    """
    if problem.curve is None:
        raise ProblemError("target accuracy: the problem has no learning curve; give Δ(D)")
    model = rounds or RoundsModel()
    model.rounds(0.0, accuracy)  # raises if it is not an accuracy
    trials: list[TargetTrial] = []
    last: list[JointSolution] = []

    def total(log_scale: float, log_excess: float) -> tuple[float, float]:
        """Log of the joules to the target, and its derivative by ``log_excess``, (35)."""
        error_max = problem.error_floor + math.exp(log_excess)
        scaled = msgspec.structs.replace(
            problem, error_max=error_max, t_max_s=problem.t_max_s * math.exp(log_scale)
        )
        start = (last[-1].learning_multiplier, last[-1].band_multiplier) if last else None
        try:
            solution = solve(InnerSolver(scaled), start=start)
        except InfeasibleError:
            return math.inf, -1.0  # too little error or time
        last.append(solution)
        constant = constant_power_w * float(scaled.t_max_s.max())
        count = model.rounds(error_max, accuracy)
        trials.append(
            TargetTrial(
                error_max=error_max,
                deadline_scale=math.exp(log_scale),
                rounds=count,
                round_j=solution.energy_j + constant,
                round_bound_j=solution.bound_j + constant,
                total_j=count * (solution.energy_j + constant),
            )
        )
        excess, trial = math.exp(log_excess), trials[-1]
        slope = -solution.learning_multiplier * excess / trial.round_j
        if count > 1.0:
            slope += model.sensitivity * excess
        return math.log(trial.total_j), slope

    def best_error(log_scale: float) -> float:
        low, high = _excess_range(problem, math.exp(log_scale))
        return _least(lambda y: total(log_scale, y), math.log(low), math.log(high))

    if deadline_scales is None:
        best_error(0.0)
    else:
        low, high = deadline_scales
        if not 0 < low <= high < math.inf:
            raise ProblemError(
                f"deadline scales are {deadline_scales}; give 0 < smallest <= largest"
            )
        _golden(best_error, math.log(low), math.log(high))
    if not trials:
        raise InfeasibleError(
            "deadline: no Δ_max has a plan within these deadlines and this bandwidth; "
            "raise t_max_s or bandwidth_hz",
            constraint="deadline",
            devices=problem.devices,
        )
    best = min(trials, key=lambda trial: trial.total_j)
    error_max = _with_room(problem, best)
    if error_max != best.error_max:
        total(math.log(best.deadline_scale), math.log(error_max - problem.error_floor))
        best = trials[-1]
    return Choice(
        best=best,
        trials=tuple(sorted(trials, key=lambda trial: (trial.error_max, trial.deadline_scale))),
        accuracy=accuracy,
    )


def _with_room(problem: FimiProblem, best: TargetTrial) -> float:
    """Δ_max of the best trial, or the next above it for which whole samples have a plan.

    Close to the smallest Δ_max that can be met, only fractions of samples are feasible. Steps
    upwards start at a thousandth of Δ_max and double, up to the Δ of the local data alone. Whole
    samples are tried at the time splits of least bandwidth, the last resort of every plan, so that
    the result does not depend on the seed or the search of the plan that follows.

    Raises:
        InfeasibleError: no larger Δ_max has such a plan either.
    """
    largest = _local_error(problem)
    error_max, step = best.error_max, _MARGIN * best.error_max
    t_max_s = problem.t_max_s * best.deadline_scale
    while True:
        changed = msgspec.structs.replace(problem, error_max=error_max, t_max_s=t_max_s)
        try:
            leanest_plan(InnerSolver(changed))
        except InfeasibleError:
            if error_max >= largest:
                raise
            error_max = min(error_max + step, largest)
            step *= 2.0
        else:
            return error_max


def _excess_range(problem: FimiProblem, scale: float) -> tuple[float, float]:
    """Δ_max − δ0 from the smallest that can be met to that of the local data alone."""
    scaled = msgspec.structs.replace(problem, error_max=math.inf, t_max_s=problem.t_max_s * scale)
    lean = least_bandwidth(scaled, band_limit_hz=problem.bandwidth_hz)
    high = _local_error(problem) - problem.error_floor
    if not math.isfinite(lean.error):
        return high, high
    return min(lean.error * (1.0 + _MARGIN), high), high


def _local_error(problem: FimiProblem) -> float:
    """Δ of the local data alone, of one sample where a device has none."""
    return problem.error(np.maximum(problem.local_samples, 1.0))


def _least(function: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """The least value of a convex function that also gives its slope, between two ends."""
    values: list[float] = []

    def slope(x: float) -> float:
        value, rise = function(x)
        values.append(value)
        return rise

    at_low = slope(low)
    if at_low < 0 and high > low:
        at_high = slope(high)
        if at_high > 0:
            root_between(slope, (low, at_low), (high, at_high), tolerance=_RESOLUTION)
    return min(values)


def _golden(function: Callable[[float], float], low: float, high: float) -> float:
    """The least value of a convex function, between two ends or at one of them."""
    ends = [function(low)]
    if high <= low:
        return ends[0]
    ends.append(function(high))
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    best = min(*ends, at_left, at_right)
    for _ in range(_STEPS):
        # Infeasible points are on the lower side: too little error or time.
        if at_left <= at_right and math.isfinite(at_left):
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
        best = min(best, at_left, at_right)
        if high - low < _COARSE:
            break
    return best

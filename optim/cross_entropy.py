"""Cross-entropy search over an unbounded space, with an ask/tell interface; docs/model.md (19).

Each iteration draws candidates from independent Gaussians, ranks them, and moves mean and
deviation of the Gaussians towards the best. Infeasible candidates are ranked by their violation and
come after all feasible ones, so that the search moves into a small feasible region. The objective
is any function: this module does not know about energy, convexity or time splits.

* :class:`SearchSettings`  settings of the search; the defaults depend on the dimension
* :class:`CrossEntropy`    ``ask()`` gives candidates, ``tell()`` takes costs, until ``stopped``
* :func:`minimise`         runs it until it stops
* :class:`SearchResult`    best candidate, history, reason of the stop

The cross-entropy method is R. Y. Rubinstein's; rank-weighted elites come from evolution strategies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from fimi.energy.cost_model import Array

Objective = Callable[[Array], tuple[Array, Array]]
"""Maps candidates (S, n) to objectives (S,) and violations (S,), 0 where feasible."""

Stop = Literal["converged", "stalled", "iterations"]
_STALL = 10


class SearchSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the search.

    Attributes:
        samples: candidates per iteration; ``None``: by the dimension.
        elite_fraction: share of the candidates that the Gaussians move towards.
        mean_smoothing: weight of the elites' mean against the old mean.
        deviation_smoothing: the same for the deviations.
        initial_deviation: deviation of the first Gaussians.
        iterations: most iterations.
        tolerance: converged when the elites' objectives differ by less than this, relatively.
        gap_tolerance_percent: a plan that is nearer than this to its certified bound counts as
            optimal.
        certify: whether to prove a lower bound for every plan.
        advise: whether an error for budgets says what would be enough, which takes more plans.
        inner: ``"fast"``, or ``"reference"``: the inner problems by CVXPY, some hundred times
            slower (:mod:`fimi.optim.reference`).
        start: ``"dual"``: the search begins at the splits of the dual decomposition, with few
            candidates close to them. ``"cold"``: it begins at even splits and finds its own way, as
            in the paper; the number of candidates then grows with the fleet.
    """

    samples: Annotated[int, Meta(ge=4)] | None = None
    elite_fraction: Annotated[float, Meta(gt=0, le=1)] = 0.25
    mean_smoothing: Annotated[float, Meta(gt=0, le=1)] = 1.0
    deviation_smoothing: Annotated[float, Meta(gt=0, le=1)] = 0.7
    initial_deviation: Annotated[float, Meta(gt=0)] = 1.0
    iterations: Annotated[int, Meta(ge=1)] = 200
    tolerance: Annotated[float, Meta(gt=0)] = 1e-7
    gap_tolerance_percent: Annotated[float, Meta(ge=0)] = 0.01
    certify: bool = True
    advise: bool = True
    inner: Literal["fast", "reference"] = "fast"
    start: Literal["dual", "cold"] = "dual"

    def samples_for(self, dimension: int) -> int:
        """Candidates per iteration in a space of this dimension."""
        return self.samples if self.samples is not None else max(80, 8 * dimension)


class Iteration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the search's history.

    Attributes:
        number: number of the iteration, from 1.
        best: best objective so far; ``None`` before the first feasible candidate.
        violation: of the best candidate so far; 0 once one is feasible; ``None`` if it is infinite.
        elite_mean: mean objective of this iteration's feasible elites; ``None`` if there are none.
        deviation: largest deviation of the Gaussians.
        feasible: share of this iteration's candidates that are feasible.
    """

    number: int
    best: float | None
    violation: float | None
    elite_mean: float | None
    deviation: float
    feasible: float


class SearchResult(Struct, frozen=True, eq=False):
    """The result of a search.

    Attributes:
        best: (n,) the best candidate.
        value: its objective; infinite if it is infeasible.
        violation: its violation.
        history: one entry per iteration.
        stop: why the search ended.
        evaluations: candidates that were evaluated.
    """

    best: Array
    value: float
    violation: float
    history: tuple[Iteration, ...]
    stop: Stop
    evaluations: int


class CrossEntropy:
    """The search's state between ``ask`` and ``tell``.

    Args:
        mean: (n,) centre of the first Gaussians.
        seed: seed of the candidates.
        settings: settings of the search.
        deviation: (n,) or a number instead of the settings' initial deviation (warm start).
        reach: the mean stays within ± this. An objective may become flat far from the middle, as
            with a logit; a mean there would not return.
    """

    def __init__(
        self,
        mean: Array,
        *,
        seed: int,
        settings: SearchSettings,
        deviation: Array | float | None = None,
        reach: float = math.inf,
    ) -> None:
        self.mean = np.array(mean, float)
        self._reach = reach
        spread = settings.initial_deviation if deviation is None else deviation
        self.deviation = np.array(np.broadcast_to(np.asarray(spread, float), self.mean.shape))
        self.best = self.mean.copy()
        self.value = np.inf
        self.violation = np.inf
        self.history: list[Iteration] = []
        self.stopped: Stop | None = None
        self.evaluations = 0
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._count = settings.samples_for(self.mean.size)
        elites = max(2, round(settings.elite_fraction * self._count))
        ranks = np.log(elites + 0.5) - np.log(np.arange(1, elites + 1))
        self._rank_weights = ranks / ranks.sum()
        self._since_better = 0

    def ask(self) -> Array:
        """Candidates to evaluate, (S, n): mirrored pairs of draws, the mean, the best so far."""
        half = (self._count - 1) // 2
        draws = self._rng.standard_normal((half, self.mean.size)) * self.deviation
        return np.concatenate([self.mean[None], self.mean + draws, self.mean - draws])

    def tell(self, candidates: Array, values: Array, violations: Array) -> None:
        """Take the costs of the candidates of :meth:`ask`.

        Args:
            candidates: (S, n).
            values: (S,) objectives; NaN counts as infeasible.
            violations: (S,), 0 where feasible.
        """
        bad = np.isnan(values) | np.isnan(violations)
        values, violations = np.where(bad, np.inf, values), np.where(bad, np.inf, violations)
        self.evaluations += len(values)
        order = np.lexsort((values, violations))
        first = order[0]
        feasible = violations == 0.0
        value = float(values[first]) if feasible[first] else np.inf
        gained = self._take(candidates[first], value, float(violations[first]))
        elites = order[: self._rank_weights.size]
        weights = self._rank_weights[:, None]
        settings = self._settings
        chosen = candidates[elites]
        centre = (weights * chosen).sum(axis=0)
        # Deviations are taken about the old mean: a move of the mean widens the search there.
        spread = np.sqrt((weights * (chosen - self.mean) ** 2).sum(axis=0))
        self.mean += settings.mean_smoothing * (centre - self.mean)
        self.mean = np.clip(self.mean, -self._reach, self._reach)
        self.deviation += settings.deviation_smoothing * (spread - self.deviation)
        good = values[elites][feasible[elites]]
        self.history.append(
            Iteration(
                number=len(self.history) + 1,
                best=_finite(self.value),
                violation=_finite(self.violation),
                elite_mean=_finite(good.mean()) if good.size else None,
                deviation=float(self.deviation.max()) if self.deviation.size else 0.0,
                feasible=float(feasible.mean()),
            )
        )
        self._since_better = 0 if gained > settings.tolerance else self._since_better + 1
        self._decide(good)

    def result(self) -> SearchResult:
        """The result so far."""
        return SearchResult(
            best=self.best.copy(),
            value=self.value,
            violation=self.violation,
            history=tuple(self.history),
            stop=self.stopped or "iterations",
            evaluations=self.evaluations,
        )

    def _take(self, candidate: Array, value: float, violation: float) -> float:
        """Keep the candidate if it is the best yet; returns the relative gain."""
        if (violation, value) >= (self.violation, self.value):
            return 0.0
        if violation > 0 or not np.isfinite(self.value):
            gain = np.inf
        else:
            gain = (self.value - value) / max(abs(value), np.finfo(float).tiny)
        self.best, self.value, self.violation = candidate.copy(), value, violation
        return float(gain)

    def _decide(self, good: Array) -> None:
        full = good.size == self._rank_weights.size
        if full and float(np.ptp(good)) <= self._settings.tolerance * abs(self.value):
            self.stopped = "converged"
        elif self._since_better >= _STALL:
            self.stopped = "stalled"
        elif len(self.history) >= self._settings.iterations:
            self.stopped = "iterations"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def minimise(
    objective: Objective,
    mean: Array,
    *,
    seed: int,
    settings: SearchSettings,
    deviation: Array | float | None = None,
    reach: float = math.inf,
    progress: Callable[[Iteration], None] | None = None,
) -> SearchResult:
    """Run a :class:`CrossEntropy` of these arguments until it stops by itself.

    ``progress`` is called after every iteration.
    """
    search = CrossEntropy(mean, seed=seed, settings=settings, deviation=deviation, reach=reach)
    while search.stopped is None:
        candidates = search.ask()
        search.tell(candidates, *objective(candidates))
        if progress is not None:
            progress(search.history[-1])
    return search.result()

"""Other ways to plan, on the same problem, for comparison.

Rules of thumb fix something that FIMI optimises:

* ``equal-bandwidth``    equal bandwidth, highest frequency
* ``half-split``         half of the time for training, the inner problems solved exactly
* ``equal-synthetic``    the same number of synthetic samples for everybody, the rest optimal
* ``no-synthetic``       local data only, the rest optimal; ignores the learning constraint

Searches replace the cross-entropy method in the outer problem, at a given number of candidates:

* ``cross-entropy``, ``textbook-cross-entropy``, ``random``, ``genetic``, ``gradient``,
  ``differential-evolution`` (SciPy), ``cma-es`` (the package *cmaes*, where installed)

:data:`POLICIES` names them all. Each returns a :class:`PolicyPlan`; a rule that cannot meet the
constraints says so instead of raising.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.cross_entropy import SearchSettings, minimise
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.lanes import step_power_w
from fimi.optim.problem import FimiProblem, InfeasibleError, tfl
from fimi.optim.splits import Z_REACH, SplitSpace

_PENALTY = 1e30
_ROUNDING = 1e-9


class PolicyPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a policy came up with, in real numbers.

    Attributes:
        policy: its name.
        energy_j: the objective of the fleet in one round; infinite if no plan was found.
        feasible: whether time, band and power limits hold.
        error: mean learning error; ``None`` without a learning curve.
        meets_error: whether Δ_max holds.
        evaluations: candidates that were evaluated.
    """

    policy: str
    energy_j: float
    feasible: bool
    error: float | None
    meets_error: bool
    evaluations: int


def compare(
    problem: FimiProblem, name: str, *, seed: int = 0, evaluations: int = 5000
) -> PolicyPlan:
    """Plan a problem by a named policy.

    Args:
        problem: what to plan.
        name: one of :data:`POLICIES`.
        seed: of the searches.
        evaluations: candidates a search may evaluate.

    Raises:
        ValueError: no such policy.
        InfeasibleError: nobody can plan this.
        ModuleNotFoundError: the policy needs a package that is not installed.
    """
    if name in RULES:
        return RULES[name](problem)
    if name not in SEARCHES:
        raise ValueError(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    inner = InnerSolver(problem)
    space = SplitSpace(inner)
    merit = _Merit(space, evaluations)
    if space.dimension:
        SEARCHES[name](merit, space, seed)
    else:
        merit(np.zeros((1, 0)))
    if merit.best is None:
        return _nothing(problem, name, merit.count)
    window_s, round_s = merit.best
    found = inner.evaluate(window_s[None], np.array([round_s]))
    return _result(problem, name, float(found.energy_j[0]), found.compute.samples[0], merit.count)


# Rules of thumb


def equal_bandwidth(problem: FimiProblem) -> PolicyPlan:
    """Every device gets B/I and runs at its highest frequency; data by (P2), power to fit."""
    fixed = msgspec.structs.replace(
        problem,
        frequency_min_hz=problem.frequency_max_hz,
        frequency_steps_hz=(),
        step_power_w=(),
        step_names=(),
    )
    if any(problem.frequency_steps_hz):  # the law that takes what the fastest step takes
        watts = [
            step_power_w(problem, i)[-1] if steps else math.nan
            for i, steps in enumerate(problem.frequency_steps_hz)
        ]
        stepped = np.isfinite(watts)
        fixed = msgspec.structs.replace(
            fixed,
            capacitance_w_per_hz3=np.where(stepped, 1e-40, problem.capacitance_w_per_hz3),
            linear_power_w_per_hz=np.where(stepped, 0.0, problem.linear_power_w_per_hz),
            active_power_w=np.where(stepped, watts, problem.active_power_w),
        )
    inner = InnerSolver(fixed)
    radio = inner.radio
    band = np.full(problem.size, problem.bandwidth_hz / problem.size)
    window_s = problem.t_max_s - radio.full_power_s(band)
    if (window_s <= 0).any():
        return _nothing(problem, "equal-bandwidth", 1)
    data = inner.compute(window_s[None])
    if data.violation[0] > 0:
        return _nothing(problem, "equal-bandwidth", 1)
    # The rest of the deadline is the upload's: the longest of these that costs least.
    left_s = problem.t_max_s - data.time_s[0]
    shares = np.linspace(0.0, 1.0, 2001)[:, None]
    shortest_s = radio.full_power_s(band)
    sending_s = shortest_s + shares * (left_s - shortest_s)
    log_x = radio.log_nats - np.log(sending_s * band)
    energy = np.where(
        shares == 0.0,
        radio.full_watts * shortest_s,
        radio.energy_j(np.log(sending_s), log_x),
    )
    energy = np.where(problem.power_settable | (shares[:, :1] == 0.0), energy, np.inf)
    best = np.argmin(energy, axis=0)[None]
    upload_j = np.take_along_axis(energy, best, axis=0)
    busy_s = data.time_s + np.take_along_axis(sending_s, best, axis=0)
    total_j = inner.objective_j(
        data.energy_j, upload_j, data.samples, (problem.receive_s + busy_s).max(axis=1)
    )
    return _result(problem, "equal-bandwidth", float(total_j[0]), data.samples[0], 1)


def half_split(problem: FimiProblem) -> PolicyPlan:
    """Half of the time for computing, half for the upload."""
    inner = InnerSolver(problem)
    found = inner.evaluate(0.5 * problem.t_max_s[None])
    if found.violation[0] > 0:
        return _nothing(problem, "half-split", 1)
    return _result(problem, "half-split", float(found.energy_j[0]), found.compute.samples[0], 1)


def equal_synthetic(problem: FimiProblem) -> PolicyPlan:
    """The smallest amount that, given to everybody, meets Δ_max; the rest is optimal."""
    most = int(problem.generated_max.max())
    low, high = 0, most

    def counts(amount: int) -> Array:
        return np.asarray(np.minimum(amount, problem.generated_max))

    def enough(amount: int) -> bool:
        samples = problem.local_samples + counts(amount)
        return bool((samples[problem.weights > 0] > 0).all()) and (
            problem.error(samples) <= problem.error_max * (1.0 + _ROUNDING)
        )

    if not math.isfinite(problem.error_max):
        high = 0
    elif not enough(most):
        return _nothing(problem, "equal-synthetic", 1)
    else:
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
    samples = problem.local_samples + counts(high)
    fixed = msgspec.structs.replace(
        tfl(problem), local_counts=samples[:, None].astype(np.int64), error_max=math.inf
    )
    try:
        solution = solve(InnerSolver(fixed))
    except InfeasibleError:
        return _nothing(problem, "equal-synthetic", 1)
    return _result(problem, "equal-synthetic", solution.energy_j, samples, 1)


def no_synthetic(problem: FimiProblem) -> PolicyPlan:
    """Local data only, at the same deadline and band; the error is what it is."""
    try:
        solution = solve(InnerSolver(tfl(problem)))
    except InfeasibleError:
        return _nothing(problem, "no-synthetic", 1)
    return _result(problem, "no-synthetic", solution.energy_j, problem.local_samples, 1)


# Searches over the time splits


class _Merit:
    """One number per candidate; remembers the best and counts."""

    def __init__(self, space: SplitSpace, evaluations: int) -> None:
        self._space = space
        self.left = evaluations
        self.count = 0
        self.best: tuple[Array, float] | None = None
        self.value = math.inf

    def __call__(self, z: Array) -> Array:
        """Merits of points (S, n): energy, or a penalty that grows with the violation."""
        return self.of(*self._space.decode(z))

    def of(self, window_s: Array, round_s: Array) -> Array:
        """The same for compute windows (S, I) and lengths of the round (S,)."""
        self.left -= len(window_s)
        self.count += len(window_s)
        found = self._space.inner.evaluate(window_s, round_s)
        good = (found.violation == 0) & np.isfinite(found.energy_j)
        energy = np.where(good, found.energy_j, np.inf)
        i = int(np.argmin(energy))
        if energy[i] < self.value:
            self.best, self.value = (window_s[i].copy(), float(round_s[i])), float(energy[i])
        penalty = _PENALTY * (1.0 + np.minimum(found.violation, 1e6))
        return np.asarray(np.where(good, energy, penalty))


def _cross_entropy(merit: _Merit, space: SplitSpace, seed: int) -> None:
    settings = SearchSettings()
    per_round = settings.samples_for(space.dimension)
    settings = SearchSettings(iterations=max(1, merit.left // per_round))
    objective = lambda z: (merit(z), np.zeros(len(z)))  # noqa: E731
    minimise(objective, np.zeros(space.dimension), seed=seed, settings=settings, reach=Z_REACH)


def _textbook(merit: _Merit, space: SplitSpace, seed: int) -> None:
    """Gaussians on τ, mean 0.5, deviation 1; 100 candidates, 10 % elite, nothing smoothed.

    A free length of the round is one more variable of this kind, a share of the longest.
    """
    rng = np.random.default_rng(seed)
    inner = space.inner
    works = np.flatnonzero(inner.has_work)
    mean, deviation = np.full(space.dimension, 0.5), np.ones(space.dimension)
    while merit.left >= 100:
        tau = np.clip(rng.normal(mean, deviation, (100, space.dimension)), 1e-3, 1 - 1e-3)
        round_s = np.full(100, inner.problem.round_max_s)
        if inner.free_round:
            round_s = tau[:, -1] * round_s
        window_s = np.zeros((100, inner.problem.size))
        window_s[:, works] = tau[:, : works.size] * inner.windows_s(round_s)[:, works]
        value = merit.of(window_s, round_s)
        value = np.where(value >= _PENALTY, np.inf, value)  # infeasible is worth nothing
        elite = tau[np.argsort(value, kind="stable")[:10]]
        mean, deviation = elite.mean(axis=0), elite.std(axis=0)


def _random(merit: _Merit, space: SplitSpace, seed: int) -> None:
    """Uniform over the time windows."""
    rng = np.random.default_rng(seed)
    while merit.left > 0:
        share = rng.uniform(1e-6, 1 - 1e-6, (min(merit.left, 500), space.dimension))
        merit(np.log(share) - np.log1p(-share))


def _genetic(merit: _Merit, space: SplitSpace, seed: int) -> None:
    """Tournaments of two, blend crossover, Gaussian mutation that shrinks, the best two survive."""
    rng = np.random.default_rng(seed)
    n, size = space.dimension, min(100, max(10, merit.left // 5))
    people = rng.normal(0.0, 1.5, (size, n))
    fitness = merit(people)
    total = max(merit.left, 1)
    while merit.left >= size:
        pairs = rng.integers(0, size, (2, size, 2))
        parents = [
            people[np.where(fitness[a[:, 0]] < fitness[a[:, 1]], a[:, 0], a[:, 1])] for a in pairs
        ]
        blend = rng.uniform(-0.25, 1.25, (size, n))
        children = parents[0] + blend * (parents[1] - parents[0])
        mutated = rng.uniform(size=(size, n)) < max(2.0 / n, 0.05)
        children += mutated * rng.normal(0.0, 0.01 + merit.left / total, (size, n))
        children = np.clip(children, -12.0, 12.0)
        order = np.argsort(fitness)
        children[:2] = people[order[:2]]
        people, fitness = children, merit(children)


def _gradient(merit: _Merit, space: SplitSpace, seed: int) -> None:
    """Central differences and backtracking; the seed is not used."""
    n = space.dimension
    z = np.zeros(n)
    value, rate = float(merit(z[None])[0]), 1.0
    while merit.left > 2 * n and rate > 1e-12:
        moves = 1e-5 * np.eye(n)
        values = merit(np.concatenate([z + moves, z - moves]))
        slope = (values[:n] - values[n:]) / 2e-5
        steepest = float(np.abs(slope).max())
        if not steepest > 0:
            return
        rates = rate * 2.0 ** np.arange(2, -10, -1)
        trials = np.clip(z - rates[:, None] * slope / steepest, -12.0, 12.0)
        found = merit(trials)
        best = int(np.argmin(found))
        if found[best] < value:
            z, value, rate = trials[best], float(found[best]), float(rates[best])
        else:
            rate *= 2.0**-10


def _differential_evolution(merit: _Merit, space: SplitSpace, seed: int) -> None:
    from scipy.optimize import differential_evolution

    n = space.dimension
    size = max(1, min(15, merit.left // (5 * n)))
    differential_evolution(
        lambda z: merit(z.T),
        [(-6.0, 6.0)] * n,
        popsize=size,
        maxiter=max(1, merit.left // (max(5, size * n)) - 2),
        rng=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
        tol=1e-9,
    )


def _cma_es(merit: _Merit, space: SplitSpace, seed: int) -> None:
    from cmaes import CMA

    n = space.dimension
    if n == 1:  # the package needs two dimensions
        wrapped = CMA(mean=np.zeros(2), sigma=1.0, seed=seed)
    else:
        wrapped = CMA(mean=np.zeros(n), sigma=1.0, seed=seed)
    while merit.left >= wrapped.population_size and not wrapped.should_stop():
        asked = np.stack([wrapped.ask() for _ in range(wrapped.population_size)])
        values = merit(np.clip(asked[:, :n], -12.0, 12.0))
        wrapped.tell([(z, float(v)) for z, v in zip(asked, values, strict=True)])


def _result(
    problem: FimiProblem, name: str, energy_j: float, samples: Array, evaluations: int
) -> PolicyPlan:
    error = None if problem.curve is None else problem.error(samples)
    limit = problem.error_max * (1.0 + _ROUNDING)
    return PolicyPlan(
        policy=name,
        energy_j=energy_j,
        feasible=True,
        error=error,
        meets_error=error is None or error <= limit,
        evaluations=evaluations,
    )


def _nothing(problem: FimiProblem, name: str, evaluations: int) -> PolicyPlan:
    return PolicyPlan(
        policy=name,
        energy_j=math.inf,
        feasible=False,
        error=None,
        meets_error=not math.isfinite(problem.error_max),
        evaluations=evaluations,
    )


RULES: dict[str, Callable[[FimiProblem], PolicyPlan]] = {
    "equal-bandwidth": equal_bandwidth,
    "half-split": half_split,
    "equal-synthetic": equal_synthetic,
    "no-synthetic": no_synthetic,
}
SEARCHES: dict[str, Callable[[_Merit, SplitSpace, int], None]] = {
    "cross-entropy": _cross_entropy,
    "textbook-cross-entropy": _textbook,
    "random": _random,
    "genetic": _genetic,
    "gradient": _gradient,
    "differential-evolution": _differential_evolution,
    "cma-es": _cma_es,
}
POLICIES = (*RULES, *SEARCHES)
"""Names for :func:`compare`."""

"""The local epochs of fewest joules to a target accuracy, docs/model.md (50).

For every E the best Δ_max is a search of its own (:mod:`fimi.optim.target`), whose plans are dear
where devices have steps. So a bound is taken first: for any multipliers the dual function (22) of a
round falls linearly with Δ_max, and rounds(Δ, E) times the greatest of a few such lines is at most
the joules to the target, for every Δ_max and with steps as with laws. The E of the lowest bound is
searched first, and others only as long as their bound leaves room for fewer joules.

* :func:`choose`  the best E and Δ_max
* :func:`least_to_target_j`  the bound for one E
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from fimi.energy.cost_model import Array
from fimi.optim import target
from fimi.optim.dual import dual
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import prices_of, solve
from fimi.optim.prices import Prices
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.rounds_model import RoundsModel
from fimi.optim.spending import without_budgets
from fimi.optim.target import Choice, EpochsTrial, excess_range

_WORTH = 2e-3
"""Fewer joules by less than this are not worth another search."""
_FIRST_CUTS, _CUTS = (0.5, 0.0, 1.0, 0.25), 14
"""Lines below the joules of a round: where the first ones are taken, and most of all."""
_CUT_SETTLED = 5e-4
"""Two lines that raise the bound by less than this are the last."""
_GRID = 2000


def choose(
    problem: FimiProblem,
    accuracy: float,
    *,
    epochs: Sequence[int] = (),
    rounds: RoundsModel | None = None,
    run_rounds: float | None = None,
    progress: Callable[[], None] | None = None,
) -> Choice:
    """The local epochs and the Δ_max of least predicted joules to a target accuracy.

    Args:
        problem: as of :func:`fimi.optim.target.choose`; its ``epochs`` are ignored if there are
            others to choose among.
        accuracy: target, in (0, 1).
        epochs: E to choose among; that of the problem if left out.
        rounds: rounds(Δ, E).
        run_rounds: of a run that goes on after the target: budgets hold for all of them.
        progress: called after every step; may raise.

    Returns:
        The choice; no other of these E needs less by more than a five-hundredth.

    Raises:
        ProblemError: as :func:`fimi.optim.target.choose`.
        InfeasibleError: no Δ_max has a plan with any of these E.
    """
    model = rounds or RoundsModel()
    asked = sorted(set(epochs)) or [problem.epochs]

    def with_epochs(each: int) -> FimiProblem:
        return replace(problem, epochs=each)

    def only(each: int) -> Choice:
        return target.choose(
            with_epochs(each), accuracy, rounds=model, run_rounds=run_rounds, progress=progress
        )

    if len(asked) == 1:
        return only(asked[0])
    middle = asked[len(asked) // 2]
    near = _prices(with_epochs(middle))
    bounds = {}
    for each in asked:
        scaled = None if near is None else near.scaled(each / middle)
        bounds[each] = least_to_target_j(with_epochs(each), accuracy, model, scaled, progress)
    best: Choice | None = None
    found: dict[int, Choice | None] = {}
    for each in sorted(asked, key=lambda each: bounds[each]):
        if best is not None and bounds[each] >= best.best.total_j * (1.0 - _WORTH):
            break
        found[each] = choice = target.find(
            with_epochs(each), accuracy, rounds=model, run_rounds=run_rounds, progress=progress
        )
        if choice is not None and (best is None or choice.best.total_j < best.best.total_j):
            best = choice
    if best is None:
        return only(asked[0])  # raises, with what would help the lightest rounds
    others = [
        EpochsTrial(
            epochs=each,
            bound_j=bounds[each],
            total_j=None if (other := found.get(each)) is None else other.best.total_j,
        )
        for each in asked
        if each != best.epochs
    ]
    return replace(best, others=tuple(others))


class _Near(NamedTuple):
    """Prices of a plan, for other data and epochs.

    With a learning curve's exponent β the price of the error goes as (Δ_max − δ0)^(−1 − 1/β), and
    with the work of a sample.

    Attributes:
        prices: of the plan.
        excess: its Δ_max − δ0.
        power: 1 + 1/β.
    """

    prices: Prices
    excess: float
    power: float

    def scaled(self, factor: float) -> _Near:
        """For so many times the work of a sample."""
        log_lam, log_mu, round_s = self.prices.log_lam, self.prices.log_mu, self.prices.round_s
        prices = Prices(log_lam + math.log(factor), log_mu, round_s * math.sqrt(factor))
        return self._replace(prices=prices)

    def at(self, excess: float) -> Prices:
        """For another Δ_max − δ0."""
        moved = self.power * math.log(excess / self.excess)
        return Prices(self.prices.log_lam - moved, self.prices.log_mu, self.prices.round_s)


def _prices(problem: FimiProblem) -> _Near | None:
    """Prices at a Δ_max between the ends; ``None`` where it has no plan."""
    free = without_budgets(problem)
    low, high = excess_range(free)
    middle = replace(free, error_max=free.error_floor + low ** (2 / 3) * high ** (1 / 3))
    try:
        solution = solve(InnerSolver(middle))
    except InfeasibleError:
        return None
    if not solution.learning_multiplier > 0:
        return None
    assert problem.curve is not None
    return _Near(prices_of(solution), middle.error_budget, 1.0 + 1.0 / problem.curve.beta)


def least_to_target_j(
    problem: FimiProblem,
    accuracy: float,
    rounds: RoundsModel,
    near: _Near | None,
    progress: Callable[[], None] | None = None,
) -> float:
    """No plan of these epochs gets to the target with less, for any Δ_max, J.

    It leaves out what is received once, and budgets. Infinite if there is no plan at all, and 0 if
    nothing is known to begin with.
    """
    low, high = excess_range(problem)
    if near is None:
        return 0.0
    model, floor = rounds.at(problem.epochs), problem.error_floor
    # The error limit enters the dual function by its price alone.
    widest = InnerSolver(
        replace(
            without_budgets(problem), error_max=floor + high, synthetic_j=np.zeros(problem.size)
        )
    )
    grid = np.geomspace(low, high, _GRID)
    count = np.array([model.rounds(floor + float(x), accuracy) for x in grid])

    def least_of(round_j: Array) -> tuple[float, float]:
        """(50) The least of rounds times joules, and where: between two points at most the next."""
        total_j = count[:-1] * round_j[1:] if len(grid) > 1 else count * round_j
        first = int(np.argmin(total_j))
        return float(total_j[first]), float(grid[first])

    envelope = np.zeros(_GRID)
    least_j, at, settled = 0.0, low, 0
    for number in range(_CUTS):
        if number < len(_FIRST_CUTS):
            at = low * (high / low) ** _FIRST_CUTS[number]
        prices = near.at(at)
        point = dual(widest, math.exp(prices.log_lam), _price(prices.log_mu), prices.round_s)
        line = point.bound_j + point.learning_multiplier * (high - grid)
        envelope = np.maximum(envelope, line)
        before = least_j
        least_j, at = least_of(envelope)
        if progress is not None:
            progress()
        settled = settled + 1 if least_j - before <= _CUT_SETTLED * least_j else 0
        if settled > 1 and number >= len(_FIRST_CUTS):
            break
    return least_j


def _price(log_price: float) -> float:
    return math.exp(log_price) if math.isfinite(log_price) else 0.0

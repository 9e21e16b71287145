"""The plan of a fleet under a strategy: a plan for the devices, and images for the server.

Every strategy that uses FIMI's data plan starts from the same plan, with the same planner and the
same limits. If a strategy then changes the amounts of devices, or does not plan the resources,
frequency, bandwidth and power are set again for that data.

* :class:`StrategyPlan`  the result
* :func:`make_plans`     the result for a strategy and a problem
* :func:`replan`         plans resources again for the data that devices have
* :func:`with_data`      the problem for given data
* :func:`with_images`    the same, with the work that images are under a strategy
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.coordinator.preparation import afforded, counted
from fimi.coordinator.settings import StrategySettings
from fimi.coordinator.strategies import Strategy
from fimi.learning.training.pseudo_labels import looked_at
from fimi.optim.categories import fill
from fimi.optim.plans import Plan
from fimi.optim.problem import FimiProblem, tfl
from fimi.optim.quality import effective
from fimi.optim.unplanned import equal_shares

Counts = NDArray[np.int64]
Planner = Callable[[FimiProblem], Plan]


class StrategyPlan(Struct, frozen=True, kw_only=True):
    """The plan of a fleet under a strategy.

    Attributes:
        plan: plan for the devices, with the images that each is to get; ``None`` if they do not
            train.
        server_counts: images per class for the server in the last round; empty if it does not
            train.
    """

    plan: Plan | None
    server_counts: tuple[int, ...] = ()


def make_plans(
    strategy: Strategy,
    problem: FimiProblem,
    planner: Planner,
    *,
    settings: StrategySettings,
    rounds: int,
    synthetic_value: float = 1.0,
    unplanned: Planner = equal_shares,
) -> StrategyPlan:
    """Plan a fleet under a strategy.

    Args:
        strategy: the strategy.
        problem: the problem from :meth:`Strategy.constrain`.
        planner: solves a problem.
        settings: size of the server's set.
        rounds: number of rounds.
        synthetic_value: q, for the error of a data plan.
        unplanned: gives resources where they are not planned.

    Raises:
        InfeasibleError: no plan meets the limits.
    """
    solve = planner if strategy.planned_resources else unplanned
    server_counts = _growing_set(strategy, problem, settings, rounds)
    if not strategy.devices_train:
        return StrategyPlan(plan=None, server_counts=server_counts)
    if not strategy.plans_data:
        return StrategyPlan(plan=solve(problem), server_counts=server_counts)
    first = planner(problem)
    if strategy.planned_at_once:
        return StrategyPlan(plan=first, server_counts=server_counts)
    if strategy.server == "continue":
        totals = np.sum([share.synthetic_counts for share in first.devices], axis=0)
        return StrategyPlan(plan=planner(tfl(problem)), server_counts=tuple(totals.tolist()))
    counts = _counts(strategy, problem, first)
    images = counts.sum(axis=1)
    samples = problem.local_samples + images
    constrained = not strategy.unlabelled and math.isfinite(problem.error_max)
    load = _load(strategy, counts, problem)

    def filled(limits: FimiProblem) -> Plan:
        return solve(with_data(limits, load))

    plan = counted(filled(afforded(problem, images, filled)), problem, images)
    plan = msgspec.structs.replace(
        plan,
        devices=tuple(
            msgspec.structs.replace(share, synthetic_counts=tuple(row), samples=int(total))
            for share, row, total in zip(plan.devices, counts.tolist(), samples, strict=True)
        ),
        error=problem.error(effective(problem, synthetic_value, samples)) if constrained else None,
        synthetic_value=synthetic_value,
    )
    return StrategyPlan(plan=plan, server_counts=server_counts)


def replan(
    strategy: Strategy,
    problem: FimiProblem,
    counts: Sequence[Sequence[int]],
    planner: Planner,
    unplanned: Planner = equal_shares,
    used: Sequence[Sequence[int]] | None = None,
) -> Plan:
    """Plan frequency, bandwidth and power again, for the data that devices have.

    Args:
        strategy: says whether resources are planned.
        problem: the problem with the cost parameters in force.
        counts: images per class that each device holds, in the problem's order.
        planner: solves a problem.
        unplanned: gives resources where they are not planned.
        used: those that it trains on, likewise; all if left out.

    Raises:
        InfeasibleError: no plan meets the limits.
    """
    held = np.asarray(counts, np.int64)
    trained_on = held if used is None else np.asarray(used, np.int64)
    solve = planner if strategy.planned_resources else unplanned

    def filled(limits: FimiProblem) -> Plan:
        return solve(with_images(strategy, limits, trained_on))

    return filled(afforded(problem, held.sum(axis=1), filled))


def with_images(
    strategy: Strategy, problem: FimiProblem, counts: Sequence[Sequence[int]] | Counts
) -> FimiProblem:
    """The same for images that devices train on, (I, K) per class, under a strategy."""
    return with_data(problem, _load(strategy, np.asarray(counts, np.int64), problem))


def with_data(problem: FimiProblem, counts: Counts) -> FimiProblem:
    """The problem of frequency, bandwidth and power when devices hold further samples.

    Args:
        problem: problem of the fleet.
        counts: (I, K) samples per class besides the local ones.
    """
    return msgspec.structs.replace(
        tfl(problem), local_counts=np.asarray(problem.local_counts + counts, np.int64)
    )


def _growing_set(
    strategy: Strategy, problem: FimiProblem, settings: StrategySettings, rounds: int
) -> tuple[int, ...]:
    """Images per class of a growing server set after the last round; empty for other strategies."""
    if not strategy.grows_server_set:
        return ()
    each = min(settings.images_per_round * rounds, settings.images_max)
    return tuple(each if held else 0 for held in problem.local_counts.sum(axis=0).tolist())


def _counts(strategy: Strategy, problem: FimiProblem, plan: Plan) -> Counts:
    """Images per class for every device, (I, K), from FIMI's amounts."""
    amounts = [sum(share.synthetic_counts) for share in plan.devices]
    classes = problem.local_counts.shape[1]
    if strategy.data == "even":
        mean = math.ceil(sum(amounts) / len(amounts))
        rows = [fill(local, mean) for local in problem.local_counts]
    elif strategy.unlabelled:
        rows = [fill([0] * classes, amount) for amount in amounts]
    else:
        rows = [share.synthetic_counts for share in plan.devices]
    return np.array(rows, np.int64)


def _load(strategy: Strategy, counts: Counts, problem: FimiProblem) -> Counts:
    """Work of the images in samples trained on; for unlabelled ones with the work of labelling."""
    if not strategy.unlabelled:
        return counts
    load: Counts = counts.copy()
    extra = [math.ceil(looked_at(int(n)) / problem.epochs) for n in counts.sum(axis=1)]
    load[:, 0] += np.array(extra, np.int64)
    return load

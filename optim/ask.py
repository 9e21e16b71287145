"""A problem, or a file that describes one, planned in one call: ``fimi.plan``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from fimi.optim import problem_file, quality
from fimi.optim.cross_entropy import SearchSettings
from fimi.optim.doubts import doubts
from fimi.optim.plans import Plan
from fimi.optim.problem import FimiProblem, ProblemError
from fimi.optim.target import RoundsModel

log = logging.getLogger(__name__)


def plan(
    problem: FimiProblem | str | Path,
    *,
    target_accuracy: float | None = None,
    synthetic_value: float | None = None,
    seed: int = 0,
    inner: Literal["fast", "reference"] = "fast",
) -> Plan:
    """Plan data, frequency, bandwidth and power of a fleet, and certify the plan.

    Args:
        problem: arrays over I devices, or a TOML file as ``fimi optimise`` reads it
            (``fimi optimise --example`` prints one).
        target_accuracy: 0 to 1: choose the limit on the learning error, Δ_max, so that the
            predicted joules until this accuracy are least. ``None``: Δ_max of the problem.
        synthetic_value: how many real samples a synthetic one is worth, in (0, 1]. ``None``: what
            the file says, 1 for a problem that is given as arrays.
        seed: same problem, same seed, same plan to the last digit.
        inner: ``"fast"``, our own solvers; ``"reference"``, CVXPY, some hundred times slower.

    Returns:
        The plan: ``devices`` holds for each device its samples, synthetic samples per class,
        frequency (Hz), bandwidth (Hz), transmit power (W), seconds and dynamic joules of a round.
        ``energy_j`` is their sum, ``bound_j`` a proven lower bound on any plan's energy, J, and
        ``gap_percent`` the distance between the two.

    Raises:
        fimi.optim.problem.ProblemError: the file cannot be read, or a value is impossible; says
            which and why.
        fimi.optim.problem.InfeasibleError: no plan meets the limits; says which limit is in the
            way and what would help.
    """
    if inner not in ("fast", "reference"):
        raise ProblemError(f'inner is {inner!r}; there are "fast" and "reference"')
    rounds, constant_power_w = RoundsModel(), 0.0
    if not isinstance(problem, FimiProblem):
        problem, file = problem_file.read(Path(problem))
        rounds = RoundsModel(scale=file.rounds.scale, sensitivity=file.rounds.sensitivity)
        constant_power_w = file.idle_power_w
        if synthetic_value is None:
            synthetic_value = file.problem.synthetic_value
    for said in doubts(problem):
        log.warning("%s", said)
    value = 1.0 if synthetic_value is None else synthetic_value
    if target_accuracy is not None:
        problem = quality.choose(
            problem,
            target_accuracy,
            synthetic_value=value,
            rounds=rounds,
            constant_power_w=constant_power_w,
        ).apply(problem)
    settings = SearchSettings(inner=inner)
    return quality.plan(problem, synthetic_value=value, seed=seed, settings=settings)

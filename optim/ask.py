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
from fimi.optim.rounds_model import RoundsModel

log = logging.getLogger(__name__)


def plan(
    problem: FimiProblem | str | Path,
    *,
    target_accuracy: float | None = None,
    synthetic_value: float | None = None,
    seed: int = 0,
    inner: Literal["fast", "reference"] = "fast",
    search: Literal["dual", "cold"] = "dual",
) -> Plan:
    """Plan data, frequency, bandwidth and power of a fleet, and certify the plan.

    Args:
        problem: arrays over I devices, or a TOML file as ``fimi optimise`` reads it
            (``fimi optimise --example`` prints one).
        target_accuracy: 0 to 1: choose the limit on the learning error, Δ_max, and with the
            objective ``"board"`` the length of a round (and the epochs, among the
            ``epochs_choices`` of a file), so that the predicted joules until this accuracy are
            least. ``None``: Δ_max of the problem.
        synthetic_value: how many real samples a synthetic one is worth, in (0, 1]. ``None``: what
            the file says, 1 for a problem that is given as arrays.
        seed: same problem, same seed, same plan to the last digit.
        inner: ``"fast"``, our own solvers; ``"reference"``, CVXPY, some hundred times slower.
        search: ``"dual"``: the cross-entropy search begins at the plan of the dual decomposition;
            ``"cold"``: at even time splits, as in the paper.

    Returns:
        The plan: ``devices`` holds for each device its samples, synthetic samples per class,
        operating point (frequency in Hz, bandwidth in Hz, transmit power in W, name of a measured
        setting), seconds and dynamic joules of a round. ``board`` and ``dynamic`` hold for each
        energy of a round its joules (``energy_j``), a proven lower bound on those of any plan
        (``bound_j``) and the distance between the two (``gap_percent``). The plan's own
        ``energy_j``, ``bound_j`` and ``gap_percent`` are those of the ``objective``, which it makes
        least. ``round_s`` is the length of a round, s, ``preparation_j`` the board energy of
        receiving the synthetic samples once, J, and ``search`` says what found the plan.

    Raises:
        fimi.optim.problem.ProblemError: the file cannot be read, or a value is impossible; says
            which and why.
        fimi.optim.problem.InfeasibleError: no plan meets the limits; says which limit is in the
            way and what would help.
    """
    if inner not in ("fast", "reference"):
        raise ProblemError(f'inner is {inner!r}; there are "fast" and "reference"')
    if search not in ("dual", "cold"):
        raise ProblemError(f'search is {search!r}; there are "dual" and "cold"')
    rounds = RoundsModel()
    epochs: tuple[int, ...] = ()
    if not isinstance(problem, FimiProblem):
        problem, file = problem_file.read(Path(problem))
        rounds, epochs = file.rounds.model, file.problem.epochs_choices
        if synthetic_value is None:
            synthetic_value = file.problem.synthetic_value
    for said in doubts(problem):
        log.warning("%s", said)
    value = 1.0 if synthetic_value is None else synthetic_value
    if target_accuracy is not None:
        problem = quality.choose(
            problem, target_accuracy, synthetic_value=value, epochs=epochs, rounds=rounds
        ).apply(problem)
    settings = SearchSettings(inner=inner, start=search)
    return quality.plan(problem, synthetic_value=value, seed=seed, settings=settings)

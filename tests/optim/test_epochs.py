"""The choice of local epochs, against every single one of them and against a grid of plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.optim import target
from fimi.optim.epochs import choose
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.rounds_model import RoundsModel
from tests.optim.conftest import make_fleet

MODEL = RoundsModel(scale=0.5, sensitivity=12.0, epochs_exponent=0.8)
CANDIDATES = (1, 2, 3, 5, 8)
AS_GOOD = 1.0 + 2.1e-3
"""Fewer joules by less than this are not looked for."""


def with_idle_power(problem: FimiProblem, watts: float) -> FimiProblem:
    return replace(problem, idle_power_w=np.full(problem.size, watts / problem.size))


def with_steps(problem: FimiProblem) -> FimiProblem:
    """The problem with boards that have four speeds each."""
    ends = zip(problem.frequency_min_hz, problem.frequency_max_hz, strict=True)
    steps = tuple(tuple(np.geomspace(low, high, 4).tolist()) for low, high in ends)
    return replace(problem, frequency_steps_hz=steps)


def least_on_grid_j(problem: FimiProblem, accuracy: float, model: RoundsModel) -> float:
    """Joules to an accuracy by plans at 9 Δ_max: rounds times joules of a round."""
    low, high = target.excess_range(problem)
    totals = []
    for excess in np.geomspace(low, high, 9):
        error_max = problem.error_floor + float(excess)
        count = model.at(problem.epochs).rounds(error_max, accuracy)
        changed = replace(problem, error_max=error_max, rounds=count)
        try:
            totals.append(count * solve(InnerSolver(changed)).energy_j)
        except InfeasibleError:
            continue
    return min(totals)


@pytest.mark.timeout(900)
@settings(max_examples=6)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 2),
    exponent=st.floats(0.0, 1.5),
)
def test_no_single_number_of_epochs_is_better(seed: int, size: int, exponent: float) -> None:
    problem = replace(make_fleet(seed, size), objective="dynamic")
    model = replace(MODEL, epochs_exponent=exponent)
    choice = choose(problem, 0.9, epochs=CANDIDATES, rounds=model)
    singles = {
        each: target.find(replace(problem, epochs=each), 0.9, rounds=model) for each in CANDIDATES
    }
    totals = {each: found.best.total_j for each, found in singles.items() if found is not None}
    assert choice.best.total_j <= min(totals.values()) * AS_GOOD
    assert choice.best.total_j == pytest.approx(totals[choice.epochs], rel=1e-9)
    for other in choice.others:
        if other.epochs in totals:
            assert other.bound_j <= totals[other.epochs] * (1.0 + 1e-9)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stepped", [False, True])
def test_no_plan_on_a_grid_of_epochs_and_error_limits_is_better(fleet: Any, stepped: bool) -> None:
    problem = with_idle_power(fleet(2, 1), 3.0)
    problem = with_steps(problem) if stepped else problem
    choice = choose(problem, 0.9, epochs=CANDIDATES, rounds=MODEL)
    totals = {e: least_on_grid_j(replace(problem, epochs=e), 0.9, MODEL) for e in CANDIDATES}
    assert choice.best.total_j <= min(totals.values()) * AS_GOOD
    for other in choice.others:
        assert other.bound_j <= totals[other.epochs] * (1.0 + 1e-9)
    chosen = choice.apply(problem)
    assert (chosen.epochs, chosen.error_max) == (choice.epochs, choice.best.error_max)


def test_epochs_that_save_no_rounds_are_not_bought(fleet: Any) -> None:
    """And those that save more rounds than they take work are."""
    problem = replace(fleet(1, 2), objective="dynamic")
    useless, precious = (replace(MODEL, epochs_exponent=kappa) for kappa in (0.0, 5.0))
    assert choose(problem, 0.9, epochs=CANDIDATES, rounds=useless).epochs == 1
    assert choose(problem, 0.9, epochs=CANDIDATES, rounds=precious).epochs == 8


def test_others_are_left_out_by_their_bounds(fleet: Any) -> None:
    """Fewer searches than numbers of epochs: that is what the bounds are for."""
    choice = choose(with_idle_power(fleet(1, 2), 2.0), 0.9, epochs=CANDIDATES, rounds=MODEL)
    assert len(choice.others) == len(CANDIDATES) - 1
    assert sum(other.total_j is None for other in choice.others) >= 2


def test_epochs_for_which_there_is_no_time_are_no_choice(fleet: Any) -> None:
    problem = replace(fleet(0, 2), objective="dynamic")
    least_s = InnerSolver(replace(problem, epochs=5)).earliest_s
    short = replace(problem, t_max_s=np.full(2, float(least_s.max()) * 1.02))
    assert target.find(replace(short, epochs=8), 0.9, rounds=MODEL) is None
    choice = choose(short, 0.9, epochs=CANDIDATES, rounds=MODEL)
    assert choice.epochs < 8
    with pytest.raises(InfeasibleError):
        choose(replace(short, t_max_s=np.full(2, 1e-6)), 0.9, epochs=CANDIDATES, rounds=MODEL)


def test_rounds_fall_as_a_power_of_the_epochs() -> None:
    assert MODEL.at(10).rounds(0.3, 0.9) == pytest.approx(MODEL.rounds(0.3, 0.9) / 2**0.8)
    assert MODEL.at(10_000).rounds(0.3, 0.9) == 1.0


def test_the_fit_finds_the_exponent_again() -> None:
    errors, epochs = [0.3, 0.3, 0.2, 0.2, 0.15], [1, 5, 2, 8, 3]
    counts = [MODEL.at(k).rounds(e, 0.95) for e, k in zip(errors, epochs, strict=True)]
    fitted = RoundsModel.fit(errors, [0.95] * 5, counts, epochs)
    assert fitted.scale == pytest.approx(MODEL.scale)
    assert fitted.sensitivity == pytest.approx(MODEL.sensitivity)
    assert fitted.epochs_exponent == pytest.approx(MODEL.epochs_exponent)
    with pytest.raises(ValueError, match="change together"):
        RoundsModel.fit([0.3, 0.2], [0.9, 0.9], [9, 5], [1, 5])
    with pytest.raises(ValueError, match="no fewer rounds with more epochs"):
        RoundsModel.fit([0.3, 0.2, 0.2], [0.9] * 3, [9, 5, 6], [1, 1, 5])

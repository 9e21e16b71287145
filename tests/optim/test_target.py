from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.problem import InfeasibleError
from fimi.optim.target import RoundsModel, choose

MODEL = RoundsModel(scale=0.5, sensitivity=12.0)


def test_rounds_by_hand() -> None:
    assert MODEL.rounds(0.1, 0.9) == pytest.approx(0.5 * math.log(10) * math.exp(1.2))
    assert MODEL.rounds(0.0, 0.01) == 1.0


def test_fit_finds_the_model_again() -> None:
    errors, targets = [0.3, 0.2, 0.15, 0.1], [0.9, 0.9, 0.95, 0.8]
    counts = [MODEL.rounds(e, a) for e, a in zip(errors, targets, strict=True)]
    fitted = RoundsModel.fit(errors, targets, counts)
    assert fitted.scale == pytest.approx(0.5)
    assert fitted.sensitivity == pytest.approx(12.0)
    with pytest.raises(ValueError, match="no fewer rounds"):
        RoundsModel.fit([0.1, 0.2], [0.9, 0.9], [9, 5])
    with pytest.raises(ValueError, match="two or more"):
        RoundsModel.fit([0.1], [0.9], [9])


def test_no_other_error_limit_is_better(fleet: Any) -> None:
    """Against a fine grid of Δ_max."""
    problem = fleet(0, 5)
    choice = choose(problem, 0.9, rounds=MODEL, constant_power_w=2.0)
    grid = np.linspace(choice.trials[0].error_max, choice.trials[-1].error_max, 25)[1:-1]
    totals = []
    for error_max in grid:
        changed = msgspec.structs.replace(problem, error_max=float(error_max))
        round_j = solve(InnerSolver(changed)).energy_j + 2.0 * float(problem.t_max_s.max())
        totals.append(MODEL.rounds(float(error_max), 0.9) * round_j)
    assert choice.best.total_j <= min(totals) * (1 + 1e-5)
    assert choice.best.total_j >= min(totals) * (1 - 0.01)
    assert choice.best not in (choice.trials[0], choice.trials[-1])  # neither end
    assert choice.best.round_j == pytest.approx(choice.best.round_bound_j, rel=1e-6)


@pytest.mark.parametrize("generated_max", [[1500.0], [1500.0, 0.0, 0.0]])
def test_one_device_that_may_have_synthetic_data(fleet: Any, generated_max: list[float]) -> None:
    """Its amount follows from Δ_max alone; the price of the error must be right all the same."""
    size = len(generated_max)
    problem = fleet(3, size, bandwidth_hz=2e6 * size, generated_max=np.array(generated_max))
    choice = choose(problem, 0.9, rounds=MODEL, constant_power_w=0.5)
    low, high = (choice.trials[k].error_max for k in (0, -1))
    totals = []
    for error_max in np.linspace(low, high, 15)[1:-1]:
        changed = msgspec.structs.replace(problem, error_max=float(error_max))
        round_j = solve(InnerSolver(changed)).energy_j + 0.5 * float(problem.t_max_s.max())
        totals.append(MODEL.rounds(float(error_max), 0.9) * round_j)
    assert choice.best.total_j <= min(totals) * (1 + 1e-5)
    assert low < choice.best.error_max < high


def test_an_open_deadline_is_chosen_as_well(fleet: Any) -> None:
    problem = fleet(1, 3)
    fixed = choose(problem, 0.9, rounds=MODEL, constant_power_w=1.0)
    free = choose(problem, 0.9, rounds=MODEL, constant_power_w=1.0, deadline_scales=(0.5, 4.0))
    assert free.best.total_j < fixed.best.total_j
    changed = free.apply(problem)
    np.testing.assert_allclose(changed.t_max_s, problem.t_max_s * free.best.deadline_scale)
    assert changed.error_max == free.best.error_max


def test_refusals(fleet: Any) -> None:
    with pytest.raises(ValueError, match="target accuracy"):
        choose(fleet(0, 2), 1.5)
    with pytest.raises(InfeasibleError):
        choose(fleet(0, 3, bandwidth_hz=1e3), 0.9)
    with pytest.raises(ValueError, match="curve"):
        choose(fleet(0, 2, curve=None, error_max=math.inf), 0.9)

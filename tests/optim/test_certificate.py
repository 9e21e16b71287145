from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fimi.optim.certificate import certify, series_terms
from fimi.optim.inner import InnerSolver


@pytest.mark.parametrize("x", [1e-6, 0.3, 2.0, 9.0, 20.0, 45.0, 120.0])
def test_series_is_long_enough_and_not_much_longer(x: float) -> None:
    exact = math.expm1(x) / x

    def series(terms: int) -> float:
        return math.fsum(math.exp(k * math.log(x) - math.lgamma(k + 2)) for k in range(terms))

    terms = series_terms(x)
    assert series(terms) == pytest.approx(exact, rel=3e-10)
    assert terms <= 10 + 5 * x


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 4, 15])
def test_program_bound_and_fast_solvers_agree(fleet: Any, seed: int, size: int) -> None:
    """Three ways to the same number: CVXPY's optimum, the exact dual, the inner solvers at τ."""
    inner = InnerSolver(fleet(seed, size))
    certificate = certify(inner)
    assert certificate.status in ("optimal", "inaccurate")
    assert certificate.bound_j == pytest.approx(certificate.program_j, rel=3e-6)
    found = inner.evaluate(np.clip(certificate.tau, 1e-9, 1 - 1e-9)[None])
    assert found.violation[0] < 1e-4
    if found.violation[0] == 0:
        assert certificate.bound_j <= found.energy_j[0]
        assert found.energy_j[0] == pytest.approx(certificate.bound_j, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_p_max_binds_and_the_bound_is_still_tight(fleet: Any, seed: int) -> None:
    inner = InnerSolver(fleet(seed, 5, transmit_power_max_w=np.asarray(0.02), bandwidth_hz=4e6))
    certificate = certify(inner)
    assert certificate.bound_j == pytest.approx(certificate.program_j, rel=3e-6)


def test_no_random_plan_is_below_the_bound(fleet: Any) -> None:
    problem = fleet(2, 3)
    inner = InnerSolver(problem)
    certificate = certify(inner)
    tau = np.random.default_rng(0).uniform(0.05, 0.99, (20000, 3))
    found = inner.evaluate(tau)
    feasible = found.energy_j[found.violation == 0]
    assert feasible.size > 1000
    assert feasible.min() >= certificate.bound_j
    assert feasible.min() == pytest.approx(certificate.bound_j, rel=0.01)


def test_without_learning_constraint(fleet: Any) -> None:
    inner = InnerSolver(fleet(2, 4, error_max=math.inf))
    certificate = certify(inner)
    assert certificate.learning_multiplier == 0
    found = inner.evaluate(certificate.tau[None])
    assert found.energy_j[0] == pytest.approx(certificate.bound_j, rel=1e-6)


def test_a_device_without_work_uploads_all_the_time(fleet: Any) -> None:
    counts = np.array([[0], [50], [70]])
    inner = InnerSolver(fleet(2, 3, local_counts=counts, error_max=math.inf))
    certificate = certify(inner)
    assert certificate.tau[0] == 0
    found = inner.evaluate(certificate.tau[None])
    assert found.compute.energy_j[0, 0] == 0
    assert found.energy_j[0] == pytest.approx(certificate.bound_j, rel=1e-6)


def test_golden_value(fleet: Any) -> None:
    """CVXPY 1.9.3 with Clarabel 0.11.1, 40 series terms, on fleet(seed=0, size=3)."""
    certificate = certify(InnerSolver(fleet(0, 3)))
    assert certificate.bound_j == pytest.approx(106.706708, rel=1e-6)


def test_the_bound_is_tight_even_if_the_solver_fails(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = InnerSolver(fleet(3, 3))
    solved = certify(inner)
    monkeypatch.setattr("fimi.optim.certificate._solve", lambda *_: None)
    alone = certify(inner)
    assert alone.status == "failed"
    assert math.isnan(alone.program_j)
    assert alone.bound_j == pytest.approx(solved.bound_j, rel=1e-7)

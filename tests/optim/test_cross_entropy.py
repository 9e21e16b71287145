from __future__ import annotations

import numpy as np
import pytest

from fimi.optim.cross_entropy import CrossEntropy, SearchSettings, minimise

CENTRE = np.array([1.0, -2.0, 0.5, 3.0])


def bowl(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return 1.0 + ((z - CENTRE) ** 2 * [1.0, 10.0, 100.0, 1.0]).sum(axis=1), np.zeros(len(z))


def test_finds_the_minimum_of_a_bowl() -> None:
    result = minimise(bowl, np.zeros(4), seed=0, settings=SearchSettings(tolerance=1e-12))
    np.testing.assert_allclose(result.best, CENTRE, atol=1e-4)
    assert result.stop == "converged"
    assert result.value == bowl(result.best[None])[0][0]


def test_same_seed_same_history() -> None:
    first, again, other = (
        minimise(bowl, np.zeros(4), seed=seed, settings=SearchSettings()) for seed in (7, 7, 8)
    )
    assert first.history == again.history
    np.testing.assert_array_equal(first.best, again.best)
    assert first.history != other.history


def test_finds_its_way_into_a_small_feasible_region() -> None:
    """A ball of radius 0.1 that none of the first candidates hits, away from the minimum."""

    def objective(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance = np.linalg.norm(z - CENTRE, axis=1)
        return z.sum(axis=1), np.maximum(distance - 0.1, 0.0)

    result = minimise(objective, np.zeros(4), seed=1, settings=SearchSettings(tolerance=1e-10))
    assert result.history[0].feasible == 0
    assert result.history[0].best is None
    assert result.violation == 0
    assert result.value == pytest.approx(CENTRE.sum() - 0.1 * 2.0, abs=2e-3)  # along (1, 1, 1, 1)


def test_steps_and_rough_ground() -> None:
    """Nothing convex, nothing continuous."""

    def objective(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.floor(4 * np.abs(z - CENTRE)).sum(axis=1) + 0.3 * np.cos(9 * z).sum(
            axis=1
        ), np.zeros(len(z))

    result = minimise(objective, np.zeros(4), seed=3, settings=SearchSettings())
    assert result.value <= -0.3


def test_nan_is_infeasible_and_the_best_never_gets_worse() -> None:
    def objective(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, violation = bowl(z)
        return np.where(z[:, 0] < 0.2, np.nan, value), violation

    result = minimise(objective, np.zeros(4), seed=0, settings=SearchSettings())
    bests = [line.best for line in result.history if line.best is not None]
    assert bests == sorted(bests, reverse=True)
    assert result.value < 1.01


def test_ask_and_tell_and_progress() -> None:
    settings = SearchSettings(samples=20, iterations=5, tolerance=1e-15)
    seen = []
    result = minimise(bowl, np.zeros(4), seed=5, settings=settings, progress=seen.append)
    search = CrossEntropy(np.zeros(4), seed=5, settings=settings)
    while search.stopped is None:
        candidates = search.ask()
        search.tell(candidates, *bowl(candidates))
    assert [line.number for line in seen] == [1, 2, 3, 4, 5]
    assert tuple(seen) == result.history == search.result().history
    assert result.stop == "iterations"


def test_a_warm_start_saves_iterations() -> None:
    settings = SearchSettings()
    cold = minimise(bowl, np.zeros(4), seed=0, settings=settings)
    warm = minimise(bowl, CENTRE + 0.01, seed=0, settings=settings, deviation=0.02)
    assert len(warm.history) < 0.6 * len(cold.history)
    assert warm.value == pytest.approx(cold.value, rel=1e-5)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.optim.roots import LOG_LIMIT, falling_root, price_root, root_between


def test_falling_root_of_functions_that_mislead_newton() -> None:
    targets = np.array([-3.0, 0.0, 1e-8, 2.0, 7.5])

    def steep(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = x - targets
        return -np.cbrt(y), -(np.maximum(np.abs(y), 1e-300) ** (-2 / 3)) / 3  # Newton diverges

    root = falling_root(steep, np.full(5, -10.0), np.full(5, 10.0))
    np.testing.assert_allclose(root, targets, atol=1e-9)


def test_falling_root_without_a_sign_change_is_the_nearer_end() -> None:
    def positive(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 5.0 - 0.1 * x, np.full_like(x, -0.1)

    assert falling_root(positive, np.zeros(1), np.ones(1))[0] == pytest.approx(1.0, abs=1e-9)


@given(st.floats(-150, 150), st.floats(-150, 150), st.sampled_from([1e-4, 0.5, 4.0]))
def test_price_root_from_anywhere(root: float, guess: float, step: float) -> None:
    found = price_root(lambda x: math.atan(root - x), guess, step=step, tolerance=1e-9)
    assert found == pytest.approx(root, abs=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_price_without_root_runs_to_the_limit(sign: float) -> None:
    found = price_root(lambda _: sign, 0.0, step=0.5, tolerance=1e-9)
    assert sign * found >= LOG_LIMIT


def test_ends_are_not_evaluated_again() -> None:
    """The functions here depend a little on where they last were: a second call may differ."""
    asked: list[float] = []

    def forgetful(x: float) -> float:
        asked.append(x)
        return -1.0 if x <= 0.0 else 0.3 - x

    assert root_between(forgetful, (0.0, 1e-9), (1.0, -0.7), tolerance=1e-9) <= 0.3
    assert 0.0 not in asked
    assert 1.0 not in asked

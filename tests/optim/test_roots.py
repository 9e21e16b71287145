from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.roots import (
    LOG_LIMIT,
    Balance,
    falling_root,
    falling_roots,
    price_root,
    root_between,
)


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


class TestFallingRoots:
    """n functions at once, each of which leaves as it settles."""

    @staticmethod
    def solve(
        function: Callable[[Array, Array], tuple[Array, Array]],
        low: Array,
        high: Array,
        start: Array | None = None,
    ) -> tuple[Array, Array, list[Array]]:
        """Roots, widths, and which functions were asked each time."""
        asked: list[Array] = []

        def balance(x: Array, active: NDArray[np.intp]) -> Balance:
            asked.append(active)
            assert ((x >= low[active]) & (x <= high[active])).all()
            value, slope = function(x, active)
            return Balance(value, slope, value)

        start = np.full(low.size, np.nan) if start is None else start
        return *falling_roots(balance, low, high, start), asked

    @given(
        st.lists(
            st.tuples(st.floats(-9, 9), st.sampled_from([0.3, 1.0, 3.0]), st.floats(-12, 12)),
            min_size=1,
            max_size=6,
        )
    )
    def test_roots_of_functions_that_mislead_newton(
        self, drawn: list[tuple[float, float, float]]
    ) -> None:
        """Powers with slopes of zero and infinity at the root, from wherever the search starts."""
        targets, powers, starts = (np.array(column) for column in zip(*drawn, strict=True))

        def function(x: Array, active: Array) -> tuple[Array, Array]:
            y, p = x - targets[active], powers[active]
            steep = p * np.maximum(np.abs(y), 1e-300) ** (p - 1.0)
            return -np.sign(y) * np.abs(y) ** p, -steep

        low, high = np.full(targets.size, -10.0), np.full(targets.size, 10.0)
        found, width, _ = self.solve(function, low, high, starts)
        # Settled is also where the value is below 1e-13.
        near = np.maximum(1e-12, 1.1 * 1e-13 ** (1.0 / powers))
        assert (np.abs(found - targets) <= near).all()
        assert (np.abs(found - targets) <= width + 1e-13).all()

    @given(st.floats(-5, 5), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
    def test_jumps_of_a_slope(self, target: float, before: float, after: float) -> None:
        """Newton's steps from one side overshoot to the other."""

        def function(x: Array, active: Array) -> tuple[Array, Array]:
            y = x - target
            slope = np.where(y < 0, -before, -after)
            return y * slope + 0.3 * slope * np.sign(y) * np.minimum(np.abs(y), 1e-3), 1.3 * slope

        found, width, asked = self.solve(function, np.full(1, -10.0), np.full(1, 10.0))
        assert found[0] == pytest.approx(target, abs=1e-11)
        assert abs(found[0] - target) <= width[0] + 1e-13
        assert len(asked) < 120

    @given(st.floats(-5, 5), st.floats(0.01, 3.0), st.floats(-10.0, 10.0))
    def test_a_jump_where_the_value_becomes_zero_is_found_at_once(
        self, target: float, slope: float, start: float
    ) -> None:
        """As where more time saves nothing more: Newton's steps aim at the jump itself."""

        def function(x: Array, active: Array) -> tuple[Array, Array]:
            before = x < target
            return np.where(before, slope * (target - x), -23.0), np.where(before, -slope, 0.0)

        low, high = np.full(1, -10.0), np.full(1, 10.0)
        found, width, asked = self.solve(function, low, high, np.array([start]))
        assert found[0] == pytest.approx(target, abs=1e-12)
        assert abs(found[0] - target) <= width[0] + 1e-13
        assert len(asked) < 20  # halves alone take more than 40

    @given(st.floats(-5, 5), st.floats(1e-3, 5.0))
    def test_a_jump_of_the_value_is_the_root(self, target: float, height: float) -> None:
        def function(x: Array, active: Array) -> tuple[Array, Array]:
            return np.where(x < target, height, -height) - 0.1 * (x - target), np.full(x.size, -0.1)

        found, width, _ = self.solve(function, np.full(1, -10.0), np.full(1, 10.0))
        assert found[0] == pytest.approx(target, abs=1e-11)
        assert width[0] < 1e-11

    def test_without_a_sign_change_the_nearer_end(self) -> None:
        offsets = np.array([5.0, -5.0])

        def function(x: Array, active: Array) -> tuple[Array, Array]:
            return offsets[active] - 0.1 * x, np.full(x.size, -0.1)

        found, _, _ = self.solve(function, np.zeros(2), np.ones(2))
        np.testing.assert_allclose(found, [1.0, 0.0], atol=1e-12)

    def test_what_has_settled_is_not_asked_again(self) -> None:
        targets, powers = np.array([0.25, 0.5, 0.7]), np.array([1.0, 1.0, 0.2])

        def function(x: Array, active: Array) -> tuple[Array, Array]:
            y, p = x - targets[active], powers[active]
            steep = p * np.maximum(np.abs(y), 1e-300) ** (p - 1.0)
            return -np.sign(y) * np.abs(y) ** p, -steep

        found, _, asked = self.solve(function, np.zeros(3), np.ones(3))
        np.testing.assert_allclose(found, targets, atol=1e-12)
        counts = np.bincount(np.concatenate(asked), minlength=3)
        assert counts[0] <= 3
        assert counts[1] <= 3
        assert counts[2] > 10

    def test_nothing_to_find(self) -> None:
        def function(x: Array, active: Array) -> tuple[Array, Array]:
            return x, -np.ones_like(x)

        found, width, _ = self.solve(function, np.zeros(0), np.zeros(0))
        assert found.size == width.size == 0

    def test_a_bracket_of_one_point(self) -> None:
        def function(x: Array, active: Array) -> tuple[Array, Array]:
            return 1.0 - x, -np.ones_like(x)

        found, width, _ = self.solve(function, np.full(1, 3.0), np.full(1, 3.0))
        assert found[0] == 3.0
        assert width[0] == 0.0


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

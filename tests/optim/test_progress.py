"""fimi.optim.progress: the errors to come, from what was expected and what was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim.progress import Progress, foresee

EXPECTED = Progress(floor=0.07, start=0.83, rounds=1.4)


def law(floor: float, start: float, rounds: float, count: int) -> list[float]:
    """Errors of rounds 1 to ``count``, written down anew."""
    return [floor + start / math.exp(t / rounds) for t in range(count)]


class TestLaw:
    def test_first_round_and_last(self) -> None:
        assert EXPECTED.error(1) == pytest.approx(0.9)
        assert EXPECTED.error(1000) == pytest.approx(0.07)

    def test_never_above_one(self) -> None:
        assert Progress(floor=0.5, start=3.0, rounds=5.0).error(1) == 1.0


class TestForesee:
    def test_nothing_measured_is_what_was_expected(self) -> None:
        assert foresee(EXPECTED, (), ()) is EXPECTED

    @given(
        floor=st.floats(0.02, 0.4),
        rounds=st.floats(0.8, 4.0),
        start=st.floats(0.3, 1.0),
    )
    def test_many_exact_rounds_are_believed(
        self, floor: float, rounds: float, start: float
    ) -> None:
        count = 30
        found = foresee(EXPECTED, range(1, count + 1), law(floor, start, rounds, count))
        assert found.floor == pytest.approx(floor, abs=0.01 + 0.05 * floor)
        assert found.floor_sd < 0.3

    def test_what_was_expected_and_came_changes_nothing(self) -> None:
        errors = law(0.07, 0.83, 1.4, 5)
        found = foresee(EXPECTED, range(1, 6), errors)
        assert found.floor == pytest.approx(0.07, rel=1e-3)
        assert found.rounds == pytest.approx(1.4, rel=1e-3)

    def test_two_rounds_do_not_tell_the_floor(self) -> None:
        found = foresee(EXPECTED, (1, 2), (0.9, 0.6))
        assert found.floor_sd > 0.5
        assert found.floor == pytest.approx(0.07, rel=0.3)

    def test_one_round_far_off_is_no_level(self) -> None:
        """A device whose training diverges answers 90 % wrong: the mean of ten jumps by 0.08."""
        errors = law(0.05, 0.85, 1.5, 12)
        clean = foresee(EXPECTED, range(1, 13), errors)
        errors[8] += 0.085
        found = foresee(EXPECTED, range(1, 13), errors)
        assert found.error(13) - clean.error(13) < 0.02

    @settings(max_examples=25)
    @given(st.integers(0, 2**32 - 1))
    def test_the_next_round_is_foreseen_within_the_noise(self, seed: int) -> None:
        """Noise of 8 %; compared with the error without noise."""
        truth = law(0.045, 0.9, 1.9, 12)
        noisy = np.clip(truth * np.exp(np.random.default_rng(seed).normal(0, 0.08, 12)), 0, 1)
        apart = [
            abs(foresee(EXPECTED, range(1, t), noisy[: t - 1].tolist()).error(t) - truth[t - 1])
            for t in range(5, 13)
        ]
        assert float(np.median(apart)) < 0.02

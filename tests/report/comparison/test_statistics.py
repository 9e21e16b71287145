"""Intervals over seeds: known values, infinity, and what holds for all samples."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.report.comparison.statistics import (
    Interval,
    differences,
    mean_interval,
    median_interval,
    median_level,
    ratios,
    sample,
    wilson,
)

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)
COSTS = st.lists(st.floats(0.1, 1e6) | st.just(math.inf), min_size=1, max_size=8)


class TestMean:
    def test_a_textbook_interval(self) -> None:
        # t(0.975, 4) = 2.776445 (any table); s = sqrt(2.5); half = t s / sqrt(5) = 1.963243
        found = mean_interval([1, 2, 3, 4, 5], 0.95)
        assert found.value == 3
        assert found.low == pytest.approx(1.036757, abs=1e-6)
        assert found.high == pytest.approx(4.963243, abs=1e-6)

    def test_one_value_and_two_have_no_interval(self) -> None:
        """Of 0.75 and 0.86 Student's t gives [0.11, 1.50], which says nothing of an accuracy."""
        for values, mean in (([7.0], 7.0), ([0.75, 0.86], 0.805)):
            found = mean_interval(values, 0.95)
            assert (found.value, found.low, found.high) == (pytest.approx(mean), None, None)

    def test_it_ends_where_the_quantity_does(self) -> None:
        found = mean_interval([0.9, 0.95, 1.0], 0.95, (0.0, 1.0))
        assert found.high == 1.0
        assert found.low == pytest.approx(0.95 - 4.302653 * 0.05 / math.sqrt(3), abs=1e-6)

    @pytest.mark.parametrize("values", [[], [1.0, math.inf], [math.nan]])
    def test_what_has_no_mean_is_refused(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="mean"):
            mean_interval(values, 0.95)

    @given(VALUES, st.floats(-1e3, 1e3))
    def test_it_moves_with_the_values(self, values: list[float], by: float) -> None:
        here = mean_interval(values, 0.9)
        there = mean_interval([v + by for v in values], 0.9)
        assert there.value == pytest.approx(here.value + by, abs=1e-6)
        if here.low is not None and there.low is not None:
            assert there.low == pytest.approx(here.low + by, abs=1e-3)

    @given(VALUES)
    def test_more_confidence_is_wider(self, values: list[float]) -> None:
        narrow, wide = mean_interval(values, 0.8), mean_interval(values, 0.99)
        if narrow.low is not None and wide.low is not None:
            assert wide.low <= narrow.low <= narrow.value


class TestMedian:
    def test_of_three_it_lies_between_the_ends(self) -> None:
        found = median_interval([3.0, 1.0, 2.0], 0.95)
        assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)

    def test_never_counts_as_more_than_anything(self) -> None:
        found = median_interval([1.0, 2.0, math.inf], 0.95)
        assert found.value == 2.0
        assert found.high == math.inf
        assert median_interval([1.0, math.inf, math.inf], 0.95).value == math.inf
        assert median_interval([1.0, math.inf], 0.95).value == math.inf

    def test_two_values_have_no_interval(self) -> None:
        assert median_interval([1.0, 3.0], 0.95) == Interval(2.0)

    @pytest.mark.parametrize(
        ("count", "low", "level"),
        [  # 1 - 2 * sum of C(n, k) / 2^n for k below the rank, by hand
            (3, 1, 0.75),
            (5, 1, 0.9375),
            (6, 1, 0.96875),
            (8, 1, 0.9921875),
            (9, 2, 1 - 2 * (1 + 9) / 2**9),
        ],
    )
    def test_its_ends_and_how_sure_it_is(self, count: int, low: int, level: float) -> None:
        found = median_interval([float(n) for n in range(1, count + 1)], 0.95)
        assert (found.low, found.high) == (low, count + 1 - low)
        assert median_level(count, 0.95) == pytest.approx(level)

    def test_the_same_values_give_the_same_interval(self) -> None:
        values = [3.1, 4.1, 5.9, 2.6, 5.3]
        assert median_interval(values, 0.95) == median_interval(values[::-1], 0.95)

    @pytest.mark.parametrize("values", [[], [math.nan], [-math.inf]])
    def test_what_has_no_median_is_refused(self, values: list[float]) -> None:
        with pytest.raises(ValueError, match="median"):
            median_interval(values, 0.95)

    @settings(max_examples=15, deadline=None)
    @given(COSTS)
    def test_the_interval_holds_the_median_and_stays_among_the_values(
        self, values: list[float]
    ) -> None:
        found = median_interval(values, 0.9)
        if found.low is not None and found.high is not None:
            assert min(values) * (1 - 1e-12) <= found.low <= found.value <= found.high
            assert found.high <= max(values) * (1 + 1e-12)


def test_wilsons_interval_of_a_share() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 0.2553 to 0.3662
    found = wilson(81 / 263, 263, 0.95)
    assert (found.low, found.high) == (
        pytest.approx(0.2553, abs=5e-5),
        pytest.approx(0.3662, abs=5e-5),
    )
    assert wilson(1.0, 20, 0.95).high == pytest.approx(1.0)


class TestSample:
    def test_never_makes_the_mean_infinite_not_the_sample_smaller(self) -> None:
        found = sample([1.0, math.inf, None, 3.0], 0.95)
        assert (found.reached, found.never, found.unknown) == (2, 1, 1)
        assert found.mean is None
        assert found.median is not None
        assert found.median.value == 3.0

    def test_nothing_known_is_nothing_said(self) -> None:
        found = sample([None, None], 0.95)
        assert (found.mean, found.median, found.unknown) == (None, None, 2)


class TestPairs:
    def test_differences_need_both(self) -> None:
        assert differences([0.9, None, 0.5], [0.8, 0.7, None]) == [
            pytest.approx(0.1),
            None,
            None,
        ]

    def test_ratios_say_who_never_got_there(self) -> None:
        ours = [1.0, math.inf, 2.0, math.inf, None]
        theirs = [2.0, 2.0, math.inf, math.inf, 1.0]
        assert ratios(ours, theirs) == [0.5, math.inf, 0.0, None, None]

    def test_nothing_is_not_divided_by(self) -> None:
        assert ratios([1.0], [0.0]) == [None]

    @given(COSTS)
    def test_against_itself_a_ratio_is_one_or_cannot_be_said(self, values: list[float]) -> None:
        expected = [None if math.isinf(v) else 1.0 for v in values]
        assert ratios(values, values) == expected

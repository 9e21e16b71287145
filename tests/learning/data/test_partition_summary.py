"""fimi.learning.data.partition_summary: distances and entropies by hand and by their invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.learning.data.partition_summary import (
    earth_movers_distance,
    entropy_bits,
    label_counts,
    summarise,
)

COUNTS = st.lists(st.integers(0, 1000), min_size=4, max_size=4)


def test_label_counts() -> None:
    labels = np.array([0, 2, 2, 1, 0])
    parts = [np.array([0, 1, 2]), np.array([], np.intp), np.array([4])]
    assert label_counts(labels, parts, 4).tolist() == [[1, 0, 2, 0], [0] * 4, [1, 0, 0, 0]]
    assert label_counts(labels, [], 4).shape == (0, 4)


class TestDistance:
    def test_by_hand(self) -> None:
        """One class of ten: 0.9 too much there, 0.1 too little in each of nine, 1.8 in all."""
        assert earth_movers_distance([7] + 9 * [0], 10 * [3]) == pytest.approx(1.8)
        assert earth_movers_distance([1, 0], [0, 1]) == 2.0

    @given(COUNTS, COUNTS)
    def test_symmetric_and_bounded(self, a: list[int], b: list[int]) -> None:
        distance = earth_movers_distance(a, b)
        assert distance == earth_movers_distance(b, a)
        assert (distance is None) == (not sum(a) or not sum(b))
        assert distance is None or 0.0 <= distance <= 2.0 + 1e-12

    @given(COUNTS.filter(any), st.integers(1, 50))
    def test_only_shares_count(self, a: list[int], factor: int) -> None:
        assert earth_movers_distance(a, [n * factor for n in a]) == pytest.approx(0.0, abs=1e-12)


class TestEntropy:
    @pytest.mark.parametrize(
        ("counts", "bits"), [([5, 5], 1.0), ([9, 0], 0.0), ([1] * 8, 3.0), ([0, 0], None)]
    )
    def test_by_hand(self, counts: list[int], bits: float | None) -> None:
        assert entropy_bits(counts) == bits

    @given(COUNTS.filter(any))
    def test_at_most_that_of_the_even_distribution(self, counts: list[int]) -> None:
        bits = entropy_bits(counts)
        assert bits is not None
        assert 0.0 <= bits <= 2.0 + 1e-12


class TestSummary:
    def test_one_without_samples_is_not_an_extreme(self) -> None:
        skew = summarise([[4, 0], [0, 4], [0, 0]])
        assert skew.samples == (4, 4, 0)
        assert skew.emd == (1.0, 1.0, None)
        assert skew.entropy_bits == (0.0, 0.0, None)
        assert skew.mean_emd == 1.0
        assert skew.counts == ((4, 0), (0, 4), (0, 0))

    def test_nobody_has_any(self) -> None:
        assert summarise([[0, 0]]).mean_emd is None

    @given(st.lists(COUNTS, min_size=1, max_size=6).filter(lambda rows: any(map(any, rows))))
    def test_the_mean_lies_between_the_devices(self, rows: list[list[int]]) -> None:
        skew = summarise(rows)
        known = [emd for emd in skew.emd if emd is not None]
        assert skew.mean_emd is not None
        assert min(known) - 1e-9 <= skew.mean_emd <= max(known) + 1e-9
        assert all(bits is None or bits <= math.log2(4) + 1e-12 for bits in skew.entropy_bits)

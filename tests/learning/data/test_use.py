"""fimi.learning.data.use: a share of a batch."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fimi.learning.data.use import first_of_each, in_use

LABELS = st.lists(st.integers(0, 4), max_size=60).map(lambda each: np.array(each, np.int64))
SHARE = st.floats(0, 1)


@given(LABELS, SHARE)
def test_as_many_as_counted_and_the_first_ones(labels: np.ndarray, share: float) -> None:
    chosen = first_of_each(labels, share)
    counts = np.bincount(labels, minlength=5)
    used = np.bincount(labels[chosen], minlength=5)
    assert tuple(used.tolist()) == in_use(counts.tolist(), share)
    assert (np.diff(chosen) > 0).all()
    for label in range(5):
        places = np.flatnonzero(labels == label)
        assert np.array_equal(chosen[labels[chosen] == label], places[: used[label]])


@given(LABELS, SHARE, SHARE)
def test_a_larger_share_holds_the_smaller_one(labels: np.ndarray, a: float, b: float) -> None:
    small, large = (first_of_each(labels, share) for share in sorted((a, b)))
    assert set(small.tolist()) <= set(large.tolist())


def test_all_none_and_rounding() -> None:
    assert in_use((3, 0, 7), 1.0) == (3, 0, 7)
    assert in_use((3, 0, 7), 0.0) == (0, 0, 0)
    assert in_use((10, 1), 0.5) == (5, 1)
    assert in_use((10,), 0.3) == (3,)  # 0.3 × 10 is a little above 3 in binary

"""fimi.learning.data.batches: there and back, whatever the images."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fimi.learning.data.batches import differences, from_differences
from fimi.learning.data.dataset import Images

SHAPES = st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=80, deadline=None)
@given(images=hnp.arrays(np.uint8, SHAPES))
def test_there_and_back(images: Images) -> None:
    before = images.copy()
    assert np.array_equal(from_differences(differences(images)), images)
    assert np.array_equal(images, before), "what is coded is left as it was"


def test_what_is_smooth_becomes_small() -> None:
    down, right = np.mgrid[:5, :6].astype(np.uint8)
    plane = 3 * down + 2 * right + np.uint8(250)  # wraps around
    colour = np.stack([plane + np.uint8(7), plane, plane - np.uint8(1)])[None]
    coded = differences(colour)
    assert coded.shape == (3, 1, 5, 6)
    assert coded[:, 0, 0, 0].tolist() == [7, 250, 255]
    assert coded[1, 0, 0, 1:].tolist() == [2] * 5
    assert coded[1, 0, 1:, 0].tolist() == [3] * 4
    assert not coded[1, 0, 1:, 1:].any()
    assert np.count_nonzero(coded[[0, 2]]) == 2

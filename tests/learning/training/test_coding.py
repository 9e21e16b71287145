"""The arithmetic of codings: how far off a value can be, and which values top-k keeps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fimi.learning.training.coding import (
    LEVELS,
    Coding,
    eighths,
    from_eighths,
    from_halves,
    halves,
    kept,
    largest,
    relative_error,
)

MATRICES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
VECTORS = hnp.arrays(
    np.float32,
    st.integers(0, 60),
    elements=st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0]) | st.floats(-9, 9, width=32),
)


@given(MATRICES)
def test_half_precision_keeps_eleven_bits_of_every_value(values: np.ndarray) -> None:
    half, exponent = halves(values)
    assert half.dtype == np.float16
    back = from_halves(half, exponent)
    for there, true in zip(back.flat, values.flat, strict=True):
        exact = Fraction(float(true))
        least = Fraction(2) ** -150  # half of the smallest number of single precision
        bound = max(abs(exact) / 2**11, Fraction(2) ** (exponent - 25), least)
        assert abs(Fraction(float(there)) - exact) <= bound


@given(MATRICES)
def test_eight_bits_are_off_by_half_a_step_at_most(values: np.ndarray) -> None:
    whole, scales = eighths(values, "nearest")
    assert whole.dtype == np.int8
    assert np.abs(whole.astype(int)).max(initial=0) <= LEVELS
    off = np.abs(from_eighths(whole, scales).astype(np.float64) - values)
    per_channel = scales.astype(np.float64).reshape(-1, *(1,) * (values.ndim - 1))
    rounding = np.abs(values.astype(np.float64)) * 2.0**-22 + 2.0**-142
    assert (off <= per_channel / 2.0 + rounding).all()


@given(MATRICES, st.integers(0, 2**32))
def test_stochastic_rounding_stays_below_a_step_and_follows_from_its_seed(
    values: np.ndarray, seed: int
) -> None:
    whole, scales = eighths(values, "stochastic", np.random.default_rng(seed))
    again, _ = eighths(values, "stochastic", np.random.default_rng(seed))
    assert (whole == again).all()
    off = np.abs(from_eighths(whole, scales).astype(np.float64) - values)
    per_channel = scales.astype(np.float64).reshape(-1, *(1,) * (values.ndim - 1))
    rounding = np.abs(values.astype(np.float64)) * 2.0**-22 + 2.0**-142
    assert (off <= per_channel + rounding).all()


def test_stochastic_rounding_is_right_on_average_where_the_nearest_number_is_not() -> None:
    values = np.full((1, 40_000), 0.3, np.float32)
    values[0, 0] = 127.0  # a step is 1
    nearest = from_eighths(*eighths(values, "nearest"))[0, 1:]
    assert not nearest.any()
    drawn = from_eighths(*eighths(values, "stochastic", np.random.default_rng(1)))[0, 1:]
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert drawn.mean() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 40_000) ** 0.5)
    with pytest.raises(ValueError, match="draw from"):
        eighths(values, "stochastic")


def test_every_channel_has_a_scale_of_its_own() -> None:
    values = np.array([[1000.0, 0.0], [0.5, -1.0]], np.float32)
    whole, scales = eighths(values, "nearest")
    assert whole.tolist() == [[127, 0], [64, -127]]  # 63.5 to the even number
    np.testing.assert_allclose(scales, [1000 / 127, 1 / 127], rtol=1e-7)


@given(VECTORS, st.integers(0, 70))
def test_top_k_keeps_exactly_the_largest(values: np.ndarray, count: int) -> None:
    found = largest(values, count).tolist()
    by_size = sorted(range(len(values)), key=lambda i: (-abs(float(values[i])), i))
    assert found == sorted(by_size[:count])


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_min=True))
def test_the_share_is_rounded_up_and_never_to_more_than_all(values: int, share: float) -> None:
    count = kept(values, share)
    assert min(values, 1) <= count <= values
    assert abs(count - share * values) <= 1 + 1e-9 * values


def test_the_error_is_relative_to_what_was_to_be_said() -> None:
    exact = [np.array([3.0, 0.0], np.float32), np.array([[4.0]], np.float32)]
    decoded = [np.array([3.0, 1.0], np.float32), np.array([[2.0]], np.float32)]
    assert relative_error(decoded, exact) == pytest.approx(5**0.5 / 5)
    assert relative_error(exact, exact) == 0.0
    nothing = [np.zeros(3, np.float32)]
    assert relative_error(nothing, nothing) == 0.0


def test_a_coding_in_words() -> None:
    assert Coding().words == "fp32"
    assert Coding(kind="int8", rounding="stochastic", compress=True).words == (
        "int8 stochastic + zstd"
    )
    assert Coding(kind="top-k", share=0.05, feedback=False).words == "top-k 5 % without feedback"

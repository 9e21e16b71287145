"""The intervals of a curve against squares that are minimised by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from fimi.energy.cost_model import Array
from fimi.optim.curve_profile import BETA_HIGH, BETA_LOW, CurveProfile, variance_of

BETAS = np.geomspace(BETA_LOW, BETA_HIGH, 1500)


def least(
    amounts: Array, errors: Array, variance: Array, betas: Array = BETAS, **fixed: float
) -> float:
    """Least squares of all laws with β among ``betas`` that have the fixed parameters."""
    weights = 1.0 / variance
    if "beta" in fixed:
        shape = amounts ** -fixed["beta"]
        sheet = np.stack([shape / shape.max(), np.ones_like(shape)], axis=1)
        _, norm = nnls(sheet * np.sqrt(weights)[:, None], errors * np.sqrt(weights))
        return float(norm**2)
    shapes = amounts[None] ** -betas[:, None]
    if "alpha" in fixed:
        rest = errors - fixed["alpha"] * shapes
        level = np.maximum((weights * rest).sum(axis=1) / weights.sum(), 0.0)
        return float((weights * (rest - level[:, None]) ** 2).sum(axis=1).min())
    rest = errors - fixed["delta0"]
    slope = (weights * rest * shapes).sum(axis=1) / (weights * shapes**2).sum(axis=1)
    slope = np.maximum(slope, 0.0)
    return float((weights * (rest - slope[:, None] * shapes) ** 2).sum(axis=1).min())


@st.composite
def measured(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(4, 10))
    amounts = np.round(np.geomspace(20, draw(st.sampled_from([200, 700, 5000])), count))
    amounts = np.repeat(amounts, draw(st.integers(1, 3)))
    beta = draw(st.floats(0.2, 1.2))
    first = draw(st.floats(0.2, 0.6))
    floor = draw(st.sampled_from([0.0, 0.03, 0.1]))
    errors = first * (amounts / amounts[0]) ** -beta + floor
    deviation = draw(st.sampled_from([0.002, 0.01, 0.03])) * np.sqrt(errors)
    return amounts, np.abs(errors + rng.normal(0.0, deviation)), deviation**2


@settings(max_examples=30, deadline=None)
@given(data=measured(), quantile=st.sampled_from([1.0, 3.84, 7.0]))
def test_squares_reach_the_limit_where_an_interval_ends(
    data: tuple[Array, Array, Array], quantile: float
) -> None:
    profile = CurveProfile(*data)
    limit = profile.squares + quantile
    assert profile.squares <= least(*data, beta=profile.beta) * (1 + 1e-9) + 1e-12
    assert profile.squares <= least(*data, delta0=profile.delta0) * (1 + 1e-9) + 1e-12
    region = profile.region(quantile)
    low, high = region.beta
    wide = np.clip((1.5 * low - 0.5 * high, 1.5 * high - 0.5 * low), BETA_LOW, BETA_HIGH)
    betas = np.union1d(BETAS, np.linspace(*wide, 3000))
    for name, (low, high) in region._asdict().items():
        assert low <= getattr(profile, name) <= high
        for end, sign in ((low, -1.0), (high, 1.0)):
            at_limit = (
                (name == "beta" and not BETA_LOW * 1.01 < end < BETA_HIGH * 0.99)
                or end <= 1e-9
                or (name != "beta" and not region.beta[0] > BETA_LOW * 1.01)
                or (name != "beta" and not region.beta[1] < BETA_HIGH * 0.99)
            )
            if at_limit:
                continue
            step = 0.02 * (high - low)
            assert least(*data, betas, **{name: end + sign * step}) >= limit - 0.02 * quantile
            assert least(*data, betas, **{name: end - sign * step}) <= limit + 0.02 * quantile


def test_at_the_best_law_nothing_is_better() -> None:
    rng = np.random.default_rng(1)
    amounts = np.geomspace(20, 2000, 9)
    errors = 4 * amounts**-0.7 + 0.03 + rng.normal(0, 0.003, 9)
    profile = CurveProfile(amounts, errors, np.ones(9))
    every = [least(amounts, errors, np.ones(9), beta=float(b)) for b in BETAS[::10]]
    assert profile.squares <= min(every) + 1e-15
    assert profile.fitted == pytest.approx(profile.alpha * amounts**-profile.beta + profile.delta0)


def test_no_excess_leaves_the_best_law_alone() -> None:
    amounts = np.geomspace(20, 2000, 9)
    profile = CurveProfile(amounts, 4 * amounts**-0.7 + 0.03, np.ones(9))
    region = profile.region(0.0)
    for (low, high), best in zip(region, (4.0, 0.7, 0.03), strict=True):
        assert low == pytest.approx(best, rel=1e-3) and high == pytest.approx(best, rel=1e-3)


class TestVariances:
    amounts = np.repeat(np.geomspace(20, 2000, 8), 40)
    mean = 4 * amounts**-0.7 + 0.03

    def test_of_shares_of_images_it_is_binomial(self) -> None:
        rng = np.random.default_rng(2)
        errors = rng.binomial(500, self.mean) / 500
        found = variance_of(self.amounts, errors, np.full(errors.size, 500.0))
        exact = self.mean * (1 - self.mean) / 500
        assert found.of_images == pytest.approx(exact, rel=0.1)
        assert found.variance == pytest.approx(exact, rel=0.45)

    @pytest.mark.parametrize("images", [None, 1e6])
    def test_of_draws_that_scatter_it_goes_with_the_square_of_the_error(
        self, images: float | None
    ) -> None:
        rng = np.random.default_rng(3)
        errors = self.mean * np.exp(rng.normal(0, 0.1, self.mean.size))
        counts = None if images is None else np.full(errors.size, images)
        found = variance_of(self.amounts, errors, counts)
        relative = found.variance / self.mean**2
        assert relative.max() / relative.min() == pytest.approx(1.0, abs=0.3)

    def test_equal_variances_are_found_too(self) -> None:
        rng = np.random.default_rng(4)
        errors = self.mean + rng.normal(0, 0.004, self.mean.size)
        variance = variance_of(self.amounts, errors, None).variance
        assert variance.max() == variance.min()

    def test_no_error_at_all_at_some_amounts_is_no_certainty(self) -> None:
        amounts = np.repeat([20.0, 50, 100, 500, 1000], 2)
        errors = np.array([0.4, 0.42, 0.2, 0.22, 0.1, 0.12, 0, 0, 0, 0])
        for images in (None, np.full(10, 50.0)):
            found = variance_of(amounts, errors, images)
            assert (found.variance > 0).all() and math.isfinite(found.profile.squares)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fimi.optim.learning_curve import LearningCurve, fit_curve


def test_worked_by_hand() -> None:
    curve = LearningCurve(alpha=2.0, beta=0.5, delta0=0.1)
    np.testing.assert_allclose(curve.error(np.array([1.0, 4.0, 400.0])), [2.1, 1.1, 0.2])
    assert curve.error(0.0) == math.inf


def test_samples_undo_error() -> None:
    curve = LearningCurve(alpha=3.9, beta=0.8, delta0=0.02)
    samples = np.logspace(0, 6, 30)
    np.testing.assert_allclose(curve.samples(curve.error(samples)), samples, rtol=1e-7)
    assert curve.samples(0.02) == math.inf
    assert curve.samples(0.01) == math.inf


@pytest.mark.parametrize("field", ["alpha", "beta"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_refuses_what_is_not_a_curve(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        LearningCurve(**{"alpha": 1.0, "beta": 1.0, field: value})


AMOUNTS = np.array([20, 40, 72, 120, 180, 300, 500, 718, 2000, 8000], float)


@pytest.mark.parametrize(("alpha", "beta", "delta0"), [(2.0, 0.3, 0.0), (5.8, 0.93, 0.027)])
def test_an_exact_curve_is_found_again(alpha: float, beta: float, delta0: float) -> None:
    curve = LearningCurve(alpha=alpha, beta=beta, delta0=delta0)
    fit = fit_curve(AMOUNTS, curve.error(AMOUNTS))
    assert fit.curve.beta == pytest.approx(beta, rel=1e-4)
    assert fit.curve.alpha == pytest.approx(alpha, rel=1e-3)
    assert fit.curve.delta0 == pytest.approx(delta0, abs=1e-4)
    assert fit.identified, fit.problems


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = LearningCurve(alpha=3.0, beta=0.7, delta0=0.05)
    rng = np.random.default_rng(0)
    amounts = np.repeat(AMOUNTS, 3)
    covered = np.zeros(3)
    for _ in range(150):
        errors = np.maximum(truth.error(amounts) + rng.normal(0, 0.004, amounts.size), 0)
        fit = fit_curve(amounts, errors, confidence=0.9)
        for k, (interval, value) in enumerate(
            ((fit.alpha, 3.0), (fit.beta, 0.7), (fit.delta0, 0.05))
        ):
            covered[k] += interval.low <= value <= interval.high
    assert (covered / 150 > 0.82).all()
    assert (covered / 150 < 0.97).all()


TRUTHS = ((5.8, 0.93, 0.027), (2.0, 0.3, 0.0), (1.2, 0.3, 0.2))


@pytest.mark.parametrize("known", [True, False])
def test_intervals_of_shares_of_images(known: bool) -> None:
    rng = np.random.default_rng(1)
    amounts = np.repeat(np.geomspace(20, 718, 8).round(), 3)
    covered, trials = np.zeros(3), 0
    for truth in TRUTHS:
        mean = LearningCurve(alpha=truth[0], beta=truth[1], delta0=truth[2]).error(amounts)
        for _ in range(60):
            fit = fit_curve(amounts, rng.binomial(359, mean) / 359, 359 if known else None)
            if fit.identified:
                trials += 1
                spans = (fit.alpha, fit.beta, fit.delta0)
                covered += [s.low <= v <= s.high for s, v in zip(spans, truth, strict=True)]
    assert trials > 160
    assert (covered / trials > 0.91).all() and (covered / trials < 0.995).all(), covered / trials


def test_dispersion_is_the_variance_over_that_of_the_images() -> None:
    rng = np.random.default_rng(2)
    amounts = np.repeat(AMOUNTS, 40)
    mean = LearningCurve(alpha=3.0, beta=0.7, delta0=0.05).error(amounts)
    size = (400 - 1) / 2.0 - 1.0
    scattered = rng.binomial(400, rng.beta(mean * size, (1 - mean) * size)) / 400
    pure = rng.binomial(400, mean) / 400
    assert fit_curve(amounts, pure, 400).dispersion == pytest.approx(1.0, abs=0.25)
    assert fit_curve(amounts, scattered, 400).dispersion == pytest.approx(3.0, rel=0.25)
    assert fit_curve(amounts, pure).dispersion is None
    assert fit_curve(AMOUNTS[:3], mean[[0, 40, 80]], 400).dispersion is None


def test_points_closer_to_the_curve_than_their_images_allow_are_not_believed() -> None:
    exact = LearningCurve(alpha=3.0, beta=0.7, delta0=0.05).error(AMOUNTS)
    blind, few, many = (fit_curve(AMOUNTS, exact, images) for images in (None, 100, 10_000))
    assert blind.delta0.high - blind.delta0.low < 1e-3
    widths = [each.delta0.high - each.delta0.low for each in (few, many)]
    assert widths[0] > 0.03
    assert widths[0] > 4 * widths[1] > 0.005


def test_a_floor_that_the_test_images_share_is_in_its_interval() -> None:
    """Scores on one test set agree with each other, and not with those on others."""
    rng = np.random.default_rng(3)
    amounts = np.repeat(np.geomspace(32, 25_000, 8).round(), 3)
    mean = LearningCurve(alpha=3.0, beta=0.7, delta0=0.05).error(amounts)
    covered = narrow = 0
    for _ in range(100):
        hard, here = rng.normal(size=1000), rng.normal(size=(mean.size, 1000))
        errors = (np.sqrt(0.8) * hard + np.sqrt(0.2) * here < norm.ppf(mean)[:, None]).mean(axis=1)
        fit, blind = fit_curve(amounts, errors, 1000), fit_curve(amounts, errors)
        covered += fit.delta0.low <= 0.05 <= fit.delta0.high
        narrow += blind.delta0.low <= 0.05 <= blind.delta0.high
    assert covered >= 90
    assert narrow <= 75


def test_more_images_count_more() -> None:
    curve = LearningCurve(alpha=3.0, beta=0.7, delta0=0.05)
    amounts = np.repeat(AMOUNTS, 2)
    wrong = curve.error(amounts) + np.where(np.arange(amounts.size) % 2, 0.04, 0.0)
    images = np.where(np.arange(amounts.size) % 2, 100, 100_000)
    assert fit_curve(amounts, wrong, images).curve.delta0 == pytest.approx(0.05, abs=0.002)
    assert fit_curve(amounts, wrong).curve.delta0 == pytest.approx(0.07, abs=0.005)


@pytest.mark.parametrize(
    ("images", "errors", "what"),
    [
        ([10, 10], [0.3, 0.2, 0.1], "one number per error"),
        (0, [0.3, 0.2, 0.1], "images 0 is 0"),
        ([10, math.nan, 10], [0.3, 0.2, 0.1], "images 1 is nan"),
        (10, [1.3, 0.2, 0.1], "at most 1"),
    ],
)
def test_refuses_what_are_no_numbers_of_images(
    images: float | list[float], errors: list[float], what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        fit_curve([1, 2, 3], errors, images)


@pytest.mark.parametrize(
    ("amounts", "errors", "what"),
    [
        ([10, 20, 40], [0.5, 0.4, 0.3], "nothing is left"),
        ([10, 20, 40, 80, 160], [0.3, 0.31, 0.33, 0.35, 0.4], "does not fall"),
        ([100, 101, 102, 103, 104], [0.3, 0.302, 0.299, 0.3005, 0.298], "may be anything"),
        ([20, 40, 80, 160], [0.60, 0.49, 0.41, 0.33], "δ0"),
    ],
)
def test_says_what_the_data_cannot_tell(
    amounts: list[float], errors: list[float], what: str
) -> None:
    fit = fit_curve(amounts, errors)
    assert not fit.identified
    assert any(what in problem for problem in fit.problems), fit.problems


@pytest.mark.parametrize(
    ("amounts", "errors", "what"),
    [
        ([1, 2], [0.1, 0.2], "2 different"),
        ([1, 2, 2], [0.3, 0.2, 0.1], "2 different"),
        ([1, 2, 3], [0.1, 0.1, 0.1], "no change"),
        ([0, 2, 3], [0.3, 0.2, 0.1], "amount 0"),
        ([1, 2, 3], [0.3, math.nan, 0.1], "error 1"),
        ([1, 2, 3], [0.3, 0.1], "one error"),
    ],
)
def test_refuses_what_is_no_data(amounts: list[float], errors: list[float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        fit_curve(amounts, errors)


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(
        st.tuples(
            st.integers(1, 10**6).map(float),
            st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1)),
        ),
        min_size=3,
        max_size=12,
    ),
    images=st.sampled_from([None, 1, 30, 10_000]),
    confidence=st.sampled_from([0.5, 0.95, 0.999]),
)
def test_any_points_give_a_curve_inside_its_intervals_or_an_error(
    points: list[tuple[float, float]], images: int | None, confidence: float
) -> None:
    amounts, errors = zip(*points, strict=True)
    try:
        fit = fit_curve(amounts, errors, images, confidence=confidence)
    except ValueError as error:
        assert "learning curve" in str(error)
        return
    for span, value in (
        (fit.alpha, fit.curve.alpha),
        (fit.beta, fit.curve.beta),
        (fit.delta0, fit.curve.delta0),
    ):
        assert 0 <= span.low <= value * (1 + 1e-9) and value <= span.high * (1 + 1e-9) + 1e-12
        assert math.isfinite(span.high)
    assert fit.identified == (not fit.problems)
    assert fit.dispersion is None or fit.dispersion >= 0

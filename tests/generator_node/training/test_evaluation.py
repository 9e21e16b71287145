"""fimi.generator_node.training.evaluation: the measures tell what they should on images made for
it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.generator_node.generators.card import shipped_for
from fimi.generator_node.service.gate import read_judge
from fimi.generator_node.training import evaluation
from fimi.generator_node.training.evaluation import (
    Score,
    density_and_coverage,
    discount,
    evaluate,
    frechet_distance,
    halves,
    likenesses,
    spread,
    worth_of,
)
from fimi.generator_node.training.quality import class_accuracy_score
from fimi.learning.data.dataset import Split


def gauss(seed: int, count: int = 400, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32) + shift


class TestFrechet:
    def test_of_gaussians_that_are_known(self) -> None:
        """Means 3 apart in each of 6 dimensions: 54. Twice as wide: 6 · (1 − 2)²."""
        assert frechet_distance(gauss(0, 20000), gauss(1, 20000, 3.0)) == pytest.approx(
            54, rel=0.03
        )
        assert frechet_distance(gauss(0, 20000), 2 * gauss(1, 20000)) == pytest.approx(6, rel=0.05)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 1000))
    def test_zero_to_itself_and_symmetric(self, seed: int) -> None:
        one, other = gauss(seed, 30), gauss(seed + 1, 40, 0.5)
        assert frechet_distance(one, one) == pytest.approx(0, abs=1e-4)
        assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-6)


def test_density_and_coverage() -> None:
    density, coverage = density_and_coverage(gauss(0), gauss(1))
    assert density == pytest.approx(1, abs=0.2)
    assert coverage > 0.9
    assert density_and_coverage(gauss(0), gauss(1, shift=50.0)) == (0.0, 0.0)
    _, narrow = density_and_coverage(gauss(0), gauss(1) * 0.01)
    assert narrow < 0.3


def test_likeness(parts: Split) -> None:
    judge = read_judge(shipped_for(parts.public))
    copies, real = likenesses((parts.public, parts.test), parts.public, parts.private, judge)
    assert copies.near_copies == 1.0
    assert real.near_copies < 0.02
    assert real.frechet < copies.frechet, "the writers differ"
    assert real.diversity == pytest.approx(1, abs=0.1)
    one_of_each = parts.public.subset(np.zeros(50, np.intp), "one image")
    (same,) = likenesses((one_of_each,), parts.public, parts.private, judge)
    assert same.diversity == pytest.approx(0, abs=1e-3)
    assert same.coverage < 0.1
    assert spread(parts.private) > 0.1


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classifiers are trained for a third of the steps."""
    shorter = partial(class_accuracy_score, steps=240)
    monkeypatch.setattr(evaluation, "class_accuracy_score", shorter)


@pytest.mark.usefixtures("short_training")
def test_evaluate(parts: Split) -> None:
    judge = read_judge(shipped_for(parts.public))
    few = parts.private.subset(np.arange(200), "few")
    found = evaluate("real", few, parts.public, [parts.private, parts.test], judge, classifiers=1)
    assert [(s.trained_on, s.tested_on) for s in found.scores] == [
        ("few", "digits/private"),
        ("few", "digits/test"),
        ("digits/public", "digits/private"),
        ("digits/public", "digits/test"),
        ("a quarter of digits/public", "digits/private"),
        ("a quarter of digits/public", "digits/test"),
    ]
    assert found.worth is not None
    assert found.worth.value == discount(found.scores[1], found.scores[3], found.scores[5])
    assert (found.worth.images, found.worth.real_images) == (200, len(parts.public))
    assert found.worth.tested_on == "digits/test"
    assert min(s.mean for s in found.scores) > 0.7
    assert [like.name for like in found.likeness] == ["few", "digits/test"]


@pytest.mark.usefixtures("short_training")
def test_one_test_set_is_not_compared_with_itself(parts: Split) -> None:
    judge = read_judge(shipped_for(parts.public))
    one, other = halves(parts.test, 0)
    assert (len(one), len(other)) == (len(parts.test) // 2, -(-len(parts.test) // 2))
    both = np.concatenate([one.images, other.images])
    assert {i.tobytes() for i in both} == {i.tobytes() for i in parts.test.images}
    few = parts.private.subset(np.arange(100), "few")
    tiny = parts.test.subset(np.arange(8), "tiny")
    _, measure = evaluate("real", few, few, [tiny], judge, classifiers=1).likeness
    assert measure.name == "the other half of tiny"
    assert measure.frechet > 1


def score(images: int, mean: float) -> Score:
    return Score(trained_on="", tested_on="", images=images, mean=mean, deviation=0.0)


class TestDiscount:
    def test_golden(self) -> None:
        """Error 0.2 at 100 and 0.1 at 400 real images: error ~ n^(−1/2). 0.2 with 400 synthetic
        images is what 100 real ones give: q = 1/4."""
        real, smaller = score(400, 0.9), score(100, 0.8)
        assert discount(score(400, 0.8), real, smaller) == pytest.approx(0.25)
        assert discount(real, real, smaller) == pytest.approx(1)
        assert discount(score(800, 0.9), real, smaller) == pytest.approx(0.5)

    def test_no_curve(self) -> None:
        with pytest.raises(ValueError, match="do not give a learning curve"):
            discount(score(400, 0.8), score(400, 0.7), score(100, 0.8))


class TestWorth:
    def scores(self, deviation: float) -> tuple[Score, Score, Score]:
        """Errors 0.2, 0.1 and 0.2: by the power law, q is a quarter of 400 images in 400."""
        common = {"trained_on": "a", "tested_on": "b", "deviation": deviation}
        return (
            Score(images=400, mean=0.8, **common),  # type: ignore[arg-type]
            Score(images=400, mean=0.9, **common),  # type: ignore[arg-type]
            Score(images=100, mean=0.8, **common),  # type: ignore[arg-type]
        )

    def test_says_with_how_many_images(self) -> None:
        found = worth_of(*self.scores(0.0), classifiers=3)
        assert found is not None
        assert (found.low, found.high) == pytest.approx((0.25, 0.25))
        assert str(found) == (
            "0.25 real ones with 400 generated and 400 real images (90 % interval 0.25 to 0.25 "
            "over 3 classifiers), by the scores on b"
        )

    def test_the_interval_follows_the_scatter_of_classifiers(self) -> None:
        widths = []
        for deviation in (0.002, 0.006):
            found = worth_of(*self.scores(deviation), classifiers=4)
            assert found is not None
            assert found.high is not None
            assert found.low < 0.25 < found.high
            widths.append(found.high - found.low)
        assert widths[1] > 2 * widths[0]

    def test_scores_that_give_hardly_a_curve_give_no_limit(self) -> None:
        found = worth_of(*self.scores(0.2), classifiers=2)
        assert found is not None
        assert (found.low, found.high) == (0, None)
        assert "0.00 to no upper limit" in str(found)

    def test_one_classifier(self) -> None:
        found = worth_of(*self.scores(0.0), classifiers=1)
        assert "no interval from one classifier" in str(found)

    def test_scores_without_a_curve(self) -> None:
        synthetic, real, smaller = self.scores(0.0)
        assert worth_of(synthetic, smaller, real, classifiers=3) is None

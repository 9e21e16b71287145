"""How good a generator's images are: scores, and the same scores of real images.

* *class accuracy score*: a classifier trained on generated images only, tested on real ones
  (:mod:`fimi.generator_node.training.quality`);
* *Fréchet distance* (Heusel et al., arXiv:1706.08500) between generated and real images, on the
  features of the judge instead of Inception's: comparable for one data set and one judge only;
* *density and coverage* (Naeem et al., arXiv:2002.09797) on the same features: how many generated
  images lie near real ones, and how many real images have generated ones nearby;
* *memorisation*: the share of images that are closer to a public image than all but the closest
  percent of public images are to each other. Real test images, which the generator has not seen,
  give the share by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.generator_node.service.gate import Floats, Judge, Neighbours
from fimi.generator_node.training.quality import class_accuracy_score
from fimi.learning.data.dataset import Dataset

NEIGHBOURS = 5
WORTH_DRAWS = 2000
COPY_QUANTILE = 0.01


class Score(Struct, frozen=True, kw_only=True):
    """Class accuracy score of several classifiers: mean, 0 to 1, and standard deviation.

    ``trained_on`` names the training images, of which there are ``images``; ``tested_on`` names the
    real ones.
    """

    trained_on: str
    tested_on: str
    images: int
    mean: float
    deviation: float


class Worth(Struct, frozen=True, kw_only=True):
    """The worth of a generated image in real ones, q; it belongs to a number of images.

    Attributes:
        value: q; see :func:`discount`.
        low: lower end of its 90 % interval over classifiers; 0 if the scores give none.
        high: the upper end; ``None`` if the scores give none.
        images: generated images that each classifier was trained on.
        real_images: real images at which q is 1 if both teach the same.
        classifiers: classifiers per training set.
        tested_on: the real images that the classifiers were tested on.
    """

    value: float
    low: float
    high: float | None
    images: int
    real_images: int
    classifiers: int
    tested_on: str

    def __str__(self) -> str:
        if self.classifiers < 2:
            interval = "no interval from one classifier"
        else:
            high = "no upper limit" if self.high is None else f"{self.high:.2f}"
            interval = f"90 % interval {self.low:.2f} to {high} over {self.classifiers} classifiers"
        return (
            f"{self.value:.2f} real ones with {self.images} generated and {self.real_images} real "
            f"images ({interval}), by the scores on {self.tested_on}"
        )


class Likeness(Struct, frozen=True, kw_only=True):
    """Comparison of some images with real ones.

    Attributes:
        name: name of the images.
        images: number of images.
        purity: share of images that the judge assigns to their label.
        frechet: Fréchet distance to real images that are not public, on the judge's features.
        density: density of the images around real ones; 1 for real images, 0 far away.
        coverage: share of the real images with one of these nearby.
        diversity: mean distance of two images of a class, relative to that of real images.
        near_copies: share of memorised images, see the module.
        nearest: median distance to the nearest public image, root mean square of pixels 0 to 1.
    """

    name: str
    images: int
    purity: float
    frechet: float
    density: float
    coverage: float
    diversity: float
    near_copies: float
    nearest: float


class GeneratorEvaluation(Struct, frozen=True, kw_only=True):
    """Scores of a generator.

    Attributes:
        generator: its name.
        scores: class accuracy scores of generated images, of real public ones, and of a quarter
            of those.
        worth: worth of a generated image in real ones, by the last test set; ``None`` if the
            scores do not determine it.
        likeness: comparisons of generated images, and of real test images, with real ones.
    """

    generator: str
    scores: tuple[Score, ...]
    likeness: tuple[Likeness, ...]
    worth: Worth | None


def evaluate(
    name: str,
    generated: Dataset,
    public: Dataset,
    tests: Sequence[Dataset],
    judge: Judge,
    *,
    classifiers: int = 3,
    seed: int = 0,
    threads: int = 1,
) -> GeneratorEvaluation:
    """Evaluate generated images.

    Args:
        name: name of the generator.
        generated: its images.
        public: its training data.
        tests: real images that it has not seen. The generated images and, for comparison, the last
            set are compared with the first set; a single set is divided in halves for this.
        judge: a judge that was trained on ``public``.
        classifiers: number of classifiers per training set, each with its own seed.
        seed: seed of the first classifier.
        threads: PyTorch's threads.
    """
    drawn = np.random.default_rng(seed).permutation(len(public))[: -(-len(public) // 4)]
    quarter = public.subset(drawn, f"a quarter of {public.name}")
    scores = [
        class_accuracy_scores(training, tests, classifiers=classifiers, seed=seed, threads=threads)
        for training in (generated, public, quarter)
    ]
    real, others = (tests[0], tests[-1]) if len(tests) > 1 else halves(tests[0], seed)
    return GeneratorEvaluation(
        generator=name,
        scores=tuple(score for each in scores for score in each),
        likeness=likenesses((generated, others), public, real, judge),
        worth=worth_of(*(each[-1] for each in scores), classifiers=classifiers, seed=seed),
    )


def halves(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Two disjoint halves, drawn at random: a comparison of a set with itself would be useless."""
    drawn = np.random.default_rng(seed).permutation(len(dataset))
    first, other = (np.sort(part) for part in np.split(drawn, [len(dataset) // 2]))
    return (
        dataset.subset(first, f"half of {dataset.name}"),
        dataset.subset(other, f"the other half of {dataset.name}"),
    )


def class_accuracy_scores(
    training: Dataset, tests: Sequence[Dataset], *, classifiers: int, seed: int, threads: int = 1
) -> list[Score]:
    """One score for each of ``tests``, over several classifiers."""
    seeds = range(seed, seed + classifiers)
    values = np.array(
        [class_accuracy_score(training, tests, seed=each, threads=threads) for each in seeds]
    )
    return [
        Score(
            trained_on=training.name,
            tested_on=test.name,
            images=len(training),
            mean=float(column.mean()),
            deviation=float(column.std()),
        )
        for test, column in zip(tests, values.T, strict=True)
    ]


def likenesses(
    sets: Sequence[Dataset], public: Dataset, real: Dataset, judge: Judge
) -> tuple[Likeness, ...]:
    """Comparisons of several sets with ``real`` images that are not public."""
    neighbours = Neighbours(public.images)
    limit = float(np.quantile(neighbours.among_themselves(), COPY_QUANTILE))
    _, real_features = judge.look(real.images)
    real_spread = spread(real)
    found = []
    for each in sets:
        probabilities, features = judge.look(each.images)
        distances = neighbours.distances(each.images)
        density, coverage = density_and_coverage(real_features, features)
        found.append(
            Likeness(
                name=each.name,
                images=len(each),
                purity=float((probabilities.argmax(1) == each.labels).mean()),
                frechet=frechet_distance(real_features, features),
                density=density,
                coverage=coverage,
                diversity=spread(each) / real_spread,
                near_copies=float((distances < limit).mean()),
                nearest=float(np.median(distances)),
            )
        )
    return tuple(found)


def frechet_distance(one: Floats, other: Floats) -> float:
    """|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) of two sets of features (N, F)."""
    means = one.mean(0).astype(np.float64), other.mean(0).astype(np.float64)
    first, second = (np.cov(each, rowvar=False, dtype=np.float64) for each in (one, other))
    values, vectors = np.linalg.eigh(np.atleast_2d(first))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ np.atleast_2d(second) @ root)
    trace = np.trace(np.atleast_2d(first)) + np.trace(np.atleast_2d(second))
    apart = float(((means[0] - means[1]) ** 2).sum())
    return max(0.0, apart + float(trace) - 2 * float(np.sqrt(np.maximum(mixed, 0)).sum()))


def density_and_coverage(
    real: Floats, generated: Floats, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Density and coverage, with balls around real features (N, F).

    A ball reaches the ``neighbours``-th nearest real feature, or the farthest if there are fewer.
    """
    neighbours = min(neighbours, len(real) - 1)
    radii = np.sort(_distances(real, real), axis=1)[:, neighbours]
    inside = _distances(real, generated) < radii[:, None]
    return float(inside.sum() / (neighbours * len(generated))), float(inside.any(1).mean())


def spread(dataset: Dataset) -> float:
    """Mean root mean square distance of two images of the same class, pixels 0 to 1."""
    found = []
    for class_id in range(dataset.classes):
        images = dataset.images[dataset.labels == class_id]
        if len(images) > 1:
            flat = images.reshape(len(images), -1).astype(np.float32) / 255.0
            distances = _distances(flat, flat) / np.sqrt(flat.shape[1])
            found.append(distances.sum() / (len(flat) * (len(flat) - 1)))
    return float(np.mean(found)) if found else float("nan")


def discount(synthetic: Score, real: Score, smaller: Score) -> float:
    """The worth of a generated image in real ones, q, fitted to class accuracy scores.

    ``smaller`` and ``real`` are scores of real training sets of different sizes. Between them the
    error is taken to fall as a power of the number of images. q is the share of ``real.images`` at
    which that power law gives the error of ``synthetic``, which has as many images as ``real``.

    Returns:
        q > 0; above 1 if generated images teach more than as many real ones.

    Raises:
        ValueError: the real scores do not rise with the number of images, or one is perfect.
    """
    errors = [1 - score.mean for score in (synthetic, real, smaller)]
    if min(errors) <= 0 or errors[2] <= errors[1] or smaller.images >= real.images:
        raise ValueError(
            f"scores {real.mean:.4f} of {real.images} and {smaller.mean:.4f} of {smaller.images} "
            "real images do not give a learning curve; take fewer images, or more classifiers"
        )
    slope = np.log(errors[2] / errors[1]) / np.log(real.images / smaller.images)
    worth = (errors[1] / errors[0]) ** (1 / slope)
    return float(worth * real.images / synthetic.images)


def worth_of(
    synthetic: Score, real: Score, smaller: Score, *, classifiers: int, seed: int = 0
) -> Worth | None:
    """Q of :func:`discount` with its interval; ``None`` if the scores do not determine q.

    The interval is that of q for means drawn from Student's t about the measured ones, with the
    classifiers' scatter. Draws without a learning curve count as below and as above all others.
    Which images were drawn and tested on adds to it and is not in it.
    """
    try:
        value = discount(synthetic, real, smaller)
    except ValueError:
        return None
    low, high = 0.0, np.inf
    if classifiers > 1:
        draw = np.random.default_rng((seed, 0x30F7))
        lows, highs = [], []
        for _ in range(WORTH_DRAWS):
            moved = [
                replace(
                    score,
                    mean=score.mean
                    + score.deviation / (classifiers - 1) ** 0.5 * draw.standard_t(classifiers - 1),
                )
                for score in (synthetic, real, smaller)
            ]
            try:
                lows.append(discount(*moved))
                highs.append(lows[-1])
            except ValueError:
                lows.append(0.0)
                highs.append(np.inf)
        low = float(np.quantile(lows, 0.05, method="lower"))
        high = float(np.quantile(highs, 0.95, method="higher"))
    return Worth(
        value=value,
        low=low,
        high=high if np.isfinite(high) else None,
        images=synthetic.images,
        real_images=real.images,
        classifiers=classifiers,
        tested_on=synthetic.tested_on,
    )


def _distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distances (N, M) of rows."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    distances: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0))
    return distances

"""How often the 95 % intervals of a fitted learning curve hold the curve that made the points.

    python benchmarks/curve_intervals.py [trials]

Draws errors from known curves at amounts that users measure at, in four ways:

* ``images``: every error is a binomial share of its own test images;
* ``draws``: beta-binomial, with three times that variance (the draw of the training samples);
* ``relative``: binomial, about a mean that varies from draw to draw by 10 % of itself;
* ``one test set``: binomial, but all points are scored on the same images, and an image that is
  hard once is hard again (correlation 0.5).

Fits each with ``fit_curve`` (profile likelihood, images known), without the numbers of images, and
with the method before it: unweighted squares, intervals from their curvature. Prints for each how
often the fit calls itself identified, how often the intervals of α, β and δ0 then hold the truth,
and misses over the 5 % that are promised.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import norm, t

from fimi.energy.cost_model import Array
from fimi.optim.curve_profile import CurveProfile
from fimi.optim.learning_curve import CurveFit, LearningCurve, fit_curve

TRIALS = 100
CONFIDENCE = 0.95
DESIGNS = {
    "8 amounts to 718, 3 draws, 359 images": (np.geomspace(20, 718, 8), 3, 359),
    "8 amounts to 718, 1 draw, 359 images": (np.geomspace(20, 718, 8), 1, 359),
    "8 amounts to 25,000, 3 draws, 10,000 images": (np.geomspace(32, 25_000, 8), 3, 10_000),
    "6 amounts to 5,000, 5 draws, 2,000 images": (np.geomspace(50, 5_000, 6), 5, 2_000),
    "5 amounts to 1,600, 2 draws, 1,000 images": (np.array([50.0, 100, 200, 400, 1600]), 2, 1_000),
}
CURVES = {
    "digits": LearningCurve(alpha=5.8, beta=0.93, delta0=0.027),
    "photographs": LearningCurve(alpha=2.0, beta=0.25, delta0=0.05),
    "no floor": LearningCurve(alpha=2.0, beta=0.3, delta0=0.0),
    "high floor": LearningCurve(alpha=1.2, beta=0.3, delta0=0.2),
    "steep": LearningCurve(alpha=20.0, beta=1.3, delta0=0.01),
    "middle": LearningCurve(alpha=3.0, beta=0.7, delta0=0.05),
}

Spans = tuple[tuple[float, float], ...]
Method = Callable[[Array, Array, int], tuple[Spans, bool]]


def images_alone(rng: np.random.Generator, mean: Array, images: int) -> Array:
    return rng.binomial(images, mean) / images


def draws(rng: np.random.Generator, mean: Array, images: int) -> Array:
    size = (images - 1) / 2.0 - 1.0
    return rng.binomial(images, rng.beta(mean * size, (1.0 - mean) * size)) / images


def relative(rng: np.random.Generator, mean: Array, images: int) -> Array:
    varied = mean * np.exp(rng.normal(-0.005, 0.1, mean.size))
    return rng.binomial(images, np.minimum(varied, 0.999)) / images


def one_test_set(rng: np.random.Generator, mean: Array, images: int) -> Array:
    hard = rng.normal(0.0, math.sqrt(0.5), images)
    here = rng.normal(0.0, math.sqrt(0.5), (mean.size, images))
    return np.asarray((hard + here < norm.ppf(mean)[:, None]).mean(axis=1))


NOISE = {"images": images_alone, "draws": draws, "relative": relative, "one test set": one_test_set}


def with_images(amounts: Array, errors: Array, images: int) -> tuple[Spans, bool]:
    return _spans(fit_curve(amounts, errors, images))


def without_images(amounts: Array, errors: Array, images: int) -> tuple[Spans, bool]:
    return _spans(fit_curve(amounts, errors))


def curvature(amounts: Array, errors: Array, images: int) -> tuple[Spans, bool]:
    """Equal variances; s² (JᵀJ)⁻¹ in (log α, log β, δ0) and Student's t; its rules of doubt."""
    best = CurveProfile(amounts, errors, np.ones_like(errors))
    falling = best.alpha * amounts**-best.beta
    by_beta = -falling * best.beta * np.log(amounts)
    jacobian = np.stack([falling, by_beta, np.ones_like(falling)], axis=1)
    freedom = amounts.size - 3
    spread = np.full(3, math.inf)
    if np.linalg.cond(jacobian / np.linalg.norm(jacobian, axis=0)) < 1e8:
        covariance = best.squares / freedom * np.linalg.inv(jacobian.T @ jacobian)
        spread = t.ppf(0.5 + CONFIDENCE / 2, freedom) * np.sqrt(np.diag(covariance))
    factor = np.exp(np.minimum(spread[:2], 300.0))
    alpha = (best.alpha / factor[0], best.alpha * factor[0])
    beta = (best.beta / factor[1], best.beta * factor[1])
    delta0 = (max(best.delta0 - spread[2], 0.0), best.delta0 + spread[2])
    least = errors.min()
    known = (
        np.corrcoef(np.log(amounts), errors)[0, 1] < 0
        and beta[1] / beta[0] <= 9.0
        and alpha[1] / alpha[0] <= 1e4
        and not (delta0[1] - delta0[0] > 0.5 * least and delta0[1] > least)
        and 0.0205 <= best.beta <= 4.9
    )
    return (alpha, beta, delta0), bool(known)


METHODS: dict[str, Method] = {
    "profile": with_images,
    "no images": without_images,
    "curvature": curvature,
}


def _spans(fit: CurveFit) -> tuple[Spans, bool]:
    found = tuple((each.low, each.high) for each in (fit.alpha, fit.beta, fit.delta0))
    return found, fit.identified


def measurements(noise: str, trials: int) -> Iterator[tuple[str, LearningCurve, Array, Array, int]]:
    """Design, true curve, amounts, errors and images of every simulated measurement."""
    for design, (amounts, repeats, images) in DESIGNS.items():
        given = np.repeat(np.round(amounts), repeats)
        for number, curve in enumerate(CURVES.values()):
            mean = curve.error(given)
            if mean.max() > 0.95:
                continue
            rng = np.random.default_rng((number, images, repeats))
            for _ in range(trials):
                errors = NOISE[noise](rng, mean, images)
                if np.ptp(errors) > 0:
                    yield design, curve, given, errors, images


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    spent = dict.fromkeys(METHODS, 0.0)
    fits = 0
    for noise in NOISE:
        held: dict[tuple[str, str], list[list[bool]]] = {}
        asked: dict[str, int] = {}
        for design, curve, amounts, errors, images in measurements(noise, trials):
            fits += 1
            asked[design] = asked.get(design, 0) + 1
            truth = (curve.alpha, curve.beta, curve.delta0)
            for name, method in METHODS.items():
                began_s = time.perf_counter()
                spans, known = method(amounts, errors, images)
                spent[name] += time.perf_counter() - began_s
                rows = held.setdefault((design, name), [])
                if known:
                    rows.append([a <= v <= b for (a, b), v in zip(spans, truth, strict=True)])
        print(f"\n{noise}")
        for design in (*asked, "all"):
            print(f"  {design}")
            for name in METHODS:
                among = [design] if design != "all" else list(asked)
                rows = [row for each in among for row in held[each, name]]
                _line(name, rows, sum(asked[each] for each in among))
    print()
    for name, seconds in spent.items():
        print(f"{name}: {1000 * seconds / fits:.1f} ms a fit")


def _line(name: str, rows: list[list[bool]], asked: int) -> None:
    share = len(rows) / asked
    if not rows:
        print(f"    {name:9}  identified {share:6.1%}")
        return
    cover = np.array(rows, float).mean(axis=0)
    misses = (1.0 - cover) / (1.0 - CONFIDENCE)
    print(
        f"    {name:9}  identified {share:6.1%}  covers α {cover[0]:.1%}, β {cover[1]:.1%}, δ0 "
        f"{cover[2]:.1%}; misses over promised {misses[0]:.2f}, {misses[1]:.2f}, {misses[2]:.2f}"
    )


if __name__ == "__main__":
    main()

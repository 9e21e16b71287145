"""Rules that make one model of many and that a few wrong ones cannot ruin; docs/model.md (L9–L11).

* :class:`AggregationRule`  which rule, and its parameters; its ``combine`` follows it
* :func:`median`     coordinate-wise median (Yin et al. 2018, arXiv 1803.01498)
* :func:`trimmed_mean`  coordinate-wise trimmed mean (the same)
* :func:`krum`       the models that lie nearest to the others (Blanchard et al. 2017, NeurIPS)

Weights are samples that devices declare. The mean takes them, and so does the mean of the models
that Krum has chosen. Median and trimmed mean, and Krum's choice itself, count each model once: a
device that declares many samples would otherwise be a majority by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.learning.training.aggregation import Model, by_slices, mean
from fimi.learning.training.slices import SLICE, HeldModel, Slices, spans
from fimi.learning.training.tensors import Parameters

Kind = Literal["mean", "median", "trimmed-mean", "krum"]

PRODUCTS_OF = 1 << 20
"""Numbers of all models together of which products are taken at once: 8 MiB. Many small products
would have the threads of the linear algebra library wait for each other most of the time."""


class Aggregated(NamedTuple):
    """The result of a rule.

    Attributes:
        model: the one model.
        shares: ρ_k, the part of each model in it, 0 to 1; ``None`` where a rule looks at each
            number by itself, so that a model has no share as a whole.
    """

    model: Model
    shares: tuple[float, ...] | None


class AggregationRule(Struct, frozen=True, kw_only=True):
    """How models become one.

    Attributes:
        kind: which rule.
        trimmed_share: β of the trimmed mean, at least 0 and below 0.5.
        byzantine: f of Krum: how many models may be wrong.
        kept: m of Krum: how many models are averaged; 0: all but ``byzantine``.
    """

    kind: Kind = "mean"
    trimmed_share: float = 0.1
    byzantine: int = 1
    kept: int = 1

    @property
    def weighs(self) -> bool:
        """Whether weights of models make a difference; of one that Krum has chosen they do not."""
        return self.kind == "mean" or (self.kind == "krum" and self.kept != 1)

    def combine(
        self, base: Parameters, models: Sequence[Slices], weights: Sequence[float]
    ) -> Aggregated:
        """Follow the rule.

        Args:
            base: the model that all of them are updates of.
            models: at least one.
            weights: of each, non-negative; not all zero.

        Raises:
            ValueError: there are no models, or the weights do not fit.
        """
        if not models or len(models) != len(weights):
            raise ValueError(f"{len(models)} models and {len(weights)} weights make no model")
        if self.kind == "median":
            return Aggregated(median(base, models), None)
        if self.kind == "trimmed-mean":
            return Aggregated(trimmed_mean(base, models, self.trimmed_share), None)
        if self.kind == "krum":
            chosen = krum(base, models, self.byzantine, self.kept)
            kept = [weights[k] if k in chosen else 0.0 for k in range(len(models))]
            # who declares no samples has no weight, chosen or not
            weights = kept if sum(kept) > 0 else [float(k in chosen) for k in range(len(models))]
        whole = float(sum(weights))
        taken = [k for k, weight in enumerate(weights) if weight or self.kind == "mean"]
        model = mean(base, [models[k] for k in taken], [weights[k] for k in taken])
        return Aggregated(model, tuple(weight / whole for weight in weights))


def median(like: Parameters, models: Sequence[Slices]) -> Model:
    """The median of each number, (L9); of an even number of models the mean of the middle two.

    Of two models that is their mean: nobody can say which of two is wrong.

    Args:
        like: a model with the names and shapes of all of them.
        models: at least one.
    """
    low, high = (len(models) - 1) // 2, len(models) // 2

    def inner(slices: NDArray[np.float32]) -> NDArray[np.float64]:
        slices.sort(axis=0)
        middle: NDArray[np.float64] = (slices[low].astype(np.float64) + slices[high]) / 2.0
        return middle

    return by_slices(like, models, inner)


def trimmed(models: int, share: float) -> int:
    """b: how many numbers the trimmed mean leaves out at each end, (L10).

    ⌈β K⌉, so that one wrong model of few is left out as well, and at most so many that one is left.
    """
    return min(math.ceil(share * models - 1e-9), (models - 1) // 2)


def trimmed_mean(like: Parameters, models: Sequence[Slices], share: float) -> Model:
    """The mean of each number without the largest and the smallest ones, (L10).

    Args:
        like: a model with the names and shapes of all of them.
        models: at least one.
        share: β, of the numbers that are left out at each end.

    Raises:
        ValueError: β is not at least 0 and below 0.5.
    """
    if not 0.0 <= share < 0.5:
        raise ValueError(f"share is {share}; at each end less than half can be left out")
    out = trimmed(len(models), share)

    def inner(slices: NDArray[np.float32]) -> NDArray[np.float64]:
        slices.sort(axis=0)
        kept = slices[out : len(slices) - out]
        middle: NDArray[np.float64] = kept.sum(axis=0, dtype=np.float64) / len(kept)
        return middle

    return by_slices(like, models, inner)


def krum(base: Parameters, models: Sequence[Slices], byzantine: int, kept: int) -> tuple[int, ...]:
    """Which models lie nearest to the others, (L11): their indices, in order.

    A model's score is the sum of its K − f − 2 least squared distances to others; those with the
    least scores are chosen, of equal ones the first. The rule needs K ≥ 2 f + 3: with fewer models
    f is the largest that fits, and one or two models are all chosen, for want of a majority.

    Args:
        base: the model that all of them are updates of; distances do not depend on it.
        models: K of them, at least one.
        byzantine: f, how many may be wrong.
        kept: m, how many are chosen; 0: K − f.
    """
    count = len(models)
    if count < 3:
        return tuple(range(count))
    byzantine = min(byzantine, (count - 3) // 2)
    apart = squared_distances(base, models)
    np.fill_diagonal(apart, np.inf)
    apart.sort(axis=1)
    scores = apart[:, : count - byzantine - 2].sum(axis=1)
    order = np.argsort(scores, kind="stable")
    most = count - byzantine
    return tuple(sorted(int(k) for k in order[: min(kept, most) if kept else most]))


def squared_distances(base: Parameters, models: Sequence[Slices]) -> NDArray[np.float64]:
    """‖ω_i − ω_j‖² of all pairs of models, (K, K).

    From scalar products of their changes, summed over slices: with changes and not with models,
    little is lost in the differences of large numbers.

    Args:
        base: the model that all of them are updates of.
        models: K of them.
    """
    count = len(models)
    size = max(1, min(SLICE, PRODUCTS_OF // count))
    products = np.zeros((count, count))
    held = np.empty((count, size), np.float64)
    origin = HeldModel(base)
    for name, tensor in base.items():
        for start, stop in spans(tensor.size, size):
            changes = held[:, : stop - start]
            own = origin.read(name, start, stop)
            for row, model in zip(changes, models, strict=True):
                np.subtract(model.read(name, start, stop), own, out=row, dtype=np.float64)
            products += changes @ changes.T
    squares = np.diagonal(products)
    apart: NDArray[np.float64] = squares[:, None] + squares[None, :] - 2.0 * products
    return np.maximum(apart, 0.0, out=apart)

"""How the devices' models become one: the mean, slice by slice.

* :func:`mean`       the weighted mean of models that are read in slices
* :func:`fedavg`     the same of models in memory
* :func:`without`    the same mean as it would be without one of the models
* :class:`Scaled`    a model whose change is taken at a smaller scale
* :func:`by_slices`  any rule that looks at each number by itself, over all models at once
* :func:`is_finite`  whether a model has no number that is infinite or none at all

Every rule takes the models in their given order, so that results depend on nothing else, and holds
one slice of each at most: memory does not grow with their number. Rules that one of the models
cannot ruin are in :mod:`fimi.learning.training.robust`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimi.learning.training.slices import SLICE, HeldModel, Slices, spans
from fimi.learning.training.tensors import Parameters

Model = dict[str, NDArray[np.float32]]

TOGETHER = 1 << 19
"""Numbers of all models together that :func:`by_slices` holds at once: 2 MiB."""


class Scaled(NamedTuple):
    """A model with its change ω_k − ω taken ``scale`` times: ω + s (ω_k − ω).

    Attributes:
        model: ω_k.
        base: ω, the model that it is an update of.
        scale: s, 0 to 1.
    """

    model: Slices
    base: Slices
    scale: float

    def read(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """See :class:`~fimi.learning.training.slices.Slices`; in double precision inside."""
        base = self.base.read(name, start, stop).astype(np.float64)
        change = self.model.read(name, start, stop) - base
        return (base + self.scale * change).astype(np.float32)


def mean(like: Parameters, models: Sequence[Slices], weights: Sequence[float]) -> Model:
    """Weighted mean of models, Σ w_k ω_k / Σ w_k (McMahan et al. 2017, arXiv 1602.05629).

    Products w_k ω_k / Σ w_k are in single precision, as the models are; their sums are in double
    precision and in the given order.

    Args:
        like: a model with the names and shapes of all of them.
        models: at least one.
        weights: one per model, non-negative; usually the number of training samples.

    Raises:
        ValueError: there are no models, or the weights do not fit.
    """
    if not weights or len(models) != len(weights):
        raise ValueError(f"{len(models)} models and {len(weights)} weights cannot be averaged")
    if min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"weights must be non-negative with a positive sum, not {list(weights)}")
    whole = float(sum(weights))
    shares = [weight / whole for weight in weights]
    found = {}
    for name, tensor in like.items():
        result = np.empty(tensor.size, np.float32)
        for start, stop in spans(tensor.size):
            total = np.zeros(stop - start, np.float64)
            for model, share in zip(models, shares, strict=True):
                total += share * model.read(name, start, stop)
            result[start:stop] = total
        found[name] = result.reshape(tensor.shape)
    return found


def fedavg(models: Sequence[Parameters], weights: Sequence[float]) -> Model:
    """:func:`mean` of models in memory, with the same names and shapes.

    Raises:
        ValueError: there are no models, or the weights do not fit.
    """
    like = models[0] if models else {}
    return mean(like, [HeldModel(model) for model in models], weights)


def without(mean: Parameters, model: Slices, share: float) -> Model:
    """The mean of all other models, (mean − ρ ω) / (1 − ρ), rounded as the mean is.

    Args:
        mean: of all models.
        model: one of them.
        share: its share ρ of the weights, at least 0 and below 1.

    Raises:
        ValueError: ρ is outside of that: nothing would be left.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share is {share}; without a model something must be left of the mean")
    found = {}
    for name, tensor in mean.items():
        whole, left = tensor.reshape(-1), np.empty(tensor.size, np.float32)
        for start, stop in spans(tensor.size):
            part = share * model.read(name, start, stop)
            left[start:stop] = (whole[start:stop].astype(np.float64) - part) / (1.0 - share)
        found[name] = left.reshape(tensor.shape)
    return found


def by_slices(
    like: Parameters,
    models: Sequence[Slices],
    rule: Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]],
) -> Model:
    """A model of which each number follows from the same number of all models.

    Args:
        like: a model with the names and shapes of all of them.
        models: K of them, at least one.
        rule: from numbers of all models, (K, n), to those of the result, (n,); it may change what
            it is given.
    """
    size = max(1, min(SLICE, TOGETHER // len(models)))
    held = np.empty((len(models), size), np.float32)
    found = {}
    for name, tensor in like.items():
        result = np.empty(tensor.size, np.float32)
        for start, stop in spans(tensor.size, size):
            slices = held[:, : stop - start]
            for row, model in zip(slices, models, strict=True):
                row[:] = model.read(name, start, stop)
            result[start:stop] = rule(slices)
        found[name] = result.reshape(tensor.shape)
    return found


def is_finite(model: Parameters) -> bool:
    """Whether every number of a model is one."""
    flat = HeldModel(model)
    return all(
        bool(np.isfinite(flat.read(name, start, stop)).all())
        for name, tensor in model.items()
        for start, stop in spans(tensor.size)
    )

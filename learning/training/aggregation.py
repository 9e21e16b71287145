"""The mean of the devices' models, by which the coordinator makes the global model.

* :func:`fedavg`   the weighted mean
* :func:`without`  the same mean as it would be without one of the models
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized

import numpy as np
from numpy.typing import NDArray

from fimi.learning.training.tensors import Parameters


def fedavg(
    models: Iterable[Parameters], weights: Sequence[float]
) -> dict[str, NDArray[np.float32]]:
    """Weighted mean of models, Σ w_i ω_i / Σ w_i (McMahan et al. 2017, arXiv 1602.05629).

    It sums in float64 and in the given order, so that the result depends on nothing else. Each
    model is read once, so that a sequence that reads them from disk holds one at a time.

    Args:
        models: models with the same names and shapes.
        weights: one per model, non-negative; usually the number of training samples.

    Raises:
        ValueError: there are no models, or the weights do not fit.
    """
    if not weights or (isinstance(models, Sized) and len(models) != len(weights)):
        given = len(models) if isinstance(models, Sized) else "some"
        raise ValueError(f"{given} models and {len(weights)} weights cannot be averaged")
    if min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"weights must be non-negative with a positive sum, not {list(weights)}")
    whole = float(sum(weights))
    sums: dict[str, NDArray[np.float64]] = {}
    for model, weight in zip(models, weights, strict=True):
        for name, tensor in model.items():
            if name not in sums:
                sums[name] = np.zeros(tensor.shape, np.float64)
            sums[name] += (weight / whole) * tensor
    return {name: total.astype(np.float32) for name, total in sums.items()}


def without(mean: Parameters, model: Parameters, share: float) -> dict[str, NDArray[np.float32]]:
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
    return {
        name: ((tensor.astype(np.float64) - share * model[name]) / (1.0 - share)).astype(np.float32)
        for name, tensor in mean.items()
    }

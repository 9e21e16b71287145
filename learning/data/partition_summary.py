"""How uneven a partition is: label histograms, distance to the population, entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from fimi.learning.data.dataset import Labels


class LabelSkew(Struct, frozen=True, kw_only=True):
    """The label histograms of a partition, with distances and entropies.

    Attributes:
        counts: samples per class, one row per device.
        samples: samples per device.
        emd: per device, distance of its label distribution to that of all devices together, 0
            (alike) to 2 (nothing in common); ``None`` for a device without samples.
        entropy_bits: per device, entropy of its label distribution, bits; ``None`` without samples.
        mean_emd: mean of ``emd`` weighted by samples; ``None`` if no device has any.
    """

    counts: tuple[tuple[int, ...], ...]
    samples: tuple[int, ...]
    emd: tuple[float | None, ...]
    entropy_bits: tuple[float | None, ...]
    mean_emd: float | None


def label_counts(
    labels: Labels, parts: Sequence[NDArray[np.intp]], classes: int
) -> NDArray[np.int64]:
    """Samples per device and class, (devices, K); ``parts`` are indices into ``labels`` (N,)."""
    rows = [np.bincount(labels[indices], minlength=classes) for indices in parts]
    return np.array(rows, np.int64).reshape(len(parts), classes)


def earth_movers_distance(counts: ArrayLike, population: ArrayLike) -> float | None:
    """Σ_k |p(k) − q(k)| of two label histograms (K,), as Zhao et al. (arXiv 1806.00582) define it.

    It is 0 to 2; ``None`` where either has no samples.
    """
    p, q = np.asarray(counts, float), np.asarray(population, float)
    if not (p.sum() > 0 and q.sum() > 0):
        return None
    return float(np.abs(p / p.sum() - q / q.sum()).sum())


def entropy_bits(counts: ArrayLike) -> float | None:
    """Shannon entropy of a label histogram (K,), 0 to log2 K bits; ``None`` without samples."""
    p = np.asarray(counts, float)
    if not p.sum() > 0:
        return None
    p = p[p > 0] / p.sum()
    return abs(float((p * np.log2(p)).sum()))


def summarise(counts: ArrayLike, population: ArrayLike | None = None) -> LabelSkew:
    """Distances and entropies of label histograms.

    Args:
        counts: samples per device and class, (devices, classes).
        population: samples per class to measure distances to, (K,); those of all devices together
            if left out.
    """
    table = np.asarray(counts, np.int64)
    samples = table.sum(axis=1)
    if population is None:
        population = table.sum(axis=0)
    emd = tuple(earth_movers_distance(row, population) for row in table)
    weighted = [n * e for n, e in zip(samples.tolist(), emd, strict=True) if e is not None]
    return LabelSkew(
        counts=tuple(tuple(row) for row in table.tolist()),
        samples=tuple(samples.tolist()),
        emd=emd,
        entropy_bits=tuple(entropy_bits(row) for row in table),
        mean_emd=math.fsum(weighted) / int(samples.sum()) if samples.sum() else None,
    )

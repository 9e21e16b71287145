"""Dirichlet partitions of a data set over devices.

For every class, shares over the devices are drawn from a symmetric Dirichlet distribution with
concentration α, and the class is divided by these shares (Yurochkin et al., arXiv:1905.12022;
Hsu, Qi and Brown, arXiv:1909.06335, draw per device instead). With a small α one device holds most
of a class. With a large α all devices are alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fimi.learning.data.dataset import Labels

MAX_DRAWS = 1_000
"""Number of draws in which every device may get enough samples by itself."""


def dirichlet(
    labels: Labels, devices: int, alpha: float, seed: int, min_samples: int = 0
) -> list[NDArray[np.intp]]:
    """Divide samples among devices, class by class with Dirichlet shares.

    Every sample goes to exactly one device. A draw that leaves a device with fewer than
    ``min_samples`` is discarded and repeated, so the result follows the Dirichlet distribution
    under the condition that every device has enough. With many devices and a small α hardly any
    draw fulfils it: after :data:`MAX_DRAWS` the best one is topped up from the devices with most
    samples.

    Args:
        labels: class ids, (N,).
        devices: number of devices.
        alpha: concentration, above 0.
        seed: the same seed gives the same partition.
        min_samples: fewest samples that a device may hold.

    Returns:
        One ascending array of indices into ``labels`` per device.

    Raises:
        ValueError: a value is impossible, or there are fewer samples than all devices need.
    """
    check_alpha(alpha)
    check_dealing(len(labels), devices, min_samples)
    generator = np.random.default_rng((seed, 0xD112))
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(indices) for indices in members])
    counts = deal_enough(sizes, devices, alpha, min_samples, generator)
    held: list[list[NDArray[np.intp]]] = [[np.zeros(0, np.intp)] for _ in range(devices)]
    for indices, row in zip(members, counts, strict=True):
        parts = np.split(generator.permutation(indices), np.cumsum(row)[:-1])
        for device, part in enumerate(parts):
            held[device].append(part)
    return [np.sort(np.concatenate(parts)) for parts in held]


def deal_enough(
    sizes: NDArray[np.intp],
    devices: int,
    alpha: float,
    min_samples: int,
    generator: np.random.Generator,
) -> NDArray[np.intp]:
    """:func:`deal` until every device has enough; after :data:`MAX_DRAWS` the best, topped up."""
    best, least_missing = sizes[:, None], math.inf
    for _ in range(MAX_DRAWS):
        counts = deal(sizes, devices, alpha, generator)
        missing = np.maximum(min_samples - counts.sum(axis=0), 0).sum()
        if missing < least_missing:
            best, least_missing = counts, missing
        if missing == 0:
            break
    return top_up(best, min_samples)


def check_dealing(samples: int, devices: int, min_samples: int) -> None:
    """Make sure that there are enough samples for so many devices.

    Raises:
        ValueError: a value is impossible, or there are fewer samples than all devices need.
    """
    if devices < 1:
        raise ValueError(f"devices is {devices}; a partition needs at least one device")
    if min_samples < 0:
        raise ValueError(f"min_samples is {min_samples}; it cannot be negative")
    if devices * min_samples > samples:
        raise ValueError(
            f"{devices} devices with at least {min_samples} samples each need "
            f"{devices * min_samples}, there are {samples}; take fewer devices or a smaller "
            "min_samples"
        )


def check_alpha(alpha: float) -> None:
    """Make sure that a concentration is valid.

    Raises:
        ValueError: it is not finite and above 0.
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha is {alpha}; a Dirichlet distribution needs a finite alpha above 0")


def top_up(counts: NDArray[np.intp], min_samples: int) -> NDArray[np.intp]:
    """Give devices with too few samples some of the largest class of the device with most samples.

    The sum of ``counts``, (classes, devices), must be enough for all.
    """
    counts = counts.copy()
    for device in range(counts.shape[1]):
        while counts[:, device].sum() < min_samples:
            richest = int(counts.sum(axis=0).argmax())
            label = int(counts[:, richest].argmax())
            counts[label, richest] -= 1
            counts[label, device] += 1
    return counts


def deal(
    sizes: NDArray[np.intp], devices: int, alpha: float, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Samples per class and device, (classes, devices); every row sums to its class's size."""
    shares = generator.dirichlet(np.full(devices, alpha), size=len(sizes))
    ends = np.rint(np.cumsum(shares, axis=1) * sizes[:, None]).astype(np.intp)
    ends[:, -1] = sizes
    ends = np.minimum(ends, sizes[:, None])
    return np.diff(ends, axis=1, prepend=0)

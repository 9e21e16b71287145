"""All ways to divide a data set among devices, by name.

* ``dirichlet``: class by class with Dirichlet shares
  (:func:`fimi.learning.data.partition.dirichlet`)
* ``balanced``: the same number of samples for every device, with a class mixture of its own drawn
  from a Dirichlet distribution (after Hsu, Qi and Brown, arXiv 1909.06335; α is that of a class of
  mean size, so that it can be compared with ``dirichlet``)
* ``shards``: sorted by class and cut into pieces; every device gets the same number of pieces
  (McMahan et al., arXiv 1602.05629)
* ``iid``: at random, the same number for every device
* ``quantity``: at random, sizes with Dirichlet shares (Li et al., arXiv 2102.02079)

Every sample goes to exactly one device, and every device gets at least ``min_samples``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.learning.data import partition
from fimi.learning.data.dataset import Labels

Parts = list[NDArray[np.intp]]
"""One ascending array of indices per device."""


class Dealing(Struct, frozen=True, kw_only=True):
    """Parameters of a partition.

    Attributes:
        devices: number of devices.
        seed: the same seed gives the same partition.
        min_samples: fewest samples that a device may hold.
        alpha: concentration of ``dirichlet``, ``balanced`` and ``quantity``; a small one is uneven.
        shards: pieces per device with ``shards``.
    """

    devices: int
    seed: int
    min_samples: int = 0
    alpha: float = 1.0
    shards: int = 2


def divide(scheme: str, labels: Labels, dealing: Dealing) -> Parts:
    """Divide samples among devices.

    Args:
        scheme: key of :data:`SCHEMES`.
        labels: class ids, (N,).
        dealing: parameters of the partition.

    Returns:
        One ascending array of indices into ``labels`` per device.

    Raises:
        ValueError: the scheme is unknown, a value is impossible, or a device would hold too few.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown partition {scheme!r}; there are {', '.join(SCHEMES)}")
    partition.check_dealing(len(labels), dealing.devices, dealing.min_samples)
    if scheme in NEEDS_ALPHA:
        partition.check_alpha(dealing.alpha)
    return SCHEMES[scheme](labels, dealing)


def _dirichlet(labels: Labels, dealing: Dealing) -> Parts:
    return partition.dirichlet(
        labels, dealing.devices, dealing.alpha, dealing.seed, dealing.min_samples
    )


def _balanced(labels: Labels, dealing: Dealing) -> Parts:
    """Devices take turns; each draws the class of its next sample by its mixture of those left."""
    random = np.random.default_rng((dealing.seed, 0xBA1A))
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes):
        return [np.zeros(0, np.intp) for _ in range(dealing.devices)]
    prior = np.maximum(dealing.alpha * counts / counts.mean(), np.finfo(float).tiny)
    mixtures = random.dirichlet(prior, size=dealing.devices)
    queues = [random.permutation(np.flatnonzero(labels == label)).tolist() for label in classes]
    left = counts.astype(float)
    held: list[list[int]] = [[] for _ in range(dealing.devices)]
    turns, rest = divmod(len(labels), dealing.devices)
    for turn in range(turns + (rest > 0)):
        order = random.permutation(dealing.devices)
        for device in order if turn < turns else order[:rest]:
            weights = mixtures[device] * (left > 0)
            if not weights.sum() > 0:
                weights = left
            reached = np.cumsum(weights)
            label = int(np.searchsorted(reached, random.random() * reached[-1], side="right"))
            held[device].append(queues[label].pop())
            left[label] -= 1
    return _sorted(held)


def _shards(labels: Labels, dealing: Dealing) -> Parts:
    if dealing.shards < 1:
        raise ValueError(f"{dealing.shards} shards per device; there must be at least one")
    pieces = dealing.devices * dealing.shards
    if pieces > len(labels):
        raise ValueError(
            f"{dealing.devices} devices with {dealing.shards} shards each need {pieces} samples, "
            f"there are {len(labels)}"
        )
    random = np.random.default_rng((dealing.seed, 0x54A2))
    shuffled = random.permutation(len(labels))
    shards = np.array_split(shuffled[np.argsort(labels[shuffled], kind="stable")], pieces)
    order = random.permutation(pieces).reshape(dealing.devices, dealing.shards)
    parts = _sorted([np.concatenate([shards[piece] for piece in row]) for row in order])
    least = min(map(len, parts))
    if least < dealing.min_samples:
        raise ValueError(
            f"the smallest of {dealing.devices} devices with {dealing.shards} shards would hold "
            f"{least} samples, fewer than min_samples {dealing.min_samples}; take fewer shards"
        )
    return parts


def _iid(labels: Labels, dealing: Dealing) -> Parts:
    random = np.random.default_rng((dealing.seed, 0x11D))
    return _sorted(np.array_split(random.permutation(len(labels)), dealing.devices))


def _quantity(labels: Labels, dealing: Dealing) -> Parts:
    random = np.random.default_rng((dealing.seed, 0x9A47))
    total = np.array([len(labels)])
    # The first draw is not used; without it, a seed would give another partition than before.
    partition.deal(total, dealing.devices, dealing.alpha, random)
    sizes = partition.deal_enough(
        total, dealing.devices, dealing.alpha, dealing.min_samples, random
    )
    return _sorted(np.split(random.permutation(len(labels)), np.cumsum(sizes[0])[:-1]))


def _sorted(held: list[NDArray[np.intp]] | list[list[int]]) -> Parts:
    return [np.sort(np.asarray(indices, np.intp)) for indices in held]


SCHEMES: dict[str, Callable[[Labels, Dealing], Parts]] = {
    "dirichlet": _dirichlet,
    "balanced": _balanced,
    "shards": _shards,
    "iid": _iid,
    "quantity": _quantity,
}
"""Name to function."""
LABEL_DIRICHLET = ("dirichlet", "balanced")
"""Schemes in which α controls the label distributions."""
NEEDS_ALPHA = (*LABEL_DIRICHLET, "quantity")

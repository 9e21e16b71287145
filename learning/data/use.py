"""A share of a batch: the first samples of each class.

* :func:`in_use`        how many of each class that is
* :func:`first_of_each` which samples they are
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fimi.learning.data.dataset import Labels


def in_use(counts: Sequence[int], share: float) -> tuple[int, ...]:
    """Samples of each class in a share, 0 to 1, of so many: rounded up, so that none is lost."""
    return tuple(math.ceil(share * count - 1e-9) for count in counts)


def first_of_each(labels: Labels, share: float) -> NDArray[np.intp]:
    """Indices of the first samples of each class, :func:`in_use` of them, ascending."""
    found, counts = np.unique(labels, return_counts=True)
    chosen = [
        np.flatnonzero(labels == label)[:most]
        for label, most in zip(found, in_use(counts.tolist(), share), strict=True)
    ]
    return np.sort(np.concatenate([*chosen, np.empty(0, np.intp)]))

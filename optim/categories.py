"""(P4) Which classes to synthesise, docs/model.md (20): the amounts that maximise the entropy.

Given a device's samples per class and a number of synthetic ones, the mixed data is nearest to
uniform when the smallest classes are filled to a common level (water-filling). For whole numbers
the optimum is: fill to the level rounded down, then one more sample for as many of the classes at
that level as remain. It is exact, because −Σ m log m is a sum of equal concave functions of the
class totals m, for which giving each next sample to the smallest class is optimal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def fill(local: Sequence[int] | Counts, amount: int) -> tuple[int, ...]:
    """Synthetic samples per class.

    Args:
        local: (K,) local samples per class, ≥ 0.
        amount: D_gen ≥ 0, how many to add in total.

    Returns:
        (K,) whole numbers with sum ``amount``; among equal classes the first comes first.

    Raises:
        ValueError: for negative counts, no class, or a negative amount.
    """
    counts = np.asarray(local, dtype=np.int64)
    if counts.ndim != 1 or counts.size == 0:
        raise ValueError(f"local samples per class: need one row of counts, got {local!r}")
    if (counts < 0).any():
        raise ValueError(
            f"local samples per class: {int(counts.min())} in class "
            f"{int(counts.argmin())}; counts cannot be negative"
        )
    if amount < 0:
        raise ValueError(f"synthetic samples: {amount}; the amount cannot be negative")
    order = np.argsort(counts, kind="stable")
    ascending = counts[order]
    # needed[j]: samples that fill the j smallest classes up to the size of class j.
    steps = np.arange(1, counts.size, dtype=np.int64) * np.diff(ascending)
    needed = np.concatenate(([0], np.cumsum(steps)))
    filled = int(np.searchsorted(needed, amount, side="right"))  # classes at the common level
    extra = amount - int(needed[filled - 1])
    level = int(ascending[filled - 1]) + extra // filled
    added = np.maximum(level - counts, 0)
    at_level = np.flatnonzero(counts + added == level)
    added[at_level[: extra % filled]] += 1
    return tuple(int(n) for n in added)

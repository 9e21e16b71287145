"""Parts of a data set in which no class is missing, by as few exchanges as it takes.

A random draw may leave a rare class out of a part. :func:`cover` then exchanges single samples
between two parts, whose sizes stay. Where nothing is missing, nothing is changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cover(
    labels: NDArray[np.int64],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    *,
    needs: tuple[int, int],
    able: NDArray[np.bool_],
) -> None:
    """Exchange samples, in place, until each part has so many of every class.

    The first part gives from its end, the second from its beginning: of parts in random order these
    are random samples, of parts in the order of the data those next to the boundary. A part gets
    what it needs of every class if it has room for that.

    Args:
        labels: (N,), of all samples.
        first: indices of one part.
        second: indices of the other.
        needs: samples of a class in the first and in the second part.
        able: (K,), whether a class needs them; others stay as they are. It must have enough.
    """
    parts = (first, second[::-1])  # each gives from its end
    counts = [np.bincount(labels[part], minlength=len(able)) for part in parts]
    wanted = [np.where(able, need, 0) for need in needs]
    for here, there in ((0, 1), (1, 0)):
        for label in np.flatnonzero(counts[here] < wanted[here]):
            while counts[here][label] < wanted[here][label]:
                spare = (counts[here] > wanted[here])[labels[parts[here]]]
                if not spare.any():
                    break
                given = int(np.flatnonzero(spare)[-1])
                taken = int(np.flatnonzero(labels[parts[there]] == label)[-1])
                for part, change in ((here, 1), (there, -1)):
                    counts[part][label] += change
                    counts[part][labels[parts[here][given]]] -= change
                parts[here][given], parts[there][taken] = parts[there][taken], parts[here][given]

"""Seeds: every image of every device has one of its own.

They are hashed from (run seed, device, class, index), so two devices get different images, a
repeated request gives the identical batch, and asking for more of a class keeps what there was and
adds to it. The run's id is not among them: the same seed gives the same images in every run.
"""

from __future__ import annotations

import hashlib

import numpy as np

from fimi.generator_node.generators.base import Seeds


def image_seeds(
    seed: int, device: str, counts: tuple[int, ...], skip: tuple[int, ...] = ()
) -> Seeds:
    """A seed for every image of a device, class after class.

    Args:
        seed: of the run.
        device: for whom; empty for images that all devices share.
        counts: images per class.
        skip: images of each class that come before them; empty: none.

    Returns:
        (sum of counts,), uint64: the first 8 bytes of a BLAKE2b hash each.
    """
    seeds = [
        _hash(f"fimi/image/{seed}/{class_id}/{index}/{device}")
        for class_id, (count, first) in enumerate(
            zip(counts, skip or (0,) * len(counts), strict=True)
        )
        for index in range(first, first + count)
    ]
    return np.array(seeds, np.uint64)


def stock_seeds(
    seed: int,
    device: str,
    counts: tuple[int, ...],
    stock: tuple[int, ...],
    skip: tuple[int, ...] = (),
) -> Seeds:
    """Addresses of a device's images where there are only so many of a class.

    Args:
        seed: of the run.
        device: for whom; empty for images that all devices share.
        counts: images per class.
        stock: different images that there are of every class.
        skip: images of each class that come before them; empty: none.

    Returns:
        (sum over classes of the smaller of count and what is left,), uint64: of every class the
        first ones after those of an order of 0 to stock − 1 that is the device's own, so that
        nothing comes twice and asking for more adds to what there was.
    """
    dealt = [
        np.random.Generator(np.random.Philox(key=_hash(f"fimi/stock/{seed}/{class_id}/{device}")))
        .permutation(there)[first : first + count]
        .astype(np.uint64)
        for class_id, (count, there, first) in enumerate(
            zip(counts, stock, skip or (0,) * len(counts), strict=True)
        )
    ]
    return np.concatenate([np.zeros(0, np.uint64), *dealt])


def redraw_seed(seed: int, attempt: int) -> int:
    """The seed for drawing an image again: that of the image itself at attempt 0."""
    return seed if attempt == 0 else _hash(f"fimi/redraw/{seed}/{attempt}")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

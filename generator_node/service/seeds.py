"""Seeds: every image of every device has its own seed.

They are hashed from (run seed, device, class, index). So two devices get different images, a
repeated request gives the identical batch, and a request for more images of a class keeps the
earlier ones and adds to them. The run's id is not used: the same seed gives the same images in
every run.
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
        seed: seed of the run.
        device: id of the device; empty for images that all devices share.
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
    """Addresses of a device's images where the number of images of a class is fixed.

    Args:
        seed: seed of the run.
        device: id of the device; empty for images that all devices share.
        counts: images per class.
        stock: number of different images of every class.
        skip: images of each class that come before them; empty: none.

    Returns:
        (sum over classes of the smaller of count and images left,), uint64. Each device has its
        own random order of 0 to stock − 1 for every class; these are the next ones after ``skip``.
        So no image comes twice, and a request for more adds to the earlier ones.
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
    """The seed of an attempt at an image; at attempt 0 it is the image's own seed."""
    return seed if attempt == 0 else _hash(f"fimi/redraw/{seed}/{attempt}")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

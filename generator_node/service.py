"""From a device's request to its batch: seeds, images, bytes. No network here.

Seeds are hashed from (run seed, device, class, index), so two devices get different images, a
repeated request gives the identical batch, and asking for more of a class keeps what there was and
adds to it. The run's id is not among them: the same seed gives the same images in every run.
"""

from __future__ import annotations

import hashlib
import time

import msgspec
import numpy as np
from msgspec import Struct

from generator_node.generators import Generator, Seeds
from learning.batches import encode
from messaging.messages import SyntheticRequest


class RequestRefusedError(ValueError):
    """A request cannot be served; the message says which value is wrong."""


class MadeBatch(Struct, frozen=True, kw_only=True):
    """A device's batch.

    Attributes:
        data: what :func:`learning.batches.encode` wrote; empty for no images.
        delivered: images per class.
        seconds: wall time of making and encoding it.
    """

    data: bytes
    delivered: tuple[int, ...]
    seconds: float


class BatchService:
    """Makes batches.

    Args:
        generator: what draws the images.
        images_max: most images in one request.
    """

    def __init__(self, generator: Generator, *, images_max: int = 10_000) -> None:
        if images_max < 1:
            raise ValueError(f"images_max is {images_max}; allow at least one image per request")
        self.generator = generator
        self.images_max = images_max
        self._provenance = msgspec.json.encode(generator.provenance).decode()

    def make(self, request: SyntheticRequest) -> MadeBatch:
        """Make what a device lacks.

        Raises:
            RequestRefusedError: unknown classes, negative counts, or too many images.
        """
        self._check(request)
        started = time.monotonic()
        counts = request.counts
        if not sum(counts):
            return MadeBatch(data=b"", delivered=counts, seconds=0.0)
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        seeds = image_seeds(request.seed, request.device, counts)
        images = self.generator.generate(labels, seeds)
        data = encode(images, labels, self._provenance)
        return MadeBatch(data=data, delivered=counts, seconds=time.monotonic() - started)

    def _check(self, request: SyntheticRequest) -> None:
        who = f"request for device {request.device!r}"
        counts, classes = request.counts, self.generator.classes
        if len(counts) != classes:
            raise RequestRefusedError(
                f"{who} names {len(counts)} classes, {self.generator.name} knows {classes}; "
                "coordinator and generator node must use the same data set"
            )
        if min(counts) < 0:
            raise RequestRefusedError(
                f"{who} asks for {min(counts)} images of class {counts.index(min(counts))}; "
                "counts cannot be negative"
            )
        if (total := sum(counts)) > self.images_max:
            raise RequestRefusedError(
                f"{who} asks for {total} images, the limit is {self.images_max}; raise "
                "generator.images_max, or ask for fewer"
            )


def image_seeds(seed: int, device: str, counts: tuple[int, ...]) -> Seeds:
    """A seed for every image of a device, class after class.

    Args:
        seed: of the run.
        device: for whom.
        counts: images per class.

    Returns:
        (sum of counts,), uint64: the first 8 bytes of a BLAKE2b hash each.
    """
    seeds = [
        _hash(f"fimi/image/{seed}/{class_id}/{index}/{device}")
        for class_id, count in enumerate(counts)
        for index in range(count)
    ]
    return np.array(seeds, np.uint64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

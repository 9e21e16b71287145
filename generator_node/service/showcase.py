"""A few of a run's synthetic images, for people to look at.

The first image of each class that the node ships is shown once in a run, small and in parts that
every broker takes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fimi.generator_node.service.drawing import Place
from fimi.generator_node.service.pool import Pool
from fimi.messaging.messages.synthesis import SamplePicture

SIDE_PX = 64
"""Longest side of a picture, pixels."""
CLASSES = 100
"""Most classes that are shown."""
PART_BYTES = 8_192
"""Most bytes of pictures that travel together; a single one may be larger."""


class Showcase:
    """Knows which classes of a run were shown."""

    def __init__(self) -> None:
        self._run: tuple[str, str] = ("", "")
        self._shown: set[int] = set()

    def show(
        self, run: tuple[str, str], places: Iterable[Place], pool: Pool
    ) -> Iterator[tuple[SamplePicture, ...]]:
        """Pictures of classes that were not shown yet, part by part.

        Args:
            run: name and instance of the run.
            places: of an image of each class, which the pool holds.
            pool: holds the images.
        """
        if run != self._run:
            self._run, self._shown = run, set()
        part: list[SamplePicture] = []
        for place in sorted(places):
            class_index = place[0]
            if class_index in self._shown or len(self._shown) >= CLASSES:
                continue
            self._shown.add(class_index)
            picture = SamplePicture(class_index=class_index, png=png(pool.image(*place)))
            if part and sum(len(each.png) for each in [*part, picture]) > PART_BYTES:
                yield tuple(part)
                part = []
            part.append(picture)
        if part:
            yield tuple(part)


def png(image: NDArray[np.uint8]) -> bytes:
    """An image (1 or 3, height, width) as a PNG, scaled down to :data:`SIDE_PX`."""
    grey = image.shape[0] == 1
    picture = Image.fromarray(image[0] if grey else np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((SIDE_PX, SIDE_PX))
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()

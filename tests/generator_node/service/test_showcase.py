"""Pictures for people: small, bounded, each class once in a run."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from fimi.generator_node.service.showcase import CLASSES, PART_BYTES, SIDE_PX, Showcase, png


class Noise:
    """A pool of photographs that compress badly."""

    def image(self, class_index: int, seed: int) -> np.ndarray:
        return np.random.default_rng((class_index, seed)).integers(
            0, 256, (3, 200, 300), dtype=np.uint8
        )


def test_a_run_has_each_class_once_and_the_next_run_again() -> None:
    showcase, pool = Showcase(), Noise()
    places = [(number, 7) for number in range(CLASSES + 20)]
    parts = list(showcase.show(("a", "1"), places, pool))
    assert [p.class_index for part in parts for p in part] == list(range(CLASSES))
    for part in parts:
        assert len(part) == 1 or sum(len(p.png) for p in part) <= PART_BYTES
    assert list(showcase.show(("a", "1"), places, pool)) == []
    assert sum(map(len, showcase.show(("a", "2"), places[:3], pool))) == 3


def test_a_picture_keeps_its_shape_and_colours() -> None:
    image = np.zeros((3, 128, 256), np.uint8)
    image[0], image[1, :64] = 200, 90
    seen = Image.open(io.BytesIO(png(image)))
    assert seen.size == (SIDE_PX, SIDE_PX // 2) and seen.mode == "RGB"
    assert seen.getpixel((5, 5)) == (200, 90, 0) and seen.getpixel((5, 30)) == (200, 0, 0)
    grey = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    assert (np.asarray(Image.open(io.BytesIO(png(grey)))) == grey[0]).all()

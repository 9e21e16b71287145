"""fimi.generator_node.training.quality: the score tells good training data from bad."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fimi.generator_node.training.quality import class_accuracy_score, contact_sheet
from fimi.learning.data.dataset import Split


class TestScore:
    def test_real_images_teach_and_wrong_labels_do_not(self, parts: Split) -> None:
        (good,) = class_accuracy_score(parts.public, [parts.test], steps=120)
        shuffled = np.random.default_rng(0).permutation(parts.public.labels)
        wrong = msgspec.structs.replace(parts.public, labels=shuffled)
        (bad,) = class_accuracy_score(wrong, [parts.test], steps=120)
        assert good > 0.8
        assert bad < 0.35

    def test_one_score_per_test_set_and_the_same_again(self, parts: Split) -> None:
        scores = [
            class_accuracy_score(parts.public, [parts.private, parts.test], seed=1, steps=10)
            for _ in range(2)
        ]
        assert len(scores[0]) == 2
        assert scores[0] == scores[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_contact_sheet(channels: int) -> None:
    images = np.full((5, channels, 4, 6), 200, np.uint8)
    images[4] = 255
    sheet = contact_sheet(images, columns=3, zoom=2)
    pixels = np.asarray(sheet)
    assert pixels.shape[:2] == ((2 * 5 + 1) * 2, (3 * 7 + 1) * 2)
    assert (pixels[2, 2] == 200).all()  # first image, behind a border of one pixel
    assert (pixels[12, 16] == 255).all()  # second row, second column
    assert (pixels[12, 30] == 96).all()  # nothing there

"""fimi.learning.data.changes: small random changes of images."""

from __future__ import annotations

import numpy as np
import pytest

from fimi.learning.data.changes import Augmentation, ImageChanges, change

STILL = ImageChanges(rotation_degrees=0, shift_pixels=0, scale=0)
IMAGES = np.random.default_rng(3).integers(0, 256, (12, 1, 8, 8), np.uint8)
ALL = np.arange(12)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_without_changes_it_is_the_same() -> None:
    for image in np.random.default_rng(0).integers(0, 256, (4, 3, 6, 9), np.uint8):
        np.testing.assert_array_equal(change(image, STILL, generator()), image)


def test_a_shift_moves_the_middle_by_at_most_as_much() -> None:
    """A bright square on black, by its centre of mass."""
    image = np.zeros((1, 32, 32), np.uint8)
    image[0, 12:20, 12:20] = 255
    random = np.random.default_rng(1)
    limits = ImageChanges(rotation_degrees=0, shift_pixels=4, scale=0)
    moved = []
    for _ in range(60):
        found = change(image, limits, random)[0].astype(float)
        moved.append((found.sum(0) @ np.arange(32)) / found.sum() - 15.5)
    assert max(np.abs(moved)) <= 4.1
    assert max(moved) > 2 > -2 > min(moved)


@pytest.mark.parametrize(("width", "pixels"), [(8, 0.5), (32, 2.0)])
def test_strength_one_is_that_of_the_digits_and_grows_with_the_image(
    width: int, pixels: float
) -> None:
    assert ImageChanges.of_strength(1.0, width) == ImageChanges(
        rotation_degrees=8.0, shift_pixels=pixels, scale=0.08
    )


class TestAugmentation:
    def made(self, *stream: int, real: int = 12, strength: float = 1.0) -> Augmentation:
        return Augmentation(IMAGES, strength, stream=stream, real=real)

    def test_seed_device_and_round_decide_the_changes(self) -> None:
        one = self.made(7, 2, 1)(ALL)
        np.testing.assert_array_equal(one, self.made(7, 2, 1)(ALL))
        for other in ((8, 2, 1), (7, 3, 1), (7, 2, 2)):
            assert (self.made(*other)(ALL) != one).any()

    def test_every_time_anew_and_in_any_pieces_the_same(self) -> None:
        whole, pieces = self.made(1), self.made(1)
        first = whole(ALL)
        assert (whole(ALL) != first).any()
        halves = [pieces(ALL[:5]), pieces(ALL[5:])]
        np.testing.assert_array_equal(np.concatenate(halves), first)

    def test_only_the_devices_own_images_are_changed(self) -> None:
        before = IMAGES.copy()
        order = np.array([11, 2, 10, 0])
        found = self.made(1, real=6)(order)
        np.testing.assert_array_equal(found[[0, 2]], IMAGES[[11, 10]])
        assert (found[[1, 3]] != IMAGES[[2, 0]]).any(axis=(1, 2, 3)).all()
        np.testing.assert_array_equal(IMAGES, before)

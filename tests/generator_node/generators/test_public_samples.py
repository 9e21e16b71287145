"""fimi.generator_node.generators.public_samples: real public images as they are, and no more than
there are."""

from __future__ import annotations

import numpy as np
import pytest
from contract import GeneratorContract
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.generator_node.generators.base import FiniteGenerator, Generator
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.generators.public_samples import PublicSamples
from fimi.generator_node.service.device_batch import MadeBatch
from fimi.generator_node.service.seeds import stock_seeds
from fimi.generator_node.service.service import BatchService
from fimi.learning.data.batches import Batch, decode
from fimi.learning.data.dataset import Dataset, Split
from fimi.messaging.messages.synthesis import SyntheticRequest


class TestContract(GeneratorContract):
    @pytest.fixture
    def generator(self, parts: Split) -> Generator:
        return PublicSamples(parts.public)

    def test_it_is_known_to_be_finite(self, generator: Generator, parts: Split) -> None:
        assert isinstance(generator, FiniteGenerator)
        assert generator.stock == tuple(np.bincount(parts.public.labels, minlength=10))
        assert not isinstance(BootstrapGenerator(parts.public), FiniteGenerator)

    def test_a_class_without_images(self, parts: Split) -> None:
        few = parts.public.subset(np.flatnonzero(parts.public.labels != 4), "no fours")
        generator = PublicSamples(few)
        assert generator.stock[4] == 0
        with pytest.raises(ValueError, match="no fours holds no image of 4"):
            generator.generate(np.array([4]), np.array([0], np.uint64))


@settings(max_examples=60, deadline=None)
@given(
    stock=st.lists(st.integers(0, 9), min_size=2, max_size=2),
    counts=st.lists(st.integers(0, 12), min_size=2, max_size=2),
    device=st.sampled_from(["", "device-1", "device-2"]),
)
def test_every_image_is_dealt_once_and_more_only_adds(
    stock: list[int], counts: list[int], device: str
) -> None:
    taken = [min(*pair) for pair in zip(stock, counts, strict=True)]
    dealt = stock_seeds(3, device, tuple(counts), tuple(stock)).tolist()
    for start, size, there in ((0, taken[0], stock[0]), (taken[0], taken[1], stock[1])):
        part = dealt[start : start + size]
        assert len(set(part)) == size
        assert all(0 <= address < there for address in part)
    more = stock_seeds(3, device, (counts[0] + 1, counts[1]), tuple(stock)).tolist()
    assert more[: taken[0]] == dealt[: taken[0]]
    assert len(dealt) == sum(taken)
    first = tuple(number // 2 for number in counts)
    rest = tuple(number - had for number, had in zip(counts, first, strict=True))
    cut = [
        *stock_seeds(3, device, first, tuple(stock)).tolist(),
        *stock_seeds(3, device, rest, tuple(stock), first).tolist(),
    ]
    assert sorted(cut) == sorted(dealt)


class TestService:
    def made(self, public: Dataset, counts: tuple[int, ...], **other: object) -> MadeBatch:
        fields = {"run": "r", "device": "device-1", "seed": 7, **other}
        request = SyntheticRequest(counts=counts, **fields)  # type: ignore[arg-type]
        return BatchService(PublicSamples(public)).make(request)

    def batch(self, public: Dataset, counts: tuple[int, ...], **other: object) -> Batch:
        return decode(self.made(public, counts, **other).data, classes=10)

    def test_unaltered_and_of_the_right_class(self, parts: Split) -> None:
        batch = self.batch(parts.public, (6,) * 10)
        for image, label in zip(batch.images, batch.labels, strict=True):
            same = (parts.public.images == image).all(axis=(1, 2, 3))
            assert label in parts.public.labels[same]

    def test_what_is_left_after_an_earlier_request(self, small_public: Dataset) -> None:
        stock = PublicSamples(small_public).stock
        first = tuple(there // 2 for there in stock)
        made = self.made(small_public, stock, skip=first)
        left = tuple(there - had for there, had in zip(stock, first, strict=True))
        assert made.delivered == left
        assert f"{left[0]} of {stock[0]} of class 0" in made.error
        assert sum(self.made(small_public, stock, skip=stock).delivered) == 0

    def test_when_a_class_is_used_up(self, small_public: Dataset) -> None:
        stock = PublicSamples(small_public).stock
        made = self.made(small_public, (30, 1) + (0,) * 8)
        assert made.delivered == (stock[0], 1) + (0,) * 8
        assert made.error == (f"samples of digits/few are used up: {stock[0]} of 30 of class 0")
        assert not made.failed
        got = decode(made.data, classes=10).images[: stock[0]]
        zeros = small_public.images[small_public.labels == 0]
        assert sorted(map(bytes, got)) == sorted(map(bytes, zeros))

    def test_devices_get_their_own_choice(self, parts: Split) -> None:
        one, other = (
            self.batch(parts.public, (20,) + (0,) * 9, device=device).images
            for device in ("device-1", "device-2")
        )
        assert {bytes(image) for image in one} != {bytes(image) for image in other}

    def test_images_of_one_colour_are_samples_too(self) -> None:
        black = Dataset(
            name="black",
            images=np.zeros((3, 1, 8, 8), np.uint8),
            labels=np.zeros(3, np.int64),
            class_names=("night",),
        )
        assert self.made(black, (5,)).delivered == (3,)

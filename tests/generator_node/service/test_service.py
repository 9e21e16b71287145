"""fimi.generator_node.service.service: the right images for the right device, and no more than
allowed."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.clock import Clock, VirtualClock
from fimi.energy.joules import Energy, share
from fimi.energy.meters import DeclaredPower
from fimi.energy.work_meter import Metered
from fimi.generator_node.generators.base import Provenance
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.generators.diffusion import DiffusionGenerator
from fimi.generator_node.service.seeds import image_seeds
from fimi.generator_node.service.service import BatchService, RequestRefusedError
from fimi.learning.data.batches import Batch, decode
from fimi.learning.data.dataset import Images, Labels, Split
from fimi.messaging.messages.synthesis import SyntheticRequest

COUNTS = st.lists(st.integers(0, 8), min_size=1, max_size=6).map(tuple)


def request(counts: tuple[int, ...], **other: object) -> SyntheticRequest:
    fields = {"run": "r1", "device": "device-1", "seed": 7, **other}
    return SyntheticRequest(counts=counts, **fields)  # type: ignore[arg-type]


@pytest.fixture
def service(tiny_generator: DiffusionGenerator) -> BatchService:
    return BatchService(tiny_generator, images_max=50)


class TestSeeds:
    @settings(max_examples=100, deadline=None)
    @given(counts=COUNTS, seed=st.integers(0, 2**31), device=st.text("ab1/-", max_size=6))
    def test_no_two_images_of_a_fleet_have_the_same(
        self, counts: tuple[int, ...], seed: int, device: str
    ) -> None:
        own = image_seeds(seed, device, counts)
        assert own.dtype == np.uint64
        assert len(own) == sum(counts)
        others = (image_seeds(seed, device + "x", counts), image_seeds(seed + 1, device, counts))
        assert len({int(s) for part in (own, *others) for s in part}) == 3 * sum(counts)

    @settings(max_examples=60, deadline=None)
    @given(counts=COUNTS, more=COUNTS)
    def test_asking_for_more_keeps_what_there_was(
        self, counts: tuple[int, ...], more: tuple[int, ...]
    ) -> None:
        size = min(len(counts), len(more))
        small, large = (
            counts[:size],
            tuple(a + b for a, b in zip(counts[:size], more[:size], strict=True)),
        )
        before, after = image_seeds(0, "d", small), image_seeds(0, "d", large)
        assert set(before.tolist()) <= set(after.tolist())

    @settings(max_examples=60, deadline=None)
    @given(counts=COUNTS, first=st.integers(0, 8))
    def test_those_after_the_first_are_the_rest(self, counts: tuple[int, ...], first: int) -> None:
        skip = tuple(min(first, count) for count in counts)
        rest = tuple(count - had for count, had in zip(counts, skip, strict=True))
        both = [*image_seeds(0, "d", skip).tolist(), *image_seeds(0, "d", rest, skip).tolist()]
        assert sorted(both) == sorted(image_seeds(0, "d", counts).tolist())

    def test_golden_values(self) -> None:
        """Seeds are part of a run's reproducibility: BLAKE2b of fimi/image/0/2/1/device-1."""
        assert image_seeds(0, "device-1", (0, 0, 2)).tolist() == [
            5604888295258804381,
            17202277339562321777,
        ]


class TestMake:
    def test_a_batch(self, service: BatchService) -> None:
        counts = (3, 0, 1, 0, 0, 0, 0, 0, 0, 2)
        made = service.make(request(counts))
        batch = decode(made.data, classes=10, image_shape=(1, 8, 8))
        assert made.delivered == counts
        assert batch.labels.tolist() == [0, 0, 0, 2, 9, 9]
        assert made.seconds > 0
        provenance = msgspec.json.decode(batch.provenance, type=Provenance)
        assert provenance == service.generator.provenance

    def test_the_run_does_not_matter_but_seed_and_device_do(self, service: BatchService) -> None:
        counts = (2,) * 10
        first = service.make(request(counts))
        assert service.make(request(counts)).data == first.data
        assert service.make(request(counts, run="r2")).data == first.data

        def images(**other: object) -> Batch:
            return decode(service.make(request(counts, **other)).data, classes=10)

        own = decode(first.data, classes=10).images
        for other in ({"seed": 8}, {"device": "device-2"}):
            strange = images(**other).images
            assert not any(np.array_equal(a, b) for a, b in zip(own, strange, strict=True))

    @pytest.mark.parametrize("share", [False, True])
    def test_a_request_in_parts_gives_what_the_whole_would(
        self, tiny_generator: DiffusionGenerator, share: bool
    ) -> None:
        service = BatchService(tiny_generator, share_images=share)
        rest = (0,) * 7

        def made(counts: tuple[int, ...], **other: object) -> Batch:
            return decode(service.make(request(counts, **other)).data, classes=10)

        whole = made((3, 0, 4, *rest))
        cut = made((3, 0, 1, *rest)), made((0, 0, 3, *rest), skip=(3, 0, 1, *rest))
        assert np.array_equal(np.concatenate([part.images for part in cut]), whole.images)
        assert np.array_equal(np.concatenate([part.labels for part in cut]), whole.labels)

    def test_nothing_asked(self, service: BatchService) -> None:
        made = service.make(request((0,) * 10))
        assert made.data == b""
        assert made.delivered == (0,) * 10

    def test_as_many_as_allowed(self, service: BatchService) -> None:
        assert sum(service.make(request((5,) * 10)).delivered) == 50

    @pytest.mark.parametrize(
        ("counts", "says"),
        [
            ((5, 5, 5, 5, 5, 5, 5, 5, 5, 6), "asks for 51 images, the limit is 50"),
            ((10**12,) + (0,) * 9, "asks for 1000000000000 images"),
            ((1,) * 9, "names 9 classes, .* knows 10"),
            ((), "names 0 classes"),
            ((0, -2) + (0,) * 8, "asks for -2 images of class 1"),
        ],
    )
    def test_refusals(self, service: BatchService, counts: tuple[int, ...], says: str) -> None:
        with pytest.raises(RequestRefusedError, match=says) as caught:
            service.make(request(counts))
        assert "device-1" in str(caught.value)

    def test_skipping_other_classes(self, service: BatchService) -> None:
        with pytest.raises(RequestRefusedError, match="skips images of 2 classes"):
            service.make(request((1,) * 10, skip=(1, 1)))

    def test_a_limit_of_nothing(self, tiny_generator: DiffusionGenerator) -> None:
        with pytest.raises(ValueError, match="images_max is 0"):
            BatchService(tiny_generator, images_max=0)


def test_only_generators_need_torch() -> None:
    """So a generator on another engine can be served without it."""
    code = "import sys, fimi.generator_node.service.node; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Slow(BootstrapGenerator):
    """Takes a second of the clock per image."""

    clock: VirtualClock

    def generate(self, class_ids: Labels, seeds: object) -> Images:
        self.clock.advance(float(len(class_ids)))
        return super().generate(class_ids, seeds)  # type: ignore[arg-type]


def test_every_batch_gets_its_share(parts: Split) -> None:
    generator = Slow(parts.public)
    generator.clock = VirtualClock()
    clock: Clock = generator.clock
    metered = Metered([DeclaredPower(5.0, clock)], clock)
    service = BatchService(generator, metered=metered, chunk=64)
    for device, count in (("a", 3), ("b", 1)):
        service.submit(SyntheticRequest(run="r", device=device, counts=(count,) * 10, seed=1))
    assert service.work() == [], "the first chunk is small"
    a, b = service.work()
    assert isinstance(a.energy, Energy)
    assert isinstance(b.energy, Energy)
    assert (a.energy.value_j, b.energy.value_j) == (pytest.approx(150), pytest.approx(50))
    assert service.progress.energy == share(a.energy, 4 / 3)
    assert service.progress.seconds == pytest.approx(40)
    again = service.make(SyntheticRequest(run="r", device="a", counts=(3,) * 10, seed=1))
    assert (again.drawn, again.energy) == (0, None)

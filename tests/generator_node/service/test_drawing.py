"""fimi.generator_node.service.drawing: memory that runs out, places that are settled."""

from __future__ import annotations

import pytest

from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.service.drawing import Drawing, Place, made_by
from fimi.generator_node.service.pool import Pool
from fimi.generator_node.service.service import BatchService
from fimi.learning.data.dataset import Dataset, Images, Labels, Split
from fimi.messaging.messages.synthesis import SyntheticRequest

REQUEST = SyntheticRequest(run="r1", device="device-1", counts=(4, 0, 9) + (0,) * 7, seed=3)


class Narrow(BootstrapGenerator):
    """Has memory for so many images at a time."""

    def __init__(self, public: Dataset, room: int) -> None:
        super().__init__(public)
        self.room = room
        self.asked: list[int] = []

    def generate(self, class_ids: Labels, seeds: object) -> Images:
        self.asked.append(len(class_ids))
        if len(class_ids) > self.room:
            raise MemoryError(f"{len(class_ids)} images")
        return super().generate(class_ids, seeds)  # type: ignore[arg-type]


class TestMemory:
    def test_chunks_are_halved_until_they_fit_and_stay_so(self, parts: Split) -> None:
        narrow = Narrow(parts.public, room=3)
        made = BatchService(narrow, chunk=12).make(REQUEST)
        assert narrow.asked == [8, 4, 2, 2, 2, 2, 2, 2, 1]
        assert made.delivered == REQUEST.counts
        assert made.drawn == 13
        assert made.data == BatchService(BootstrapGenerator(parts.public)).make(REQUEST).data

    def test_no_room_for_one_image(self, parts: Split) -> None:
        made = BatchService(Narrow(parts.public, room=0), chunk=4).make(REQUEST)
        assert made.failed
        assert made.error == "MemoryError: 1 images"
        assert made.delivered == (0,) * 10


class TestPace:
    @pytest.mark.parametrize(
        ("image_s", "chunks"),
        [
            (0.001, [8, 100, 100, 2]),
            (1.0, [8, 30, 30, 30, 30, 30, 30, 22]),
            (100.0, [8, 1, 1, 1, 1]),
        ],
    )
    def test_no_chunk_takes_long_but_the_first(
        self, parts: Split, image_s: float, chunks: list[int]
    ) -> None:
        now_s = 0.0

        class Slow(Narrow):
            def generate(self, class_ids: Labels, seeds: object) -> Images:
                nonlocal now_s
                now_s += image_s * len(class_ids)
                return super().generate(class_ids, seeds)

        slow = Slow(parts.public, room=1000)
        pool = Pool(None, slow.image_shape, made_by(slow, None))
        drawing = Drawing(slow, None, pool, 100, clock=lambda: now_s)
        places: list[Place] = [(0, address) for address in range(sum(chunks))]
        while places:
            drawing.draw(places[: drawing.chunk])
            places = [place for place in places if not drawing.settled(place)]
        assert slow.asked == chunks


def test_a_place_is_settled_by_its_image(parts: Split) -> None:
    generator = BootstrapGenerator(parts.public)
    pool = Pool(None, generator.image_shape, made_by(generator, None))
    drawing = Drawing(generator, None, pool, 8)
    places: list[Place] = [(1, 11), (1, 12), (7, 13)]
    assert not any(map(drawing.settled, places))
    assert drawing.draw(places[:2]) == ["kept", "kept"]
    assert [drawing.settled(place) for place in places] == [True, True, False]


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("CUDA error")])
def test_other_errors_are_not_tried_again(parts: Split, error: Exception) -> None:
    class Broken(Narrow):
        def generate(self, class_ids: Labels, seeds: object) -> Images:
            self.asked.append(len(class_ids))
            raise error

    broken = Broken(parts.public, 99)
    made = BatchService(broken).make(REQUEST)
    assert broken.asked == [8]
    assert str(error) in made.error

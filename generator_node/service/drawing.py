"""Draws images for addresses, judges them and keeps them in the pool; none is drawn twice.

A *place* is a class and an address (:mod:`fimi.generator_node.service.pool`). If the gate refuses a
draw, the image is drawn again at the same place a few times. A place is *settled* when it has an
image, or when another draw cannot give one.

Images are drawn in chunks. The first chunk is small. The others are as large as possible without
taking longer than :data:`LONGEST_S`, so that a slow generator reports often enough: the coordinator
gives up a node that is silent. A chunk that does not fit into memory is drawn in halves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec
import numpy as np

from fimi.generator_node.generators.base import FiniteGenerator, Generator, Image, out_of_memory
from fimi.generator_node.service.gate import Gate, GateSettings
from fimi.generator_node.service.pool import Draw, Pool, Verdict
from fimi.generator_node.service.seeds import redraw_seed
from fimi.generator_node.service.trial import GeneratorTrial
from fimi.learning.data.dataset import Images, Labels

Place = tuple[int, int]
"""Class id and address of an image."""

FIRST = 8
"""Images of the first chunk, whose duration is not known yet."""

LONGEST_S = 30.0
"""Longest intended duration of a chunk of more than one image, s."""

log = logging.getLogger(__name__)


class Drawing:
    """Draws images with a generator, judges them with a gate and keeps them in a pool.

    Args:
        generator: the generator.
        gate: judges images; ``None`` accepts all but images of one colour.
        pool: keeps draws.
        chunk: most images drawn together.
        clock: gives monotonic seconds.

    Attributes:
        chunk: number of images of the next chunk.
        trial: whether its images show their classes; ``None``: it is not on trial.
    """

    def __init__(
        self,
        generator: Generator,
        gate: Gate | None,
        pool: Pool,
        chunk: int,
        *,
        trial: GeneratorTrial | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trial = trial
        self.chunk = min(chunk, FIRST)
        self._most = chunk
        self._clock = clock
        self._generator = generator
        self._gate = gate
        self._pool = pool
        self._finite = isinstance(generator, FiniteGenerator)
        self._redraws = (gate.settings if gate else GateSettings()).redraws

    def settled(self, place: Place) -> bool:
        """Whether a place has an image, or another draw cannot give one."""
        return self._pool.kept(*place) or self._pool.attempt(*place) > self._redraws

    def draw(self, places: list[Place]) -> list[Verdict]:
        """Draw at as many of ``places``, from the first on, as fit into memory.

        Returns:
            The verdict of each draw; fewer than ``places`` if memory ran out.

        Raises:
            Exception: any error of the generator, the gate or the pool.
        """
        chunk = len(places)
        while True:
            part, started = places[:chunk], self._clock()
            try:
                self._keep(part, *self._images(part))
            except Exception as error:
                if chunk == 1 or not out_of_memory(error):
                    raise
                self.chunk = self._most = chunk = -(-chunk // 2)
                log.warning("out of memory (%s); %d images at a time from now on", error, chunk)
            else:
                image_s = (self._clock() - started) / len(part)
                in_time = int(min(self._most, LONGEST_S / max(image_s, 1e-9)))
                self.chunk = max(1, in_time)
                return [self._pool.verdict(*place) for place in part]

    def _images(self, places: list[Place]) -> tuple[list[int], Labels, Images]:
        attempts = [self._pool.attempt(*place) for place in places]
        labels = np.array([class_id for class_id, _ in places], np.int64)
        seeds = np.array(
            [redraw_seed(a, k) for (_, a), k in zip(places, attempts, strict=True)], np.uint64
        )
        return attempts, labels, self._generator.generate(labels, seeds)

    def _keep(
        self, places: list[Place], attempts: list[int], labels: Labels, images: Images
    ) -> None:
        flat = images.reshape(len(images), -1)
        blank = (np.ptp(flat, 1) == 0) & (not self._finite)  # given images are never refused
        verdicts: list[Verdict] = ["blank" if empty else "kept" for empty in blank]
        confidence = np.full(len(places), np.nan, np.float32)
        if self._gate:
            judged = self._gate.judge(images, labels)
            verdicts, confidence = list(judged.verdicts), judged.confidence
            if self.trial and self.trial.result == "open":
                first = np.array(attempts) == 0
                self.trial.add(labels[first], judged.taken[first])
                self._pool.remember(msgspec.json.encode(self.trial.seen))
        by_class: dict[int, list[Draw]] = {}
        fresh: set[tuple[int, bytes]] = set()
        for index, (class_id, address) in enumerate(places):
            image: Image = images[index]
            if self._gate and verdicts[index] == "kept":
                name = (class_id, image.tobytes())
                if name in fresh or self._pool.has_equal(class_id, image):
                    verdicts[index] = "repeat"
                fresh.add(name)
            by_class.setdefault(class_id, []).append(
                Draw(
                    address=address,
                    attempt=attempts[index],
                    verdict=verdicts[index],
                    confidence=float(confidence[index]),
                    image=image,
                )
            )
        for class_id, draws in by_class.items():
            self._pool.add(class_id, draws)


def made_by(generator: Generator, gate: Gate | None) -> str:
    """Everything that determines the pixels of a draw and its verdict, as JSON."""
    return msgspec.json.encode(
        {
            "provenance": msgspec.to_builtins(generator.provenance),
            "image_shape": generator.image_shape,
            "gate": gate.describe() if gate else "",
        }
    ).decode()

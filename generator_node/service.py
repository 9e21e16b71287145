"""From devices' requests to their batches: one queue, drawn in chunks across devices. No network.

Requests are taken with :meth:`BatchService.submit`; every :meth:`BatchService.work` draws one chunk
of what is lacking, for whoever asked first, and goes on with the next device where that leaves
room. What is drawn is judged (:mod:`generator_node.gate`), kept in the pool
(:mod:`generator_node.pool`) and never drawn again; what is refused is drawn again a few times. A
batch comes out as soon as it is whole, or as whole as it gets: its counts say what there is, its
tally what was refused, its error what went wrong.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from energy.joules import Energy, total
from generator_node.gate import Gate, GateSettings
from generator_node.generators import FiniteGenerator, Generator, Image, out_of_memory
from generator_node.metering import Metered, share
from generator_node.pool import Draw, Pool, Verdict
from generator_node.seeds import image_seeds, redraw_seed, stock_seeds
from learning.batches import encode, encode_unlabelled
from learning.datasets import Images, Labels
from messaging.messages import SyntheticRequest

CHUNK = 256
"""Images that are drawn, judged and kept together."""

log = logging.getLogger(__name__)


class RequestRefusedError(ValueError):
    """A request cannot be served; the message says which value is wrong."""


class MadeBatch(Struct, frozen=True, kw_only=True):
    """A device's batch.

    Attributes:
        request: what was asked.
        data: what :func:`learning.batches.encode` wrote; empty for no images.
        delivered: images per class.
        seconds: wall time of drawing and encoding it, its share of what was drawn with others'.
        drawn: images that were drawn for it now; what the pool held already is not among them.
        refused: how many of those the gate refused, by verdict.
        energy: what that took, idle power included; ``None`` where it was not metered, or where
            nothing was drawn.
        error: why it falls short of the request, or empty.
        failed: whether something broke on the way, so that asking again may help.
    """

    request: SyntheticRequest
    data: bytes
    delivered: tuple[int, ...]
    seconds: float
    drawn: int = 0
    refused: dict[str, int] = {}
    energy: Energy | None = None
    error: str = ""
    failed: bool = False


class Progress(Struct, frozen=True, kw_only=True):
    """Where the queue is.

    Attributes:
        lacking: images that are still to be drawn, should none be refused.
        devices: batches that are not ready yet.
        drawn: images drawn since the service began.
        refused: of those, by verdict.
        seconds: that drawing has taken.
        energy: what it took, or ``None`` where it was not metered throughout.
    """

    lacking: int
    devices: int
    drawn: int
    refused: dict[str, int]
    seconds: float
    energy: Energy | None


class _Tally:
    """What drawing took so far."""

    def __init__(self) -> None:
        self.drawn = 0
        self.seconds = 0.0
        self.refused: Counter[str] = Counter()
        self._energies: list[Energy] = []
        self._metered = True

    def add(self, drawn: int, seconds: float, energy: Energy | None) -> None:
        self.drawn += drawn
        self.seconds += seconds
        if energy is None:
            self._metered = False
        elif self._metered:
            parts = [*self._energies, energy]
            whole = total(parts, one_meter=True)
            self._energies = [] if whole is None else [whole]

    @property
    def energy(self) -> Energy | None:
        return total(self._energies) if self._metered else None


class _Work:
    """A request on its way."""

    def __init__(
        self, request: SyntheticRequest, counts: tuple[int, ...], seeds: list[int]
    ) -> None:
        self.request = request
        labels = np.repeat(np.arange(len(counts)), counts).tolist()
        self.places: list[tuple[int, int]] = list(zip(labels, seeds, strict=True))
        self.lacking = deque(self.places)
        self.tally = _Tally()
        self.error = ""


class BatchService:
    """Makes batches.

    Args:
        generator: what draws the images.
        images_max: most images in one request.
        gate: judges them; ``None`` keeps everything but images of one colour.
        pool: keeps them; by default in memory.
        metered: meters the drawing; by default nothing does.
        share_images: give all devices the same images instead of images of their own.
        chunk: images drawn together; halved while they do not fit into memory.

    Raises:
        ValueError: images_max or chunk below 1.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        images_max: int = 10_000,
        gate: Gate | None = None,
        pool: Pool | None = None,
        metered: Metered | None = None,
        share_images: bool = False,
        chunk: int = CHUNK,
    ) -> None:
        if images_max < 1:
            raise ValueError(f"images_max is {images_max}; allow at least one image per request")
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; draw at least one image at a time")
        self.generator = generator
        self.images_max = images_max
        self._gate = gate
        self._finite = isinstance(generator, FiniteGenerator)
        self._redraws = (gate.settings if gate else GateSettings()).redraws
        self._pool = pool or Pool(None, generator.image_shape, made_by(generator, gate))
        self._metered = metered or Metered()
        self._share_images = share_images
        self._chunk = chunk
        self._queue: deque[_Work] = deque()
        self._tally = _Tally()
        self._provenance = msgspec.json.encode(generator.provenance).decode()

    @property
    def busy(self) -> bool:
        """Whether there is work to do."""
        return bool(self._queue)

    @property
    def progress(self) -> Progress:
        """Where the queue is."""
        return Progress(
            lacking=sum(len(work.lacking) for work in self._queue),
            devices=len(self._queue),
            drawn=self._tally.drawn,
            refused=dict(self._tally.refused),
            seconds=self._tally.seconds,
            energy=self._tally.energy,
        )

    def submit(self, request: SyntheticRequest) -> None:
        """Take a request; :meth:`work` gives its batch.

        Raises:
            RequestRefusedError: unknown classes, negative counts, or too many images.
        """
        self._check(request)
        owner = "" if self._share_images else request.device
        counts, generator, skip = request.counts, self.generator, request.skip
        if isinstance(generator, FiniteGenerator):
            seeds = stock_seeds(request.seed, owner, counts, generator.stock, skip)
            counts = tuple(map(min, counts, _left(generator, skip)))
        else:
            seeds = image_seeds(request.seed, owner, counts, skip)
        self._queue.append(_Work(request, counts, seeds.tolist()))

    def withdraw(self, request: SyntheticRequest) -> None:
        """Forget a request that was submitted; what was drawn for it stays in the pool."""
        self._queue = deque(work for work in self._queue if work.request != request)

    def work(self) -> list[MadeBatch]:
        """Draw one chunk; returns the batches that are ready now, in the order of requests."""
        chosen = self._choose()
        if chosen:
            self._draw(chosen)
        ready = [work for work in self._queue if work.error or not work.lacking]
        self._queue = deque(work for work in self._queue if work.lacking and not work.error)
        return [self._pack(work) for work in ready]

    def make(self, request: SyntheticRequest) -> MadeBatch:
        """Serve one request to its end.

        Raises:
            RequestRefusedError: unknown classes, negative counts, or too many images.
            RuntimeError: while other requests wait.
        """
        if self.busy:
            raise RuntimeError("other requests wait; use submit and work")
        self.submit(request)
        while not (ready := self.work()):
            pass
        return ready[0]

    def release(self) -> None:
        """A run is over: forget its images, unless the pool keeps them on disk."""
        self._pool.release()

    def close(self) -> None:
        """Close the pool and stop the meters."""
        self._pool.close()
        self._metered.close()

    def _check(self, request: SyntheticRequest) -> None:
        who = f"request for device {request.device!r}"
        counts, classes = request.counts, self.generator.classes
        if len(counts) != classes:
            raise RequestRefusedError(
                f"{who} names {len(counts)} classes, {self.generator.name} knows {classes}; "
                "coordinator and generator node must use the same data set"
            )
        if request.skip and len(request.skip) != classes:
            raise RequestRefusedError(
                f"{who} skips images of {len(request.skip)} classes, "
                f"{self.generator.name} knows {classes}"
            )
        if min(counts) < 0:
            raise RequestRefusedError(
                f"{who} asks for {min(counts)} images of class {counts.index(min(counts))}; "
                "counts cannot be negative"
            )
        if (wanted := sum(counts)) > self.images_max:
            raise RequestRefusedError(
                f"{who} asks for {wanted} images, the limit is {self.images_max}; raise "
                "generator.images_max, or ask for fewer"
            )

    def _choose(self) -> list[tuple[_Work, int, int]]:
        """Up to a chunk of (work, class, address) to draw; what is settled is struck off."""
        chosen: list[tuple[_Work, int, int]] = []
        taken: set[tuple[int, int]] = set()
        for work in self._queue:
            waiting: deque[tuple[int, int]] = deque()
            while work.lacking and len(chosen) < self._chunk:
                class_id, address = place = work.lacking.popleft()
                if self._settled(place):
                    continue
                waiting.append(place)
                if place not in taken:  # shared images: another device's draw will do
                    taken.add(place)
                    chosen.append((work, class_id, address))
            work.lacking.extendleft(reversed(waiting))
            if len(chosen) >= self._chunk:
                break
        return chosen

    def _draw(self, chosen: list[tuple[_Work, int, int]]) -> None:
        works = list(dict.fromkeys(work for work, _, _ in chosen))
        try:
            with self._metered.span() as span:
                count = self._draw_and_keep([(label, address) for _, label, address in chosen])
        except Exception as error:  # one bad chunk must not end the service
            log.warning("drawing %d images failed", len(chosen), exc_info=True)
            for work in works:
                work.error = f"{type(error).__name__}: {error}"
            return
        self._tally.add(count, span.seconds, span.energy)
        drawn = chosen[:count]
        verdicts = self._verdicts(drawn)
        self._tally.refused.update(verdict for verdict in verdicts if verdict != "kept")
        for work in works:
            own = [v for v, (of, _, _) in zip(verdicts, drawn, strict=True) if of is work]
            if own:
                part = len(own) / count
                energy = span.energy and share(span.energy, part)
                work.tally.add(len(own), span.seconds * part, energy)
                work.tally.refused.update(verdict for verdict in own if verdict != "kept")
        for work in works:
            work.lacking = deque(place for place in work.lacking if not self._settled(place))

    def _verdicts(self, drawn: list[tuple[_Work, int, int]]) -> list[Verdict]:
        return [self._pool.verdict(class_id, address) for _, class_id, address in drawn]

    def _settled(self, place: tuple[int, int]) -> bool:
        """Whether there is an image at a place, or none will come of drawing there again."""
        return self._pool.kept(*place) or self._pool.attempt(*place) > self._redraws

    def _draw_and_keep(self, places: list[tuple[int, int]]) -> int:
        """Draw, judge and keep as many of ``places`` as fit into memory; how many."""
        chunk = len(places)
        while True:
            part = places[:chunk]
            try:
                self._keep(part, *self._images(part))
            except Exception as error:
                if chunk == 1 or not out_of_memory(error):
                    raise
                chunk = -(-chunk // 2)
                self._chunk = chunk
                log.warning("out of memory (%s); %d images at a time from now on", error, chunk)
            else:
                return chunk

    def _images(self, places: list[tuple[int, int]]) -> tuple[list[int], Labels, Images]:
        attempts = [self._pool.attempt(*place) for place in places]
        labels = np.array([class_id for class_id, _ in places], np.int64)
        seeds = np.array(
            [redraw_seed(a, k) for (_, a), k in zip(places, attempts, strict=True)], np.uint64
        )
        return attempts, labels, self.generator.generate(labels, seeds)

    def _keep(
        self, places: list[tuple[int, int]], attempts: list[int], labels: Labels, images: Images
    ) -> None:
        flat = images.reshape(len(images), -1)
        blank = (np.ptp(flat, 1) == 0) & (not self._finite)  # what there is is never altered
        verdicts: list[Verdict] = ["blank" if empty else "kept" for empty in blank]
        confidence = np.full(len(places), np.nan, np.float32)
        if self._gate:
            judged = self._gate.judge(images, labels)
            verdicts, confidence = list(judged.verdicts), judged.confidence
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

    def _pack(self, work: _Work) -> MadeBatch:
        started = time.monotonic()
        there = [place for place in work.places if self._pool.kept(*place)]
        counts = work.request.counts
        found = Counter(class_id for class_id, _ in there)
        delivered = tuple(found[class_id] for class_id in range(len(counts)))
        data = b""
        if there:
            images = np.stack([self._pool.image(*place) for place in there])
            labels = np.array([class_id for class_id, _ in there], np.int64)
            if work.request.unlabelled:
                order = np.random.default_rng(work.request.seed).permutation(len(there))
                data = encode_unlabelled(images[order], self._provenance)
            else:
                data = encode(images, labels, self._provenance)
        tally = work.tally
        error = work.error or "; ".join(self._shortfall(work, len(there)))
        return MadeBatch(
            request=work.request,
            data=data,
            delivered=delivered,
            seconds=tally.seconds + time.monotonic() - started if work.places else 0.0,
            drawn=tally.drawn,
            refused=dict(tally.refused),
            energy=tally.energy,
            error=error,
            failed=bool(work.error),
        )

    def _shortfall(self, work: _Work, there: int) -> Iterator[str]:
        """Why ``there`` images are fewer than were asked."""
        asked, generator = work.request.counts, self.generator
        if isinstance(generator, FiniteGenerator) and sum(asked) > len(work.places):
            left = _left(generator, work.request.skip)
            short = [
                f"{there} of {count} of class {class_id}"
                for class_id, (count, there) in enumerate(zip(asked, left, strict=True))
                if there < count
            ]
            yield f"{generator.name} are used up: {', '.join(short)}"
        if there < len(work.places):
            refused = sorted(work.tally.refused.items())
            reasons = ", ".join(f"{n} {why}" for why, n in refused)
            yield (
                f"{len(work.places) - there} of {len(work.places)} images were refused by "
                f"the quality gate at every attempt{f' ({reasons})' if reasons else ''}"
            )


def _left(generator: FiniteGenerator, skip: Sequence[int]) -> tuple[int, ...]:
    """Images of each class that there are after the first ones."""
    return tuple(
        max(stock - first, 0)
        for stock, first in zip(generator.stock, skip or (0,) * len(generator.stock), strict=True)
    )


def made_by(generator: Generator, gate: Gate | None) -> str:
    """Everything that decides the pixels of a draw and its verdict, as JSON."""
    return msgspec.json.encode(
        {
            "provenance": msgspec.to_builtins(generator.provenance),
            "image_shape": generator.image_shape,
            "gate": gate.describe() if gate else "",
        }
    ).decode()

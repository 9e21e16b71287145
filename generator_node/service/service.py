"""From devices' requests to their batches: one queue, drawn in chunks across devices. No network.

:meth:`BatchService.submit` takes requests. Every :meth:`BatchService.work` draws one chunk of
missing images, for the first request first, and fills up the chunk with images of the next
requests. Draws are judged and kept (:mod:`fimi.generator_node.service.drawing`). A batch is
returned (:mod:`fimi.generator_node.service.device_batch`) as soon as it is complete, or as complete
as it can be: it states its counts, the refused images and any error. Until the generator's trial
(:mod:`fimi.generator_node.service.trial`) has ended well, batches wait as long as there are images
to draw; if it ends badly, all requests are refused.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from fimi.energy.joules import Energy, share
from fimi.energy.work_meter import Metered
from fimi.generator_node.generators.base import FiniteGenerator, Generator
from fimi.generator_node.service.device_batch import DrawingTally, MadeBatch, Making, left_of
from fimi.generator_node.service.drawing import Drawing, Place, made_by
from fimi.generator_node.service.gate import Gate
from fimi.generator_node.service.pool import Pool
from fimi.generator_node.service.seeds import image_seeds, stock_seeds
from fimi.generator_node.service.showcase import Showcase
from fimi.generator_node.service.trial import ClassesSeen, GeneratorTrial
from fimi.messaging.messages.synthesis import SamplePicture, SyntheticRequest

CHUNK = 256
"""Most images of a chunk."""

log = logging.getLogger(__name__)


class RequestRefusedError(ValueError):
    """A request cannot be served; the message says which value is wrong."""


class QueueProgress(Struct, frozen=True, kw_only=True):
    """Progress of the queue.

    Attributes:
        lacking: images that are still to be drawn, if none is refused.
        devices: batches that are not ready yet.
        drawn: images drawn since the service began.
        refused: how many of those were refused, by verdict.
        seconds: time of drawing, s.
        energy: energy of drawing, or ``None`` where a part of it is unmetered.
    """

    lacking: int
    devices: int
    drawn: int
    refused: dict[str, int]
    seconds: float
    energy: Energy | None


class BatchService:
    """Makes the batches of requests.

    Args:
        generator: the generator.
        images_max: most images in one request.
        gate: judges images; ``None`` accepts all but images of one colour.
        trial: whether a generator of no use is refused; by the judge of the gate, where there is
            one.
        pool: keeps draws; by default in memory.
        metered: meters the drawing; by default it is unmetered.
        share_images: whether all devices get the same images instead of images of their own.
        chunk: most images drawn together; fewer at first, and where these take long or do not fit
            into memory (:mod:`fimi.generator_node.service.drawing`).

    Raises:
        ValueError: images_max or chunk is below 1.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        images_max: int = 10_000,
        gate: Gate | None = None,
        trial: bool = True,
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
        self._pool = pool or Pool(None, generator.image_shape, made_by(generator, gate))
        self._metered = metered or Metered()
        self._share_images = share_images
        tried = _trial(gate, self._pool) if gate and trial else None
        self._drawing = Drawing(generator, gate, self._pool, chunk, trial=tried)
        self._queue: deque[Making] = deque()
        self._tally = DrawingTally()
        self._provenance = msgspec.json.encode(generator.provenance).decode()

    @property
    def busy(self) -> bool:
        """Whether there is work to do."""
        return bool(self._queue)

    @property
    def progress(self) -> QueueProgress:
        """Progress of the queue."""
        return QueueProgress(
            lacking=sum(len(making.lacking) for making in self._queue),
            devices=len(self._queue),
            drawn=self._tally.drawn,
            refused=dict(self._tally.refused),
            seconds=self._tally.seconds,
            energy=self._tally.energy,
        )

    def submit(self, request: SyntheticRequest) -> None:
        """Take a request; :meth:`work` returns its batch.

        Raises:
            RequestRefusedError: a class is unknown, a count is negative, there are too many
                images, or the generator is of no use.
        """
        self._check(request)
        if useless := self._useless():
            raise RequestRefusedError(useless)
        owner = "" if self._share_images else request.device
        counts, generator, skip = request.counts, self.generator, request.skip
        if isinstance(generator, FiniteGenerator):
            seeds = stock_seeds(request.seed, owner, counts, generator.stock, skip)
            counts = tuple(map(min, counts, left_of(generator, skip)))
        else:
            seeds = image_seeds(request.seed, owner, counts, skip)
        self._queue.append(Making(request, counts, seeds.tolist()))

    def withdraw(self, request: SyntheticRequest) -> None:
        """Drop a request that was submitted; its draws stay in the pool."""
        self._queue = deque(each for each in self._queue if each.request != request)

    def work(self) -> list[MadeBatch]:
        """Draw one chunk; returns the batches that are ready, in the order of requests."""
        chosen = self._choose()
        if chosen:
            self._draw(chosen)
        if useless := self._useless():
            for making in self._queue:
                making.refuse(useless)
        ready = [making for making in self._queue if making.ready]
        if self._awaits_trial():
            ready = [making for making in ready if making.error]
        self._queue = deque(making for making in self._queue if making not in ready)
        return [making.batch(self._pool, self.generator, self._provenance) for making in ready]

    def samples(self, made: MadeBatch, showcase: Showcase) -> Iterator[tuple[SamplePicture, ...]]:
        """Pictures of a batch for people to look at: of classes that were not shown yet."""
        run = (made.request.run, made.request.instance)
        return showcase.show(run, made.firsts, self._pool)

    def make(self, request: SyntheticRequest) -> MadeBatch:
        """Make the batch of one request.

        Raises:
            RequestRefusedError: see :meth:`submit`.
            RuntimeError: other requests are waiting.
        """
        if self.busy:
            raise RuntimeError("other requests wait; use submit and work")
        self.submit(request)
        while not (ready := self.work()):
            pass
        return ready[0]

    def release(self) -> None:
        """Drop the images of a run that has ended, unless the pool keeps them on disk."""
        self._pool.release()

    def close(self) -> None:
        """Close the pool and stop the meters."""
        self._pool.close()
        self._metered.close()

    def _awaits_trial(self) -> bool:
        """Whether the trial is open, and draws that are still to be made go on with it."""
        trial = self._drawing.trial
        lacking = any(making.lacking and not making.error for making in self._queue)
        return trial is not None and trial.result == "open" and lacking

    def _useless(self) -> str:
        """Why the generator is of no use and what to do; empty if it may be of use."""
        trial = self._drawing.trial
        if trial is None or trial.result != "useless":
            return ""
        return (
            f"{self.generator.name} is of no use, nothing of it is shipped: {trial.seen}, while of "
            f"public images {sum(trial.of_public.right) / sum(trial.of_public.ordered):.0%} do. "
            "Look at its images with `fimi generator evaluate --out`; train it longer (--steps) or "
            "name another generator.weights; generator.kind = 'bootstrap' and --strategy tfl need "
            "no trained generator"
        )

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

    def _choose(self) -> list[tuple[Making, Place]]:
        """Up to a chunk of places to draw at, with their requests; settled places are removed."""
        chosen: list[tuple[Making, Place]] = []
        taken: set[Place] = set()
        most = self._drawing.chunk
        for making in self._queue:
            waiting: deque[Place] = deque()
            while making.lacking and len(chosen) < most:
                place = making.lacking.popleft()
                if self._drawing.settled(place):
                    continue
                waiting.append(place)
                if place not in taken:  # with shared images, one draw is for several devices
                    taken.add(place)
                    chosen.append((making, place))
            making.lacking.extendleft(reversed(waiting))
            if len(chosen) >= most:
                break
        return chosen

    def _draw(self, chosen: list[tuple[Making, Place]]) -> None:
        makings = list(dict.fromkeys(making for making, _ in chosen))
        open_before = self._drawing.trial is not None and self._drawing.trial.result == "open"
        try:
            with self._metered.span() as span:
                verdicts = self._drawing.draw([place for _, place in chosen])
        except Exception as error:  # one bad chunk must not end the service
            log.warning("drawing %d images failed", len(chosen), exc_info=True)
            for making in makings:
                making.error = f"{type(error).__name__}: {error}"
            return
        if self._drawing.trial and open_before and self._drawing.trial.result != "open":
            log.info("%s: %s", self.generator.name, self._drawing.trial.seen)
        self._tally.add(verdicts, span.seconds, span.energy)
        for making in makings:
            own = [v for v, (of, _) in zip(verdicts, chosen, strict=False) if of is making]
            if own:
                part = len(own) / len(verdicts)
                energy = span.energy and share(span.energy, part)
                making.tally.add(own, span.seconds * part, energy)
            settled = self._drawing.settled
            making.lacking = deque(place for place in making.lacking if not settled(place))


def _trial(gate: Gate, pool: Pool) -> GeneratorTrial:
    """The trial, which goes on where the pool's last node left it."""
    try:
        seen = msgspec.json.decode(pool.remembered() or b"null", type=ClassesSeen | None)
    except (OSError, msgspec.DecodeError) as error:
        log.warning("what was seen on trial cannot be read, it begins again: %s", error)
        seen = None
    trial = GeneratorTrial(gate, seen)
    if trial.result == "untried":
        log.warning(
            "the judge knows not even public images (%s), so that a generator of no use would not "
            "be noticed; take more public images",
            trial.of_public,
        )
    return trial

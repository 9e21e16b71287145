"""One device's batch while it is made: the missing images, the time and joules, and the bytes."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct

from fimi.energy.joules import Energy, total
from fimi.generator_node.generators.base import FiniteGenerator, Generator
from fimi.generator_node.service.drawing import Place
from fimi.generator_node.service.pool import Pool, Verdict
from fimi.learning.data.batches import encode, encode_unlabelled
from fimi.messaging.messages.synthesis import SyntheticRequest


class MadeBatch(Struct, frozen=True, kw_only=True):
    """A device's batch.

    Attributes:
        request: the request.
        data: bytes of :func:`fimi.learning.data.batches.encode`; empty for no images.
        delivered: images per class.
        seconds: wall time of drawing and encoding it, s; of chunks for several devices, its share.
        drawn: images that were drawn for it now, without those that the pool held already.
        refused: how many of those the gate refused, by verdict.
        energy: energy of drawing them, idle power included; ``None`` where it was unmetered, or
            where nothing was drawn.
        error: why it has fewer images than requested, or empty.
        failed: whether an error occurred, so that a repeated request may help.
        firsts: the place of the first image of each class in the pool.
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
    firsts: tuple[Place, ...] = ()


class DrawingTally:
    """Draws so far, with their verdicts, seconds and joules."""

    def __init__(self) -> None:
        self.drawn = 0
        self.seconds = 0.0
        self.refused: Counter[str] = Counter()
        self._energies: list[Energy] = []
        self._metered = True

    def add(self, verdicts: list[Verdict], seconds: float, energy: Energy | None) -> None:
        """Count draws with their verdicts, seconds and joules."""
        self.drawn += len(verdicts)
        self.seconds += seconds
        self.refused.update(verdict for verdict in verdicts if verdict != "kept")
        if energy is None:
            self._metered = False
        elif self._metered:
            whole = total([*self._energies, energy], one_meter=True)
            self._energies = [] if whole is None else [whole]

    @property
    def energy(self) -> Energy | None:
        """Energy, idle power included; ``None`` if a part is unmetered, or nothing was drawn."""
        return total(self._energies) if self._metered else None


class Making:
    """A request whose batch is being made.

    Args:
        request: the request.
        counts: images per class, at most those requested.
        addresses: one per image, sorted by class.

    Attributes:
        lacking: places that are not settled yet; classes take turns.
        tally: draws for it so far.
        error: the error that occurred, or empty; after an error nothing more is drawn for it.
    """

    def __init__(
        self, request: SyntheticRequest, counts: tuple[int, ...], addresses: list[int]
    ) -> None:
        self.request = request
        labels = np.repeat(np.arange(len(counts)), counts).tolist()
        self._places: list[Place] = list(zip(labels, addresses, strict=True))
        ranks = [rank for count in counts for rank in range(count)]
        by_turns = sorted(zip(ranks, self._places, strict=True))
        self.lacking = deque(place for _, place in by_turns)
        self.tally = DrawingTally()
        self.error = ""

    def refuse(self, why: str) -> None:
        """Give it no image at all."""
        self._places, self.error = [], why

    @property
    def ready(self) -> bool:
        """Whether its batch is as complete as it can be."""
        return bool(self.error) or not self.lacking

    def batch(self, pool: Pool, generator: Generator, provenance: str) -> MadeBatch:
        """The batch with those of its images that the pool holds."""
        started = time.monotonic()
        there = [place for place in self._places if pool.kept(*place)]
        found = Counter(class_id for class_id, _ in there)
        data = b""
        if there:
            images = np.stack([pool.image(*place) for place in there])
            labels = np.array([class_id for class_id, _ in there], np.int64)
            under = self.request.contract.digest if self.request.contract else ""
            if self.request.unlabelled:
                order = np.random.default_rng(self.request.seed).permutation(len(there))
                data = encode_unlabelled(images[order], provenance, contract=under)
            else:
                data = encode(images, labels, provenance, contract=under)
        return MadeBatch(
            request=self.request,
            data=data,
            delivered=tuple(found[class_id] for class_id in range(len(self.request.counts))),
            seconds=self.tally.seconds + time.monotonic() - started if self._places else 0.0,
            drawn=self.tally.drawn,
            refused=dict(self.tally.refused),
            energy=self.tally.energy,
            error=self.error or "; ".join(self._shortfall(generator, len(there))),
            failed=bool(self.error),
            firsts=tuple({place[0]: place for place in reversed(there)}.values()),
        )

    def _shortfall(self, generator: Generator, there: int) -> Iterator[str]:
        """Why ``there`` images are fewer than requested."""
        asked, planned = self.request.counts, len(self._places)
        if isinstance(generator, FiniteGenerator) and sum(asked) > planned:
            left = left_of(generator, self.request.skip)
            short = [
                f"{stock} of {count} of class {class_id}"
                for class_id, (count, stock) in enumerate(zip(asked, left, strict=True))
                if stock < count
            ]
            yield f"{generator.name} are used up: {', '.join(short)}"
        if there < planned:
            refused = sorted(self.tally.refused.items())
            reasons = ", ".join(f"{n} {why}" for why, n in refused)
            yield (
                f"{planned - there} of {planned} images were refused by "
                f"the quality gate at every attempt{f' ({reasons})' if reasons else ''}"
            )


def left_of(generator: FiniteGenerator, skip: Sequence[int]) -> tuple[int, ...]:
    """Number of images of each class that are left after the first ones."""
    return tuple(
        max(stock - first, 0)
        for stock, first in zip(generator.stock, skip or (0,) * len(generator.stock), strict=True)
    )

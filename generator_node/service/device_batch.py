"""One device's batch in the making: what of it lacks, what it took, and its bytes in the end."""

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
from fimi.messaging.messages import SyntheticRequest


class MadeBatch(Struct, frozen=True, kw_only=True):
    """A device's batch.

    Attributes:
        request: what was asked.
        data: what :func:`fimi.learning.data.batches.encode` wrote; empty for no images.
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


class DrawingTally:
    """What drawing took so far."""

    def __init__(self) -> None:
        self.drawn = 0
        self.seconds = 0.0
        self.refused: Counter[str] = Counter()
        self._energies: list[Energy] = []
        self._metered = True

    def add(self, verdicts: list[Verdict], seconds: float, energy: Energy | None) -> None:
        """Count draws, what became of them, and what they took."""
        self.drawn += len(verdicts)
        self.seconds += seconds
        self.refused.update(verdict for verdict in verdicts if verdict != "kept")
        if energy is None:
            self._metered = False
        elif self._metered:
            parts = [*self._energies, energy]
            whole = total(parts, one_meter=True)
            self._energies = [] if whole is None else [whole]

    @property
    def energy(self) -> Energy | None:
        """Idle power included; ``None`` if it was not metered throughout, or nothing was drawn."""
        return total(self._energies) if self._metered else None


class Making:
    """A request on its way.

    Args:
        request: what was asked.
        counts: images per class that it is to have, no more than were asked.
        addresses: one per image, sorted by class.

    Attributes:
        lacking: places that are not settled yet.
        tally: what drawing for it took.
        error: what broke; a batch with an error is not drawn for any more.
    """

    def __init__(
        self, request: SyntheticRequest, counts: tuple[int, ...], addresses: list[int]
    ) -> None:
        self.request = request
        labels = np.repeat(np.arange(len(counts)), counts).tolist()
        self._places: list[Place] = list(zip(labels, addresses, strict=True))
        self.lacking = deque(self._places)
        self.tally = DrawingTally()
        self.error = ""

    @property
    def ready(self) -> bool:
        """Whether nothing more will be drawn for it."""
        return bool(self.error) or not self.lacking

    def batch(self, pool: Pool, generator: Generator, provenance: str) -> MadeBatch:
        """What there is of it, from the pool.

        Args:
            pool: holds its images.
            generator: what drew them.
            provenance: a note for the batch.
        """
        started = time.monotonic()
        there = [place for place in self._places if pool.kept(*place)]
        found = Counter(class_id for class_id, _ in there)
        data = b""
        if there:
            images = np.stack([pool.image(*place) for place in there])
            labels = np.array([class_id for class_id, _ in there], np.int64)
            if self.request.unlabelled:
                order = np.random.default_rng(self.request.seed).permutation(len(there))
                data = encode_unlabelled(images[order], provenance)
            else:
                data = encode(images, labels, provenance)
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
        )

    def _shortfall(self, generator: Generator, there: int) -> Iterator[str]:
        """Why ``there`` images are fewer than were asked."""
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
    """Images of each class that there are after the first ones."""
    return tuple(
        max(stock - first, 0)
        for stock, first in zip(generator.stock, skip or (0,) * len(generator.stock), strict=True)
    )

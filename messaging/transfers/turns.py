"""What a holder is asked for, and in what order it answers: everybody in turn, chunk by chunk.

:class:`Requests` is bounded for each asker and in all, so that whoever asks for much, or again and
again, delays only itself. It has no network, no thread and no clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from msgspec import Struct

MAX_RUNS = 64
"""Most runs of blocks that one asker may have waiting."""
MAX_BLOCKS_WAITING = 16 * 1024
"""Most blocks of them, which are 16 MB."""
MAX_ASKERS = 2048
"""Most askers that may have something waiting."""


class Asked(Struct, frozen=True):
    """Blocks that were asked for: those of ``digest`` from ``start`` to before ``stop``.

    Attributes:
        digest: of the payload.
        start: the first block.
        stop: the block after the last one.
        chunk_blocks: most of them that go into one chunk.
    """

    digest: str
    start: int
    stop: int
    chunk_blocks: int


class Requests:
    """What was asked for and has not been sent."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Asked]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, asker: str, asked: Asked) -> int | None:
        """Note a request, without the blocks for which the asker waits already.

        Returns:
            How many blocks are new; ``None`` if there was no room for them.
        """
        queue = self._queues.get(asker)
        if queue is None:
            if len(self._queues) >= MAX_ASKERS:
                return None
            queue = deque()
        left = [(asked.start, asked.stop)]
        for known in queue:
            if known.digest == asked.digest:
                left = [part for each in left for part in without(each, (known.start, known.stop))]
        waiting = sum(known.stop - known.start for known in queue)
        blocks = sum(stop - start for start, stop in left)
        if len(queue) + len(left) > MAX_RUNS or waiting + blocks > MAX_BLOCKS_WAITING:
            return None
        for start, stop in left:
            queue.append(Asked(asked.digest, start, stop, asked.chunk_blocks))
        if queue:
            self._queues[asker] = queue
        return blocks

    def waits(self, asker: str) -> bool:
        """Whether something of this asker waits."""
        return asker in self._queues

    def next(self) -> tuple[str, Asked] | None:
        """The asker whose turn it is, and the blocks of the chunk to send to it."""
        if not self._queues:
            return None
        asker, queue = self._queues.popitem(last=False)
        asked = queue.popleft()
        stop = min(asked.stop, asked.start + asked.chunk_blocks)
        if stop < asked.stop:
            queue.appendleft(Asked(asked.digest, stop, asked.stop, asked.chunk_blocks))
        if queue:
            self._queues[asker] = queue  # behind all others
        return asker, Asked(asked.digest, asked.start, stop, asked.chunk_blocks)

    def forget(self, digest: str) -> None:
        """Drop all requests for a payload."""
        for asker, queue in list(self._queues.items()):
            left = deque(asked for asked in queue if asked.digest != digest)
            if left:
                self._queues[asker] = left
            else:
                del self._queues[asker]


def without(whole: tuple[int, int], part: tuple[int, int]) -> list[tuple[int, int]]:
    """What is left of a range without another one."""
    (start, stop), (begin, end) = whole, part
    left = [(start, min(stop, begin)), (max(start, end), stop)]
    return [(a, b) for a, b in left if a < b]

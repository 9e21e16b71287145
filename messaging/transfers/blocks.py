"""A payload as blocks of one size: which of them are here, which were asked for, which are next.

A block is the unit in which a payload is asked for, acknowledged and resumed; a chunk, one message,
carries as many consecutive blocks as suit the link. Blocks are the same for everybody and for ever,
so that a download goes on after either side, or the broker, was started again. There is no network,
no thread and no clock here.
"""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 1024
MAX_BLOCKS = 1 << 20
"""Most blocks of a payload, which is 1 GiB."""

_UNASKED, _ASKED, _HERE = 0, 1, 2


def block_count(size_bytes: int) -> int:
    """Number of blocks of a payload; an empty payload has none."""
    return -(-size_bytes // BLOCK_BYTES)


def block_bounds(size_bytes: int, start: int, stop: int) -> tuple[int, int]:
    """Where blocks ``start`` to ``stop`` (exclusive) begin and end in the payload, bytes.

    Raises:
        IndexError: the payload has no such blocks.
    """
    if not 0 <= start < stop <= block_count(size_bytes):
        raise IndexError(f"no blocks {start} to {stop} in {size_bytes} B")
    return start * BLOCK_BYTES, min(stop * BLOCK_BYTES, size_bytes)


def blocks_of(size_bytes: int) -> int:
    """Blocks that fit into so many bytes, at least one."""
    return max(1, size_bytes // BLOCK_BYTES)


def packed_bytes(count: int) -> int:
    """Size of :meth:`Blocks.packed`, bytes."""
    return -(-count // 8)


class Blocks:
    """The state of every block of one payload."""

    def __init__(self, count: int) -> None:
        """``count`` blocks, of which none is here."""
        self.count = count
        self.missing = count
        self._state = bytearray(count)

    def next_run(self, begin: int, most: int) -> tuple[int, int] | None:
        """The first blocks from ``begin`` on, in a circle, that nobody was asked for.

        Returns:
            ``(start, stop)`` of at most ``most`` of them in a row; ``None`` if there are none.
        """
        start = self._state.find(_UNASKED, begin)
        if start < 0:
            start = self._state.find(_UNASKED)
        if start < 0:
            return None
        stop = min(start + most, self.count)
        for other in (_ASKED, _HERE):
            if (found := self._state.find(other, start, stop)) >= 0:
                stop = found
        return start, stop

    def ask(self, start: int, stop: int) -> None:
        """Note that blocks which are not here were asked for."""
        self._replace(start, stop, _UNASKED, _ASKED)

    def unask(self, start: int, stop: int) -> None:
        """Note that those of these blocks that are not here have to be asked for again."""
        self._replace(start, stop, _ASKED, _UNASKED)

    def asked(self, start: int, stop: int) -> bool:
        """Whether one of these blocks was asked for and is not here."""
        return self._state.find(_ASKED, start, stop) >= 0

    def has(self, start: int, stop: int) -> bool:
        """Whether all of these blocks are here."""
        return not self.lacking(start, stop)

    def lacking(self, start: int, stop: int) -> int:
        """How many of these blocks are not here."""
        return (stop - start) - self._state.count(_HERE, start, stop)

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Those of these blocks that are not here, as ``(start, stop)`` of each stretch."""
        found = []
        while start < stop:
            here = self._state.find(_HERE, start, stop)
            end = stop if here < 0 else here
            if start < end:
                found.append((start, end))
            start = self.here_from(end) if end < stop else stop
        return found

    def add(self, start: int, stop: int) -> int:
        """Note that these blocks are here; returns how many were not before."""
        new = self.lacking(start, stop)
        self._state[start:stop] = bytes([_HERE]) * (stop - start)
        self.missing -= new
        return new

    def here_from(self, begin: int) -> int:
        """End of the blocks that are here without a gap from ``begin`` on."""
        gaps = [self._state.find(other, begin) for other in (_UNASKED, _ASKED)]
        return min((gap for gap in gaps if gap >= 0), default=self.count)

    def packed(self) -> bytes:
        """Which blocks are here, one bit each."""
        return np.packbits(np.frombuffer(self._state, np.uint8) == _HERE).tobytes()

    def restore(self, packed: bytes) -> None:
        """Take over :meth:`packed` of an earlier download of the same payload.

        Raises:
            ValueError: it belongs to a payload of another size.
        """
        if len(packed) != packed_bytes(self.count):
            raise ValueError(f"{len(packed)} B do not say which of {self.count} blocks are here")
        here = np.unpackbits(np.frombuffer(packed, np.uint8), count=self.count)
        self._state = bytearray((here * np.uint8(_HERE)).tobytes())
        self.missing = self.count - int(here.sum())

    def _replace(self, start: int, stop: int, old: int, new: int) -> None:
        part = self._state[start:stop]
        self._state[start:stop] = part.replace(bytes([old]), bytes([new]))

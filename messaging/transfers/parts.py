"""Where a payload is put together: in memory, or in a file, so that a download can be resumed.

* :class:`InMemory`  a payload in memory
* :class:`InFile`    a payload in a file; what has come is noted behind it
* :class:`PartFiles`     the files of a folder, bounded in bytes

A file is named by the payload's digest: ``<digest>.part`` as long as something is missing, the
payload and then a bit for each block; ``<digest>.whole`` once all has come and the digest is right.
The bits are written at most once a second and when the download ends. After a power cut they may
say more than the file holds, which the digest shows: then the download begins anew. Two downloads
of the same bytes share the file: the first one to end makes it whole, the other one finds it so.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections import deque
from pathlib import Path
from typing import Protocol

from fimi.files import is_at
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.blocks import Blocks, block_count, packed_bytes

NOTE_S = 1.0
"""Shortest time between two notes of what has come, s."""
NOTE_BYTES = 1 << 20
"""Nor is it noted before so many bytes more have come."""
MAX_BYTES = 512 << 20
"""Most bytes of all files of a folder; the oldest go first."""
MAX_UNREAD_BYTES = 8 << 20
"""So much of a payload in memory waits to be read by the digest as it came; more is read later."""
_READ_BYTES = 1 << 20
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Store(Protocol):
    """Where the blocks of one payload are put.

    Attributes:
        blocks: which are here.
        is_quick: whether to put something there never takes long.
    """

    blocks: Blocks
    is_quick: bool

    def write(self, start_byte: int, data: memoryview) -> None:
        """Put bytes in their place; raises ``OSError`` where there is no room."""

    def read_on(self) -> None:
        """Read on in the digest as far as blocks are here without a gap."""

    def digest(self) -> str:
        """SHA-256 of the payload, of which every block must be here."""

    def begin_anew(self) -> bool:
        """Drop all blocks, if some are of an earlier download; returns whether that is so."""

    def settle(self) -> None:
        """The payload is whole and verified."""

    def payload(self) -> bytes:
        """All of a settled payload."""

    def close(self) -> None:
        """Nothing more will be written; what has come stays where it can be resumed."""


class InMemory:
    """A payload in memory, which is taken as the payload comes."""

    is_quick = True

    def __init__(self, size_bytes: int) -> None:
        """Room for so many bytes."""
        self.blocks = Blocks(block_count(size_bytes))
        self._size_bytes = size_bytes
        self._data = io.BytesIO()  # gives its bytes away at the end without another copy
        self._sha = hashlib.sha256()
        self._unread: deque[memoryview] = deque()  # in order, from self._read on
        self._read = self._next = 0

    def write(self, start_byte: int, data: memoryview) -> None:
        """Put bytes in their place."""
        self._data.seek(start_byte)
        self._data.write(data)
        if start_byte == self._next and self._next - self._read < MAX_UNREAD_BYTES:
            self._unread.append(data)
            self._next += len(data)

    def read_on(self) -> None:
        """Read on in the digest as far as the payload came in order."""
        while self._unread:
            data = self._unread.popleft()
            self._sha.update(data)
            self._read += len(data)

    def digest(self) -> str:
        """SHA-256 of the payload, of which every block must be here."""
        self.read_on()
        self._data.seek(self._read)
        while piece := self._data.read(_READ_BYTES):
            self._sha.update(piece)
            self._read += len(piece)
        self._next = self._read
        return self._sha.hexdigest()

    def begin_anew(self) -> bool:
        """Nothing: all of it came in this download."""
        return False

    def settle(self) -> None:
        """Nothing to do."""

    def payload(self) -> bytes:
        """All of it; the room is given back."""
        data, self._data = self._data.getvalue(), io.BytesIO()
        return data

    def close(self) -> None:
        """Nothing stays."""


class InFile:
    """A payload in a file that an earlier download may have begun.

    Attributes:
        path: of the payload once it is whole and verified.
        resumed: number of blocks that were here before.
    """

    is_quick = False

    def __init__(self, part: Path, path: Path, size_bytes: int) -> None:
        """Open the files of a payload of ``size_bytes``, or make them.

        Raises:
            OSError: it cannot be made, or there is no room.
        """
        self.path = path
        self._part = part
        self._size_bytes = size_bytes
        self.blocks = Blocks(block_count(size_bytes))
        self._is_whole = path.is_file() and path.stat().st_size == size_bytes
        self._file = os.open(path if self._is_whole else part, _OPEN, 0o600)
        try:
            self._restore()
        except BaseException:
            os.close(self._file)
            raise
        self.resumed = self.blocks.count - self.blocks.missing
        self._sha = hashlib.sha256()
        self._read = 0
        self._noted_s, self._unnoted = time.monotonic(), 0
        self._settled = False

    def write(self, start_byte: int, data: memoryview) -> None:
        """Put bytes in their place.

        Raises:
            OSError: there is no room.
        """
        if os.pwrite(self._file, data, start_byte) != len(data):
            raise OSError(f"{self._part}: no room for {len(data)} B more")
        if start_byte == self._read:  # still at hand
            self._sha.update(data)
            self._read += len(data)
        self._unnoted += len(data)
        if self._unnoted >= NOTE_BYTES and time.monotonic() - self._noted_s >= NOTE_S:
            self._note()

    def read_on(self) -> None:
        """Nothing: what comes in order is read when it is written, the rest at the end."""

    def digest(self) -> str:
        """SHA-256 of the payload, of which every block must be here."""
        while self._read < self._size_bytes:
            piece = os.pread(
                self._file, min(_READ_BYTES, self._size_bytes - self._read), self._read
            )
            if not piece:
                break  # somebody has cut the file off: the digest shows it
            self._sha.update(piece)
            self._read += len(piece)
        return self._sha.hexdigest()

    def begin_anew(self) -> bool:
        """Drop all blocks, if some are of an earlier download; returns whether that is so."""
        if not self.resumed:
            return False
        self.resumed = 0
        if self._is_whole:  # others may have the file under another name
            os.close(self._file)
            self._file, self._is_whole = -1, False
            _delete(self.path)
            self._file = os.open(self._part, _OPEN, 0o600)
        self.blocks = Blocks(self.blocks.count)
        self._sha, self._read = hashlib.sha256(), 0
        self._note()
        return True

    def settle(self) -> None:
        """The payload is whole and verified.

        Raises:
            OSError: the file was taken away meanwhile.
        """
        if not self._is_whole and is_at(self._file, self._part):
            os.ftruncate(self._file, self._size_bytes)
            self._part.replace(self.path)
        elif not is_at(self._file, self.path):
            raise FileNotFoundError(f"{self.path.name} was deleted while it came")
        self._settled = True

    def payload(self) -> bytes:
        """All of a settled payload; the file stays."""
        return self.path.read_bytes()

    def close(self) -> None:
        """Nothing more will be written; what has come stays where it can be resumed."""
        if self._file < 0:
            return
        if not self._settled:
            with contextlib.suppress(OSError):
                self._note()
        os.close(self._file)
        self._file = -1

    def _restore(self) -> None:
        if self._is_whole:
            self.blocks.add(0, self.blocks.count)
            return
        bits = packed_bytes(self.blocks.count)
        if os.fstat(self._file).st_size == self._size_bytes + bits:
            self.blocks.restore(os.pread(self._file, bits, self._size_bytes))
        else:
            os.ftruncate(self._file, 0)
        os.ftruncate(self._file, self._size_bytes + bits)

    def _note(self) -> None:
        if not self._is_whole and is_at(self._file, self._part):
            os.pwrite(self._file, self.blocks.packed(), self._size_bytes)
        self._noted_s, self._unnoted = time.monotonic(), 0


class PartFiles:
    """The files of payloads in a folder.

    Args:
        folder: it is made when the first payload comes.
        max_bytes: see :data:`MAX_BYTES`.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes

    def open(self, offer: Offer) -> InFile:
        """The file of a payload, with what has come of it before.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._tidy(offer)
        part = self.folder / f"{offer.digest}.part"
        return InFile(part, part.with_suffix(".whole"), offer.size_bytes)

    def clear(self, keep: frozenset[str] = frozenset()) -> None:
        """Delete all payloads but those of these digests."""
        for path in self.folder.glob("*.*"):
            if path.stem not in keep:
                _delete(path)

    def drop(self, digest: str) -> None:
        """Delete one payload, or what has come of it."""
        for suffix in ("part", "whole"):
            _delete(self.folder / f"{digest}.{suffix}")

    def _tidy(self, coming: Offer) -> None:
        """Delete the oldest so that there is room for another one."""
        found: list[tuple[float, int, Path]] = []
        for path in (*self.folder.glob("*.part"), *self.folder.glob("*.whole")):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        left = self._max_bytes - coming.size_bytes
        for _, size_bytes, path in sorted(found, reverse=True):
            if path.stem == coming.digest:
                continue
            left -= size_bytes
            if left < 0:
                _delete(path)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()

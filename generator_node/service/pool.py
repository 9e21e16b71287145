"""The pool: it keeps every draw, so that nothing is drawn twice.

A *draw* is one image that the generator made for one *address*, a 64-bit number that stands for an
image of a run ("the third 7 of device-04", :func:`fimi.generator_node.service.seeds.image_seeds`).
An address is drawn again, with the next *attempt*, only if the quality gate refused the last draw.
So an accepted image never changes, and a node that was killed continues where it was.

::

    pool/
        lock                            one node at a time writes here
        3f9a…/                          one generator with one gate, named by their digest
            pool.json                   which generator and gate
            trial.json                  what the judge saw of the first draws
            class-0007.draws            draws of one class, appended, each with its own checksum

A file is a sequence of records of one size: address, attempt, verdict, confidence, pixels,
checksum. An incomplete or damaged record is ignored, and its draw is made again. The checksum of
the pixels alone is an image's *name*: two equal images have equal names, by which repeats are
found.

Without a folder, or when the disk is full, draws are kept in memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

import numpy as np
from msgspec import Struct

from fimi.files import FileInUse, FileLock, write_whole
from fimi.generator_node.generators.base import GeneratorError, Image

Verdict = Literal["kept", "below-chance", "blank", "near-copy", "repeat"]
"""The verdict on a draw: kept, or the reason of the refusal
(:mod:`fimi.generator_node.service.gate`)."""

VERDICTS: tuple[Verdict, ...] = ("kept", "below-chance", "blank", "near-copy", "repeat")
"""Verdicts in the order of their codes on disk: append, never reorder."""

_HEAD = struct.Struct("<QHBf")
_CHECK_BYTES = 8

log = logging.getLogger(__name__)


class PoolError(GeneratorError):
    """The pool's folder cannot be used; the message says why and what to do."""

    code = "G003"


class Draw(Struct, frozen=True, kw_only=True):
    """One image that was drawn.

    Attributes:
        address: address for which it was drawn.
        attempt: number of the attempt, from 0.
        verdict: kept, or the reason of the refusal.
        confidence: the judge's confidence in the image's class, 0 to 1; NaN without a judge.
        image: (channels, height, width), uint8.
    """

    address: int
    attempt: int
    verdict: Verdict
    confidence: float
    image: Image


class _Settled(Struct, frozen=True, gc=False):
    """The last draw of an address. ``place``: its offset in the file, or the pixels."""

    attempt: int
    verdict: Verdict
    place: int | bytes


class _Drawer:
    """The draws of one class."""

    def __init__(self, path: Path | None, shape: tuple[int, int, int], *, synced: bool) -> None:
        self.last: dict[int, _Settled] = {}
        self.named: dict[bytes, int] = {}
        self._shape = shape
        self._pixels = int(np.prod(shape))
        self._record = _HEAD.size + self._pixels + _CHECK_BYTES
        self._path = path
        self._synced = synced
        self._file: IO[bytes] | None = None
        if path is not None:
            self._file = path.open("a+b", buffering=0)
            self._read(self._file)

    def _read(self, file: IO[bytes]) -> None:
        """Read the records of a file; an incomplete one at the end is removed."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        damaged = 0
        for start in range(0, size - self._record + 1, self._record):
            record = file.read(self._record)
            body, check = record[:-_CHECK_BYTES], record[-_CHECK_BYTES:]
            if _digest(body) != check:
                damaged += 1
                continue
            address, attempt, code, _ = _HEAD.unpack_from(body)
            pixels = body[_HEAD.size :]
            self._note(address, attempt, VERDICTS[code], pixels, start + _HEAD.size)
        if rest := size % self._record:
            file.truncate(size - rest)
        if damaged or rest:
            log.warning(
                "%s: %d damaged and %d unfinished draws left out; they will be made again",
                *(self._path, damaged, rest > 0),
            )

    def _note(
        self, address: int, attempt: int, verdict: Verdict, pixels: bytes, place: int | bytes
    ) -> None:
        known = self.last.get(address)
        if known is None or attempt >= known.attempt:
            self.last[address] = _Settled(attempt, verdict, place)
        if verdict == "kept":
            self.named.setdefault(_digest(pixels), address)

    def add(self, draws: Iterable[Draw], *, durable: bool) -> bool:
        """Append draws; returns whether they are on the disk (or need not be)."""
        records, noted = [], []
        for draw in draws:
            pixels = np.ascontiguousarray(draw.image).tobytes()
            code = VERDICTS.index(draw.verdict)
            head = _HEAD.pack(draw.address, draw.attempt, code, draw.confidence)
            body = head + pixels
            records.append(body + _digest(body))
            noted.append((draw, pixels))
        start = self._append(b"".join(records)) if durable and self._file is not None else None
        for index, (draw, pixels) in enumerate(noted):
            place = pixels if start is None else start + index * self._record + _HEAD.size
            self._note(draw.address, draw.attempt, draw.verdict, pixels, place)
        return start is not None or not durable or self._file is None

    def _append(self, data: bytes) -> int | None:
        """Offset at which ``data`` was written completely; ``None`` if the disk is full."""
        assert self._file is not None
        start = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            if self._synced:
                os.fsync(self._file.fileno())
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
            self._file.truncate(start)
            return None
        return start

    def image(self, address: int) -> Image:
        """The pixels of the last draw of an address."""
        place = self.last[address].place
        if isinstance(place, bytes):
            data = place
        else:
            assert self._file is not None
            self._file.seek(place)
            data = self._file.read(self._pixels)
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Pool:
    """Draws by class and address.

    Args:
        folder: folder in which they are kept; ``None``: in memory.
        image_shape: channels, height, width.
        made_by: everything that determines the pixels of a draw and its verdict, as text; draws
            with different values are kept apart.
        patience_s: how long to wait for another node to let go of the folder, s.
        survives_power_cut: whether draws are on the disk before they are used; without, a power cut
            may cost the last ones, which are then drawn again.

    Raises:
        PoolError: the folder cannot be used, or another node uses it.
    """

    def __init__(
        self,
        folder: Path | None,
        image_shape: tuple[int, int, int],
        made_by: str,
        *,
        patience_s: float = 0.0,
        survives_power_cut: bool = True,
    ) -> None:
        self.image_shape = image_shape
        self.durable = folder is not None
        self._synced = survives_power_cut
        self._drawers: dict[int, _Drawer] = {}
        self._lock: FileLock | None = None
        self._folder: Path | None = None
        if folder is None:
            return
        self._folder = folder / hashlib.sha256(made_by.encode()).hexdigest()[:32]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder, patience_s)
            write_whole(self._folder / "pool.json", made_by + "\n", durable=survives_power_cut)
        except OSError as error:
            self.close()
            raise PoolError(
                f"pool {folder} cannot be used: {error}; name another folder as generator.pool"
            ) from error

    def attempt(self, class_id: int, address: int) -> int:
        """Number of the next attempt at an address; 0 if nothing was drawn there yet."""
        known = self._drawer(class_id).last.get(address)
        return 0 if known is None else known.attempt + 1

    def kept(self, class_id: int, address: int) -> bool:
        """Whether an address has an accepted image."""
        known = self._drawer(class_id).last.get(address)
        return known is not None and known.verdict == "kept"

    def verdict(self, class_id: int, address: int) -> Verdict:
        """The verdict on the last draw of an address.

        Raises:
            KeyError: nothing was drawn there.
        """
        return self._drawer(class_id).last[address].verdict

    def image(self, class_id: int, address: int) -> Image:
        """The image at an address, (channels, height, width), uint8.

        Raises:
            KeyError: there is none.
        """
        if not self.kept(class_id, address):
            raise KeyError(f"no image of class {class_id} at address {address}")
        return self._drawer(class_id).image(address)

    def has_equal(self, class_id: int, image: Image) -> bool:
        """Whether an image with exactly these pixels is kept at any address of the class."""
        return _digest(np.ascontiguousarray(image).tobytes()) in self._drawer(class_id).named

    def add(self, class_id: int, draws: Iterable[Draw]) -> None:
        """Keep draws. A full disk is reported once, and memory is used from then on."""
        if not self._drawer(class_id).add(draws, durable=self.durable):
            self.durable = False
            log.error(
                "the pool %s takes no more draws; they are kept in memory from now on and will be "
                "lost if this node stops: make room and start it again",
                self._folder,
            )

    def remember(self, trial: bytes) -> None:
        """Keep what was found on trial; without a folder, or on a full disk, it is not kept."""
        if self._folder and self.durable:
            try:
                write_whole(self._folder / "trial.json", trial, durable=self._synced)
            except OSError as error:
                log.warning("%s/trial.json cannot be written: %s", self._folder, error)

    def remembered(self) -> bytes:
        """What :meth:`remember` was given last; empty if there is none."""
        path = self._folder and self._folder / "trial.json"
        return path.read_bytes() if path and path.is_file() else b""

    def release(self) -> None:
        """Drop all draws that are in memory only."""
        if self._folder is None:
            self._drawers.clear()

    def close(self) -> None:
        """Close all files and let another node use the folder."""
        for drawer in self._drawers.values():
            drawer.close()
        self._drawers.clear()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _drawer(self, class_id: int) -> _Drawer:
        if class_id not in self._drawers:
            path = self._folder and self._folder / f"class-{class_id:04d}.draws"
            try:
                self._drawers[class_id] = _Drawer(path, self.image_shape, synced=self._synced)
            except OSError as error:
                raise PoolError(
                    f"{path} cannot be read: {error}; name another folder as generator.pool"
                ) from error
        return self._drawers[class_id]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECK_BYTES).digest()


def _lock(folder: Path, patience_s: float) -> FileLock:
    """One node at a time uses a folder.

    Raises:
        PoolError: another one does, and has not ended after ``patience_s``; says which.
    """
    limit_s = time.monotonic() + patience_s
    while True:
        try:
            return FileLock(folder / "lock")
        except FileInUse as error:
            if time.monotonic() >= limit_s:
                raise PoolError(
                    f"pool {folder} is in use by another generator node ({error}); stop that one, "
                    "or name another folder as generator.pool"
                ) from error
        time.sleep(0.1)

"""Payloads that a device keeps on disk, so that it fetches them once, also after a restart.

Batches, shares and training graphs are named by their digest. A kept one whose content does not
have its digest is deleted and fetched again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from fimi.files import write_whole
from fimi.learning.training import tensors

log = logging.getLogger(__name__)

MAX_BYTES = 500_000_000
"""Most bytes of payloads of one kind that are kept; the oldest go first."""


class Kept:
    """The payloads of one kind.

    Args:
        folder: where they are kept; ``None``: nowhere.
        kind: what they are, the end of their file names.
        count: most payloads that are kept; ``None``: any number.
        max_bytes: see :data:`MAX_BYTES`.
    """

    def __init__(
        self,
        folder: Path | None,
        kind: str,
        *,
        count: int | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._count = count
        self._max_bytes = max_bytes

    def get(self, digest: str) -> bytes | None:
        """A payload that is kept and undamaged."""
        if self._folder is None:
            return None
        path = self._folder / f"{digest}.{self._kind}"
        try:
            payload = path.read_bytes()
        except OSError:
            return None
        if tensors.digest(payload) == digest:
            return payload
        log.warning("%s is damaged and was deleted; it is fetched again", path)
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def put(self, digest: str, payload: bytes) -> None:
        """Keep a payload; where it cannot be written, it is not kept."""
        if self._folder is None:
            return
        path = self._folder / f"{digest}.{self._kind}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, payload, durable=False)  # a damaged one is noticed by its digest
            self._tidy(path)
        except OSError as error:
            log.warning("%s cannot be kept: %s", path, error)

    def get_or(self, digest: str, fetch: Callable[[], bytes]) -> bytes:
        """A payload: kept, or fetched and then kept."""
        if (payload := self.get(digest)) is None:
            payload = fetch()
            self.put(digest, payload)
        return payload

    def _tidy(self, newest: Path) -> None:
        """Delete the oldest beyond the limits; agents that share a folder may do so at once."""
        assert self._folder is not None
        sizes: list[tuple[float, Path, int]] = []
        for path in self._folder.glob(f"*.{self._kind}"):
            with contextlib.suppress(OSError):
                found = path.stat()
                sizes.append((found.st_mtime, path, found.st_size))
        room, left = self._max_bytes, self._count
        for _, path, size in sorted(sizes, key=lambda each: (each[1] != newest, -each[0])):
            room -= size
            left = None if left is None else left - 1
            if path != newest and (room < 0 or (left is not None and left < 0)):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

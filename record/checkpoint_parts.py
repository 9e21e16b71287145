"""The checkpoint of a run in its store: what a process needs to go on with it, as parts by key.

What the parts hold: :mod:`fimi.coordinator.checkpoint`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from fimi.record import schema
from fimi.record.record import CheckpointPart
from fimi.record.store_file import StoreError, StoreFile

LARGE = "large:"
"""Parts of the checkpoint whose keys begin so are read one by one."""


class CheckpointParts:
    """The parts in one store."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file

    def read_small(self) -> dict[str, bytes]:
        """All parts but the large ones, by key; empty if none was written.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._file.lock:
            try:
                rows = self._file.db.execute(
                    f"SELECT key, body FROM {schema.CHECKPOINT.name} "
                    "WHERE substr(key, 1, length(:large)) != :large",
                    {"large": LARGE},
                )
                return dict(rows.fetchall())
            except sqlite3.Error as error:
                raise StoreError(f"cannot read the run store {self._file.path}: {error}") from error

    def read(self, key: str) -> bytes:
        """One part.

        Raises:
            KeyError: there is none.
            StoreError: the store cannot be read.
        """
        with self._file.lock, self._file.faults():
            found: tuple[bytes] | None = self._file.db.execute(
                f"SELECT body FROM {schema.CHECKPOINT.name} WHERE key = ?", [key]
            ).fetchone()
        if found is None:
            raise KeyError(key)
        return found[0]

    # In a transaction of the caller's.

    def write(self, parts: Mapping[str, bytes]) -> None:
        """Write these parts, in place of earlier ones of the same keys."""
        found = [CheckpointPart(key=key, body=body) for key, body in parts.items()]
        self._file.insert(schema.CHECKPOINT, found, replace=True)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget these parts."""
        for key in keys:
            self._file.db.execute(f"DELETE FROM {schema.CHECKPOINT.name} WHERE key = ?", [key])

"""The SQLite file of a run as one process writes it: locked, in transactions, on the disk.

:class:`StoreFile` knows tables only as they are described (:mod:`fimi.record.description`); what is
written and why is :mod:`fimi.record.store`'s. What cannot be written is said with table, row,
column and value.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from fimi.errors import SurroundingsError
from fimi.files import FileInUse, FileLock
from fimi.record.description import StoreTable


class StoreError(SurroundingsError, RuntimeError):
    """The run store cannot be created, written or read; the message says where and why."""

    code = "R001"


def lock_store(path: Path) -> FileLock:
    """The lock that whoever writes a store holds, ``run.lock`` beside it.

    Raises:
        FileInUse: somebody else holds it.
        OSError: its file cannot be made.
    """
    return FileLock(path.with_suffix(".lock"))


class StoreFile:
    """A store's file, with its lock; safe to use from several threads.

    Args:
        path: the file.

    Attributes:
        db: its connection, once there is one.
        lock: held while the connection is used.

    Raises:
        StoreError: another process writes it, or the lock cannot be made.
    """

    db: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._depth = 0
        self._later: list[Callable[[], None]] = []
        self._synchronous = ""
        try:
            self._alone = lock_store(path)
        except FileInUse as error:
            raise StoreError(
                f"{path} is written by {error}; wait until that has ended, or end it",
                code="R002",
            ) from error
        except OSError as error:
            raise StoreError(
                f"cannot create the run store {path}: {error.strerror or error}"
            ) from error

    def connect(self) -> None:
        """Open the file for writing; it is made if it is not there."""
        self.db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)

    def connect_to_read(self) -> None:
        """Open the file without changing it."""
        self.db = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)

    def abandon(self) -> None:
        """Close the file as it is."""
        if hasattr(self, "db"):
            self.db.close()
        self._alone.release()

    def close(self, patience_s: float) -> None:
        """Fold the write-ahead log into the file, waiting so long for readers, and close it.

        Raises:
            StoreError: the file cannot be written.
        """
        with self.lock:
            try:
                self.db.execute(f"PRAGMA busy_timeout = {round(1000 * patience_s)}")
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._leave_log(patience_s)
            except sqlite3.Error as error:
                raise StoreError(f"cannot finish the run store {self.path}: {error}") from error
            finally:
                self.db.close()
                self._alone.release()

    def _leave_log(self, patience_s: float) -> None:
        """Leave one file instead of three. SQLite does not wait here for readers by itself."""
        limit = time.monotonic() + patience_s
        while True:
            try:
                self.db.execute("PRAGMA journal_mode = DELETE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                if time.monotonic() > limit:
                    return
                time.sleep(0.02)

    def insert(
        self, table: StoreTable[Any], values: Iterable[Any], *, replace: bool = False, **beside: Any
    ) -> None:
        """Write values as rows, with the columns that stand beside each of them.

        Raises:
            StoreError: a value does not fit; says which one, and where.
        """
        rows = [table.row(value, **beside) for value in values]
        for row in rows:
            for name, value in row.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise StoreError(
                        f"cannot write the run store {self.path}: {name} of table "
                        f"{_place(table, row)} is {value}, which is no number that can be stored; "
                        "what was written before is safe"
                    )
        try:
            self.db.executemany(table.insert(replace=replace), rows)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError) as error:
            raise StoreError(
                f"cannot write the run store {self.path}: {_unfit(table, rows, error)}; the disk "
                "is not the cause, and what was written before is safe"
            ) from error

    def then(self, call: Callable[[], None]) -> None:
        """Call it once everything written so far is stored: at once, or after the transaction.

        If the transaction fails, it is not called.
        """
        with self.lock:
            if self._depth:
                self._later.append(call)
                return
        call()

    @contextmanager
    def transaction(self, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Iterator[None]:
        """All or nothing; with ``NORMAL`` on the disk with the next one that is ``FULL``.

        Inside another one it is a part of that.

        Raises:
            StoreError: the file cannot be written or read.
        """
        with self.lock:
            if self._depth:
                with self.faults():
                    yield
                return
            with self.faults():
                if synchronous != self._synchronous:
                    self.db.execute(f"PRAGMA synchronous = {synchronous}")
                    self._synchronous = synchronous
                self.db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                with self.faults():
                    yield
                with self.faults():
                    self.db.execute("COMMIT")
            except BaseException:
                self._later.clear()
                if self.db.in_transaction:  # SQLite may have given it up by itself
                    self.db.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1
            later, self._later = self._later, []
        for call in later:
            call()

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Errors of SQLite, and of what it holds, become a :class:`StoreError`."""
        try:
            yield
        except msgspec.MsgspecError as error:
            raise StoreError(
                f"the run store {self.path} is damaged: {error}; 'fimi report' shows what can "
                "be read of it"
            ) from error
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot write the run store {self.path}: {error}; make room on that disk and "
                "check its permissions; what was written before is safe"
            ) from error


def _place(table: StoreTable[Any], row: Mapping[str, Any]) -> str:
    """Where a row would be: ``sample, round 2, device a, phase compute``."""
    keys = ("number", "round", "device", "phase", "stage", "variant", "key")
    return ", ".join([table.name, *(f"{name} {row[name]}" for name in keys if name in row)])


def _unfit(table: StoreTable[Any], rows: Sequence[Mapping[str, Any]], error: Exception) -> str:
    """Which row a table did not take, as far as its message says: place, column and value."""
    said = str(error)
    named = [column.name for column in table.described if f"{table.name}.{column.name}" in said]
    if said.startswith("NOT NULL"):
        lacking = [row for row in rows if any(row.get(name) is None for name in named)]
        rows = lacking or rows
    shown = rows[:1]
    values = [f"{name} = {row.get(name)!r}" for row in shown for name in named]
    places = [_place(table, row) for row in shown]
    return f"{said} ({'; '.join([*places, *values])})"

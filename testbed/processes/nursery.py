"""Child processes that never outlive their parent.

A child runs ``main(orders, stop)`` of a module. Where the system can, and the temporary folder has
a path short enough for a socket, children are forked from one
clean server process that has loaded PyTorch once (:mod:`multiprocessing`'s fork server): they share
its memory and start at once. Each holds one end of a pipe whose other end only the parent has; when
the pipe closes, because the parent closed it or died in whatever way, the child stops. Children
live in a session of their own, so that Ctrl-C reaches the parent alone, which ends them in order.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path

import msgspec

from fimi.errors import RunFailedError

GRACE_S = 8.0
"""How long a child may take to stop before it is made to, s."""


_SOCKET_PATH_MAX = 103
"""Longest path of a Unix socket, bytes: 107 on Linux, 103 on macOS."""
_SOCKET_NAME = len("/pymp-12345678/listener-12345678")


class ChildFailedError(RunFailedError, RuntimeError):
    """A child process ended by itself; the message holds the end of its log.

    Args:
        what: happened, in one line.
        tail: end of its log.
    """

    def __init__(self, what: str, tail: str) -> None:
        last_words = f"; the end of its output:\n{tail}" if tail else " and said nothing"
        super().__init__(what + last_words)
        self.what = what


class Nursery:
    """Starts children; a context manager that ends them all.

    Args:
        log_folder: where their output goes, as ``<name>.log``.
        preload: modules that the server process loads once for all children.
    """

    def __init__(self, log_folder: Path, preload: Sequence[str] = ()) -> None:
        self._log_folder = log_folder
        self._context: ForkServerContext | SpawnContext
        if "forkserver" in multiprocessing.get_all_start_methods() and _socket_fits():
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(["__main__", *preload])
        else:
            self._context = multiprocessing.get_context("spawn")
        self.children: list[Child] = []

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.ask_to_stop()
        for child in self.children:
            child.stop()

    def start(self, name: str, module: str, orders: msgspec.Struct) -> Child:
        """Start a child.

        Args:
            name: for messages and the log file.
            module: has ``main(orders, stop)`` and the type of its orders as ``ORDERS``.
            orders: what to tell it.
        """
        with _ctrl_c_waits():
            child = Child(self._context, name, module, orders, self._log_folder / f"{name}.log")
        self.children.append(child)
        return child

    def check(self) -> None:
        """Make sure that all children are alive.

        Raises:
            ChildFailedError: one is not.
        """
        for child in self.children:
            child.check()


class Child:
    """One child process; made by :meth:`Nursery.start`."""

    def __init__(
        self,
        context: ForkServerContext | SpawnContext,
        name: str,
        module: str,
        orders: msgspec.Struct,
        log_path: Path,
    ) -> None:
        self.name = name
        self.log_path = log_path
        log_path.touch()
        theirs, self._ours = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_live, args=(module, msgspec.json.encode(orders), theirs, str(log_path))
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def check(self) -> None:
        """Make sure that it is alive.

        Raises:
            ChildFailedError: it is not.
        """
        if (code := self._process.exitcode) is not None:
            raise ChildFailedError(
                f"the process {self.name!r} ended by itself (exit code {code})", self.tail()
            )

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        text = self.log_path.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        """Close its pipe."""
        self._ours.close()

    def stop(self) -> None:
        """Ask it to stop, wait, and make it if need be."""
        self.ask_to_stop()
        self._process.join(GRACE_S)
        for insist in (self._process.terminate, self._process.kill):
            if self._process.exitcode is None:
                insist()
                self._process.join(2.0)


def _socket_fits() -> bool:
    """Whether the fork server's socket, two names below the temporary folder, has a short path."""
    return len(os.fsencode(tempfile.gettempdir())) + _SOCKET_NAME <= _SOCKET_PATH_MAX


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Hold SIGINT back for a moment, where that can be arranged; it is delivered afterwards.

    Children inherit the mask: the fork server must not die of Ctrl-C while it loads. The resource
    tracker, which multiprocessing starts before it, runs already by then: starting it ends with a
    mask that lets SIGINT through.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(module: str, orders: bytes, pipe: Connection, log_path: str) -> None:
    """What a child does: set itself up, then be the module."""
    if hasattr(os, "setsid"):
        os.setsid()
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            pipe.recv_bytes()
        stop.set()
        time.sleep(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
    loaded = importlib.import_module(module)
    loaded.main(msgspec.json.decode(orders, type=loaded.ORDERS), stop)

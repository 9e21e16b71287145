"""Children that share the memory of what one process has loaded for them.

A :class:`ForkServer` is a child (:mod:`fimi.children`) that imports some modules, for example
PyTorch, and then makes a copy of itself for each child that is asked for: it starts at once, and
the modules are in memory once. Unlike :mod:`multiprocessing`'s fork server it imports neither the
main module of the parent, which may be a script without a guard or no file at all, nor anything
from the working folder, and it needs no socket with a path. Where the system cannot fork, or not
pass open files on, each child has an interpreter of its own.

For every child the parent sends three open files: the reading end of its life line, its log, and
a socket on which the server says the child's process id and later its exit code.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from fimi import children
from fimi.children import Child

_POLL_S = 1.0
_NUMBER = struct.Struct("!q")
_LOST = 255
"""Exit code of a child whose server has died."""


class ForkServer:
    """Starts children; a context manager that ends the server, but not the children.

    Args:
        preload: modules that the server imports once for all children; those that are not
            installed are left to the children that need them.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = tuple(preload)
        self._server: Child | None = None
        self._line: socket.socket | None = None

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.close()
        if self._server is not None:
            self._server.end(_POLL_S)

    def start(self, module: str, orders: bytes, log: Path) -> Child:
        """Start a child; see :func:`fimi.children.start`.

        Raises:
            OSError: the log cannot be written, or no process be started.
        """
        if not (hasattr(os, "fork") and hasattr(socket, "send_fds")):
            return children.start(module, orders, log=log)
        if self._line is None:
            self._line, theirs = socket.socketpair()
            with theirs:
                self._server = children.start(
                    __name__,
                    msgspec.json.encode(self._preload),
                    arguments=(str(theirs.fileno()),),
                    keep_open=(theirs.fileno(),),
                )
        reading, writing = os.pipe()
        stdin = os.fdopen(writing, "wb")
        try:
            ours, theirs = socket.socketpair()
            with theirs, log.open("wb") as output:
                passed = [reading, output.fileno(), theirs.fileno()]
                with contextlib.suppress(BrokenPipeError):  # the server has died: so has the child
                    socket.send_fds(self._line, [b"+"], passed)
        finally:
            os.close(reading)
        return Child(_Forked(stdin, ours), module, orders, log)


class _Forked:
    """A process that the server has made.

    Args:
        stdin: writing end of its life line.
        news: on which the server says its process id and its exit code.
    """

    def __init__(self, stdin: IO[bytes], news: socket.socket) -> None:
        self.stdin: IO[bytes] | None = stdin
        self._news = news
        self._told: list[int] = []
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Its process id; waits until there is one. 0 if the server has died."""
        self._listen(1, None)
        return self._told[0]

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._listen(2, 0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        code = self._listen(2, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked child", timeout or 0.0)
        return code

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if pid := self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _listen(self, count: int, timeout_s: float | None) -> int | None:
        """The last of so many numbers of the server, once it has said them."""
        limit_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while len(self._told) < count:
                left_s = None if limit_s is None else max(0.0, limit_s - time.monotonic())
                self._news.settimeout(left_s)
                try:
                    data = self._news.recv(_NUMBER.size)
                except (BlockingIOError, TimeoutError):
                    return None
                if data:
                    self._told.append(_NUMBER.unpack(data)[0])
                else:
                    self._told = [*(self._told or [0]), _LOST]
            return self._told[count - 1]


def main(orders: bytes) -> int:
    """Run the server until the parent has ended; ``orders``: the modules to import, as JSON."""
    for module in msgspec.json.decode(orders, type=list[str]):
        with contextlib.suppress(ImportError):
            import_module(module)
    line = socket.socket(fileno=int(sys.argv[1]))
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    news: dict[int, int] = {}
    parent, children.parent_pid = children.parent_pid, os.getpid()  # the latter for the forked
    while os.getppid() == parent:
        ready = select.select([0, line.fileno(), woken], [], [], _POLL_S)[0]
        if 0 in ready:
            break
        if woken in ready:
            os.read(woken, 4096)
            _reap(news)
        if line.fileno() in ready:
            data, passed, *_ = socket.recv_fds(line, 1, 3)
            if not data:
                break
            pid = os.fork()
            if pid == 0:
                line.close()
                _be_a_child(passed, [woken, wake, *news.values()])
            _say(passed[2], pid)
            news[pid] = passed[2]
            for each in passed[:2]:
                os.close(each)
    return 0


def _reap(news: dict[int, int]) -> None:
    """Say the exit codes of the children that have ended."""
    while news:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _say(news[pid], os.waitstatus_to_exitcode(status))
        os.close(news.pop(pid))


def _say(listener: int, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(listener, _NUMBER.pack(number))


def _be_a_child(passed: Sequence[int], others: Sequence[int]) -> NoReturn:
    """Run the module that the parent asks for, in a process that was just forked.

    Args:
        passed: life line, log, and the socket of the server.
        others: open files of the server.
    """
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for stream, target in ((passed[0], 0), (passed[1], 1), (passed[1], 2)):
            os.dup2(stream, target)
        for each in (*passed, *others):
            os.close(each)
        del sys.argv[1:]
        children.run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

"""Child processes that never outlive their parent; every room may import this.

The parent's side:

* :func:`start`                starts a child with an interpreter of its own
* :class:`Child`               a child, started here or by :mod:`fimi.fork_server`
* :func:`end`                  asks children to end, waits, and kills those that do not

The child's side:

* :func:`run`                  reads the orders and runs the module that they name
* :func:`when_parent_is_gone`  acts when the parent asks the child to end, or has died

A child runs ``main(orders)`` of a module. The parent writes the orders to the child's standard
input and keeps this pipe open. The child ends when the pipe is closed: by the parent, or because
the parent has died. Orders are not on the command line, which every user of the machine can read. A
child has a session of its own, so that Ctrl-C reaches the parent only, which then ends its
children.

A child searches modules where its parent does, but in the working folder last. Python searches that
folder first for ``python -m``, ``python -c`` and scripts in it, so that a file ``queue.py`` there
would be imported instead of Python's own module.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

import msgspec

_INSIST_S = 2.0
"""How long a child may take to end after a signal, s."""
_POLL_S = 1.0
"""Time between two checks that the parent is alive, s."""
_LENGTH = struct.Struct("!Q")

parent_pid = os.getppid()
"""Process id of the parent, read at import, so that its death is noticed from then on."""

# The child imports the parent's ``fimi``, not one of the working folder or another installation.
_BOOTSTRAP = """\
import sys
sys.path[:] = [place for place in sys.path if place]
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
spec = PathFinder.find_spec("fimi", [sys.argv.pop(1)])
sys.modules["fimi"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["fimi"])
from fimi.children import run
run()
"""


class Process(Protocol):
    """The methods of :class:`subprocess.Popen` that a :class:`Child` uses."""

    stdin: IO[bytes] | None

    @property
    def pid(self) -> int:
        """Process id."""

    def poll(self) -> int | None:
        """Exit code, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Exit code; raises :class:`subprocess.TimeoutExpired`."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Child:
    """A process that was started and ends with this one.

    Args:
        process: the process; its standard input is a pipe from this one.
        module: module whose ``main(orders)`` it runs.
        orders: argument of ``main``, as JSON.
        log: file with its output.
    """

    def __init__(self, process: Process, module: str, orders: bytes, log: Path | None) -> None:
        self._process = process
        self._log = log
        start_message = msgspec.json.encode(
            _Start(module=module, path=module_path(), orders=msgspec.Raw(orders))
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its log says why
            process.stdin.write(_LENGTH.pack(len(start_message)) + start_message)
            process.stdin.flush()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; ``None`` while it runs."""
        return self._process.poll()

    def tail(self, lines: int = 12) -> str:
        """The last lines of its output."""
        text = self._log.read_text(errors="replace") if self._log else ""
        return "\n".join(text.splitlines()[-lines:])

    def ask_to_end(self) -> None:
        """Close the pipe to its standard input."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def end(self, grace_s: float) -> None:
        """End it; see :func:`end`."""
        end([self], grace_s)

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended, for ``timeout_s`` at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, timeout_s))

    def insist(self, *, politely: bool) -> None:
        """Send it SIGTERM (``politely``) or SIGKILL."""
        if self.code is None:
            (self._process.terminate if politely else self._process.kill)()


class _Start(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent writes to a child's standard input.

    Attributes:
        module: module whose ``main`` it runs.
        path: folders in which it searches modules.
        orders: argument of ``main``, as JSON.
    """

    module: str
    path: list[str]
    orders: msgspec.Raw


def start(
    module: str,
    orders: bytes = b"null",
    *,
    arguments: Sequence[str] = (),
    log: Path | None = None,
    keeps_output: bool = True,
    environment: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> Child:
    """Start a child with an interpreter of its own.

    Args:
        module: has ``main(orders)``, which returns the exit code; ``None`` is 0.
        orders: argument of ``main``, as JSON.
        arguments: its command line, ``sys.argv[1:]``.
        log: file for its output, replaced; ``None``: it has this process's standard error.
        keeps_output: whether the log gets standard output too, or errors only.
        environment: its environment variables; ``None``: those of this process.
        keep_open: files that stay open as long as it runs.

    Raises:
        OSError: the log cannot be written, or no process be started.
    """
    home = str(Path(__file__).absolute().parents[1])
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, home, module, *arguments],
            stdin=subprocess.PIPE,
            stdout=output if output and keeps_output else subprocess.DEVNULL,
            stderr=output,
            env=environment,
            start_new_session=True,
            pass_fds=tuple(keep_open) if os.name == "posix" else (),
        )
    return Child(process, module, orders, log)


def end(children: Sequence[Child], grace_s: float) -> None:
    """Ask children to end, wait, and send signals to those that still run.

    Args:
        children: the children; some may have ended already.
        grace_s: how long all of them together may take before signals are sent, s.
    """
    for child in children:
        child.ask_to_end()
    limit_s = time.monotonic() + grace_s
    try:
        for child in children:
            child.wait(limit_s - time.monotonic())
    finally:
        for politely in (True, False):
            for child in children:
                child.insist(politely=politely)
            for child in children:
                child.wait(_INSIST_S)


def module_path() -> list[str]:
    """Folders in which a child searches modules: those of this process, the working folder last.

    A working folder that stands in ``PYTHONPATH`` keeps its place there.
    """
    here = os.getcwd()  # noqa: PTH109  as it stands in sys.path
    named = {os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p}  # noqa: PTH100
    others = [place for place in sys.path if place and (place != here or here in named)]
    return others if len(others) == len(sys.path) else [*others, here]


def run() -> NoReturn:
    """Read the orders, run the module that they name, and end with its exit code."""
    size = _LENGTH.unpack(_read(_LENGTH.size))[0]
    start_message = msgspec.json.decode(_read(size), type=_Start)
    sys.path[:] = start_message.path
    sys.argv[:] = sys.argv[1:] or [start_message.module]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main: Callable[[bytes], Any] = import_module(start_message.module).main
    sys.exit(main(bytes(start_message.orders)))


def _read(size: int) -> bytes:
    """The next ``size`` bytes of standard input.

    Raises:
        SystemExit: the input has ended, because the parent is gone.
    """
    data = b""
    while len(data) < size:
        if not (more := os.read(0, size - len(data))):
            sys.exit(1)
        data += more
    return data


def when_parent_is_gone(act: Callable[[], object], grace_s: float) -> None:
    """Call ``act`` once, on another thread, when the parent closes the pipe or dies.

    Args:
        act: ends this process in order.
        grace_s: how long that may take before the process is ended at once, s.
    """

    def watch() -> None:
        wait_for_parent()
        act()
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def wait_for_parent() -> None:
    """Return when the parent has closed the pipe to standard input, or has died.

    The pipe may still be open after the parent's death, if another process has inherited it.
    Therefore the process id of the parent is checked as well.
    """
    while os.getppid() == parent_pid:
        if os.name == "posix" and not select.select([0], [], [], _POLL_S)[0]:
            continue
        with contextlib.suppress(OSError):
            if os.read(0, 4096):
                continue
        return

"""Child processes that never outlive their parent; every room may import this.

The parent's side:

* :func:`start`                one child with an interpreter of its own
* :class:`Child`               one that was started, here or by :mod:`fimi.fork_server`
* :func:`end`                  ask several to end, wait, and make them

The child's side:

* :func:`run`                  what a new interpreter does: read the orders and run the module
* :func:`when_parent_is_gone`  end when the parent asks for it or has died, in whatever way

A child is a module with ``main(orders)``. It reads the orders from its standard input, not from the
command line, which everybody can read. This input stays open until the parent closes it or dies: so
the child notices both, and it is called its life line. A child has a session of its own: Ctrl-C
reaches the parent alone, which ends its children in order.

A child looks for modules where its parent does, but in the working folder last. Python puts that
folder first for ``python -m``, ``python -c`` and a script in it; a file there that happens to be
called ``queue.py`` would be imported in place of the real module.
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
"""How long a child may take to end after a signal that makes it, s."""
_POLL_S = 1.0
"""Between two looks at whether the parent still lives, s."""
_LENGTH = struct.Struct("!Q")

parent_pid = os.getppid()
"""Of this process, noted early: a parent that dies before it is watched is missed all the same."""

# Neither the working folder nor another installation may come before the package of the parent.
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
    """What a :class:`Child` needs of a process: :class:`subprocess.Popen` has it."""

    stdin: IO[bytes] | None

    @property
    def pid(self) -> int:
        """Process id."""

    def poll(self) -> int | None:
        """Exit code, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Exit code; raises :class:`subprocess.TimeoutExpired`."""

    def terminate(self) -> None:
        """Signal that asks it to end."""

    def kill(self) -> None:
        """Signal that ends it."""


class Child:
    """A process that was started and ends with this one.

    Args:
        process: the process; its standard input is its life line.
        module: whose ``main(orders)`` it runs.
        orders: for ``main``, as JSON.
        log: file with its output.
    """

    def __init__(self, process: Process, module: str, orders: bytes, log: Path | None) -> None:
        self._process = process
        self._log = log
        told = msgspec.json.encode(
            _Told(module=module, path=module_path(), orders=msgspec.Raw(orders))
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its log says why
            process.stdin.write(_LENGTH.pack(len(told)) + told)
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
        """Close its life line."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def end(self, grace_s: float) -> None:
        """Ask it to end, wait, and make it if need be; see :func:`end`."""
        end([self], grace_s)

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended, or not any longer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, timeout_s))

    def insist(self, *, politely: bool) -> None:
        """Send it the signal that asks it to end, or the one that ends it."""
        if self.code is None:
            (self._process.terminate if politely else self._process.kill)()


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a child reads first; ``path`` is where it looks for modules."""

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
        module: has ``main(orders)``, which gives its exit code; ``None`` is 0.
        orders: for ``main``, as JSON.
        arguments: of its command line, ``sys.argv[1:]``.
        log: file for its output, replaced; ``None``: errors go where this process's go.
        keeps_output: whether the log gets standard output too, or errors only.
        environment: its variables; ``None``: those of this process.
        keep_open: files that it holds open as long as it lives.

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
    """Ask children to end, wait, and make them if need be.

    Args:
        children: all that are to end; those that have ended already do no harm.
        grace_s: how long all of them together may take before they are made to, s.
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
    """Where a child looks for modules: where this process does, in the working folder last.

    A working folder that stands in ``PYTHONPATH`` keeps its place there.
    """
    here = os.getcwd()  # noqa: PTH109  as it stands in sys.path
    named = {os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p}  # noqa: PTH100
    others = [place for place in sys.path if place and (place != here or here in named)]
    return others if len(others) == len(sys.path) else [*others, here]


def run() -> NoReturn:
    """Read the orders, run the module that they name, and end with its exit code."""
    size = _LENGTH.unpack(_hear(_LENGTH.size))[0]
    told = msgspec.json.decode(_hear(size), type=_Told)
    sys.path[:] = told.path
    sys.argv[:] = sys.argv[1:] or [told.module]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main: Callable[[bytes], Any] = import_module(told.module).main
    sys.exit(main(bytes(told.orders)))


def _hear(size: int) -> bytes:
    """So many bytes of standard input; this process ends if its parent has ended before."""
    data = b""
    while len(data) < size:
        if not (more := os.read(0, size - len(data))):
            sys.exit(1)
        data += more
    return data


def when_parent_is_gone(act: Callable[[], object], grace_s: float) -> None:
    """Call ``act`` once, on another thread, when the parent closes the life line or dies.

    Args:
        act: makes this process end.
        grace_s: how long that may take before the process ends at once, s.
    """

    def watch() -> None:
        wait_for_parent()
        act()
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def wait_for_parent() -> None:
    """Return when the parent has closed the life line or died.

    Another process may have inherited the parent's end of the life line; that the parent has
    changed is noticed all the same.
    """
    while os.getppid() == parent_pid:
        if os.name == "posix" and not select.select([0], [], [], _POLL_S)[0]:
            continue
        with contextlib.suppress(OSError):
            if os.read(0, 4096):
                continue
        return

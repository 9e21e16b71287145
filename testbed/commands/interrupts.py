"""Ctrl-C raises :class:`KeyboardInterrupt`, but never while a library's compiled part is loading.

What is written in C or C++ sets itself up when it is imported, and some of it cannot be broken off
there: ``import onnx`` then ends the process with a segmentation fault, and nothing is tidied up.
Such an import takes a moment; the interrupt comes right after it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType

EXIT_INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended, as a shell shows it."""
AGAIN_S = 0.02
"""So soon it is looked again whether the import is over, s."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler: raises :class:`KeyboardInterrupt` now, or as soon as that does no harm."""
    if not is_loading(frame):
        raise KeyboardInterrupt
    again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def is_loading(frame: FrameType | None) -> bool:
    """Whether the compiled part of a library is being imported here, from its search to its end.

    It is made in one step and set up in another. In between it must not be thrown away either.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            spec = frame.f_locals.get("spec")
            if isinstance(getattr(spec, "loader", None), ExtensionFileLoader):
                return True
        frame = frame.f_back
    return False


@contextmanager
def harmless_interrupts() -> Iterator[None]:
    """Use :func:`interrupt` for Ctrl-C where Python would use its own handler."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into an event.

    A second Ctrl-C or SIGTERM raises :class:`KeyboardInterrupt`. SIGHUP comes when the terminal is
    closed, perhaps several times; a process that was told to ignore it (``nohup``) does.
    """
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number in (signal.SIGINT, signal.SIGTERM):
            interrupt(number, frame)
        stop.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""The terminal of a run that goes on in this process: the picture of ``fimi top``, with keys.

``q`` leaves it: the run goes on with plain lines. What anybody prints meanwhile is an event of the
picture, and is printed once the terminal is as it was.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from msgspec.structs import replace

from fimi.monitor.snapshot import Said, Snapshot
from fimi.monitor.terminal.display import Display, EverySecond
from fimi.monitor.watcher import Watcher
from fimi.record.clean import clean
from fimi.record.events import Event
from fimi.record.interventions import Request, login
from fimi.record.record import RunData
from fimi.testbed.live import PlainView

log = logging.getLogger(__name__)

_KEPT = 10_000
"""Most lines that are kept until they can be printed."""
_SHOWN = 20
"""Of them, the latest that are shown among the events."""
_LONGEST = 65_536
"""Most characters of a line that is kept until it ends."""
_ENDS_S = 2.0


class RunDisplay:
    """Shows a run on a terminal. A context manager: at its end the terminal is as it was.

    Args:
        stream: the terminal.
        keys: where keys come from.
        rounds: number of planned rounds.
    """

    wants_telemetry = True

    def __init__(self, stream: IO[str], keys: IO[Any] | None, rounds: int) -> None:
        self._stream, self._keys = stream, keys
        self._lines = PlainView(None, rounds)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._stack = ExitStack()
        self._beside = _Beside()
        self._told: list[tuple[float, str]] = []

    def __enter__(self) -> RunDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(_ENDS_S)
        self._stack.close()

    def watch(self, watcher: Watcher, folder: Path) -> None:
        """Show this run from now on."""

        def act(request: Request) -> str:
            from fimi.monitor.asking import Asking

            return Asking(folder).ask(request, login("terminal")).words

        def take() -> Snapshot:
            told = [Said(unix_s=unix_s, text=clean(text, 1000)) for unix_s, text in self._told]
            return _with_more(watcher.snapshot(), [*told, *self._beside.latest()])

        display = Display(self._stream, self._keys, EverySecond(take), runs=True, act=act)
        self._stack.enter_context(self._beside)
        self._stack.enter_context(display.signals())
        self._thread = threading.Thread(target=self._show, args=(display,), name="display")
        self._thread.daemon = True
        self._thread.start()

    def _show(self, display: Display) -> None:
        """On a thread of its own, until the run has ended or the person has left."""
        try:
            display.run(self._over.is_set)
        except Exception:
            log.exception("the display has ended; the run goes on without it")
        if not self._over.is_set():
            self._beside.give_back()
            self._lines.speak(self._stream)
            for _, text in self._told:
                self._lines.say(text)
            self._lines.say("the run goes on; Ctrl-C stops it")

    def recall(self, run: RunData) -> None:
        """Count what earlier processes have stored of the run."""
        self._lines.recall(run)

    def say(self, text: str) -> None:
        """Show what is going on."""
        self._lines.say(text)

    def tell(self, text: str) -> None:
        """Show what is for nobody but the person here."""
        self._lines.say(text)
        self._told.append((time.time(), text))

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self._lines(event)


class _Beside:
    """Keeps what is printed while the terminal is drawn on, and prints it afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: tuple[Any, Any] | None = None
        self._own: tuple[Any, Any] = (None, None)
        self.lines: deque[tuple[float, str, bool]] = deque(maxlen=_KEPT)
        self._lost = 0

    def __enter__(self) -> _Beside:
        self._before = (sys.stdout, sys.stderr)
        self._own = (
            _Kept(sys.stdout, lambda text: self._add(text, False)),
            _Kept(sys.stderr, lambda text: self._add(text, True)),
        )
        sys.stdout, sys.stderr = self._own
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def _add(self, line: str, problem: bool) -> None:
        with self._lock:
            self._lost += len(self.lines) == _KEPT
            self.lines.append((time.time(), line, problem))

    def latest(self) -> list[Said]:
        """The latest lines, as events."""
        with self._lock:
            kept = list(self.lines)[-_SHOWN:]
        return [
            Said(unix_s=unix_s, text=clean(line, 1000), problem=problem)
            for unix_s, line, problem in kept
            if line.strip()
        ]

    def give_back(self) -> None:
        """Print what was kept."""
        with self._lock:
            before, self._before = self._before, None
        if before is None:
            return
        for stream in self._own:
            stream.end()
        if sys.stdout is self._own[0]:
            sys.stdout = before[0]
        if sys.stderr is self._own[1]:
            sys.stderr = before[1]
        with contextlib.suppress(OSError, ValueError):
            if self._lost:
                print(f"fimi: {self._lost} earlier lines are not shown", file=before[1])
            for _, line, problem in self.lines:
                print(line, file=before[problem], flush=True)


class _Kept:
    """A stream whose whole lines go elsewhere.

    Args:
        stream: what it takes the place of.
        add: gets the lines.
    """

    def __init__(self, stream: Any, add: Callable[[str], None]) -> None:
        self._stream, self._add = stream, add
        self._lock = threading.Lock()
        self._begun = ""

    def write(self, text: str) -> int:
        """Keep a text."""
        with self._lock:
            *whole, begun = (self._begun + text).split("\n")
            self._begun = _as_seen(begun, ends=False)
            if len(self._begun) > _LONGEST:
                whole.append(self._begun)
                self._begun = ""
        for line in whole:
            self._add(_as_seen(line))
        return len(text)

    def flush(self) -> None:
        """Nothing is written yet."""

    def isatty(self) -> bool:
        """Lines are kept as they are; they are not folded."""
        return False

    def end(self) -> None:
        """Keep what has no end yet, too."""
        with self._lock:
            begun, self._begun = _as_seen(self._begun), ""
        if begun:
            self._add(begun)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _as_seen(line: str, *, ends: bool = True) -> str:
    """What was written of a line last: a carriage return begins it again, as a progress bar does.

    Args:
        line: without its end.
        ends: whether nothing more of it comes, which might write over it.
    """
    shown = line.rstrip("\r")
    last = shown.rpartition("\r")[2]
    return last if ends else last + line[len(shown) :]


def _with_more(snapshot: Snapshot, more: list[Said]) -> Snapshot:
    """A run with more among its events."""
    if not more:
        return snapshot
    said = [*snapshot.said.items(), *((f"here {n}", each) for n, each in enumerate(more))]
    said.sort(key=lambda each: each[1].unix_s)
    return replace(snapshot, said=dict(said))

"""The picture on a terminal for as long as one looks: drawn again as the run goes on, with keys.

It is drawn at most four times a second, but for keys, which are answered at once. The size of the
terminal is looked at each time. Ctrl-Z gives the terminal back first; a process in the background
does not touch it and draws again once it is in front.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

from msgspec.structs import replace

from fimi.errors import FimiError
from fimi.monitor.snapshot import Snapshot
from fimi.monitor.terminal.keys import Keyboard
from fimi.monitor.terminal.picture import draw
from fimi.monitor.terminal.screen import Screen, has_the_terminal
from fimi.monitor.terminal.state import Drawn, ViewState, press
from fimi.monitor.terminal.text import TextLine, fit, of
from fimi.record.interventions import Request, words

NOTICE_S = 10.0
"""For how long the answer of a run is shown, s."""
TICK_S = 0.25
"""Time between two looks at what has changed, s."""


class Display:
    """Shows a run on a terminal.

    Args:
        stream: the terminal.
        keys: where keys come from; ``None``: nowhere.
        take: gives the run as it is, or ``None`` before anything is known; asked at every tick.
        link: what is wrong with the connection to the run, in words.
        runs: whether the run is in this process: it is asked before the display is left.
        act: asks something of the run, and says what became of it; ``None``: nothing can be asked.

    Attributes:
        state: what the person has chosen.
    """

    def __init__(
        self,
        stream: IO[str],
        keys: IO[Any] | None,
        take: Callable[[], Snapshot | None],
        *,
        link: Callable[[], str] = lambda: "",
        runs: bool = False,
        act: Callable[[Request], str] | None = None,
    ) -> None:
        self._stream, self._take, self._link, self._runs = stream, take, link, runs
        self._act = act
        self._notice: tuple[str, float] = ("", 0.0)
        self._screen, self._keyboard = Screen(stream), Keyboard(keys)
        self._picture = Drawn()
        self._drawn: tuple[Any, ...] = ()
        self._snapshot: Snapshot | None = None
        self._shows = self._stops = self._continued = False
        self.state = ViewState()

    def run(self, over: Callable[[], bool]) -> None:
        """Show the run until ``over`` says so, or the person has left; the terminal is given back.

        Args:
            over: whether nothing more is to be seen; asked at every tick.
        """
        self._shows = True
        try:
            while not self.state.done and not over():
                if self._stops:
                    self._stop()
                if not self._in_front():
                    time.sleep(TICK_S)
                    continue
                self._draw()
                keys = self._keyboard.wait(TICK_S)
                for key in keys:
                    self._press(key)
        finally:
            self._shows = False
            self._leave()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Answer Ctrl-Z and its end; only in the main thread, elsewhere nothing is changed."""
        if (
            not hasattr(signal, "SIGTSTP")
            or threading.current_thread() is not threading.main_thread()
        ):
            yield
            return
        before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGTSTP, self._asked_to_stop),
                (signal.SIGCONT, self._goes_on),
            )
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self._shows:
            self._stops = True
        else:  # the person has left; the process goes on
            os.kill(os.getpid(), signal.SIGSTOP)

    def _goes_on(self, number: int, frame: FrameType | None) -> None:
        self._continued = True

    def _stop(self) -> None:
        """Stop this process with the terminal as it was; goes on here afterwards."""
        self._leave()
        self._stops = False
        os.kill(os.getpid(), signal.SIGSTOP)

    def _in_front(self) -> bool:
        """Whether the terminal is ours; takes it where it is again."""
        if not has_the_terminal(self._stream):
            self._screen.is_open = False  # the shell has it, and has made it its own
            return False
        if self._continued or not self._screen.is_open:
            self._continued = False
            self._keyboard.take()
            self._keyboard.again()
            self._open()
        return True

    def _open(self) -> None:
        self._screen.open()
        self._drawn = ()

    def _leave(self) -> None:
        if has_the_terminal(self._stream):
            self._keyboard.give_back()
            self._screen.close()

    def _press(self, key: str) -> None:
        if key == "redraw":
            self._keyboard.again()
            self._open()
            return
        acts = self._acts
        self._notice = ("", 0.0)
        self.state = press(self.state, key, self._picture, asks=self._runs, acts=acts)
        if (request := self.state.asks) is not None:
            self.state = replace(self.state, asks=None)
            self._say(f"{words(request)}: asked")
            threading.Thread(target=self._ask, args=(request,), daemon=True).start()

    @property
    def _acts(self) -> bool:
        """Whether something can be asked of the run; of an experiment nothing can."""
        found = self._snapshot
        return self._act is not None and found is not None and found.study is None

    def _ask(self, request: Request) -> None:
        """Ask something of the run; its answer may take a while."""
        assert self._act is not None
        try:
            said = self._act(request)
        except (FimiError, ImportError, OSError) as error:
            said = f"{words(request)}: {error}"
        self._say(said)

    def _say(self, text: str) -> None:
        self._notice = (text, time.monotonic() + NOTICE_S)

    def _draw(self) -> None:
        """Draw what has changed."""
        snapshot, link, size = self._take(), self._link(), self._screen.size
        notice = self._notice[0] if time.monotonic() < self._notice[1] else ""
        seen = (size, link, self.state, notice)
        if seen == self._drawn and snapshot is self._snapshot:
            return
        if self._drawn and self._drawn[0] != size:
            self._screen.open()
        self._drawn, self._snapshot = seen, snapshot
        if snapshot is None:
            lines = [fit(of(link or "connecting"), size[0]), *[TextLine()] * (size[1] - 1)]
            self._picture = Drawn(lines=tuple(lines))
        else:
            self._picture = draw(
                snapshot,
                self.state,
                *size,
                link=link,
                runs=self._runs,
                acts=self._acts,
                notice=notice,
            )
        self._screen.show(self._picture.lines)


class EverySecond:
    """A snapshot that is taken anew at most once a second.

    Args:
        take: takes one.
        clock: monotonic time, s.
    """

    def __init__(
        self, take: Callable[[], Snapshot], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._take, self._clock = take, clock
        self._taken_s = float("-inf")
        self._last: Snapshot | None = None

    def __call__(self) -> Snapshot | None:
        """The latest."""
        now_s = self._clock()
        if now_s - self._taken_s >= 1.0:
            self._taken_s = now_s
            self._last = self._take()
        return self._last

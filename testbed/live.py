"""Progress of a run as plain lines: for a pipe, a file, or who has left the display.

* :class:`PlainView`  a line for each event that is worth one
* :class:`Lines`      its base, and that of the view of an experiment

Every energy is shown with its kind. Control characters are removed from texts of devices.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from fimi.monitor.sentences import describe, describe_backends, describe_round, is_problem
from fimi.monitor.watcher import Watcher
from fimi.record.clean import clean
from fimi.record.events import (
    Awaiting,
    AwaitingGenerator,
    BrokerAway,
    Credited,
    Event,
    Gathering,
    Paused,
    Planned,
    Planning,
    Prepared,
    RoundFinished,
    SearchProgress,
)
from fimi.record.phases import preparation_parts, round_parts
from fimi.record.record import RunData
from fimi.record.sums import EnergyTally, Sum
from fimi.testbed.logs import SHOWN, folded, one_line

log = logging.getLogger(__name__)

_MOST_ROWS = 24
_AROUND = 10
"""Lines of a live display besides those of devices."""
_LONGEST = 1000
_WAITING_S = 30.0
"""Time between two plain lines of a kind about who is waited for, s."""
_FIRST_WAITING_S = 5.0
"""How long somebody is waited for before there is such a line, s."""
_SAME_WAITING_S = 300.0
"""Time until a line says again that the same devices are waited for, s."""
_STILL_S = 2.5
"""How long the display shows who is waited for after it was last said, s."""
_APART = ("gone", "refused", "awaited")
"""What the display says of devices that are not there, or not in the run."""
_Waiting = Gathering | AwaitingGenerator | Awaiting | BrokerAway | Paused
"""Events that come again and again as long as somebody is waited for."""

_L = TypeVar("_L", bound="Lines")


class Lines:
    """Plain lines with the seconds since the first, on a stream and in the log file.

    Args:
        stream: the stream to write to; ``None``: to the log file only.
        quiet: whether the stream gets problems only.
        clock: monotonic time, s.
    """

    def __init__(
        self,
        stream: IO[str] | None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._clock = clock
        self._began_s = self._said_s = clock()

    def __enter__(self: _L) -> _L:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def speak(self, stream: IO[str]) -> None:
        """Write to this stream from now on."""
        self._stream = stream

    def say(self, text: str, *, problem: bool = False) -> None:
        """Write a line."""
        self._said_s = self._clock()
        log.log(logging.WARNING if problem else logging.INFO, "%s", text, extra=SHOWN)
        if self._stream is not None and (problem or not self._quiet):
            line = f"[{self._said_s - self._began_s:6.1f} s] {clean(one_line(text), _LONGEST)}"
            print(folded(line, self._stream), file=self._stream, flush=True)


class PlainView(Lines):
    """A line for each event that is worth one.

    Args:
        stream: this and the other parameters are those of :class:`Lines`.
        rounds: number of planned rounds.
        quiet: see there.
        clock: see there.

    Attributes:
        wants_telemetry: lines say nothing of what devices draw at the moment.
        so_far: energy of all boards since the beginning of the run.
        trained_with: what the devices of the last round trained with, as text.
    """

    wants_telemetry = False

    def __init__(
        self,
        stream: IO[str] | None,
        rounds: int,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream, quiet=quiet, clock=clock)
        self._rounds = rounds
        self._since_s: dict[type[Event], float] = {Gathering: clock()}
        self._heard: dict[type[Event], tuple[float, str]] = {Gathering: (clock(), "")}
        self._waits: dict[type[Event], tuple[float, object]] = {}
        self._credited: set[tuple[int, str]] = set()
        self._planning_s = math.inf
        self._energy = EnergyTally()
        self.so_far = Sum()
        self.trained_with = ""

    def tell(self, text: str) -> None:
        """Write what is for nobody but the person here."""
        self.say(text)

    def watch(self, watcher: Watcher, folder: Path) -> None:
        """Lines are of events, not of the state that they lead to."""

    def recall(self, run: RunData) -> None:
        """Count what earlier processes have stored of the run."""
        for preparation in run.preparations:
            self._energy.add(preparation_parts(preparation))
        for result in run.rounds:
            self._energy.add(round_parts(result))
            self.trained_with = describe_backends(result)
        self.so_far = self._energy.sum()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if line := self._line(event):
            self.say(line, problem=is_problem(event))

    def _line(self, event: Event) -> str:
        match event:
            case Gathering() | AwaitingGenerator() | Awaiting() | BrokerAway() | Paused():
                return describe(event) if self._is_due(event) else ""
            case Planning():
                self._planning_s = self._clock()
            case Planned():
                self._planning_s = math.inf
            case SearchProgress() if self._clock() - self._planning_s > _WAITING_S:
                self._planning_s = self._clock()
                return f"still planning, step {event.step}"
            case Prepared():
                self._energy.add(preparation_parts(event.preparation))
                self.so_far = self._energy.sum()
            case Credited():  # its work, then its idle time
                if (event.round, event.device) in self._credited:
                    return ""
                self._credited.add((event.round, event.device))
            case RoundFinished():
                self._energy.add(round_parts(event.result))
                self.so_far = self._energy.sum()
                line = describe_round(event.result, self._rounds, self.so_far)
                with_what = describe_backends(event.result)
                if with_what == self.trained_with:
                    return line
                self.trained_with = with_what
                return f"{line}; {with_what}"
        return describe(event)

    def _is_due(self, event: _Waiting) -> bool:
        """Whether somebody is waited for so long that a line says so."""
        kind, now_s = type(event), self._clock()
        what = event.what if isinstance(event, Awaiting) else ""
        heard_s, before_what = self._heard.get(kind, (-_WAITING_S, ""))
        if now_s - heard_s > _FIRST_WAITING_S or what != before_what:
            self._since_s[kind] = now_s  # waiting for something else than last time
        self._heard[kind] = (now_s, what)
        if isinstance(event, Gathering) and event.here >= event.wanted:
            return False
        who: object = (event.what, event.devices) if isinstance(event, Awaiting) else None
        if isinstance(event, Paused):
            who = event.round
        said_s, before = self._waits.get(kind, (-_SAME_WAITING_S, None))
        pause_s = _SAME_WAITING_S if who is not None and who == before else _WAITING_S
        patience_s = 0.0 if isinstance(event, AwaitingGenerator) else _FIRST_WAITING_S
        if now_s - self._since_s[kind] < patience_s or now_s - said_s <= pause_s:
            return False
        self._waits[kind] = (now_s, who)
        return True

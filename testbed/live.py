"""Progress of a run on the terminal: a live display, or plain lines where there is no terminal.

* :class:`PlainView`    a line for each event
* :class:`LiveView`     a display of the fleet that is redrawn four times a second
* :class:`Lines`, :class:`LiveDisplay`  their bases, and those of the views of an experiment

Both views are called with the coordinator's events and show the same facts. Every energy is shown
with its kind. Control characters are removed from texts of devices.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import IO, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fimi.coordinator.training_rounds import in_words
from fimi.energy.hardware import HardwareDescription
from fimi.monitor.sentences import describe, describe_backends, describe_round, is_problem
from fimi.record.clean import clean
from fimi.record.events import (
    Awaiting,
    AwaitingGenerator,
    BatchDelivered,
    BrokerAway,
    Credited,
    Deployed,
    DeviceJoined,
    DeviceLost,
    DeviceRefused,
    DeviceReported,
    DeviceSetAside,
    Event,
    Gathering,
    GenerationProgress,
    Intervened,
    InterventionAsked,
    LateAdded,
    LearningRefitted,
    MeterDoubted,
    ModelKept,
    NotDeployed,
    Paused,
    PlanInForce,
    Planned,
    Planning,
    Prepared,
    Refitted,
    Resumed,
    RoundFinished,
    RoundStarted,
    RunFinished,
    SearchProgress,
    SenderSetAside,
    StillInForce,
    SyntheticUse,
    UpdateClipped,
    UpdateRejected,
)
from fimi.record.phases import preparation_parts, round_parts
from fimi.record.record import RunData
from fimi.record.results import RoundResult
from fimi.record.sums import EnergyTally, Sum
from fimi.report.words import alike, heading, sum_cell
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
        so_far: energy of all boards since the beginning of the run.
        trained_with: what the devices of the last round trained with, as text.
    """

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


class LiveDisplay(Live):
    """Redrawn four times a second while its ``with`` block lasts, and removed afterwards.

    Subclasses override :meth:`get_renderable`, and call this constructor last, because it draws.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, refresh_per_second=4, transient=True)


class LiveView(LiveDisplay):
    """A display of the fleet.

    Args:
        console: a terminal.
        rounds: number of planned rounds.
        title: what is running.
    """

    def __init__(self, console: Console, rounds: int, title: str) -> None:
        self._log = PlainView(None, rounds)
        self._rounds = rounds
        self._title = title
        self._doing = "starting broker, generator node and devices"
        self._devices: dict[str, list[str]] = {}
        self._kinds: set[str] = set()
        self._latest: dict[str, Sum] = {}
        self._notices: list[str] = []
        self._plan = ""
        self._results: list[RoundResult] = []
        self._earlier = 0
        self._waiting, self._waiting_s = "", float("-inf")
        self._began_s = time.monotonic()
        self._rounds_began_s: float | None = None
        super().__init__(console)

    def say(self, text: str) -> None:
        """Show what is going on."""
        self._log.say(text)
        self._doing = text

    def recall(self, run: RunData) -> None:
        """Count what earlier processes have stored of the run."""
        self._log.recall(run)
        for result in run.rounds:
            self._count(result)
        self._earlier = len(self._results)
        for device, share in run.device_plans.items():
            self._devices[device] = ["", "", str(sum(share.synthetic_counts)), "awaited"]
            if (profile := run.profiles.get(device)) is not None:
                self._describe(device, profile.hardware, sum(profile.label_counts))

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self._log(event)
        match event:
            case Gathering() | GenerationProgress() | Resumed():
                self._doing = describe(event)
            case Awaiting() | AwaitingGenerator() | BrokerAway() | Paused():
                self._waiting, self._waiting_s = describe(event), time.monotonic()
            case DeviceJoined():
                self._devices.setdefault(event.device, ["", "", "", ""])
                self._describe(event.device, event, event.samples)
                self._set(event.device, 3, "joined")
            case DeviceRefused():
                self._set(event.device, 3, "refused")
                self._notices = [*self._notices[-2:], describe(event)]
            case DeviceLost():
                self._set(event.device, 3, "gone")
            case Planning():
                self._doing = describe(event)
            case SearchProgress():
                self._doing = f"planning: step {event.step}"
            case Planned():
                self._plan = describe(event)
                self._doing = "making synthetic samples"
                for share in event.plan.devices:
                    self._set(share.device, 2, str(sum(share.synthetic_counts)))
            case BatchDelivered():
                self._set(event.device, 3, "batch made")
            case PlanInForce():
                self._set(event.device, 3, event.error or "plan in force")
            case RoundStarted():
                self._rounds_began_s = self._rounds_began_s or time.monotonic()
                self._doing = f"round {event.round}"
                for device, cells in self._devices.items():
                    if device in event.devices:
                        self._set(device, 3, "training")
                    elif cells[3] not in _APART:
                        self._set(device, 3, "resting")
            case DeviceReported():
                self._set(event.device, 3, event.error or "reported")
            case UpdateRejected():
                self._notices = [*self._notices[-2:], f"round {event.round}: {event.reason}"]
            case RoundFinished():
                self._count(event.result)
            case (
                Refitted()
                | LearningRefitted()
                | SyntheticUse()
                | Deployed()
                | NotDeployed()
                | MeterDoubted()
                | UpdateClipped()
                | DeviceSetAside()
                | ModelKept()
                | LateAdded()
                | SenderSetAside()
                | InterventionAsked()
                | Intervened()
                | StillInForce()
            ):
                self._notices = [*self._notices[-2:], describe(event)]
            case RunFinished():
                self._doing = event.status

    def _count(self, result: RoundResult) -> None:
        self._results.append(result)
        for entry in result.participants:
            planned = self._devices.get(entry.device, [""] * 3)[2]
            if planned and entry.status == "accepted":  # after top-ups, or on a share of them
                self._set(entry.device, 2, str(entry.synthetic_samples))
        parts = round_parts(result)
        for device in {part.device: None for part in parts}:
            own = EnergyTally(part for part in parts if part.device == device)
            self._latest[device] = own.sum()

    def _describe(
        self, device: str, board: DeviceJoined | HardwareDescription, samples: int
    ) -> None:
        self._kinds.add(board.kind)
        self._devices[device][:2] = [f"{board.board} ({board.kind})", str(samples)]

    def _set(self, device: str, column: int, text: str) -> None:
        if device in self._devices:
            self._devices[device][column] = text

    def get_renderable(self) -> RenderableType:
        """The display at this moment."""
        done = len(self._results)
        elapsed = time.monotonic() - self._began_s
        with_what = f" · {self._log.trained_with}" if self._log.trained_with else ""
        head = Text.assemble((self._title, "bold"), f"   {elapsed:.0f} s{with_what}")
        waits = time.monotonic() - self._waiting_s < _STILL_S
        doing = self._waiting if waits else self._doing
        parts: list[RenderableType] = [head, Text(clean(doing, _LONGEST))]
        if self._plan:
            parts.append(Text(self._plan, style="dim"))
        bar = Table.grid(padding=(0, 1))
        cells = (f"{done}/{in_words(self._rounds)}", *self._figures(done))
        for _ in range(1 + len(cells)):
            bar.add_column(no_wrap=True)
        bar.add_row(ProgressBar(total=self._rounds, completed=done, width=14), *cells)
        parts.append(bar)
        most = max(1, min(_MOST_ROWS, self.console.height - _AROUND))
        parts.append(self._table(most))
        if len(self._devices) > most:
            parts.append(Text(f"… and {len(self._devices) - most} more devices", "dim"))
        parts += [Text(clean(notice), style="yellow") for notice in self._notices]
        return Group(*parts)

    def _table(self, most: int) -> Table:
        """A row per device; what is the same for all stands in the heading."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        (kind,) = self._kinds if len(self._kinds) == 1 else ("",)
        known = [total.known for total in self._latest.values()]
        bare = alike(known)
        energy = heading(known) if bare and any(known) else ""
        for title, numeric in (
            ("device", False),
            (f"board\n{kind}", False),
            ("samples\nown", True),
            ("\nsynthetic", True),
            ("doing", False),
            (f"last round\n{energy}", True),
        ):
            table.add_column(title, no_wrap=True, justify="right" if numeric else "left")
        for device, (board, *cells) in sorted(self._devices.items())[:most]:
            table.add_row(
                Text(clean(device)),
                Text(clean(board.removesuffix(f" ({kind})"))),
                *(Text(clean(text)) for text in cells),
                sum_cell(self._latest[device], bare=bare) if device in self._latest else "",
            )
        return table

    def _figures(self, done: int) -> list[str]:
        figures = []
        if done and self._rounds_began_s is not None:
            figures.append(f"accuracy {self._results[-1].evaluation.accuracy:.1%}")
            if self._log.so_far.known is not None:
                figures.append(sum_cell(self._log.so_far, bare=False))
            if own := done - self._earlier:
                each_s = (time.monotonic() - self._rounds_began_s) / own
                figures.append(f"{each_s * (self._rounds - done):.0f} s left")
        return figures


View = PlainView | LiveView

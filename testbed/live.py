"""Progress of a run on the terminal: a live picture, or plain lines where there is no terminal.

Both views are listeners of the coordinator's events and show the same facts; energies are shown
with their kind, as everywhere. What a device says of itself reaches the terminal without control
characters.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import IO, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fimi.coordinator.training_rounds import in_words
from fimi.energy.joules import format_joules
from fimi.record.clean import clean, enumerated
from fimi.record.events import (
    BatchDelivered,
    Deployed,
    DeviceJoined,
    DeviceLost,
    DeviceReported,
    Event,
    Gathering,
    GenerationProgress,
    NotDeployed,
    PlanInForce,
    Planned,
    Refitted,
    RoundFinished,
    RoundStarted,
    RunFinished,
    SearchProgress,
    UpdateRejected,
)
from fimi.record.phases import round_parts
from fimi.record.results import Deployment, RoundResult
from fimi.record.sums import EnergyTally, Sum
from fimi.report.besides import server_line
from fimi.report.words import alike, heading, sum_cell
from fimi.testbed.logs import SHOWN, one_line

log = logging.getLogger(__name__)

_MOST_ROWS = 24
_AROUND = 9
"""Lines of a live picture besides those of devices."""
_LONGEST = 1000
_GATHERING_S = 30.0
"""Between two plain lines about who is missing."""

_L = TypeVar("_L", bound="Lines")
_P = TypeVar("_P", bound="LivePicture")


class Lines:
    """Plain lines with the seconds since the first, on a stream and in the log file.

    Args:
        stream: where to write; ``None``: to the log file only.
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
            print(line, file=self._stream, flush=True)


class PlainView(Lines):
    """One line per event worth a line.

    Args:
        stream: as of :class:`Lines`.
        rounds: how many are planned.
        quiet: whether the stream gets problems only.
        clock: monotonic time, s.
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
        self._gathering_s = clock() + 5.0  # of a dry run nobody is missing for long
        self._energy = EnergyTally()
        self._trained_with = ""

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        if (line := self._line(event)) is not None:
            self.say(line, problem=is_problem(event))

    def _line(self, event: Event) -> str | None:
        match event:
            case Gathering() if event.here < event.wanted and self._clock() > self._gathering_s:
                self._gathering_s = self._clock() + _GATHERING_S
                return describe_gathering(event)
            case DeviceJoined():
                return (
                    f"{event.device} joined: {event.board} ({event.kind}), "
                    f"{event.samples} samples, {event.backend}"
                )
            case DeviceLost() | UpdateRejected():
                return f"{event.device}: {event.reason}"
            case Planned():
                return describe_plan(event)
            case BatchDelivered():
                error = f" ({event.error})" if event.error else ""
                metered = f", {event.energy}" if event.energy else ""
                return (
                    f"{event.device}: {event.delivered} of {event.requested} synthetic images"
                    f"{metered}{error}"
                )
            case GenerationProgress():
                return describe_generation(event)
            case PlanInForce() if event.error or event.notes:
                return f"{event.device}: {event.error or '; '.join(event.notes)}"
            case RoundFinished():
                self._energy.add(round_parts(event.result))
                line = describe_round(event.result, self._rounds, self._energy.sum())
                with_what = describe_backends(event.result)
                if with_what == self._trained_with:
                    return line
                self._trained_with = with_what
                return f"{line}; {with_what}"
            case Refitted():
                return describe_refit(event)
            case Deployed():
                return describe_deployment(event.deployment)
            case NotDeployed():
                return describe_failure(event)
            case RunFinished():
                return f"run {event.status}: {event.reason}"
        return None


class LivePicture(ABC):
    """Drawn four times a second while its ``with`` block lasts, gone afterwards.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(
            console=console, refresh_per_second=4, get_renderable=self._draw, transient=True
        )

    def __enter__(self: _P) -> _P:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    @abstractmethod
    def _draw(self) -> RenderableType:
        """How things are."""


class LiveView(LivePicture):
    """A picture of the fleet that is drawn anew four times a second.

    Args:
        console: a terminal.
        rounds: how many are planned.
        title: what is running.
    """

    def __init__(self, console: Console, rounds: int, title: str) -> None:
        self._console = console
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
        self._energy, self._so_far = EnergyTally(), Sum()
        self._trained_with = ""
        self._began_s = time.monotonic()
        self._rounds_began_s: float | None = None
        super().__init__(console)

    def say(self, text: str) -> None:
        """Show what is going on."""
        self._log.say(text)
        self._doing = text

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        self._log(event)
        match event:
            case Gathering():
                self._doing = describe_gathering(event)
            case DeviceJoined():
                self._kinds.add(event.kind)
                self._devices[event.device] = [
                    f"{event.board} ({event.kind})",
                    str(event.samples),
                    "",
                    "joined",
                ]
            case DeviceLost():
                self._set(event.device, 3, "gone")
            case SearchProgress():
                self._doing = f"planning: iteration {event.iteration}"
            case Planned():
                self._plan = describe_plan(event)
                self._doing = "making synthetic images"
                for share in event.plan.devices:
                    self._set(share.device, 2, str(sum(share.synthetic_counts)))
            case BatchDelivered():
                self._set(event.device, 3, "batch made")
            case GenerationProgress():
                self._doing = describe_generation(event)
            case PlanInForce():
                self._set(event.device, 3, event.error or "plan in force")
            case RoundStarted():
                self._rounds_began_s = self._rounds_began_s or time.monotonic()
                self._doing = f"round {event.round}"
                for device in self._devices:
                    self._set(device, 3, "training" if device in event.devices else "resting")
            case DeviceReported():
                self._set(event.device, 3, event.error or "reported")
            case UpdateRejected():
                self._notices = [*self._notices[-2:], f"round {event.round}: {event.reason}"]
            case RoundFinished():
                self._results.append(event.result)
                parts = round_parts(event.result)
                self._energy.add(parts)
                self._so_far = self._energy.sum()
                if with_what := describe_backends(event.result):
                    self._trained_with = f" · {with_what}"
                for device in {part.device: None for part in parts}:
                    own = EnergyTally(part for part in parts if part.device == device)
                    self._latest[device] = own.sum()
            case Refitted():
                self._notices = [*self._notices[-2:], describe_refit(event)]
            case Deployed():
                said = describe_deployment(event.deployment)
                self._notices = [*self._notices[-2:], said]
            case NotDeployed():
                self._notices = [*self._notices[-2:], describe_failure(event)]
            case RunFinished():
                self._doing = event.status

    def _set(self, device: str, column: int, text: str) -> None:
        if device in self._devices:
            self._devices[device][column] = text

    def _draw(self) -> RenderableType:
        done = len(self._results)
        elapsed = time.monotonic() - self._began_s
        head = Text.assemble((self._title, "bold"), f"   {elapsed:.0f} s{self._trained_with}")
        parts: list[RenderableType] = [head, Text(clean(self._doing, _LONGEST))]
        if self._plan:
            parts.append(Text(self._plan, style="dim"))
        bar = Table.grid(padding=(0, 1))
        cells = (f"{done}/{in_words(self._rounds)}", *self._figures(done))
        for _ in range(1 + len(cells)):
            bar.add_column(no_wrap=True)
        bar.add_row(ProgressBar(total=self._rounds, completed=done, width=14), *cells)
        parts.append(bar)
        most = max(1, min(_MOST_ROWS, self._console.height - _AROUND))
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
            ("\nsynth.", True),
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
            if self._so_far.known is not None:
                figures.append(sum_cell(self._so_far, bare=False))
            each_s = (time.monotonic() - self._rounds_began_s) / done
            figures.append(f"{each_s * (self._rounds - done):.0f} s left")
        return figures


View = PlainView | LiveView


def is_problem(event: Event) -> bool:
    """Whether an event is worth a line however little somebody wants to read."""
    if isinstance(event, BatchDelivered | PlanInForce):
        return bool(event.error)
    return isinstance(event, DeviceLost | UpdateRejected | NotDeployed)


def describe_gathering(event: Gathering) -> str:
    """Who is here and who is missing, in one line: ``1 of 2 devices here, 84 s left: ...``."""
    said = f"{event.here} of {event.wanted} devices here"
    if event.here >= event.wanted:
        return said
    who = enumerated(event.missing) or f"{event.wanted - event.here}"
    return f"{said}, {event.left_s:.0f} s left: {who} missing"


def describe_plan(event: Planned) -> str:
    """The plan in one line."""
    plan = event.plan
    gap = "" if plan.gap_percent is None else f", gap {plan.gap_percent:.2g} %"
    bound = "" if plan.bound_j is None else f" (certified bound {format_joules(plan.bound_j)}{gap})"
    return (
        f"plan: {event.synthetic_samples} synthetic samples, {format_joules(plan.energy_j)} "
        f"dynamic energy a round{bound}, found by {plan.search}"
    )


def describe_generation(event: GenerationProgress) -> str:
    """How far synthetic images are, in one line."""
    return (
        f"synthetic images: {event.devices_done} of {event.devices_asked} batches ready, "
        f"{event.lacking} images to draw, {event.images_per_s:.0f} a second"
    )


def describe_refit(event: Refitted) -> str:
    """A refit in one line."""
    worst = max(event.drift_percent, key=lambda device: event.drift_percent[device])
    said = (
        f"after round {event.round} predictions of {len(event.drift_percent)} devices had drifted "
        f"(worst {worst}, {event.drift_percent[worst]:.0f} %): boards fitted again"
    )
    if event.energy_j is None:
        return f"{said}; {event.reason}"
    return (
        f"{said}, new plan with {format_joules(event.energy_j)} dynamic energy a round (modelled)"
    )


def describe_deployment(made: Deployment) -> str:
    """What was exported, in one line."""
    files = [
        f"{f.variant} {f.size_bytes / 1e3:.0f} kB, {f.accuracy:.1%} on test images"
        for f in made.files
    ]
    failed = [d for d, trials in made.trials.items() if any(t.error for t in trials)]
    count = len(made.trials)
    tried = f"; tried on {count} device{'' if count == 1 else 's'}" if count else ""
    problems = f", {len(failed)} of them failed" if failed else ""
    silent = f"; no answer from {', '.join(made.silent[:3])}" if made.silent else ""
    return f"exported after round {made.round}: {'; '.join(files)}{tried}{problems}{silent}"


def describe_failure(event: NotDeployed) -> str:
    """Why there is no file, in one line."""
    return f"no ONNX file of the model after round {event.round}: {event.reason}"


def describe_round(result: RoundResult, rounds: int, so_far: Sum) -> str:
    """A round in one line."""
    said = [f"round {result.number}/{rounds}: accuracy {result.evaluation.accuracy:.1%}"]
    if result.devices:
        energy = (
            f"{sum_cell(so_far, bare=False)} so far"
            if so_far.known
            else "energy not metered so far"
        )
        said.append(f"{result.accepted} of {len(result.participants)} updates, {energy}")
    if server := server_line(result):
        said.append(server)
    return ", ".join(said)


def describe_backends(result: RoundResult) -> str:
    """What the devices of a round trained with, and how many each; empty if none did."""
    counts = Counter(device.backend for device in result.devices if device.backend)
    each = [f"{count} with {backend}" for backend, count in sorted(counts.items())]
    return f"trained: {', '.join(each)}" if each else ""

"""Progress of an experiment: a live display in a terminal, else plain lines."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fimi.report.words import seconds
from fimi.testbed.experiment.engines.base import Task, View
from fimi.testbed.live import Lines
from fimi.testbed.logs import SHOWN, one_line

log = logging.getLogger(__name__)

_PASSING = re.compile(r"\d+ (?:s|°C)\b")
"""What changes while one waits for the same."""
_EVERY_S = 60.0
"""Time between two plain lines that only show progress, s."""


class ExperimentPlainView(Lines, View):
    """A line for each task that ends, and one a minute in between.

    Args:
        stream: the stream to write to.
        tasks: number of tasks.
        quiet: whether the stream gets problems only.
    """

    def __init__(self, stream: IO[str], tasks: int, *, quiet: bool = False) -> None:
        super().__init__(stream, quiet=quiet)
        self._tasks = tasks
        self._ended = 0
        self._waits_for = self._doing = ""

    def expect(self, more: int) -> None:
        """Count them with those that have ended."""
        self._tasks = self._ended + more

    def noted(self, task: Task, note: str) -> None:
        """Show the note."""
        self.say(f"{task.name}: {note}")

    def doing(self, what: str) -> None:
        """Keep it for the next line of progress."""
        self._doing = f" ({what})" if what else ""

    def waiting(self, what: str) -> None:
        """Write a line when another wait begins, and from time to time."""
        kind = _PASSING.sub("", what)
        is_due = self._clock() - self._said_s > _EVERY_S
        if what and (kind != self._waits_for or is_due):
            self.say(what)
        self._waits_for = kind

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        """Show the outcome."""
        self._ended += 1
        said = f"{self._ended} of {self._tasks}: {describe(task, seconds, problem)}"
        self.say(said, problem=bool(problem))

    def tick(self, running: Sequence[tuple[Task, float]], left_s: float | None) -> None:
        """Write a line of progress if nothing was written for some time."""
        if running and self._clock() - self._said_s > _EVERY_S:
            said = "; ".join(f"{t.name} {_steps(t)}".strip() for t, _ in running)
            self.say(said + _left(left_s) + self._doing)


class ExperimentLiveView(Live, View):
    """A display that is redrawn four times a second; lines of ended tasks are printed above it.

    Args:
        console: a terminal.
        tasks: number of tasks.
        title: name of the experiment.
    """

    def __init__(self, console: Console, tasks: int, title: str) -> None:
        self._tasks = tasks
        self._title = title
        self._ended = 0
        self._running: Sequence[tuple[Task, float]] = ()
        self._left_s: float | None = None
        self._waits_for = self._doing = ""
        self._began_s = time.monotonic()
        super().__init__(console=console, refresh_per_second=4, transient=True)  # draws: at the end

    def say(self, text: str) -> None:
        """Write a line above the display."""
        log.info("%s", text, extra=SHOWN)
        self.console.print(Text(one_line(text)))

    def expect(self, more: int) -> None:
        """Count them with those that have ended."""
        self._tasks = self._ended + more

    def noted(self, task: Task, note: str) -> None:
        """Show the note."""
        self.say(f"{task.name}: {note}")

    def doing(self, what: str) -> None:
        """Keep it for the next display."""
        self._doing = what

    def waiting(self, what: str) -> None:
        """Keep it for the next display."""
        self._waits_for, self._running = what, () if what else self._running

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        """Show the outcome."""
        self._ended += 1
        self.say(describe(task, seconds, problem))

    def tick(self, running: Sequence[tuple[Task, float]], left_s: float | None) -> None:
        """Keep the running tasks for the next display."""
        self._running, self._left_s = running, left_s

    def get_renderable(self) -> RenderableType:
        """The display at this moment."""
        gone = time.monotonic() - self._began_s
        left = "" if self._waits_for else _left(self._left_s)  # it is that of before the wait
        head = Text.assemble(
            (self._title, "bold"),
            f"   {self._ended} of {self._tasks} runs, {_whole(gone)}{left}",
        )
        rows = Table.grid(padding=(0, 2))
        for task, since in self._running:
            bar = ProgressBar(total=task.steps or 1, completed=task.done(), width=24)
            rows.add_row(task.name, bar, _steps(task), _whole(since))
        whole = Table.grid()  # because a bar in a group does not end its line
        whole.add_row(ProgressBar(total=max(self._tasks, 1), completed=self._ended, width=60))
        said = self._waits_for or self._doing
        return Group(head, whole, rows, *([Text(one_line(said))] if said else []))


def describe(task: Task, took_s: float, problem: str) -> str:
    """The result of a task as text."""
    return f"{task.name} FAILED: {problem}" if problem else f"{task.name}: {seconds(took_s)}"


def _steps(task: Task) -> str:
    return f"{task.done()}/{task.steps}" if task.steps else ""


def _left(left_s: float | None) -> str:
    if left_s is None:
        return ""
    return f", {_whole(left_s)} left" if left_s >= 1 else ", nearly done"


def _whole(time_s: float) -> str:
    return f"{time_s:.0f} s" if time_s < 99.5 else seconds(time_s)

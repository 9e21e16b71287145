"""What every engine gets, does and gives back.

* :class:`Engine`       runs tasks; a task that fails does not stop the others
* :class:`Task`         one run or training, with its progress
* :class:`CommandLine`  with which a task is begun, or gone on with
* :class:`View`         shows the progress of tasks
* :class:`Outcome`      the result of all tasks
* :class:`TaskTimes`    how long tasks take
* :class:`Stopped`      it was asked to stop
* :func:`start_command` starts a command in a process that ends with this one
* :func:`last_line`     what a command said last
* :func:`last_words`, :func:`last_code`  why a command failed

A command is chosen when a task starts, also when it starts again: a run of which something is
stored is then gone on with.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from fimi import children
from fimi.errors import CODE_LINE
from fimi.testbed import logs
from fimi.testbed.configuration.sections import Config

_LOG_TIME = re.compile(r"^\[ *[0-9.]+ s\] ")
_ADVICE = "go on with it: "
"""Said last by a run that was stopped; the experiment does that by itself."""
GRACE_S = 40.0
"""How long a command may take to end after it was asked to, s."""


class CommandLine(Struct, frozen=True, kw_only=True):
    """A command line.

    Attributes:
        arguments: of ``fimi``.
        note: for people: why a run is begun anew of which something was stored; else empty.
    """

    arguments: tuple[str, ...]
    note: str = ""


class Task(Struct, frozen=True, kw_only=True):
    """One run or training.

    Attributes:
        name: name for people.
        kind: tasks of the same kind take about the same time.
        command: gives the command line; called just before each start. Raises
            :class:`~fimi.errors.FimiError` where it cannot start, which is the task's problem.
        log: file for its standard error.
        keeps_output: whether the log gets standard output too.
        folder: what it makes: a run folder, or that of a generator.
        config: the configuration of a run; ``None``: it is no run.
        problem: called after it has ended without error; returns what is wrong nevertheless, or an
            empty string.
        done: gives the number of finished steps.
        steps: number of all steps; 0: unknown.
    """

    name: str
    kind: str
    command: Callable[[], CommandLine]
    log: Path
    keeps_output: bool = False
    folder: Path | None = None
    config: Config | None = None
    problem: Callable[[], str] = lambda: ""
    done: Callable[[], int] = lambda: 0
    steps: int = 0


class View:
    """Shows the progress of tasks; this one shows nothing."""

    def expect(self, more: int) -> None:
        """Hear how many tasks follow those that were done."""

    def started(self, task: Task) -> None:
        """Show that a task has begun."""

    def noted(self, task: Task, note: str) -> None:
        """Show what is to be said of a task before it has ended."""

    def doing(self, what: str) -> None:
        """Show what the only running task said last; empty: nothing yet."""

    def waiting(self, what: str) -> None:
        """Show for what everything waits; empty: for nothing any more."""

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        """Show that a task has ended; ``problem`` says what is wrong, or is empty."""

    def tick(self, running: Sequence[tuple[Task, float]], left_s: float | None) -> None:
        """Called several times a second with running tasks, their durations, and the time left."""


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of all tasks.

    Attributes:
        failures: name of a failed task to its problem.
        interrupted: whether they were stopped before all had ended.
    """

    failures: dict[str, str]
    interrupted: bool


class TaskTimes:
    """How long tasks take, learnt from those that have ended.

    Args:
        known_s: kind to seconds, from earlier runs.
    """

    def __init__(self, known_s: Sequence[tuple[str, float]] = ()) -> None:
        self._known = list(known_s)

    def learn(self, kind: str, seconds: float) -> None:
        """Note the duration of a task of that kind, s."""
        self._known.append((kind, seconds))

    def expected_s(self, kind: str) -> float | None:
        """Expected duration of a task of that kind, s; if none has ended, that of any task."""
        same = [s for k, s in self._known if k == kind] or [s for _, s in self._known]
        return sum(same) / len(same) if same else None

    def left_s(
        self, waiting: Sequence[Task], running: Sequence[tuple[Task, float]], jobs: int
    ) -> float | None:
        """Time until all tasks have ended, s; ``None`` if nothing is known yet.

        Before the first task has ended, it follows from the finished steps of running tasks.
        """
        guesses = [gone * t.steps / done for t, gone in running if t.steps and (done := t.done())]
        rest = 0.0
        for task, gone in [*((task, 0.0) for task in waiting), *running]:
            expected = self.expected_s(task.kind)
            if expected is None and guesses:
                expected = sum(guesses) / len(guesses)
            if expected is None:
                return None
            rest += max(expected - gone, 0.0)
        return rest / max(1, min(jobs, len(waiting) + len(running)))


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """An engine was asked to stop while it waited for something."""


class Engine(Protocol):
    """Runs tasks."""

    def run(
        self, tasks: Sequence[Task], *, clock: TaskTimes, view: View, stop: threading.Event
    ) -> Outcome:
        """Run tasks until all have ended or ``stop`` is set, which ends those that run.

        Args:
            tasks: the tasks, in this order if the engine has none of its own.
            clock: durations of tasks; learns those of tasks that end well.
            view: shows progress.
            stop: when set, all tasks are ended cleanly before this returns.

        Raises:
            FimiError: the engine cannot run anything.
            OSError: a log cannot be written, or a process cannot be started; running tasks are
                ended.
        """
        ...


def start_command(
    arguments: Sequence[str],
    log: Path,
    *,
    options: Sequence[str] | None = None,
    keeps_output: bool = False,
    keep_open: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> children.Child:
    """Start a command of ``fimi`` in a process that ends with this one.

    Args:
        arguments: of the command.
        log: file for its standard error; its folder is made.
        options: of ``fimi`` itself; ``None``: those of this process.
        keeps_output: whether the log gets standard output too.
        keep_open: files that it holds open as long as it lives: locks.
        environment: its environment variables; ``None``: those of this process.

    Raises:
        OSError: the log cannot be written, or no process be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    return children.start(
        "fimi.testbed.child",
        arguments=(*(logs.arguments() if options is None else options), *arguments),
        log=log,
        keeps_output=keeps_output,
        keep_open=keep_open,
        environment=environment,
    )


def last_line(log: Path) -> str:
    """What a command said last, by its log, without the time before it; empty: nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = (line for line in reversed(lines) if line.strip() and not line.startswith(CODE_LINE))
    return _LOG_TIME.sub("", next(said, ""))


def last_code(log: Path) -> str:
    """The code that an error of a command ended with, such as ``B003``; empty without one."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = (line for line in reversed(lines) if line.startswith(CODE_LINE))
    return next(found, "")[len(CODE_LINE) :].partition("]")[0]


def last_words(log: Path, code: int | None = None) -> str:
    """Why a command failed, by its log: its error, or its last line."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    lines = [line for line in text.splitlines() if not line.startswith((_ADVICE, CODE_LINE))]
    starts = [i for i, line in enumerate(lines) if line.startswith("fimi: ")]
    said = (
        " ".join(line.strip() for line in lines[starts[-1] :])[len("fimi: ") :]
        if starts
        else _LOG_TIME.sub("", next((line for line in reversed(lines) if line.strip()), ""))
    )
    said = said or "it said nothing"
    if code is None:
        return said
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{said} ({ended})"

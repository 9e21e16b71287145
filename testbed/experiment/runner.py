"""Runs processes at the same time, as many as cores and memory allow, and ends them together.

* :class:`Task`      one command line of ``fimi``, with its progress
* :func:`run_tasks`  runs all tasks; a task that fails does not stop the others

Every task is a process in a session of its own, so that Ctrl-C reaches it through us and it can
finish its store. A task ends by itself when this process is gone (:mod:`fimi.testbed.child`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from msgspec import Struct

from fimi import children
from fimi.testbed import logs
from fimi.testbed.experiment.memory import Need, family_bytes

_LOOK_S = 0.25
GRACE_S = 40.0
"""How long a command may take to end after it was asked to, s."""
_WEIGH_S = 2.0
"""Time between two measurements of memory, s; one takes milliseconds for each process."""


class Task(Struct, frozen=True, kw_only=True):
    """One command line.

    Attributes:
        name: name for people.
        kind: tasks of the same kind take about the same time.
        arguments: arguments of ``fimi``.
        log: file for its standard error.
        keeps_output: whether the log gets standard output too.
        before: called just before it starts.
        problem: called after it has ended without error; returns what is wrong nevertheless, or an
            empty string.
        done: gives the number of finished steps.
        steps: number of all steps; 0: unknown.
    """

    name: str
    kind: str
    arguments: tuple[str, ...]
    log: Path
    keeps_output: bool = False
    before: Callable[[], None] = lambda: None
    problem: Callable[[], str] = lambda: ""
    done: Callable[[], int] = lambda: 0
    steps: int = 0


class View:
    """Shows the progress of tasks; this one shows nothing."""

    def expect(self, more: int) -> None:
        """Hear how many tasks follow those that were done."""

    def started(self, task: Task) -> None:
        """Show that a task has begun."""

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


def cores() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(
    tasks: Sequence[Task],
    *,
    jobs: int,
    need: Need,
    clock: TaskTimes,
    view: View,
    stop: threading.Event,
    keep_open: Sequence[int] = (),
) -> Outcome:
    """Run tasks, several at a time, until all have ended or ``stop`` is set.

    Args:
        tasks: the tasks, in this order.
        jobs: most tasks at a time; 0: one for each core.
        need: memory of one task, learnt as they run.
        clock: durations of tasks.
        view: shows progress.
        stop: when set, all tasks are ended cleanly.
        keep_open: files that tasks hold open as long as they live: locks.

    Raises:
        OSError: a log cannot be written, or a process cannot be started; running tasks are ended.
    """
    most = jobs or cores()
    waiting = list(tasks)
    running: list[_Running] = []
    failures: dict[str, str] = {}
    weighed_s = 0.0
    try:
        while (waiting and not stop.is_set()) or running:
            if stop.is_set():
                break
            for each in [r for r in running if r.child.code is not None]:
                running.remove(each)
                seconds = time.monotonic() - each.began_s
                problem = each.problem()
                need.seen(each.peak, ended=True)
                if problem:
                    failures[each.task.name] = problem
                else:
                    clock.learn(each.task.kind, seconds)
                view.finished(each.task, seconds, problem)
            if time.monotonic() - weighed_s > _WEIGH_S:
                weighed_s = time.monotonic()
                for each in running:
                    need.seen(each.weigh())
            while (
                waiting
                and len(running) < most
                and (
                    not running
                    or need.fits(psutil.virtual_memory().available, [r.now for r in running])
                )
            ):
                running.append(_Running(waiting.pop(0), keep_open))
                view.started(running[-1].task)
            gone = [(r.task, time.monotonic() - r.began_s) for r in running]
            view.tick(gone, clock.left_s(waiting, gone, most))
            stop.wait(_LOOK_S)
    finally:
        children.end([each.child for each in running], GRACE_S + 5.0)
    return Outcome(failures=failures, interrupted=stop.is_set() and bool(waiting or running))


class _Running:
    """A task and its process."""

    def __init__(self, task: Task, keep_open: Sequence[int]) -> None:
        task.before()
        self.task = task
        self.peak = self.now = 0.0
        task.log.parent.mkdir(parents=True, exist_ok=True)
        self.child = children.start(
            "fimi.testbed.child",
            arguments=(*logs.arguments(), *task.arguments),
            log=task.log,
            keeps_output=task.keeps_output,
            keep_open=keep_open,
        )
        self.began_s = time.monotonic()

    def weigh(self) -> float:
        """Its present memory, bytes."""
        self.now = family_bytes(self.child.pid)
        self.peak = max(self.peak, self.now)
        return self.now

    def problem(self) -> str:
        """What is wrong with a process that has ended, or an empty string."""
        self.child.ask_to_end()
        code = self.child.code
        return self.task.problem() if code == 0 else last_words(self.task.log, code)


def last_words(log: Path, code: int | None = None) -> str:
    """Why a command failed, by its log: its error, or its last line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    starts = [i for i, line in enumerate(lines) if line.startswith("fimi: ")]
    said = (
        " ".join(line.strip() for line in lines[starts[-1] :])[len("fimi: ") :]
        if starts
        else next((line for line in reversed(lines) if line.strip()), "")
    )
    said = said or "it said nothing"
    return said if code is None else f"{said} (exit code {code})"

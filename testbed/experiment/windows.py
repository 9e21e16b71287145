"""All that looks at an experiment while it goes on: the terminal and the dashboard."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fimi.errors import FimiError
from fimi.monitor.said import LONGEST, LatestSaid
from fimi.monitor.server.hooks import MetricHooks
from fimi.monitor.snapshot import RunNow, Snapshot, StudyNow, StudyTable, TaskNow
from fimi.record.clean import clean
from fimi.report.comparison.tables import all_tables
from fimi.testbed.dashboards import open_dashboard
from fimi.testbed.experiment import run
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.engines.base import Task, View
from fimi.testbed.experiment.progress import ExperimentLiveView, ExperimentPlainView

if TYPE_CHECKING:
    from fimi.testbed.commands.dashboard import Place

Terminal = ExperimentPlainView | ExperimentLiveView
"""What is shown on the terminal."""

_NONE_YET = "no run has ended with results yet"
_AGAIN_S = 5.0
"""Least time between two readings of all results, s."""


class ExperimentWindows(View):
    """Looks at one experiment. A context manager: inside it, the dashboard is there.

    Args:
        experiment: as its file has it.
        tasks: number of tasks to do.
        terminal: what is shown there.
        dashboard: where it listens; ``None``: there is none.
    """

    def __init__(
        self, experiment: Experiment, tasks: int, terminal: Terminal, dashboard: Place | None
    ) -> None:
        self._experiment, self._terminal, self._place = experiment, terminal, dashboard
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._study = StudyNow(name=experiment.name, title=experiment.title, runs=tasks)
        self._run = RunNow(
            name=experiment.name,
            title=f"experiment {experiment.name}",
            began_unix_s=round(time.time(), 1),
            state="running",
        )
        self._waits = self._doing = ""
        self._said = LatestSaid()
        self._changed, self._read_s = True, float("-inf")
        self._going: frozenset[str] = frozenset()  # tasks that run
        self._moved: frozenset[str] = frozenset()  # those, and what ran since results were read

    def __enter__(self) -> ExperimentWindows:
        if self._place is not None:
            self._open(self._place)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            ended = self._study.done >= self._study.runs
            self._run = replace(self._run, state="completed" if ended else "interrupted")
            self._changed, self._read_s = True, float("-inf")
        self._stack.close()

    def _open(self, place: Place) -> None:
        open_dashboard(
            self._stack,
            self,
            MetricHooks(self.snapshot),
            folder=self._experiment.folder,
            place=place,
            say=self.say,
            tell=self._terminal.say,
        )

    # What is called while it goes on.

    def say(self, text: str) -> None:
        """Write a line."""
        self._add(text)
        self._terminal.say(text)

    def expect(self, more: int) -> None:
        """Count them with those that have ended."""
        with self._lock:
            self._study = replace(self._study, runs=self._study.done + more)
        self._terminal.expect(more)

    def started(self, task: Task) -> None:
        """Show that a task has begun."""
        with self._lock:
            self._going |= {task.name}
            self._moved |= {task.name}
        self._terminal.started(task)

    def noted(self, task: Task, note: str) -> None:
        """Show what is to be said of a task."""
        self._add(f"{task.name}: {note}")
        self._terminal.noted(task, note)

    def doing(self, what: str) -> None:
        """Show what the only running task said last."""
        with self._lock:
            self._doing = clean(what, LONGEST)
        self._terminal.doing(what)

    def waiting(self, what: str) -> None:
        """Show for what everything waits."""
        with self._lock:
            self._waits = clean(what, LONGEST)
        self._terminal.waiting(what)

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        """Show that a task has ended."""
        with self._lock:
            self._going -= {task.name}
            failed = dict(self._study.failed)
            if problem:
                failed[task.name] = clean(problem, LONGEST)
            running = {n: t for n, t in self._study.running.items() if n != task.name}
            self._study = replace(
                self._study, done=self._study.done + 1, failed=failed, running=running
            )
            self._changed = True
        self._add(f"{task.name} FAILED: {problem}" if problem else f"{task.name} done", problem)
        self._terminal.finished(task, seconds, problem)

    def tick(self, running: Sequence[tuple[Task, float]], left_s: float | None) -> None:
        """Keep the running tasks."""
        if self._place is not None:
            now = {
                task.name: TaskNow(done=task.done(), steps=task.steps, since_s=round(since_s, 1))
                for task, since_s in running
            }
            left = None if left_s is None else round(left_s, 1)
            with self._lock:
                self._study = replace(self._study, running=now, left_s=left)
        self._terminal.tick(running, left_s)

    # On the dashboard's thread.

    def snapshot(self) -> Snapshot:
        """The experiment as it is now."""
        now_s = time.monotonic()
        with self._lock:
            reads = self._changed and now_s - self._read_s >= _AGAIN_S
            if reads:
                self._changed, self._read_s = False, now_s
                self._moved = self._going
        if reads:
            self._read()
        with self._lock:
            study = self._study
            stale = tuple(f"{name}: " for name in self._moved)  # read before it ran, or while
            notes = tuple(each for each in study.notes if not each.startswith(stale))
            return Snapshot(
                unix_s=round(time.time(), 1),
                run=replace(self._run, doing=self._waits or self._doing, left_s=study.left_s),
                said=self._said.now(),
                study=replace(study, notes=notes),
            )

    def _read(self) -> None:
        """Read the results so far."""
        try:
            result = run.so_far(self._experiment)
            found = tuple(
                StudyTable(caption=each.caption, heading=each.heading, rows=each.rows)
                for each in all_tables(result)
            )
            notes = result.notes
            if not (result.choices or any(each.cell.figures for each in result.records)):
                found, notes = (), (_NONE_YET, *notes)
        except (FimiError, OSError, ValueError) as error:
            found, notes = (), (f"the results so far cannot be shown: {error}",)
        with self._lock:
            self._study = replace(self._study, tables=found, notes=tuple(notes))

    def _add(self, text: str, problem: object = False) -> None:
        with self._lock:
            self._said.add(text, problem=bool(problem))

"""The local pool: processes side by side, as many as cores and memory allow.

Every task is a process in a session of its own, so that Ctrl-C reaches it through us and it can
finish its store. A task ends by itself when this process is gone (:mod:`fimi.testbed.child`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import psutil

from fimi import children
from fimi.errors import FimiError
from fimi.testbed.experiment.engines.base import (
    GRACE_S,
    CommandLine,
    Outcome,
    Task,
    TaskTimes,
    View,
    last_words,
    start_command,
)
from fimi.testbed.experiment.engines.memory import Need, family_bytes

_LOOK_S = 0.25
_WEIGH_S = 2.0
"""Time between two measurements of memory, s; one takes milliseconds for each process."""


def cores() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalPool:
    """Runs tasks on this machine, several at a time.

    Args:
        jobs: most tasks at a time; 0: one for each core.
        need: memory of one task, learnt as they run.
        keep_open: files that tasks hold open as long as they live: locks.
    """

    def __init__(
        self, jobs: int = 0, *, need: Need | None = None, keep_open: Sequence[int] = ()
    ) -> None:
        self._most = jobs or cores()
        self._need = need or Need()
        self._keep_open = keep_open

    def run(
        self, tasks: Sequence[Task], *, clock: TaskTimes, view: View, stop: threading.Event
    ) -> Outcome:
        """Run tasks; see :class:`~fimi.testbed.experiment.engines.base.Engine`."""
        need = self._need
        waiting = list(tasks)
        running: list[_Running] = []
        failures: dict[str, str] = {}
        weighed_s = 0.0
        try:
            while (waiting or running) and not stop.is_set():
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
                while waiting and self._has_room([r.now for r in running]):
                    task = waiting.pop(0)
                    try:
                        command = task.command()
                    except FimiError as error:
                        failures[task.name] = str(error)
                        view.started(task)
                        view.finished(task, 0.0, str(error))
                        continue
                    running.append(_Running(task, command, self._keep_open))
                    view.started(task)
                    if command.note:
                        view.noted(task, command.note)
                gone = [(r.task, time.monotonic() - r.began_s) for r in running]
                view.tick(gone, clock.left_s(waiting, gone, self._most))
                stop.wait(_LOOK_S)
        finally:
            children.end([each.child for each in running], GRACE_S + 5.0)
        return Outcome(failures=failures, interrupted=stop.is_set() and bool(waiting or running))

    def _has_room(self, running_bytes: Sequence[float]) -> bool:
        """Whether one more task fits beside those that run."""
        if not running_bytes:
            return True
        return len(running_bytes) < self._most and self._need.fits(
            psutil.virtual_memory().available, running_bytes
        )


class _Running:
    """A task and its process."""

    def __init__(self, task: Task, command: CommandLine, keep_open: Sequence[int]) -> None:
        self.task = task
        self.peak = self.now = 0.0
        self.child = start_command(
            command.arguments, task.log, keeps_output=task.keeps_output, keep_open=keep_open
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

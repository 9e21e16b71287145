"""The engine of live studies: one run after another on a fleet, until every one is whole.

Before a run the boards that it needs are waited for, rest and cool down. The run is a
``fimi coordinator run`` in a process of its own. If that ends early, for whatever reason, it is
resumed after its last stored round. A finished run that has lost too much is set aside and made
again. What is wrong for good (a configuration without a plan, a board that refuses) is the run's
problem, and the next one begins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from fimi.testbed.experiment.engines.base import Outcome, Stopped, Task, TaskTimes, View
from fimi.testbed.experiment.live.attempts import Attempts, Study
from fimi.testbed.experiment.live.order import in_order


class LiveFleet:
    """Runs cells on a fleet; see :class:`~fimi.testbed.experiment.engines.base.Engine`.

    Args:
        study: what all its runs share.
    """

    def __init__(self, study: Study) -> None:
        self._study = study

    def run(
        self, tasks: Sequence[Task], *, clock: TaskTimes, view: View, stop: threading.Event
    ) -> Outcome:
        """Run tasks one after another; see the class."""
        failures: dict[str, str] = {}
        waiting = in_order(tasks, self._study.live)
        try:
            while waiting:
                if stop.is_set():
                    raise Stopped
                task, began_s = waiting.pop(0), time.monotonic()
                view.started(task)
                problem = Attempts(self._study, task, waiting, clock, view, stop).complete()
                if problem:
                    failures[task.name] = problem
                    self._study.journal.note("failed", task.name, why=problem)
                view.finished(task, time.monotonic() - began_s, problem)
        except Stopped:
            return Outcome(failures=failures, interrupted=True)
        finally:
            view.waiting("")
        return Outcome(failures=failures, interrupted=False)

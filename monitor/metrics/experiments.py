"""What an experiment has for tools that collect metrics: how far it is.

Its runs are processes of their own, whose joules are in their records and in its results. Nothing
of a device is here, and no joules.
"""

from __future__ import annotations

from collections.abc import Callable

from fimi.monitor.metrics.families import Family, Rows, single
from fimi.monitor.snapshot import Snapshot, StudyNow


def _of_study(value: Callable[[StudyNow], float | None]) -> Callable[[Snapshot], Rows]:
    return single(lambda s: None if s.study is None else value(s.study))


def _named(snapshot: Snapshot) -> Rows:
    return [] if snapshot.study is None else [((snapshot.study.name,), 1.0)]


def _steps(done: bool) -> Callable[[Snapshot], Rows]:
    def rows(snapshot: Snapshot) -> Rows:
        running = {} if snapshot.study is None else snapshot.study.running
        return [
            ((name,), float(task.done if done else task.steps))
            for name, task in running.items()
            if task.steps
        ]

    return rows


EXPERIMENT_FAMILIES: tuple[Family, ...] = (
    Family(
        name="fimi_experiment",
        type="info",
        help="The experiment.",
        labels=("experiment",),
        rows=_named,
    ),
    Family(
        name="fimi_experiment_start_timestamp_seconds",
        unit="seconds",
        help="When its process began, UNIX time.",
        rows=single(lambda s: s.run.began_unix_s),
    ),
    Family(
        name="fimi_experiment_runs_planned",
        help="Runs that it is to have, those that were there before included.",
        rows=_of_study(lambda s: s.runs),
    ),
    Family(
        name="fimi_experiment_runs_ended",
        help="Runs that have ended, the failed ones included.",
        rows=_of_study(lambda s: s.done),
    ),
    Family(
        name="fimi_experiment_runs_failed",
        help="Runs that have failed.",
        rows=_of_study(lambda s: len(s.failed)),
    ),
    Family(
        name="fimi_experiment_runs_running",
        help="Runs that go on.",
        rows=_of_study(lambda s: len(s.running)),
    ),
    Family(
        name="fimi_experiment_remaining_seconds",
        unit="seconds",
        help="Estimate of the time until all have ended.",
        rows=_of_study(lambda s: s.left_s),
    ),
    Family(
        name="fimi_experiment_run_steps_done",
        help="Rounds, or steps of a training, that a run that goes on has finished.",
        labels=("run",),
        rows=_steps(done=True),
    ),
    Family(
        name="fimi_experiment_run_steps_planned",
        help="All of them.",
        labels=("run",),
        rows=_steps(done=False),
    ),
)
"""All of them."""

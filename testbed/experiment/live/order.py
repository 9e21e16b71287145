"""The order of runs on boards: in blocks of one seed, drawn anew within each.

Boards are warmer in the afternoon, and a radio is slower when the building is full. In the order of
the table all runs of one strategy would lie in one part of the day, and its joules with them.
Here every strategy comes once in each block, as in a randomised complete block design, so that a
block's time is the same for all of them.

The place of a run follows from its name alone: a study that goes on keeps its order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fimi.testbed.experiment.definition import LiveStudy
from fimi.testbed.experiment.engines.base import Task


def in_order(tasks: Iterable[Task], live: LiveStudy) -> list[Task]:
    """Tasks in the order in which they are run."""
    if live.order == "file":
        return list(tasks)

    def place(task: Task) -> tuple[bytes, bytes]:
        seed = task.config.run.seed if task.config is not None else None
        return _drawn(live, f"seed {seed}"), _drawn(live, f"run {task.name}")

    return sorted(tasks, key=place)


def _drawn(live: LiveStudy, what: str) -> bytes:
    return hashlib.sha256(f"{live.order_seed} {what}".encode()).digest()

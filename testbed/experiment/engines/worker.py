"""What a worker of another engine does: one task, in a child process, on this or another machine.

* :class:`WorkOrder`     what it is to do
* :class:`TaskProgress`  how far it is
* :class:`TaskEnd`       how it ended
* :func:`work`           do it

The command line is chosen here, where it runs: so a task that an engine starts a second time, since
the first worker was lost, goes on with its run.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fimi.errors import FimiError
from fimi.testbed import logs
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED
from fimi.testbed.experiment.engines.base import (
    GRACE_S,
    CommandLine,
    Task,
    last_words,
    start_command,
)
from fimi.testbed.resuming import versions

_LOOK_S = 1.0
"""Time between two looks at the progress, s."""


class WorkOrder(Struct, frozen=True, kw_only=True):
    """A task, as it is sent to a worker.

    Attributes:
        name: of the task.
        command: gives the command line.
        done: gives the number of finished steps.
        log: file for its standard error.
        keeps_output: whether the log gets standard output too.
        options: of ``fimi`` itself.
        place: working folder; relative paths start there.
        versions: that decide results; the worker must have the same.
    """

    name: str
    command: Callable[[], CommandLine]
    done: Callable[[], int]
    log: Path
    keeps_output: bool
    options: tuple[str, ...]
    place: Path
    versions: dict[str, str]

    @classmethod
    def of(cls, task: Task) -> WorkOrder:
        """A task of this process, to be done by another."""
        return cls(
            name=task.name,
            command=task.command,
            done=task.done,
            log=task.log,
            keeps_output=task.keeps_output,
            options=logs.arguments(),
            place=Path.cwd(),
            versions=deciding_versions(),
        )


class TaskProgress(Struct, frozen=True, kw_only=True):
    """How far a task is.

    Attributes:
        steps: that are finished.
        note: of its command line.
    """

    steps: int = 0
    note: str = ""


class TaskEnd(Struct, frozen=True, kw_only=True):
    """How a task ended.

    Attributes:
        code: exit code, negative for a signal; ``None``: it could not be started.
        problem: what is wrong, or empty.
        note: of its command line.
    """

    code: int | None = None
    problem: str = ""
    note: str = ""

    @property
    def cut_short(self) -> bool:
        """Whether something from outside has ended the command: it can be gone on with."""
        return self.code is not None and (self.code < 0 or self.code == EXIT_INTERRUPTED)


def deciding_versions() -> dict[str, str]:
    """Versions of what decides results."""
    return {name: version for name, version in versions().items() if name != "platform"}


def work(order: WorkOrder, tell: Callable[[TaskProgress], object]) -> TaskEnd:
    """Do a task; an exception in between, ``KeyboardInterrupt`` too, ends its process in order.

    Args:
        order: the task.
        tell: called with its progress, at its beginning and about once a second.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    here = deciding_versions()
    if here != order.versions:
        apart = [
            f"{name} {here.get(name, 'missing')} instead of {order.versions.get(name, 'none')}"
            for name in dict.fromkeys((*order.versions, *here))
            if here.get(name) != order.versions.get(name)
        ]
        return TaskEnd(
            problem=f"the worker on {socket.gethostname()} would give other results: it has "
            f"{', '.join(apart)}; install the same there"
        )
    try:
        os.chdir(order.place)
        line = order.command()
    except (FimiError, OSError) as error:
        return TaskEnd(problem=str(error))
    tell(TaskProgress(note=line.note))
    child = start_command(
        line.arguments, order.log, options=order.options, keeps_output=order.keeps_output
    )
    try:
        while child.code is None:
            child.wait(_LOOK_S)
            tell(TaskProgress(steps=order.done(), note=line.note))
    finally:
        child.end(GRACE_S)
    code = child.code
    problem = last_words(order.log, code) if code else ""
    return TaskEnd(code=code, problem=problem, note=line.note)

"""The processes of a run on boards: its coordinator and, where that is asked for, a generator node.

* :class:`Starter`        starts commands of ``fimi`` that reach the fleet's broker
* :class:`NodeBeside`  a generator node that is kept up beside a run
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fimi import children
from fimi.errors import InputError
from fimi.testbed.commands.shared import BROKER_VARIABLE
from fimi.testbed.experiment.engines.base import GRACE_S, last_words, start_command

GENERATOR_VARIABLE = "FIMI_GENERATOR_BROKER"
"""Environment variable with the broker's URL as the generator node's user, where it has its own."""

_AGAIN_S = (1.0, 5.0, 15.0, 30.0)
"""Time before a generator node is started for the second, third … time beside a run, s."""


class Starter:
    """Starts commands of ``fimi`` as children, with the broker's URL in their environment.

    Args:
        url: of the broker, with its password.
        keep_open: files that children hold open as long as they live: locks.
    """

    def __init__(self, url: str, keep_open: Sequence[int] = ()) -> None:
        self._url = url
        self._keep_open = keep_open

    def start(self, arguments: Sequence[str], log: Path, url: str = "") -> children.Child:
        """Start a command; ``url`` in place of the broker's.

        Raises:
            OSError: the log cannot be written, or no process be started.
        """
        return start_command(
            arguments,
            log,
            keep_open=self._keep_open,
            environment={**os.environ, BROKER_VARIABLE: url or self._url},
        )


class NodeBeside:
    """A generator node that runs until :meth:`end`.

    Args:
        starter: starts it.
        config: file of its configuration.
        log: file for its standard error.
        noted: told when it is started again.
    """

    def __init__(
        self, starter: Starter, config: Path, log: Path, noted: Callable[[str], None]
    ) -> None:
        self._starter = starter
        self._arguments = ("generator", "run", "--config", str(config))
        self._log = log
        self._noted = noted
        self._starts = 0
        self._due_s: float | None = None
        self._child = self._start()

    def keep_up(self) -> str:
        """Start it again if it has ended; returns why not, if it ends each time."""
        if (code := self._child.code) is None:
            return ""
        if self._due_s is not None:
            if time.monotonic() >= self._due_s:
                self._due_s = None
                self._child = self._start()
            return ""
        said = f"its generator node ended: {last_words(self._log, code)}"
        if self._starts > len(_AGAIN_S) or code == InputError.exit_code:
            return f"{said}; without --generator the study uses a node that runs already"
        self._noted(f"{said}; it is started again")
        self._due_s = time.monotonic() + _AGAIN_S[self._starts - 1]
        return ""

    def end(self) -> None:
        """End it."""
        self._child.end(GRACE_S)

    def _start(self) -> children.Child:
        self._starts += 1
        url = os.environ.get(GENERATOR_VARIABLE, "")
        return self._starter.start(self._arguments, self._log, url)

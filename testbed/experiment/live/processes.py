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
from fimi.messaging.address import BrokerAddress
from fimi.testbed.commands.reaching import BROKER_VARIABLE, BUNDLE_VARIABLE, INSECURE_VARIABLE
from fimi.testbed.experiment.engines.base import GRACE_S, last_words, start_command

GENERATOR_VARIABLE = "FIMI_GENERATOR_BROKER"
"""Environment variable with the broker's URL as the generator node's user, where it has its own."""

GENERATOR_BUNDLE = "FIMI_GENERATOR_BUNDLE"
"""Environment variable with the path of its bundle, where there are bundles."""

_AGAIN_S = (1.0, 5.0, 15.0, 30.0)
"""Time before a generator node is started for the second, third … time beside a run, s."""


class Starter:
    """Starts commands of ``fimi`` as children, with the broker in their environment.

    Args:
        address: of the broker, as the coordinator.
        keep_open: files that children hold open as long as they live: locks.
    """

    def __init__(self, address: BrokerAddress, keep_open: Sequence[int] = ()) -> None:
        self._address = address
        self._keep_open = keep_open

    def start(
        self, arguments: Sequence[str], log: Path, *, url: str = "", bundle: str = ""
    ) -> children.Child:
        """Start a command; ``url`` or ``bundle`` in place of the coordinator's.

        Raises:
            OSError: the log cannot be written, or no process be started.
        """
        return start_command(
            arguments,
            log,
            keep_open=self._keep_open,
            environment=self._environment(url, bundle),
        )

    def _environment(self, url: str, bundle: str) -> dict[str, str]:
        reached = (BROKER_VARIABLE, BUNDLE_VARIABLE, INSECURE_VARIABLE)
        found = {key: value for key, value in os.environ.items() if key not in reached}
        if self._address.exposed():  # it was accepted for the study
            found[INSECURE_VARIABLE] = "1"
        bundle = bundle or ("" if url else self._address.bundle_path)
        if bundle:
            return {**found, BUNDLE_VARIABLE: bundle}
        return {**found, BROKER_VARIABLE: url or self._address.url(with_password=True)}


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
        return self._starter.start(
            self._arguments,
            self._log,
            url=os.environ.get(GENERATOR_VARIABLE, ""),
            bundle=os.environ.get(GENERATOR_BUNDLE, ""),
        )

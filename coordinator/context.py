"""What everything in this room works with.

* :class:`Context`          connection, devices, messages, store: a coordinator's tools
* :class:`Stopwatch`        where a run's wall time goes
* :class:`FederationError`  what keeps a federation from starting or going on
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fimi.coordinator.inbox import Inbox
from fimi.coordinator.registry import Registry
from fimi.coordinator.settings import FederationSettings
from fimi.coordinator.strategies import Strategy
from fimi.errors import RunFailedError
from fimi.messaging.client import Peer
from fimi.record.events import Listener
from fimi.record.store import RunStore

log = logging.getLogger(__name__)


class FederationError(RunFailedError, RuntimeError):
    """A federation cannot start or go on; the message says what is missing."""


class Stopwatch:
    """Adds up the wall time of named stages, which do not overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything inside counts for ``name``, also if it fails."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            passed_s = time.monotonic() - began_s
            self.seconds[name] = self.seconds.get(name, 0.0) + passed_s
            if passed_s >= 0.001:
                log.debug("coordinator, %s: %.3g s", name, passed_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A coordinator's tools, the same for everything that it does in a run.

    Attributes:
        run: run id, unique within the fleet.
        settings: what was decided.
        strategy: the one of the settings.
        peer: the coordinator's connection.
        registry: who is there, and what they said of themselves.
        inbox: where messages come from.
        store: keeps everything.
        notify: hears what happens.
        watch: says where wall time goes.
    """

    run: str
    settings: FederationSettings
    strategy: Strategy
    peer: Peer
    registry: Registry
    inbox: Inbox
    store: RunStore
    notify: Listener
    watch: Stopwatch

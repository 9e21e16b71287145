"""The objects that all parts of a coordinator use.

* :class:`Context`          connection, devices, messages and run store
* :class:`InForce`          what may change while a run goes on
* :class:`Stopwatch`        the wall time of a run's stages
* :class:`FederationError`  a federation cannot start or continue
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fimi.coordinator.conversation import Conversation
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
    """A federation cannot start or continue; the message says what is missing."""

    code = "R013"


class Stopwatch:
    """Sums the wall time of named stages, which do not overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the ``with`` block to ``name``, also if it fails."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            passed_s = time.monotonic() - began_s
            self.seconds[name] = self.seconds.get(name, 0.0) + passed_s
            if passed_s >= 0.001:
                log.debug("stage %s took %.3g s (wall time)", name, passed_s)


@dataclass(slots=True, kw_only=True)
class InForce:
    """What people have changed in a run that goes on, see :mod:`fimi.coordinator.interventions`.

    Attributes:
        excluded: devices that rest and are not planned for, to who asked for it.
        deadline_s: instead of ``plan.deadline_s``, s; ``None``: as configured.
    """

    excluded: dict[str, str] = field(default_factory=dict)
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The objects of one run that all parts of its coordinator use.

    Attributes:
        run: name of the run.
        instance: its random id.
        settings: the configuration.
        strategy: the strategy of the settings.
        peer: the coordinator's connection.
        registry: which devices are online, and their profiles.
        conversation: what is wanted of each device, and what each has reported.
        inbox: source of messages.
        store: the run store.
        notify: called with every event.
        watch: measures the wall time of stages.
        in_force: what people have changed in it.
    """

    run: str
    instance: str
    settings: FederationSettings
    strategy: Strategy
    peer: Peer
    registry: Registry
    conversation: Conversation
    inbox: Inbox
    store: RunStore
    notify: Listener
    watch: Stopwatch
    in_force: InForce = field(default_factory=InForce)

    @property
    def deadline_s(self) -> float:
        """T_max of the rounds from now on, s."""
        changed_s = self.in_force.deadline_s
        return self.settings.plan.deadline_s if changed_s is None else changed_s

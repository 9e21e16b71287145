"""What everything in this room works with: connection, who is there, what arrives, the store."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.events import Listener
from coordinator.inbox import Inbox
from coordinator.registry import Registry
from coordinator.settings import FederationSettings
from coordinator.stopwatch import Stopwatch
from coordinator.store import RunStore
from coordinator.strategies import Strategy
from messaging.client import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A coordinator's tools, the same for everything that it does in a run.

    Attributes:
        settings: what was decided.
        strategy: the one of the settings.
        peer: the coordinator's connection.
        registry: who is there, and what they said of themselves.
        inbox: where messages come from.
        store: keeps everything.
        notify: hears what happens.
        watch: says where wall time goes.
    """

    settings: FederationSettings
    strategy: Strategy
    peer: Peer
    registry: Registry
    inbox: Inbox
    store: RunStore
    notify: Listener
    watch: Stopwatch

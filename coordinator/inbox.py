"""Receives the coordinator's messages and sorts them.

States, profiles and answers to plans go to the registry at any time; all other messages go to the
part of the coordinator that waits for messages at the moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from fimi.coordinator.registry import Registry
from fimi.messaging.client import Peer
from fimi.messaging.messages import DeviceState, Message, PlanApplied, Profile
from fimi.record.events import DeviceJoined, DeviceLost, Listener, PlanInForce


class Cancelled(Exception):  # noqa: N818
    """The run was asked to stop."""


class PlanKeeper(Protocol):
    """What keeps the devices' plans."""

    def send(self, device: str) -> None:
        """Send a device its plan again, if it has one: it has started again."""

    def record(self, reply: PlanApplied) -> None:
        """Store a device's first answer to its plan."""


class Inbox:
    """Gives messages to its callers and keeps the registry up to date.

    Args:
        peer: the coordinator's connection.
        registry: the registry to keep up to date.
        notify: called when devices come online or go offline.
        cancel: when set, every wait ends with :class:`Cancelled`.
    """

    def __init__(
        self,
        peer: Peer,
        registry: Registry,
        notify: Listener,
        cancel: threading.Event,
    ) -> None:
        self._peer = peer
        self._registry = registry
        self._notify = notify
        self._cancel = cancel
        self._plans: PlanKeeper | None = None

    def tell(self, plans: PlanKeeper) -> None:
        """Pass answers to plans, and devices that have started again, to ``plans`` from now on."""
        self._plans = plans

    def until(self, done: Callable[[], bool], timeout_s: float) -> Iterator[tuple[str, Message]]:
        """Messages that are not for the registry, until ``done()`` or the time is over.

        Args:
            done: called before every wait.
            timeout_s: wall time, s.

        Raises:
            Cancelled: the run was asked to stop.
        """
        limit = time.monotonic() + timeout_s
        while not done() and (left := limit - time.monotonic()) > 0:
            self.check_cancelled()
            received = self._peer.receive(timeout_s=min(0.2, left))
            if received is not None and not self._sort(*received):
                yield received

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Update the registry until ``done()``; returns whether this was in time."""
        for _ in self.until(done, timeout_s):
            pass
        return done()

    def check_cancelled(self) -> None:
        """Raise :class:`Cancelled` if the run was asked to stop."""
        if self._cancel.is_set():
            raise Cancelled

    def _sort(self, sender: str, message: Message) -> bool:
        if isinstance(message, DeviceState):
            if self._registry.heard_state(message):
                self._notify(DeviceLost(device=message.peer, reason="went offline"))
        elif isinstance(message, Profile):
            if self._registry.heard_profile(message):
                self._notify(
                    DeviceJoined(
                        device=sender,
                        board=message.hardware.board,
                        kind=message.hardware.kind,
                        samples=sum(message.label_counts),
                        backend=message.backend,
                    )
                )
                if self._plans is not None:
                    self._plans.send(sender)
        elif isinstance(message, PlanApplied):
            if self._registry.heard_plan_applied(message):
                notes = message.applied.notes if message.applied else ()
                self._notify(
                    PlanInForce(
                        device=sender, notes=notes, error=message.error, applied=message.applied
                    )
                )
                if self._plans is not None:
                    self._plans.record(message)
        else:
            return False
        return True

"""The coordinator's end of the conversation with one device, for tests: honest, and without a plan.

It speaks as the coordinator does, with its state machine over a real connection; what is ordered is
up to the test. A fact counts as stored once it was heard, an update once it was pulled; or nothing
does, as the test wants.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from fimi.coordinator.conversation import Conversation, Order
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.documents import Heard, Reported
from fimi.messaging.messages.facts import FactBody, UpdateReady
from fimi.messaging.topics import COORDINATOR

Kind = TypeVar("Kind")

PATIENCE_S = 30.0
"""Far beyond what anything takes on an idle machine."""


class Desk:
    """A coordinator of one run. A context manager that connects and closes.

    Args:
        broker: the broker.
        fleet: name of the fleet.
        run: name of the run.
        instance: its id.
        epoch: of the coordinator.
        stores: whether a fact that was heard is confirmed as stored.
        heard: what an earlier coordinator of the run has stored.
    """

    def __init__(
        self,
        broker: EmbeddedBroker,
        fleet: str,
        *,
        run: str = "r1",
        instance: str = "0123456789abcdef",
        epoch: int = 1,
        stores: bool = True,
        heard: dict[str, Heard] | None = None,
    ) -> None:
        self.run = run
        self.instance = instance
        self.stores = stores
        self.peer = Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator")
        self.conversation = Conversation(
            run,
            instance,
            epoch,
            lambda device, document: self.peer.publish_state(device, "desired", document),
            time.monotonic,
            heard,
        )
        self.everything: list[FactBody] = []
        """All facts that were heard, in their order."""
        self._waiting: deque[FactBody] = deque()

    def __enter__(self) -> Desk:
        self.peer.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()

    def order(self, *orders: Order, device: str = "device-1") -> None:
        """Want this of a device."""
        self.conversation.order(device, *orders)

    def listen(self, timeout_s: float = 0.05) -> None:
        """Take in what comes within a short time, and publish what is due."""
        received = self.peer.receive(timeout_s=timeout_s)
        if received is not None and isinstance(received[1], Reported):
            for fact in self.conversation.take(received[1]):
                self.everything.append(fact)
                self._waiting.append(fact)
                if self.stores and not isinstance(fact, UpdateReady):  # which is pulled first
                    self.conversation.stored(received[0], fact)
        self.conversation.tick()

    def store(self, *facts: FactBody, device: str = "device-1") -> None:
        """These are in the run store now."""
        self.conversation.stored(device, *facts)

    def pull(self, device: str = "device-1") -> bytes:
        """The next update, which counts as stored from then on."""
        ready = self.hear(UpdateReady)
        update = self.peer.transfers.fetch(ready.update, PATIENCE_S)
        if self.stores:
            self.store(ready, device=device)
        return update

    def hear(self, kind: type[Kind], timeout_s: float = PATIENCE_S) -> Kind:
        """The next fact of a kind; others before it are passed over."""
        limit_s = time.monotonic() + timeout_s
        while True:
            while self._waiting:
                fact: Any = self._waiting.popleft()
                if isinstance(fact, kind):
                    return fact
            assert time.monotonic() < limit_s, f"no {kind.__name__} within {timeout_s} s"
            self.listen()

    def until(
        self, true: Callable[[Reported], object], what: str, device: str = "device-1"
    ) -> None:
        """Listen until something is true of a device's last document."""
        limit_s = time.monotonic() + PATIENCE_S
        while (now := self.conversation.reported(device)) is None or not true(now):
            assert time.monotonic() < limit_s, f"not within {PATIENCE_S:g} s: {what}"
            self.listen()

    def is_answered(self, device: str = "device-1") -> bool:
        """Listen until the device has taken in all that is wanted of it; returns that it has."""
        self.until(lambda _: self.conversation.answered(device), "the device has answered", device)
        return True

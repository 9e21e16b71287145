"""What a broker keeps on some topics, heard and changed by somebody who is no peer.

:class:`Retained` knows when it has heard all of it: a broker says what it keeps as soon as a client
subscribes, and hands on a message of the client's own only behind that.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerTimeout, MessageRefused
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.transfers.wire import decode_message

STEP_S = 10.0
"""How long the broker has time for each answer, s."""


class Retained:
    """A connection that hears what a broker keeps.

    Args:
        address: the broker.
        client: what the client is called; it is made unique.
        filters: the topics.
        mark_topic: where this connection may write, and hears itself.
        live: called, on the network thread and with :attr:`changed` held, with topic and bytes of
            what is not kept but said now.

    Attributes:
        kept: what the broker keeps, by topic.
        changed: is notified of all that comes.
        link: the connection.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client: str,
        filters: Iterable[str],
        mark_topic: str,
        live: Callable[[str, bytes], None] = lambda topic, payload: None,
    ) -> None:
        self.kept: dict[str, bytes] = {}
        self.changed = threading.Condition()
        self._live = live
        self._mark, self._mark_topic = secrets.token_hex(8).encode(), mark_topic
        self._marked = False
        self.link = Link(
            address,
            f"{client}-{secrets.token_hex(16)}",
            clean_session=True,
            subscriptions=tuple(filters),
            on_message=self._take,
        )

    def is_complete(self) -> bool:
        """Wait until the broker has said all that it keeps; returns whether it has."""
        self.link.publish(self._mark_topic, self._mark, qos=1)
        with self.changed:
            return self.changed.wait_for(lambda: self._marked, STEP_S)

    def replace(self, topic: str, payload: bytes) -> None:
        """Let the broker keep something else on a topic; nothing, if it is empty.

        Raises:
            BrokerTimeout: it does not confirm that.
        """
        info = self.link.publish(topic, payload, qos=1, retain=True)
        info.wait_for_publish(STEP_S)
        if not info.is_published():
            done = "replaced" if payload else "cleared"
            raise BrokerTimeout(
                f"{self.link.address}: has not confirmed within {STEP_S:g} s that {topic} is "
                f"{done}; say it again"
            )

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        with self.changed:
            if payload == self._mark and topic == self._mark_topic:
                self._marked = True
            elif retained and payload:
                self.kept[topic] = payload
            elif payload:
                self._live(topic, payload)
            self.changed.notify_all()


def state_in(payload: bytes, place: topics.Topic) -> DeviceState | None:
    """The state of a peer; ``None`` if it cannot be read."""
    try:
        message = decode_message(payload, sender=place.sender, recipient=place.recipient)
    except MessageRefused:
        return None
    return message if isinstance(message, DeviceState) else None

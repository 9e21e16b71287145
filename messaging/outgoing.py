"""What a peer sends: messages, documents, what it tells consoles, telemetry, its own state.

:class:`Outgoing` finds the topic, encodes, and refuses what the broker would not take. What is to
arrive is noted until the broker has confirmed it: messages in an
:class:`~fimi.messaging.outbox.Outbox`, documents in
:class:`~fimi.messaging.kept_documents.Documents`, which publishes them again after every reconnect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fimi.messaging import topics
from fimi.messaging.errors import MessageRefused, SendQueueFull
from fimi.messaging.kept_documents import Documents
from fimi.messaging.link import Link
from fimi.messaging.messages.basis import Message
from fimi.messaging.messages.peers import Telemetry
from fimi.messaging.outbox import Outbox
from fimi.messaging.own_state import OwnState
from fimi.messaging.topics import COORDINATOR, DocumentKind
from fimi.messaging.transfers.wire import encode_message, kind_of

ANSWER_EXPIRY_S = 60
"""A broker of MQTT 5 drops an answer to a console that it cannot deliver for so long, s."""


class Outgoing:
    """All that one peer sends besides transfers. Nothing here waits but :meth:`flush`.

    Args:
        fleet: name of the fleet.
        peer: own id.
        link: the connection.
        state: the own one.
        may_publish: whether the broker is connected, and the peer id known to be still the own.

    Attributes:
        documents: those that the peer keeps at the broker.
    """

    def __init__(
        self, fleet: str, peer: str, link: Link, state: OwnState, may_publish: Callable[[], bool]
    ) -> None:
        self._fleet, self._peer = fleet, peer
        self._link = link
        self._state = state
        self._may_publish = may_publish
        self._outbox = Outbox()
        self.documents = Documents(self._publish_document)

    def message(self, recipient: str, message: Message) -> None:
        """Send a message, to be confirmed.

        Raises:
            MessageRefused: it is too large, or names another sender or recipient.
            SendQueueFull: too many wait for the broker.
        """
        if (kind := kind_of(message)) != "message":
            raise MessageRefused(
                f"{type(message).__name__} to {recipient} travels as {kind!r}, not as a message"
            )
        topic = topics.topic(self._fleet, self._peer, recipient, "message")
        payload = self._encode(message, recipient, topic)
        info = self._link.publish(topic, payload, qos=1)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise SendQueueFull(
                f"peer {self._peer} has been offline for too long: {type(message).__name__} to "
                f"{recipient} not sent; check the broker at {self._link.address}"
            )
        self._outbox.add(info)

    def document(self, recipient: str, kind: DocumentKind, message: Message) -> None:
        """Replace a document.

        Raises:
            MessageRefused: it is too large, or names another sender or recipient.
        """
        topic = topics.topic(self._fleet, self._peer, recipient, kind)
        self.documents.put(topic, self._encode(message, recipient, topic))

    def withdraw(self, recipient: str, kind: DocumentKind) -> None:
        """Let the broker forget a document."""
        self.documents.put(topics.topic(self._fleet, self._peer, recipient, kind), b"")

    def to_consoles(self, kind: Literal["answer", "status"], payload: bytes) -> None:
        """Tell consoles something.

        Raises:
            MessageRefused: the broker does not take so much.
        """
        topic = topics.topic(self._fleet, self._peer, COORDINATOR, kind)
        limit = self._link.largest_payload(topic)
        if limit is not None and len(payload) > limit:
            raise MessageRefused(f"{kind} of {len(payload)} B: the broker takes {limit} B")
        if kind == "status":
            self.documents.put(topic, payload)
        else:
            self._outbox.add(self._link.publish(topic, payload, qos=1, expires_s=ANSWER_EXPIRY_S))

    def telemetry(self, message: Telemetry) -> bool:
        """Send it once, unless the peer may not publish now; returns whether it was sent.

        Raises:
            MessageRefused: it names another device.
        """
        if not self._may_publish():
            return False
        topic = topics.topic(self._fleet, self._peer, COORDINATOR, "telemetry")
        self._link.publish(topic, self._encode(message, COORDINATOR, topic), qos=0)
        return True

    def look(self) -> None:
        """Tell all devices that somebody looks; nothing while the peer may not publish."""
        if self._may_publish():
            topic = topics.topic(self._fleet, self._peer, topics.EVERYBODY, "look")
            self._link.publish(topic, b"1", qos=0)

    def birth(self) -> None:
        """Publish that the peer is online, to be confirmed."""
        self._outbox.add(self._publish_state(self._state.online, qos=1))

    def beat(self) -> None:
        """The same as a heartbeat, unconfirmed."""
        self._publish_state(self._state.online, qos=0)

    def goodbye(self) -> None:
        """Publish that the process ends, to be confirmed."""
        self._outbox.add(self._publish_state(self._state.goodbye, qos=1))

    def note(self, sent: MQTTMessageInfo | None) -> None:
        """Something else was sent that is to be confirmed."""
        if sent is not None:
            self._outbox.add(sent)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has confirmed everything sent so far; returns whether it has."""
        deadline_s = time.monotonic() + timeout_s
        sent = self._outbox.settled_within(timeout_s)
        return self.documents.settled_within(deadline_s - time.monotonic()) and sent

    def _encode(self, message: Message, recipient: str, topic: str) -> bytes:
        payload = encode_message(message, sender=self._peer, recipient=recipient)
        limit = self._link.largest_payload(topic)
        if limit is not None and len(payload) > limit:
            raise MessageRefused(
                f"{type(message).__name__} to {recipient} has {len(payload)} B, the broker at "
                f"{self._link.address} takes {limit} B; raise its max_packet_size"
            )
        return payload

    def _publish_document(self, topic: str, payload: bytes) -> MQTTMessageInfo | None:
        if not self._may_publish():
            return None
        return self._link.publish(topic, payload, qos=1, retain=True)

    def _publish_state(self, state: bytes, *, qos: int) -> MQTTMessageInfo:
        return self._link.publish(self._state.topic, state, qos=qos, retain=True)

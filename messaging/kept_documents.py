"""The documents that a peer keeps at the broker: retained messages of which the latest counts.

:class:`Documents` holds the latest document of every topic. At most one of a topic is on its way to
the broker; one that replaces it waits here until the broker has confirmed the older one. So an
older document never overtakes a newer one, and a peer that was away for an hour sends one document
and not the hour's. After a reconnect all are published again, because a broker that was restarted
may have lost what it had retained.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from msgspec import Struct
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fimi.messaging.outbox import comes_true

AGAIN_S = (1.0, 2.0, 4.0, 8.0, 10.0)
"""Times after which a document that is not answered is published again, s; the last one repeats."""


def again_s(tries: int) -> float:
    """The time of :data:`AGAIN_S` after a document has been published again so often, s."""
    return AGAIN_S[min(tries, len(AGAIN_S) - 1)]


class _Document(Struct):
    """The latest payload of a topic.

    Attributes:
        payload: empty: the broker is to forget the document.
        waiting: whether it is still to be published.
        sent: number of the message that carries this document or an earlier one to the broker;
            ``None`` if none is on its way.
    """

    payload: bytes
    waiting: bool = True
    sent: int | None = None


class Documents:
    """The documents of one peer. Safe to use from several threads.

    ``publish(topic, payload)`` passes a retained message to the network thread, or returns ``None``
    while the peer is offline.
    """

    def __init__(self, publish: Callable[[str, bytes], MQTTMessageInfo | None]) -> None:
        self._publish = publish
        self._documents: dict[str, _Document] = {}
        self._confirmed: deque[int] = deque()
        self._travelling = 0
        self._lock = threading.Lock()

    def put(self, topic: str, payload: bytes) -> None:
        """Replace the document of a topic, and publish it as soon as that is possible."""
        with self._lock:
            if (document := self._documents.get(topic)) is None:
                self._documents[topic] = _Document(payload=payload)
            else:
                document.payload = payload
                document.waiting = True
            self._pump()

    def renew(self) -> None:
        """Publish all documents again: the connection was lost."""
        with self._lock:
            for document in self._documents.values():
                document.waiting = True
            self._pump()

    def pump(self) -> None:
        """Publish what waits and can be published now."""
        with self._lock:
            self._pump()

    def confirmed(self, number: int) -> bool:
        """Note, on the network thread, that the broker has a message; returns whether to pump."""
        # no lock: paho holds one of its own here, which `publish` needs below
        if not self._travelling:
            return False
        self._confirmed.append(number)
        return True

    def settled(self) -> bool:
        """Whether the broker has confirmed the latest document of every topic."""
        with self._lock:
            self._pump()
            return all(
                not document.waiting and document.sent is None
                for document in self._documents.values()
            )

    def settled_within(self, timeout_s: float) -> bool:
        """Wait until everything is settled; returns whether it is."""
        return comes_true(self.settled, timeout_s)

    def _pump(self) -> None:
        arrived = set()
        while self._confirmed:
            arrived.add(self._confirmed.popleft())
        for topic, document in list(self._documents.items()):
            if document.sent in arrived:
                document.sent = None
                self._travelling -= 1
                if not document.payload and not document.waiting:
                    del self._documents[topic]
            if document.waiting and document.sent is None:
                self._send(topic, document)

    def _send(self, topic: str, document: _Document) -> None:
        self._travelling += 1  # before the broker can confirm it
        info = self._publish(topic, document.payload)
        if info is None or info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self._travelling -= 1
        elif info.rc == MQTTErrorCode.MQTT_ERR_PAYLOAD_SIZE:
            self._travelling -= 1
            document.waiting = False  # this broker never takes it
        else:
            document.waiting, document.sent = False, info.mid

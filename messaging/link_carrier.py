"""How transfers travel over a peer's connection: unacknowledged, dropped while there is none."""

from __future__ import annotations

import time

from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging import topics
from fimi.messaging.link import Link
from fimi.messaging.presence import Presence
from fimi.messaging.topics import Kind

TRANSFER_EXPIRY_S = 60
"""A broker of MQTT 5 drops a chunk that it cannot deliver for so long, s."""


class LinkCarrier:
    """A link that carries transfers (:class:`~fimi.messaging.transfers.carrier.Carrier`).

    Args:
        fleet: name of the fleet.
        peer: own id.
        link: the connection.
        presence: the other peers.
    """

    def __init__(self, fleet: str, peer: str, link: Link, presence: Presence) -> None:
        self.id = peer
        self._fleet = fleet
        self._link = link
        self._presence = presence

    @property
    def online(self) -> bool:
        """Whether the broker is connected at present."""
        return self._link.ready

    def publish(self, recipient: str, kind: Kind, payload: bytes) -> MQTTMessageInfo | None:
        """Publish bytes without acknowledgement; ``None`` while offline."""
        return self._publish(topics.topic(self._fleet, self.id, recipient, kind), payload)

    def publish_shared(self, digest: str, payload: bytes) -> MQTTMessageInfo | None:
        """Publish a chunk to all that hear a payload's stream; ``None`` while offline."""
        return self._publish(topics.shared(self._fleet, self.id, digest), payload)

    def _publish(self, topic: str, payload: bytes) -> MQTTMessageInfo | None:
        if not self._link.ready:
            return None
        return self._link.publish(topic, payload, qos=0, expires_s=TRANSFER_EXPIRY_S)

    def listen(self, holder: str, digest: str) -> None:
        """Hear the stream of a payload."""
        self._link.listen(topics.shared(self._fleet, holder, digest))

    def unlisten(self, holder: str, digest: str) -> None:
        """Hear the stream of a payload no more."""
        self._link.unlisten(topics.shared(self._fleet, holder, digest))

    def largest_payload(self, recipient: str, kind: Kind) -> int | None:
        """The largest payload that the broker takes, bytes; ``None`` if it names none."""
        return self._link.largest_payload(topics.topic(self._fleet, self.id, recipient, kind))

    def absent_s(self, peer: str) -> float | None:
        """For how long another peer has been offline, s; ``None`` if it is not known to be."""
        return self._presence.absent_s(peer, time.monotonic())

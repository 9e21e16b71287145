"""What transfers use of their peer."""

from __future__ import annotations

from typing import Protocol

from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging.topics import Kind


class Carrier(Protocol):
    """What transfers use of their peer."""

    @property
    def id(self) -> str:
        """Its peer id."""
        ...

    def publish(self, recipient: str, kind: Kind, payload: bytes) -> MQTTMessageInfo | None:
        """Publish without acknowledgement; ``None`` while offline."""
        ...

    @property
    def online(self) -> bool:
        """Whether the broker is connected at present."""
        ...

    def largest_payload(self, recipient: str, kind: Kind) -> int | None:
        """The largest payload that the broker takes, bytes; ``None`` if it names none."""
        ...

    def absent_s(self, peer: str) -> float | None:
        """For how long another peer has been offline; ``None`` if it is not known to be."""
        ...

    def listen(self, holder: str, digest: str) -> None:
        """Hear the shared stream of a payload."""
        ...

    def unlisten(self, holder: str, digest: str) -> None:
        """Hear it no more."""
        ...

    def publish_shared(self, digest: str, payload: bytes) -> MQTTMessageInfo | None:
        """Publish to all that hear the shared stream of a payload; ``None`` while offline."""
        ...

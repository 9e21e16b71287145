"""What a broker grants: packets, retained messages, quality of service, keep-alive.

A broker of MQTT 5 says so when it answers a connection. :class:`Granted` is what it said, and what
follows from it in words: what cannot work is refused at once, what is adapted to is named once.

A broker that keeps no retained messages, or takes no quality of service 1, refuses a connection
whose last will asks for them. Then :meth:`Granted.without` is tried.

A broker may also drop messages above a size and not say so (Mosquitto's ``message_size_limit``).
That shows when a peer sends messages of :data:`TRIED_BYTES` to itself, and the larger one does not
come back (:func:`dropped`, :mod:`fimi.messaging.size_trial`). Where neither does, the broker is
refused (:func:`dropped_all`).

What else a broker does not say cannot be known before it happens: how many messages it queues, and
that it forgets everything when it is restarted. The second one shows after a restart: the session
is gone (:func:`forgotten`). Nothing of FIMI depends on either (docs/conversation.md).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

LEAST_PACKET_BYTES = 16 << 10
"""A broker that takes less is refused: the documents of a run do not fit."""
ENOUGH_PACKET_BYTES = (1 << 20) + 1024
"""So much takes any message."""
LEAST_KEEPALIVE_S = 5
TRIED_BYTES = (12 << 10, 124 << 10)
"""Messages that a peer sends to itself: one that has to arrive, and one of a chunk's size."""

_NO_RETAIN, _NO_QOS = "Retain not supported", "QoS not supported"


class Granted(Struct, frozen=True, kw_only=True):
    """What a broker grants.

    Attributes:
        packet_bytes: the largest packet that it takes; ``None``: it names none.
        unacknowledged: most messages that it takes before it has confirmed one; ``None``: no limit.
        retains: whether it keeps the latest message of a topic.
        qos: the highest quality of service that it takes, at most 1 here.
        keepalive_s: after what silence it ends a connection, if it chooses; ``None``: as asked.
    """

    packet_bytes: int | None = None
    unacknowledged: int | None = None
    retains: bool = True
    qos: int = 1
    keepalive_s: int | None = None

    def told(self, properties: Any) -> Granted:
        """With what the answer to a connection says; what was found out before stays."""
        return Granted(
            packet_bytes=getattr(properties, "MaximumPacketSize", None),
            unacknowledged=getattr(properties, "ReceiveMaximum", None),
            retains=self.retains and bool(getattr(properties, "RetainAvailable", 1)),
            qos=min(self.qos, getattr(properties, "MaximumQoS", 1)),
            keepalive_s=getattr(properties, "ServerKeepAlive", None),
        )

    def without(self, refusal: str) -> Granted | None:
        """What to ask for after a refusal; ``None`` if asking for less does not help."""
        if refusal == _NO_RETAIN and self.retains:
            return replace(self, retains=False)
        if refusal == _NO_QOS and self.qos:
            return replace(self, qos=0)
        return None

    @property
    def unusable(self) -> str:
        """Why no run is possible with it, and what to do; empty if one is."""
        if self.packet_bytes is not None and self.packet_bytes < LEAST_PACKET_BYTES:
            return (
                f"takes packets of at most {self.packet_bytes} B, and the documents of a run need "
                f"{LEAST_PACKET_BYTES} B; raise its max_packet_size (2000000 is plenty)"
            )
        return ""

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """What is adapted to, and what it costs, a sentence each."""
        found = []
        if self.packet_bytes is not None and self.packet_bytes < ENOUGH_PACKET_BYTES:
            found.append(
                f"takes packets of at most {self.packet_bytes} B: chunks are made as small, and a "
                f"message that is larger cannot be sent; max_packet_size {ENOUGH_PACKET_BYTES} "
                "lets every message through"
            )
        if not self.retains:
            found.append(
                "keeps no retained messages: documents are published again until they are heard, "
                "so whoever connects waits up to 10 s for them, and 'fimi fleet' sees only boards "
                "that answer; set retain_available true"
            )
        if not self.qos:
            found.append(
                "takes only unconfirmed messages (QoS 0): what is lost is sent again after some "
                "seconds; set max_qos 1 or 2"
            )
        if self.keepalive_s is not None and self.keepalive_s < LEAST_KEEPALIVE_S:
            found.append(
                f"ends a connection after {1.5 * self.keepalive_s:g} s of silence: a slow link "
                f"will be cut off; set max_keepalive to {LEAST_KEEPALIVE_S} or more"
            )
        return tuple(found)


def dropped() -> str:
    """That a broker drops the larger one of :data:`TRIED_BYTES`."""
    small, large = TRIED_BYTES
    return (
        f"drops messages of {large} B without a word and takes those of {small} B: chunks are made "
        "as small, and a message that is larger cannot be sent; raise its message_size_limit (0: "
        "no limit)"
    )


def dropped_all() -> str:
    """That a broker drops even the smaller one."""
    return (
        f"drops messages of {min(TRIED_BYTES)} B without a word, and the documents of a run need "
        f"{LEAST_PACKET_BYTES} B; raise its message_size_limit (0: no limit)"
    )


def forgotten() -> str:
    """That a broker has lost the session of a connection."""
    return (
        "does not know this connection any more: it was killed before it had written it to its "
        "disk, keeps nothing there, or is another one now; everything is published again. With "
        "'persistence true' Mosquitto keeps it, and writes it every 'autosave_interval' seconds"
    )

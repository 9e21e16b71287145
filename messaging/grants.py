"""What the broker of one link grants, as it becomes known; what it lacks is said once.

A broker says some of it when it answers a connection, refuses what asks for too much, and drops the
rest without a word (:mod:`fimi.messaging.limits`).
"""

from __future__ import annotations

import logging

from paho.mqtt.properties import Properties

from fimi.messaging.address import BrokerAddress
from fimi.messaging.limits import Granted

PACKET_OVERHEAD = 64
"""Most bytes of a packet besides topic and payload."""

log = logging.getLogger(__name__)


class Grants:
    """What one broker grants to one link.

    Args:
        broker: its address.
        silent: it is looked at only for a moment, and nothing is said of it.

    Attributes:
        now: what is known.
    """

    def __init__(self, broker: BrokerAddress, *, silent: bool) -> None:
        self.now = Granted()
        self._broker = broker
        self._silent = silent
        self._proven_bytes: int | None = None
        self._said: set[str] = set()

    def told(self, properties: Properties | None) -> None:
        """Take in what the answer to a connection says."""
        self.now = self.now.told(properties)

    def ask_less(self, refusal: str) -> bool:
        """After a refusal, expect less of it; returns whether that may help."""
        if (less := self.now.without(refusal)) is None:
            return False
        self.now = less
        return True

    def largest_payload(self, topic: str) -> int | None:
        """The largest payload that the broker takes on a topic, bytes; ``None`` for no limit."""
        named = self.now.packet_bytes
        limits = [] if self._proven_bytes is None else [self._proven_bytes]
        if named is not None:
            limits.append(max(0, named - PACKET_OVERHEAD - len(topic)))
        return min(limits, default=None)

    def limit(self, payload_bytes: int | None, why: str) -> None:
        """It was found to drop larger payloads, and why; ``None``: it does not."""
        self._proven_bytes = payload_bytes
        if why:
            self.say(why)

    def say(self, *found: str) -> None:
        """Say, once, what the broker does not grant."""
        for each in found:
            if each not in self._said:
                self._said.add(each)
                if not self._silent:
                    log.warning("%s %s", self._broker, each)

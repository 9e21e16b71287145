"""Whether the broker drops what has the size of a chunk, tried when a peer connects.

Mosquitto's ``message_size_limit`` drops a larger message and does not say so. So a peer sends two
messages to itself, a small one and one of a chunk's size: where the small one comes back and the
large one does not, nothing larger than the small one is sent (:mod:`fimi.messaging.limits`).
"""

from __future__ import annotations

import threading

from fimi.messaging.limits import TRIED_BYTES, dropped
from fimi.messaging.link import Link

TRIED_S = 1.5
"""A message to oneself that has not come back after so long was dropped, s; or it is late."""


class SizeTrial:
    """The trial on one link; ``topic`` goes from the peer to itself."""

    def __init__(self, link: Link, topic: str) -> None:
        self._link = link
        self._topic = topic
        self._came_back = {size: threading.Event() for size in TRIED_BYTES}

    def run(self) -> None:
        """Try, and limit the link if need be; waits for the answer."""
        small, large = TRIED_BYTES
        named = self._link.largest_payload(self._topic)
        if named is not None and named < large:
            return  # what the broker says itself is kept to
        for size in TRIED_BYTES:
            self._link.publish(self._topic, bytes(size), qos=0)
        if self._came_back[small].wait(TRIED_S) and not self._came_back[large].wait(TRIED_S):
            self._link.limit(small, dropped())

    def on_echo(self, payload: bytes) -> None:
        """A message came back, on the network thread."""
        if (came := self._came_back.get(len(payload))) is not None:
            came.set()
            if len(payload) == max(TRIED_BYTES):
                self._link.limit(None)  # it was late only

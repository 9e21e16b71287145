"""Whether the broker drops what has the size of a message or a chunk, tried when a peer connects.

Mosquitto's ``message_size_limit`` drops a larger message and does not say so. So a peer sends
messages of :data:`~fimi.messaging.limits.TRIED_BYTES` to itself, the largest first, and at last one
of a few bytes. A broker hands on what one client writes on one topic in order: when the last one is
back, what has not come was dropped. Between it and the peer there may be a link that loses, or
reorders: so what has not come is tried :data:`TIMES`.

* the largest was dropped: no larger payload than the next one is sent, and it is said
* all were dropped: no run is possible with that broker, and it is refused

A device, of which there are many, behind links that cost joules, tries the smallest size only;
chunks that are too large for its broker become smaller as they are asked for again
(:mod:`fimi.messaging.transfers.window`).
"""

from __future__ import annotations

import threading

from fimi.messaging.errors import BrokerError
from fimi.messaging.limits import TRIED_BYTES, dropped, dropped_all
from fimi.messaging.link import Link

TRIED_S = 1.5
"""After so long without the last message nothing is known, s."""
TIMES = 3
"""So often what has not come is sent."""
LAST_BYTES = 16
"""Size of the last message of the first trial; each further one has a byte more."""


class SizeTrial:
    """The trial on one link.

    Args:
        link: it is subscribed to the topic.
        topic: from the peer to itself.
        only_small: try the smallest size only.
    """

    def __init__(self, link: Link, topic: str, *, only_small: bool = False) -> None:
        self._link = link
        self._topic = topic
        self._sizes = (min(TRIED_BYTES),) if only_small else TRIED_BYTES
        self._came: set[int] = set()
        self._over = [threading.Event() for _ in range(TIMES)]

    def run(self) -> None:
        """Try, and limit the link if need be; waits for the answer.

        Raises:
            BrokerError: the broker drops messages that a run needs.
        """
        named = self._link.largest_payload(self._topic)
        sizes = sorted(size for size in self._sizes if named is None or size <= named)
        for trial, over in enumerate(self._over):
            missing = [size for size in sizes if size not in self._came]
            if not missing:
                return
            for size in (*reversed(missing), LAST_BYTES + trial):
                self._link.publish(self._topic, bytes(size), qos=0)
            if not over.wait(TRIED_S):
                return
        came = [size for size in sizes if size in self._came]
        if not came:
            raise BrokerError(f"{self._link.address}: {dropped_all()}")
        if came != sizes:
            self._link.limit(max(came), dropped())

    def on_echo(self, payload: bytes) -> None:
        """A message came back, on the network thread."""
        self._came.add(len(payload))
        if 0 <= (trial := len(payload) - LAST_BYTES) < TIMES:
            self._over[trial].set()
        elif len(payload) == max(TRIED_BYTES):
            self._link.limit(None)  # it was late only

"""Telemetry: what devices say of themselves many times a minute, of which the latest counts.

It is published without acknowledgement, dropped while there is no connection, and never repeated:
what it says is old by then. The receiver keeps the latest of each device as bytes
(:class:`LatestTelemetry`) and reads them when somebody wants to know, so that a thousand devices
cost it little.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fimi.messaging.errors import MessageRefused
from fimi.messaging.messages.peers import Telemetry
from fimi.messaging.transfers.wire import decode_message

MAX_BYTES = 2048
"""The largest telemetry that is taken, bytes; one has about 300."""

STALE_S = 120.0
"""What is older than this is over: a board says it once a minute at least, s."""

MAX_DEVICES = 10_000
"""Of how many devices the latest is kept; the one that was silent for longest goes."""


class LatestTelemetry:
    """The latest telemetry of every device. Safe to use from several threads.

    Args:
        clock: monotonic time, s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest: dict[str, tuple[bytes, str, float]] = {}
        self._lock = threading.Lock()

    def put(self, sender: str, recipient: str, payload: bytes) -> None:
        """Keep what a device has said; it is not read yet.

        Raises:
            MessageRefused: it is too large.
        """
        if len(payload) > MAX_BYTES:
            raise MessageRefused(
                f"telemetry of {len(payload)} B from {sender}, the limit is {MAX_BYTES} B"
            )
        with self._lock:
            self._latest.pop(sender, None)
            self._latest[sender] = (payload, recipient, self._clock())
            if len(self._latest) > MAX_DEVICES:
                del self._latest[next(iter(self._latest))]

    def read(self) -> dict[str, Telemetry]:
        """The latest of each device by its id; what is old or cannot be read is left out."""
        with self._lock:
            latest = dict(self._latest)
        found, since_s = {}, self._clock() - STALE_S
        for sender, (payload, recipient, at_s) in latest.items():
            if at_s < since_s:
                continue
            try:
                said = decode_message(payload, sender=sender, recipient=recipient)
            except MessageRefused:
                continue
            if isinstance(said, Telemetry):
                found[sender] = said
        return found

    def forget(self, sender: str) -> None:
        """A device is gone: what it said is over."""
        with self._lock:
            self._latest.pop(sender, None)

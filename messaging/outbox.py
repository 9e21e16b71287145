"""Messages that were sent and that the broker has not confirmed yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from paho.mqtt.client import MQTTMessageInfo


class Outbox:
    """Unconfirmed messages, in the order in which they were sent. Safe from several threads."""

    def __init__(self) -> None:
        self._sending: deque[MQTTMessageInfo] = deque()
        self._lock = threading.Lock()

    def add(self, info: MQTTMessageInfo) -> None:
        """Note a message that was passed to the network thread."""
        with self._lock:
            self._sending.append(info)
        self.settled()

    def settled(self) -> bool:
        """Whether the broker has confirmed all messages that it can still confirm."""
        with self._lock:
            while self._sending and _is_settled(self._sending[0]):
                self._sending.popleft()
            return not self._sending

    def settled_within(self, timeout_s: float) -> bool:
        """Wait until everything is settled; returns whether it is."""
        return comes_true(self.settled, timeout_s)


def comes_true(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for something that nothing tells of; returns whether it has come true in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(0.002)
    return True


def _is_settled(info: MQTTMessageInfo) -> bool:
    """Whether the broker has confirmed a message, or can never do so."""
    try:
        return info.is_published()
    except ValueError:
        return True  # it was never queued
    except RuntimeError:
        return False  # offline now; paho keeps it and sends it after reconnecting

"""How agents in one process share memory and processor: one trains at a time, few hold a model.

A device that waits for its turn needs no model yet. It fetches one when there is room in memory,
and releases the room once the coordinator has its update. So one device can train while another
fetches or sends. An agent that is alone never waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fimi.messaging.errors import TransferCancelled

ROOM_BYTES = 128_000_000
"""Memory for the models of all agents of a process, bytes, unless they are few."""
HOLDERS_MIN = 2
"""Number of agents that may always hold a model, of any size: one trains, one fetches or sends."""
LOOK_AGAIN_S = 0.2
"""Time between two checks for cancellation while an agent waits for room, s."""


class Turns:
    """Room for models and the turn to train, shared by the agents of one process.

    Args:
        room_bytes: see :data:`ROOM_BYTES`.

    Attributes:
        training: held while training, so that agents do not slow each other down.
    """

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self.training = threading.Lock()
        self._room_bytes = room_bytes
        self._changed = threading.Condition()
        self._held_bytes = 0
        self._holders = 0

    @contextmanager
    def holding(self, model_bytes: int, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Wait until there is room for another model; the ``with`` block holds this room.

        Args:
            model_bytes: size of the model; its update has the same size and is counted as well.
            cancelled: called a few times a second; the wait ends when it returns true.

        Raises:
            TransferCancelled: ``cancelled`` returned true.
        """
        size_bytes = 2 * model_bytes
        with self._changed:
            while not self._has_room(size_bytes):
                if cancelled():
                    raise TransferCancelled("cancelled while waiting for room for a model")
                self._changed.wait(LOOK_AGAIN_S)
            self._held_bytes += size_bytes
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._held_bytes -= size_bytes
                self._holders -= 1
                self._changed.notify_all()

    def _has_room(self, size_bytes: int) -> bool:
        return self._holders < HOLDERS_MIN or self._held_bytes + size_bytes <= self._room_bytes

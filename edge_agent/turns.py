"""How agents of one process share it: one trains at a time, and few hold a model meanwhile.

A device that waits for its turn needs no model yet. It fetches one when there is room, and gives
the room back once its update is with the coordinator; one device can then train while another
fetches or sends. An agent that is alone never waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fimi.messaging.errors import TransferCancelled

ROOM_BYTES = 128_000_000
"""What the models of all agents of a process may take together, unless they are few."""
HOLDERS_MIN = 2
"""So many agents may hold a model however large it is: one trains, one fetches or sends."""
LOOK_AGAIN_S = 0.2
"""How often an agent that waits for room looks whether it is to give up, s."""


class Turns:
    """Shared by the agents of one process.

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
        """Wait until there is room for another model; it is taken while the ``with`` block lasts.

        Args:
            model_bytes: size of the model; its update takes as much again and is counted as well.
            cancelled: asked a few times a second whether to give up.

        Raises:
            TransferCancelled: given up because ``cancelled`` said so.
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

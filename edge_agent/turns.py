"""How agents in one process share memory and processor: one trains at a time, few hold a model.

* :class:`Turns`  room for models, the turn to train, and where finished updates wait

A device that waits for its turn needs no model yet. It fetches one when there is room in memory,
and releases the room once the coordinator has its update. So one device can train while another
fetches or sends. An agent that is alone never waits.

An update is served until the coordinator has stored it, long after it was pulled. Those of many
agents would fill the memory, so they wait in a file.
"""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from fimi.messaging.errors import TransferCancelled

ROOM_BYTES = 128_000_000
"""Memory for the models of all agents of a process, bytes, unless they are few."""
HOLDERS_MIN = 2
"""Number of agents that may always hold a model, of any size: one trains, one fetches or sends."""
SMALL_BYTES = 1_000_000
"""Largest update that waits in memory, bytes."""
LOOK_AGAIN_S = 0.2
"""Time between two checks for cancellation while an agent waits for room or its turn, s."""


class Turns:
    """Room for models and the turn to train, shared by the agents of one process.

    Args:
        room_bytes: see :data:`ROOM_BYTES`.
        crowd: whether the process has many agents, whose updates wait in files.
    """

    def __init__(self, room_bytes: int = ROOM_BYTES, *, crowd: bool = False) -> None:
        self._training = threading.Lock()
        self._crowd = crowd
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

    @contextmanager
    def training(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Wait for the turn to train, so that agents do not slow each other down, and hold it.

        Args:
            cancelled: as of :meth:`holding`.

        Raises:
            TransferCancelled: ``cancelled`` returned true.
        """
        while not self._training.acquire(timeout=LOOK_AGAIN_S):
            if cancelled():
                raise TransferCancelled("cancelled while waiting for the turn to train")
        try:
            yield
        finally:
            self._training.release()

    def waiting(self, update: bytes) -> bytes:
        """An update as it waits until it is stored: among many agents, a file in memory's place."""
        if not self._crowd or len(update) <= SMALL_BYTES:
            return update
        with tempfile.TemporaryFile() as file:
            file.write(update)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cast(bytes, memoryview(mapped))

    def _has_room(self, size_bytes: int) -> bool:
        return self._holders < HOLDERS_MIN or self._held_bytes + size_bytes <= self._room_bytes

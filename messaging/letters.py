"""Messages that have come and wait to be received, as the bytes in which they came.

A message waits in a :class:`~fimi.messaging.mailbox.Mailbox`, which bounds it in bytes. Its bytes
take a known amount of memory and its objects do not, so it was checked when it came and is decoded
again when it is received. A document takes the place of an earlier one that still waits. Changes of
other peers' states wait in the same order.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from msgspec import Struct

from fimi.messaging.mailbox import Mailbox
from fimi.messaging.messages.basis import Message
from fimi.messaging.messages.documents import Desired, Reported
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.transfers.wire import decode_message

log = logging.getLogger(__name__)


class PeerCounters(Struct):
    """Numbers of received messages; for diagnosis and tests.

    Attributes:
        received: that could be used.
        refused: that could not.
        unseen: that were not looked at: their sender is set aside, or sends too often.
        overflowed: that were dropped before they were received, because too many waited.
        telemetry: telemetry that came, used or not.
    """

    received: int = 0
    refused: int = 0
    unseen: int = 0
    overflowed: int = 0
    telemetry: int = 0


class _Sealed(NamedTuple):
    """A checked message as it came: its bytes take a known amount of memory, its objects do not."""

    payload: bytes
    recipient: str


class Letters:
    """What waits for one peer. Safe to use from several threads."""

    def __init__(self, counters: PeerCounters) -> None:
        """Nothing waits; ``counters`` gets what is dropped."""
        self._counters = counters
        self._mailbox: Mailbox[DeviceState | _Sealed] = Mailbox()
        self._dropped_told = 0

    def put(self, sender: str, recipient: str, message: Message, payload: bytes) -> None:
        """Let a message wait; a document takes the place of an earlier one that still waits."""
        key: tuple[str, ...] | None = None
        number: tuple[int, ...] = ()
        if isinstance(message, Reported):  # a later one of the same start holds all of this one
            key, number = ("reported", message.instance, message.boot_id), (message.number,)
        elif isinstance(message, Desired):
            key, number = ("desired", message.instance, str(message.epoch)), (message.number,)
        sealed = _Sealed(payload, recipient)
        self._note_lost(self._mailbox.put(sender, sealed, len(payload), key=key, number=number))

    def put_state(self, state: DeviceState) -> None:
        """Let the change of another peer's state wait."""
        self._note_lost(self._mailbox.put(state.peer, state, len(state.boot_id)))

    def get(self, timeout_s: float | None = None) -> tuple[str, Message] | None:
        """The next one, with its sender; ``None`` after ``timeout_s``, or closed and empty."""
        if (item := self._mailbox.get(timeout_s)) is None:
            return None
        sender, content = item
        if isinstance(content, DeviceState):
            return sender, content
        return sender, decode_message(content.payload, sender=sender, recipient=content.recipient)

    def close(self) -> None:
        """Let :meth:`get` return ``None`` once everything was taken out."""
        self._mailbox.close()

    def _note_lost(self, senders: tuple[str, ...]) -> None:
        counters = self._counters
        for name in senders:
            counters.overflowed += 1
            if counters.overflowed >= 10 * self._dropped_told:
                self._dropped_told = counters.overflowed
                log.error(
                    "too much waits to be received: %d messages dropped so far, the last of %s",
                    *(counters.overflowed, name),
                )

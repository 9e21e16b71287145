"""The transfers of a device: limited in size, timed, and reported to the board.

* :meth:`Exchange.fetch`  pulls a payload that was offered to the device
* :meth:`Exchange.ship`   offers an update until the coordinator has pulled it
* :meth:`Exchange.take`   the goodput of both
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fimi.energy.cost_model import Phase
from fimi.energy.hardware import Hardware
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.messages import Goodput, Offer
from fimi.messaging.topics import COORDINATOR

LOOK_AGAIN_S = 0.2
"""Time between two checks for cancellation while an update waits to be pulled, s."""


class Exchange:
    """Transfers of one device.

    Args:
        peer: its connection.
        hardware: the board, whose radio they use and whose clock times them.
        timeout_s: how long one may take, wall time, s.
        cancelled: called repeatedly; a transfer ends when it returns true.
    """

    def __init__(
        self, peer: Peer, hardware: Hardware, timeout_s: float, cancelled: Callable[[], bool]
    ) -> None:
        self._peer = peer
        self._hardware = hardware
        self._timeout_s = timeout_s
        self._cancelled = cancelled
        self._moved: list[Goodput] = []
        self._served: str | None = None

    def fetch(self, offer: Offer, max_bytes: int, phase: Phase | None = None) -> bytes:
        """Pull a payload; its goodput is noted if a phase is given.

        Raises:
            TransferError: it is too large, damaged or late, or was cancelled.
        """
        began_s = self._hardware.clock.now_s()
        payload = self._peer.transfers.fetch(
            offer, timeout_s=self._timeout_s, max_bytes=max_bytes, cancelled=self._cancelled
        )
        self._hardware.has_received(len(payload))
        if phase is not None:
            self._note(phase, len(payload), began_s)
        return payload

    def ship(self, update: bytes, announce: Callable[[Offer], None]) -> None:
        """Offer an update, announce the offer, and wait until the coordinator has pulled it.

        Raises:
            TransferCancelled: it was cancelled.
            TransferError: the coordinator did not pull it in time.
        """
        began_s = self._hardware.clock.now_s()
        offer = self._peer.transfers.serve(update, media="safetensors")
        self.withdraw()
        self._served = offer.digest
        announce(offer)
        self._wait_until_pulled(offer.digest)
        self.withdraw()
        self._hardware.has_sent(len(update))
        self._note("upload", len(update), began_s)

    def withdraw(self) -> None:
        """Stop offering an update."""
        if self._served is not None:
            self._peer.transfers.withdraw(self._served)
            self._served = None

    def take(self) -> tuple[Goodput, ...]:
        """The transfers since the last call."""
        moved, self._moved = tuple(self._moved), []
        return moved

    def _note(self, phase: Phase, size_bytes: int, began_s: float) -> None:
        duration_s = self._hardware.clock.now_s() - began_s
        self._moved.append(Goodput(phase=phase, size_bytes=size_bytes, duration_s=duration_s))

    def _wait_until_pulled(self, digest: str) -> None:
        limit = time.monotonic() + self._timeout_s
        transfers = self._peer.transfers
        while not transfers.wait_served(digest, by=COORDINATOR, timeout_s=LOOK_AGAIN_S):
            if self._cancelled():
                raise TransferCancelled("the agent was asked to stop during its upload")
            if time.monotonic() > limit:
                raise TransferError(
                    f"the coordinator did not pull the update within {self._timeout_s:g} s"
                )

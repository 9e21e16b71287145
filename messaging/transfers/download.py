"""One payload on its way: what has arrived of it and waits to be taken in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from fimi.messaging.errors import TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.assembly import Assembly
from fimi.messaging.transfers.parts import Store
from fimi.messaging.transfers.window import LinkWindow
from fimi.messaging.transfers.wire import Chunk


class Download:
    """One payload on its way: the network thread adds chunks, the asker takes them.

    Where there is memory for the payload, the network thread puts them in their place itself.

    Attributes:
        offer: the payload and its holder.
        assembly: what has arrived.
        progress_s: when a chunk arrived last, the connection was made again, or it began, s.
    """

    def __init__(
        self,
        offer: Offer,
        wake: Callable[[], None],
        now_s: float,
        store: Store | None,
        window: LinkWindow | None,
    ) -> None:
        self.offer = offer
        self.assembly = Assembly(offer, store=store, window=window)
        self.progress_s = now_s
        self.wake = wake
        self.inbox: deque[tuple[Chunk, bool]] = deque()
        self.waiting_bytes = 0
        self.gone = False
        self.hurry = False
        self.apart = False
        self.has_come = False
        self.streams = offer.shared  # whether the shared stream is to be joined

    @property
    def woken(self) -> bool:
        """Whether there is something to take in."""
        return bool(self.inbox) or self.has_come or self.gone or self.hurry or self.apart

    def failure(self, why: str, kind: type[TransferError] = TransferError) -> TransferError:
        """The error to raise; says how much has arrived."""
        offer, assembly = self.offer, self.assembly
        return kind(
            f"{offer.media} payload {offer.digest[:12]} ({offer.size_bytes} B) from {offer.holder}:"
            f" {why}; {assembly.here_bytes} B had come, {assembly.corrupt} chunks damaged, "
            f"{assembly.asked_again} asked for again"
        )

"""The transfers of a device: limited in size, timed, and as long as they are wanted.

* :meth:`Exchange.fetch`    pulls a payload that was offered to the device
* :meth:`Exchange.deliver`  offers an update until the coordinator has pulled it
* :meth:`Exchange.release`  stops offering updates that are stored, offers those of earlier starts
* :meth:`Exchange.take`     the goodput of both

A holder that is gone, or does not serve a payload yet, is asked again until the payload is no
longer wanted: it may have been restarted. A payload that is too large, or another one than was
offered, is an error at once. While the holder or the broker is away the transfer is paused, and its
seconds and joules count as waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fimi.edge_agent.course import Step
from fimi.edge_agent.line import Line
from fimi.edge_agent.metering import Metering
from fimi.energy.cost_model import Phase
from fimi.messaging.client import Peer
from fimi.messaging.errors import PayloadUnusable, TransferCancelled, TransferError
from fimi.messaging.messages.basis import Goodput, Offer
from fimi.messaging.messages.documents import Desired
from fimi.messaging.messages.facts import FactBody, UpdateReady
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.parts import PartFiles

AGAIN_S = (1.0, 2.0, 3.0, 5.0)
"""Times after which a holder is asked again, s; the last one repeats."""
LOOK_AGAIN_S = 0.2
"""Time between two looks at whether a transfer is still wanted, s."""
_FOR_EVER_S = 1e7
"""Of one attempt: a slow link may take long, and whoever no longer wants it says so."""


class Exchange:
    """Transfers of one device.

    Args:
        peer: its connection.
        line: its conversation, which knows what is wanted.
        parts: where payloads are put together, so that a process that was started again goes on
            with what had come; ``None``: in memory.
    """

    def __init__(self, peer: Peer, line: Line, parts: PartFiles | None = None) -> None:
        self._peer = peer
        self._line = line
        self._parts = parts
        self._moved: list[Goodput] = []
        self._served: dict[str, int] = {}
        self._needed: set[str] = set()

    def fetch(
        self,
        step: Step,
        offered: Callable[[], Offer],
        max_bytes: int,
        *,
        metering: Metering | None = None,
        phase: Phase | None = None,
    ) -> bytes:
        """Pull a payload, as often as it takes.

        Args:
            step: what needs it; the fetch ends when it is no longer wanted.
            offered: the offer as it is now: a holder that was restarted may offer it otherwise.
            max_bytes: largest payload to accept.
            metering: of the open phase, which is split while the holder is away; ``None``: no
                phase is open.
            phase: the open phase, where the board receives the payload and its goodput is noted.

        Raises:
            TransferCancelled: it is no longer wanted.
            PayloadUnusable: it is too large, or its holder serves something else.
        """
        timer = None if metering is None else metering.timer()
        try:
            payload = self._pull(step, offered, max_bytes, metering)
        finally:
            self._line.show(self._line.stage)
            if metering is not None:
                metering.resume()
        if metering is not None and timer is not None and phase is not None:
            metering.hardware.has_received(len(payload))
            self.note(phase, len(payload), timer())
        return payload

    def deliver(
        self,
        step: Step,
        update: bytes,
        announce: Callable[[Offer], None],
        metering: Metering,
    ) -> float:
        """Offer an update, announce the offer, and wait until the coordinator has pulled it.

        It stays on offer until :meth:`release`. No phase may be open; those of waiting and sending
        are metered here.

        Returns:
            Seconds of sending to a coordinator that was gone before it had all: the next one has
            nothing of it.

        Raises:
            TransferCancelled: it is no longer wanted.
        """
        transfers = self._peer.transfers
        offer = transfers.serve(update, media="safetensors")
        self._served[offer.digest] = self._served.get(offer.digest, 0) + 1
        if metering.waits_count:
            with metering.phase("waiting"):
                announce(offer)
                while not transfers.wait_requested(
                    offer.digest, by=COORDINATOR, timeout_s=LOOK_AGAIN_S
                ):
                    self._require(step)
        else:
            announce(offer)
        asker, in_vain_s = self._boot_id(COORDINATOR), 0.0
        with metering.phase("upload"):
            while True:
                served = transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=LOOK_AGAIN_S)
                now = self._boot_id(COORDINATOR)
                if now != asker:
                    metering.pause()
                    asker, in_vain_s = now, metering.seconds("upload")
                    transfers.forget_request(offer.digest, by=COORDINATOR)
                if served:
                    break
                self._require(step)
                asked = transfers.wait_requested(offer.digest, by=COORDINATOR, timeout_s=0.0)
                if asked and not self._is_away(COORDINATOR):
                    metering.resume()
                else:
                    metering.pause()
            metering.resume()
            metering.hardware.has_sent(len(update))
        self.note("upload", len(update), metering.seconds("upload") - in_vain_s)
        return in_vain_s

    def receive_again(self, payload: bytes, metering: Metering, phase: Phase) -> None:
        """An emulated board receives a payload that is here already, in the open phase."""
        timer = metering.timer()
        metering.hardware.has_received(len(payload))
        self.note(phase, len(payload), timer())

    def note(self, phase: Phase, size_bytes: int, seconds: float) -> None:
        """Note the goodput of a transfer, s on the device's clock."""
        self._moved.append(Goodput(phase=phase, size_bytes=size_bytes, duration_s=seconds))

    def take(self) -> tuple[Goodput, ...]:
        """The transfers since the last call."""
        moved, self._moved = tuple(self._moved), []
        return moved

    def release(self, unheard: tuple[FactBody, ...]) -> None:
        """Offer the updates of rounds whose facts the coordinator has not stored, and no others.

        Those of an earlier start of the device are offered again, where they were kept.
        """
        needed = {fact.update.digest for fact in unheard if isinstance(fact, UpdateReady)}
        if needed == self._needed and self._served.keys() <= needed:
            return
        self._needed = needed
        for digest in self._served.keys() - needed:
            for _ in range(self._served.pop(digest)):
                self._peer.transfers.withdraw(digest)
        for digest in needed - self._served.keys():
            if (update := self._line.kept_update(digest)) is not None:
                self._peer.transfers.serve(update, media="safetensors")
                self._served[digest] = 1
        self._line.keep_updates(tuple(needed))

    @property
    def moved(self) -> tuple[Goodput, ...]:
        """What the next :meth:`take` will give."""
        return tuple(self._moved)

    def _pull(
        self,
        step: Step,
        offered: Callable[[], Offer],
        max_bytes: int,
        metering: Metering | None,
    ) -> bytes:
        tries = 0
        while True:
            known, offer = self._line.desired, offered()

            def cancelled(holder: str = offer.holder) -> bool:
                return self._watch(step, holder, metering)

            try:
                return self._peer.transfers.fetch(
                    offer,
                    timeout_s=_FOR_EVER_S,
                    max_bytes=max_bytes,
                    cancelled=cancelled,
                    parts=self._parts,
                )
            except (TransferCancelled, PayloadUnusable):
                raise
            except TransferError:
                if metering is not None:
                    metering.pause()
                self._wait(step, offer, known, AGAIN_S[min(tries, len(AGAIN_S) - 1)])
                tries += 1

    def _require(self, step: Step) -> None:
        if not self._line.wants(step):
            raise TransferCancelled("the update is no longer wanted")

    def _watch(self, step: Step, holder: str, metering: Metering | None) -> bool:
        """Whether a fetch is to end; called on the thread that fetches."""
        away = self._is_away(holder)
        self._line.show(self._line.stage, f"{_name(holder)}, which is gone" if away else "")
        if metering is not None:
            if away:
                metering.pause()
            else:
                metering.resume()
        return not self._line.wants(step)

    def _boot_id(self, peer: str) -> str:
        """The start of a peer that was heard last; empty before the first."""
        view = self._peer.peers.get(peer)
        return "" if view is None else view.state.boot_id

    def _is_away(self, holder: str) -> bool:
        return not self._peer.online or self._peer.absent_s(holder) is not None

    def _wait(self, step: Step, offer: Offer, known: Desired | None, pause_s: float) -> None:
        """Wait for the holder of a payload; shorter if it comes back.

        What the coordinator wants is said after the payload was put on offer: when it says
        something new since it wanted what was ``known``, the payload may be there.

        Raises:
            TransferCancelled: nothing is wanted of it any more.
        """
        gone = self._is_away(offer.holder)
        why = "which is gone" if gone else f"which does not serve {offer.media} yet"
        self._line.show(self._line.stage, f"{_name(offer.holder)}, {why}")
        limit_s = time.monotonic() + pause_s
        while (left_s := limit_s - time.monotonic()) > 0.0:
            if not self._line.wants(step):
                raise TransferCancelled(f"{offer.media} payload is no longer wanted")
            if self._line.desired is not known or (gone and not self._is_away(offer.holder)):
                return
            self._line.wait(min(left_s, LOOK_AGAIN_S))


def _name(holder: str) -> str:
    return "coordinator" if holder == COORDINATOR else f"generator node {holder}"

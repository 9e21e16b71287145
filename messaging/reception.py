"""What comes in to a peer, kind by kind: who may send it, whether it can be used, whom it concerns.

:class:`Reception` looks at the topic first and at the payload last. What a peer has sent to itself
(lease, claim, pulse, check) goes to whoever has sent it. What another one has sent is looked at
unless that one is set aside (:mod:`fimi.messaging.offenders`), and goes by its kind:

========================================  ====================================================
``want``, ``chunk``, the shared stream    to the transfers
``state``                                 to the table of peers; a change of it is received
``message``, ``desired``, ``reported``    to the letters that are received
``telemetry``                             to the latest of each device
``look`` of the coordinator               to the device that is looked at
``ask``                                   to the handler of questions, if there is one
``answer``, ``status``, ``check``         nowhere: they are for consoles, or for nobody
========================================  ====================================================

What cannot be used is counted as an offence of its sender.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from fimi.learning.data.contract import PROTOCOL, other_protocol
from fimi.messaging import topics
from fimi.messaging.errors import MessageRefused
from fimi.messaging.letters import Letters, PeerCounters
from fimi.messaging.looking import Looking
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.offenders import Offenders
from fimi.messaging.presence import Presence
from fimi.messaging.questions import Ask, decode
from fimi.messaging.roles import check_role, check_sender
from fimi.messaging.telemetry import LatestTelemetry
from fimi.messaging.topics import COORDINATOR, EVERYBODY, SHARED, Topic
from fimi.messaging.transfers.exchange import Transfers
from fimi.messaging.transfers.wire import decode_message, kind_of

log = logging.getLogger(__name__)


class Reception:
    """All that comes in to one peer. :meth:`take` runs on the network thread.

    Args:
        fleet: name of the fleet.
        peer: own id.
        to_itself: who gets what the peer has sent to itself, by kind; may raise
            :class:`MessageRefused`.
        counters: of what came.
        letters: what is to be received.
        presence: the other peers.
        offenders: whose messages could not be used.
        transfers: large payloads.
        telemetry: the latest of each device.
        looking: whether somebody looks at this one.
        on_leaving: called when a peer says that it goes offline.

    Attributes:
        on_ask: gets the questions of consoles, as bytes; ``None``: they are ignored.
    """

    def __init__(
        self,
        *,
        fleet: str,
        peer: str,
        to_itself: Mapping[str, Callable[[bytes], None]],
        counters: PeerCounters,
        letters: Letters,
        presence: Presence,
        offenders: Offenders,
        transfers: Transfers,
        telemetry: LatestTelemetry,
        looking: Looking,
        on_leaving: Callable[[], None],
    ) -> None:
        self._fleet, self._peer = fleet, peer
        self._to_itself = to_itself
        self._counters = counters
        self._letters = letters
        self._presence = presence
        self._offenders = offenders
        self._transfers = transfers
        self._telemetry = telemetry
        self._looking = looking
        self._leaving_handler = on_leaving
        self.on_ask: Callable[[bytes], None] | None = None

    def take(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take what came on a topic."""
        place = topics.parse(topic)
        to_us = place is not None and place.recipient in (self._peer, EVERYBODY, SHARED)
        sender = topics.sender_of(topic)
        if place is None or place.fleet != self._fleet or not to_us or place.sender != sender:
            self._refuse(sender, payload, f"topic {topic[:200]!r} has no known form")
            return
        if place.sender == self._peer:
            self._on_own(place.kind, payload)
            return
        if place.kind == "ask":  # of a console that speaks as the coordinator, and is none
            if self.on_ask is not None and place.sender == COORDINATOR:
                self._on_question(self.on_ask, place, payload)
            return
        now_s = time.monotonic()
        kind = "chunk" if place.recipient == SHARED else place.kind
        if not self._offenders.admits(place.sender, kind, len(payload), now_s):
            self._counters.unseen += 1
            return
        # what is retained is no sign of life, nor that somebody has cleared it
        living = place.kind != "state" and not retained and bool(payload)
        if living and (back := self._presence.heard(place.sender, now_s)) is not None:
            self._letters.put_state(back)
            self._transfers.on_back(place.sender)
        if kind in ("want", "chunk"):
            self._on_bulk(place, payload, now_s)
        elif place.kind in ("message", "state", "desired", "reported"):
            self._on_typed(place, payload, retained, now_s)
        elif place.kind == "telemetry":
            self._on_telemetry(place, payload)
        elif place.kind == "look":
            if place.sender == COORDINATOR and not retained:
                self._looking.told()
        elif place.kind not in ("answer", "status", "check"):  # for consoles, and for nobody
            self._refuse(place.sender, payload, f"topic {topic!r} is of no known kind")

    def _on_own(self, kind: str, payload: bytes) -> None:
        if (handler := self._to_itself.get(kind)) is None:
            return
        try:
            handler(payload)
        except MessageRefused as error:
            self._refuse(self._peer, payload, str(error))

    def _on_question(self, handler: Callable[[bytes], None], place: Topic, payload: bytes) -> None:
        now_s = time.monotonic()
        if not self._offenders.admits(place.sender, place.kind, len(payload), now_s):
            self._counters.unseen += 1
            return
        try:
            decode(payload, Ask)
        except MessageRefused as error:
            self._refuse(place.sender, payload, str(error))
            return
        self._offenders.passed(place.sender, now_s)
        handler(payload)

    def _on_bulk(self, place: Topic, payload: bytes, now_s: float) -> None:
        transfers, shared = self._transfers, place.recipient == SHARED
        if place.kind == "want" and not shared:
            of_use = transfers.on_request(place.sender, payload)
        else:
            of_use = transfers.on_answer(place.sender, payload, shared=shared)
        if transfers.refusals:
            why = transfers.refusals.pop()
            self._offenders.offended(place.sender, len(payload), why, now_s)
        elif not shared:  # of a stream comes what others have asked for
            self._offenders.came(place.sender, len(payload), now_s, of_use=of_use)

    def _on_typed(self, place: Topic, payload: bytes, retained: bool, now_s: float) -> None:
        if not payload:
            return  # a retained message was cleared
        try:
            message = decode_message(payload, sender=place.sender, recipient=place.recipient)
            if kind_of(message) != place.kind:
                raise MessageRefused(f"{type(message).__name__} came as {place.kind!r}")
            if isinstance(message, DeviceState):
                check_role(message, place.sender, place.recipient)
            else:
                view = self._presence.view(place.sender)
                check_sender(message, place.sender, None if view is None else view.state.role)
        except MessageRefused as error:
            self._refuse(place.sender, payload, str(error))
            return
        news = isinstance(message, DeviceState) and self._presence.is_news(message)
        if news and not self._offenders.is_news_from(place.sender, len(payload), now_s):
            self._counters.refused += 1
            return
        self._offenders.passed(place.sender, now_s)
        if isinstance(message, DeviceState):
            self._on_state(message, retained, now_s)
        else:
            self._counters.received += 1
            self._letters.put(place.sender, place.recipient, message, payload)

    def _on_state(self, state: DeviceState, retained: bool, now_s: float) -> None:
        here = retained and self._presence.view(state.peer) is None  # before this peer was
        is_back = self._presence.has_reconnected(state)
        if (change := self._presence.stated(state, now_s)) is not None:
            is_other = change.protocol != PROTOCOL and change.status == "online"
            if is_other and self._offenders.may_be_said_of(state.peer, now_s):
                log.error(
                    "%s", other_protocol(state.peer, change.protocol, PROTOCOL, "this process")
                )
            self._letters.put_state(change)
            is_back = not here
        elif state.status == "offline":
            self._leaving_handler()
        if is_back:  # what it was asked for before is lost
            self._transfers.on_back(state.peer)

    def _on_telemetry(self, place: Topic, payload: bytes) -> None:
        self._counters.telemetry += 1
        try:
            self._telemetry.put(place.sender, place.recipient, payload)
        except MessageRefused as error:
            self._refuse(place.sender, payload, str(error))

    def _refuse(self, sender: str, payload: bytes, why: str) -> None:
        self._counters.refused += 1
        self._offenders.offended(sender, len(payload), why, time.monotonic())

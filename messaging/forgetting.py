"""Lets a broker forget a peer that was put away: whatever it keeps from it, or for it.

A broker keeps the documents of a peer (its state, its last report, its lease …) until somebody
clears them, so that a board that was put away stands in ``fimi fleet status`` for ever.
:func:`forget` clears them with the credentials of somebody who may write in the peer's place:
whoever has the fleet's folder (:meth:`~fimi.messaging.credentials.folder.FleetFolder.keeper`), or
anybody on a broker without access rules. No peer can do that to another one.

A peer that lives is not forgotten. It is asked as a newcomer to its id would ask
(:mod:`fimi.messaging.leases`), which a process of every version answers, whatever it does.
"""

from __future__ import annotations

import secrets
import time

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import (
    BrokerError,
    NotAuthorised,
    PeerIsUp,
)
from fimi.messaging.home_assistant import discovery_filter
from fimi.messaging.messages.peers import Claim
from fimi.messaging.retained import STEP_S, Retained, state_in
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import encode_message

ALIVE_S = 3.0
"""How long a peer has time to answer, s; as for a newcomer to its id."""


def forget(address: BrokerAddress, *, fleet: str, name: str, gone: bool = False) -> int:
    """Let the broker forget everything from and for a peer.

    Args:
        address: the broker, with credentials that may write everything in the fleet.
        fleet: name of the fleet.
        name: id of the peer.
        gone: whether it is known to be gone, though its last word is that it is online.

    Returns:
        How many documents were cleared.

    Raises:
        ValueError: no peer that is put away has such a name.
        PeerIsUp: it answers, or its last word is that it is online.
        NotAuthorised: these credentials may not.
        BrokerError: as :meth:`fimi.messaging.link.Link.connect`, or some of it stays.
    """
    topics.check_name(fleet, "fleet")
    topics.check_name(name, "peer")
    if name == COORDINATOR:
        raise ValueError("the coordinator's documents are those of the fleet: they stay")
    with _Listener(address, fleet, name) as listener:
        _require_gone(listener, gone=gone)
        for topic in listener.kept:
            listener.clear(topic)
        cleared = len(listener.kept)
    with _Listener(address, fleet, name) as listener:
        if listener.kept:
            raise BrokerError(
                f"{address}: it keeps {len(listener.kept)} documents of {name} all the same "
                f"({', '.join(sorted(listener.kept)[:3])}); its access rules forbid to clear them, "
                f"or {name} has come back just now"
            )
    return cleared


def _require_gone(listener: _Listener, *, gone: bool) -> None:
    """Make sure that a peer does not live.

    Raises:
        PeerIsUp: it may.
    """
    if not listener.kept:
        return
    if listener.answers():
        raise PeerIsUp("it is up and answers; end its agent first")
    if listener.says_online() and not gone:
        raise PeerIsUp(
            "it does not answer, but its last word is that it is online; wait a minute, for the "
            "broker to notice that it is away; if it was put away while the broker was down, "
            "say --gone"
        )


class _Listener:
    """A connection that hears everything from and for one peer. A context manager."""

    def __init__(self, address: BrokerAddress, fleet: str, name: str) -> None:
        self.name = name
        self._base = f"fimi/{topics.VERSION}/{fleet}"
        self._signs = 0
        self._mark_topic = f"{self._base}/{name}/{name}/check"
        self._broker = Retained(
            address,
            f"{fleet}:forgets",
            (f"{self._base}/{name}/#", f"{self._base}/+/{name}/#"),
            self._mark_topic,
            self._heard,
        )
        self._link = self._broker.link
        self._told_at_home = discovery_filter(fleet, name)

    @property
    def kept(self) -> dict[str, bytes]:
        """What the broker keeps, by topic."""
        return self._broker.kept

    def __enter__(self) -> _Listener:
        """Connect, and wait until the broker has said what it keeps.

        Raises:
            NotAuthorised: these credentials may not write, or hear, in the peer's place.
            BrokerError: that is not possible.
        """
        try:
            self._link.connect(STEP_S)
            self._link.listen(self._told_at_home)  # where rules forbid it, it was not told either
            may_write = self._link.may_write(self._mark_topic, STEP_S)
            if may_write is False or not self._broker.is_complete():
                raise NotAuthorised(
                    f"{self._link.address}: user {self._link.address.username!r} may not write for "
                    f"{self.name}; only whoever has the fleet's folder may: give --folder FOLDER "
                    "(and let the broker read its files again if they are of an older version: "
                    "'fimi broker --config', or systemctl reload mosquitto)"
                )
        except BaseException:
            self._link.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def answers(self) -> bool:
        """Whether the peer lives: a claim of its id makes it speak at once."""
        topic = f"{self._base}/{self.name}/{self.name}/claim"
        claim = Claim(peer=self.name, nonce=secrets.token_hex(8))
        payload = encode_message(claim, sender=self.name, recipient=self.name)
        limit_s = time.monotonic() + ALIVE_S
        while (left_s := limit_s - time.monotonic()) > 0.0:
            self._link.publish(topic, payload, qos=1)
            with self._broker.changed:
                if self._broker.changed.wait_for(lambda: self._signs > 0, min(1.0, left_s)):
                    return True
        return False

    def says_online(self) -> bool:
        """Whether the last word of the peer is that it is online."""
        for topic, payload in self.kept.items():
            place = topics.parse(topic)
            if place is not None and place.kind == "state":
                state = state_in(payload, place)
                if state is None or state.status == "online":
                    return True
        return False

    def clear(self, topic: str) -> None:
        """Let the broker forget a document.

        Raises:
            BrokerTimeout: it does not confirm that.
        """
        self._broker.replace(topic, b"")

    def _heard(self, topic: str, payload: bytes) -> None:
        """Note a sign of life, on the network thread."""
        place = topics.parse(topic)
        if place is not None and place.sender == self.name:
            self._signs += _is_life(place, payload)


def _is_life(place: topics.Topic, payload: bytes) -> bool:
    """Whether a message that came just now was said by the peer: not the claim, nor its will."""
    if place.kind == "state":
        state = state_in(payload, place)
        return state is None or state.status == "online"
    return place.kind != "claim"

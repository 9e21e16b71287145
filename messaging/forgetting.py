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
import threading
import time

from msgspec import Struct

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import (
    BrokerError,
    BrokerTimeout,
    MessageRefused,
    NotAuthorised,
    PeerIsUp,
)
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import Claim, DeviceState
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import decode_message, encode_message

ALIVE_S = 3.0
"""How long a peer has time to answer, s; as for a newcomer to its id."""

_STEP_S = 10.0


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


class _Heard(Struct):
    """What was heard of a peer."""

    kept: dict[str, bytes]
    signs: int = 0
    marked: bool = False


class _Listener:
    """A connection that hears everything from and for one peer. A context manager."""

    def __init__(self, address: BrokerAddress, fleet: str, name: str) -> None:
        self.name = name
        self._base = f"fimi/{topics.VERSION}/{fleet}"
        self._heard = _Heard(kept={})
        self._changed = threading.Condition()
        self._mark = secrets.token_hex(8).encode()
        self._mark_topic = f"{self._base}/{name}/{name}/check"
        self._link = Link(
            address,
            f"{fleet}:forgets-{secrets.token_hex(16)}",
            clean_session=True,
            subscriptions=(f"{self._base}/{name}/#", f"{self._base}/+/{name}/#"),
            on_message=self._take,
        )

    @property
    def kept(self) -> dict[str, bytes]:
        """What the broker keeps, by topic."""
        return self._heard.kept

    def __enter__(self) -> _Listener:
        """Connect, and wait until the broker has said what it keeps.

        Raises:
            NotAuthorised: these credentials may not write, or hear, in the peer's place.
            BrokerError: that is not possible.
        """
        try:
            self._link.connect(_STEP_S)
            if self._link.may_write(self._mark_topic, _STEP_S) is False or not self._has_marked():
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

    def _has_marked(self) -> bool:
        """Wait for a message to this connection: what is kept comes at once, and this behind it."""
        self._link.publish(self._mark_topic, self._mark, qos=1)
        with self._changed:
            return self._changed.wait_for(lambda: self._heard.marked, _STEP_S)

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
            with self._changed:
                if self._changed.wait_for(lambda: self._heard.signs > 0, min(1.0, left_s)):
                    return True
        return False

    def says_online(self) -> bool:
        """Whether the last word of the peer is that it is online."""
        for topic, payload in self.kept.items():
            place = topics.parse(topic)
            if place is not None and place.kind == "state":
                state = _state(payload, place)
                if state is None or state.status == "online":
                    return True
        return False

    def clear(self, topic: str) -> None:
        """Let the broker forget a document.

        Raises:
            BrokerTimeout: it does not confirm that.
        """
        info = self._link.publish(topic, b"", qos=1, retain=True)
        info.wait_for_publish(_STEP_S)
        if not info.is_published():
            raise BrokerTimeout(
                f"{self._link.address}: has not confirmed within {_STEP_S:g} s that {topic} is "
                "cleared; say it again"
            )

    # On the network thread.

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        place = topics.parse(topic)
        with self._changed:
            if payload == self._mark and topic == self._mark_topic:
                self._heard.marked = True
            elif retained and payload:
                self._heard.kept[topic] = payload
            elif payload and place is not None and place.sender == self.name:
                self._heard.signs += _is_life(place, payload)
            self._changed.notify_all()


def _is_life(place: topics.Topic, payload: bytes) -> bool:
    """Whether a message that came just now was said by the peer: not the claim, nor its will."""
    if place.kind == "state":
        state = _state(payload, place)
        return state is None or state.status == "online"
    return place.kind != "claim"


def _state(payload: bytes, place: topics.Topic) -> DeviceState | None:
    """The state of a peer; ``None`` if it cannot be read."""
    try:
        message = decode_message(payload, sender=place.sender, recipient=place.recipient)
    except MessageRefused:
        return None
    return message if isinstance(message, DeviceState) else None

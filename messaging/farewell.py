"""Says goodbye in the place of peers whose credentials have ended.

Such a peer cannot say it, and its last will is not let through either: the broker would keep for
ever that it is online, and a run would give it a share of the data and wait for it. Whoever has the
fleet's folder says it for them.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable

import msgspec

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerTimeout, MessageRefused
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.transfers.wire import decode_message, encode_message

_STEP_S = 10.0


def say_goodbye_for(address: BrokerAddress, *, fleet: str, names: Iterable[str]) -> tuple[str, ...]:
    """Replace the states of some peers that the broker keeps, where they say online.

    Args:
        address: the broker, with credentials that may write everything in the fleet.
        fleet: name of the fleet.
        names: ids of the peers, none of which is let in any more.

    Returns:
        Whose states were replaced.

    Raises:
        BrokerError: as :meth:`fimi.messaging.link.Link.connect`, or it does not answer in time.
    """
    base = f"fimi/{topics.VERSION}/{fleet}"
    mark, mark_topic = secrets.token_hex(8).encode(), f"{base}/coordinator/coordinator/check"
    kept: dict[str, bytes] = {}
    complete = threading.Event()

    def take(topic: str, payload: bytes, retained: bool) -> None:
        if retained:
            kept[topic] = payload
        elif payload == mark:  # what is kept comes at once, and this behind it
            complete.set()

    link = Link(
        address,
        f"{fleet}:farewell-{secrets.token_hex(16)}",
        clean_session=True,
        subscriptions=(*(f"{base}/{name}/+/state" for name in names), mark_topic),
        on_message=take,
    )
    try:
        link.connect(_STEP_S)
        link.publish(mark_topic, mark, qos=1)
        if not complete.wait(_STEP_S):
            raise BrokerTimeout(f"{address}: has not said within {_STEP_S:g} s what it keeps")
        replaced = []
        for topic, payload in kept.items():
            place = topics.parse(topic)
            if place is None:
                continue
            sender, recipient = place.sender, place.recipient
            try:
                state = decode_message(payload, sender=sender, recipient=recipient)
            except MessageRefused:
                continue  # nobody takes it for a peer
            if not isinstance(state, DeviceState) or state.status == "offline":
                continue
            ended = msgspec.structs.replace(state, status="offline", session=0, goodbye=True)
            said = encode_message(ended, sender=sender, recipient=recipient)
            link.publish(topic, said, qos=1, retain=True).wait_for_publish(_STEP_S)
            replaced.append(sender)
        return tuple(sorted(set(replaced)))
    finally:
        link.close()

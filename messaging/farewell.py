"""Says goodbye in the place of peers whose credentials have ended.

Such a peer cannot say it, and its last will is not let through either: the broker would keep for
ever that it is online, and a run would give it a share of the data and wait for it. Whoever has the
fleet's folder says it for them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerTimeout
from fimi.messaging.retained import STEP_S, Retained, state_in
from fimi.messaging.transfers.wire import encode_message


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
    mark_topic = f"{base}/coordinator/coordinator/check"
    filters = (*(f"{base}/{name}/+/state" for name in names), mark_topic)
    broker = Retained(address, f"{fleet}:farewell", filters, mark_topic)
    try:
        broker.link.connect(STEP_S)
        if not broker.is_complete():
            raise BrokerTimeout(f"{address}: has not said within {STEP_S:g} s what it keeps")
        replaced = set()
        for topic, payload in broker.kept.items():
            place = topics.parse(topic)
            state = None if place is None else state_in(payload, place)
            if place is None or state is None or state.status == "offline":
                continue  # who cannot be read is no peer to anybody
            ended = msgspec.structs.replace(state, status="offline", session=0, goodbye=True)
            said = encode_message(ended, sender=place.sender, recipient=place.recipient)
            broker.replace(topic, said)
            replaced.add(place.sender)
        return tuple(sorted(replaced))
    finally:
        broker.link.close()

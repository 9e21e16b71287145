"""``fimi fleet home-assistant``: boards are announced to Home Assistant, or no longer.

What is announced stays at the broker (retained), so that Home Assistant finds it whenever it is
started. Said again, it replaces what was said.

* :func:`shown`     what Home Assistant is told of a board
* :func:`announce`  tells it, or takes it back
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from fimi.messaging.address import BrokerAddress
from fimi.messaging.console import SeenBoard
from fimi.messaging.errors import BrokerTimeout, MessagingError, NotAuthorised
from fimi.messaging.home_assistant import ShownBoard, discovery, discovery_topic
from fimi.messaging.link import Link
from fimi.record.clean import clean

STEP_S = 10.0
"""How long the broker has time for each answer, s."""


def shown(board: SeenBoard) -> ShownBoard | str:
    """What Home Assistant is told of a board, or why it cannot be told of it, in words."""
    status = board.status
    if status is None:
        return board.why_not() or f"{board.device} has not said what its meter is"
    if status.meter is None and status.kind != "emulated":
        return f"{board.device} has no meter: its agent says why ('fimi fleet doctor')"
    meter = status.meter
    return ShownBoard(
        device=board.device,
        kind=meter.kind if meter is not None else "emulated",
        scope=meter.scope if meter is not None else None,
        source=clean(meter.source) if meter is not None else "",
        board=clean(status.board),
        version=clean(status.version),
    )


def announce(
    address: BrokerAddress, *, fleet: str, prefix: str, boards: Mapping[str, ShownBoard | None]
) -> dict[str, MessagingError | None]:
    """Let the broker keep the documents of some boards.

    Args:
        address: the broker, with the coordinator's credentials.
        fleet: name of the fleet.
        prefix: where Home Assistant listens.
        boards: what is announced, by id; ``None`` takes back what was.

    Returns:
        By id, why it could not be done; ``None`` if it was.

    Raises:
        ValueError: the prefix cannot be used.
        BrokerError: as :meth:`fimi.messaging.link.Link.connect`.
    """
    places = {device: discovery_topic(prefix, fleet, device) for device in boards}
    link = Link(address, f"{fleet}:home-assistant:{secrets.token_hex(16)}", clean_session=True)
    try:
        link.connect(STEP_S)
        sent = {
            device: link.publish(
                places[device],
                b"" if board is None else discovery(fleet, board),
                qos=1,
                retain=True,
            )
            for device, board in boards.items()
        }
        done: dict[str, MessagingError | None] = {}
        for device, info in sent.items():
            info.wait_for_publish(STEP_S)
            if not info.is_published():
                done[device] = BrokerTimeout(
                    f"{address}: has not confirmed {places[device]} within {STEP_S:g} s"
                )
            elif link.was_refused(info.mid):
                done[device] = NotAuthorised(
                    f"{address}: user {address.username!r} may not write {places[device]}; give "
                    "the coordinator's credentials (and let the broker read its files again if "
                    "they are of an older version: any command of 'fimi fleet' on the folder)"
                )
            else:
                done[device] = None
        return done
    finally:
        link.close()

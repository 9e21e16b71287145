"""Room for readings among what a device has to tell: joules go first.

* :func:`with_room`      facts with as many readings as may travel in one message
* :func:`readings_size`  how many bytes of readings a fact has
* :func:`without`        a fact without them

All facts that are not stored travel in one message and wait in one file. Where the coordinator
stores nothing for long, the readings of the oldest facts go, with a sentence in their place; no
fact and no joule does as long as there are readings.
"""

from __future__ import annotations

import msgspec

from fimi.energy.ledger_parts import BYTES_MOST, ReadingsPart
from fimi.messaging.messages.documents import Fact
from fimi.messaging.messages.facts import (
    DeploymentReport,
    FactBody,
    PlanApplied,
    RoundReport,
    RoundSettled,
)

ROOM_BYTES = 2 * BYTES_MOST
"""Most bytes of readings in all facts of a device that are not stored."""
WHY = "they waited too long to be stored, and there was no room for them"

_TELLS = PlanApplied | RoundReport | RoundSettled | DeploymentReport


def with_room(facts: list[list[Fact]], room_bytes: int | None = None) -> list[list[Fact]]:
    """Facts with readings of so many bytes at most; those of the oldest facts go first.

    Args:
        facts: oldest first, group by group.
        room_bytes: :data:`ROOM_BYTES` if left out.
    """
    room = ROOM_BYTES if room_bytes is None else room_bytes
    left = room - sum(readings_size(fact.body) for group in facts for fact in group)
    if left >= 0:
        return facts
    found = []
    for group in facts:
        kept = []
        for fact in group:
            if left < 0 and (size := readings_size(fact.body)):
                left += size
                fact = msgspec.structs.replace(fact, body=without(fact.body))
            kept.append(fact)
        found.append(kept)
    return found


def readings_size(body: FactBody) -> int:
    """Bytes of the readings in a fact."""
    return sum(len(part.body) for part in _parts(body) if part.body is not None)


def without(body: FactBody) -> FactBody:
    """A fact without its readings, and why."""
    if not (parts := _parts(body)):
        return body
    readings = tuple(part.without(WHY) if part.body else part for part in parts)
    return msgspec.structs.replace(body, readings=readings)


def _parts(body: FactBody) -> tuple[ReadingsPart, ...]:
    return body.readings if isinstance(body, _TELLS) else ()

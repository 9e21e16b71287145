"""Room for readings among what a device has to tell: joules go first.

All facts that are not stored travel in one message and wait in one file. Where the coordinator
stores nothing for long, the readings of the oldest facts go, with a sentence in their place; no
fact and no joule does.
"""

from __future__ import annotations

import msgspec

from fimi.messaging.messages.documents import Fact
from fimi.messaging.messages.facts import DeploymentReport, PlanApplied, RoundReport, RoundSettled

ROOM_BYTES = 1 << 18
"""Most bytes of readings in all facts of a device that are not stored."""
WHY = "they waited too long to be stored, and there was no room for them"

_TELLS = PlanApplied | RoundReport | RoundSettled | DeploymentReport


def with_room(facts: list[list[Fact]]) -> list[list[Fact]]:
    """Facts, oldest first, group by group; of the oldest ones without readings if need be."""
    left = ROOM_BYTES - sum(_bytes(fact) for group in facts for fact in group)
    if left >= 0:
        return facts
    found = []
    for group in facts:
        kept = []
        for fact in group:
            if left < 0 and (size := _bytes(fact)):
                left += size
                fact = _without(fact)
            kept.append(fact)
        found.append(kept)
    return found


def _bytes(fact: Fact) -> int:
    body = fact.body
    if not isinstance(body, _TELLS):
        return 0
    return sum(len(part.body) for part in body.readings if part.body is not None)


def _without(fact: Fact) -> Fact:
    body = fact.body
    assert isinstance(body, _TELLS)
    readings = tuple(part.without(WHY) if part.body else part for part in body.readings)
    return msgspec.structs.replace(fact, body=msgspec.structs.replace(body, readings=readings))

"""What the events of a run store tell, beside the tables.

Each takes the events as their ``body`` has them, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from coordinator.events import BatchDelivered
from energy.hardware import Applied
from energy.joules import total
from testbed.report.run_data import DeviceNotes, Generation, NotMade
from testbed.report.text import clean

Events = Iterable[Mapping[str, Any]]


def applied(events: Events) -> dict[str, Applied]:
    """What each device set and read back, by its last answer to a plan."""
    return {
        str(event.get("device", "")): msgspec.convert(event["applied"], Applied)
        for event in events
        if event.get("event") == "plan-in-force" and event.get("applied") is not None
    }


def notes(events: Events) -> tuple[DeviceNotes, ...]:
    """What each device had to say, once each, sorted by device."""
    found: dict[str, list[str]] = {}
    for event in events:
        device = str(event.get("device", ""))
        said: list[object] = []
        if event.get("event") == "plan-in-force":
            said += [*event.get("notes", ()), event.get("error")]
        elif event.get("event") == "batch-delivered":
            said.append(event.get("error"))
            if event.get("delivered") != event.get("requested"):
                said.append(
                    f"{event.get('delivered')} of {event.get('requested')} synthetic samples "
                    "were delivered"
                )
        elif event.get("event") == "device-lost":
            said.append(event.get("reason"))
        found.setdefault(device, []).extend(clean(each) for each in said if each)
    return tuple(
        DeviceNotes(device=d, notes=tuple(dict.fromkeys(n))) for d, n in sorted(found.items()) if n
    )


def generation(events: Events) -> Generation | None:
    """What the generator node made; ``None`` if no batch came, or one cannot be read."""
    try:
        batches = [
            msgspec.convert(event, BatchDelivered)
            for event in events
            if event.get("event") == "batch-delivered"
        ]
    except msgspec.ValidationError:  # a sum of some would be wrong
        return None
    if not batches:
        return None
    drawn = [batch for batch in batches if batch.drawn]
    energies = [batch.energy for batch in drawn if batch.energy is not None]
    return Generation(
        requested=sum(batch.requested for batch in batches),
        delivered=sum(batch.delivered for batch in batches),
        drawn=sum(batch.drawn for batch in drawn),
        refused=sum(batch.refused for batch in drawn),
        seconds=sum(batch.seconds for batch in drawn),
        energy=total(energies, one_meter=True) if len(energies) == len(drawn) else None,
    )


def not_made(events: Events) -> NotMade | None:
    """Why the last export gave no file; ``None`` if it did, or nothing was exported."""
    last = next(
        (e for e in reversed([*events]) if e.get("event") in ("deployed", "not-deployed")), None
    )
    if last is None or last["event"] == "deployed":
        return None
    return NotMade(round=int(last["round"]), reason=clean(last.get("reason", ""), 1000))

"""What the events of a run store tell, beside the tables.

Each takes the events as their ``body`` has them, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from energy.hardware import Applied
from testbed.report.run_data import DeviceNotes, NotMade
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


def undelivered(events: Events) -> int:
    """Synthetic samples that were asked for and did not come, by all requests."""
    return sum(
        int(event.get("requested") or 0) - int(event.get("delivered") or 0)
        for event in events
        if event.get("event") == "batch-delivered"
    )


def not_made(events: Events) -> NotMade | None:
    """Why the last export gave no file; ``None`` if it did, or nothing was exported."""
    last = next(
        (e for e in reversed([*events]) if e.get("event") in ("deployed", "not-deployed")), None
    )
    if last is None or last["event"] == "deployed":
        return None
    return NotMade(round=int(last["round"]), reason=clean(last.get("reason", ""), 1000))

"""Before a run begins or goes on: waiting for the fleet."""

from __future__ import annotations

import time
from collections.abc import Collection

from fimi.coordinator.context import Context, FederationError
from fimi.coordinator.enrolment import Roster
from fimi.coordinator.patience import Grace, Reminder
from fimi.messaging.topics import device_names, missing
from fimi.record.clean import enumerated
from fimi.record.events import Gathering, Listener

REFUSES = "cannot take part"
"""What is said of a device that refuses, or is refused; its reason follows."""
_GATHERING_S = 0.5
"""Between two events that say who is missing."""
_BACK_S = 5.0
"""How much longer than a quorum took devices may take to come back to a run that goes on, s."""
_LAST_CALL_S = 10.0
"""How long devices may take to join that were invited when gathering was over, s."""


def gather(
    context: Context, roster: Roster, listener: Listener, *, quorum: int, going_on: bool
) -> None:
    """Wait for the fleet: for everybody, and after a while for a quorum.

    A run that has a plan waits for its devices only a little longer than for a quorum.

    Args:
        context: the context of the run.
        roster: the devices that take part.
        listener: told who is missing; that is not stored, as it has not happened yet.
        quorum: devices with which a run may start.
        going_on: whether the run has a plan already.

    Raises:
        FederationError: there are too few; says who is missing and what to do.
        Cancelled: the run was asked to stop.
    """
    settings, registry = context.settings, context.registry
    patience_s = settings.rounds.gather_timeout_s
    wanted = max(settings.fleet.devices, len(roster.members))
    limit_s = time.monotonic() + patience_s
    reminder, grace = Reminder(_GATHERING_S), Grace(_BACK_S)

    def absent(here: Collection[str]) -> tuple[str, ...]:
        names = set(roster.members) - set(here)
        if going_on:
            return tuple(sorted(names))
        return missing(here, device_names(wanted, settings.fleet.members))

    def complete() -> bool:
        there = registry.devices
        if len(roster.candidates) >= wanted:
            roster.close_gathering()
        if reminder.due():
            here = sorted(roster.candidates - set(roster.refused))
            listener(
                Gathering(
                    here=len(here),
                    wanted=wanted,
                    missing=absent(here),
                    left_s=max(0.0, limit_s - time.monotonic()),
                )
            )
        if going_on and grace.over(len(there) >= quorum):
            return True
        return len(there) >= wanted or len(there) + len(roster.refused) >= max(
            wanted, len(roster.candidates)
        )

    waited = ""
    if not context.inbox.wait(complete, patience_s):
        waited = f" within {patience_s:g} s"
        roster.close_gathering()  # devices with names of their own, of an incomplete fleet
        context.inbox.wait(
            lambda: len(registry.devices) + len(roster.refused) >= len(roster.candidates),
            min(patience_s, _LAST_CALL_S),
        )
    there = registry.devices
    if len(there) < quorum:
        names = absent({*there, *roster.refused})
        refused = "; ".join(f"{d} {REFUSES}: {why}" for d, why in roster.refused.items())
        raise FederationError(
            f"{len(there)} of {wanted} devices came{waited}"
            f"{': ' + ', '.join(there) if there else ''}"
            f"{'; missing: ' + enumerated(names) if names else ''}"
            f"{'; ' + refused if refused else ''}; the run starts with {quorum} or "
            "more: start the missing agents, ask for fewer devices, or change rounds.quorum or "
            "rounds.gather_timeout_s",
            code="R007",
        )

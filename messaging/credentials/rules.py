"""Who may write and read which topic, as an access file of Mosquitto.

A role follows from the user, which follows from the password or certificate; what a peer says of
itself gives it no rights.

============  ===================================================================================
user          may write, below ``fimi/v1/{fleet}/``
============  ===================================================================================
coordinator   ``coordinator/#``
generator     ``{itself}/``: to the coordinator, chunks to anybody, its state to all, shared models
device        ``{itself}/``: to the coordinator :data:`TO_COORDINATOR`, to itself
              :data:`TO_ITSELF`; to a generator node ``want`` only
.keeper       everything, and reads it: whoever has the fleet's folder, and so can be anybody
============  ===================================================================================

Everybody reads what is for it (``+/{itself}/#``), what is for all (``+/all/#``, which coordinator
and generator nodes write), and shared models (``+/shared/#``). Nobody may do anything in another
fleet.

Documents for Home Assistant (:mod:`fimi.messaging.home_assistant`), below any prefix of one level,
are written by the coordinator and the keeper alone, those of this fleet only.

A user that was revoked is denied everything, as long as its connection lasts; it gets no new one.
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.messaging.home_assistant import discovery_filter
from fimi.messaging.topics import COORDINATOR, EVERYBODY, SHARED, VERSION, Kind

TO_COORDINATOR: tuple[Kind, ...] = (
    *("state", "message", "want", "chunk", "reported"),
    *("telemetry", "answer", "status", "check"),
)
"""What every peer may send to the coordinator. Kinds that are kept by the broker are few, so that
nobody can fill it with topics of its own invention."""
TO_ITSELF: tuple[Kind, ...] = ("lease", "claim", "pulse", "check")
"""What every peer may send to itself."""
KEEPER = ".keeper"
"""User of whoever looks after the fleet's folder. No peer can have such a name."""
_HEAD = "# Written by 'fimi fleet'; whatever is changed here is lost with its next command."


def access_rules(fleet: str, generators: Sequence[str], revoked: Sequence[str]) -> str:
    """The access file of a fleet's broker.

    Args:
        fleet: its name.
        generators: users of generator nodes.
        revoked: users that are no longer let in.
    """
    base = f"fimi/{VERSION}/{fleet}"
    lines = [
        _HEAD,
        *(f"pattern write {base}/%u/{COORDINATOR}/{kind}" for kind in TO_COORDINATOR),
        *(f"pattern write {base}/%u/%u/{kind}" for kind in TO_ITSELF),
        f"pattern read {base}/+/%u/#",
        f"pattern read {base}/+/{EVERYBODY}/#",
        f"pattern read {base}/+/{SHARED}/#",
        *(f"pattern write {base}/%u/{node}/want" for node in generators),
        "",
        f"user {COORDINATOR}",
        f"topic write {base}/{COORDINATOR}/#",
        f"topic write {discovery_filter(fleet)}",
        "",
        f"user {KEEPER}",
        f"topic readwrite {base}/#",
        f"topic readwrite {discovery_filter(fleet)}",
    ]
    for node in generators:
        lines += [
            "",
            f"user {node}",
            f"topic write {base}/{node}/+/chunk",
            f"topic write {base}/{node}/{EVERYBODY}/state",
            f"topic write {base}/{node}/{EVERYBODY}/check",
            f"topic write {base}/{node}/{SHARED}/#",
        ]
    for name in revoked:
        lines += ["", f"user {name}", "topic deny #"]
    return "\n".join(lines) + "\n"

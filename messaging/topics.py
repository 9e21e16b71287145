"""MQTT topics, and which peer may publish and read which.

Every peer (coordinator, generator node, device) has an id, and every message one topic::

    fimi/v1/{fleet}/{sender}/{recipient}/{kind}

``recipient`` is a peer id or ``all``; the kinds are in :data:`Kind`. ``state``, ``desired``,
``reported``, ``lease`` and ``status`` are *documents*: the broker keeps the latest (retained), and
a later one replaces it. Lease, claim and pulse (:mod:`fimi.messaging.pulse`) go from a peer to
itself; ``study`` and ``study-claim`` are those of a study that holds the fleet
(:mod:`fimi.messaging.reservation`). ``ask`` and ``answer`` are for people who look after a fleet
(:mod:`fimi.messaging.questions`); no run needs them, nor ``telemetry``
(:mod:`fimi.messaging.telemetry`), nor ``look``, on which all are told that somebody reads it
(:mod:`fimi.messaging.looking`). On ``check`` a peer tries whether it may write
(:mod:`fimi.messaging.access`), on ``trial`` a console whether the broker keeps messages; nobody
acts on them.

A payload that many get at once, as the global model, comes on a topic of its own as well, with
``shared`` for the recipient and its digest for the kind; who wants it listens as long as it does.

A peer writes only below its own ``{sender}`` and reads only ``{recipient}`` = itself or ``all``. So
a few lines of broker access rules (:mod:`fimi.messaging.credentials.rules`) prevent peers from
publishing as another, and two subscriptions, which never overlap, serve any peer.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from msgspec import Struct

VERSION = "v1"
EVERYBODY = "all"
SHARED = "shared"
"""Recipient of the chunks of a payload that many get at once; the kind is the payload's digest."""
COORDINATOR = "coordinator"
DocumentKind = Literal["desired", "reported", "lease", "status"]
Kind = (
    Literal["state", "message", "want", "chunk", "claim", "study", "study-claim", "ask", "answer"]
    | Literal["telemetry", "look", "pulse", "check", "trial"]
    | DocumentKind
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Topic(Struct, frozen=True, kw_only=True):
    """A parsed topic."""

    fleet: str
    sender: str
    recipient: str
    kind: str


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it can be part of a topic.

    Raises:
        ValueError: it is not 1 to 64 letters, digits, ``.``, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(name) or (what != "recipient" and name in (EVERYBODY, SHARED)):
        raise ValueError(
            f"{what} {name!r} cannot be used: take 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit, and not the words 'all' and 'shared'"
        )
    return name


def device_id(index: int, count: int) -> str:
    """Name of a device that was given no other: ``device-01`` for index 0 in a fleet of 2."""
    return f"device-{index + 1:0{max(2, len(str(count)))}d}"


def device_names(count: int, members: Collection[str] = ()) -> tuple[str, ...]:
    """Names of a fleet's devices by index: ``members`` if they are named, else by number."""
    return tuple(members) or tuple(device_id(index, count) for index in range(count))


def missing(here: Collection[str], names: Collection[str]) -> tuple[str, ...]:
    """Who of ``names`` has not come; nobody if another device is here instead of one of them."""
    absent = tuple(name for name in names if name not in here)
    return absent if len(here) + len(absent) == len(names) else ()


def topic(fleet: str, sender: str, recipient: str, kind: Kind) -> str:
    """The topic of a message."""
    check_name(fleet, "fleet")
    check_name(sender, "sender")
    check_name(recipient, "recipient")
    return f"fimi/{VERSION}/{fleet}/{sender}/{recipient}/{kind}"


def shared(fleet: str, holder: str, digest: str) -> str:
    """The topic on which a holder sends a payload to all that listen."""
    check_name(fleet, "fleet")
    check_name(holder, "peer")
    return f"fimi/{VERSION}/{fleet}/{holder}/{SHARED}/{digest}"


def parse(text: str) -> Topic | None:
    """The parts of a topic; ``None`` if it has another form."""
    parts = text.split("/")
    if len(parts) != 6 or parts[0] != "fimi" or parts[1] != VERSION:
        return None
    return Topic(fleet=parts[2], sender=parts[3], recipient=parts[4], kind=parts[5])


def sender_of(text: str) -> str:
    """Who wrote on a topic of any form below a fleet, as far as it can be told."""
    parts = text.split("/", 4)
    name = parts[3] if len(parts) > 3 else ""
    return name if _NAME.fullmatch(name) else "a sender without a valid name"


def subscriptions(fleet: str, peer: str) -> tuple[str, str]:
    """The two subscriptions of a peer: messages for it, and messages for all."""
    check_name(fleet, "fleet")
    check_name(peer, "peer")
    return (f"fimi/{VERSION}/{fleet}/+/{peer}/#", f"fimi/{VERSION}/{fleet}/+/{EVERYBODY}/#")

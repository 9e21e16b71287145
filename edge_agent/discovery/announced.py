"""A plug or meter that announces itself: what it is, what it shows, and the lines to paste."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from fimi.energy.meters.elsewhere.payload import MAX_BYTES
from fimi.energy.toml_text import quoted
from fimi.messaging.address import DEFAULT_PORT, BrokerAddress

Heard = Mapping[str, bytes]
"""The last message on each topic."""


class Announced(Struct, frozen=True, kw_only=True):
    """A finding.

    Attributes:
        maker: what announced it.
        name: its name, for people.
        lines: the table for the profile; empty where there is none.
        shows: what it shows now, if that is known.
        note: what else is to be said or done.
        topic: the topic of its values; empty if it is asked.
    """

    maker: str
    name: str
    lines: tuple[str, ...] = ()
    shows: str = ""
    note: str = ""
    topic: str = ""


def table(
    name: str, keys: Mapping[str, str | int | float], broker: BrokerAddress
) -> tuple[str, ...]:
    """A table of a profile, with the broker's keys.

    Args:
        name: ``plug`` or ``topic``.
        keys: its own keys.
        broker: where it was heard. Its password is not shown.
    """
    rows: dict[str, Any] = {**keys, "host": broker.host}
    if broker.port != DEFAULT_PORT:
        rows["port"] = broker.port
    if broker.username:
        rows |= {"username": broker.username, "password": "…"}
    return (f"[{name}]", *(f"{key} = {_value(value)}" for key, value in rows.items()))


def body_of(payload: bytes | None) -> Any:
    """A message as JSON; ``None`` if there is none or it is something else."""
    if payload is None or len(payload) > MAX_BYTES:
        return None
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def object_of(payload: bytes | None) -> dict[str, Any]:
    """A message as a JSON object; empty if it is none."""
    body = body_of(payload)
    return body if isinstance(body, dict) else {}


def text_of(value: Any) -> str:
    """A text of an announcement; empty if it is none."""
    return value if isinstance(value, str) else ""


def _value(value: str | int | float) -> str:
    return quoted(value) if isinstance(value, str) else f"{value:g}"

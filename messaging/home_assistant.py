"""Boards as devices of Home Assistant: what its MQTT discovery is told, and on which topic.

Home Assistant subscribes to ``{prefix}/device/{node}/{object}/config`` and makes a device of each
retained document there, with its sensors. The values are read from what a board says anyway: its
telemetry, which is JSON, and its state, whose last will says that it is offline.

* :class:`ShownBoard`      a board, as far as Home Assistant shows it
* :func:`discovery_topic`  where its document goes
* :func:`discovery_filter` the same below any prefix, as a filter of topics
* :func:`discovery`        the document

A sensor of joules or watts carries their kind in its name, in its id and in its template: a board
that had an emulated meter and now has a real one gets another sensor, and no statistics mix them.

Home Assistant trusts whoever writes these topics: a document may make switches, with commands on
any topic. So no device may write one, not even its own
(:mod:`fimi.messaging.credentials.rules`); the coordinator's credentials may.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
from msgspec import Struct

from fimi.energy.joules import Kind, Scope
from fimi.messaging import topics
from fimi.messaging.topics import COORDINATOR

PREFIX = "homeassistant"
"""Where Home Assistant listens unless it is told otherwise."""

EXPIRE_S = 120
"""A power or temperature that is older than this is no longer shown, s."""

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ShownBoard(Struct, frozen=True, kw_only=True):
    """A board, as far as Home Assistant shows it.

    Attributes:
        device: its id.
        kind: kind of its joules.
        scope: what its meter sees; ``None`` where that is not known before a run, as of an emulated
            board: joules of any scope are shown.
        source: name of the meter.
        board: model name; may be empty.
        version: of fimi on it; may be empty.
    """

    device: str
    kind: Kind
    scope: Scope | None
    source: str = ""
    board: str = ""
    version: str = ""


def check_prefix(prefix: str) -> str:
    """Return a prefix that can be used.

    Raises:
        ValueError: it is not one level of a topic.
    """
    if not _PREFIX.fullmatch(prefix) or prefix == "fimi":
        raise ValueError(
            f"prefix {prefix!r} cannot be used: take the discovery prefix of Home Assistant, one "
            f"level of a topic such as {PREFIX!r}; a bridge can put it below another one"
        )
    return prefix


def discovery_topic(prefix: str, fleet: str, device: str) -> str:
    """The topic of a board's document.

    Raises:
        ValueError: fleet, device or prefix cannot be part of a topic.
    """
    return f"{check_prefix(prefix)}/{_place(fleet, device)}"


def discovery_filter(fleet: str, device: str = "") -> str:
    """The topics of the documents of a fleet, or of one board, below any prefix of one level."""
    return f"+/{_place(fleet, device)}"


def discovery(fleet: str, board: ShownBoard) -> bytes:
    """A board's document, as JSON.

    Raises:
        ValueError: fleet or device cannot be part of a topic.
    """
    said_on = topics.topic(fleet, board.device, COORDINATOR, "telemetry")
    state_on = topics.topic(fleet, board.device, COORDINATOR, "state")
    known_as = f"fimi_{_id(fleet)}_{_id(board.device)}"

    must: dict[str, str] = {"kind": board.kind}
    if board.scope is not None:
        must["scope"] = board.scope

    def metered(key: str, name: str, unit: str, **more: Any) -> dict[str, Any]:
        return {
            "platform": "sensor",
            "name": f"{name} ({', '.join(must.values())})",
            "unique_id": "_".join((known_as, key, *must.values())),
            "state_topic": said_on,
            "value_template": _value(key, **must),
            "unit_of_measurement": unit,
            **more,
        }

    document = {
        "device": {
            "identifiers": [known_as],
            "name": board.device,
            "manufacturer": "FIMI testbed",
            **({"model": board.board} if board.board else {}),
            **({"sw_version": board.version} if board.version else {}),
            **({"hw_version": f"meter {board.source}"} if board.source else {}),
        },
        "origin": {
            "name": "fimi fleet home-assistant",
            **({"sw_version": board.version} if board.version else {}),
        },
        "availability": [{"topic": state_on, "value_template": "{{ value_json.status }}"}],
        "components": {
            "energy": metered(
                "energy_j", "Energy", "J", device_class="energy", state_class="total_increasing"
            ),
            "power": metered(
                "power_w",
                "Power",
                "W",
                device_class="power",
                state_class="measurement",
                expire_after=EXPIRE_S,
            ),
            "temperature": {
                "platform": "sensor",
                "name": "Processor temperature",
                "unique_id": f"{known_as}_temperature_c",
                "state_topic": said_on,
                "value_template": _value("temperature_c"),
                "unit_of_measurement": "°C",
                "device_class": "temperature",
                "state_class": "measurement",
                "expire_after": EXPIRE_S,
            },
        },
    }
    return msgspec.json.encode(document)


def _value(key: str, **must: str) -> str:
    """A template that gives a value of telemetry, or ``None``, which is shown as unknown.

    Args:
        key: of the JSON object.
        must: keys with the values that they must have.
    """
    terms = [f"value_json.{key} is defined"]
    terms += [f"value_json.{name} == '{value}'" for name, value in must.items()]
    return f"{{{{ value_json.{key} if {' and '.join(terms)} else None }}}}"


def _place(fleet: str, device: str) -> str:
    topics.check_name(fleet, "fleet")
    if device:
        topics.check_name(device, "peer")
    return f"device/fimi-{_id(fleet)}/{_id(device) if device else '+'}/config"


def _id(name: str) -> str:
    """A name as Home Assistant takes it in a topic: letters, digits, ``_`` and ``-``.

    A name with a dot gets another sign instead, and six digits of its digest, so that it stays
    another name than that with this sign.
    """
    if "." not in name:
        return name
    return f"{name.replace('.', '-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"

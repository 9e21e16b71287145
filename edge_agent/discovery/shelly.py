"""Shelly: the first generation announces itself when asked, later ones say that they are online.

==========  ===================================  ==============================================
generation  announces                            what it shows
==========  ===================================  ==============================================
1           ``shellies/announce``                ``shellies/<id>/relay/0/power``, ``emeter/0/power``
2 and on    ``<id>/online``, ``<id>/events/rpc``  answer to ``Shelly.GetStatus``: the components
                                                 with ``apower``, ``act_power``,
                                                 ``total_act_power``
==========  ===================================  ==============================================
"""

from __future__ import annotations

import json
import re
from typing import Any

from fimi.edge_agent.discovery.announced import Announced, Heard, object_of, table, text_of
from fimi.messaging.address import BrokerAddress

TOPICS = (
    "shellies/announce",
    "shellies/+/announce",
    "shellies/+/relay/+/power",
    "shellies/+/emeter/+/power",
    "+/online",
    "+/events/rpc",
)
FIRST_QUESTIONS = {"shellies/command": (b"announce", b"update")}
"""What makes the first generation speak."""

ANSWERS = "answers"
"""The heard answers of later generations are put below this word: ``answers/<prefix>``."""

_SILENT = (
    "it says that it is online, as a Shelly does, and answers no question. Switch on 'Enable RPC "
    "over MQTT' in its web page (Settings, MQTT) and let it restart. To be read by [topic] instead "
    "of [plug], it needs 'Generic status update over MQTT', which is off at first"
)
_POWERS = ("apower", "act_power", "total_act_power")
_COMPONENT = re.compile(r"(switch|pm1|em1|em|cover|light):\d+")
_FIRST_VALUE = re.compile(r"shellies/([^/]+)/((?:relay|emeter)/\d+)/power")


def find(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    """Every Shelly, those that show no power with a note."""
    return [*_first_generation(heard, broker), *_later(heard, broker)]


def questions(heard: Heard, name: str) -> dict[str, bytes]:
    """What to ask those that are online, by topic; they answer below ``name``."""
    asked = {}
    for topic, payload in heard.items():
        prefix, _, rest = topic.partition("/")
        if prefix != "shellies" and (
            (rest == "online" and payload == b"true") or rest == "events/rpc"
        ):
            # A plug's own name may be another than the prefix of its topics.
            question = {"id": 1, "src": f"{name}/{prefix}", "method": "Shelly.GetStatus"}
            asked[f"{prefix}/rpc"] = json.dumps(question).encode()
    return asked


def _first_generation(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    channels: dict[str, dict[str, str]] = {}
    for topic, payload in sorted(heard.items()):
        parts = topic.split("/")
        if parts[0] == "shellies" and parts[-1] == "announce":
            if own := text_of(object_of(payload).get("id")):
                channels.setdefault(own, {})
        elif value := _FIRST_VALUE.fullmatch(topic):
            channels.setdefault(value[1], {})[value[2]] = payload.decode("utf-8", "replace")
    found = []
    for name, powers in channels.items():
        if not powers:
            note = "it has shown no power: models without a meter (Shelly 1) have none"
            found.append(Announced(maker="shelly-1", name=name, note=note))
        for channel, shown in powers.items():
            own = channel if len(powers) > 1 else ""
            found.append(
                Announced(
                    maker="shelly-1",
                    name=_named(name, own),
                    lines=_plug("shelly-1", f"shellies/{name}", own, broker),
                    shows=f"{shown[:20]} W",
                    topic=f"shellies/{name}/{channel}/power",
                )
            )
    return found


def _later(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    found = [
        Announced(maker="shelly", name=topic.removesuffix("/rpc"), note=_SILENT)
        for topic in questions(heard, "")
        if f"{ANSWERS}/{topic.removesuffix('/rpc')}" not in heard
    ]
    for topic, payload in sorted(heard.items()):
        if not topic.startswith(f"{ANSWERS}/"):
            continue
        answer = object_of(payload)
        name, result = topic.split("/", 1)[1], answer.get("result")
        powers = _components(result if isinstance(result, dict) else {})
        if not powers:
            note = "no component of it shows a power: this model does not meter"
            found.append(Announced(maker="shelly", name=name, note=note))
        for component, power_w in powers.items():
            own = component if len(powers) > 1 else ""
            found.append(
                Announced(
                    maker="shelly",
                    name=_named(name, own),
                    lines=_plug("shelly", name, own, broker),
                    shows=f"{power_w:g} W now",
                )
            )
    return found


def _named(name: str, channel: str) -> str:
    """A plug, with its channel where it has several."""
    return f"{name}, {channel}" if channel else name


def _plug(model: str, topic: str, channel: str, broker: BrokerAddress) -> tuple[str, ...]:
    """The lines for a profile, with the channel where there are several."""
    keys: dict[str, str | int | float] = {"model": model, "topic": topic}
    if channel:
        keys["channel"] = channel
    return table("plug", keys, broker)


def _components(result: dict[str, Any]) -> dict[str, float]:
    """Power of each component that shows one, W."""
    powers = {}
    for name, status in sorted(result.items()):
        if not (_COMPONENT.fullmatch(name) and isinstance(status, dict)):
            continue
        shown = next((status[key] for key in _POWERS if key in status), None)
        if isinstance(shown, (int, float)) and not isinstance(shown, bool):
            powers[name] = float(shown)
    return powers

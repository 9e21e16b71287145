"""Tasmota: ``tasmota/discovery/<MAC>/config`` and ``…/sensors``, retained.

``config`` has the topic (``t``), the form of topics (``ft``), their prefixes (``tp``) and names
(``dn``, ``hn``); ``sensors`` a message as it is published, in which ``ENERGY`` has lists where
there are several sockets. Plugs with the usual form of topics are asked (``[plug]``); others can
only be heard (``[topic]``).
"""

from __future__ import annotations

from typing import Any

from fimi.edge_agent.discovery.announced import Announced, Heard, object_of, table, text_of
from fimi.messaging.address import BrokerAddress

TOPICS = ("tasmota/discovery/+/config", "tasmota/discovery/+/sensors")
_USUAL = ("%prefix%/%topic%/", ["cmnd", "stat", "tele"])


def find(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    """Every Tasmota device, those that do not meter with a note."""
    found: list[Announced] = []
    for topic, payload in sorted(heard.items()):
        parts = topic.split("/")
        if parts[:2] == ["tasmota", "discovery"] and parts[3:] == ["config"]:
            sensors = object_of(heard.get("/".join([*parts[:3], "sensors"])))
            found += _device(object_of(payload), sensors, heard, broker)
    return found


def questions(heard: Heard) -> dict[str, bytes]:
    """What to ask, by topic, to hear what they show now."""
    asked = {}
    for topic, payload in heard.items():
        config = object_of(payload) if topic.endswith("/config") else {}
        name = text_of(config.get("t"))
        if topic.startswith("tasmota/discovery/") and name and _usual(config):
            asked[f"cmnd/{name}/STATUS"] = b"10"
    return asked


def _device(
    config: dict[str, Any], sensors: dict[str, Any], heard: Heard, broker: BrokerAddress
) -> list[Announced]:
    name = text_of(config.get("t"))
    if not name or set("+#") & set(name):
        return []
    shown = text_of(config.get("dn")) or text_of(config.get("hn")) or name
    readings = sensors.get("sn")
    energy = readings.get("ENERGY") if isinstance(readings, dict) else None
    if not isinstance(energy, dict) or "Power" not in energy:
        return [Announced(maker="tasmota", name=shown, note="it does not meter")]
    when = "as it announced"
    answer = object_of(heard.get(f"stat/{name}/STATUS10")).get("StatusSNS")
    if isinstance(answer, dict) and isinstance(answer.get("ENERGY"), dict):
        energy, when = answer["ENERGY"], "now"
    power = energy.get("Power")
    channels = power if isinstance(power, list) else [power]
    telemetry, note = _telemetry(config, name)
    found = []
    for number, power_w in enumerate(channels, 1):
        several = len(channels) > 1
        if _usual(config):
            keys: dict[str, str | int | float] = {"model": "tasmota", "topic": name}
            if several:
                keys["channel"] = number
            lines = table("plug", keys, broker)
        else:
            pointer = "/ENERGY/Power" + (f"/{number - 1}" if several else "")
            keys = {"topic": telemetry, "pointer": pointer, "unit": "W"}
            lines = table("topic", keys, broker) if telemetry else ()
        found.append(
            Announced(
                maker="tasmota",
                name=shown + (f", socket {number}" if several else ""),
                lines=lines,
                shows=f"{power_w} W {when}" if isinstance(power_w, (int, float)) else "",
                note="" if _usual(config) else note,
                topic=telemetry,
            )
        )
    return found


def _usual(config: dict[str, Any]) -> bool:
    return (config.get("ft", _USUAL[0]), config.get("tp", _USUAL[1])) == _USUAL


def _telemetry(config: dict[str, Any], name: str) -> tuple[str, str]:
    """The topic of its telemetry, empty if it cannot be told, and what is to be said of it."""
    form, prefixes = text_of(config.get("ft")) or _USUAL[0], config.get("tp") or _USUAL[1]
    tele = prefixes[2] if isinstance(prefixes, list) and len(prefixes) > 2 else "tele"
    topic = form.replace("%prefix%", text_of(tele)).replace("%topic%", name)
    topic = topic.replace("%hostname%", text_of(config.get("hn")))
    topic = topic.replace("%id%", text_of(config.get("mac"))[-6:])
    advice = (
        f"its topics have the form {form!r}, so that it is not asked; it publishes every "
        "TelePeriod (300 s; 'TelePeriod 10' on its console), or 'FullTopic %prefix%/%topic%/' "
        "lets [plug] ask"
    )
    return ("" if "%" in topic else f"{topic.rstrip('/')}/SENSOR"), advice

"""Zigbee2MQTT: ``zigbee2mqtt/bridge/devices``, retained: a list of devices and what they expose.

Values are published on ``zigbee2mqtt/<friendly name>``, when they change or after the device's
reporting interval. The base topic may be another than ``zigbee2mqtt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fimi.edge_agent.discovery.announced import Announced, Heard, body_of, table, text_of
from fimi.energy.meters.elsewhere import payload as reading
from fimi.messaging.address import BrokerAddress

TOPICS = ("+/bridge/devices",)
_WANTED = {"power": ("W", "kW", "mW"), "energy": ("kWh", "Wh")}


def find(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    """Every device that exposes a power, or an energy if it has no power."""
    found: list[Announced] = []
    for topic, payload in sorted(heard.items()):
        devices = body_of(payload)
        if topic.endswith("/bridge/devices") and isinstance(devices, list):
            base = topic.removesuffix("/bridge/devices")
            for device in devices:
                if isinstance(device, dict):
                    found += _device(base, device, heard, broker)
    return found


def _device(
    base: str, device: dict[str, Any], heard: Heard, broker: BrokerAddress
) -> Iterator[Announced]:
    name = text_of(device.get("friendly_name"))
    definition = device.get("definition")
    if not name or set("+#") & set(name) or not isinstance(definition, dict):
        return
    exposed = [e for e in _numeric(definition.get("exposes")) if _quantity(e)]
    powers = [e for e in exposed if _quantity(e) == "power"]
    several = len(powers or exposed) > 1
    for each in powers or exposed:
        own, unit = text_of(each.get("property")), text_of(each.get("unit"))
        pointer = "/" + own.replace("~", "~0").replace("/", "~1")
        topic = f"{base}/{name}"
        yield Announced(
            maker="zigbee2mqtt",
            name=name + (f", {own}" if several else ""),
            lines=table("topic", {"topic": topic, "pointer": pointer, "unit": unit}, broker),
            shows=shown(heard.get(topic), pointer, unit),
            note="it reports when the value changes; if too few messages come, declare refresh_s, "
            "its longest reporting interval"
            + ("" if powers else ". An energy in such steps is too coarse for phases"),
            topic=topic,
        )


def shown(payload: bytes | None, pointer: str, unit: str) -> str:
    """What the last message shows; empty if there is none or it holds no number."""
    if payload is None or unit not in reading.FACTORS:
        return ""
    try:
        value = reading.at(reading.parse(payload), pointer)
        reading.amount(value, unit)
    except ValueError as error:
        return f"no number: {error}"
    return f"{value} {unit}"


def _quantity(exposed: dict[str, Any]) -> str:
    for quantity, units in _WANTED.items():
        named = text_of(exposed.get("name")) or text_of(exposed.get("property"))
        if named.startswith(quantity) and exposed.get("unit") in units:
            return quantity
    return ""


def _numeric(exposes: Any) -> Iterator[dict[str, Any]]:
    for each in exposes if isinstance(exposes, list) else []:
        if isinstance(each, dict):
            if each.get("type") == "numeric" and text_of(each.get("property")):
                yield each
            yield from _numeric(each.get("features"))

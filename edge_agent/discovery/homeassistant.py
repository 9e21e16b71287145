"""Home Assistant's discovery: ``homeassistant/sensor/…/config`` of ESPHome and many others.

* :func:`find`        sensors of power and energy
* :func:`pointer_of`  a simple template as a JSON pointer

Keys may be abbreviated (``stat_t`` for ``state_topic``), ``~`` stands for a base topic, and a
device may announce all its components at once (``homeassistant/device/…/config``, ``cmps``). Some
sensors have no ``device_class``, and Tasmota's energies have the class ``power``: the unit decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fimi.edge_agent.discovery.announced import Announced, Heard, object_of, table, text_of
from fimi.edge_agent.discovery.zigbee import shown
from fimi.energy.meters.elsewhere.payload import FACTORS
from fimi.messaging.address import BrokerAddress

TOPICS = ("homeassistant/+/+/config", "homeassistant/+/+/+/config")

_SHORT = {
    "stat_t": "state_topic",
    "val_tpl": "value_template",
    "dev_cla": "device_class",
    "unit_of_meas": "unit_of_measurement",
    "dev": "device",
    "cmps": "components",
    "p": "platform",
}
_CLASSES = ("power", "energy")
_TEMPLATE = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_STEP = re.compile(
    r"\.get\(\s*(?:'([^']*)'|\"([^\"]*)\")\s*(?:,[^()]*)?\)"
    r"|\.([A-Za-z_]\w*)"
    r"|\[\s*(?:'([^']*)'|\"([^\"]*)\"|(\d+))\s*\]"
)
_HARMLESS = re.compile(r"(float|int|round|default|is_defined)\s*(\(\s*[\w.,'\" =-]*\s*\))?")


def find(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    """Every sensor of power or energy."""
    found: list[Announced] = []
    for topic, payload in sorted(heard.items()):
        parts = topic.split("/")
        if parts[0] != "homeassistant" or parts[-1] != "config" or len(parts) < 4:
            continue
        config = _long(object_of(payload))
        if parts[1] == "sensor":
            found += _sensor(config, config, heard, broker)
        elif parts[1] == "device":
            components = config.get("components")
            for each in components.values() if isinstance(components, dict) else []:
                part = _long(each) if isinstance(each, dict) else {}
                if part.get("platform") == "sensor":
                    found += _sensor({**config, **part}, config, heard, broker)
    return found


def pointer_of(template: str) -> str | None:
    """The JSON pointer of a template that only takes a value out; ``None`` for others.

    Filters that change nothing but digits or missing values are left out.
    """
    if not template:
        return ""
    whole = _TEMPLATE.fullmatch(template.strip())
    if whole is None:
        return None
    path, *filters = (part.strip() for part in whole[1].split("|"))
    if not all(_HARMLESS.fullmatch(each) for each in filters):
        return None
    if path == "value":
        return ""
    if not path.startswith("value_json"):
        return None
    rest, tokens = path.removeprefix("value_json"), []
    while rest:
        step = _STEP.match(rest)
        if step is None:
            return None
        token = next(part for part in step.groups() if part is not None)
        tokens.append(token.replace("~", "~0").replace("/", "~1"))
        rest = rest[step.end() :].strip()
    return "".join(f"/{token}" for token in tokens) or None


def _sensor(
    config: dict[str, Any], root: dict[str, Any], heard: Heard, broker: BrokerAddress
) -> Iterator[Announced]:
    unit = text_of(config.get("unit_of_measurement"))
    if config.get("device_class") not in _CLASSES and unit not in FACTORS:
        return
    base = text_of(config.get("~")) or text_of(root.get("~"))
    topic = _whole(text_of(config.get("state_topic")), base)
    if not topic or set("+#") & set(topic):
        return
    device = config.get("device")
    device = device if isinstance(device, dict) else {}
    own, of = text_of(config.get("name")), text_of(device.get("name"))
    name = own if not of or own.startswith(of) else f"{of} {own}".strip()
    template = text_of(config.get("value_template"))
    pointer = pointer_of(template)
    if unit not in FACTORS:
        note = f"its unit {unit!r} is not known to [topic] (W, mW, kW, J, Wh, kWh, mWh)"
        yield Announced(maker="home assistant", name=name or topic, note=note, topic=topic)
    elif pointer is None:
        yield Announced(
            maker="home assistant",
            name=name or topic,
            lines=table("topic", {"topic": topic, "pointer": "/…", "unit": unit}, broker),
            note=f"its template {template!r} is more than a path: write the pointer by hand, to a "
            "value of the message that is in this unit",
            topic=topic,
        )
    else:
        keys = {"topic": topic, "pointer": pointer, "unit": unit}
        yield Announced(
            maker="home assistant",
            name=name or topic,
            lines=table("topic", {k: v for k, v in keys.items() if v}, broker),
            shows=shown(heard.get(topic), pointer, unit),
            topic=topic,
        )


def _long(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with its keys in full."""
    return {_SHORT.get(key, key): value for key, value in config.items()}


def _whole(topic: str, base: str) -> str:
    """A topic with its base, which may stand before or behind it."""
    if topic.startswith("~"):
        return base + topic[1:]
    return topic[:-1] + base if topic.endswith("~") else topic

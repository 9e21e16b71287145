"""What plugs are asked, and which channels there are in their answers.

=========  ==============================  ==================================  ====================
model      question                        answer                              channels
=========  ==============================  ==================================  ====================
tasmota    ``cmnd/T/STATUS`` ``10``        ``stat/T/STATUS10``:                ``1``, ``2`` … where
                                           ``.StatusSNS.ENERGY.Power``, W      it is a list
shelly     ``T/rpc`` ``Shelly.GetStatus``  ``<client>/rpc``: ``.result`` has   ``switch:0``,
                                           the components, with ``apower``,    ``pm1:0``, ``em1:0``,
                                           ``act_power`` or                    ``em:0``, ``em:0:a``
                                           ``total_act_power``, W
shelly-1   ``T/command`` ``update``        ``T/relay/0/power``: a number, W    ``relay/0``,
                                                                               ``emeter/0`` …
=========  ==============================  ==================================  ====================

Which components a plug has is looked up in its answer, never assumed. Tasmota counts sockets from
1, as its own page and its commands ``POWER1``, ``POWER2`` do; Shelly counts from 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from fimi.energy.meters.elsewhere.payload import MAX_BYTES

PlugModel = Literal["tasmota", "shelly", "shelly-1"]

WHOLE = ""
"""The channel of a plug that has one power, without a number."""


class Channels(Struct, frozen=True):
    """What an answer of a plug holds.

    Attributes:
        powers_w: power of each channel, W, as it is shown, of either sign; ``None`` where there is
            a channel and no number.
        parts: channels that are a part of another one, with its name.
        silent: components that show no power.
    """

    powers_w: Mapping[str, float | None]
    parts: Mapping[str, str] = {}
    silent: tuple[str, ...] = ()

    @property
    def wholes(self) -> tuple[str, ...]:
        """Channels that are not a part of another one."""
        return tuple(name for name in self.powers_w if name not in self.parts)

    def find(self, channel: str | None) -> list[str]:
        """The channels that a key means: its name, or its number; without a key all whole ones."""
        if channel is None:
            return list(self.wholes)
        if channel in self.powers_w:
            return [channel]
        if not channel.isdecimal():
            return []
        return [n for n in self.wholes if n.replace("/", ":").rpartition(":")[2] == channel]


def tasmota_channels(payload: bytes) -> Channels:
    """An answer to ``STATUS 10``, or a ``SENSOR`` message."""
    body = _json(payload)
    sensors = body.get("StatusSNS", body)
    energy = sensors.get("ENERGY") if isinstance(sensors, dict) else None
    if not isinstance(energy, dict) or "Power" not in energy:
        return Channels({})
    power = energy["Power"]
    if not isinstance(power, list):
        return Channels({WHOLE: number(power)})
    return Channels({str(place): number(each) for place, each in enumerate(power, 1)})


_POWERS = ("apower", "act_power", "total_act_power")
_PHASES = ("a", "b", "c")


def shelly_channels(payload: bytes) -> Channels:
    """An answer to ``Shelly.GetStatus``, or to the question for one component."""
    result = _json(payload).get("result")
    if not isinstance(result, dict):
        return Channels({})
    if any(key in result for key in _POWERS):  # the status of one component
        return Channels({WHOLE: _component_w(result)}, _parts(WHOLE, result))
    powers_w: dict[str, float | None] = {}
    parts: dict[str, str] = {}
    silent = []
    for name, status in result.items():
        if not (isinstance(status, dict) and ":" in name):
            continue
        if not any(key in status for key in _POWERS):
            silent.append(name)
            continue
        powers_w[name] = _component_w(status)
        for phase, whole in _parts(name, status).items():
            powers_w[phase] = number(status[f"{phase[-1]}_act_power"])
            parts[phase] = whole
    return Channels(powers_w, parts, tuple(silent))


def shelly_1_channels(payloads: Mapping[str, bytes]) -> Channels:
    """The messages of a plug of the first generation, by the end of their topic, ``relay/0``."""
    return Channels({name: number(_text(payload)) for name, payload in sorted(payloads.items())})


def shown_w(power_w: float | None, *, either_way: bool) -> float | None:
    """A power as it is used, W; ``None`` if it is none.

    Args:
        power_w: as the plug shows it.
        either_way: whether its sign is the direction of the current; then its size is used.
    """
    if power_w is None or (power_w < 0.0 and not either_way):
        return None
    return abs(power_w)


def number(value: object) -> float | None:
    """A finite number, or a text of one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _component_w(status: Mapping[str, Any]) -> float | None:
    return next((number(status[key]) for key in _POWERS if key in status), None)


def _parts(name: str, status: Mapping[str, Any]) -> dict[str, str]:
    """The phases of a meter of three phases."""
    if "total_act_power" not in status:
        return {}
    return {f"{name}:{p}": name for p in _PHASES if f"{p}_act_power" in status}


def _text(payload: bytes) -> str:
    return payload.decode("ascii", "replace")


def _json(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_BYTES:
        return {}
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}

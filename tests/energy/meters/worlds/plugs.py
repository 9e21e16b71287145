"""Plugs: MQTT clients of their own behind a real broker."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import Meter
from fimi.energy.meters.plug import Plug, PlugSettings
from worlds.base import World


class PlugWorld(World):
    """A plug: an MQTT client of its own behind a real broker."""

    scope = "wall"
    model: Any = "tasmota"
    channel: Any = None
    topic = "lab-plug"
    resolution_w = 0.05
    breaks = ("silent", "garbage", "string", "nothing", "negative")

    def __init__(self, root: Path, clock: VirtualClock, port: int) -> None:
        self.port = port
        self.topic = f"{self.topic}-{root.name}"
        self.broken = ""
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"plug-{root.name}")
        self.subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe(self.question_topic())
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.on_question
        super().__init__(root, clock)

    def build(self) -> None:
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        assert self.subscribed.wait(10.0)

    def show(self) -> None:
        self.broken = ""

    def break_(self, how: str) -> None:
        self.broken = how

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def question_topic(self) -> str:
        return f"cmnd/{self.topic}/STATUS"

    def on_question(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        assert message.payload == b"10"
        self.reply(f"stat/{self.topic}/STATUS10")

    def body(self, power: object) -> str:
        energy = {"Total": [3.1, 0.2], "Power": power, "Voltage": 230}
        return json.dumps({"StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": energy}})

    def reply(self, topic: str) -> None:
        payload = {
            "garbage": "\x00not json",
            "string": self.body("on"),
            "nothing": "",
            "negative": self.body(-3),
        }.get(self.broken, self.body(self.power_w))
        if self.broken != "silent":
            self.client.publish(topic, payload)

    def settings(self) -> PlugSettings:
        return PlugSettings(
            model=self.model,
            topic=self.topic,
            port=self.port,
            timeout_s=0.25,
            channel=self.channel,
        )

    def open(self) -> Meter:
        return Plug(self.settings())


class TwoSocketPlug(PlugWorld):
    """Tasmota with two metered sockets publishes arrays; the board hangs on the second."""

    channel: Any = 2

    def body(self, power: object) -> str:
        return super().body([7.5, power])


class ShellyPlug(PlugWorld):
    """The second generation answers to whoever asked, with all its components."""

    model = "shelly"
    topic = "shellyplusplugs"
    breaks = ("silent", "garbage", "string", "nothing")
    component = "switch:0"

    def question_topic(self) -> str:
        return f"{self.topic}/rpc"

    def on_question(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        question = json.loads(message.payload)
        self.method = question["method"]
        self.reply(f"{question['src']}/rpc")

    def components(self, power: object) -> dict[str, Any]:
        """The status of the whole plug."""
        status = {"id": 0, "output": True, "apower": power, "aenergy": {"total": 9.9}}
        return {self.component: status, "sys": {"uptime": 3}, "mqtt": {"connected": True}}

    def body(self, power: object) -> str:
        if isinstance(power, float):
            power = -power  # wired the other way round
        if self.method == "Shelly.GetStatus":
            return json.dumps({"id": 1, "src": self.topic, "result": self.components(power)})
        error = {"code": 404, "message": f"No handler for {self.method}"}
        return json.dumps({"id": 1, "src": self.topic, "error": error})


class ShellyPmMini(ShellyPlug):
    """A meter without a switch."""

    topic = "shellypmmini"
    component = "pm1:0"


class OldShellyPlug(ShellyPlug):
    """A firmware that answers only the question for a switch."""

    topic = "shellyplus1pm"

    def body(self, power: object) -> str:
        if self.method != "Switch.GetStatus":
            error = {"code": 404, "message": f"No handler for {self.method}"}
            return json.dumps({"id": 1, "error": error})
        return json.dumps({"id": 1, "result": {"id": 0, "apower": power}})


class ShellyTwoChannels(ShellyPlug):
    """Two switches, each with a meter, and a cover's leftovers; the board hangs on the second."""

    topic = "shellyplus2pm"
    channel = "switch:1"

    def components(self, power: object) -> dict[str, Any]:
        first = {"id": 0, "apower": 55.5}
        second = {"id": 1, "apower": power}
        return {"switch:0": first, "switch:1": second, "input:0": {"id": 0, "state": False}}


class ShellyThreePhases(ShellyPlug):
    """A meter of three phases: the board hangs on the second."""

    topic = "shellypro3em"
    channel = "em:0:b"

    def components(self, power: object) -> dict[str, Any]:
        total = 100.0 + abs(power) if isinstance(power, float) else None
        phases = {"a_act_power": 60.0, "b_act_power": power, "c_act_power": 40.0}
        return {"em:0": {"id": 0, **phases, "total_act_power": total}}


class FirstShellyPlug(PlugWorld):
    """The first generation publishes bare numbers, each on a topic of its own."""

    model = "shelly-1"
    topic = "shellies/shellyplug-s"
    channels: tuple[str, ...] = ("relay/0",)
    mine = "relay/0"

    def question_topic(self) -> str:
        return f"{self.topic}/command"

    def on_question(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        assert message.payload == b"update"
        self.client.publish(f"{self.topic}/relay/0", "on")
        self.client.publish(f"{self.topic}/temperature", "31.2")
        for channel in self.channels:
            if channel == self.mine:
                self.reply(f"{self.topic}/{channel}/power")
            else:
                self.client.publish(f"{self.topic}/{channel}/power", "77.7")

    def body(self, power: object) -> str:
        return str(power)


class FirstShellyTwoRelays(FirstShellyPlug):
    """A Shelly 2.5: two relays, each with a meter; the board hangs on the second."""

    topic = "shellies/shellyswitch25"
    channels = ("relay/0", "relay/1")
    mine = "relay/1"
    channel = 1


class FirstShellyMeter(FirstShellyPlug):
    """A Shelly EM: clamps, the second one the other way round, and a relay without a meter."""

    topic = "shellies/shellyem"
    channels = ("emeter/0", "emeter/1")
    mine = "emeter/1"
    channel = "emeter/1"
    breaks = ("silent", "garbage", "string", "nothing")

    def body(self, power: object) -> str:
        return str(-power if isinstance(power, float) else power)

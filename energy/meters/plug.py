"""Power plugs that speak MQTT: Tasmota, and Shelly of both generations.

By itself a plug publishes too rarely (Tasmota every 300 s by default, Shelly when something
changes), so each reading asks it and waits for the answer:

=========  ===============================  =================================================
model      question                         answer
=========  ===============================  =================================================
tasmota    ``cmnd/T/STATUS`` ``10``         ``stat/T/STATUS10``: ``.StatusSNS.ENERGY.Power``, W
shelly     ``T/rpc`` ``Switch.GetStatus``   ``<client>/rpc``: ``.result.apower``, W
shelly-1   ``T/command`` ``update``         ``T/relay/0/power``: a number, W
=========  ===============================  =================================================

Their energy counters step by hundreds or thousands of joules and are not used. Metering chips of
plugs are unreliable below 5 to 6 W, which is where many boards idle.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import paho.mqtt.client as mqtt
from msgspec import Meta, Struct
from paho.mqtt.enums import CallbackAPIVersion

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.sysfs import complete

UNRELIABLE_BELOW_W = 6.0

_CONNECT_TIMEOUT_S = 5.0


class PlugSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a plug is found.

    Attributes:
        model: which messages it understands; ``shelly-1`` is the first generation.
        topic: its topic: Tasmota's ``%topic%``, Shelly's device id or topic prefix
            (``shellies/<id>`` for the first generation).
        host, port, username, password: of the broker.
        timeout_s: how long to wait for an answer, s.
        rate_hz: how often to ask, Hz.
    """

    model: Literal["tasmota", "shelly", "shelly-1"]
    topic: Annotated[str, Meta(min_length=1, pattern=r"^[^+#]*$")]
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    username: str = ""
    password: str = ""
    timeout_s: Annotated[float, Meta(gt=0, le=10)] = 1.0
    rate_hz: Annotated[float, Meta(gt=0, le=10)] = 1.0


class Plug(Meter):
    """A plug that is asked through a broker.

    Raises:
        MeterUnavailableError: the broker cannot be reached or the plug does not answer.
    """

    def __init__(self, settings: PlugSettings) -> None:
        self._settings = settings
        self._client_id = f"fimi-meter-{secrets.token_hex(4)}"
        self._questions, self._answer_topic, self._power_of = _language(settings, self._client_id)
        self._changed = threading.Condition()
        self._subscribed = False
        self._answers = 0
        self._answer = b""
        self._power_w: float | None = None
        self._description = MeterDescription(
            source=f"plug:{settings.model}:{settings.topic}",
            kind="measured",
            scope="wall",
            rate_hz=settings.rate_hz,
            resolution_w=1.0 if settings.model == "tasmota" else 0.1,
            relative_uncertainty=0.02,
        )
        self._client = self._connect()
        if self.look(0.0) == NOTHING:
            self.close()
            raise MeterUnavailableError(self._why_silent())

    def look(self, time_s: float) -> Look:
        """Ask and wait for the answer; empty if none comes in time or it holds no power."""
        with self._changed:
            seen = self._answers
            for topic, question in self._questions:
                self._client.publish(topic, question)
            self._changed.wait_for(lambda: self._answers > seen, self._settings.timeout_s)
            return NOTHING if self._answers == seen else Look(power_w=self._power_w)

    def close(self) -> None:
        """Leave the broker; may be called again."""
        self._client.disconnect()
        self._client.loop_stop()

    def _why_silent(self) -> str:
        settings = self._settings
        plug = f"the plug {settings.topic!r} ({settings.model})"
        if self._answers:
            return (
                f"{plug} answers on {self._answer_topic!r} with {self._answer[:120]!r}, which "
                "holds no power. Check [plug] model in the profile, and that this socket is metered"
            )
        return (
            f"{plug} does not answer on {settings.host}:{settings.port} within "
            f"{settings.timeout_s:g} s. It was asked on {self._questions[0][0]!r}, its answer "
            f"expected on {self._answer_topic!r}: check the topic and that MQTT is enabled on the "
            "plug"
        )

    def _connect(self) -> mqtt.Client:
        settings = self._settings
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._client_id)
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.suppress_exceptions = True
        client.max_queued_messages_set(4)
        if settings.username:
            client.username_pw_set(settings.username, settings.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_open = _send_at_once
        where = f"{settings.host}:{settings.port}"
        try:
            client.connect(settings.host, settings.port)
        except (OSError, UnicodeError) as error:
            raise MeterUnavailableError(
                f"the broker of the plug, {where}, cannot be reached ({error}); check [plug] host "
                "and port in the profile"
            ) from error
        client.loop_start()
        with self._changed:
            subscribed = self._changed.wait_for(lambda: self._subscribed, _CONNECT_TIMEOUT_S)
        if not subscribed:
            client.disconnect()
            client.loop_stop()
            raise MeterUnavailableError(
                f"the broker of the plug, {where}, does not let us in; check [plug] username and "
                "password in the profile"
            )
        return client

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if not reason.is_failure:
            client.subscribe(self._answer_topic)

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, _reasons: Any, _properties: Any
    ) -> None:
        with self._changed:
            self._subscribed = True
            self._changed.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.retain:
            return  # a retained message: an old reading
        answer = bytes(message.payload)
        power_w = self._power_of(answer)
        with self._changed:
            self._answers += 1
            self._answer = answer
            self._power_w = power_w
            self._changed.notify_all()


def tasmota_power_w(payload: bytes) -> float | None:
    """Power in an answer to ``STATUS 10`` or in a ``SENSOR`` message, W.

    Plugs with several sockets publish arrays; their sum is the power of the plug.
    """
    body = _json(payload)
    sensors = body.get("StatusSNS", body)
    energy = sensors.get("ENERGY") if isinstance(sensors, dict) else None
    if not isinstance(energy, dict):
        return None
    power = energy.get("Power")
    if isinstance(power, list):
        powers_w = complete(_watts(each) for each in power)
        return math.fsum(powers_w) if powers_w else None
    return _watts(power)


def shelly_power_w(payload: bytes) -> float | None:
    """Power in an answer to ``Switch.GetStatus``, W; its sign is the direction of the current."""
    result = _json(payload).get("result")
    power: Any = result.get("apower") if isinstance(result, dict) else None
    return _watts(abs(power) if _is_number(power) else power)


def shelly_1_power_w(payload: bytes) -> float | None:
    """Power as plugs of the first generation publish it: a bare number, W."""
    try:
        return _watts(float(payload))
    except ValueError:
        return None


def _send_at_once(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _language(
    settings: PlugSettings, client_id: str
) -> tuple[list[tuple[str, str]], str, Callable[[bytes], float | None]]:
    """Topic and payload of the question, topic of the answer, and the function that reads it."""
    topic = settings.topic
    if settings.model == "tasmota":
        return [(f"cmnd/{topic}/STATUS", "10")], f"stat/{topic}/STATUS10", tasmota_power_w
    if settings.model == "shelly":
        question = {"id": 1, "src": client_id, "method": "Switch.GetStatus", "params": {"id": 0}}
        return [(f"{topic}/rpc", json.dumps(question))], f"{client_id}/rpc", shelly_power_w
    return [(f"{topic}/command", "update")], f"{topic}/relay/0/power", shelly_1_power_w


def _json(payload: bytes) -> dict[str, Any]:
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _watts(value: Any) -> float | None:
    """A power, W, from a finite number that is not negative, or from a string of one."""
    if not (isinstance(value, str) or _is_number(value)):
        return None
    try:
        power_w = float(value)
    except (ValueError, OverflowError):
        return None
    return power_w if math.isfinite(power_w) and power_w >= 0.0 else None

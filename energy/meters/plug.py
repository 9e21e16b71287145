"""Power plugs that speak MQTT: Tasmota, and Shelly of all generations.

By itself a plug publishes too rarely (Tasmota every 300 s by default, Shelly when something
changes), so each reading asks it and waits for the answer (:mod:`fimi.energy.meters.plug_models`).
Its first answers say which channels it has; where there are several, the key ``channel`` of
``[plug]`` chooses, and nothing is guessed.

Their energy counters step by hundreds or thousands of joules and are not used. Metering chips of
plugs are unreliable below 5 to 6 W, which is where many boards idle.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.plug_models import (
    WHOLE,
    Channels,
    PlugModel,
    shelly_1_channels,
    shelly_channels,
    shown_w,
    tasmota_channels,
)
from fimi.energy.meters.response import MeterResponse
from fimi.energy.toml_text import quoted

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

UNRELIABLE_BELOW_W = 6.0

_RESPONSES: dict[str, MeterResponse] = {
    # 1 to 4 s after a step of the load (Tasmota#7509, #1032): 2.5 s on average, half a refresh
    # included.
    "tasmota": MeterResponse(delay_s=2.0, refresh_s=1.0, delay_sd_s=0.9, origin="assumed"),
    "shelly": MeterResponse(delay_s=1.0, refresh_s=1.0, delay_sd_s=0.6, origin="assumed"),
    "shelly-1": MeterResponse(delay_s=1.0, refresh_s=1.0, delay_sd_s=0.6, origin="assumed"),
}

_CONNECT_TIMEOUT_S = 5.0
_MORE_S = 0.15
"""A plug of the first generation answers with a message for each value; after the last one that
holds a power this long is waited for another, when its channels are looked up."""


class PlugSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a plug is found.

    Attributes:
        model: which messages it understands; ``shelly-1`` is the first generation.
        topic: its topic: Tasmota's ``%topic%``, Shelly's device id or topic prefix
            (``shellies/<id>`` for the first generation).
        channel: which of its sockets or meters: ``2`` (Tasmota, from 1), ``"switch:1"``,
            ``"pm1:0"`` (Shelly), ``"relay/1"`` (first generation), or the number alone.
        host, port, username, password: of the broker.
        timeout_s: how long to wait for an answer, s.
        rate_hz: how often to ask, Hz.
    """

    model: PlugModel
    topic: Annotated[str, Meta(min_length=1, pattern=r"^[^+#]*$")]
    channel: int | str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    username: str = ""
    password: str = ""
    timeout_s: Annotated[float, Meta(gt=0, le=10)] = 1.0
    rate_hz: Annotated[float, Meta(gt=0, le=10)] = 1.0


class Plug(Meter):
    """A plug that is asked through a broker.

    Args:
        settings: where it is found.
        channel: which of its channels, in place of the settings'.

    Raises:
        MeterUnavailableError: the broker cannot be reached, the plug does not answer, or it is not
            known which of its channels is meant.
    """

    def __init__(self, settings: PlugSettings, channel: str | None = None) -> None:
        self._settings = settings
        if channel is None and settings.channel is not None:
            channel = str(settings.channel)
        self._client_id = f"fimi-meter-{secrets.token_hex(4)}"
        self._changed = threading.Condition()
        self._subscribed = False
        self._answers = 0
        self._payloads: dict[str, bytes] = {}
        self._channel: str | None = None
        self._method: tuple[str, int | None] = ("Shelly.GetStatus", None)
        self._reversed = False
        self._why = ""
        self._client = self._connect()
        try:
            self._choose(channel)
        except MeterUnavailableError:
            self.close()
            raise
        named = f":{self._channel}" if self._channel else ""
        prefix = f"plug:{settings.topic}"
        self.made_of = frozenset({prefix + named})
        whole = (self._channel or "").rpartition(":")[0]
        self.inside = frozenset({f"{prefix}:{whole}"} if whole.startswith("em:") else ())
        self._description = MeterDescription(
            source=f"plug:{settings.model}:{settings.topic}{named}",
            kind="measured",
            scope="wall",
            rate_hz=settings.rate_hz,
            resolution_w=1.0 if settings.model == "tasmota" else 0.1,
            relative_uncertainty=0.02,
            response=_RESPONSES[settings.model],
        )

    def look(self, time_s: float) -> Look:
        """Ask and wait for the answer; empty if none comes in time or it holds no power."""
        channels = self._ask()
        if channels is None:
            self._why = (
                f"no answer from the plug on {self._settings.host}:{self._settings.port} within "
                f"{self._settings.timeout_s:g} s"
            )
            return NOTHING
        power_w = channels.powers_w.get(self._channel or WHOLE)
        if power_w is None and WHOLE in channels.powers_w:
            power_w = channels.powers_w[WHOLE]
        found_w = shown_w(power_w, either_way=self._either_way)
        self._reversed = power_w is not None and power_w < 0.0
        if found_w is None:
            self._why = f"its answer holds no power: {self._shown()}"
            return NOTHING
        return Look(power_w=found_w)

    def facts(self) -> tuple[str, ...]:
        """Its channel and broker."""
        settings = self._settings
        told = (f"channel {self._channel}",) if self._channel else ()
        return (*told, f"asked through {settings.host}:{settings.port}")

    def doubts(self) -> tuple[str, ...]:
        """Whether its power is negative."""
        if not self._reversed:
            return ()
        return (
            "its power is negative: it is wired or clamped the other way round, or the device "
            "feeds in; its size is used",
        )

    def why_nothing(self) -> str:
        """What came instead of a power."""
        return self._why

    def close(self) -> None:
        """Leave the broker; may be called again."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def _either_way(self) -> bool:
        """Whether the sign of its power is the direction of the current."""
        first = (self._channel or "").startswith("emeter")
        return self._settings.model == "shelly" or first

    def _choose(self, channel: str | None) -> None:
        """Look up which channels there are, and take the one that is meant.

        Raises:
            MeterUnavailableError: there is none, or there are several.
        """
        found = self._ask(every=True)
        nothing = found is None or not (found.powers_w or found.silent)
        if nothing and self._settings.model == "shelly":
            # A firmware that knows only the question for one component.
            self._method = _one_component(channel or "switch:0")
            found = self._ask(every=True)
            channel = None if found is not None and WHOLE in found.powers_w else channel
        if found is None:
            raise MeterUnavailableError(self._why_silent())
        plug = f"the plug {self._settings.topic!r} ({self._settings.model})"
        fits = found.find(channel)
        wholes = [name or "0" for name in found.wholes]
        if len(fits) > 1:
            keys = "; ".join(f"channel = {_key(name)}" for name in fits)
            sums = names.line(tuple(f"plug:{name}" for name in fits))
            raise names.SeveralError(
                f"{plug} has several channels ({', '.join(fits)}), and it is not known which one "
                f"supplies this device. Write one of these lines into [plug]: {keys}; or, for all "
                f"of them together, into the profile: {sums}"
            )
        if not fits and channel is not None and found.powers_w:
            keys = "; ".join(f"channel = {_key(name)}" for name in found.powers_w if name)
            raise MeterUnavailableError(
                f"{plug} has no channel {channel!r}: it has {', '.join(wholes)}. "
                + (f"Write one of these lines into [plug]: {keys}" if keys else "Leave it out")
            )
        if not fits and found.silent:
            raise MeterUnavailableError(
                f"{plug} has {', '.join(found.silent)}, and none of them shows a power: this model "
                "does not meter. Use one that does (names with PM or EM)"
            )
        if not fits or shown_w(found.powers_w[fits[0]], either_way=True) is None:
            raise MeterUnavailableError(self._why_powerless())
        self._channel = fits[0] or None
        if not self._either_way and (found.powers_w[fits[0]] or 0.0) < 0.0:
            raise MeterUnavailableError(self._why_powerless())

    def _ask(self, *, every: bool = False) -> Channels | None:
        """Ask, and wait for the answer; ``None`` if none comes.

        Args:
            every: wait until all channels have answered, where each answers by itself.
        """
        settings = self._settings
        topic, question = self._question()
        with self._changed:
            seen, self._payloads = self._answers, {}
            self._client.publish(topic, question)
            self._changed.wait_for(lambda: self._enough(seen), settings.timeout_s)
            if every and settings.model == "shelly-1":
                ends_s = time.monotonic() + settings.timeout_s
                before = seen
                while before < self._answers and time.monotonic() < ends_s:
                    before = self._answers
                    self._changed.wait(_MORE_S)
            if self._answers == seen:
                return None
            payloads = dict(self._payloads)
        if settings.model == "shelly-1":
            return shelly_1_channels(payloads)
        (payload,) = payloads.values()
        return (
            tasmota_channels(payload) if settings.model == "tasmota" else shelly_channels(payload)
        )

    def _enough(self, seen: int) -> bool:
        """Whether the answer is there: of the channel that is read, where each answers itself."""
        if self._settings.model == "shelly-1" and self._channel:
            return self._channel in self._payloads
        return self._answers > seen

    def _question(self) -> tuple[str, str]:
        topic = self._settings.topic
        if self._settings.model == "tasmota":
            return f"cmnd/{topic}/STATUS", "10"
        if self._settings.model == "shelly-1":
            return f"{topic}/command", "update"
        method, number = self._method
        question: dict[str, Any] = {"id": 1, "src": self._client_id, "method": method}
        if number is not None:
            question["params"] = {"id": number}
        return f"{topic}/rpc", json.dumps(question)

    def _answer_topic(self) -> str:
        topic = self._settings.topic
        if self._settings.model == "tasmota":
            return f"stat/{topic}/STATUS10"
        return (
            f"{topic}/+/+/power" if self._settings.model == "shelly-1" else f"{self._client_id}/rpc"
        )

    def _shown(self) -> str:
        """What came last, for messages."""
        with self._changed:
            return ", ".join(
                f"{end} {held[:120]!r}".strip() for end, held in self._payloads.items()
            )

    def _why_powerless(self) -> str:
        settings = self._settings
        return (
            f"the plug {settings.topic!r} ({settings.model}) answers on {self._answer_topic()!r} "
            f"with {self._shown()}, which holds no power. Check [plug] model in the profile, and "
            "that this socket is metered"
        )

    def _why_silent(self) -> str:
        settings = self._settings
        return (
            f"the plug {settings.topic!r} ({settings.model}) does not answer on "
            f"{settings.host}:{settings.port} within {settings.timeout_s:g} s. It was asked on "
            f"{self._question()[0]!r}, its answer expected on {self._answer_topic()!r}: check the "
            "topic and that MQTT is enabled on the plug"
        )

    def _connect(self) -> mqtt.Client:
        settings = self._settings
        # Only who has such a meter pays for the client's memory.
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

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
            topics = [self._answer_topic()]
            if self._settings.model == "shelly-1":  # a plug with one meter for two relays
                topics.append(f"{self._settings.topic}/+/power")
            client.subscribe([(topic, 0) for topic in topics])

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, _reasons: Any, _properties: Any
    ) -> None:
        with self._changed:
            self._subscribed = True
            self._changed.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.retain:
            return  # a retained message: an old reading
        end = ""
        if self._settings.model == "shelly-1":
            end = message.topic.removeprefix(f"{self._settings.topic}/").removesuffix("/power")
        with self._changed:
            self._answers += 1
            self._payloads[end] = bytes(message.payload)
            self._changed.notify_all()


def _key(channel: str) -> str:
    return channel if channel.isdecimal() else quoted(channel)


def _one_component(channel: str) -> tuple[str, int]:
    """The question for one component, and its number."""
    kind, _, number = channel.rpartition(":")
    method = {"": "Switch", "pm1": "PM1", "em1": "EM1", "em": "EM"}.get(kind, kind.capitalize())
    return f"{method}.GetStatus", int(number) if number.isdecimal() else 0


def _send_at_once(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

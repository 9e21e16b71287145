"""A connection to a broker of a home or a laboratory that hears some topics and reconnects."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from fimi.energy.meters import MeterUnavailableError

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

CONNECT_TIMEOUT_S = 5.0
_RECONNECT_S = (1, 4)


class BrokerPlace(Struct, frozen=True, kw_only=True):
    """Where a broker is.

    Attributes:
        host, port, username, password: of the broker.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    username: str = ""
    password: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Listener:
    """Hears topics until it is closed.

    Args:
        place: the broker.
        topics: topics to hear.
        on_message: called with topic, payload, and whether it was retained, on the connection's
            thread.
        table: name of the profile's table, for errors.

    Raises:
        MeterUnavailableError: the broker cannot be reached, or refuses us or a topic.
    """

    def __init__(
        self,
        place: BrokerPlace,
        topics: tuple[str, ...],
        on_message: Callable[[str, bytes, bool], None],
        *,
        table: str,
    ) -> None:
        self.name = f"fimi-meter-{secrets.token_hex(4)}"
        """Its client id, under which it may be answered."""
        self._topics = tuple(topic.replace("{name}", self.name) for topic in topics)
        self._handle = on_message
        self._answered = threading.Event()
        self._refusal = ""
        # Only who has such a meter pays for the client's memory.
        import paho.mqtt.client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.name)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.suppress_exceptions = True
        client.max_queued_messages_set(64)
        client.reconnect_delay_set(*_RECONNECT_S)
        if place.username:
            client.username_pw_set(place.username, place.password)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_open = _send_at_once
        self._client = client
        try:
            client.connect(place.host, place.port)
        except (OSError, UnicodeError) as error:
            raise MeterUnavailableError(
                f"the broker {place} cannot be reached ({error}); check {table} host and port in "
                "the profile"
            ) from error
        client.loop_start()
        answered = self._answered.wait(CONNECT_TIMEOUT_S)
        if not answered or self._refusal:
            self.close()
            raise MeterUnavailableError(
                f"the broker {place} {self._refusal or 'does not answer in MQTT'}; check {table} "
                "username and password in the profile, and the broker's access rules"
            )

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client.is_connected()

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a message at most once; never waits."""
        self._client.publish(topic, payload, qos=0)

    def close(self) -> None:
        """Leave the broker; may be called again."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = f"refuses us ({str(reason).lower()})"
            self._answered.set()
            return
        client.subscribe([(topic, 0) for topic in self._topics])

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        if reasons and reasons[0].is_failure and not self._answered.is_set():
            self._refusal = f"does not let us hear {self._topics[0]!r}"
        self._answered.set()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._handle(message.topic, bytes(message.payload), message.retain)


def _send_at_once(_client: mqtt.Client, _data: Any, sock: Any) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

"""One MQTT connection as bytes on topics: connecting, refusals, reconnecting, pacing, closing.

:class:`Link` wraps paho-mqtt (MQTT 3.1.1) and corrects its weak points: callbacks that raise do not
end its thread, queues are finite, reconnect delays are random, subscriptions are renewed after
every reconnect, and closing leaves neither thread nor socket.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerError, BrokerTimeout, BrokerUnreachable, NotAuthorised

KEEPALIVE_S = 30
MAX_INFLIGHT = 4
MAX_QUEUED = 1000
CONNECT_TIMEOUT_S = 5.0
RECONNECT_MIN_S = (0.5, 1.5)
RECONNECT_MAX_S = (20.0, 40.0)

_SO_MAX_PACING_RATE = 47  # <asm-generic/socket.h>; Python's socket module has no name for it
_UNPACED = 0xFFFFFFFF
_CALLBACKS = (
    "on_connect",
    "on_disconnect",
    "on_subscribe",
    "on_message",
    "on_publish",
    "on_socket_open",
)
_CHECK = "check host and port, and that the broker is running there"

log = logging.getLogger(__name__)


class Will(NamedTuple):
    """The last will: the broker publishes it, retained, if a link ends without ``close``."""

    topic: str
    payload: bytes


class Link:
    """A connection that reconnects until it is closed. It can be used once.

    ``on_message(topic, payload, retained)``, ``on_ready(first)`` and ``on_confirmed(number)`` run
    on the network thread and must return quickly. ``on_ready`` is called after every (re)connect,
    once the broker has confirmed the subscriptions; ``on_confirmed`` when it has the message of
    that number (``mid``).
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        clean_session: bool = False,
        will: Will | None = None,
        subscriptions: tuple[str, ...] = (),
        on_message: Callable[[str, bytes, bool], None] = lambda *_: None,
        on_ready: Callable[[bool], None] = lambda _: None,
        on_confirmed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.address = address
        self._subscriptions = subscriptions
        self._message_handler = on_message
        self._ready_handler = on_ready
        self._confirmed_handler = on_confirmed
        self._answered = threading.Event()
        self._ready = threading.Event()
        self._refusal: ReasonCode | None = None
        self._was_ready = False
        self._closed = False
        self._pacing_bps: float | None = None
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean_session,
            protocol=mqtt.MQTTv311,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.suppress_exceptions = True
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.max_queued_messages_set(MAX_QUEUED)
        if address.username:
            client.username_pw_set(address.username, address.password)
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        for name in _CALLBACKS:
            setattr(client, name, getattr(self, f"_{name}"))
        self._client = client
        self._draw_reconnect_delays()

    @property
    def ready(self) -> bool:
        """Whether it is connected, with confirmed subscriptions."""
        return self._ready.is_set() and self._client.is_connected()

    def connect(self, timeout_s: float) -> None:
        """Connect and wait until the subscriptions are confirmed.

        Raises:
            BrokerUnreachable: there is no answer.
            NotAuthorised: the broker refuses.
            BrokerTimeout: there is no valid answer within ``timeout_s``.
            BrokerError: a TLS connection is not possible.
        """
        try:
            self._connect(self.address, timeout_s)
        except BrokerError:
            self.close()
            raise

    def _connect(self, where: BrokerAddress, timeout_s: float) -> None:
        self._client.connect_timeout = max(0.5, min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            if where.tls:
                self._client.tls_set(ca_certs=where.ca_path)
            self._client.connect(where.host, where.port, keepalive=KEEPALIVE_S)
        except ssl.SSLError as error:
            raise BrokerError(
                f"{where}: no TLS connection ({error}); check the ca file and the port"
            ) from error
        except TimeoutError as error:
            raise BrokerTimeout(f"{where}: no answer within {timeout_s:g} s; {_CHECK}") from error
        except FileNotFoundError as error:
            raise BrokerError(f"{where}: the ca file {where.ca_path!r} does not exist") from error
        except (OSError, UnicodeError) as error:
            raise BrokerUnreachable(f"{where}: cannot be reached ({error}); {_CHECK}") from error
        self._client.loop_start()
        if not self._answered.wait(timeout_s):
            raise BrokerTimeout(
                f"{where}: accepts connections but does not answer in MQTT within {timeout_s:g} s; "
                "check that a broker listens there, and whether it wants TLS (mqtts://)"
            )
        if self._refusal is not None:
            raise _refused(where, self._refusal)

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False
    ) -> mqtt.MQTTMessageInfo:
        """Pass bytes to the network thread; never waits."""
        return self._client.publish(topic, payload, qos=qos, retain=retain)

    def set_pacing(self, rate_bps: float | None) -> bool:
        """Let the kernel pace this connection, now and after reconnects.

        Args:
            rate_bps: bits per second, TCP and IP headers included; ``None`` removes the limit.

        Returns:
            Whether the operating system has accepted it for the present connection.
        """
        self._pacing_bps = rate_bps
        return _pace(self._client.socket(), rate_bps)

    def pacing_bps(self) -> float | None:
        """The rate to which the kernel paces this connection, bit/s; ``None`` if it does not."""
        sock: Any = self._client.socket()
        if sock is None or not sys.platform.startswith("linux"):
            return None
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, 4)
        except OSError:
            return None
        rate = int.from_bytes(raw, sys.byteorder)
        return None if rate == _UNPACED else 8.0 * rate

    def close(self) -> None:
        """Disconnect and wait until thread and socket have ended; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._ready.clear()
        client = self._client
        client.disconnect()
        client.loop_stop()
        for name in _CALLBACKS:
            setattr(client, name, None)  # breaks the reference cycle, so that sockets are closed
        # loop_stop does not close the two sockets that wake the thread
        with contextlib.suppress(AttributeError):
            client._reset_sockets()

    # On the network thread.

    def _on_connect(self, _c: Any, _d: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        if reason.is_failure:
            if not self._answered.is_set():
                self._refusal = reason
                self._answered.set()
                self._client.disconnect()
            else:
                log.warning("%s refuses to have us back: %s", self.address, reason)
            return
        self._draw_reconnect_delays()
        if self._subscriptions:
            self._client.subscribe([(name, 1) for name in self._subscriptions])
        else:
            self._now_ready()

    def _on_subscribe(self, _c: Any, _d: Any, _m: int, reasons: list[ReasonCode], _p: Any) -> None:
        if refused := [reason for reason in reasons if reason.is_failure]:
            log.error("%s refuses a subscription: %s", self.address, refused[0])
            if not self._answered.is_set():
                self._refusal = refused[0]
                self._answered.set()
            return
        self._now_ready()

    def _now_ready(self) -> None:
        first, self._was_ready = not self._was_ready, True
        self._ready.set()
        try:
            self._ready_handler(first)
        except Exception:
            log.exception("after connecting to %s", self.address)
        self._answered.set()

    def _on_disconnect(self, _c: Any, _d: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
        if self._ready.is_set() and not self._closed:
            log.warning("connection to %s lost (%s); reconnecting", self.address, reason)
        self._ready.clear()

    def _on_message(self, _c: Any, _d: Any, message: mqtt.MQTTMessage) -> None:
        try:
            self._message_handler(message.topic, bytes(message.payload), message.retain)
        except Exception:
            log.exception("message of %d B dropped", len(message.payload))

    def _on_publish(self, _c: Any, _d: Any, number: int, _r: ReasonCode, _p: Any) -> None:
        self._confirmed_handler(number)

    def _on_socket_open(self, _c: Any, _d: Any, sock: Any) -> None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._pacing_bps is not None:
            _pace(sock, self._pacing_bps)

    def _draw_reconnect_delays(self) -> None:
        """Draw random delays, so that a fleet does not reconnect all at once."""
        dice = secrets.SystemRandom()
        # paho types these as int but only doubles and compares them
        shortest: Any = dice.uniform(*RECONNECT_MIN_S)
        longest: Any = dice.uniform(*RECONNECT_MAX_S)
        self._client.reconnect_delay_set(shortest, longest)


def probe(address: BrokerAddress, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Connect once and disconnect, without leaving anything at the broker.

    Raises:
        BrokerError: as :meth:`Link.connect`.
    """
    link = Link(address, f"probe-{secrets.token_hex(6)}", clean_session=True)
    link.connect(timeout_s)
    link.close()


def _refused(where: BrokerAddress, reason: ReasonCode) -> BrokerError:
    name = str(reason)
    if name in ("Not authorized", "Bad user name or password"):
        user = f"user {where.username!r}" if where.username else "a client without user name"
        return NotAuthorised(
            f"{where}: the broker refuses {user} ({name.lower()}); check user name and password"
        )
    return BrokerError(f"{where}: the broker refuses the connection ({name.lower()})")


def _pace(sock: Any, rate_bps: float | None) -> bool:
    if sock is None or not sys.platform.startswith("linux"):
        return False
    rate = _UNPACED if rate_bps is None else max(1, min(_UNPACED - 1, round(rate_bps / 8)))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate.to_bytes(4, sys.byteorder))
    except OSError as error:
        log.warning("sending rate not limited: %s", error)
        return False
    return True

"""One MQTT connection as bytes on topics: made, lost, made again, closed.

:class:`Link` wraps paho-mqtt and corrects its weak points: callbacks that raise do not end its
thread, queues are finite, pauses before it reconnects grow and are random, subscriptions are
renewed after every reconnect, what the broker announces to refuse is not sent, and closing leaves
neither thread nor socket. It leaves to others

* :mod:`~fimi.messaging.paho_clients`   how a client of paho is made, opened and dropped
* :mod:`~fimi.messaging.refusals`       why a broker does not let it in, in words
* :mod:`~fimi.messaging.grants`         what the broker grants, as it becomes known
* :mod:`~fimi.messaging.confirmations`  which messages it has refused
* :mod:`~fimi.messaging.backoff`        when to try again
* :mod:`~fimi.messaging.socket_pacing`  the rate to which the kernel holds the connection

It speaks MQTT 5 where the broker does, else 3.1.1. Version 5 adds that a session and a chunk expire
at the broker, that the broker names the largest packet it takes, and clearer reasons; nothing
depends on it.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fimi.messaging.address import BrokerAddress
from fimi.messaging.backoff import STEADY_S, Backoff
from fimi.messaging.confirmations import Confirmations
from fimi.messaging.errors import BrokerError, BrokerTimeout, NotAuthorised
from fimi.messaging.grants import Grants
from fimi.messaging.limits import forgotten
from fimi.messaging.paho_clients import (
    CALLBACKS,
    CONNECT_TIMEOUT_S,
    MAX_INFLIGHT,
    PahoClients,
    Will,
)
from fimi.messaging.refusals import certificate_refused, refused
from fimi.messaging.socket_pacing import pace, paced_bps
from fimi.messaging.traffic import Traffic, traffic_of

UNHEARD_S = 20
"""A connection over which nothing was confirmed for so long is given up, s (on Linux), where no
pulse is kept (:mod:`fimi.messaging.pulse`). TCP counts a receiver that reads slowly as silent, so
this is not for connections that carry bulk."""

VERSIONS = (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311)
"""The versions of MQTT that are tried, in this order."""

ANSWER_S = 1.5
"""A broker that does not answer in the first version for so long is asked in the next one, s: some
do not answer at all in a version that they do not know."""

_OTHER_VERSION = "Unsupported protocol version"

log = logging.getLogger(__name__)

_spoken: dict[tuple[str, int], MQTTProtocolVersion] = {}
"""The version in which a broker last answered this process: it is tried first."""


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
        has_pulse: bool = False,
        will: Will | None = None,
        subscriptions: tuple[str, ...] = (),
        on_message: Callable[[str, bytes, bool], None] = lambda *_: None,
        on_ready: Callable[[bool], None] = lambda _: None,
        on_confirmed: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.address = address
        self._client_id = client_id
        self._subscriptions = subscriptions
        self._message_handler = on_message
        self._ready_handler = on_ready
        self._confirmed_handler = on_confirmed
        self._clean_session = clean_session
        self._has_pulse = has_pulse
        self._grants = Grants(address, silent=clean_session)
        self._confirmations = Confirmations(address)
        self._answered = threading.Event()
        self._ready = threading.Event()
        self._refusal: ReasonCode | None = None
        self._was_ready = False
        self._closed = False
        self._unwanted = False
        self._lost_s: float | None = None
        self._ready_s = float("-inf")
        self._opened_s: float | None = None
        self.sessions = 0
        """How many connections were ready so far, the present one included."""
        self._backoff = Backoff()
        self._pacing_bps: float | None = None
        self._listening: dict[str, int | None] = {}
        self._tls_trouble = ""
        self._before: Link | None = None
        self._shut_out = ""
        self._clients = PahoClients(address, client_id, clean_session=clean_session, will=will)
        self._client = self._new_client(VERSIONS[0])

    def _new_client(self, version: MQTTProtocolVersion) -> mqtt.Client:
        callbacks = {name: getattr(self, f"_{name}") for name in CALLBACKS}
        return self._clients.make(version, self._grants.now, callbacks)

    @property
    def ready(self) -> bool:
        """Whether it is connected, with confirmed subscriptions."""
        return self._ready.is_set() and self._client.is_connected()

    @property
    def version(self) -> str:
        """The version of MQTT that is spoken: ``"5"`` or ``"3.1.1"``."""
        return "5" if self._client.protocol == MQTTProtocolVersion.MQTTv5 else "3.1.1"

    @property
    def away_s(self) -> float | None:
        """For how long the connection has been lost, s; ``None`` while there is one."""
        lost_s = self._lost_s
        return None if lost_s is None or self.ready else time.monotonic() - lost_s

    @property
    def shut_out(self) -> str:
        """Why the broker does not let it come back, and what to do; empty: it does not refuse."""
        return self._shut_out

    def connect(self, timeout_s: float) -> None:
        """Connect and wait until the subscriptions are confirmed.

        Raises:
            BrokerUnreachable: there is no answer.
            NotAuthorised: the broker refuses.
            BrokerTimeout: there is no valid answer within ``timeout_s``.
            BrokerError: a TLS connection is not possible.
        """
        try:
            deadline_s = time.monotonic() + timeout_s
            if not self._clean_session:
                self._begin_with_nothing(timeout_s)
            self._negotiate(timeout_s, deadline_s)
        except BrokerError:
            self.close()
            raise

    def _begin_with_nothing(self, timeout_s: float) -> None:
        """End what an earlier process has left at the broker under this id.

        The connection itself does not ask for a clean start: Mosquitto writes to its disk only
        sessions whose connection has not, so that what waits for others would be lost with its end.
        """
        before = Link(self.address, self._client_id, clean_session=True)
        self._before = before
        before.connect(timeout_s)
        before.close()
        self._before = None

    def give_up(self) -> None:
        """Let :meth:`connect` raise :class:`BrokerTimeout` at once, from another thread."""
        self._unwanted = True
        self._answered.set()
        if (before := self._before) is not None:
            before.give_up()

    def _negotiate(self, timeout_s: float, deadline_s: float) -> None:
        """Connect in the first version in which the broker answers."""
        where = self.address
        place = (where.host, where.port)
        spoken = _spoken.pop(place, None)
        versions = sorted(VERSIONS, key=lambda version: version != spoken)
        tries = [*versions]
        anew = False
        while tries:
            version = tries.pop(0)
            left_s = max(0.05, deadline_s - time.monotonic())
            if anew or self._client.protocol != version:
                self._clients.drop(self._client)
                self._client = self._new_client(version)
                anew = False
            self._answered.clear()
            self._refusal = None
            self._clients.open(self._client, left_s, self._on_log)
            last = version == versions[-1]
            wait_s = left_s if last or spoken is not None else min(ANSWER_S, left_s / 2)
            answered = self._answered.wait(wait_s)
            if self._unwanted:
                raise BrokerTimeout(f"{where}: not waited for any longer")
            if trouble := self._tls_trouble:
                raise NotAuthorised(certificate_refused(where, trouble))
            if (why := self._grants.now.unusable) and not self._clean_session:
                raise BrokerError(f"{where}: {why}")
            refusal = self._first_refusal()
            if refusal is not None and self._grants.ask_less(str(refusal)):
                anew = True
                tries.insert(0, version)
                continue
            if refusal is not None and (last or str(refusal) != _OTHER_VERSION):
                raise refused(where, refusal)
            if answered and refusal is None:
                _spoken[place] = version
                return
            if not answered and spoken is not None:
                break  # it knows that version and is silent
        raise BrokerTimeout(
            f"{where}: accepts connections but does not answer in MQTT within {timeout_s:g} s; "
            "check that a broker listens there, and whether it wants TLS (mqtts://)"
        )

    def _first_refusal(self) -> ReasonCode | None:
        return self._refusal  # which the network thread sets

    def largest_payload(self, topic: str) -> int | None:
        """The largest payload that the broker takes on a topic, bytes; ``None`` for no limit."""
        return self._grants.largest_payload(topic)

    def limit(self, payload_bytes: int | None, why: str = "") -> None:
        """Send no larger payloads from now on: the broker drops them. ``None``: it does not.

        ``why`` is said once.
        """
        self._grants.limit(payload_bytes, why)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool = False,
        expires_s: int | None = None,
    ) -> mqtt.MQTTMessageInfo:
        """Pass bytes to the network thread; never waits.

        With ``expires_s`` a broker of version 5 drops them if it cannot deliver them for so long.
        What is larger than :meth:`largest_payload` is not sent: ``rc`` of the result is
        ``MQTT_ERR_PAYLOAD_SIZE``.
        """
        limit = self.largest_payload(topic)
        if limit is not None and len(payload) > limit:
            log.error(
                "%d B to %s not sent: %s takes %d B", len(payload), topic, self.address, limit
            )
            unsent = mqtt.MQTTMessageInfo(0)
            unsent.rc = MQTTErrorCode.MQTT_ERR_PAYLOAD_SIZE
            return unsent
        properties = None
        if expires_s is not None and self.version == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expires_s
        return self._client.publish(
            topic,
            payload,
            qos=min(qos, self._grants.now.qos),
            retain=retain and self._grants.now.retains,
            properties=properties,
        )

    def may_write(self, topic: str, timeout_s: float) -> bool | None:
        """Whether the broker lets this client write on a topic; ``None`` if it does not say.

        It publishes an empty message there. A broker of MQTT 3.1.1 does not say.
        """
        if self.version != "5" or not self._grants.now.qos:
            return None
        with self._confirmations.expecting_refusal():
            try:
                info = self.publish(topic, b"", qos=1)
                info.wait_for_publish(timeout_s)
                return not self.was_refused(info.mid) if info.is_published() else None
            except (RuntimeError, ValueError):
                return None

    def was_refused(self, number: int) -> bool:
        """Whether the broker has refused the message of this number (``mid``), of the latest."""
        return self._confirmations.was_refused(number)

    def listen(self, topic: str) -> None:
        """Hear a topic beside the subscriptions, now and after reconnects; never waits."""
        self._listening[topic] = self._client.subscribe(topic, 0)[1]

    def unlisten(self, topic: str) -> None:
        """Hear a topic no more."""
        if self._listening.pop(topic, None) is not None:
            self._client.unsubscribe(topic)

    def set_pacing(self, rate_bps: float | None) -> bool:
        """Let the kernel pace this connection, now and after reconnects.

        Args:
            rate_bps: bits per second, TCP and IP headers included; ``None`` removes the limit.

        Returns:
            Whether the operating system has accepted it for the present connection.
        """
        self._pacing_bps = rate_bps
        return pace(self._client.socket(), rate_bps)

    def pacing_bps(self) -> float | None:
        """The rate to which the kernel paces this connection, bit/s; ``None`` if it does not."""
        return paced_bps(self._client.socket())

    def opening_s(self) -> float | None:
        """For how long a connection has been open without being ready, s; ``None``: there is none.

        Before the first one that was ready, :meth:`connect` looks after that.
        """
        opened_s = self._opened_s
        waits = opened_s is not None and self._was_ready and not self._ready.is_set()
        return time.monotonic() - opened_s if waits and opened_s is not None else None

    def traffic(self) -> Traffic | None:
        """What the operating system knows of the present connection, if it tells."""
        return traffic_of(self._client.socket())

    def cut(self, why: str) -> None:
        """Give the present connection up, because it is dead; it is made again."""
        sock: Any = self._client.socket()
        if sock is None or self._closed:
            return
        log.warning("connection to %s given up: %s", self.address, why)
        with contextlib.suppress(OSError):
            # of TLS as well: the network thread may be reading, and finds the end of the stream
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect and wait until thread and socket have ended; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._ready.clear()
        self._clients.drop(self._client)

    # On the network thread.

    def _on_connect(
        self, client: mqtt.Client, _d: Any, flags: Any, reason: ReasonCode, given: Properties | None
    ) -> None:
        if reason.is_failure:
            if not self._answered.is_set():
                self._refusal = reason
                self._answered.set()
                client.disconnect()
                return
            self._refused_again(str(refused(self.address, reason)))
            if str(reason) == _OTHER_VERSION and self.version == "5":
                # another broker has taken its place; paho reads the version when it reconnects
                client._protocol = MQTTProtocolVersion.MQTTv311
                client._clean_session = self._clean_session
            return
        self._grants.told(given)
        granted = self._grants.now
        why = granted.unusable
        if why and not self._clean_session and not self._answered.is_set():
            self._answered.set()
            client.disconnect()
            return
        self._grants.say(*filter(None, (why, *granted.shortcomings)))
        if self._was_ready and not self._clean_session and not flags.session_present:
            self._grants.say(forgotten())
        # paho refuses to change it on an open connection, where the broker's limit becomes known
        client._max_inflight_messages = min(MAX_INFLIGHT, granted.unacknowledged or MAX_INFLIGHT)
        if self._subscriptions:
            client.subscribe([(name, 1) for name in self._subscriptions])
        else:
            self._now_ready()
        for topic in list(self._listening):
            self._listening[topic] = client.subscribe(topic, 0)[1]

    def _on_subscribe(
        self, _c: Any, _d: Any, number: int, reasons: list[ReasonCode], _p: Any
    ) -> None:
        if number in self._listening.values():
            return  # whoever hears nothing there does without
        if refused := [reason for reason in reasons if reason.is_failure]:
            log.error("%s refuses a subscription: %s", self.address, refused[0])
            if not self._answered.is_set():
                self._refusal = refused[0]
                self._answered.set()
            return
        self._now_ready()

    def _now_ready(self) -> None:
        first, self._was_ready = not self._was_ready, True
        self._client.on_log = None
        if self._lost_s is not None:
            away_s = time.monotonic() - self._lost_s
            log.warning("connected to %s again after %.1f s", self.address, away_s)
        self._lost_s = None
        self._shut_out = ""
        self._ready_s = time.monotonic()
        self.sessions += 1
        self._ready.set()
        try:
            self._ready_handler(first)
        except Exception:
            log.exception("after connecting to %s", self.address)
        self._answered.set()

    def _on_disconnect(
        self, client: mqtt.Client, _d: Any, _f: Any, reason: ReasonCode, _p: Any
    ) -> None:
        now_s = time.monotonic()
        if self._ready.is_set():
            if not self._closed:
                self._lost_s = now_s
                # paho's word for: the other side has closed it, and said nothing
                why = "closed" if str(reason) == "Unspecified error" else str(reason).lower()
                log.warning("connection to %s lost (%s); reconnecting", self.address, why)
                if self.address.tls:
                    client.on_log = self._on_log
            if now_s - self._ready_s >= STEADY_S:
                self._backoff.succeeded()
        self._opened_s = None
        self._ready.clear()
        self._pause(client, now_s)
        if self._tls_trouble and not self._answered.is_set():
            self._answered.set()  # the broker has closed it for what TLS says

    def _on_connect_fail(self, client: mqtt.Client, _d: Any) -> None:
        self._shut_out = ""
        self._pause(client, time.monotonic())

    def _pause(self, client: mqtt.Client, now_s: float) -> None:
        """Say how long paho waits before its next attempt; of its own it only doubles a pause."""
        pause_s: Any = self._backoff.failed(now_s)  # paho types it as int, and only compares it
        client.reconnect_delay_set(pause_s, pause_s)

    def _on_log(self, _c: Any, _d: Any, level: int, text: str) -> None:
        """What paho says of a connection with TLS: it keeps the error to itself."""
        if level == mqtt.MQTT_LOG_ERR and "[SSL" in text:
            self._tls_trouble = text
            if self._was_ready:
                self._refused_again(certificate_refused(self.address, text))

    def _refused_again(self, why: str) -> None:
        """A connection that there was is not let in any more: said once, not at every attempt."""
        if why != self._shut_out:
            self._shut_out = why
            log.error("%s", why)

    def _on_message(self, _c: Any, _d: Any, message: mqtt.MQTTMessage) -> None:
        try:
            self._message_handler(message.topic, bytes(message.payload), message.retain)
        except Exception:
            log.exception("message of %d B dropped", len(message.payload))

    def _on_publish(self, _c: Any, _d: Any, number: int, reason: ReasonCode, _p: Any) -> None:
        self._confirmations.note(number, reason)
        self._confirmed_handler(number)

    def _on_socket_open(self, _c: Any, _d: Any, sock: Any) -> None:
        self._opened_s = time.monotonic()
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform.startswith("linux") and not self._has_pulse:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNHEARD_S)
        if self._pacing_bps is not None:
            pace(sock, self._pacing_bps)


def probe(address: BrokerAddress, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Connect once and disconnect, without leaving anything at the broker.

    Raises:
        BrokerError: as :meth:`Link.connect`.
    """
    link = Link(address, f"probe-{secrets.token_hex(16)}", clean_session=True)
    link.connect(timeout_s)
    link.close()

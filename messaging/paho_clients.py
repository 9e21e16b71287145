"""The clients of paho-mqtt that a link uses, one after another: made, opened, dropped.

A client speaks one version of MQTT and reconnects by itself, so a link has one of them, and another
one only while it finds out what the broker speaks and grants.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fimi.messaging import tls
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerError, BrokerTimeout, BrokerUnreachable
from fimi.messaging.limits import Granted

KEEPALIVE_S = 30
MAX_INFLIGHT = 4
MAX_QUEUED = 1000
CONNECT_TIMEOUT_S = 5.0
SESSION_EXPIRY_S = 3600
MAX_RECEIVED = 64
MAX_PACKET_BYTES = 2 << 20

CALLBACKS = (
    "on_connect",
    "on_connect_fail",
    "on_disconnect",
    "on_subscribe",
    "on_message",
    "on_publish",
    "on_socket_open",
)
"""What a client calls on its network thread."""
_ALSO = ("on_log",)
"""Set while a connection with TLS is made: paho writes a line for every packet where it is set."""
_CHECK = "check host and port, and that the broker is running there"


class Will(NamedTuple):
    """The last will: the broker publishes it, retained, if a link ends without ``close``."""

    topic: str
    payload: bytes


class PahoClients:
    """The clients of one link.

    Args:
        address: the broker.
        client_id: the same for all.
        clean_session: whether the broker forgets a client as soon as its connection ends.
        will: the last will.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        clean_session: bool,
        will: Will | None,
    ) -> None:
        self._address = address
        self._client_id = client_id
        self._clean_session = clean_session
        self._will = will

    def make(
        self,
        version: MQTTProtocolVersion,
        granted: Granted,
        callbacks: Mapping[str, Callable[..., None]],
    ) -> mqtt.Client:
        """A client that is not open, and asks for no more than is granted.

        Args:
            version: of MQTT.
            granted: what the broker is known to grant.
            callbacks: by the names in :data:`CALLBACKS`; they are not kept here, or a link and its
                sockets would outlive :meth:`drop`.
        """
        five = version == MQTTProtocolVersion.MQTTv5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if five else self._clean_session,
            protocol=version,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.suppress_exceptions = True
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.max_queued_messages_set(MAX_QUEUED)
        if self._address.username:
            client.username_pw_set(self._address.username, self._address.password)
        if self._will is not None:
            client.will_set(*self._will, qos=granted.qos, retain=granted.retains)
        for name, callback in callbacks.items():
            setattr(client, name, callback)
        return client

    def open(self, client: mqtt.Client, timeout_s: float, on_log: Callable[..., None]) -> None:
        """Connect a client, and start its network thread; does not wait for the broker's answer.

        Args:
            client: made here.
            timeout_s: how long the machine may take to answer, s.
            on_log: gets what paho writes while a connection with TLS is made.

        Raises:
            BrokerUnreachable: there is no answer at that host and port.
            BrokerTimeout: there is none within ``timeout_s``.
            BrokerError: a TLS connection is not possible.
        """
        where = self._address
        client.connect_timeout = max(0.5, min(timeout_s, CONNECT_TIMEOUT_S))
        five: dict[str, Any] = {}
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            # a new process begins with nothing; what its connection misses later, it gets
            start = True if self._clean_session else mqtt.MQTT_CLEAN_START_FIRST_ONLY
            five = {"clean_start": start, "properties": self._session()}
        try:
            if where.tls:
                client.tls_set_context(tls.context(where))
                client.on_log = on_log
            client.connect(where.host, where.port, keepalive=KEEPALIVE_S, **five)
        except ssl.SSLError as error:
            raise BrokerError(tls.in_words(where, error)) from error
        except TimeoutError as error:
            raise BrokerTimeout(f"{where}: no answer within {timeout_s:g} s; {_CHECK}") from error
        except (OSError, UnicodeError) as error:
            raise BrokerUnreachable(f"{where}: cannot be reached ({error}); {_CHECK}") from error
        client.loop_start()

    def _session(self) -> Properties:
        """What is agreed with a broker of version 5."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        if not self._clean_session:
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.ReceiveMaximum = MAX_RECEIVED
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        return properties

    @staticmethod
    def drop(client: mqtt.Client) -> None:
        """End a client's thread and close its sockets."""
        client.disconnect()
        client.loop_stop()
        for name in (*CALLBACKS, *_ALSO):
            setattr(client, name, None)  # breaks the reference cycle, so that sockets are closed
        # loop_stop does not close the two sockets that wake the thread
        with contextlib.suppress(AttributeError):
            client._reset_sockets()

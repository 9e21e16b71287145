"""Child process that runs amqtt, with the password enforced and five of its faults corrected.

Started by :mod:`fimi.messaging.broker.embedded` (:mod:`fimi.children`).
What is corrected, as of amqtt 0.12:

* A client with a wrong password is refused before it can change the session of the client whose id
  it uses.
* A client of MQTT 5 is refused in words; amqtt would wait for the rest of a packet of 3.1.1.
* A client that returns before its old connection is found to be dead is not marked as disconnected.
* Two clients that connect at the same time do not break each other's loop over the subscriptions.
* A client that connects gets the retained messages of its own subscriptions, not those of all.

Two faults remain: there is no last will for a client that becomes silent, and unacknowledged
messages are lost on a reconnect. :mod:`fimi.messaging.client` and
:mod:`fimi.messaging.transfers.exchange` handle both.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import amqtt.broker
import msgspec
from amqtt.adapters import ReaderAdapter
from amqtt.errors import MQTTError
from amqtt.mqtt.connack import NOT_AUTHORIZED, UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin

from fimi.children import when_parent_is_gone
from fimi.messaging.broker.orders import GRACE_S, BrokerOrders

TAKE_OVER_S = 2.0


class PasswordPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """One user, one password."""

    @dataclass
    class Config:
        """User name and password of all clients."""

        username: str
        password: str

    async def authenticate(self, *, session: Any) -> bool:
        """Whether the session has the right user name and password."""
        pairs = (
            (session.username or "", self.config.username),
            (session.password or "", self.config.password),
        )
        # both are compared, so that the time does not tell which of them is wrong
        name, password = (hmac.compare_digest(*map(str.encode, pair)) for pair in pairs)
        return name and password


class _Again(ReaderAdapter):  # type: ignore[misc]
    """A reader that gives bytes again which were read from another one."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._head = b""
        self._pos = 0

    async def peek(self, count: int) -> bytes:
        """The next bytes after those that were peeked at before."""
        data: bytes = await self._reader.read(count)
        self._head += data
        return data

    async def read(self, n: int = -1) -> bytes:
        """The bytes from the first again."""
        data = self._head[self._pos :] if n < 0 else self._head[self._pos : self._pos + n]
        self._pos += len(data)
        if n < 0 or len(data) < n:
            data += await self._reader.read(n if n < 0 else n - len(data))
        return data

    def feed_eof(self) -> None:
        """Acknowledge the end."""
        self._reader.feed_eof()


async def _version(reader: _Again) -> int | None:
    """The version of MQTT in a CONNECT packet; ``None`` if it is no such packet."""
    if await reader.peek(1) != b"\x10":
        return None
    for _ in range(4):  # the length of the packet
        if (byte := await reader.peek(1)) and byte[0] < 0x80:
            break
    if await reader.peek(6) != b"\x00\x04MQTT":
        return None
    return int.from_bytes(await reader.peek(1), "big")


class _Handler(BrokerProtocolHandler):  # type: ignore[misc]
    """Checks version and password with the first packet."""

    @classmethod
    async def init_from_connect(
        cls, reader: Any, writer: Any, plugins_manager: Any, loop: Any = None
    ) -> Any:
        reader = _Again(reader)
        if (version := await _version(reader)) not in (4, None):
            await ConnackPacket.build(0, UNACCEPTABLE_PROTOCOL_VERSION).to_stream(writer)
            await writer.close()
            raise MQTTError(f"client of MQTT version {version} refused")
        handler, session = await super().init_from_connect(reader, writer, plugins_manager, loop)
        verdicts = await plugins_manager.map_plugin_auth(session=session)
        if not verdicts or not all(verdicts.values()):
            await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
            raise MQTTError(f"client {session.client_id} refused")
        return handler, session


class _Subscriptions(dict[str, Any]):
    """Iterates over a copy, because clients subscribe while the broker awaits in its loops."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))

    def items(self) -> Any:
        return list(super().items())


class _Broker(amqtt.broker.Broker):  # type: ignore[misc]
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._subscriptions = _Subscriptions()
        self._entrances: dict[str, asyncio.Lock] = {}
        self._serving: dict[str, asyncio.Future[Any]] = {}

    async def _handle_client_session(
        self, reader: Any, writer: Any, client_session: Any, handler: Any, *rest: Any
    ) -> None:
        """End the old connection of a returning client completely before the new one begins.

        Clients with the same id enter one after the other.
        """
        client = client_session.client_id
        entrance = self._entrances.setdefault(client, asyncio.Lock())
        async with entrance:
            await self._end_old(client_session)
            serving = asyncio.ensure_future(
                super()._handle_client_session(reader, writer, client_session, handler, *rest)
            )
            self._serving[client] = serving
            while not serving.done() and self._sessions.get(client, (0, 0))[1] is not handler:
                await asyncio.sleep(0.001)
        if not entrance.locked():
            self._entrances.pop(client, None)
        try:
            await asyncio.wait([serving])
        finally:
            serving.cancel()
            if self._serving.get(client) is serving:
                del self._serving[client]
        if not serving.cancelled():
            serving.result()

    async def _end_old(self, client_session: Any) -> None:
        """End the connection that a session still has, if any.

        Its loop may wait for an acknowledgement that cannot come, and would later mark the session
        as disconnected under the new connection, or take messages from its queue.
        """
        client = client_session.client_id
        session, handler = self._sessions.get(client, (None, None))
        if session is not client_session or not client_session.transitions.is_connected():
            return
        if (serving := self._serving.get(client)) is not None:
            serving.cancel()
            await asyncio.wait([serving], timeout=TAKE_OVER_S)
        if handler is not None:
            await self._stop_handler(handler)
        if client_session.transitions.is_connected():
            client_session.transitions.disconnect()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Any
    ) -> None:
        subscribers = self._subscriptions.get(subscription[0], ())
        if any(known.client_id == session.client_id for known, _ in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def serve(config: BrokerOrders) -> None:
    """Run the broker until it gets a signal or the parent has ended."""
    amqtt.broker.BrokerProtocolHandler = _Handler
    host = f"[{config.bind}]" if ":" in config.bind else config.bind
    broker = _Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{config.port}"}},
            "plugins": {
                f"{__name__}.PasswordPlugin": {
                    "username": config.username,
                    "password": config.password,
                }
            },
        }
    )
    await broker.start()
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def orphaned() -> None:
        shutil.rmtree(config.directory, ignore_errors=True)
        loop.call_soon_threadsafe(over.set)

    when_parent_is_gone(orphaned, GRACE_S)
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(over.set))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    await over.wait()
    # All clients lose their connection at once. amqtt would end one after the other and publish
    # the last will of each to those that are left: they would take it for news of that client.
    os._exit(0)


def main(orders: bytes) -> int:
    """Run the broker as :class:`BrokerOrders` say; exit status 1 if it cannot start."""
    logging.basicConfig(level=logging.CRITICAL)
    try:
        asyncio.run(serve(msgspec.json.decode(orders, type=BrokerOrders)))
    except Exception as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0

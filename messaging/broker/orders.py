"""What a broker's child process is told."""

from __future__ import annotations

from msgspec import Struct

GRACE_S = 5.0
"""How long a broker may take to end when its parent is gone, s."""


class BrokerOrders(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which broker to run.

    Attributes:
        directory: temporary directory; the child removes it if the parent dies.
        command: program to run, for mosquitto.
        bind: IP address to listen on, for amqtt.
        port: TCP port, for amqtt.
        username: who may connect, for amqtt.
        password: and with what, for amqtt.
    """

    directory: str
    command: tuple[str, ...] = ()
    bind: str = ""
    port: int = 0
    username: str = ""
    password: str = ""

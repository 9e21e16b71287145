"""What a broker's child process is told."""

from __future__ import annotations

from msgspec import Struct

GRACE_S = 5.0
"""How long a broker may take to end when its parent is gone, s."""


class BrokerOrders(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which broker to run.

    Attributes:
        bind: IP address to listen on.
        port: TCP port; 0 for a free one, which is chosen before the child starts.
        username: who may connect.
        password: and with what.
        directory: temporary directory; the child removes it if the parent dies.
        command: program to run, for mosquitto.
        grace_s: how long mosquitto may take to end when the parent is gone, s; it writes what it
            keeps then.
        account: user, group and all groups as whom it is run, by root; ``None``: as the parent.
    """

    bind: str
    port: int
    username: str
    password: str
    directory: str = ""
    command: tuple[str, ...] = ()
    grace_s: float = GRACE_S
    account: tuple[int, int, tuple[int, ...]] | None = None

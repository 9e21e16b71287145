"""What the child processes of a dry run are told. Light to import: the parent starts them first."""

from __future__ import annotations

from msgspec import Struct

from fimi.messaging.address import BrokerAddress
from fimi.testbed.configuration.sections import Config


class FleetOrders(Struct, frozen=True, kw_only=True):
    """Which emulated devices to host.

    Attributes:
        config: of the federation.
        broker: where to connect.
        devices: indices, from 0.
    """

    config: Config
    broker: BrokerAddress
    devices: tuple[int, ...]


class GeneratorOrders(Struct, frozen=True, kw_only=True):
    """How to be the generator node.

    Attributes:
        config: of the federation.
        broker: where to connect.
    """

    config: Config
    broker: BrokerAddress

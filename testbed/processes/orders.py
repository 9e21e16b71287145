"""The orders of the child processes of a dry run.

This module is light to import, because the parent starts its children first.
"""

from __future__ import annotations

from msgspec import Struct

from fimi.messaging.address import BrokerAddress
from fimi.testbed.configuration.sections import Config


class FleetOrders(Struct, frozen=True, kw_only=True):
    """Which emulated devices to host.

    Attributes:
        config: the configuration.
        broker: address of the broker.
        devices: indices of the devices, from 0.
    """

    config: Config
    broker: BrokerAddress
    devices: tuple[int, ...]


class GeneratorOrders(Struct, frozen=True, kw_only=True):
    """Orders of the generator node.

    Attributes:
        config: the configuration.
        broker: address of the broker.
    """

    config: Config
    broker: BrokerAddress

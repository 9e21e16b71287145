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
        broker: address of the broker.
        fleet: name of the fleet.
        devices: ids of the devices.
        place: folder with the files of the data set; empty where it needs none.
        cache: folder for what devices fetch once; empty: memory only.
        telemetry_s: time between two messages in which a device says how it is, s; 0 for none.
        looked_s: the same while somebody looks, s; 0 for no others.
    """

    broker: BrokerAddress
    fleet: str
    devices: tuple[str, ...]
    place: str = ""
    cache: str = ""
    telemetry_s: float = 0.0
    looked_s: float = 0.0


class GeneratorOrders(Struct, frozen=True, kw_only=True):
    """Orders of the generator node.

    Attributes:
        config: the configuration.
        broker: address of the broker.
        pool: folder for what it draws.
    """

    config: Config
    broker: BrokerAddress
    pool: str

"""The process that hosts emulated devices: real agents, real connections, one thread each.

Devices of one process train one at a time, because they share this machine's cores; their boards'
time is virtual. They load a data set once for all. With ONNX Runtime this process does not load
PyTorch.
"""

from __future__ import annotations

import threading
from pathlib import Path

from fimi.edge_agent.agent import Agent
from fimi.edge_agent.backends import Trainers
from fimi.edge_agent.share import Shelf
from fimi.edge_agent.turns import Turns
from fimi.messaging.client import Peer
from fimi.messaging.errors import MessagingError
from fimi.testbed.processes.orders import FleetOrders
from fimi.testbed.processes.torch_cache import torch_cache

ORDERS = FleetOrders


def main(orders: FleetOrders, stop: threading.Event) -> None:
    """Host devices until ``stop`` is set.

    Raises:
        MessagingError: one of them cannot be heard any more, such as where another process has its
            id; the others have ended as well.
    """
    with torch_cache():  # a parent that was killed cannot remove its own
        _host(orders, stop)


def _host(orders: FleetOrders, stop: threading.Event) -> None:
    crowd = len(orders.devices) > 1
    turns, trainers, shelf = Turns(crowd=crowd), Trainers(), Shelf(len(orders.devices))
    failures: list[MessagingError] = []

    def live(device: str) -> None:
        peer = Peer(orders.broker, fleet=orders.fleet, peer=device, role="device")
        agent = Agent(
            peer,
            place=Path(orders.place) if orders.place else None,
            cache=Path(orders.cache) if orders.cache else None,
            turns=turns,
            trainers=trainers,
            shelf=shelf,
            telemetry_s=orders.telemetry_s,
            looked_s=orders.looked_s,
        )
        try:
            with peer:
                agent.run(stop)
        except MessagingError as error:
            failures.append(error)
            stop.set()

    threads = [
        threading.Thread(target=live, args=(device,), name=device) for device in orders.devices
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]

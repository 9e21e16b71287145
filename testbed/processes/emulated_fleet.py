"""The process that hosts emulated devices: real agents, real connections, one thread each.

Devices of one process train one at a time, because they share this machine's cores; their boards'
time is virtual. With ONNX Runtime this process does not load PyTorch.
"""

from __future__ import annotations

import threading

from fimi.edge_agent.agent import Agent
from fimi.edge_agent.backends import Trainers
from fimi.edge_agent.turns import Turns
from fimi.messaging.client import Peer
from fimi.messaging.topics import device_id
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.processes.devices import emulated_board, make_agent
from fimi.testbed.processes.orders import FleetOrders
from fimi.testbed.processes.torch_cache import torch_cache

ORDERS = FleetOrders


def main(orders: FleetOrders, stop: threading.Event) -> None:
    """Host devices until ``stop`` is set."""
    with torch_cache():  # a parent that was killed cannot remove its own
        _host(orders, stop)


def _host(orders: FleetOrders, stop: threading.Event) -> None:
    config = orders.config
    scenario = Scenario(config=config)
    data = {index: scenario.share(index) for index in orders.devices}
    del scenario  # frees the samples of other devices while these run
    turns, trainers = Turns(), Trainers()
    threads = []
    for index in orders.devices:
        peer = Peer(
            orders.broker,
            fleet=config.fleet.name,
            peer=device_id(index, config.fleet.devices),
            role="device",
        )
        board = emulated_board(config, index, data[index])
        agent = make_agent(peer, data[index], board, turns=turns, trainers=trainers)

        def live(peer: Peer = peer, agent: Agent = agent) -> None:
            with peer:
                agent.run(stop)

        threads.append(threading.Thread(target=live, name=peer.id))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

"""One device in this process: on an emulated board, or on the machine it runs on."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from fimi.energy.hardware import Hardware
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import load_profile
from fimi.learning.data.dataset import Dataset
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.topics import device_id
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes.devices import emulated_board, make_agent


def serve(
    config: Config,
    index: int,
    data: Dataset,
    address: BrokerAddress,
    *,
    name: str | None,
    host_profile: Path | None,
    root: Path = Path("/"),
    cache: Path | None = None,
    stop: threading.Event,
) -> None:
    """Run a device until ``stop`` is set.

    Args:
        config: the configuration.
        index: index of the device, from 0.
        data: its samples.
        address: address of the broker.
        name: its id; from the index if ``None``.
        host_profile: profile of this machine, which is then metered and controlled; ``None`` for an
            emulated board.
        root: root of this machine's file system.
        cache: folder for training graphs; in memory only if ``None``.
        stop: when set, the device ends.

    Raises:
        fimi.energy.host_profile.ProfileError: the profile cannot be used.
        fimi.energy.meters.MeterUnavailableError: the host has no meter and declares no power.
    """
    peer = Peer(
        address,
        fleet=config.fleet.name,
        peer=name or device_id(index, config.fleet.devices),
        role="device",
    )
    with ExitStack() as stack:
        hardware: Hardware = (
            stack.enter_context(
                HostHardware(
                    load_profile(host_profile), root=root, uplink=peer, broker_host=address.host
                )
            )
            if host_profile is not None
            else emulated_board(config, index, data)
        )
        agent = make_agent(peer, data, hardware, cache=cache)
        stack.enter_context(peer)
        agent.run(stop)

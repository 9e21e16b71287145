"""Devices from a configuration: their names, their data, their boards.

Every process that needs to know who holds what derives it from the same configuration, so that a
device is the same whether it runs in a dry run or alone in its own process.
"""

from __future__ import annotations

import threading
from pathlib import Path

from edge_agent.agent import Agent
from edge_agent.backends import Backends
from edge_agent.data import MixedData
from energy import boards
from energy.emulated import Disturbance, EmulatedBoard
from energy.emulated_physics import PhysicalBoard
from energy.hardware import Hardware
from learning import datasets, partition
from learning.datasets import Dataset, Split
from messaging.client import Peer
from testbed.config import Config, ConfigError


def device_id(index: int, count: int) -> str:
    """Name of a device: ``device-01``."""
    width = max(2, len(str(count)))
    return f"device-{index + 1:0{width}d}"


def load_split(config: Config) -> Split:
    """Public, private and test part of the configured data set."""
    data = config.data
    return datasets.split(
        datasets.load_digits(),
        kind=data.split,
        public_fraction=data.public_fraction,
        test_fraction=data.test_fraction,
        seed=config.run.seed,
    )


def local_data(config: Config, split: Split) -> list[Dataset]:
    """The private part, divided among the devices."""
    parts = partition.dirichlet(
        split.private.labels,
        devices=config.fleet.devices,
        alpha=config.data.alpha,
        seed=config.run.seed,
        min_samples=config.data.min_samples,
    )
    return [
        split.private.subset(indices, f"{config.data.dataset}/{device_id(i, len(parts))}")
        for i, indices in enumerate(parts)
    ]


def check_data(config: Config) -> None:
    """Make sure that the data can be divided as configured, before anything is started.

    Raises:
        ConfigError: says why not, and which keys decide it.
    """
    try:
        local_data(config, load_split(config))
    except ValueError as error:
        raise ConfigError(
            f"the data cannot be divided as configured: {error}\n  Keys: fleet.devices, "
            "data.alpha, data.min_samples, data.public_fraction, data.test_fraction, run.seed"
        ) from error


def emulated_board(config: Config, index: int) -> EmulatedBoard:
    """The emulated board of a device."""
    declaration = boards.fleet(
        config.fleet.devices,
        config.run.seed,
        boards=config.fleet.boards,
        cycles_per_sample=config.fleet.reference_cycles_per_sample,
    )[index]
    make = PhysicalBoard if config.fleet.emulation == "physical" else EmulatedBoard
    return make(
        declaration,
        seed=config.run.seed,
        index=index,
        disturbance=Disturbance(profile_error=config.fleet.profile_error),
    )


def make_agent(
    peer: Peer,
    data: Dataset,
    hardware: Hardware,
    *,
    training_slot: threading.Lock | None = None,
    cache: Path | None = None,
) -> Agent:
    """The agent of a device; loads PyTorch.

    Args:
        peer: its connection.
        data: its local data.
        hardware: its board.
        training_slot: shared by agents that take turns.
        cache: folder for training graphs.
    """
    return Agent(
        peer,
        hardware,
        MixedData(data),
        Backends(data.classes, data.image_shape, cache=cache),
        training_slot=training_slot,
    )

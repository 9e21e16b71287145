"""Devices from a configuration: their boards and their agents."""

from __future__ import annotations

from pathlib import Path

from fimi.edge_agent.agent import Agent
from fimi.edge_agent.backends import Backends, Trainers
from fimi.edge_agent.data import MixedData
from fimi.edge_agent.turns import Turns
from fimi.energy.emulation import boards
from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.energy.hardware import Hardware
from fimi.learning.data.dataset import Dataset
from fimi.messaging.client import Peer
from fimi.testbed.configuration.scenario import network_of
from fimi.testbed.configuration.sections import Config


def cycles_per_sample(config: Config, data: Dataset) -> float:
    """CPU cycles to train on one sample on the reference board, configured or from the network.

    Args:
        config: of the federation.
        data: samples of the shape and classes that the network is for.

    Raises:
        ConfigError: a network of one's own, and no PyTorch here to count it.
        fimi.learning.networks.models.ModelError: the network cannot be had or does not fit the
        data.
    """
    configured = config.fleet.reference_cycles_per_sample
    return configured or network_of(config, data).cycles_per_sample()


def emulated_board(config: Config, index: int, data: Dataset) -> VirtualBoard:
    """The emulated board of a device.

    Args:
        config: of the federation.
        index: of the device.
        data: its samples; their shape and classes decide what training costs.
    """
    declaration = boards.fleet(
        config.fleet.devices,
        config.run.seed,
        boards=config.fleet.boards,
        cycles_per_sample=cycles_per_sample(config, data),
    )[index]
    make: type[VirtualBoard] = (
        PhysicalBoard if config.fleet.emulation == "physical" else EmulatedBoard
    )
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
    turns: Turns | None = None,
    trainers: Trainers | None = None,
    cache: Path | None = None,
) -> Agent:
    """The agent of a device; loads PyTorch.

    Args:
        peer: its connection.
        data: its local data.
        hardware: its board.
        turns: shared by agents of one process.
        trainers: shared by the same agents.
        cache: folder for training graphs.
    """
    return Agent(
        peer,
        hardware,
        MixedData(data),
        Backends(data.classes, data.image_shape, cache=cache, trainers=trainers),
        turns=turns,
    )

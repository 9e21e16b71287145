"""Emulated devices of a configuration, as the coordinator describes them to their agents."""

from __future__ import annotations

from fimi.edge_agent import boards
from fimi.energy.emulation.board import VirtualBoard
from fimi.learning.data.dataset import Dataset
from fimi.messaging.messages.orders import EmulatedDevice
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


def emulated_device(config: Config, index: int, cycles: float) -> EmulatedDevice:
    """What an invitation says of the board of a device that has none.

    Args:
        config: of the federation.
        index: of the device, from 0.
        cycles: those of :func:`cycles_per_sample`.
    """
    makes = config.fleet.boards
    return EmulatedDevice(
        board=makes[index % len(makes)],
        seed=config.run.seed,
        emulation=config.fleet.emulation,
        profile_error=config.fleet.profile_error,
        cycles_per_sample=cycles,
        radio=config.fleet.radio,
        meter=config.fleet.meter,
    )


def emulated_board(config: Config, index: int, data: Dataset) -> VirtualBoard:
    """The emulated board of a device.

    Args:
        config: of the federation.
        index: of the device.
        data: its samples; their shape and classes decide what training costs.
    """
    described = emulated_device(config, index, cycles_per_sample(config, data))
    return boards.emulated_board(described, index)

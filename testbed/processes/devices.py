"""Devices from a configuration: their names, their data, their boards.

Every process that needs to know who holds what derives it from the same configuration, so that a
device is the same whether it runs in a dry run or alone in its own process.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.edge_agent.agent import Agent
from fimi.edge_agent.backends import Backends, Trainers
from fimi.edge_agent.data import MixedData
from fimi.edge_agent.turns import Turns
from fimi.energy.emulation import boards
from fimi.energy.emulation.board import Disturbance, EmulatedBoard
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.energy.hardware import Hardware
from fimi.learning.data import dataset, partition_file, partition_schemes, registry
from fimi.learning.data.dataset import Dataset, DatasetError, Split
from fimi.learning.data.partition_summary import LabelSkew, summarise
from fimi.learning.networks import built_in_cost
from fimi.learning.networks import cost as network_cost
from fimi.messaging.client import Peer
from fimi.messaging.topics import device_id as device_id
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.sections import Config


def load_split(config: Config) -> Split:
    """Public, private and test part of the configured data set.

    Raises:
        DatasetError: its files are missing or unusable.
        ValueError: a part would be empty.
    """
    data = config.data
    collection = registry.load(data.dataset, data.options())
    kind = collection.split_kind if data.split == "auto" else data.split
    if kind == "writers" and not collection.writers:
        raise DatasetError(
            f'data.split is "writers", but data set {data.dataset!r} does not say who made which '
            'samples; set data.split to "random"'
        )
    seed = config.run.seed if data.split_seed < 0 else data.split_seed
    train, test = collection.train, collection.test
    if data.limit and test is not None:
        # of test samples of its own, the same share, one of each class at least
        share = min(1.0, data.limit / len(train))
        test = dataset.limited(test, max(test.classes, round(share * len(test))), seed=seed)
    return dataset.split(
        dataset.limited(train, data.limit, seed=seed),
        kind=kind,
        public_fraction=data.public_fraction,
        test_fraction=data.test_fraction,
        seed=seed,
        test=test,
    )


def local_data(config: Config, split: Split) -> list[Dataset]:
    """The private part, divided among the devices; see :func:`shares`."""
    parts = shares(config, split)
    return [share(config, split, parts, index) for index in range(len(parts))]


def share(config: Config, split: Split, parts: list[NDArray[np.intp]], index: int) -> Dataset:
    """The data of one device.

    Args:
        config: of the federation.
        split: of the data set.
        parts: from :func:`shares`.
        index: of the device.
    """
    name = f"{config.data.dataset}/{device_id(index, len(parts))}"
    return split.private.subset(parts[index], name)


def shares(config: Config, split: Split) -> list[NDArray[np.intp]]:
    """Which samples of the private part each device holds.

    Raises:
        DatasetError: a partition file that cannot be used.
        ValueError: it cannot be divided as configured.
    """
    data, devices = config.data, config.fleet.devices
    if data.partition == "file":
        return partition_file.read(
            Path(data.partition_file).expanduser(),
            split.private,
            devices=devices,
            min_samples=data.min_samples,
        )
    return partition_schemes.divide(
        data.partition,
        split.private.labels,
        partition_schemes.Dealing(
            devices=devices,
            seed=config.run.seed,
            min_samples=data.min_samples,
            alpha=data.alpha,
            shards=data.shards,
        ),
    )


def partition_digest(config: Config, split: Split) -> str:
    """SHA-256 over every device's samples, hexadecimal: equal only where all hold the same.

    Raises:
        DatasetError: a partition file that cannot be used.
        ValueError: the data cannot be divided as configured.
    """
    shares = "\n".join(share.digest() for share in local_data(config, split))
    return hashlib.sha256(shares.encode()).hexdigest()


class Division(Struct, frozen=True, kw_only=True):
    """What the configured data come to.

    Attributes:
        split: public, private and test part.
        skew: of the devices' shares of the private part.
    """

    split: Split
    skew: LabelSkew


def check_data(config: Config) -> Division:
    """Make sure that the data can be divided as configured, before anything is started.

    Raises:
        ConfigError: says why not, and which keys decide it.
    """
    try:
        split = load_split(config)
        held = local_data(config, split)
        dataset.check_classes(split)
        return Division(split=split, skew=summarise([each.label_counts() for each in held]))
    except DatasetError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(
            f"the data cannot be divided as configured: {error}\n  Keys: fleet.devices, "
            "data.alpha, data.partition, data.shards, data.min_samples, data.public_fraction, "
            "data.test_fraction, run.seed"
        ) from error


def check_network(config: Config, data: Dataset) -> str:
    """Make the configured network, import it if it is one's own, and say what it costs.

    Args:
        config: of the federation.
        data: samples that it is for.

    Returns:
        One line: parameters, bytes, multiply-accumulates, cycles.

    Raises:
        ConfigError: a network of one's own, and no PyTorch here to make it.
        fimi.learning.networks.models.ModelError: it cannot be had or does not fit the data.
    """
    model = config.training.model
    try:
        cost = network_cost.model_cost(model, data.classes, data.image_shape)
    except ImportError as error:
        raise ConfigError(
            f"training.model {model!r} cannot be tried without PyTorch, which is not here ({error})"
        ) from error
    return (
        f"{model}: {cost.parameters:,} parameters, {cost.size_bytes:,} bytes a model, "
        f"{cost.forward_macs / 1e6:.3g} million multiply-accumulates an inference, "
        f"{cost.training_macs / 1e6:.3g} million a training sample "
        f"({cost.cycles_per_sample():.2g} cycles on the reference board)"
    )


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
    if config.fleet.reference_cycles_per_sample:
        return config.fleet.reference_cycles_per_sample
    try:
        cost = network_cost.model_cost(config.training.model, data.classes, data.image_shape)
    except ImportError as error:
        raise ConfigError(
            f"training.model {config.training.model!r} is counted with PyTorch, which is not "
            f"here ({error}); set fleet.reference_cycles_per_sample"
        ) from error
    return cost.cycles_per_sample()


def with_cycles(config: Config) -> Config:
    """The configuration with the cycles per sample in it that only PyTorch can count.

    So that processes of emulated devices need neither PyTorch nor the module of one's own network.

    Raises:
        fimi.learning.networks.models.ModelError: the network cannot be had or does not fit the
        data.
    """
    if config.fleet.reference_cycles_per_sample or config.training.model in built_in_cost.BUILT_IN:
        return config
    cycles = cycles_per_sample(config, load_split(config).test)
    return replace(config, fleet=replace(config.fleet, reference_cycles_per_sample=cycles))


def emulated_board(config: Config, index: int, data: Dataset) -> EmulatedBoard:
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

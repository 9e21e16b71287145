"""A configuration with all that is computed from it.

* :class:`Scenario`        configuration, division of the data, contract, network cost, digests
* :func:`split_of`         images in four parts, as configured
* :func:`check_division`   whether images can be divided as configured
* :func:`network_of`       what the configured network costs

Every process that needs to know who holds what derives it from the same configuration, so that a
device is the same whether it runs in a dry run or alone in its own process. It does so once: a
scenario keeps what it has found out, and is handed on as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.learning.data import (
    dataset,
    leak,
    partition_file,
    partition_schemes,
    registry,
    shares,
)
from fimi.learning.data.collection import Collection
from fimi.learning.data.contract import Contract, Way
from fimi.learning.data.dataset import Dataset, DatasetError, Split
from fimi.learning.data.partition_summary import LabelSkew, label_counts, summarise
from fimi.learning.networks.built_in_cost import ModelCost
from fimi.learning.networks.cost import model_cost
from fimi.messaging.topics import device_id
from fimi.testbed.configuration.sections import Config, ConfigError

if TYPE_CHECKING:
    from fimi.optim.known_curve import CurveSubject
    from fimi.record.record import DatasetInfo


class Scenario(Struct, frozen=True, kw_only=True, dict=True):
    """A configuration with all that is computed from it, on first use, and then kept.

    A process that goes on without the data drops the scenario.

    Attributes:
        config: the values.
        origins: dotted key to ``"default"``, the file's name, or the command-line option; empty
            where the configuration came from another process.
    """

    config: Config
    origins: dict[str, str] = {}

    @property
    def split(self) -> Split:
        """Public, private and test part of the configured data set.

        Raises:
            DatasetError: its files are missing or unusable.
            ConfigError: a part would be empty.
        """
        return self._loaded.split

    @cached_property
    def _loaded(self) -> _Loaded:
        data = self.config.data
        collection = registry.load(data.dataset, data.options())
        return _Loaded(
            split=split_of(self.config, collection),
            samples=len(collection.train),
            samples_digest=collection.train.digest(),
            has_test=collection.test is not None,
        )

    @cached_property
    def parts(self) -> list[NDArray[np.intp]]:
        """Which samples of the private part each device holds.

        Raises:
            DatasetError: a partition file that cannot be used.
            ConfigError: the private part cannot be divided as configured.
        """
        return parts_of(self.config, self.split.private)

    def way(self, *, one_machine: bool) -> Way:
        """How devices get their samples.

        Args:
            one_machine: whether they are emulated, where the coordinator is, in a dry run.

        Raises:
            ConfigError: emulated devices have no images of their own.
        """
        data = self.config.data
        if data.shares == "file" and one_machine:
            raise ConfigError(
                'data.shares = "file": emulated devices have no images of their own; leave it out '
                "in a dry run"
            )
        if data.shares != "auto":
            return data.shares
        return "indices" if one_machine or data.dataset in registry.NEEDS_NO_FILES else "shipped"

    @property
    def own_images(self) -> bool:
        """Whether devices bring images of their own, so that the coordinator divides nothing."""
        return self.config.data.shares == "file"

    @cached_property
    def contract(self) -> Contract:
        """What the data of the run are.

        Raises:
            DatasetError: as :attr:`split` and :attr:`parts`.
            ConfigError: as :attr:`split` and :attr:`parts`.
        """
        if self.own_images:
            return replace(self.undivided, overlap_max=self.config.data.overlap_max)
        private = self.split.private
        held = [_origin_of(private)[part] for part in self.parts]
        return replace(
            self.undivided,
            partition_digest=shares.partition_digest(held),
            overlap_max=leak.natural(self.split, self.parts),
        )

    @property
    def undivided(self) -> Contract:
        """The contract without a division of the private part: what a generator node knows of it.

        Raises:
            DatasetError: as :attr:`split`.
            ConfigError: as :attr:`split`.
        """
        data, loaded = self.config.data, self._loaded
        split, test = loaded.split, loaded.split.test
        return Contract(
            dataset=data.dataset,
            image_size=data.image_size,
            image_mode=data.image_mode,
            limit=data.limit,
            class_names=test.class_names,
            image_shape=test.image_shape,
            samples=loaded.samples,
            samples_digest=loaded.samples_digest,
            split=split.kind,
            split_seed=split_seed_of(self.config),
            public_fraction=data.public_fraction,
            validation_fraction=data.validation_fraction,
            test_fraction=None if loaded.has_test else data.test_fraction,
            seed=self.config.run.seed,
            devices=self.config.fleet.devices,
            partition=data.partition,
            alpha=data.alpha if data.partition in partition_schemes.NEEDS_ALPHA else None,
            shards=data.shards if data.partition == "shards" else None,
            min_samples=data.min_samples,
            partition_digest=None,
            public_digest=split.public.digest(),
            validation_digest=split.validation.digest(),
            test_digest=test.digest(),
            overlap_max=0.0,
        )

    def payload(self, index: int, way: Way) -> bytes | None:
        """What the coordinator sends a device, from 0, so that it has its samples.

        Args:
            index: of the device.
            way: how devices get their samples.

        Returns:
            Bytes of :mod:`fimi.learning.data.shares`; ``None`` where devices bring their own.
        """
        if way == "file":
            return None
        if way == "shipped":
            return shares.encode_samples(self.share(index), self.contract)
        held = _origin_of(self.split.private)[self.parts[index]]
        return shares.encode_indices(held, self.contract)

    def share(self, index: int) -> Dataset:
        """The samples of a device, from 0, copied from the private part."""
        name = f"{self.config.data.dataset}/{device_id(index, len(self.parts))}"
        return self.split.private.subset(self.parts[index], name)

    @property
    def shares(self) -> Iterator[Dataset]:
        """The samples of every device, one after another."""
        return map(self.share, range(len(self.parts)))

    @cached_property
    def skew(self) -> LabelSkew:
        """How uneven the devices' labels are."""
        private = self.split.private
        return summarise(label_counts(private.labels, self.parts, private.classes))

    @cached_property
    def dataset(self) -> DatasetInfo:
        """What is learned from, for the record of a run; by its digests runs compare."""
        from fimi.record.record import OWN_IMAGES, DatasetInfo

        data, split, own = self.config.data, self.split, self.own_images
        devices = "\n".join(share.digest() for share in self.shares) if not own else ""
        skewed = data.partition in partition_schemes.LABEL_DIRICHLET and not own
        return DatasetInfo(
            name=data.dataset,
            limit=data.limit or None,
            split=split.kind,
            partition=OWN_IMAGES if own else data.partition,
            alpha=data.alpha if skewed else None,
            public=len(split.public),
            validation=len(split.validation),
            private=None if own else len(split.private),
            test=len(split.test),
            class_names=split.test.class_names,
            public_digest=split.public.digest(),
            validation_digest=split.validation.digest(),
            private_digest="" if own else split.private.digest(),
            test_digest=split.test.digest(),
            partition_digest="" if own else hashlib.sha256(devices.encode()).hexdigest(),
        )

    @property
    def subject(self) -> CurveSubject:
        """What is learned, and how: what the run's learning curve must have been measured on.

        Raises:
            DatasetError: as :attr:`split`.
            ConfigError: as :attr:`split`.
        """
        from fimi.coordinator.curves import subject_of

        return subject_of(
            self.config.data.dataset,
            self._loaded.samples_digest,
            self.split.public,
            self.config.training,
        )

    @cached_property
    def network(self) -> ModelCost:
        """What the configured network costs; one of the user's own is made for it.

        Raises:
            ConfigError: a network of one's own, and no PyTorch here to make it.
            fimi.learning.networks.models.ModelError: it cannot be had or does not fit the data.
        """
        return network_of(self.config, self.split.test)

    def check(self) -> None:
        """Make sure that the data can be divided as configured, before anything is started.

        Raises:
            ConfigError: says why not, and which keys decide it.
            DatasetError: the data set is missing or unusable, or a part of it lacks a class.
        """
        if self.own_images:
            dataset.check_classes(replace(self.split, private=self.split.test))  # is not used
            return
        _ = self.parts
        dataset.check_classes(self.split)


def check_division(config: Config, collection: Collection) -> None:
    """What :meth:`Scenario.check` makes sure of, for images that are loaded already.

    Raises:
        ConfigError: they cannot be divided as configured.
        DatasetError: a part of them lacks a class, or a partition file cannot be used.
    """
    split = split_of(config, collection)
    parts_of(config, split.private)
    dataset.check_classes(split)


def split_of(config: Config, collection: Collection) -> Split:
    """Public, private and test part of a collection of images.

    Raises:
        DatasetError: it cannot be told who made which samples, as configured.
        ConfigError: a part would be empty.
    """
    data = config.data
    kind = collection.split_kind if data.split == "auto" else data.split
    if kind == "writers" and not collection.writers:
        raise DatasetError(
            f'data.split is "writers", but data set {data.dataset!r} does not say who made which '
            'samples; set data.split to "random"'
        )
    seed = split_seed_of(config)
    train, test = collection.train, collection.test
    with _division():
        if data.limit and test is not None:
            # of test samples of its own, the same share, one of each class at least
            share = min(1.0, data.limit / len(train))
            test = dataset.limited(test, max(test.classes, round(share * len(test))), seed=seed)
        return dataset.split(
            # for each of the parts that are drawn from them, one of each class
            dataset.limited(train, data.limit, seed=seed, least=3 if test is None else 2),
            kind=kind,
            public_fraction=data.public_fraction,
            validation_fraction=data.validation_fraction,
            test_fraction=data.test_fraction,
            seed=seed,
            test=test,
        )


def split_seed_of(config: Config) -> int:
    """Seed of the division into public, private and test part."""
    return config.run.seed if config.data.split_seed < 0 else config.data.split_seed


def network_of(config: Config, data: Dataset) -> ModelCost:
    """What the configured network costs on images like these.

    Args:
        config: names the network.
        data: images of the shape and classes that it is for.

    Raises:
        ConfigError: a network of one's own, and no PyTorch here to make it.
        fimi.learning.networks.models.ModelError: it cannot be had or does not fit the data.
    """
    model = config.training.model
    try:
        return model_cost(model, data.classes, data.image_shape)
    except ImportError as error:
        raise ConfigError(
            f"training.model {model!r} is counted with PyTorch, which is not here ({error}); set "
            "fleet.reference_cycles_per_sample to do without",
            code="U007",
        ) from error


class _Loaded(Struct, frozen=True, kw_only=True):
    """What is kept of a loaded data set; has_test: whether it has test samples of its own."""

    split: Split
    samples: int
    samples_digest: str
    has_test: bool


def _origin_of(private: Dataset) -> NDArray[np.intp]:
    """Which samples of the loaded data set the private ones are."""
    assert private.origin is not None  # split took them from it
    return private.origin


def parts_of(config: Config, private: Dataset) -> list[NDArray[np.intp]]:
    """Which samples of a part each device holds, as the configuration divides it.

    Raises:
        ConfigError: it cannot be divided so.
        DatasetError: a partition file that cannot be used.
    """
    data, devices = config.data, config.fleet.devices
    with _division():
        if data.partition == "file":
            return partition_file.read(
                Path(data.partition_file).expanduser(),
                private,
                devices=devices,
                min_samples=data.min_samples,
            )
        return partition_schemes.divide(
            data.partition,
            private.labels,
            partition_schemes.Dealing(
                devices=devices,
                seed=config.run.seed,
                min_samples=data.min_samples,
                alpha=data.alpha,
                shards=data.shards,
            ),
        )


@contextmanager
def _division() -> Iterator[None]:
    """A division that is impossible names the keys that decide it."""
    try:
        yield
    except DatasetError:
        raise
    except ValueError as error:
        raise ConfigError(
            f"the data cannot be divided as configured: {error}\n  Keys: fleet.devices, "
            "data.alpha, data.partition, data.shards, data.min_samples, data.public_fraction, "
            "data.validation_fraction, data.test_fraction, run.seed",
            code="C005",
        ) from error

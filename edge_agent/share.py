"""The device's share of a run's data: taken as the invitation says, checked against the contract.

* :func:`take`    the samples: by indices, from a file of the device's own, or as they were shipped
* :class:`Shelf`  data sets that the agents of one process load once

A share is taken once for a run, and the images are in memory from then on. A folder that changes
later changes nothing; one that changed before is refused, because its digest is another one.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from msgspec import Struct

from fimi.learning.data import contract as contracts
from fimi.learning.data import data_file, registry, shares
from fimi.learning.data.batches import MAX_BYTES
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.contract import Contract, Way
from fimi.learning.data.dataset import Dataset, DatasetError
from fimi.learning.data.folder import read_classes
from fimi.learning.data.registry import NEEDS_NO_FILES


class Shelf:
    """Loaded data sets, from which the agents of one process take their shares.

    A data set is loaded by the first who asks and dropped when as many have asked as there are
    agents, or at :meth:`clear`. Whoever asks later loads it again.

    Args:
        agents: number of agents of the process.
    """

    def __init__(self, agents: int = 1) -> None:
        self._agents = agents
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, DatasetOptions], _Loaded] = {}

    def samples(self, name: str, options: DatasetOptions) -> Dataset:
        """All training samples of a data set, with their digest known.

        Raises:
            DatasetError: they are missing or unusable.
        """
        with self._lock:  # whoever comes while it is loaded waits for it
            before = self._loaded.get((name, options))
            dataset = registry.load(name, options).train if before is None else before.dataset
            dataset.digest()
            asked = 1 if before is None else before.asked + 1
            if asked < self._agents:
                self._loaded[name, options] = _Loaded(dataset=dataset, asked=asked)
            else:
                self._loaded.pop((name, options), None)
            return dataset

    def clear(self) -> None:
        """Drop all data sets; call it when the rounds begin, so that none is kept for nobody."""
        with self._lock:
            self._loaded.clear()


class _Loaded(Struct, frozen=True, kw_only=True):
    dataset: Dataset
    asked: int


def take(
    contract: Contract,
    way: Way,
    payload: bytes | None,
    place: Path | None,
    *,
    device: str,
    shelf: Shelf | None = None,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """The samples of this device in a run.

    Args:
        contract: of the run.
        way: how the device gets them.
        payload: indices or samples, as the coordinator sends them; ``None`` for ``"file"``.
        place: where data lie on this device (``--data``): for ``"indices"`` the folder with the
            files of the data set, which the digits do not need; for ``"file"`` a data file, or a
            folder with one folder of images for each class.
        device: id of the device, for the name of the result.
        shelf: shared by the agents of a process.
        max_bytes: largest size of shipped samples, uncompressed.

    Raises:
        ContractError: the data here are others than those of the run; names the keys that differ.
        DatasetError: they are missing, damaged or unusable.
    """
    name = f"{contract.dataset}/{device}"
    if way == "file":
        return _own(contract, place, name)
    if payload is None:
        raise DatasetError(f"the invitation of {device} names no share to fetch ({way})")
    if way == "shipped":
        return shares.decode_samples(payload, contract, name, max_bytes=max_bytes)
    indices = shares.decode_indices(payload, contract)
    return _all_samples(contract, place, shelf or Shelf()).subset(indices, name)


def _all_samples(contract: Contract, place: Path | None, shelf: Shelf) -> Dataset:
    """The training samples that indices count; they are those of the contract."""
    dataset = contract.dataset
    if place is None and dataset in registry.DATASETS and dataset not in NEEDS_NO_FILES:
        raise DatasetError(
            f"the run takes indices into data set {dataset!r}, and its files are not on this "
            "device: start the agent with --data FOLDER that holds them, or set data.shares to "
            '"shipped" for the run'
        )
    options = DatasetOptions(
        root="" if place is None or dataset in NEEDS_NO_FILES else str(place),
        image_size=contract.image_size,
        image_mode=contract.image_mode,
    )
    found = shelf.samples(dataset, options)
    where = f" under {place}" if options.root else ""
    contracts.require(
        contracts.of_dataset(found, contract, whole=True),
        f"data set {dataset!r}{where} on this device",
        "copy the coordinator's files to this device (scaling by another version of Pillow also "
        'changes images), or set data.shares to "shipped" for the run',
    )
    return found


def _own(contract: Contract, place: Path | None, name: str) -> Dataset:
    """The device's private images."""
    if place is None:
        raise DatasetError(
            "the run takes images of the device's own: start the agent with --data FILE.npz, or "
            "with --data FOLDER that holds a folder of images for each class"
        )
    if place.is_dir():
        options = DatasetOptions(image_size=contract.image_size, image_mode=contract.image_mode)
        found, written = read_classes(place, options, contract.class_names), None
    else:
        try:
            file = data_file.load(place)
        except OSError as error:
            raise DatasetError(f"--data {place}: {error.strerror}") from error
        found, written = file.dataset, file.contract
    if written is not None:
        contracts.require(
            contracts.differences(written, contract, contracts.OF_FILE),
            f"data file {place}",
            "write it again with 'fimi agent data' and the configuration of the run",
        )
    contracts.require(
        contracts.of_dataset(found, contract, whole=False),
        f"{place} on this device",
        "set data.image_size and data.image_mode for the run so that all images become alike, and "
        "name the classes as the coordinator does",
    )
    return Dataset(
        name=name,
        images=np.ascontiguousarray(found.images),
        labels=found.labels,
        class_names=contract.class_names,
    )

"""Labelled images as a file, with the contract under which they were written.

``fimi agent data`` writes such a file for a device; it is read without any package but NumPy. A
file of a person's own, with ``images``, ``labels``, ``class_names`` and ``name`` as NumPy's
``savez`` writes them, has no contract. As the data set ``data-file`` it is all samples of a run.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from msgspec import Struct

from fimi.files import whole_file
from fimi.learning.data import contract as contracts
from fimi.learning.data.collection import Collection, DatasetOptions
from fimi.learning.data.contract import Contract
from fimi.learning.data.dataset import Dataset, DatasetError, validate


class DataFileError(DatasetError):
    """A data file cannot be used; the message says which and why."""

    code = "D002"


class DataFile(Struct, frozen=True, kw_only=True):
    """What a data file holds.

    Attributes:
        dataset: the images.
        contract: under which they were written; ``None``: the file names none.
    """

    dataset: Dataset
    contract: Contract | None


def save(dataset: Dataset, path: Path, contract: Contract | None = None) -> None:
    """Write labelled images to a file that :func:`load` reads."""
    with whole_file(path) as file:
        np.savez_compressed(
            file,
            name=np.array(dataset.name),
            images=dataset.images,
            labels=dataset.labels,
            class_names=np.array(dataset.class_names),
            contract=np.array(contract.json() if contract else ""),
        )


def load(path: Path) -> DataFile:
    """The content of a data file.

    Raises:
        DataFileError: it is damaged, or does not hold labelled images.
        ContractError: its contract is of another version of the conversation.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            dataset = Dataset(
                name=str(file["name"]),
                images=file["images"],
                labels=file["labels"],
                class_names=tuple(str(name) for name in file["class_names"]),
            )
            written = str(file["contract"]) if "contract" in file else ""
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataFileError(
            f"{path}: not a data file ({error}); 'fimi agent data' writes one"
        ) from error
    try:
        validate(dataset, str(path))
    except DatasetError as error:
        raise DataFileError(str(error)) from error
    contract = contracts.read(written, f"data file {path}") if written else None
    return DataFile(dataset=dataset, contract=contract)


def data_set(options: DatasetOptions) -> Collection:
    """The data file that ``data.root`` names, as a data set without a test part of its own.

    Raises:
        DatasetError: it is missing or unusable.
    """
    if not options.root:
        raise DatasetError("data set 'data-file' is one file: set data.root to the file")
    path = Path(options.root).expanduser()
    try:
        return Collection(train=load(path).dataset)
    except OSError as error:
        raise DatasetError(
            f"data.root: {path}: {error.strerror}; it must hold labelled images as a data file"
        ) from error

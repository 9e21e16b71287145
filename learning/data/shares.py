"""A device's share as bytes: what the coordinator sends, and what the device reads from it.

* :func:`encode_indices`, :func:`decode_indices`   which samples of a data set that lies on the
  device
* :func:`encode_samples`, :func:`decode_samples`   the samples themselves, coded as a batch
* :func:`partition_digest`                         who holds which samples, as a digest

Indices count the samples of the loaded data set, before limit and split, so a device needs neither.
They travel as steps from one to the next, which are small and compress well. Received bytes are not
trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fimi.learning.data import batches
from fimi.learning.data.contract import Contract, require_same
from fimi.learning.data.dataset import Dataset, DatasetError
from fimi.learning.data.packing import pack, unpack

INDICES_MEDIA = "share-indices"
"""Name of the bytes of indices in an offer."""
SAMPLES_MEDIA = "share-samples"
"""Name of the bytes of samples in an offer."""

_MAX_BYTES = 1 << 28  # of indices: 67 million of them
_NOTE_BYTES = 4096
_CONTRACT = "contract"


def encode_indices(indices: NDArray[np.intp], contract: Contract) -> bytes:
    """Indices into the loaded data set, ascending, none twice, as bytes.

    Raises:
        ValueError: they are not ascending, or outside the data set.
    """
    if wrong := _wrong(indices, contract.samples):
        raise ValueError(f"share of a device: {wrong}")
    steps = np.diff(indices, prepend=-1).astype(np.uint32)
    return pack({"steps": steps}, {_CONTRACT: contract.digest})


def decode_indices(data: bytes, contract: Contract) -> NDArray[np.intp]:
    """Indices from bytes of :func:`encode_indices`.

    Raises:
        DatasetError: they are damaged, were made under another contract, or the data set has no
            such samples.
    """
    max_bytes = min(_MAX_BYTES, 4 * contract.samples + _NOTE_BYTES)
    arrays, note = unpack(data, max_bytes=max_bytes, what="share", problem=DatasetError)
    require_same(note.get(_CONTRACT, ""), contract, "share")
    steps = arrays.get("steps")
    if steps is None or len(arrays) > 1 or steps.dtype != np.uint32 or steps.ndim != 1:
        raise DatasetError(
            f"share holds arrays {sorted(arrays)}; it must hold steps alone, uint32 (N,)"
        )
    indices = np.cumsum(steps, dtype=np.int64) - 1
    if wrong := _wrong(indices, contract.samples):
        raise DatasetError(f"share of this device: {wrong}")
    return indices.astype(np.intp)


def encode_samples(share: Dataset, contract: Contract) -> bytes:
    """The samples of a device as bytes."""
    return batches.encode(share.images, share.labels, contract=contract.digest)


def decode_samples(
    data: bytes, contract: Contract, name: str, *, max_bytes: int = batches.MAX_BYTES
) -> Dataset:
    """A device's samples from bytes of :func:`encode_samples`.

    Args:
        data: the bytes.
        contract: of the run.
        name: of the result.
        max_bytes: largest size, uncompressed.

    Raises:
        DatasetError: they are damaged, were made under another contract, or are none.
    """
    try:
        batch = batches.decode(
            data,
            classes=len(contract.class_names),
            image_shape=contract.image_shape,
            contract=contract.digest,
            samples=contract.samples,
            max_bytes=max_bytes,
        )
    except batches.BatchError as error:
        raise DatasetError(f"share of this device: {error}") from error
    if not len(batch.labels):
        raise DatasetError("share of this device: no samples")
    return Dataset(
        name=name, images=batch.images, labels=batch.labels, class_names=contract.class_names
    )


def partition_digest(parts: Iterable[NDArray[np.intp]]) -> str:
    """SHA-256 over the lists of indices of all devices, in their order, hexadecimal."""
    hasher = hashlib.sha256()
    for indices in parts:
        hasher.update(len(indices).to_bytes(8, "little"))
        hasher.update(np.ascontiguousarray(indices, "<i8").data)
    return hasher.hexdigest()


def _wrong(indices: NDArray[np.intp], samples: int) -> str:
    """What is wrong with indices; empty if nothing is."""
    if not len(indices):
        return "no samples"
    if (np.diff(indices) < 1).any():
        return "indices must ascend, and none may stand twice"
    if indices[0] < 0 or indices[-1] >= samples:
        wrong = indices[0] if indices[0] < 0 else indices[-1]
        return f"there is no sample {wrong}; the data set has samples 0 to {samples - 1}"
    return ""

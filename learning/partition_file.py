"""A partition as a JSON file: which device holds which samples of the private part.

``{"digest": "…", "devices": [[0, 5, 9], [1, 2]]}``: indices into the private part, in the order of
the devices. ``digest`` names the private part that they mean (:meth:`Dataset.digest`) and may be
left out of a file written by hand. Samples in no list are left out of the federation.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from learning.datasets import Dataset, DatasetError
from learning.partition_schemes import Parts


class _File(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    devices: list[list[int]]
    digest: str = ""


def write(path: Path, parts: Parts, private: Dataset) -> None:
    """Write a partition of ``private``."""
    content = _File(devices=[indices.tolist() for indices in parts], digest=private.digest())
    path.write_bytes(msgspec.json.encode(content))


def read(path: Path, private: Dataset, *, devices: int, min_samples: int = 0) -> Parts:
    """A partition from a file.

    Args:
        path: of the file.
        private: the samples it divides.
        devices: how many lists there must be.
        min_samples: fewest samples that a device may hold.

    Returns:
        One ascending array of indices per device.

    Raises:
        DatasetError: the file is missing or no partition, is one of other data, gives a sample
            twice or one that does not exist, or leaves a device with too little.
    """
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise DatasetError(f"partition {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DatasetError(
            f'partition {path}: {error}; it must be JSON, {{"devices": [[0, 5], [1, 2]]}}'
        ) from error
    if content.digest and content.digest != private.digest():
        raise DatasetError(
            f"partition {path} divides other data (digest {content.digest[:16]}…) than the "
            f"private part ({private.digest()[:16]}…): data set, split or seed differ"
        )
    if len(content.devices) != devices:
        raise DatasetError(f"partition {path} has {len(content.devices)} devices, not {devices}")
    owner: dict[int, int] = {}
    for device, indices in enumerate(content.devices):
        if len(indices) < min_samples:
            raise DatasetError(
                f"partition {path}: device {device} holds {len(indices)} samples, fewer than "
                f"data.min_samples {min_samples}"
            )
        for index in indices:
            if not 0 <= index < len(private):
                raise DatasetError(
                    f"partition {path}: device {device} holds sample {index}; there are 0 to "
                    f"{len(private) - 1}"
                )
            if index in owner:
                raise DatasetError(
                    f"partition {path}: sample {index} is with device {owner[index]} and with "
                    f"device {device}"
                )
            owner[index] = device
    return [np.sort(np.array(indices, np.intp)) for indices in content.devices]

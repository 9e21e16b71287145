"""A partition as a JSON file: which device holds which samples of the private part.

``{"digest": "…", "devices": [[0, 5, 9], [1, 2]]}``: indices into the private part, in the order of
the devices. ``digest`` names this private part (:meth:`Dataset.digest`); a file that is written by
hand may leave it out. Samples in no list are not used.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from fimi.files import write_whole
from fimi.learning.data.dataset import Dataset, DatasetError
from fimi.learning.data.partition_schemes import Parts
from fimi.plural import plural


class _File(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    devices: list[list[int]]
    digest: str = ""


def write(path: Path, parts: Parts, private: Dataset) -> None:
    """Write a partition of ``private``."""
    content = _File(devices=[indices.tolist() for indices in parts], digest=private.digest())
    write_whole(path, msgspec.json.encode(content))


def read(path: Path, private: Dataset, *, devices: int, min_samples: int = 0) -> Parts:
    """A partition of ``private`` from a file: one ascending array of indices per device.

    Raises:
        DatasetError: the file is missing or is not a partition, belongs to other data, has a sample
            twice or one that does not exist, or gives a device too few.
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
    if (lists := len(content.devices)) != devices:
        raise DatasetError(
            f"partition {path}: there are {devices} devices, and devices has "
            f"{plural(lists, 'list')}; give one for each, or set fleet.devices to {lists}"
        )
    owner: dict[int, int] = {}
    for device, indices in enumerate(content.devices):
        if len(indices) < min_samples:
            raise DatasetError(
                f"partition {path}: devices[{device}] holds {len(indices)} samples, fewer than "
                f"data.min_samples {min_samples}; give it more, or lower data.min_samples"
            )
        for index in indices:
            if not 0 <= index < len(private):
                raise DatasetError(
                    f"partition {path}: devices[{device}] holds sample {index}; there are 0 to "
                    f"{len(private) - 1}, the private part's"
                )
            if index in owner:
                raise DatasetError(
                    f"partition {path}: sample {index} is in devices[{owner[index]}] and in "
                    f"devices[{device}]; it can be with one only"
                )
            owner[index] = device
    return [np.sort(np.array(indices, np.intp)) for indices in content.devices]

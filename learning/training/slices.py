"""Models that are read slice by slice, so that many of them take little memory together.

* :class:`Slices`        what can be read in slices
* :class:`HeldModel`     parameters that are in memory
* :class:`StoredModel`   parameters in safetensors bytes or in such a file, checked before they are
  read
* :func:`spans`         the slices of a tensor
* :func:`change`        how far an update is from its model

A slice is a run of numbers of one tensor, in C order. The header of a stored model is compared with
the model that it is an update of, before anything of its size is taken: names, shapes, types, and
that the tensors fill the rest of the bytes exactly.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.learning.training.tensors import Parameters, UpdateRefusedError, check_names

SLICE = 1 << 16
"""Numbers of a tensor that are read at once: 256 KiB in single precision. Norms are sums over
slices of this size, so that it is a part of what makes numbers repeat."""

_PREFIX = struct.Struct("<Q")
"""The length of a safetensors header stands before it, 8 bytes."""
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32"}
"""Their names in messages, where safetensors has names of its own."""


class Slices(Protocol):
    """A model that can be read slice by slice."""

    def read(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Numbers ``start`` to ``stop`` of a tensor, (stop − start,)."""


class HeldModel:
    """A model in memory."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters

    def read(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """See :class:`Slices`."""
        return self._parameters[name].reshape(-1)[start:stop]


def spans(count: int, size: int = SLICE) -> Iterator[tuple[int, int]]:
    """Start and stop of each slice of ``count`` numbers; none of no numbers."""
    return ((start, min(start + size, count)) for start in range(0, count, size))


def change(model: Slices, like: Parameters) -> float:
    """‖ω_k − ω‖, the L2 norm of all changes of an update, in double precision.

    Args:
        model: ω_k, with the names and shapes of ω.
        like: ω, the model that it is an update of.

    Raises:
        UpdateRefusedError: a number of it is not finite.
    """
    squares = []
    base = HeldModel(like)
    for name, tensor in like.items():
        bad = 0
        for start, stop in spans(tensor.size):
            update = model.read(name, start, stop)
            bad += update.size - int(np.isfinite(update).sum())
            if not bad:
                moved = np.subtract(update, base.read(name, start, stop), dtype=np.float64)
                squares.append(float(np.square(moved).sum()))
        if bad:
            raise UpdateRefusedError(f"tensor {name!r} holds {bad} values that are not finite")
    return math.sqrt(math.fsum(squares))


class _Entry(Struct, frozen=True):
    """A tensor in a safetensors header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class StoredModel:
    """An update in safetensors bytes or in a file.

    Args:
        data: the bytes, or the path of a file with them that nobody changes.
        like: the model that it is an update of.

    Raises:
        UpdateRefusedError: it is not safetensors, or a tensor is missing, unknown, or of another
            shape or type.
        OSError: the file cannot be read.
    """

    def __init__(self, data: bytes | Path, like: Parameters) -> None:
        self._data = data
        size_bytes = data.stat().st_size if isinstance(data, Path) else len(data)
        self._shapes = {name: tensor.shape for name, tensor in like.items()}
        if size_bytes < _PREFIX.size:
            raise UpdateRefusedError(f"update is not safetensors: it has {size_bytes} bytes")
        (length,) = _PREFIX.unpack(self._bytes(0, _PREFIX.size))
        longest = 4096 + sum(512 + 8 * len(name.encode()) for name in like)
        begin = _PREFIX.size + length
        if begin > size_bytes:
            raise UpdateRefusedError(
                f"update is not safetensors: its header would have {length} bytes, and all of it "
                f"has {size_bytes}"
            )
        if length > longest:
            raise UpdateRefusedError(
                f"update has a header of {length} bytes, more than {longest} for this model"
            )
        header = _entries(self._bytes(_PREFIX.size, begin))
        _compare(header, like, size_bytes - begin)
        self._at = {name: begin + entry.data_offsets[0] for name, entry in header.items()}

    def read(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """See :class:`Slices`.

        Raises:
            OSError: the file cannot be read, or has become shorter.
        """
        at = self._at[name]
        found = np.frombuffer(self._bytes(at + 4 * start, at + 4 * stop), "<f4")
        return found.astype(np.float32, copy=False)

    def load(self) -> dict[str, NDArray[np.float32]]:
        """All of it, tensor by tensor."""
        return {
            name: self.read(name, 0, math.prod(shape)).reshape(shape)
            for name, shape in self._shapes.items()
        }

    def change(self, like: Parameters) -> float:
        """:func:`change` of this update."""
        return change(self, like)

    def _bytes(self, start: int, stop: int) -> memoryview | bytes:
        if isinstance(self._data, bytes):
            return memoryview(self._data)[start:stop]
        file = os.open(self._data, os.O_RDONLY)
        try:
            found = os.pread(file, stop - start, start)
        finally:
            os.close(file)
        if len(found) < stop - start:
            raise OSError(f"{self._data} ends at byte {start + len(found)}, before {stop}")
        return found


def _entries(header: memoryview | bytes) -> dict[str, _Entry]:
    """The tensors of a header by name.

    Raises:
        UpdateRefusedError: it is no safetensors header.
    """
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        return {name: msgspec.json.decode(each, type=_Entry) for name, each in raw.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateRefusedError(f"update is not safetensors: {error}") from error


def _compare(header: dict[str, _Entry], like: Parameters, data_bytes: int) -> None:
    """Compare a header with a model and with the number of bytes after it.

    Raises:
        UpdateRefusedError: they do not fit.
    """
    check_names(header, like)
    for name, reference in like.items():
        entry = header[name]
        if entry.shape != reference.shape:
            raise UpdateRefusedError(
                f"tensor {name!r} has shape {entry.shape}, the model's is {reference.shape}"
            )
        if entry.dtype != "F32":
            kind = _TYPES.get(entry.dtype, entry.dtype)
            raise UpdateRefusedError(f"tensor {name!r} is {kind}, the model's is float32")
    at = 0
    for name, entry in sorted(header.items(), key=lambda each: each[1].data_offsets):
        start, stop = entry.data_offsets
        if (start, stop) != (at, at + 4 * like[name].size):
            raise UpdateRefusedError(
                f"update is not safetensors: tensor {name!r} is said to lie at bytes {start} to "
                f"{stop}, where {at} to {at + 4 * like[name].size} are its place"
            )
        at = stop
    if at != data_bytes:
        raise UpdateRefusedError(
            f"update is not safetensors: its tensors have {at} bytes, and {data_bytes} follow the "
            "header"
        )

"""Named parameters of a model: their bytes, their digest, and the check of an update.

Parameters are sent and stored as safetensors, never as pickles. Received parameters are compared
with the model that they update before anything is computed with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import IO

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from fimi.learning.data.tensor_header import HEADER_MAX_BYTES, what_is_wrong

Parameters = Mapping[str, NDArray[np.float32]]
"""Name to tensor; every tensor float32."""


class UpdateRefusedError(ValueError):
    """An update cannot be used; the message says which tensor and why."""


def dump(parameters: Parameters) -> bytes:
    """Parameters as safetensors bytes, the same bytes for the same parameters."""
    return b"".join(_pieces(parameters))


def write(parameters: Parameters, file: IO[bytes]) -> str:
    """Write the bytes of :func:`dump`, tensor by tensor; returns their :func:`digest`.

    Raises:
        OSError: they cannot be written.
    """
    sha = hashlib.sha256()
    for piece in _pieces(parameters):
        sha.update(piece)
        file.write(piece)
    return sha.hexdigest()


def _pieces(parameters: Parameters) -> Iterator[bytes | memoryview]:
    """Safetensors bytes in pieces: no copies of tensors in single precision are made.

    (safetensors itself makes three copies of all of them.)
    """
    ordered = {name: np.asarray(parameters[name], order="C") for name in sorted(parameters)}
    if not all(tensor.dtype == np.dtype("<f4") for tensor in ordered.values()):
        yield safetensors.numpy.save(ordered)
        return
    header, at = {}, 0
    for name, tensor in ordered.items():
        place = [at, at := at + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": place}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors begin at a multiple of 8 bytes
    yield len(text).to_bytes(8, "little") + text
    for tensor in ordered.values():
        if tensor.size:
            yield tensor.reshape(-1).data.cast("B")


def load(data: bytes, *, like: Parameters | None = None) -> dict[str, NDArray[np.float32]]:
    """Parameters from safetensors bytes.

    Args:
        data: bytes of :func:`dump`.
        like: if given, the result must have its names, shapes and types, and finite values.

    Raises:
        UpdateRefusedError: the bytes are not safetensors, or differ from ``like``.
    """
    if like is not None:
        limit = limit_bytes(like)
        if len(data) > limit:
            raise UpdateRefusedError(
                f"update has {len(data)} bytes, more than {limit} for this model"
            )
    longest = HEADER_MAX_BYTES
    if like is not None:  # what is said of a tensor takes less than this
        longest = 4096 + sum(512 + 8 * len(name.encode()) for name in like)
    if wrong := what_is_wrong(data, min(longest, HEADER_MAX_BYTES)):
        raise UpdateRefusedError(f"update is not safetensors: {wrong}")
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, OverflowError) as error:
        raise UpdateRefusedError(f"update is not safetensors: {error}") from error
    if like is not None:
        check(tensors, like)
    return tensors


def limit_bytes(model: Parameters) -> int:
    """The most bytes that an update of a model may have."""
    return 2 * size_bytes(model) + 1_000_000


def check_names(names: Collection[str], like: Parameters) -> None:
    """Compare names of tensors with a model's.

    Raises:
        UpdateRefusedError: one is missing or unknown.
    """
    if missing := sorted(set(like) - set(names)):
        raise UpdateRefusedError(f"update lacks tensor {missing[0]!r} ({len(missing)} missing)")
    if unknown := sorted(set(names) - set(like)):
        raise UpdateRefusedError(
            f"update has an unknown tensor {unknown[0]!r} ({len(unknown)} unknown)"
        )


def check(tensors: Mapping[str, NDArray[np.generic]], like: Parameters) -> None:
    """Compare tensors with a model's parameters.

    Raises:
        UpdateRefusedError: a tensor is missing, unknown, of another shape or type, or not finite.
    """
    check_names(tensors, like)
    for name, reference in like.items():
        tensor = tensors[name]
        if tensor.shape != reference.shape:
            raise UpdateRefusedError(
                f"tensor {name!r} has shape {tensor.shape}, the model's is {reference.shape}"
            )
        if tensor.dtype != reference.dtype:
            raise UpdateRefusedError(
                f"tensor {name!r} is {tensor.dtype}, the model's is {reference.dtype}"
            )
        if not np.isfinite(tensor).all():
            bad = int((~np.isfinite(tensor)).sum())
            raise UpdateRefusedError(f"tensor {name!r} holds {bad} values that are not finite")


def digest(data: bytes) -> str:
    """SHA-256 of some bytes, hexadecimal; it names every payload."""
    return hashlib.sha256(data).hexdigest()


def size_bytes(parameters: Parameters) -> int:
    """Bytes of all tensors, without the file's header."""
    return sum(tensor.nbytes for tensor in parameters.values())

"""Coded parameters as bytes, and back.

The bytes are a safetensors file, or one in a Zstandard frame, in which every tensor has the first
bytes of all its numbers first, then the second ones: the exponents are alike. The header follows
from the coding and the shapes of the model alone, and so does the size:

========  ======================================================================================
``fp32``  every tensor, F32
``fp16``  matrices F16; their exponents ``fimi.exponents`` I16
``int8``  matrices I8; a scale for each channel of each of them ``fimi.scales`` F32
``top-k`` ``fimi.values`` F32 and ``fimi.positions``: U32, or a bit for each value (U8) if smaller
========  ======================================================================================

A matrix is any tensor of two and more dimensions. Vectors are F32 in every coding.

* :func:`encode`        parameters, or differences, as bytes
* :func:`decode`        the same back, where the shapes are known
* :func:`decode_model`  a model back by a device, which knows no more than the size of all of it
* :func:`size_bytes`    the size before Zstandard
* :func:`add`           a model added to differences from it

Bytes from outside are compared with the header that they must have, byte for byte, before anything
is made of them, and a frame is unpacked only if it says the right size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from fimi.learning.training.coding import (
    EXPONENTS,
    Coding,
    eighths,
    from_eighths,
    from_halves,
    halves,
    kept,
    largest,
)
from fimi.learning.training.slices import Slices, spans
from fimi.learning.training.tensors import Parameters, UpdateRefusedError

Shapes = Mapping[str, tuple[int, ...]]
"""Name to shape of every tensor of a model."""
Tensors = dict[str, NDArray[np.float32]]

LEVEL = 1
"""Zstandard's: higher ones take longer, and find no more in weights (docs/decisions/0093)."""
HEADER_MAX_BYTES = 4 << 20
"""Largest header that is read without knowing the shapes."""
_DIMENSIONS_MAX = 32
_OURS = "fimi."
_EXPONENTS, _SCALES, _VALUES, _POSITIONS = (
    f"{_OURS}{name}" for name in ("exponents", "scales", "values", "positions")
)
_TYPES = {"F32": "<f4", "F16": "<f2", "I16": "<i2", "I8": "<i1", "U32": "<u4", "U8": "<u1"}
_MATRICES = {"fp32": "F32", "fp16": "F16", "int8": "I8"}


class _Entry(NamedTuple):
    """A tensor of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return int(_TYPES[self.dtype][2:])

    @property
    def size_bytes(self) -> int:
        return self.width * math.prod(self.shape)


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of a header that came from outside."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def shapes_of(parameters: Parameters) -> dict[str, tuple[int, ...]]:
    """Name to shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in parameters.items()}


def size_bytes(shapes: Shapes, coding: Coding) -> int:
    """Size of the bytes of :func:`encode` before Zstandard: exact, whatever the values are."""
    entries = _entries(shapes, coding)
    return len(_header(entries, coding)) + sum(entry.size_bytes for entry in entries)


def encode(
    parameters: Parameters, coding: Coding, draws: np.random.Generator | None = None
) -> bytes:
    """Parameters, or their differences from others, as bytes; the same bytes for the same values.

    Args:
        parameters: finite.
        coding: how.
        draws: for stochastic rounding.

    Raises:
        ValueError: a name is one of the format's own, a value is not finite, or there is nothing to
            draw from.
    """
    for name, tensor in parameters.items():
        if not np.isfinite(tensor).all():
            bad = int((~np.isfinite(tensor)).sum())
            raise ValueError(f"tensor {name!r} holds {bad} values that are not finite")
    shapes = shapes_of(parameters)
    coded: dict[str, NDArray[Any]] = {
        name: parameters[name] for name in shapes.keys() - set(_matrices(shapes))
    }
    matrices = {name: parameters[name] for name in _matrices(shapes)}
    if coding.kind == "fp32":
        coded |= matrices
    elif coding.kind == "fp16":
        made = {name: halves(values) for name, values in matrices.items()}
        coded |= {name: half for name, (half, _) in made.items()}
        coded[_EXPONENTS] = np.array([exponent for _, exponent in made.values()], "<i2")
    elif coding.kind == "int8":
        scales = []
        for name, values in matrices.items():
            coded[name], scale = eighths(values, coding.rounding, draws)
            scales.append(scale)
        coded[_SCALES] = np.concatenate([np.zeros(0, "<f4"), *scales])
    else:
        flat = _flat(matrices)
        chosen = largest(flat, kept(len(flat), coding.share))
        coded[_VALUES] = flat[chosen]
        coded[_POSITIONS] = _positions(chosen, len(flat))
    entries = _entries(shapes, coding)
    header = _header(entries, coding)
    data = bytearray(len(header) + sum(entry.size_bytes for entry in entries))
    data[: len(header)] = header
    at = len(header)
    for entry in entries:
        data[at : at + entry.size_bytes] = _bytes(coded.pop(entry.name), entry, coding)
        at += entry.size_bytes
    if coding.compress:
        return zstandard.ZstdCompressor(level=LEVEL).compress(data)
    return bytes(data)


def decode(data: bytes, coding: Coding, shapes: Shapes) -> Tensors:
    """Parameters, or differences, from bytes of :func:`encode`; they may hold any values.

    Args:
        data: any bytes.
        coding: in which they must be.
        shapes: which the tensors must have.

    Raises:
        UpdateRefusedError: they are something else; nothing was allocated for it.
    """
    size = size_bytes(shapes, coding)
    return _read(_unpacked(data, coding, size, size), coding, shapes)


def _read(data: bytes, coding: Coding, shapes: Shapes) -> Tensors:
    """The tensors in a file that is in no frame any more."""
    entries = _entries(shapes, coding)
    header = _header(entries, coding)
    size = len(header) + sum(entry.size_bytes for entry in entries)
    plain = memoryview(data)
    if len(plain) != size:
        raise UpdateRefusedError(
            f"{len(plain)} bytes came, and this model in {coding.words} has {size}: it is in "
            "another coding, or another model"
        )
    if plain[: len(header)] != header:
        raise UpdateRefusedError(
            f"the header is not that of this model in {coding.words}: tensors, shapes or types "
            "differ"
        )
    found: dict[str, NDArray[Any]] = {}
    at = len(header)
    for entry in entries:
        found[entry.name] = _array(plain[at : at + entry.size_bytes], entry, coding)
        at += entry.size_bytes
    return _decoded(found, coding, shapes)


def decode_model(data: bytes, coding: Coding, raw_bytes: int) -> Tensors:
    """A model from bytes of :func:`encode`, on a device, which knows its shapes from these alone.

    Args:
        data: any bytes.
        coding: in which they must be; not ``"top-k"``.
        raw_bytes: size of the model in single precision; memory stays within a small multiple.

    Raises:
        UpdateRefusedError: they are something else, or stand for more than that.
    """
    room = raw_bytes + raw_bytes // 4 + 65536  # scales of tiny tensors may outweigh what they save
    plain = _unpacked(data, coding, 0, room)
    if len(plain) > room:
        raise UpdateRefusedError(
            f"model has {len(plain)} bytes in {coding.words}, and {raw_bytes} without coding"
        )
    shapes = _listed_shapes(plain, coding)
    values = 4 * sum(math.prod(shape) for shape in shapes.values())
    if values > raw_bytes:
        raise UpdateRefusedError(
            f"model holds {values} bytes of values; it was announced with {raw_bytes}"
        )
    model = _read(plain, coding, shapes)
    for name, tensor in model.items():
        if not np.isfinite(tensor).all():
            raise UpdateRefusedError(
                f"tensor {name!r} of the model holds values that are no number"
            )
    return model


def add(parameters: Tensors, base: Slices) -> None:
    """Add a model to parameters, or to differences from it, in single precision and in place.

    Args:
        parameters: arrays of their own.
        base: has the same names and shapes.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of foreign bytes; the caller looks
        for name, tensor in parameters.items():
            flat = tensor.reshape(-1) if tensor.flags.writeable else tensor.flatten()
            for start, stop in spans(flat.size):
                flat[start:stop] += base.read(name, start, stop)
            parameters[name] = flat.reshape(tensor.shape)


def _bytes(values: NDArray[Any], entry: _Entry, coding: Coding) -> bytes:
    raw = np.ascontiguousarray(values, _TYPES[entry.dtype])
    if not coding.compress:
        return raw.tobytes()
    places = raw.reshape(-1).view(np.uint8).reshape(-1, entry.width)
    return np.ascontiguousarray(places.T).tobytes()


def _array(raw: memoryview, entry: _Entry, coding: Coding) -> NDArray[Any]:
    values = np.frombuffer(raw, np.uint8)
    if coding.compress:
        values = np.ascontiguousarray(values.reshape(entry.width, -1).T)
    return values.reshape(-1).view(_TYPES[entry.dtype]).reshape(entry.shape)


def _matrices(shapes: Shapes) -> list[str]:
    """Names of what is coded, in order."""
    return sorted(name for name, shape in shapes.items() if len(shape) >= 2)


def _entries(shapes: Shapes, coding: Coding) -> list[_Entry]:
    """The tensors of the file, the widest numbers first, so that each is aligned."""
    matrices = _matrices(shapes)
    vectors = shapes.keys() - set(matrices)
    if bad := sorted(name for name in shapes if name.startswith(_OURS) or name == "__metadata__"):
        raise ValueError(f"tensor {bad[0]!r} has a name that coded parameters use themselves")
    entries = [_Entry(name, "F32", tuple(shapes[name])) for name in vectors]
    if coding.kind == "top-k":
        count = sum(math.prod(shapes[name]) for name in matrices)
        chosen = kept(count, coding.share)
        entries.append(_Entry(_VALUES, "F32", (chosen,)))
        if _as_bits(chosen, count):
            entries.append(_Entry(_POSITIONS, "U8", (-(-count // 8),)))
        else:
            entries.append(_Entry(_POSITIONS, "U32", (chosen,)))
    else:
        entries += [_Entry(n, _MATRICES[coding.kind], tuple(shapes[n])) for n in matrices]
    if coding.kind == "fp16":
        entries.append(_Entry(_EXPONENTS, "I16", (len(matrices),)))
    if coding.kind == "int8":
        entries.append(_Entry(_SCALES, "F32", (sum(shapes[name][0] for name in matrices),)))
    return sorted(entries, key=lambda e: (-e.width, e.name))


def _header(entries: list[_Entry], coding: Coding) -> bytes:
    """The header of a safetensors file, with its length before it."""
    order = "by place" if coding.compress else "by number"
    listed: dict[str, Any] = {"__metadata__": {"coding": coding.kind, "bytes": order}}
    at = 0
    for entry in entries:
        listed[entry.name] = _Listed(entry.dtype, entry.shape, (at, at + entry.size_bytes))
        at += entry.size_bytes
    text = msgspec.json.encode(listed)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _listed_shapes(plain: bytes, coding: Coding) -> dict[str, tuple[int, ...]]:
    """The shapes in a header; whether all of it is as it must be, :func:`decode` says."""
    length = int.from_bytes(plain[:8], "little")
    if not 2 <= length <= min(HEADER_MAX_BYTES, len(plain) - 8):
        raise UpdateRefusedError(
            f"model in {coding.words} says that its header has {length} bytes; it has "
            f"{len(plain)} in all"
        )
    try:
        listed = msgspec.json.decode(plain[8 : 8 + length], type=dict[str, msgspec.Raw])
        listed.pop("__metadata__", None)
        found = {
            name: msgspec.json.decode(entry, type=_Listed).shape
            for name, entry in listed.items()
            if not name.startswith(_OURS)
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpdateRefusedError(f"the header of the model is damaged: {error}") from error
    for name, shape in found.items():
        if len(shape) > _DIMENSIONS_MAX or min(shape, default=1) < 1:
            raise UpdateRefusedError(f"the header of the model lists {name!r} with shape {shape}")
    return found


def _unpacked(data: bytes, coding: Coding, least: int, most: int) -> bytes:
    """The file in a frame, if the frame says a size from ``least`` to ``most``."""
    if not coding.compress:
        return data
    try:
        # A size in the frame's header would override the decompressor's limit: check it first.
        size = zstandard.frame_content_size(data)
        if not least <= size <= most:
            raise UpdateRefusedError(
                f"compressed payload says that it unpacks to {size} bytes; {most} are expected"
            )
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except (zstandard.ZstdError, ValueError) as error:
        if isinstance(error, UpdateRefusedError):
            raise
        raise UpdateRefusedError(f"compressed payload is damaged: {error}") from error


def _decoded(found: dict[str, NDArray[Any]], coding: Coding, shapes: Shapes) -> Tensors:
    """The tensors of the model from those of the file, arrays of their own."""
    matrices = _matrices(shapes)
    vectors = shapes.keys() - set(matrices)
    plain = shapes.keys() if coding.kind == "fp32" else vectors
    made: Tensors = {name: found[name].astype(np.float32) for name in plain}
    if coding.kind == "fp16":
        exponents = found[_EXPONENTS].tolist()
        if exponents and not EXPONENTS[0] <= min(exponents) <= max(exponents) <= EXPONENTS[1]:
            raise UpdateRefusedError(
                f"exponents run from {min(exponents)} to {max(exponents)}; single precision has "
                f"{EXPONENTS[0]} to {EXPONENTS[1]}"
            )
        for name, exponent in zip(matrices, exponents, strict=True):
            made[name] = from_halves(found[name], exponent)
    elif coding.kind == "int8":
        scales, at = found[_SCALES].astype(np.float32), 0
        if scales.size and not (np.isfinite(scales).all() and scales.min() >= 0.0):
            raise UpdateRefusedError("a scale is negative or no number")
        for name in matrices:
            channels = shapes[name][0]
            made[name] = from_eighths(found[name], scales[at : at + channels])
            at += channels
    elif coding.kind == "top-k":
        count = sum(math.prod(shapes[name]) for name in matrices)
        flat = np.zeros(count, np.float32)
        flat[_chosen(found[_POSITIONS], len(found[_VALUES]), count)] = found[_VALUES]
        at = 0
        for name in matrices:
            size = math.prod(shapes[name])
            made[name] = flat[at : at + size].reshape(shapes[name])
            at += size
    return made


def _flat(matrices: Parameters) -> NDArray[np.float32]:
    """All values (n,), tensor after tensor."""
    none = np.zeros(0, np.float32)
    return np.concatenate([none, *(values.reshape(-1) for values in matrices.values())])


def _as_bits(chosen: int, count: int) -> bool:
    """Whether positions take less as a bit for each value than as numbers of 32 bits."""
    return -(-count // 8) < 4 * chosen


def _positions(chosen: NDArray[np.intp], count: int) -> NDArray[Any]:
    if not _as_bits(len(chosen), count):
        return chosen.astype("<u4")
    bits = np.zeros(count, np.bool_)
    bits[chosen] = True
    return np.packbits(bits)


def _chosen(positions: NDArray[Any], chosen: int, count: int) -> NDArray[np.intp]:
    """Positions from what stands for them.

    Raises:
        UpdateRefusedError: they are not so many different ones, in rising order.
    """
    if _as_bits(chosen, count):
        bits = np.unpackbits(positions)
        found = np.flatnonzero(bits[:count])
        good = len(found) == chosen and not bits[count:].any()
    else:
        found = positions.astype(np.intp)
        good = not len(found) or (int(found[-1]) < count and bool((np.diff(found) > 0).all()))
    if not good:
        raise UpdateRefusedError(
            f"positions are not {chosen} different ones among {count}, in rising order"
        )
    return found

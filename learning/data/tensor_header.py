"""The header of safetensors bytes, looked at before a library reads it.

The header is JSON, and a library that reads it takes some thirty times its size: a header of 27 MB
took 0.8 GB. :func:`what_is_wrong` looks at its length, and at what it says of tensors, before
anything else is done with the bytes.
"""

from __future__ import annotations

import math

import msgspec
from msgspec import Struct

HEADER_MAX_BYTES = 1 << 20
"""Largest header that is read: of some 8,000 tensors."""
_PREFIX_BYTES = 8
_DIMENSIONS_MAX = 8
_METADATA = "__metadata__"
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32,
    "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


class _Entry(Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_listed = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry = msgspec.json.Decoder(_Entry)


def what_is_wrong(data: bytes, max_bytes: int = HEADER_MAX_BYTES) -> str:
    """What is wrong with the header of some bytes, in words; empty if nothing is.

    Args:
        data: what should be safetensors.
        max_bytes: longest header.
    """
    if len(data) < _PREFIX_BYTES:
        return f"it has {len(data)} bytes"
    length = int.from_bytes(data[:_PREFIX_BYTES], "little")
    if length > len(data) - _PREFIX_BYTES:
        return f"its header would have {length} bytes, and all of it has {len(data)}"
    if length > max_bytes:
        return f"its header has {length} bytes, the limit is {max_bytes}"
    room = len(data) - _PREFIX_BYTES - length
    try:
        listed = _listed.decode(memoryview(data)[_PREFIX_BYTES : _PREFIX_BYTES + length])
        listed.pop(_METADATA, None)
        taken = sum(_size_bytes(name, _entry.decode(each)) for name, each in listed.items())
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return f"its header cannot be read: {str(error)[:200]}"
    if taken != room:
        return f"its tensors would take {taken} bytes, and there are {room}"
    return ""


def _size_bytes(name: str, entry: _Entry) -> int:
    """What a tensor takes, by shape and by place alike.

    Raises:
        ValueError: they differ, or it has a type or shape that none of ours has.
    """
    begin, end = entry.data_offsets
    bits = _BITS.get(entry.dtype, 0)
    if not bits or len(entry.shape) > _DIMENSIONS_MAX or any(size < 0 for size in entry.shape):
        raise ValueError(
            f"tensor {name[:64]!r} is {entry.dtype[:16]!r} of {len(entry.shape)} sizes"
        )
    size_bytes = math.prod(entry.shape) * bits // 8
    if begin < 0 or end - begin != size_bytes:
        raise ValueError(f"tensor {name[:64]!r} has not the size of its shape")
    return size_bytes

"""Named arrays as bytes with a note, and back: what batches, shares and hashes travel in.

The bytes are safetensors, compressed with Zstandard where that is smaller. Equal arrays and notes
give equal bytes, so a digest of the bytes names their content. Received bytes are not trusted:
:func:`unpack` limits the memory that they take, that of their header included. Types and shapes are
checked by the caller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import safetensors
import safetensors.numpy
import zstandard
from numpy.typing import NDArray

from fimi.learning.data.tensor_header import what_is_wrong

ZSTANDARD_MAGIC = b"\x28\xb5\x2f\xfd"  # as a safetensors header length: 4 GB, never valid
_NOTE = "note"  # one key only: safetensors writes several in no fixed order


def pack(
    arrays: Mapping[str, NDArray[Any]], note: Mapping[str, str] | None = None, *, level: int = 3
) -> bytes:
    """Arrays, contiguous, and texts as bytes.

    Args:
        arrays: name to array.
        note: name to text; empty texts are left out.
        level: Zstandard's.
    """
    told = {key: text for key, text in sorted((note or {}).items()) if text}
    metadata = {_NOTE: json.dumps(told)} if told else None
    plain = safetensors.numpy.save(dict(arrays), metadata=metadata)
    packed = zstandard.ZstdCompressor(level=level).compress(plain)
    return packed if len(packed) < len(plain) else plain


def unpack(
    data: bytes, *, max_bytes: int, what: str, problem: Callable[[str], Exception]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays and note from bytes of :func:`pack`.

    Args:
        data: any bytes.
        max_bytes: largest size, uncompressed.
        what: what they should be, for errors.
        problem: makes the error that is raised.

    Raises:
        Exception: of ``problem``; says what is wrong.
    """
    plain = _expand(data, max_bytes, what, problem)
    if wrong := what_is_wrong(plain):
        raise problem(f"{what} is not safetensors: {wrong}")
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(plain)
        header: dict[str, Any] = json.loads(plain[8 : 8 + int.from_bytes(plain[:8], "little")])
        note = header.get("__metadata__", {}).get(_NOTE, "{}")
        return arrays, msgspec.json.decode(note, type=dict[str, str])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise problem(f"{what} is not safetensors: {error}") from error


def _expand(data: bytes, max_bytes: int, what: str, problem: Callable[[str], Exception]) -> bytes:
    if not data.startswith(ZSTANDARD_MAGIC):
        if len(data) > max_bytes:
            raise problem(f"{what} has {len(data)} bytes, the limit is {max_bytes}")
        return data
    try:
        # A size in the frame's header would override the decompressor's limit: check it first.
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= max_bytes:
            said = "does not say how many bytes it" if size < 0 else f"says that {size} bytes it"
            raise problem(f"compressed {what} {said} unpacks to; the limit is {max_bytes} bytes")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise problem(f"compressed {what} is damaged: {error}") from error

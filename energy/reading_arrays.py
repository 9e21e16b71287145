"""Numbers of readings in few bytes, without any loss.

* :func:`packed_floats`, :func:`floats`  an array of doubles, bit by bit the same again
* :func:`packed_wholes`, :func:`wholes`  an array of integers
* :func:`squeezed`, :func:`loosened`     bytes by Zstandard, of a known largest size

Meters show whole numbers of something: microjoules, milliwatts, nanoseconds. Where every value is
such a number times or over a scale, bit by bit, the numbers are kept; else the bits of the doubles.
Of either the second differences are often small. What is left is sorted byte by byte, so that
Zstandard finds the bytes that do not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import zstandard
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]

LEVEL = 6
_BITS, _TIMES, _OVER = 0, 1, 2
_SCALES: tuple[tuple[int, float], ...] = (
    (_OVER, 1e3),
    (_OVER, 1e6),
    (_OVER, 1e9),
    (_TIMES, 1e-3),
    (_TIMES, 1e-6),
)
_WIDTHS = (0, 1, 2, 4, 8)
_ORDERS = 3  # differences of what is kept: none, first, second
_WHOLE_MOST = 2.0**53


def packed_floats(values: Floats, step: float = 0.0) -> bytes:
    """Doubles as bytes.

    Args:
        values: shape (n,); any, also not finite.
        step: of which they are likely to be multiples; 0: unknown.
    """
    how, scale, found = _as_wholes(values, step)
    head = bytes([how]) + (np.float64(scale).tobytes() if how != _BITS else b"")
    return head + packed_wholes(found)


def floats(data: bytes, count: int) -> Floats:
    """The doubles that :func:`packed_floats` has packed, shape (count,).

    Raises:
        ValueError: it has packed no such bytes.
    """
    if not data or data[0] > _OVER:
        raise ValueError("an array of doubles begins with an unknown byte")
    how = data[0]
    if how == _BITS:
        return wholes(data[1:], count).view(np.float64)
    if len(data) < 9:
        raise ValueError("an array of doubles ends in its scale")
    scale = float(np.frombuffer(data[1:9], "<f8")[0])
    found = wholes(data[9:], count).astype(np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(found * scale if how == _TIMES else found / scale)


def packed_wholes(values: Sequence[int] | Wholes) -> bytes:
    """Integers as bytes; differences wrap around, so that none is too large.

    The first ones, from which differences are counted, stand apart: they are often large.
    """
    left = np.asarray(values, np.int64)
    firsts: list[int] = []
    best: tuple[float, list[int], NDArray[np.uint64]] | None = None
    for order in range(_ORDERS):
        if order:
            if not len(left):
                break
            firsts.append(int(left[0]))
            left = np.diff(left)
        zigzag = ((left << 1) ^ (left >> 63)).view(np.uint64)
        bits = float(np.log2(zigzag.astype(np.float64) + 1.0).sum()) + 64.0 * order
        if best is None or bits < best[0]:
            best = (bits, list(firsts), zigzag)
    assert best is not None
    _, firsts, zigzag = best
    most = int(zigzag.max()) if len(zigzag) else 0
    width = next(w for w in _WIDTHS if most < 1 << (8 * w))
    head = bytes([len(firsts), width]) + np.array(firsts, "<i8").tobytes()
    if width == 0:
        return head
    columns = zigzag.astype(f"<u{width}").view(np.uint8).reshape(-1, width)
    return head + bytes(columns.T.tobytes())


def wholes(data: bytes, count: int) -> Wholes:
    """The integers that :func:`packed_wholes` has packed, shape (count,).

    Raises:
        ValueError: it has packed no such bytes.
    """
    if len(data) < 2 or data[0] >= _ORDERS or data[1] not in _WIDTHS or count < data[0]:
        raise ValueError("an array of integers begins with unknown bytes")
    order, width = data[0], data[1]
    kept, begin = count - order, 2 + 8 * order
    if len(data) != begin + width * kept:
        raise ValueError(f"an array has {len(data)} B, not {kept} numbers of {width} B")
    if width == 0:
        zigzag = np.zeros(kept, np.uint64)
    else:
        columns = np.frombuffer(data, np.uint8, offset=begin).reshape(width, kept)
        zigzag = np.ascontiguousarray(columns.T).view(f"<u{width}").reshape(-1).astype(np.uint64)
    array = (zigzag >> np.uint64(1)).view(np.int64) ^ -(zigzag & np.uint64(1)).view(np.int64)
    for first in np.frombuffer(data, "<i8", order, offset=2)[::-1]:
        array = np.cumsum(np.concatenate([[first], array]), dtype=np.int64)
    return np.asarray(array, np.int64)


def squeezed(data: bytes) -> bytes:
    """Bytes by Zstandard, with their size and a checksum."""
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    return bytes(packer.compress(data))


def loosened(data: bytes, most_bytes: int) -> bytes:
    """What :func:`squeezed` has squeezed.

    Raises:
        ValueError: it cannot be read, or would be larger than ``most_bytes``; nothing that large is
            made.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= most_bytes:
            said = f"{size} B" if size >= 0 else "an unknown size"
            raise ValueError(f"it would become {said}, more than {most_bytes} B are read")
        return bytes(zstandard.ZstdDecompressor().decompress(data, max_output_size=most_bytes))
    except zstandard.ZstdError as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error


def _as_wholes(values: Floats, step: float) -> tuple[int, float, Wholes]:
    """How doubles are whole numbers, with the scale; their bits, where they are not."""
    if len(values) and np.isfinite(values).all():
        scales = (((_TIMES, step),) if step > 0.0 else ()) + _SCALES
        for how, scale in scales:
            with np.errstate(all="ignore"):
                found = np.rint(values / scale if how == _TIMES else values * scale)
                if not (np.abs(found) < _WHOLE_MOST).all():
                    continue
                again = found * scale if how == _TIMES else found / scale
            if np.array_equal(again.view(np.int64), values.view(np.int64)):  # -0.0 is another one
                return how, scale, found.astype(np.int64)
    return _BITS, 0.0, np.ascontiguousarray(values, np.float64).view(np.int64)

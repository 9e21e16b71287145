"""What an offline file of Weights & Biases has: the last round that an earlier process wrote.

The package writes such files and uploads them, and has no reader. They are logs as LevelDB has
them: blocks of 32 KiB after a header of 7 bytes; a record is one piece, or several where it crosses
a block; before each piece stand its checksum, length and kind. A process that was killed leaves a
torn end, which is left out.

* :func:`last_round`  of a file
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER, _BLOCK = 7, 32768
_PIECE = struct.Struct("<IHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4


def last_round(file: Path) -> int:
    """The last step of which a file has figures; 0 without any.

    Raises:
        OSError: it cannot be read.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    last = 0
    for data in _records(file.read_bytes()):
        record = Record()
        try:
            record.ParseFromString(data)
        except DecodeError:
            break
        if record.WhichOneof("record_type") == "history":
            last = max(last, record.history.step.num)
    return last


def _records(file: bytes) -> Iterator[bytes]:
    """The whole records of a file."""
    at, pieces = _HEADER, b""
    while True:
        left = _BLOCK - at % _BLOCK
        if left < _PIECE.size:  # the rest of a block holds no piece
            at += left
        if at + _PIECE.size > len(file):
            return
        _, length, kind = _PIECE.unpack_from(file, at)
        at += _PIECE.size + length
        if kind == 0 or at > len(file):
            return
        pieces = b"" if kind in (_WHOLE, _FIRST) else pieces
        pieces += file[at - length : at]
        if kind in (_WHOLE, _LAST):
            yield pieces

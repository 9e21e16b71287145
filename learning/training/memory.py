"""Gives freed memory back to the system.

glibc keeps freed memory for later. After the training of a large network this is most of the memory
of a process. It is of no use until the next training, and no other process can have it.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

LARGE_BYTES = 8_000_000
"""Smallest size of a model after whose training memory is given back, bytes."""


def give_back(model_bytes: int) -> None:
    """Give free memory back after work with a model; does nothing for small models."""
    if model_bytes >= LARGE_BYTES and (trim := _trim()) is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """The ``malloc_trim`` of glibc; ``None`` with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_size_t], ctypes.c_int
    return function

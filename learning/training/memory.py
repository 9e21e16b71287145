"""Memory that has been freed, given back to the system.

glibc keeps what was freed for later. After a large network was trained that is most of a process,
of no use until the next training and not to be had by any other process.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

LARGE_BYTES = 8_000_000
"""A model from this size on leaves enough behind to be worth looking for it."""


def give_back(model_bytes: int) -> None:
    """Give free memory back after work with a model; nothing to do for small ones.

    Args:
        model_bytes: size of the model.
    """
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

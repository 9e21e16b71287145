"""Lets the C library keep the buffers of chunks for the next ones.

Each chunk passes through several buffers of its size. glibc takes buffers of more than 128 kB from
the system, and gives free memory back to it, unless it has learned otherwise by chance. Then most
of the time of a fast transfer goes into pages that the system hands out anew: 158,000 of them for
100 MB were counted, against 49,000.
"""

from __future__ import annotations

import ctypes
import functools
import sys

FROM_SYSTEM_BYTES = 4 << 20
"""Larger pieces are taken from the system, and given back to it at once."""
KEPT_BYTES = 8 << 20
"""So much free memory is kept, of each of the C library's arenas."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # <malloc.h>


@functools.cache
def recycle() -> bool:
    """Do so from now on in this process; returns whether the C library can."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    settings = ((_MMAP_THRESHOLD, FROM_SYSTEM_BYTES), (_TRIM_THRESHOLD, KEPT_BYTES))
    return min([int(mallopt(which, value)) for which, value in settings]) == 1

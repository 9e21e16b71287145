"""The rate to which the kernel holds a connection: it spreads the bytes over time (Linux)."""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

_SO_MAX_PACING_RATE = 47  # <asm-generic/socket.h>; Python's socket module has no name for it
_UNPACED = 0xFFFFFFFF

log = logging.getLogger(__name__)


def pace(sock: Any, rate_bps: float | None) -> bool:
    """Let the kernel pace a connection.

    Args:
        sock: its socket; ``None``: there is none.
        rate_bps: bits per second, TCP and IP headers included; ``None`` removes the limit.

    Returns:
        Whether the operating system has accepted it.
    """
    if sock is None or not sys.platform.startswith("linux"):
        return False
    rate = _UNPACED if rate_bps is None else max(1, min(_UNPACED - 1, round(rate_bps / 8)))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate.to_bytes(4, sys.byteorder))
    except OSError as error:
        log.warning("sending rate not limited: %s", error)
        return False
    return True


def paced_bps(sock: Any) -> float | None:
    """The rate to which the kernel paces a connection, bit/s; ``None`` if it does not."""
    if sock is None or not sys.platform.startswith("linux"):
        return None
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, 4)
    except OSError:
        return None
    rate = int.from_bytes(raw, sys.byteorder)
    return None if rate == _UNPACED else 8.0 * rate

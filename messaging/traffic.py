"""What the operating system knows of a TCP connection: how many bytes the other end has taken.

A program that has handed bytes to its socket knows nothing of them. The kernel does: how many the
other end has acknowledged, how many wait to be sent or acknowledged, how many have come, and how
many of these the program has not read yet. Linux tells it (``TCP_INFO`` since 4.1, ``SIOCOUTQ`` and
``FIONREAD``); elsewhere it is unknown.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, NamedTuple

_ACKED_AND_RECEIVED = struct.Struct("=QQ")
_OFFSET = 120  # of tcpi_bytes_acked in struct tcp_info, <linux/tcp.h>; fields are only ever added
_INFO_BYTES = _OFFSET + _ACKED_AND_RECEIVED.size


class Traffic(NamedTuple):
    """Bytes of one connection, encrypted ones where it is encrypted.

    Attributes:
        acked: acknowledged by the other end, since the connection was opened.
        received: arrived, since then.
        unacked: handed to the kernel and not acknowledged.
        unread: arrived and not read by this program.
    """

    acked: int
    received: int
    unacked: int
    unread: int


if sys.platform.startswith("linux"):
    import fcntl
    import termios

    def traffic_of(sock: Any) -> Traffic | None:
        """The traffic of a socket; ``None`` where it is closed or the system does not tell."""
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
            if len(info) < _INFO_BYTES:
                return None
            acked, received = _ACKED_AND_RECEIVED.unpack_from(info, _OFFSET)
            return Traffic(
                acked, received, _count(sock, termios.TIOCOUTQ), _count(sock, termios.FIONREAD)
            )
        except (OSError, AttributeError, ValueError):  # closed meanwhile, or no TCP socket
            return None

    def _count(sock: Any, question: int) -> int:
        answer = fcntl.ioctl(sock.fileno(), question, bytes(4))
        return int.from_bytes(answer, sys.byteorder, signed=True)

else:

    def traffic_of(sock: Any) -> Traffic | None:
        """Unknown on this system."""
        return None

"""What a service tells the service manager: that it is ready, how it is, and that it is alive.

:class:`Notifier` sends datagrams to the socket that systemd names in ``NOTIFY_SOCKET``
(``sd_notify(3)``); where there is none, it does nothing. Watchdog messages are due twice in the
interval of ``WATCHDOG_USEC``, and :meth:`Notifier.alive` sends no more than that, however often it
is called. It is called by the threads whose standing still should end the process, and by no timer
of its own: a timer would go on while they hang.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

MOST_STATUS_BYTES = 500
"""A longer status is cut, bytes."""


class Notifier:
    """Tells the service manager how this process is. Safe to use from several threads.

    Args:
        environment: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` stand.
        now_s: a monotonic clock, s.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment)
        """The watchdog's interval, s; ``None``: nobody watches."""
        self._now_s = now_s
        self._lock = threading.Lock()
        self._alive_s = float("-inf")
        self._status = ""
        self._failed = False

    @property
    def heard(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def ready(self) -> None:
        """The service has started."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service ends in order; a process that replaces itself must not say so."""
        self._send("STOPPING=1")

    def status(self, words: str) -> None:
        """One line about what the service does, for ``systemctl status``; the same only once."""
        line = " ".join(words.split()).encode()[:MOST_STATUS_BYTES].decode(errors="ignore")
        with self._lock:
            if line == self._status:
                return
            self._status = line
        self._send(f"STATUS={line}")

    def alive(self) -> None:
        """The calling thread goes on; sent at most twice in the watchdog's interval."""
        if self.watchdog_s is None:
            return
        with self._lock:
            now_s = self._now_s()
            if now_s < self._alive_s + self.watchdog_s / 2:
                return
            self._alive_s = now_s
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failed:  # said once: it would come again with every message
                log.warning("the service manager does not hear %s: %s", message, error)
            self._failed = True


def _address(named: str) -> str | None:
    """The socket's address; ``@`` stands for an abstract one; other forms are no such socket."""
    if not named.startswith(("/", "@")):
        return None
    return "\0" + named[1:] if named.startswith("@") else named


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """The interval, s, if it is meant for this process."""
    given, who = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not given.isdecimal() or int(given) == 0 or who not in ("", str(os.getpid())):
        return None
    return int(given) * 1e-6

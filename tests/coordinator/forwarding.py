"""A forwarding socket between a peer and its broker, whose connections can be cut or frozen."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from msgspec.structs import replace

from fimi.messaging.address import BrokerAddress


class Forwarding:
    """Passes bytes on, both ways. While it is shut, nothing passes, and nobody gets in."""

    def __init__(self, to: BrokerAddress) -> None:
        self._to = (to.host, to.port)
        self._open = True
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = replace(to, host="127.0.0.1", port=self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Cut all connections; whoever comes now is cut off as well."""
        with self._lock:
            self._open = False
            pairs, self._pairs = self._pairs, []
        for each in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Hold back what comes from now on, and say nothing of it to anybody."""
        self._flows.clear()

    def open(self) -> None:
        """Let everybody in again, and everything through."""
        with self._lock:
            self._open = True
        self._flows.set()

    def close(self) -> None:
        """End it."""
        self.shut()
        self._flows.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self._open:
                    near.close()
                    continue
                far = socket.create_connection(self._to)
                self._pairs.append((near, far))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forwarding(to: BrokerAddress) -> Iterator[Forwarding]:
    """A forwarding socket that ends with the block."""
    found = Forwarding(to)
    try:
        yield found
    finally:
        found.close()

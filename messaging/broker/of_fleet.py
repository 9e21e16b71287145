"""The broker of a fleet's folder: Mosquitto with the folder's configuration, in a child process.

::

    with FleetBroker(FleetFolder.open(path)) as broker:
        while broker.alive:
            broker.reread_if_changed()

It keeps what it holds in the folder, and ends with this process. When credentials change in the
folder it reads them again without ending connections; those of revoked passwords it ends, and those
of revoked certificates can say and hear nothing any more.

amqtt is no broker for a fleet: it has no access rules, and takes clients without a certificate.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import tempfile
import time
from pathlib import Path

import msgspec

from fimi import children
from fimi.children import Child
from fimi.messaging.broker.embedded import (
    START_S,
    STOP_S,
    find_mosquitto,
    program_version,
    unused_port,
)
from fimi.messaging.broker.orders import BrokerOrders
from fimi.messaging.credentials.folder import FleetFolder
from fimi.messaging.credentials.settings import CONFIGURATION
from fimi.messaging.errors import BrokerFailed, BrokerMissing

_TRY_S = 1.0


class FleetBroker:
    """A fleet's broker in a child process. A context manager; ``start`` and ``close`` do the same.

    Args:
        folder: of the fleet.

    Raises:
        BrokerMissing: mosquitto is not installed.
    """

    def __init__(self, folder: FleetFolder) -> None:
        program = find_mosquitto()
        if program is None:
            raise BrokerMissing(
                "the broker of a fleet is mosquitto, which is not installed here; install it (for "
                "example 'apt install mosquitto'). amqtt has no access rules and takes clients "
                "without a certificate"
            )
        self.folder = folder
        self.version = program_version(program)
        self._program = program
        self._directory: Path | None = None
        self._child: Child | None = None
        self._seen = self._stamps()

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.code is None

    def start(self) -> None:
        """Write its files, start the process, and wait until it speaks TLS.

        Raises:
            PortTaken: another program listens on the port.
            BrokerFailed: it did not start; the message has its output.
            fimi.messaging.credentials.folder.FolderError: the folder is in use, or damaged.
        """
        with self.folder.changed() as folder:
            folder.write_broker_files()
        self._seen = self._stamps()
        decided = self.folder.decided
        unused_port(decided.bind or "0.0.0.0", decided.port)
        self._directory = Path(tempfile.mkdtemp(prefix="fimi-broker-"))
        orders = BrokerOrders(
            bind=decided.bind,
            port=decided.port,
            username="",
            password="",
            directory=str(self._directory),  # of its log; nothing of the folder is removed
            command=(self._program, "-c", str(self.folder.path.resolve() / CONFIGURATION)),
        )
        try:
            self._child = children.start(
                "fimi.messaging.broker.mosquitto_main",
                msgspec.json.encode(orders),
                log=self._directory / "log",
            )
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process; may be called again."""
        child, self._child = self._child, None
        if child is not None:
            child.end(STOP_S)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None

    def __enter__(self) -> FleetBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reread_if_changed(self) -> bool:
        """Let it read credentials again if they have changed; returns whether they have."""
        seen = self._stamps()
        if seen == self._seen or self._child is None:
            return False
        self._seen = seen
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, signal.SIGHUP)
        return True

    def said(self) -> str:
        """The last errors and warnings of its output."""
        if self._directory is None:
            return ""
        with contextlib.suppress(OSError):
            lines = (self._directory / "log").read_text(errors="replace").splitlines()
            errors = [line for line in lines if "rror" in line]
            return "; ".join((errors or lines)[-3:])
        return ""

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        """What shows that one of its files was replaced."""
        found = []
        for path in self.folder.read_by_broker():
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
            except OSError:
                found.append((0, 0))
        return tuple(found)

    def _await_ready(self) -> None:
        decided = self.folder.decided
        where = (decided.bind or "127.0.0.1", decided.port)
        trust = ssl.create_default_context(cafile=str(self.folder.path / "ca.pem"))
        trust.check_hostname = False  # it listens on an address that peers may not use
        deadline_s = time.monotonic() + START_S
        problem = ""
        while time.monotonic() < deadline_s:
            if not self.alive:
                raise BrokerFailed(
                    f"mosquitto {self.version} did not start with {self.folder.path}: "
                    f"{self.said() or 'it said nothing'}"
                )
            try:
                with (
                    socket.create_connection(where, timeout=_TRY_S) as plain,
                    trust.wrap_socket(plain),
                ):
                    return
            except OSError as error:  # of ssl, too
                problem = str(error)
                time.sleep(0.03)
        raise BrokerFailed(
            f"mosquitto {self.version} does not answer in TLS on port {decided.port} within "
            f"{START_S:g} s ({problem}); it said: {self.said() or 'nothing'}"
        )

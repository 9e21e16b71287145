"""The embedded broker: mosquitto where it is installed, else amqtt, in a process of its own.

::

    with EmbeddedBroker() as broker:
        Peer(broker.address, ...)

It listens on the loopback interface, on a free port, with a generated password. It ends when this
process ends or is killed (:mod:`fimi.children`). Ctrl-C in the terminal does not end it, so that
the peers can still send their last messages. amqtt is for dry runs and trials: it has no access
rules, keeps nothing when it ends, and has about a tenth of mosquitto's throughput.
"""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal

import msgspec

from fimi import children
from fimi.children import Child
from fimi.files import write_whole
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.orders import BrokerOrders
from fimi.messaging.broker.passwords import password_hash
from fimi.messaging.errors import (
    BrokerError,
    BrokerFailed,
    BrokerMissing,
    NotAuthorised,
    PortTaken,
)
from fimi.messaging.link import probe

Kind = Literal["auto", "mosquitto", "amqtt"]

LOOPBACK = "127.0.0.1"
USERNAME = "fimi"
START_S = 15.0
STOP_S = 3.0
PROBE_S = 0.5
_PORT_TRIES = 5
_EXTRA_PATHS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/sbin")


class EmbeddedBroker:
    """A broker in a child process. A context manager; ``start`` and ``close`` do the same."""

    def __init__(
        self,
        kind: Kind = "auto",
        *,
        bind: str = LOOPBACK,
        port: int = 0,
        username: str = USERNAME,
        password: str | None = None,
    ) -> None:
        """Choose the program; nothing is started yet.

        Args:
            kind: ``"auto"`` takes mosquitto where it is installed, else amqtt.
            bind: IP address to listen on.
            port: TCP port; 0 for a free one.
            username: user name of all peers.
            password: password of all peers; ``None`` for a generated one.

        Raises:
            BrokerMissing: no such program is installed.
            ValueError: a password file cannot hold the user name or the password.
        """
        if not username or re.search(r"[:\s]", username) or re.search(r"[\r\n]", password or ""):
            raise ValueError(
                "the broker's user name must have no ':' or white space and its password no line "
                "break"
            )
        self._program = None if kind == "amqtt" else find_mosquitto()
        if kind == "mosquitto" and self._program is None:
            raise BrokerMissing(
                "no mosquitto program on the PATH or in " + ", ".join(_EXTRA_PATHS) + "; install "
                "it (for example 'apt install mosquitto') or choose the broker 'amqtt'"
            )
        if self._program is None and importlib.util.find_spec("amqtt") is None:
            raise BrokerMissing(
                "neither mosquitto nor amqtt is installed; install one of them (for example "
                "'apt install mosquitto' or 'pip install amqtt')"
            )
        self.kind: Literal["mosquitto", "amqtt"] = "mosquitto" if self._program else "amqtt"
        self.version = amqtt_version() if self._program is None else program_version(self._program)
        password = password or secrets.token_urlsafe(32)
        self._wanted = BrokerOrders(bind=bind, port=port, username=username, password=password)
        self._address: BrokerAddress | None = None
        self._directory: Path | None = None
        self._child: Child | None = None

    @property
    def address(self) -> BrokerAddress:
        """How to connect to it from this machine.

        Raises:
            BrokerFailed: it is not running.
        """
        if self._address is None:
            raise BrokerFailed(f"the embedded {self.kind} broker has not been started")
        return self._address

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.code is None

    @property
    def pid(self) -> int | None:
        """Process id of the child, or ``None`` if there is none."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Start the process and wait until a client can connect.

        Raises:
            PortTaken: another program listens on the wanted port.
            BrokerFailed: it did not start; the message has its output.
        """
        if self._child is not None:
            return
        for attempt in range(_PORT_TRIES):
            try:
                self._launch(unused_port(self._wanted.bind, self._wanted.port))
                return
            except PortTaken:
                # another program has taken the free port: try another one
                if self._wanted.port or attempt == _PORT_TRIES - 1:
                    raise

    def close(self) -> None:
        """End the process and remove its files; may be called again."""
        child, self._child = self._child, None
        if child is not None:
            child.end(STOP_S)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = self._address = None

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self, port: int) -> None:
        self._directory = directory = Path(tempfile.mkdtemp(prefix="fimi-broker-"))
        command = (self._program, "-c", str(directory / "conf")) if self._program else ()
        orders = msgspec.structs.replace(
            self._wanted, directory=str(directory), command=command, port=port
        )
        try:
            if command:
                _write_mosquitto_files(directory, orders)
            self._child = children.start(
                f"fimi.messaging.broker.{self.kind}_main",
                msgspec.json.encode(orders),
                log=directory / "log",
            )
            reachable = {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}
            self._address = BrokerAddress(
                host=reachable.get(orders.bind, orders.bind),
                port=port,
                username=orders.username,
                password=orders.password,
            )
            self._await_ready(port)
        except BaseException:
            self.close()
            raise

    def _await_ready(self, port: int) -> None:
        bind = self._wanted.bind
        deadline_s = time.monotonic() + START_S
        last: BrokerError | None = None
        while time.monotonic() < deadline_s:
            said = self._said()
            if "already in use" in said:
                raise _port_taken(bind, port)
            if not self.alive:
                raise BrokerFailed(
                    f"the embedded {self.kind} {self.version} did not start on "
                    f"{bind}:{port}: {said or 'it said nothing'}"
                )
            try:
                probe(self.address, timeout_s=PROBE_S)
                return
            except NotAuthorised as error:
                raise _port_taken(bind, port) from error  # another broker answers there
            except BrokerError as error:
                last = error
                time.sleep(0.03)
        raise BrokerFailed(
            f"the embedded {self.kind} {self.version} lets nobody in after {START_S:g} s: {last}; "
            f"it said: {self._said() or 'nothing'}"
        )

    def _said(self) -> str:
        if self._directory is None:
            return ""
        lines = (self._directory / "log").read_text(errors="replace").splitlines()
        errors = [line for line in lines if "rror" in line]
        return "; ".join((errors or lines)[-3:])


def find_mosquitto() -> str | None:
    """Path of the mosquitto program: on the PATH, or in a folder for daemons."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_EXTRA_PATHS))
    return shutil.which("mosquitto", path=path)


def _write_mosquitto_files(directory: Path, orders: BrokerOrders) -> None:
    passwords, rights, config = (directory / name for name in ("passwords", "rights", "conf"))
    hashed = password_hash(orders.password, secrets.token_bytes(12))
    lines = [
        f"listener {orders.port} {orders.bind}",
        "allow_anonymous false",
        f"password_file {passwords}",
        f"acl_file {rights}",
        "persistence false",
        "message_size_limit 4194304",
        "max_queued_messages 2000",
        "set_tcp_nodelay true",
        "sys_interval 0",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        lines.append("user root")  # it would become 'mosquitto', who may not read these files
    for path, text in (
        (passwords, f"{orders.username}:{hashed}\n"),
        # all peers of the run are one user; for a user per device, use the rules in topics.py
        (
            rights,
            f"user {orders.username}\ntopic readwrite fimi/v1/#\n"
            "topic readwrite +/device/+/+/config\n",  # fimi.messaging.home_assistant
        ),
        (config, "\n".join(lines) + "\n"),
    ):
        write_whole(path, text, mode=0o600, durable=False)


def amqtt_version() -> str:
    """Version of the installed amqtt."""
    return importlib.metadata.version("amqtt")


def program_version(program: str) -> str:
    """Version of a mosquitto program, as it says."""
    said = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=10).stdout
    found = re.search(r"version (\S+)", said)
    return found.group(1) if found else "unknown"


def unused_port(bind: str, port: int) -> int:
    """The port, where nobody listens on it; a free one for 0.

    Raises:
        PortTaken: another program listens there.
        BrokerFailed: nobody can.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if port and os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((bind, port))
        except OSError as error:
            if port and error.errno == errno.EADDRINUSE:
                raise _port_taken(bind, port) from error
            raise BrokerFailed(
                f"cannot listen on {bind}:{port} ({error.strerror}); give an address of this "
                "machine" + (" and a port above 1023" if 0 < port < 1024 else "")
            ) from error
        return int(sock.getsockname()[1])


def _port_taken(bind: str, port: int) -> PortTaken:
    return PortTaken(
        f"port {port} on {bind} is taken by another program; choose another port, or 0 for a free "
        "one"
    )

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker import embedded
from fimi.messaging.broker.embedded import EmbeddedBroker, find_mosquitto
from fimi.messaging.broker.passwords import password_hash
from fimi.messaging.errors import (
    BrokerFailed,
    BrokerMissing,
    BrokerUnreachable,
    NotAuthorised,
    PortTaken,
)
from fimi.messaging.link import probe

KINDS = [
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    ),
    "amqtt",
]

PARENT = """
import json, sys, time
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
broker = EmbeddedBroker(sys.argv[1])
broker.start()
print(json.dumps([broker.pid, broker.address.port, str(broker._directory)]), flush=True)
time.sleep(60)
"""


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


class TestContract:
    def test_running(self, broker: EmbeddedBroker) -> None:
        assert broker.alive
        assert broker.version[0].isdigit()
        assert broker.address.host == "127.0.0.1"
        assert len(broker.address.password) >= 32
        probe(broker.address)

    def test_password_is_needed(self, broker: EmbeddedBroker) -> None:
        for change in ({"password": "x"}, {"username": "x"}, {"username": "", "password": ""}):
            with pytest.raises(NotAuthorised):
                probe(msgspec.structs.replace(broker.address, **change))

    def test_only_on_loopback(self, broker: EmbeddedBroker) -> None:
        listening = {
            connection.laddr.ip
            for process in family(broker.pid)
            for connection in process.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}

    def test_terminal_signals_do_not_reach_it(self, broker: EmbeddedBroker) -> None:
        assert os.getsid(broker.pid) != os.getsid(0)
        assert all(os.getpgid(process.pid) != os.getpgid(0) for process in family(broker.pid))

    def test_password_is_not_on_the_command_line(self, broker: EmbeddedBroker) -> None:
        lines = [" ".join(process.cmdline()) for process in family(broker.pid)]
        assert lines
        assert not any(broker.address.password in line for line in lines)


@pytest.mark.parametrize("kind", KINDS)
class TestLife:
    def test_closes_without_a_trace(self, kind) -> None:
        with EmbeddedBroker(kind) as broker:
            processes, port, directory = family(broker.pid), broker.address.port, broker._directory
            assert directory is not None
            assert directory.exists()
        assert not any(process.is_running() for process in processes)
        assert is_free(port)
        assert not directory.exists()
        broker.close()
        with pytest.raises(BrokerFailed, match="not been started"):
            _ = broker.address

    def test_chosen_port_and_password(self, kind) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        with EmbeddedBroker(kind, port=port, username="lab", password='p"ä $:#\\') as broker:
            assert (broker.address.port, broker.address.username) == (port, "lab")
            broker.close()
            broker.start()
            assert broker.address.port == port
            probe(broker.address)
        with pytest.raises(BrokerUnreachable):
            probe(BrokerAddress(host="127.0.0.1", port=port))

    def test_taken_port(self, kind) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with pytest.raises(PortTaken, match=rf"port {port} .*choose another"):
                EmbeddedBroker(kind, port=port).start()

    def test_port_taken_at_the_last_moment(self, kind, monkeypatch) -> None:
        monkeypatch.setattr(embedded, "unused_port", lambda bind, port: port)
        with socket.create_server(("127.0.0.1", 0)) as server:
            broker = EmbeddedBroker(kind, port=server.getsockname()[1])
            with pytest.raises(PortTaken):
                broker.start()
            assert not broker.alive

    def test_strange_address(self, kind) -> None:
        with pytest.raises(BrokerFailed, match=r"192\.0\.2\.1"):
            EmbeddedBroker(kind, bind="192.0.2.1").start()

    @pytest.mark.parametrize("victim", ["parent", "child"])
    def test_killed(self, kind, victim: str, until, tmp_path) -> None:
        """Whoever is killed, nobody stays behind, and no port."""
        if victim == "child" and not sys.platform.startswith("linux"):
            pytest.skip("needs PR_SET_PDEATHSIG")
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, kind],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert parent.stdout is not None
        with parent.stdout:
            pid, port, directory = json.loads(parent.stdout.readline())
        processes = family(pid)
        os.kill(parent.pid if victim == "parent" else pid, signal.SIGKILL)
        if victim == "parent":
            parent.wait()
        until(lambda: all(
            not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            for process in processes
        ))  # fmt: skip
        until(lambda: is_free(port))
        if victim == "parent":
            assert Path(directory).parent == tmp_path
            until(lambda: not Path(directory).exists())
        parent.kill()
        parent.wait()


class TestChoice:
    def test_auto(self) -> None:
        expected = "mosquitto" if find_mosquitto() else "amqtt"
        assert EmbeddedBroker().kind == expected

    def test_auto_without_mosquitto(self, monkeypatch) -> None:
        monkeypatch.setattr(embedded, "find_mosquitto", lambda: None)
        assert EmbeddedBroker().kind == "amqtt"
        with pytest.raises(BrokerMissing, match="install"):
            EmbeddedBroker("mosquitto")

    @pytest.mark.parametrize(("username", "password"), [("", "x"), ("a:b", "x"), ("a", "x\ny")])
    def test_impossible_credentials(self, username: str, password: str) -> None:
        with pytest.raises(ValueError, match="user name"):
            EmbeddedBroker("amqtt", username=username, password=password)


class TestPasswordHash:
    def test_golden(self) -> None:
        # made by mosquitto_passwd 2.0.11 for the password 'sesame'
        golden = (
            "$7$101$Tw0uG8OS6Lt+w5L4$D7UfF0/pPSo1cdc5hADbUFHWHwWIG0Fo7ycDLG2caYW4q4l6d9zxWxPxk6vL"
            "8/Tt95T0ug6xMt7idWASsYpuLA=="
        )
        salt = base64.b64decode(golden.split("$")[3])
        assert password_hash("sesame", salt) == golden

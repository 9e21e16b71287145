"""An agent that is started before its broker: it waits, says so, and comes when the broker does."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.broker.embedded import EmbeddedBroker, find_mosquitto
from fimi.messaging.console import Console
from fimi.messaging.questions import Restarting, RestartRequest
from fimi.testbed.cli import main
from fimi.testbed.processes.waiting import FIRST_S, LONGEST_S, pause_s

PATIENCE_S = 60.0


@given(tries=st.integers(0, 10_000), seed=st.integers())
def test_pauses_grow_and_differ_and_stay_bounded(tries: int, seed: int) -> None:
    paused_s = pause_s(tries, random.Random(seed))
    longest_s = min(LONGEST_S, FIRST_S * 2.0 ** min(tries, 20))
    assert longest_s / 2 <= paused_s <= longest_s
    forty = {round(pause_s(tries, random.Random(seed + each)), 3) for each in range(40)}
    assert len(forty) > 20


class Heard:
    """The service manager's end of the socket."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(0.1)
        self.said: list[str] = []

    def until(self, true: Callable[[list[str]], bool], what: str) -> None:
        limit_s = time.monotonic() + PATIENCE_S
        while not true(self.said):
            assert time.monotonic() < limit_s, f"{what}: {self.said}"
            with contextlib.suppress(TimeoutError):
                self.said.append(self._socket.recv(4096).decode())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    made = Heard(tmp_path)
    yield made
    made.close()


def start(folder: Path, heard: Heard, port: int, password: str = "secret") -> subprocess.Popen[str]:
    config = folder / "agent.toml"
    config.write_text(
        f'broker = "mqtt://fimi:{password}@127.0.0.1:{port}"\nid = "d1"\nfleet = "desk"\n'
        'allow = ["restart"]\n'
    )
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("FIMI")},
        "NOTIFY_SOCKET": heard.path,
        "WATCHDOG_USEC": "1000000",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "fimi.testbed.cli", "agent", "run", "--config", str(config)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def alive(said: list[str]) -> int:
    return said.count("WATCHDOG=1")


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto")
def test_the_broker_comes_later(tmp_path: Path, heard: Heard) -> None:
    with socket.socket() as reserved:  # bound, but nobody listens
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        process = start(tmp_path, heard, port)
        heard.until(lambda said: "READY=1" in said, "it is ready without a broker")
        heard.until(lambda said: any("waits for the broker" in s for s in said), "it says why")
        heard.until(lambda said: alive(said) >= 2, "the watchdog is kept while it waits")
    try:
        with EmbeddedBroker(kind="mosquitto", port=port, password="secret") as broker:
            heard.until(lambda said: "STATUS=waits for a coordinator" in said, "it is connected")
            seen = alive(heard.said)
            heard.until(lambda said: alive(said) >= seen + 2, "the watchdog is kept then as well")
            with Console(broker.address, fleet="desk") as console:
                console.look()
                assert console.ask("d1", RestartRequest()) == Restarting()
            heard.until(lambda said: said.count("READY=1") == 2, "it starts again")
            seen = alive(heard.said)
            heard.until(lambda said: alive(said) > seen, "it goes on")
            assert "STOPPING=1" not in heard.said  # the manager would end it for good
            process.send_signal(signal.SIGTERM)
            heard.until(lambda said: "STOPPING=1" in said, "it says that it ends")
            said = process.communicate(timeout=PATIENCE_S)[0]
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "cannot be reached" in said and "It is tried again until it answers" in said
    assert f"127.0.0.1:{port} answers after" in said
    assert "secret" not in said


def test_told_to_end_while_it_waits(tmp_path: Path, heard: Heard) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        process = start(tmp_path, heard, reserved.getsockname()[1])
        heard.until(lambda said: any("waits for the broker" in s for s in said), "it waits")
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("brokr = 'mqtt://h'", "did you mean 'broker'?"),
        ("[fleet]\nname = 'desk'", "is a table"),
        ("host_profile = 'board.toml'", "write the whole path"),
        ("broker = 'mqtt://h'\nallow = 'restart'", "write a list"),
        ("broker = 'mqtt://h'\nallow = ['reboot']", "'reboot' is not one of"),
        ("wait = 'yes'", "write true or false"),
        ("id = 7", "write a text"),
        ("id = ", "agent.toml:"),
        ("devices = 4", "no key 'devices'"),
        ("", "Missing option '--broker'"),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    done = CliRunner().invoke(main, ["agent", "run", "--config", str(file)])
    assert done.exit_code == 2, done.output
    assert why in done.output
    assert "Traceback" not in done.output


def test_no_configuration_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["agent", "run", "--config", str(tmp_path / "agent.toml")])
    assert done.exit_code == 2
    assert "No such file" in done.output and "fimi agent install" in done.output

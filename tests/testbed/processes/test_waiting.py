"""An agent that is started before its broker: it waits, says so, and comes when the broker does."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from written import Watch

from fimi.edge_agent.service.notify import Notifier
from fimi.energy.clock import VirtualClock
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker, find_mosquitto
from fimi.messaging.broker.of_fleet import FleetBroker
from fimi.messaging.console import Console
from fimi.messaging.credentials.folder import FleetFolder
from fimi.messaging.errors import BrokerUnreachable
from fimi.messaging.questions import Restarting, RestartRequest
from fimi.testbed.chaos.surroundings import FaultError, OwnClock
from fimi.testbed.cli import main
from fimi.testbed.processes import waiting
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
        f'allow = ["restart"]\ncache = "{folder}/board/cache"\nstate = "{folder}/board/state"\n'
        "telemetry_s = 0.2\n"
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
    """And goes again. All that time nothing is written to the card."""
    (tmp_path / "board").mkdir()
    watch = Watch(tmp_path / "board")
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
            connected = "STATUS=waits for a coordinator"
            heard.until(lambda said: said.count(connected) == 2, "it goes on")
            assert "STOPPING=1" not in heard.said  # the manager would end it for good
        time.sleep(1.0)  # the broker is away once more, and telemetry is due
        assert watch.take() == Counter()
        process.send_signal(signal.SIGTERM)
        heard.until(lambda said: "STOPPING=1" in said, "it says that it ends")
        said = process.communicate(timeout=PATIENCE_S)[0]
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "cannot be reached" in said and "It is tried again until it answers" in said
    assert f"127.0.0.1:{port} answers after" in said
    assert said.count("reconnecting") == 1
    assert "secret" not in said


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto")
def test_a_board_without_a_clock_waits_for_the_time(tmp_path: Path, heard: Heard) -> None:
    """It starts in 1970, where no certificate is valid; then the network tells it the time."""
    pytest.importorskip("cryptography", reason="makes certificates (fimi-testbed[fleet])")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = FleetFolder.begin(
        tmp_path / "desk", fleet="desk", hosts=["127.0.0.1"], port=port, by_certificate=True
    )
    folder.enroll("d1")
    try:
        clock = OwnClock(tmp_path, "d1")
    except FaultError as error:
        pytest.skip(str(error))
    clock.jump(3 * 86400.0 - time.time())
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("FIMI")},
        **clock.environment,
        "NOTIFY_SOCKET": heard.path,
        "WATCHDOG_USEC": "1000000",
    }
    words = ["agent", "run", "--bundle", str(folder.bundle("d1"))]
    with FleetBroker(folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "fimi.testbed.cli", *words],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            why = "STATUS=waits for the time (the clock says 1970-01-04)"
            heard.until(lambda said: why in said, "it waits, and says for what")
            seen = alive(heard.said)
            heard.until(lambda said: alive(said) > seen, "the watchdog is kept while it waits")
            clock.jump(0.0)
            heard.until(lambda said: "STATUS=waits for a coordinator" in said, "it is connected")
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=PATIENCE_S)[0]
        finally:
            process.kill()
    assert process.returncode == 0, said
    said = " ".join(said.split())
    assert "not valid yet; the clock of this machine says 1970-01-04" in said
    assert "It is tried again until the clock is right" in said


@pytest.mark.skipif(find_mosquitto() is None, reason="no mosquitto")
def test_a_service_that_is_refused_stays_and_comes_when_it_is_let_in(
    tmp_path: Path, heard: Heard
) -> None:
    """A person is told at once, by the exit code; see also tests of the commands."""
    with EmbeddedBroker(kind="mosquitto", password="another") as broker:
        port = broker.address.port
        process = start(tmp_path, heard, port)
        try:
            heard.until(lambda said: any("waits to be let in" in s for s in said), "it says why")
            broker.close()
            with EmbeddedBroker(kind="mosquitto", port=port, password="secret"):
                connected = "STATUS=waits for a coordinator"
                heard.until(lambda said: connected in said, "it is let in")
                process.send_signal(signal.SIGTERM)
                said = process.communicate(timeout=PATIENCE_S)[0]
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert "the broker refuses user 'fimi'" in " ".join(said.split())
    assert "secret" not in said


def test_what_is_said_while_a_broker_is_away_for_a_week(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines of the log and messages to the service manager, counted; time is the test's."""
    clock, sent = VirtualClock(), list[str]()
    week_s = 7 * 86400.0

    class Waits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.advance(timeout or 0.0)
            return clock.now_s() >= week_s

        def is_set(self) -> bool:
            return clock.now_s() >= week_s

    tries = 0

    def away(address: BrokerAddress) -> None:
        nonlocal tries
        tries += 1
        raise BrokerUnreachable(f"{address}: cannot be reached")

    notifier = Notifier({})
    monkeypatch.setattr(notifier, "_send", sent.append)
    monkeypatch.setattr(waiting, "probe", away)
    monkeypatch.setattr(time, "monotonic", clock.now_s)
    address = BrokerAddress.parse("mqtt://10.0.0.2")
    with caplog.at_level(logging.INFO):
        assert not waiting.wait_for(address, Waits(), notifier, random.Random(0))
    assert 100 <= len(caplog.records) <= 200
    assert week_s / LONGEST_S <= tries <= 2.1 * week_s / LONGEST_S
    assert len(sent) == 1  # the status; no watchdog is set here


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

"""Brokers for everybody: real ones, started once per test process."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from fimi.messaging import link
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker, find_mosquitto
from fimi.messaging.broker.passwords import password_hash
from fimi.messaging.errors import BrokerError

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Runs that tests start are looked at by those tests only that say so.
os.environ.setdefault("FIMI_DASHBOARD", "off")
# Of the processes that tests start, the first one compiles the modules and the others read them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests send these signals to processes, which inherit what nohup and background jobs ignore.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, so that a red run is a change of ours; HYPOTHESIS_PROFILE=explore
# looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_fleets = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What programs keep for their user is shared by the tests of a session, and by nobody else."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")


@pytest.fixture(scope="session")
def mosquitto() -> Iterator[EmbeddedBroker]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with EmbeddedBroker("mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def amqtt() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker("amqtt") as broker:
        yield broker


@pytest.fixture(scope="session", params=["mosquitto", "amqtt"])
def any_broker(request: pytest.FixtureRequest) -> EmbeddedBroker:
    broker: EmbeddedBroker = request.getfixturevalue(request.param)
    return broker


@pytest.fixture(scope="session")
def a_broker(request: pytest.FixtureRequest) -> EmbeddedBroker:
    """The broker that ``fimi`` would choose here."""
    name = "mosquitto" if find_mosquitto() is not None else "amqtt"
    broker: EmbeddedBroker = request.getfixturevalue(name)
    return broker


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    return a_free_port()


@pytest.fixture(scope="session")
def home_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a mosquitto as somebody's smart home has it: everybody may say anything."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    port = a_free_port()
    folder: Path = tmp_path_factory.mktemp("home-broker")
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
    limit_s = time.monotonic() + 10.0
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < limit_s
            time.sleep(0.02)
    yield port
    process.terminate()
    process.wait(10)


@pytest.fixture
def own_mosquitto(tmp_path: Path, free_port: int) -> Iterator[Callable[..., BrokerAddress]]:
    """Start a mosquitto as a lab runs it: these users, access rules, and further lines."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    running: list[subprocess.Popen[bytes]] = []

    def start(
        rules: list[str],
        *,
        username: str = "fimi",
        also: tuple[str, ...] = (),
        more: tuple[str, ...] = (),
    ) -> BrokerAddress:
        hashed = password_hash("sesame", b"salt-of-12-b")
        users = [f"{name}:{hashed}\n" for name in (username, *also)]
        (tmp_path / "passwords").write_text("".join(users))
        (tmp_path / "rules").write_text("\n".join(rules) + "\n")
        lines = [
            f"listener {free_port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {tmp_path / 'passwords'}",
            f"acl_file {tmp_path / 'rules'}",
            *more,
        ]
        if os.geteuid() == 0:
            lines.append("user root")
        (tmp_path / "conf").write_text("\n".join(lines) + "\n")
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen([program, "-c", str(tmp_path / "conf")], stderr=log)
        log.close()
        running.append(process)
        address = BrokerAddress(
            host="127.0.0.1", port=free_port, username=username, password="sesame"
        )
        deadline_s = time.monotonic() + 10.0
        while True:
            try:
                link.probe(address)
                return address
            except BrokerError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline_s
                time.sleep(0.02)

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture
def fleet_name() -> str:
    """A fleet of one's own on a shared broker."""
    return f"test-{os.getpid()}-{next(_fleets)}"

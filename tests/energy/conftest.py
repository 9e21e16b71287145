"""A broker as somebody's smart home has it: everybody may say anything."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from messaging.broker import find_mosquitto


@pytest.fixture(scope="session")
def home_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a mosquitto without access rules."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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

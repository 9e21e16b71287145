"""A fleet with credentials, and its broker, once for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fimi.messaging.broker.embedded import find_mosquitto
from fimi.messaging.broker.of_fleet import FleetBroker
from fimi.messaging.bundle import Bundle
from fimi.messaging.credentials.folder import FleetFolder

pytest.importorskip("cryptography", reason="certificates are made with it (fimi-testbed[fleet])")


def _port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Fleet:
    """A folder, its broker, and the bundles of its peers."""

    def __init__(self, folder: FleetFolder, broker: FleetBroker) -> None:
        self.folder, self.broker = folder, broker

    def bundle(self, name: str) -> Bundle:
        return Bundle.read(self.folder.bundle(name))


def _fleet(path: Path, *, by_certificate: bool) -> Iterator[Fleet]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    folder = FleetFolder.begin(
        path, fleet="desk", hosts=["127.0.0.1"], port=_port(), by_certificate=by_certificate
    )
    for name in ("pi-01", "pi-02"):
        folder.enroll(name)
    with FleetBroker(folder) as broker:
        yield Fleet(folder, broker)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose peers show certificates."""
    yield from _fleet(tmp_path_factory.mktemp("fleet") / "by-certificate", by_certificate=True)


@pytest.fixture(scope="module")
def with_passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose peers have passwords."""
    yield from _fleet(tmp_path_factory.mktemp("fleet") / "by-password", by_certificate=False)


@pytest.fixture
def settle() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds, or fail."""
    import time

    def wait(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
        limit_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < limit_s, "not in time"
            time.sleep(0.01)

    return wait

"""Places to run the program in, and runs that several tests look at."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commandline import SMALL, SharedRun, Workplace

from fimi.messaging.broker.embedded import find_mosquitto


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path)
    try:
        yield workplace
    finally:
        workplace.clean_up()


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SharedRun]:
    """Runs ``fimi dry-run`` once per name in the whole test session, also with pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def run(name: str, *arguments: str) -> SharedRun:
        folder = root / f"shared-{name}"
        with locked(root / f"shared-{name}.lock"):
            ready = folder / "ready.json"
            if not ready.exists():
                folder.mkdir(exist_ok=True)
                place = Workplace(folder)
                try:
                    done = place.run("dry-run", *SMALL, *arguments)
                    left = tuple(place.leftovers())
                finally:
                    place.clean_up()
                finished = SharedRun(folder, done.returncode, done.stdout, done.stderr, left)
                ready.write_bytes(msgspec.json.encode(finished, enc_hook=str))
        return msgspec.json.decode(
            ready.read_bytes(), type=SharedRun, dec_hook=lambda kind, value: kind(value)
        )

    return run


@pytest.fixture(scope="session")
def reference(shared_run: Callable[..., SharedRun]) -> SharedRun:
    """Seed 0, JSON, over the broker that every installation has."""
    return shared_run("amqtt", "--format", "json", "--broker-kind", "amqtt")


@pytest.fixture(scope="session")
def repeated(shared_run: Callable[..., SharedRun]) -> SharedRun:
    """The same again, over the other broker where there is one."""
    kind = "amqtt" if find_mosquitto() is None else "mosquitto"
    name = "again" if kind == "amqtt" else kind
    return shared_run(name, "--format", "json", "--broker-kind", kind)


@pytest.fixture(scope="session", params=["mosquitto", "amqtt"])
def finished(request: pytest.FixtureRequest, shared_run: Callable[..., SharedRun]) -> SharedRun:
    """Seed 0, JSON, over either broker."""
    if request.param == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    return shared_run(request.param, "--format", "json", "--broker-kind", request.param)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between the processes of a test session."""
    try:
        import fcntl
    except ImportError:  # Windows: tests run in one process there
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def network() -> Iterator[Any]:
    """Two boards and a hub in network namespaces."""
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    from namespace_network import Network, why_not
    from namespaces import BOARDS

    if reason := why_not():
        pytest.skip(reason)
    with Network(BOARDS) as network:
        yield network


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of boards with the base install only."""
    from namespace_lab import base_environment

    return base_environment(tmp_path_factory.mktemp("board") / "environment")

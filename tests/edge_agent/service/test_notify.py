"""The service manager's socket, heard at its other end."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fimi.edge_agent.service.notify import MOST_STATUS_BYTES, Notifier


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = str(tmp_path / "notify") if request.param == "file" else f"@fimi-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(name.replace("@", "\0", 1))
        heard.setblocking(False)
        yield name, heard


def all_of(heard: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(heard.recv(4096).decode())
        except BlockingIOError:
            return found


def test_what_is_said(manager: tuple[str, socket.socket]) -> None:
    name, heard = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.heard
    notifier.ready()
    notifier.status("waits for\na coordinator")
    notifier.status("waits for a  coordinator")  # the same: not again
    notifier.status("ü" * MOST_STATUS_BYTES)
    notifier.alive()  # nobody watches
    notifier.stopping()
    said = all_of(heard)
    assert said[:2] == ["READY=1", "STATUS=waits for a coordinator"]
    assert said[2] == "STATUS=" + "ü" * (MOST_STATUS_BYTES // 2)
    assert said[3:] == ["STOPPING=1"]


def test_the_watchdog_hears_no_more_than_it_must(manager: tuple[str, socket.socket]) -> None:
    name, heard = manager
    now_s = 0.0
    given = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(given, lambda: now_s)
    assert notifier.watchdog_s == 60.0
    for _ in range(600):  # ten minutes, asked every second
        notifier.alive()
        now_s += 1.0
    said = all_of(heard)
    assert set(said) == {"WATCHDOG=1"}
    assert len(said) == 20


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "vsock:2:9"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1000000"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "many"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_there_is_no_error(given: dict[str, str]) -> None:
    notifier = Notifier(given)
    notifier.ready()
    notifier.status("on its own")
    notifier.alive()
    notifier.stopping()
    if "WATCHDOG_PID" in given or given.get("WATCHDOG_USEC") in (None, "0", "many"):
        assert notifier.watchdog_s is None

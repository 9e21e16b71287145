"""All that looks at a run: what goes where, and what does not."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
import uvicorn
from click.testing import CliRunner
from told import Told

from fimi.monitor.server import door
from fimi.record.events import DeviceJoined, DeviceLost
from fimi.record.interventions import ControlState, GoOn, Pausing
from fimi.record.record import RunInfo
from fimi.testbed.commands.dashboard import DASHBOARD, PORT, Place
from fimi.testbed.configuration.sections import Config, RunConfig
from fimi.testbed.processes.windows import Windows
from fimi.testbed.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    config = Config(run=RunConfig(name="r", directory=str(tmp_path)))
    made = RunFolder(config, RunInfo(run="r", config={"rounds.count": 3}))
    yield made
    made.close()


def get(url: str, path: str) -> tuple[int, bytes]:
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_events_go_everywhere_and_the_key_to_the_terminal_only(folder: RunFolder) -> None:
    terminal, lost = Told(), DeviceLost(device="d", reason="went offline")
    with Windows(folder, terminal, "a run", Place(port=0)) as windows:
        windows(lost)
        windows.say("broker: there")
        at = door.find(folder.path)
        assert any(at.with_key in line for line in terminal.said)
        status, body = get(at.url, "/snapshot")
        said = [each["text"] for each in json.loads(body)["said"].values()]
        assert status == 200 and said == ["d: went offline", "broker: there"]
        assert at.key not in body.decode()
        assert windows.telemetry_s > windows.looked_s > 0.0 and windows.controls is not None
        windows(DeviceJoined(device="d", board="pi", kind="emulated", samples=7, backend="torch"))
        status, body = get(at.url, "/devices/d/trace?round=1")
        assert status == 200 or b"has no device" not in body  # nothing is stored of the run yet
        status, body = get(at.url, "/devices/nobody/trace?round=1")
        assert (status, json.loads(body)) == (404, {"error": "run r has no device 'nobody'"})
    assert terminal.events[0] == lost
    assert get_refused(at.url)


def get_refused(url: str) -> bool:
    try:
        get(url, "/snapshot")
    except ConnectionError:
        return True
    return False


def test_a_paused_run_does_not_wait_for_a_dashboard_that_has_failed(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = threading.Event()

    async def main_loop(server: uvicorn.Server) -> None:
        while not fails.is_set():
            await asyncio.sleep(0.01)
        raise RuntimeError("a fault")

    monkeypatch.setattr(uvicorn.Server, "main_loop", main_loop)
    with Windows(folder, Told(), "a run", Place(port=0)) as windows:
        controls = windows.controls
        assert controls is not None
        paused = Pausing(after_round=1, by="a test", at=0.0)
        controls.know(ControlState(paused=paused), set(), after_round=2, rounds=3)
        fails.set()
        limit_s = time.monotonic() + 30.0
        while (asked := controls.next()) is None:
            assert time.monotonic() < limit_s
            time.sleep(0.01)
        assert isinstance(asked.request, GoOn) and "dashboard has ended" in asked.by
        with pytest.raises(door.NoDoorError):
            door.find(folder.path)


def test_without_a_dashboard_nothing_listens(folder: RunFolder) -> None:
    terminal = Told()
    with Windows(folder, terminal, "a run", None) as windows:
        windows.say("broker: there")
        assert windows.telemetry_s == windows.looked_s == 0.0 and windows.controls is None
        with pytest.raises(door.NoDoorError, match="--dashboard off"):
            door.find(folder.path)
    assert terminal.said == ["broker: there"]
    assert terminal.watched == (windows.watcher, folder.path)
    terminal.wants_telemetry = True  # as one that shows watts does
    assert Windows(folder, terminal, "a run", None).telemetry_s > 0.0


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("off", None),
        ("OFF", None),
        ("on", Place()),
        (":9000", Place(port=9000)),
        (":0", Place(port=0)),
        ("0.0.0.0", Place("0.0.0.0", PORT)),
        ("lab-7:80", Place("lab-7", 80)),
        ("[::1]:80", Place("::1", 80)),
    ],
)
def test_places(given: str, place: Place | None) -> None:
    seen: list[Place | None] = []

    @click.command()
    @DASHBOARD
    def command(dashboard: Place | None) -> None:
        seen.append(dashboard)

    assert CliRunner().invoke(command, ["--dashboard", given]).exit_code == 0
    assert CliRunner().invoke(command, [], env={"FIMI_DASHBOARD": given}).exit_code == 0
    assert seen == [place, place]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "a b",
        "host:port",
        ":99999",
        "http://host:1",
        "user@host:1",
        "host/x",
        "::1",
        "0",
        "8765",
    ],
)
def test_what_is_no_place_is_said(given: str) -> None:
    @click.command()
    @DASHBOARD
    def command(dashboard: Place | None) -> None:
        raise AssertionError(dashboard)

    done = CliRunner().invoke(command, ["--dashboard", given])
    assert done.exit_code == 2 and "no place for a dashboard" in done.output
    assert "FIMI_DASHBOARD" not in done.output
    done = CliRunner().invoke(command, [], env={"FIMI_DASHBOARD": given})
    assert not given or "(FIMI_DASHBOARD) is no place for a dashboard" in done.output

"""The dashboard over real sockets: who may look and act, and what listeners are told."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fimi.monitor.changes import apply
from fimi.monitor.feed import Feed
from fimi.monitor.server import door
from fimi.monitor.server.access import is_loopback
from fimi.monitor.server.hooks import NotNow
from fimi.monitor.server.service import Dashboard
from fimi.monitor.snapshot import Snapshot
from fimi.monitor.watcher import Watcher
from fimi.record.events import DeviceJoined, RunFinished
from fimi.record.record import RunInfo


class Answers:
    """A run that answers."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def trace(self, device: str, number: int) -> Any:
        if device != "d":
            raise NotNow(f"no readings of {device}")
        return {"device": device, "round": number}

    def control(self, body: bytes) -> Any:
        self.asked.append(body)
        return {"done": json.loads(body)["what"]}

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"# EOF\n", "application/openmetrics-text"


@pytest.fixture
def watcher() -> Watcher:
    return Watcher(RunInfo(run="r", config={"rounds.count": 4}))


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def dashboard(watcher: Watcher, answers: Answers, tmp_path: Path) -> Iterator[Dashboard]:
    with Dashboard(watcher, answers, folder=tmp_path) as served:
        yield served


def ask(
    url: str, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body, headers=given)
    answer = connection.getresponse()
    found = (answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    connection.close()
    return found


def key_of(served: Dashboard) -> str:
    return parse_qs(urlsplit(served.url).query)["key"][0]


class TestWhoMayLookAndAct:
    def test_on_loopback_everybody_looks_and_nobody_acts(
        self, dashboard: Dashboard, answers: Answers
    ) -> None:
        assert ask(dashboard.url, "/")[0] == 200
        status, _, body = ask(dashboard.url, "/snapshot")
        assert status == 200 and json.loads(body)["may_act"] is False
        status, _, body = ask(dashboard.url, "/control", method="POST", body=b'{"what":"stop"}')
        assert status == 403 and "key" in json.loads(body)["error"]
        assert answers.asked == []

    def test_who_opens_the_page_with_the_key_acts(
        self, dashboard: Dashboard, answers: Answers
    ) -> None:
        status, headers, _ = ask(dashboard.url, f"/?key={key_of(dashboard)}")
        cookie = headers["set-cookie"]
        assert status == 200 and headers["referrer-policy"] == "no-referrer"
        assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()
        sent = cookie.split(";")[0]
        body = b'{"what":"pause"}'
        found = ask(dashboard.url, "/control", method="POST", body=body, Cookie=sent)
        assert found[0] == 200 and json.loads(found[2]) == {"done": "pause"}

    def test_commands_send_it_as_a_header(self, dashboard: Dashboard, tmp_path: Path) -> None:
        at = door.find(tmp_path)
        found = ask(at.url, "/control", method="POST", body=b'{"what":"x"}', X_FIMI_Key=at.key)
        assert found[0] == 200
        wrong = ask(at.url, "/control", method="POST", body=b'{"what":"x"}', X_FIMI_Key="guess")
        assert wrong[0] == 403

    @pytest.mark.parametrize("path", ["/", "/snapshot", "/feed", "/metrics", "/assets/index.html"])
    def test_a_page_of_another_site_sees_nothing(self, dashboard: Dashboard, path: str) -> None:
        """Its name may lead here (DNS rebinding); the request still carries it."""
        status, _, body = ask(dashboard.url, path, Host="evil.example:80")
        assert status == 403 and "does not answer to 'evil.example:80'" in json.loads(body)["error"]

    def test_a_page_of_another_site_does_nothing(
        self, dashboard: Dashboard, answers: Answers
    ) -> None:
        key = key_of(dashboard)
        found = ask(
            dashboard.url,
            "/control",
            method="POST",
            body=b'{"what":"stop"}',
            X_FIMI_Key=key,
            Origin="http://evil.example",
        )
        assert found[0] == 403 and answers.asked == []

    def test_beyond_loopback_nobody_looks_without_the_key(
        self, watcher: Watcher, answers: Answers, tmp_path: Path
    ) -> None:
        with Dashboard(watcher, answers, folder=tmp_path, host="0.0.0.0") as served:
            url = door.find(tmp_path).url
            assert url == f"http://127.0.0.1:{urlsplit(served.url).port}/"
            # nobody can open 0.0.0.0 elsewhere
            assert urlsplit(served.url).hostname == socket.gethostname().lower()
            for path in ("/", "/snapshot", "/feed", "/metrics", "/plotly.js"):
                assert ask(url, path)[0] == 403
            assert ask(url, "/snapshot", X_FIMI_Key=key_of(served))[0] == 200

    @pytest.mark.parametrize(
        ("host", "local"),
        [
            *[("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True)],
            *[("localhost", True), ("LOCALHOST", True), ("0.0.0.0", False), ("", False)],
            *[("localhost.evil.example", False), ("127.0.0.1.evil.example", False)],
        ],
    )
    def test_what_is_loopback(self, host: str, local: bool) -> None:
        assert is_loopback(host) is local


class TestTheDoor:
    def test_only_its_user_reads_it_and_it_goes_with_the_server(
        self, watcher: Watcher, answers: Answers, tmp_path: Path
    ) -> None:
        with Dashboard(watcher, answers, folder=tmp_path) as served:
            path = tmp_path / door.NAME
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert door.find(tmp_path).with_key == served.url
        with pytest.raises(door.NoDoorError, match="not running"):
            door.find(tmp_path)

    def test_one_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / door.NAME).write_text("{")
        with pytest.raises(door.NoDoorError, match="cannot be read"):
            door.find(tmp_path)


def events(url: str, count: int, before_each: dict[int, Any]) -> list[tuple[str, Any]]:
    """Events of the feed; calls ``before_each[n]`` before the nth is read."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    connection.request("GET", "/feed")
    answer = connection.getresponse()
    found: list[tuple[str, Any]] = []
    kind = ""
    while len(found) < count:
        if (act := before_each.pop(len(found), None)) is not None:
            act()
        line = answer.readline().decode()
        assert line, "the feed has ended"
        if line.startswith("event: "):
            kind = line[7:].strip()
        elif line.startswith("data: "):
            found.append((kind, json.loads(line[6:])))
    connection.close()
    return found


class TestTheFeed:
    def test_a_whole_snapshot_then_changes(self, dashboard: Dashboard, watcher: Watcher) -> None:
        joined = DeviceJoined(
            device="d", board="pi", kind="emulated", samples=7, backend="torch <b>"
        )
        got = events(dashboard.url, 3, {1: lambda: watcher(joined)})
        assert [kind for kind, _ in got] == ["whole", "change", "change"]
        state = got[0][1]
        assert "devices" not in got[0][1] or got[0][1]["devices"] == {}
        for _, patch in got[1:]:
            state = apply(state, patch)
        assert state["devices"]["d"]["board"] == "pi"
        assert "run" not in got[2][1]  # nothing of it has changed

    def test_listeners_share_and_nobody_listening_costs_nothing(self, dashboard: Dashboard) -> None:
        seen: list[list[tuple[str, Any]]] = [[], []]
        threads = [
            threading.Thread(target=lambda n=n: seen[n].extend(events(dashboard.url, 2, {})))
            for n in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert all(len(each) == 2 and each[0][0] == "whole" for each in seen)

    def test_many_who_come_at_once_set_it_going_once(self, watcher: Watcher) -> None:
        taken: list[Snapshot] = []

        def take() -> Snapshot:
            taken.append(watcher.snapshot())
            time.sleep(0.05)  # while the others come
            return taken[-1]

        async def look() -> list[bytes]:
            feed = Feed(take, interval_s=3600.0)
            listeners = [feed.listen() for _ in range(5)]
            wholes = await asyncio.gather(*(anext(each) for each in listeners))
            await asyncio.sleep(0.2)
            for each in listeners:
                await each.aclose()
            return wholes

        wholes = asyncio.run(look())
        assert len(taken) == 1
        assert len(set(wholes)) == 1 and wholes[0].startswith(b"event: whole")

    def test_the_last_state_is_told_before_the_end(
        self, watcher: Watcher, answers: Answers
    ) -> None:
        with Dashboard(watcher, answers, folder=None) as served:
            at = urlsplit(served.url)
            connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
            connection.request("GET", "/feed")
            answer = connection.getresponse()
            assert answer.readline() == b"event: whole\n"
            watcher(RunFinished(status="completed", reason="4 rounds"))
        rest = answer.read().decode()
        assert '"state":"completed"' in rest


class TestRequestsThatCannotBe:
    def test_each_is_told_why(self, dashboard: Dashboard) -> None:
        url = dashboard.url
        assert ask(url, "/devices/d/trace?round=2")[2] == b'{"device":"d","round":2}'
        assert ask(url, "/devices/x/trace?round=2")[0] == 404
        for number in ("", "-1", "1e3", "²", "9" * 40):
            path = f"/devices/d/trace?round={number.encode().hex() if number == '²' else number}"
            assert ask(url, path)[0] == 400
        assert ask(url, "/assets/..%2Fapp.py")[0] == 404
        assert ask(url, "/assets/nothing.js")[0] == 404
        big = ask(url, "/control", method="POST", body=b"x" * 70_000, X_FIMI_Key=key_of(dashboard))
        assert big[0] == 413

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
    def test_a_taken_port_is_not_fatal(
        self, watcher: Watcher, answers: Answers, tmp_path: Path, host: str
    ) -> None:
        with socket.socket() as taken:
            taken.bind((host, 0))
            taken.listen()
            port = taken.getsockname()[1]
            with Dashboard(watcher, answers, folder=tmp_path, host=host, port=port) as served:
                at = door.find(tmp_path)
                assert served.url and f":{port}/" not in served.url
                assert ask(at.url, "/snapshot", X_FIMI_Key=at.key)[0] == 200

    def test_an_address_of_another_machine_is_said_and_the_run_goes_on(
        self, watcher: Watcher, answers: Answers
    ) -> None:
        said: list[str] = []
        with Dashboard(watcher, answers, folder=None, host="192.0.2.1", say=said.append) as served:
            assert served.url == ""
        assert len(said) == 1 and "192.0.2.1" in said[0] and "without it" in said[0]

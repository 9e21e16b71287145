"""What people or programs do to a dashboard that its run must not feel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from stored_runs import device_round, round_result

from fimi.monitor import feed, tallies, watcher
from fimi.monitor.changes import Json, apply, as_json
from fimi.monitor.feed import Feed
from fimi.monitor.server import app, service
from fimi.monitor.server.hooks import NoHooks
from fimi.monitor.server.service import Dashboard
from fimi.monitor.snapshot import RunNow, Snapshot
from fimi.monitor.watcher import Watcher
from fimi.record.events import RoundFinished, RoundStarted
from fimi.record.record import RunInfo


@pytest.fixture
def port() -> Iterator[int]:
    seen = Watcher(RunInfo(run="r", config={"rounds.count": 4}))
    with Dashboard(seen, NoHooks(), folder=None) as served:
        yield urlsplit(served.url).port or 0


def said_to(port: int, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text)
        return connection.recv(200)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /snapshot HTTP/1.1\r\nHost: [\r\n\r\n", b" 403 "),
        (b"GET /snapshot HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", b" 403 "),
        (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b" 400 "),  # a browser that asks for TLS
    ],
)
def test_what_is_no_request_is_refused_without_a_word_in_the_log(
    port: int, text: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert status in said_to(port, text)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_many_connections_take_few_files(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CONNECTIONS_MOST", 5)
    files = Path("/proc/self/fd")
    before = len([*files.iterdir()]) if files.exists() else 0
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            for _ in range(30)
        ]
        closed = []
        for each in opened[5:]:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
            closed.append(each)
        assert len(closed) == 25
        if before:
            assert len([*files.iterdir()]) - before < 30 + 10
    deadline_s = time.monotonic() + 20.0
    while time.monotonic() < deadline_s:  # they are gone: there is room again
        with contextlib.suppress(OSError):
            if b" 200 " in said_to(port, b"GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n"):
                return
    pytest.fail("nobody gets in any more")


def test_who_asks_nothing_is_not_kept(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ASKS_S", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /snapshot HTT")  # and never the rest
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_a_snapshot_that_fails_ends_no_feed(caplog: pytest.LogCaptureFixture) -> None:
    taken = 0

    def take() -> Snapshot:
        nonlocal taken
        taken += 1
        if taken in (2, 3):
            raise ValueError("not this time")
        return Snapshot(unix_s=float(taken), run=RunNow(name="r"))

    async def look() -> list[bytes]:
        listener = Feed(take, interval_s=0.01).listen()
        found = [await asyncio.wait_for(anext(listener), 20) for _ in range(2)]
        await listener.aclose()
        return found

    whole, change = asyncio.run(look())
    assert whole.startswith(b"event: whole") and b'"unix_s":4.0' in change
    assert sum("stands still" in each.message for each in caplog.records) == 1


def test_sums_are_kept_while_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "UNSEEN_S", 0.01)
    twice = threading.Barrier(2)

    class Kept:
        def snapshot(self) -> Snapshot:
            twice.wait(20.0)
            return Snapshot(unix_s=1.0, run=RunNow(name="r"))

    with Dashboard(Kept(), NoHooks(), folder=None, keeps_up=True):
        for _ in range(2):
            twice.wait(20.0)
        twice.abort()


def test_what_json_has_not_is_left_out() -> None:
    run = RunNow(name="r", accuracy=float("nan"), left_s=float("inf"), target=0.5)
    found = as_json(Snapshot(unix_s=1.0, run=run))["run"]
    assert found["target"] == 0.5 and not {"accuracy", "left_s"} & found.keys()


def test_the_run_goes_on_while_a_viewer_makes_it_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody opens the page after many rounds: all are added up, and no event waits for it."""
    adding, event_taken = threading.Event(), threading.Event()

    class Slow(tallies.Tallies):
        def settle(self) -> None:
            adding.set()
            assert event_taken.wait(20.0), "the coordinator's thread waits for a viewer"
            super().settle()

    monkeypatch.setattr(watcher, "Tallies", Slow)
    seen = Watcher(RunInfo(run="r", config={"rounds.count": 4}))
    seen(RoundFinished(result=round_result(1, [device_round("d")], 0.5)))
    viewer = threading.Thread(target=seen.snapshot)
    viewer.start()
    assert adding.wait(20.0)
    seen(RoundStarted(round=2, devices=("d",)))
    event_taken.set()
    viewer.join(20.0)
    assert seen.snapshot().run.round == 2


def test_who_comes_while_a_feed_is_closed_gets_the_state_and_the_end() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def take() -> Snapshot:
        begun.set()
        assert goes_on.wait(20.0)
        return Snapshot(unix_s=1.0, run=RunNow(name="r"))

    async def look() -> list[bytes]:
        told = Feed(take, interval_s=0.001)

        async def heard() -> list[bytes]:
            return [chunk async for chunk in told.listen()]

        listening = asyncio.create_task(heard())
        await asyncio.to_thread(begun.wait, 20.0)
        await told.close()
        goes_on.set()
        found = await asyncio.wait_for(listening, 20.0)
        assert told.listeners == 0 and len(asyncio.all_tasks()) == 1, "nobody ticks for nobody"
        return found

    (whole,) = asyncio.run(look())
    assert whole.startswith(b"event: whole")


@pytest.mark.parametrize("behind", [3, 5, 8])
def test_who_is_behind_when_a_feed_is_closed_gets_all_of_the_last_state(behind: int) -> None:
    taken = 0

    def take() -> Snapshot:
        nonlocal taken
        taken += 1
        doing = "the first" if taken == 1 else "another"  # it changes once, in the first patch
        return Snapshot(unix_s=float(taken), run=RunNow(name="r", doing=doing))

    async def look() -> tuple[Json, Json]:
        told = Feed(take, interval_s=0.001)
        listener = told.listen()
        first = await anext(listener)
        while taken < behind:
            await asyncio.sleep(0.001)
        await told.close()
        state = json.loads(first.split(b"data: ")[1])
        async for chunk in listener:
            body = json.loads(chunk.split(b"data: ")[1])
            state = body if chunk.startswith(b"event: whole") else apply(state, body)
        return state, told._now

    state, last = asyncio.run(look())
    assert state == last and state["run"]["doing"] == "another"


def test_those_without_a_key_keep_nobody_out_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "KEYLESS_MOST", 3)
    seen = Watcher(RunInfo(run="r", config={"rounds.count": 4}))
    ask = b"GET /feed HTTP/1.1\r\nHost: localhost\r\n"
    with Dashboard(seen, NoHooks(), folder=None) as served, contextlib.ExitStack() as stack:
        place = urlsplit(served.url)
        port, key = place.port or 0, parse_qs(place.query)["key"][0].encode()

        def feed_of(more: bytes = b"") -> socket.socket:
            made = socket.create_connection(("127.0.0.1", port), timeout=20)
            stack.callback(made.close)
            made.sendall(ask + more + b"\r\n")
            return made

        looking = [feed_of() for _ in range(3)]
        assert all(b" 200 " in each.recv(100) for each in looking)
        refused = feed_of()
        answer = b""
        while b"?key=" not in answer:
            part = refused.recv(2000)
            assert part
            answer += part
        assert b" 503 " in answer
        assert b" 200 " in feed_of(b"X-FIMI-Key: " + key + b"\r\n").recv(100)
        looking.pop().close()  # there is room again
        limit_s = time.monotonic() + 20.0
        while b" 200 " not in feed_of().recv(100):
            assert time.monotonic() < limit_s

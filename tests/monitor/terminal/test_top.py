"""``fimi top`` in a real terminal, beside a real dashboard."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from made_snapshots import fleet
from msgspec.structs import replace
from own_terminal import OwnTerminal, started

from fimi.errors import InputError
from fimi.monitor.asking import Asking
from fimi.monitor.server import door
from fimi.monitor.server.hooks import NoHooks
from fimi.monitor.server.service import Dashboard
from fimi.monitor.snapshot import Snapshot
from fimi.monitor.terminal.display import Display, EverySecond
from fimi.monitor.terminal.listener import FeedAddress, FeedError, FeedListener, snapshot_at
from fimi.record.interventions import (
    AskFor,
    ControlAnswer,
    ExcludeDevice,
    GoOn,
    LookAt,
    Request,
)
from fimi.testbed.cli import main

TOP = (sys.executable, "-m", "fimi.testbed.cli", "top")


class Answers(NoHooks):
    """Takes requests."""

    def __init__(self) -> None:
        self.asked: list[AskFor | LookAt] = []

    def control(self, body: bytes) -> ControlAnswer:
        self.asked.append(msgspec.json.decode(body, type=AskFor | LookAt))
        return ControlAnswer(number=1, state="accepted", after_round=7, words="after round 7")


class Running:
    """A run that goes on; what it looks like is set."""

    def __init__(self) -> None:
        self.now = fleet(30)
        self._began = time.time()

    def snapshot(self) -> Snapshot:
        return replace(self.now, unix_s=self.now.unix_s + time.time() - self._began)

    def end(self) -> None:
        self.now = replace(self.now, run=replace(self.now.run, state="completed", reason="done"))


@pytest.fixture
def running() -> Running:
    return Running()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "trial"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def served(running: Running, folder: Path) -> Iterator[Dashboard]:
    with Dashboard(running, NoHooks(), folder=folder) as dashboard:
        yield dashboard


@pytest.fixture
def terminal() -> Iterator[OwnTerminal]:
    made = OwnTerminal()
    yield made
    made.close()


def test_keys_work_and_the_end_of_the_run_is_its_end(
    running: Running, folder: Path, terminal: OwnTerminal
) -> None:
    with (
        Dashboard(running, NoHooks(), folder=folder) as served,
        started(terminal, TOP, folder.parents[1]) as process,
    ):
        terminal.until("device-007")
        assert terminal.modes() != terminal.before
        assert "30 devices · ! 6 with problems" in terminal.text
        assert "\x1b[31m" in terminal.written
        terminal.type("\x1b[B\x1b[B")
        terminal.until(">!device-021")
        terminal.type("\r")
        terminal.until("went offline")
        terminal.type("\x1b")
        terminal.until("30 devices")
        terminal.type("/mini\r")
        terminal.until("10 of 30 devices")
        terminal.resize(50, 15)
        terminal.until(lambda: max(terminal.screen, default=0) == 15)
        running.end()
        served.__exit__()  # as it ends with the run
        terminal.until(lambda: process.poll() is not None)
        terminal.read(0.1)
    assert process.returncode == 0
    assert terminal.is_restored
    last = terminal.written.rpartition("\x1b[?1049l")[2]
    assert "completed" in last and "… and" in last and "\x1b" not in last


def test_it_gives_the_terminal_back_when_it_is_stopped_or_ended(
    served: Dashboard, folder: Path, terminal: OwnTerminal
) -> None:
    with started(terminal, (*TOP, "trial"), folder.parents[1], NO_COLOR="1") as process:
        terminal.until("device-007")
        assert "\x1b[31m" not in terminal.written
        terminal.type("\x1a")  # Ctrl-Z
        assert os.waitpid(process.pid, os.WUNTRACED)[1] & 0xFF == 0x7F
        terminal.read(0.1)
        assert terminal.is_restored
        opened = terminal.written.count("\x1b[?1049h")
        os.kill(process.pid, signal.SIGCONT)
        terminal.until(lambda: terminal.written.count("\x1b[?1049h") > opened)
        terminal.until("device-007")
        assert terminal.modes() != terminal.before
        process.send_signal(signal.SIGTERM)
        terminal.until(lambda: process.poll() is not None)
        terminal.read(0.1)
    assert process.returncode == 128 + signal.SIGTERM
    assert terminal.is_restored


def test_what_is_asked_of_the_run_is_asked_of_the_person_first(
    running: Running, folder: Path, terminal: OwnTerminal
) -> None:
    answers, heard = Answers(), threading.Event()

    def act(request: Request) -> str:
        heard.set()
        return Asking(folder).ask(request, "a test").words

    name = Path(os.ttyname(terminal.slave))
    with (
        Dashboard(running, answers, folder=folder),
        name.open("w", encoding="utf-8") as out,
        name.open(encoding="utf-8") as keys,
    ):
        display = Display(out, keys, EverySecond(running.snapshot), act=act)
        thread = threading.Thread(target=display.run, args=(lambda: False,), daemon=True)
        thread.start()
        terminal.until("device-007")
        terminal.type("P")
        terminal.until("pause? y asks the run for it")
        terminal.type("n")
        terminal.until("q leave")
        assert not heard.is_set()
        terminal.type("jX")
        terminal.until("exclude device-014? y")
        terminal.type("y")
        terminal.until("after round 7")
        running.now = replace(running.now, run=replace(running.now.run, state="paused"))
        terminal.until("· paused ·")
        terminal.type("P")
        terminal.until("go on? y")
        terminal.type("y")
        until(lambda: len(answers.asked) == 2)
        terminal.type("q")
        thread.join(20)
    asked = [each.request for each in answers.asked if isinstance(each, AskFor)]
    assert asked == [ExcludeDevice(device="device-014"), GoOn()]
    terminal.read(0.1)
    assert terminal.is_restored


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOP, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_in_a_pipe_it_prints_once(served: Dashboard, folder: Path) -> None:
    done = run("--url", served.url, folder=folder)
    assert done.returncode == 0 and done.stderr == ""
    assert all(name in done.stdout for name in fleet(30).devices)
    assert "165 J (emulated, board) so far" in done.stdout and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_cannot_be_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "trial").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (("trial",), "run trial has no dashboard now"),
        (("trail",), "did you mean trial?"),
        ((), "nothing goes on in runs/ or experiments/"),
    ):
        done = CliRunner().invoke(main, ["top", *words])
        assert done.exit_code == 3 and said in done.output
    here = socket.gethostname()
    gone = door.Door(url="http://127.0.0.1:9/", key="k", pid=2**22 + 1, host=here)  # no process
    (tmp_path / "runs" / "trial" / door.NAME).write_bytes(msgspec.json.encode(gone))
    done = CliRunner().invoke(main, ["top", "trial", "--once"])
    assert done.exit_code == 3 and "--resume trial" in done.output and "R015" in done.output
    away = replace(gone, host="desk-7")  # the folder is looked at over a network
    (tmp_path / "runs" / "trial" / door.NAME).write_bytes(msgspec.json.encode(away))
    done = CliRunner().invoke(main, ["control", "trial", "pause", "--yes"])
    assert done.exit_code == 3 and "started on desk-7; ask there" in done.output
    assert CliRunner().invoke(main, ["top", "trial", "--url", "http://a/"]).exit_code == 2
    assert CliRunner().invoke(main, ["top", "--url", "trial"]).exit_code == 2


def test_of_several_runs_one_is_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, pid in (("a", os.getpid()), ("b", os.getpid()), ("killed", 2**22 + 7)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        at = door.Door(url="http://127.0.0.1:9/", key="k", pid=pid)
        (folder / door.NAME).write_bytes(msgspec.json.encode(at))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["top"])
    assert done.exit_code == 2 and "name one: runs/a, runs/b." in done.output
    done = CliRunner().invoke(main, ["top", "b"])
    assert done.exit_code == 3 and "http://127.0.0.1:9/: Connection refused" in done.output
    done = CliRunner().invoke(main, ["top", "killed"])
    assert done.exit_code == 3 and f"process {2**22 + 7}, is gone" in done.output


@pytest.mark.parametrize("text", ["", "runs/trial", "ftp://a/", "http://", "http://a:x/"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError, match="is no address of a dashboard"):
        FeedAddress.of(text)


def test_an_address_as_it_is_printed(served: Dashboard) -> None:
    found = FeedAddress.of(served.url)
    assert f"{found.url}?key={found.key}" == served.url
    assert FeedAddress.of("http://[::1]:80/a/b?key=k") == FeedAddress(
        url="http://[::1]:80/a/b/", key="k"
    )


def until(what: object, limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_connects_again_wherever_the_run_is_then(running: Running, folder: Path) -> None:
    def where() -> FeedAddress:
        try:
            at = door.find(folder)
        except door.NoDoorError as error:
            raise ConnectionError(error) from None  # as long as it is started again
        return FeedAddress(url=at.url, key=at.key)

    with FeedListener(where, again_s=0.05) as listener:
        with Dashboard(running, NoHooks(), folder=folder):
            until(lambda: listener.latest() is not None)
            assert listener.link() == "" and not listener.over
            first = door.find(folder)
            heard = listener.latest()
            assert heard is not None and heard.devices == running.now.devices
            running.now = replace(running.now, devices={})
            until(lambda: not listener.latest().devices)  # type: ignore[union-attr]
        until(lambda: "not connected since" in listener.link())
        assert not listener.over  # it was not said that the run is over
        running.now = fleet(3)
        with Dashboard(running, NoHooks(), folder=folder):
            assert door.find(folder).key != first.key
            until(lambda: listener.link() == "")
            until(lambda: len(listener.latest().devices) == 3)  # type: ignore[union-attr]
            running.end()
            until(lambda: listener.latest().run.state == "completed")  # type: ignore[union-attr]
        until(lambda: listener.over)
        assert listener.trouble == ""


def test_what_is_no_dashboard_is_told(served: Dashboard) -> None:
    at = FeedAddress.of(served.url)
    with pytest.raises(FeedError, match="answers 404"):
        snapshot_at(FeedAddress(url=f"{at.url}nothing/"))
    with pytest.raises(FeedError, match="Connection refused"):
        snapshot_at(FeedAddress(url="http://127.0.0.1:9/"))
    with FeedListener(lambda: FeedAddress(url=f"{at.url}nothing/")) as listener:
        until(lambda: listener.over)
        assert "answers 404" in listener.trouble


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: whole\ndata: [1]\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: whole\ndata: {}\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: whole\ndata: "
        + b'{"unix_s":1'
        + b"0" * 400
        + b',"run":{"name":"r"}}\n\n',
        b'HTTP/1.1 403 No\r\nContent-Length: 24\r\n\r\n{"error":"\x1b[2Jno key"}    ',
    ],
)
def test_who_answers_something_else_is_not_listened_to(answer: bytes) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        at = FeedAddress(url=f"http://127.0.0.1:{listening.getsockname()[1]}/")
        with FeedListener(lambda: at) as listener:
            until(lambda: listener.over)
            assert (listener.trouble.isprintable() and str(at.url) in listener.trouble) or (
                "version of fimi" in listener.trouble
            )


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"unix_s": Infinity}', b'{"unix_s": 1e999}', b'{"a":' * 100_000, b'"half'],
)
def test_what_cannot_be_read_is_told_and_tried_again(data: bytes) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        asked = threading.Semaphore(0)

        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                        b"event: whole\ndata: " + data + b"\n\n"
                    )
                asked.release()

        threading.Thread(target=serve, daemon=True).start()
        at = FeedAddress(url=f"http://127.0.0.1:{listening.getsockname()[1]}/")
        with FeedListener(lambda: at, again_s=0.01) as listener:
            assert asked.acquire(timeout=20) and asked.acquire(timeout=20)
            until(lambda: "not connected" in listener.link())
            assert not listener.over

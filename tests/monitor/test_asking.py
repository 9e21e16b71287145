"""A command asks a run that goes on, through a real dashboard; and what it says where none is."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fimi.coordinator.controls import Controls
from fimi.monitor.asking import Asking, NoAnswerError
from fimi.monitor.server import door
from fimi.monitor.server.door import NoDoorError
from fimi.monitor.server.hooks import NoHooks, NotNow
from fimi.monitor.server.service import Dashboard
from fimi.monitor.watcher import Watcher
from fimi.record.events import (
    DeviceJoined,
    Event,
    Intervened,
    InterventionAsked,
    Paused,
    RoundStarted,
    StillInForce,
)
from fimi.record.interventions import (
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    Request,
    SetDeadline,
    StopRun,
)
from fimi.record.record import RunInfo
from fimi.record.store import RunStore

ANNA = "command line (anna)"


class Asked:
    """Hooks of a run that takes requests."""

    def __init__(self, controls: Controls) -> None:
        self.controls = controls

    def trace(self, device: str, number: int) -> Any:
        raise NotNow("none")

    def control(self, body: bytes) -> Any:
        return self.controls.hear(body)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        raise NotNow("none")


@pytest.fixture
def controls() -> Controls:
    return Controls()


@pytest.fixture
def dashboard(controls: Controls, tmp_path: Path) -> Iterator[Dashboard]:
    with Dashboard(Watcher(RunInfo(run="r")), Asked(controls), folder=tmp_path) as served:
        yield served


def serve(controls: Controls, **said: Any) -> threading.Thread:
    """A coordinator that serves one request a moment later."""

    def soon() -> None:
        asked = controls.next()
        assert asked is not None
        controls.served(asked, after_round=3, said="so it is", **said)

    thread = threading.Timer(0.05, soon)
    thread.start()
    return thread


def test_a_request_is_handed_in_and_waited_for(
    dashboard: Dashboard, controls: Controls, tmp_path: Path
) -> None:
    asking = Asking(tmp_path)
    answer = asking.ask(ExcludeDevice(device="a"), ANNA)
    assert (answer.state, answer.number) == ("accepted", 1)
    asked = controls.next()
    assert asked is not None
    assert (asked.request, asked.by) == (ExcludeDevice(device="a"), ANNA)
    thread = serve(controls, refusal="no-plan")
    answer = asking.wait(answer, asked.request, ANNA)
    thread.join()
    assert (answer.state, answer.refusal, answer.words) == ("refused", "no-plan", "so it is")


def test_an_experiment_says_that_it_takes_none(tmp_path: Path) -> None:
    with (
        Dashboard(Watcher(RunInfo(run="r")), NoHooks(), folder=tmp_path),
        pytest.raises(NoAnswerError, match="an experiment and its runs take no requests; Ctrl-C"),
    ):
        Asking(tmp_path).ask(StopRun(), ANNA)


@pytest.mark.parametrize(
    "said",
    [
        '{"url":"http://127',
        '{"url":"nowhere","key":"k","pid":1}',
        '{"url":"http://[::1","key":"k","pid":1}',
        '{"url":"http://127.0.0.1:99999/","key":"k","pid":1}',
        '{"url":"http://127.0.0.1:9/","key":"k\\nk","pid":1}',
    ],
)
def test_a_damaged_file_is_said(tmp_path: Path, said: str) -> None:
    (tmp_path / "dashboard.json").write_text(said)
    with pytest.raises(NoDoorError, match=r"dashboard\.json cannot be read"):
        Asking(tmp_path)


@pytest.mark.parametrize("done", [True, False])
def test_a_run_that_ends_meanwhile_has_the_answer_in_its_record(
    controls: Controls, tmp_path: Path, done: bool
) -> None:
    store = RunStore(tmp_path / "run.sqlite")
    with Dashboard(Watcher(RunInfo(run="r")), Asked(controls), folder=tmp_path):
        asking = Asking(tmp_path)
        answer = asking.ask(StopRun(), ANNA)
        asked = controls.next()
        assert asked is not None
    for by in (ANNA, "somebody else"):
        store.write_event(
            Intervened(
                round=4,
                number=1,
                request=StopRun(),
                by=by,
                asked_at=asked.at,
                done=done,
                words=f"by {by}",
            )
        )
    store.close()
    answer = asking.wait(answer, StopRun(), ANNA)
    assert answer.after_round == 4
    assert (answer.state, answer.words) == (
        ("done", f"done: by {ANNA}") if done else ("refused", f"by {ANNA}")
    )
    with pytest.raises(NoAnswerError, match="nobody answers"):
        asking.wait(controls.answer(asked.number), PauseRun(), ANNA)


def test_a_run_without_a_dashboard_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoDoorError, match="has no dashboard now"):
        Asking(tmp_path)


def test_a_coordinator_that_was_killed_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    door.put_up(tmp_path, f"http://127.0.0.1:{port}/", "key")
    with pytest.raises(NoAnswerError, match=r"nobody answers at .* was killed"):
        Asking(tmp_path).ask(PauseRun(), ANNA)


def test_another_run_at_the_same_address_is_no_answer(
    dashboard: Dashboard, controls: Controls, tmp_path: Path
) -> None:
    path = tmp_path / door.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "old", "pid": os.getpid()}))
    with pytest.raises(NoAnswerError, match="another run listens there now"):
        Asking(tmp_path).ask(PauseRun(), ANNA)
    assert controls.next() is None


@contextmanager
def says(reply: bytes) -> Iterator[str]:
    """A server that says this to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def live() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=live)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "nobody answers"),
        (b"", "nobody answers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "gives no answer that is one"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00[", "gives no answer"),
        (b'HTTP/1.1 400 Bad\r\nContent-Length: 13\r\n\r\n{"error":"x"}', "400 x"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "500 "),
    ],
)
def test_whatever_answers_there_the_error_says_so(tmp_path: Path, reply: bytes, words: str) -> None:
    with says(reply) as url:
        door.put_up(tmp_path, url, "key")
        with pytest.raises(NoAnswerError, match=words):
            Asking(tmp_path).ask(PauseRun(), ANNA)


# What the feed makes of requests.


def asked(request: Request) -> Event:
    return InterventionAsked(number=1, request=request, by=ANNA, asked_at=1.0)


def done(request: Request, **more: Any) -> Event:
    fields = {"round": 1, "number": 1, "by": ANNA, "asked_at": 1.0, "done": True, "words": "so"}
    return Intervened(request=request, **(fields | more))


def seen(*events: Event) -> Callable[[], Any]:
    watcher = Watcher(RunInfo(run="r", config={"plan.deadline_s": 10.0}))
    for device in ("a", "b"):
        watcher(DeviceJoined(device=device, board="x", kind="emulated", samples=1, backend=""))
    for each in events:
        watcher(each)
    return watcher.snapshot


def test_a_pause_is_seen_from_the_request_to_its_end() -> None:
    steps = [
        (RoundStarted(round=1, devices=("a",)), "training"),
        (asked(PauseRun()), "pausing"),
        (done(PauseRun()), "paused"),
        (Paused(run="r", round=1, by=ANNA, seconds=3.0), "paused"),
        (done(GoOn(), done=False), "paused"),
        (done(GoOn()), "training"),
    ]
    for count in range(1, len(steps) + 1):
        state = seen(*(event for event, _ in steps[:count]))().run.state
        assert state == steps[count - 1][1], steps[count - 1]
    now = seen(*(event for event, _ in steps[:4]))()
    assert now.run.doing == f"paused after round 1 for 3 s, as {ANNA} has asked; " + (
        "'fimi control r resume' goes on"
    )
    said = [each.text for each in now.said.values()]
    assert f"{ANNA} asks: pause" in said
    assert not any("paused after" in each for each in said)  # it comes again and again


def test_exclusions_and_a_deadline_are_seen_also_by_who_goes_on_with_the_run() -> None:
    snapshot = seen(
        done(ExcludeDevice(device="a")),
        RoundStarted(round=2, devices=("b",)),
        done(SetDeadline(deadline_s=4.0)),
        done(SetDeadline(deadline_s=1.0), done=False),
    )()
    assert {d: now.state for d, now in snapshot.devices.items()} == {
        "a": "excluded",
        "b": "training",
    }
    assert snapshot.run.deadline_s == 4.0
    again = seen(StillInForce(excluded=("a",), deadline_s=4.0, paused=False))()
    assert (again.devices["a"].state, again.run.deadline_s) == ("excluded", 4.0)
    back = seen(
        StillInForce(excluded=("a",), deadline_s=None, paused=True),
        done(IncludeDevice(device="a")),
        RoundStarted(round=2, devices=("a", "b")),
    )()
    assert back.devices["a"].state == "training"

"""``fimi control``: asks before it acts, prints the answer, and ends with a code of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fimi.coordinator.controls import Controls
from fimi.monitor.server.hooks import NotNow
from fimi.monitor.server.service import Dashboard
from fimi.monitor.watcher import Watcher
from fimi.record.interventions import (
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    PlanAgain,
    RefusalKind,
    Request,
    SetDeadline,
    StopRun,
)
from fimi.record.record import RunInfo
from fimi.record.store import RunStore
from fimi.testbed.cli import main
from fimi.testbed.commands.control import ACTIONS
from fimi.testbed.commands.dashboard import Place
from fimi.testbed.configuration.sections import Config, RunConfig
from fimi.testbed.live import PlainView
from fimi.testbed.processes.windows import Windows
from fimi.testbed.run_folder import RunFolder


class Coordinating:
    """Serves every request at once, as a coordinator does between two rounds.

    Attributes:
        served: what was asked.
        refusal: why all are refused; empty: they are done.
    """

    def __init__(self) -> None:
        self.controls = Controls()
        self.served: list[Request] = []
        self.refusal: RefusalKind = ""
        self.pauses = threading.Event()

    def trace(self, device: str, number: int) -> Any:
        raise NotNow("none")

    def metrics(self, accept: str) -> tuple[bytes, str]:
        raise NotNow("none")

    def control(self, body: bytes) -> Any:
        answer = self.controls.hear(body)
        while not self.pauses.is_set() and (asked := self.controls.next()) is not None:
            self.served.append(asked.request)
            assert asked.by.startswith("command line (")
            self.controls.served(asked, after_round=2, said="so it is", refusal=self.refusal)
        return answer


@contextmanager
def a_run(folder: Path) -> Iterator[Coordinating]:
    RunStore(folder / "run.sqlite").close()
    run = Coordinating()
    with Dashboard(Watcher(RunInfo(run="r")), run, folder=folder):
        yield run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Coordinating]:
    with a_run(tmp_path) as found:
        yield found


def fimi(*words: object, answers: str | None = None) -> Result:
    return CliRunner().invoke(main, ["control", *map(str, words)], input=answers)


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (("pause",), PauseRun()),
        (("resume",), GoOn()),
        (("stop",), StopRun()),
        (("replan",), PlanAgain()),
        (("exclude", "pi-1"), ExcludeDevice(device="pi-1")),
        (("include", "pi-1"), IncludeDevice(device="pi-1")),
        (("deadline", "12.5"), SetDeadline(deadline_s=12.5)),
    ],
)
def test_every_action_is_asked_for(
    run: Coordinating, tmp_path: Path, words: tuple[str, ...], request_: Request
) -> None:
    found = fimi(tmp_path, *words, "--yes")
    assert (found.exit_code, found.stdout) == (0, "so it is\n")
    assert run.served == [request_]
    assert words[0] in ACTIONS


@pytest.mark.parametrize(("refusal", "code"), [("unfit", 2), ("no-plan", 4), ("over", 5)])
def test_a_refusal_has_its_exit_code(
    run: Coordinating, tmp_path: Path, refusal: RefusalKind, code: int
) -> None:
    run.refusal = refusal
    found = fimi(tmp_path, "pause", "--yes")
    assert (found.exit_code, found.stdout) == (code, "")
    assert "fimi: refused: so it is" in found.stderr
    assert "error[R016]" in found.stderr


def test_it_can_be_left_alone_once_it_is_accepted(run: Coordinating, tmp_path: Path) -> None:
    run.pauses.set()  # nothing is served
    found = fimi(tmp_path, "pause", "--yes", "--no-wait")
    assert (found.exit_code, found.stdout) == (0, "accepted: pause, before the first round\n")


def test_without_a_terminal_it_refuses_to_act_unasked(run: Coordinating, tmp_path: Path) -> None:
    found = fimi(tmp_path, "stop", answers="y\n")
    assert found.exit_code == 2
    assert "add '--yes'" in found.stderr
    assert run.served == []


@pytest.mark.parametrize(("answer", "served"), [("y", 1), ("n", 0), ("", 0)])
def test_at_a_terminal_it_asks_first(
    run: Coordinating,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    served: int,
) -> None:
    monkeypatch.setattr("fimi.testbed.commands.control._is_terminal", lambda: True)
    found = fimi(tmp_path, "exclude", "pi-1", answers=f"{answer}\n")
    assert f"exclude pi-1 (run {tmp_path.name})? [y/N]: " in found.stderr
    assert len(run.served) == served
    assert (found.exit_code, found.stdout) == (0, "so it is\n" if served else "")


def test_who_closes_the_question_asks_nothing(
    run: Coordinating, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fimi.testbed.commands.control._is_terminal", lambda: True)
    found = fimi(tmp_path, "stop", answers="")
    assert (found.exit_code, run.served) == (130, [])
    assert found.stderr.endswith("\nfimi: stopped\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pause", "3"), "takes nothing more"),
        (("exclude",), "needs the id of a device"),
        (("exclude", "x" * 201), "needs the id of a device"),
        (("deadline",), "needs seconds above 0"),
        (("deadline", "soon"), "needs seconds above 0"),
        (("deadline", "nan"), "needs seconds above 0"),
        (("deadline", "0"), "needs seconds above 0"),
        (("deadline", "-5"), "needs seconds above 0, 86400 at most, not '-5'"),
        (("deadline", "-.5"), "not '-.5'"),
        (("deadline", "-inf"), "not '-inf'"),
        (("deadline", "1e9"), "86400 at most"),
        (("deadline", "5", "--yess"), "No such option '--yess'"),
        (("deadlin", "1"), "Did you mean 'deadline'?"),
    ],
)
def test_what_is_no_request_is_wrong_usage(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    found = fimi(tmp_path, *words, "--yes")
    assert found.exit_code == 2
    assert said in " ".join(found.stderr.split())


def test_the_windows_of_a_run_take_what_is_asked(tmp_path: Path) -> None:
    config = Config(run=RunConfig(name="r", directory=str(tmp_path)))
    folder = RunFolder(config, RunInfo(run="r", config={"rounds.count": 3}))
    view = PlainView(None, rounds=3)
    with closing(folder), Windows(folder, view, "a run", Place(port=0)) as windows:
        found = fimi(folder.path, "exclude", "pi-1", "--yes", "--no-wait")
        assert found.exit_code == 0
        assert windows.controls is not None
        asked = windows.controls.next()
        assert asked is not None
        assert asked.request == ExcludeDevice(device="pi-1")


def test_a_run_that_does_not_go_on_here_cannot_be_asked(tmp_path: Path) -> None:
    RunStore(tmp_path / "run.sqlite").close()
    found = fimi(tmp_path, "pause", "--yes")
    assert found.exit_code == 3
    assert "has no dashboard now" in " ".join(found.stderr.split())

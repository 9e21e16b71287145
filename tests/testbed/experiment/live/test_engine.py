"""What becomes of a run on boards, whatever ends its process; the processes are scripted."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from stored import store

from fimi.messaging.address import BrokerAddress
from fimi.testbed.configuration.sections import Config
from fimi.testbed.experiment.cells import finished_rounds
from fimi.testbed.experiment.definition import LiveStudy
from fimi.testbed.experiment.engines.base import CommandLine, Task, TaskTimes, View
from fimi.testbed.experiment.live import attempts as module
from fimi.testbed.experiment.live.attempts import Study
from fimi.testbed.experiment.live.boards import StudyBoard
from fimi.testbed.experiment.live.engine import LiveFleet
from fimi.testbed.experiment.live.processes import Starter

OK = {"a": "accepted", "b": "accepted"}
Act = Callable[[Path], tuple[int, str]]
"""What a process does with its run folder: its exit code, and what it says."""


class Seen(View):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ended: dict[str, str] = {}

    def noted(self, task: Task, note: str) -> None:
        self.notes.append(note)

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        self.ended[task.name] = problem


class Bench:
    """A study of runs with scripted processes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.view = Seen()
        self.stop = threading.Event()
        self.commands: list[tuple[str, ...]] = []
        self.acts: dict[str, list[Act]] = {}
        self.boards = {"a": StudyBoard(online=True, emulated=True), "b": StudyBoard(online=True)}
        self.held: list[Exception] = []
        monkeypatch.setattr(module, "_AGAIN_S", (0.0,))
        bench = self

        def drive(course, command: CommandLine) -> tuple[int, str]:
            bench.commands.append(command.arguments)
            name = course._task.name
            code, said = bench.acts[name].pop(0)(course._folder)
            course._task.log.parent.mkdir(parents=True, exist_ok=True)
            course._task.log.write_text(f"fimi: {said}\n" if said else "")
            return code, course._refused()

        monkeypatch.setattr(module.Attempts, "_drive", drive)

    def task(self, name: str, *acts: Act, seed: int = 0) -> Task:
        self.acts[name] = list(acts)
        config = Config()
        config = replace(
            config,
            run=replace(config.run, name=name, directory=str(self.folder / "runs"), seed=seed),
            fleet=replace(config.fleet, devices=2, members=("a", "b")),
        )
        folder = self.folder / "runs" / name
        return Task(
            name=name,
            kind="k",
            command=lambda: CommandLine(arguments=()),
            log=self.folder / "logs" / f"{name}.log",
            folder=folder,
            config=config,
        )

    def run(self, *tasks: Task, **live: object) -> dict[str, str]:
        def held() -> None:
            if self.held:
                raise self.held[0]

        how = LiveStudy(**{"rest_s": 0.0, "wait_s": 0.2, "order": "file", **live})  # type: ignore[arg-type]
        starter = Starter(BrokerAddress(host="nobody"))
        engine = LiveFleet(Study(how, lambda: self.boards, self.folder, starter, require_held=held))
        self.outcome = engine.run(tasks, clock=TaskTimes(), view=self.view, stop=self.stop)
        return self.outcome.failures

    def journal(self) -> list[dict]:
        lines = (self.folder / "journal.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def completes(*rounds: dict) -> Act:
    return lambda folder: (store(folder, rounds), (0, ""))[1]  # type: ignore[func-returns-value]


def ends(code: int, said: str) -> Act:
    return lambda folder: (code, said)


def refuses(folder: Path) -> tuple[int, str]:
    store(folder, [], status="interrupted", refused={"b": "it has no PyTorch"})
    return 130, ""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_every_run_is_made_as_a_coordinator_run(bench: Bench) -> None:
    assert bench.run(bench.task("x", completes(OK)), bench.task("y", completes(OK))) == {}
    assert [command[:2] for command in bench.commands] == [("coordinator", "run")] * 2
    assert bench.view.ended == {"x": "", "y": ""}
    assert [(line["what"], line["run"]) for line in bench.journal()] == [
        *(("began", "x"), ("ended", "x"), ("began", "y"), ("ended", "y")),
    ]


def test_a_killed_coordinator_is_started_again(bench: Bench) -> None:
    assert bench.run(bench.task("x", ends(-9, ""), completes(OK))) == {}
    assert len(bench.commands) == 2
    assert "resumed after round 0" in bench.view.notes[0]


def test_a_run_that_always_fails_is_given_up_and_the_next_one_is_made(bench: Bench) -> None:
    failing = [ends(5, "no devices")] * 10
    failures = bench.run(bench.task("x", *failing), bench.task("y", completes(OK)))
    assert failures == {"x": "no devices (exit code 5)"}
    assert len(bench.commands) == 4 + 1
    assert bench.view.ended["y"] == ""


@pytest.mark.parametrize("code", [2, 4])
def test_what_is_wrong_for_good_is_not_tried_again(bench: Bench, code: int) -> None:
    assert bench.run(bench.task("x", ends(code, "no plan"))) == {"x": f"no plan (exit code {code})"}
    assert len(bench.commands) == 1


def test_a_broker_that_is_away_is_waited_for_as_long_as_a_board(bench: Bench) -> None:
    away = [ends(3, "nobody listens")] * 4
    assert bench.run(bench.task("x", *away, completes(OK)), wait_s=3600.0) == {}
    bench.commands.clear()
    failures = bench.run(bench.task("y", *([ends(3, "nobody listens")] * 10_000)), wait_s=0.05)
    assert failures == {"y": "nobody listens (exit code 3)"}


def test_a_board_that_refuses_fails_the_run_at_once(bench: Bench) -> None:
    failures = bench.run(bench.task("x", refuses))
    assert failures == {"x": "b cannot take part: it has no PyTorch"}


def test_nor_is_one_tried_again_for_which_boards_were_too_few_because_they_refused(
    bench: Bench,
) -> None:
    """The coordinator has ended before the study looked into the store."""
    said = "1 of 2 devices came: a; b cannot take part: it has no PyTorch; the run starts with 2"
    assert bench.run(bench.task("x", *[ends(5, said)] * 9)) == {"x": f"{said} (exit code 5)"}
    assert len(bench.commands) == 1


def test_a_board_that_was_mended_is_asked_anew(bench: Bench) -> None:
    assert bench.run(bench.task("x", refuses)) != {}
    there: list[bool] = []

    def completed(folder: Path) -> tuple[int, str]:
        there.append(folder.exists())
        return completes(OK)(folder)

    assert bench.run(bench.task("x", completed)) == {}
    assert there == [False]
    assert "--resume" not in bench.commands[-1]
    assert (bench.folder / "lost" / "x.old.1").exists()


def test_a_run_of_another_configuration_is_no_attempt(bench: Bench) -> None:
    """As --redo finds it; it has lost nothing, and must not come back."""
    store(bench.folder / "runs" / "x", [OK, OK])
    half = {"a": "accepted", "b": "missing"}
    acts = completes(half), completes(half, OK)
    assert bench.run(bench.task("x", *acts), lost_max=0.1, repeats=1) == {}
    assert len(bench.commands) == 2
    from fimi.testbed.experiment.live.loss import lost

    assert lost(bench.folder / "runs" / "x", ("a", "b")).share == 0.25
    assert (bench.folder / "lost" / "x.old.1").exists()


def test_time_before_the_first_failure_does_not_count_as_waiting_for_a_broker(bench: Bench) -> None:
    """Boards had been waited for, or cooled down, for longer than ``wait_s``."""

    def later(folder: Path) -> tuple[int, str]:
        time.sleep(0.3)
        return 3, "nobody listens"

    task = bench.task("x", later, completes(OK))
    assert bench.run(task, wait_s=0.2) == {}
    assert len(bench.commands) == 2


def test_a_rest_goes_on_after_the_study_was_killed(bench: Bench, tmp_path: Path) -> None:
    """Boards have worked when the last run wrote last, also if it was killed or set aside."""
    study = Study(LiveStudy(), dict, bench.folder, Starter(BrokerAddress(host="nobody")))
    assert study.since_last_run_s is None
    now_s = time.time()

    def written(path: Path, ago_s: float, what: bytes = b"rows") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(what)
        os.utime(path, (now_s - ago_s, now_s - ago_s))

    written(bench.folder / "runs" / "x" / "run.sqlite", 5000.0)
    written(bench.folder / "lost" / "x.1" / "run.sqlite", 3000.0)
    assert study.since_last_run_s == pytest.approx(3000.0, abs=100.0)
    written(bench.folder / "runs" / "x" / "run.sqlite-wal", 1000.0)
    written(bench.folder / "lost" / "x.1" / "run.sqlite-wal", 10.0, b"")  # by a reader
    assert study.since_last_run_s == pytest.approx(1000.0, abs=100.0)


def test_a_run_that_lost_too_much_is_repeated(bench: Bench) -> None:
    half = {"a": "accepted", "b": "missing"}
    assert bench.run(bench.task("x", completes(OK, half), completes(OK, OK)), lost_max=0.2) == {}
    assert finished_rounds(bench.folder / "lost" / "x.1") == 2
    assert bench.view.notes[0].startswith("repeated, 25 % was lost: b in round 2; kept: ")
    assert [line["what"] for line in bench.journal()] == [
        *("began", "ended", "repeats"),
        *("began", "ended"),
    ]


def test_the_best_attempt_stays_where_all_lost_too_much(bench: Bench) -> None:
    half, none = {"a": "accepted", "b": "missing"}, {"a": "missing", "b": "absent"}
    acts = completes(OK, half), completes(none, none), completes(half, none)
    assert bench.run(bench.task("x", *acts), lost_max=0.2, repeats=2) == {}
    from fimi.testbed.experiment.live.loss import lost

    assert lost(bench.folder / "runs" / "x", ("a", "b")).share == 0.25
    assert "kept although 25 % was lost in the best of 3 attempts" in bench.view.notes[-1]


def test_as_much_as_is_allowed_is_not_repeated(bench: Bench) -> None:
    half = {"a": "accepted", "b": "missing"}
    assert bench.run(bench.task("x", completes(OK, half)), lost_max=0.25) == {}
    assert len(bench.commands) == 1


def test_without_a_quorum_a_run_fails_and_the_others_are_tried(bench: Bench) -> None:
    bench.boards["b"] = StudyBoard(online=False)
    failures = bench.run(bench.task("x"), bench.task("y"))
    assert set(failures) == {"x", "y"}
    assert "1 of 2 boards are there, and 2 are needed" in failures["x"]
    assert bench.commands == []


def test_a_study_that_lost_its_fleet_ends(bench: Bench) -> None:
    from fimi.messaging.errors import IdentityTaken

    bench.held.append(IdentityTaken("fleet 'desk' is in use by a study", None))
    with pytest.raises(IdentityTaken):
        bench.run(bench.task("x"), bench.task("y"))


def test_stopping_leaves_the_rest_for_another_time(bench: Bench) -> None:
    def stopped(folder: Path) -> tuple[int, str]:
        bench.stop.set()
        return 130, ""

    assert bench.run(bench.task("x", stopped), bench.task("y")) == {}
    assert bench.outcome.interrupted
    assert len(bench.commands) == 1

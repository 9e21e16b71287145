"""Processes side by side: failures, memory, time left."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from fimi.errors import InputError
from fimi.testbed.experiment.engines.base import CommandLine, Task, TaskTimes, View, last_words
from fimi.testbed.experiment.engines.memory import GUESS_BYTES, SPARE_BYTES, Need
from fimi.testbed.experiment.engines.pool import LocalPool


class Heard(View):
    """A view that remembers."""

    def __init__(self) -> None:
        self.started_: list[str] = []
        self.problems: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.most = 0

    def started(self, task: Task) -> None:
        self.started_.append(task.name)

    def noted(self, task: Task, note: str) -> None:
        self.notes[task.name] = note

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        assert seconds >= 0
        self.problems[task.name] = problem

    def tick(self, running: Sequence[tuple[Task, float]], left_s: float | None) -> None:
        self.most = max(self.most, len(running))


def task(folder: Path, name: str, *arguments: str) -> Task:
    command = CommandLine(arguments=arguments, note=f"note of {name}")
    log = folder / "logs" / f"{name}.log"
    return Task(name=name, kind="k", command=lambda: command, log=log)


def test_one_that_fails_is_reported_and_stops_no_other(tmp_path: Path) -> None:
    heard = Heard()
    outcome = LocalPool(1).run(
        [
            task(tmp_path, "bad", "check", str(tmp_path / "none.toml")),
            task(tmp_path, "good", "optimise", "--example"),
        ],
        clock=TaskTimes(),
        view=heard,
        stop=threading.Event(),
    )
    assert list(outcome.failures) == ["bad"]
    assert "no such file" in outcome.failures["bad"]
    assert "(exit code 2)" in outcome.failures["bad"]
    assert heard.problems["good"] == ""
    assert heard.notes == {"bad": "note of bad", "good": "note of good"}
    assert not outcome.interrupted
    assert heard.most == 1


def test_one_that_cannot_start_is_reported_and_stops_no_other(tmp_path: Path) -> None:
    def refuse() -> CommandLine:
        raise InputError("not like this")

    bad = msgspec.structs.replace(task(tmp_path, "bad"), command=refuse)
    heard = Heard()
    outcome = LocalPool(1).run(
        [bad, task(tmp_path, "good", "optimise", "--example")],
        clock=TaskTimes(),
        view=heard,
        stop=threading.Event(),
    )
    assert outcome.failures == {"bad": "not like this"}
    assert heard.problems == {"bad": "not like this", "good": ""}


def test_a_log_may_have_standard_output_too(tmp_path: Path) -> None:
    quiet = task(tmp_path, "quiet", "optimise", "--example")
    loud = msgspec.structs.replace(
        task(tmp_path, "loud", "optimise", "--example"), keeps_output=True
    )
    LocalPool(2).run([quiet, loud], clock=TaskTimes(), view=Heard(), stop=threading.Event())
    assert "[[device]]" not in quiet.log.read_text()
    assert "[[device]]" in loud.log.read_text()


def test_nothing_is_started_once_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    heard = Heard()
    outcome = LocalPool(1).run(
        [task(tmp_path, "one", "optimise", "--example")],
        clock=TaskTimes(),
        view=heard,
        stop=stop,
    )
    assert outcome.interrupted
    assert heard.started_ == []


class TestNeed:
    def test_a_guess_until_something_is_known(self) -> None:
        need = Need()
        assert need.size_bytes == GUESS_BYTES
        need.seen(4e8)
        assert need.size_bytes == GUESS_BYTES  # it may still grow
        need.seen(4e8, ended=True)
        assert need.size_bytes == 4e8
        need.seen(9e8)
        assert need.size_bytes == 9e8

    def test_declared_is_declared(self) -> None:
        need = Need(2.0)
        need.seen(9e9, ended=True)
        assert need.size_bytes == 2e9

    def test_what_runs_may_still_grow(self) -> None:
        need = Need(1.0)
        assert need.fits(2e9 + SPARE_BYTES, [1e9])
        assert need.fits(2e9 + SPARE_BYTES, [0.0])
        assert not need.fits(1.9e9 + SPARE_BYTES, [0.0])


class TestClock:
    def test_nothing_is_said_before_anything_is_known(self, tmp_path: Path) -> None:
        assert TaskTimes().left_s([task(tmp_path, "a")], [], 2) is None

    def test_tasks_share_the_jobs(self, tmp_path: Path) -> None:
        clock = TaskTimes([("k", 10.0), ("k", 20.0), ("other", 99.0)])
        waiting = [task(tmp_path, "a"), task(tmp_path, "b")]
        assert clock.left_s(waiting, [(task(tmp_path, "c"), 5.0)], 2) == pytest.approx(20.0)

    def test_one_that_takes_long_already_adds_nothing(self, tmp_path: Path) -> None:
        clock = TaskTimes([("k", 10.0)])
        assert clock.left_s([], [(task(tmp_path, "a"), 50.0)], 2) == 0.0

    def test_before_one_has_ended_by_the_steps_of_what_runs(self, tmp_path: Path) -> None:
        running = msgspec.structs.replace(task(tmp_path, "a"), steps=20, done=lambda: 5)
        waiting = [task(tmp_path, "b")]
        assert TaskTimes().left_s(waiting, [(running, 10.0)], 1) == pytest.approx(30.0 + 40.0)
        assert TaskTimes().left_s(waiting, [(running, 10.0)], 2) == pytest.approx((30.0 + 40.0) / 2)


class TestLastWords:
    def test_the_error_of_a_command(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("[0.1 s] broker\nfimi: no plan\n  a second line\n")
        assert last_words(log, 4) == "no plan a second line (exit code 4)"

    def test_the_last_line_of_anything_else(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("Traceback\nValueError: x\n\n")
        assert last_words(log) == "ValueError: x"

    def test_that_it_can_be_gone_on_with_is_no_reason(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("[   1.0 s] run interrupted: stopped\ngo on with it: fimi x --resume y\n")
        assert last_words(log, 130) == "run interrupted: stopped (exit code 130)"

    def test_silence(self, tmp_path: Path) -> None:
        assert last_words(tmp_path / "none", -9) == "it said nothing (killed by signal 9)"

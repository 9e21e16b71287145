"""The engine of live studies: one run after another on a fleet, until every one is whole.

Before a run the boards that it needs are waited for, rest and cool down. The run is a
``fimi coordinator run`` in a process of its own. If that ends early, for whatever reason, it is
resumed after its last stored round. A finished run that has lost too much is set aside and made
again. What is wrong for good (a configuration without a plan, a board that refuses) is the run's
problem, and the next one begins.

* :class:`LiveFleet`   the engine
* :class:`StudyJournal`     what happened when, in a file
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from fimi import children
from fimi.coordinator.strategies import STRATEGIES
from fimi.errors import FimiError, InputError, NoPlanError, SurroundingsError
from fimi.record.reader import STORE_NAME
from fimi.testbed import logs
from fimi.testbed.commands.shared import BROKER_VARIABLE
from fimi.testbed.experiment.cells import finished_rounds
from fimi.testbed.experiment.definition import LiveStudy
from fimi.testbed.experiment.engines.base import (
    GRACE_S,
    CommandLine,
    Outcome,
    Stopped,
    Task,
    TaskTimes,
    View,
    last_words,
)
from fimi.testbed.experiment.engines.beginning import beginning
from fimi.testbed.experiment.live.boards import Boards, Look
from fimi.testbed.experiment.live.loss import LostRuns, lost, refusals
from fimi.testbed.experiment.live.order import in_order

GENERATOR_VARIABLE = "FIMI_GENERATOR_BROKER"
"""Environment variable with the broker's URL as the generator node's user, where it has its own."""

_LOOK_S = 0.25
_LOOK_AT_STORE_S = 2.0
_STUCK_MAX = 3
"""How often a run may end early one after another without a further round."""
_HOPELESS = (InputError.exit_code, NoPlanError.exit_code)
_AGAIN_S = (1.0, 5.0, 15.0, 30.0)
"""Time before an attempt after one, two, three … without a further round, s."""


class StudyJournal:
    """What a study did when: a line of JSON each, on the disk before the study goes on.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, what: str, run: str, **more: Any) -> None:
        """Write a line.

        Args:
            what: ``began``, ``ended``, ``repeats``, ``failed``.
            run: its name.
            more: what else there is to say.

        Raises:
            OSError: the file cannot be written.
        """
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = msgspec.json.encode({"at": at, "what": what, "run": run, **more})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())


class LiveFleet:
    """Runs cells on a fleet; see :class:`~fimi.testbed.experiment.engines.base.Engine`.

    Args:
        live: how runs follow one another.
        look: gives the boards of the fleet.
        url: of the broker, with its password.
        folder: of the study.
        generator: whether a generator node runs here beside each run that needs images.
        require_held: raises an error if the fleet is no longer this study's.
        keep_open: files that runs hold open as long as they live: locks.
    """

    def __init__(
        self,
        live: LiveStudy,
        look: Look,
        *,
        url: str,
        folder: Path,
        generator: bool = False,
        require_held: Callable[[], None] = lambda: None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self._live = live
        self._look = look
        self._environment = {**os.environ, BROKER_VARIABLE: url}
        self._folder = folder
        self._journal = StudyJournal(folder / "journal.jsonl")
        self._aside = LostRuns(folder / "lost")
        self._generator = generator
        self._require_held = require_held
        self._keep_open = keep_open
        self._ended_s: float | None = None

    def run(
        self, tasks: Sequence[Task], *, clock: TaskTimes, view: View, stop: threading.Event
    ) -> Outcome:
        """Run tasks one after another; see the class."""
        failures: dict[str, str] = {}
        waiting = in_order(tasks, self._live)
        try:
            while waiting:
                if stop.is_set():
                    raise Stopped
                task, began_s = waiting[0], time.monotonic()
                view.started(task)
                course = _Course(self, task, waiting[1:], clock, view, stop)
                problem = course.complete()
                waiting.pop(0)
                if problem:
                    failures[task.name] = problem
                    self._journal.note("failed", task.name, why=problem)
                view.finished(task, time.monotonic() - began_s, problem)
        except Stopped:
            return Outcome(failures=failures, interrupted=True)
        finally:
            view.waiting("")
        return Outcome(failures=failures, interrupted=False)

    def since_last_run_s(self, folder: Path) -> float | None:
        """How long ago the last run on these boards ended, s; ``None`` if none is known.

        Args:
            folder: of runs, where one of an earlier process of this study may lie.
        """
        if self._ended_s is not None:
            return time.monotonic() - self._ended_s
        try:
            written = [path.stat().st_mtime for path in folder.glob(f"*/{STORE_NAME}")]
        except OSError:
            written = []
        return max(0.0, time.time() - max(written)) if written else None


class _Course:
    """One task from its first attempt to its last."""

    def __init__(
        self,
        fleet: LiveFleet,
        task: Task,
        rest: Sequence[Task],
        clock: TaskTimes,
        view: View,
        stop: threading.Event,
    ) -> None:
        assert task.folder is not None
        assert task.config is not None
        self._fleet, self._task, self._rest = fleet, task, rest
        self._clock, self._view, self._stop = clock, view, stop
        self._folder, self._config = task.folder, task.config
        self._boards = Boards(fleet._look, fleet._live, stop, view.waiting)
        self._members = self._config.fleet.members
        self._seconds = 0.0

    def complete(self) -> str:
        """Run it until it is whole; returns what is wrong, or an empty string.

        Raises:
            Stopped: the study was stopped.
        """
        fleet, live, name = self._fleet, self._fleet._live, self._task.name
        stuck, since_s = 0, time.monotonic()
        while True:
            before = finished_rounds(self._folder)
            try:
                self._prepare()
                command = beginning(
                    self._folder,
                    fleet._folder / "cells" / f"{name}.toml",
                    self._config,
                    "coordinator run",
                    discard=fleet._aside.set_aside,
                )
            except FimiError as error:
                return str(error)
            if command.note:
                self._view.noted(self._task, command.note)
            fleet._require_held()
            code, wrong = self._drive(command)
            fleet._ended_s = time.monotonic()
            rounds = finished_rounds(self._folder)
            said = "" if code == 0 else last_words(self._task.log, code)
            fleet._journal.note("ended", name, code=code, rounds=rounds, said=said)
            if wrong:
                return wrong
            if self._stop.is_set():
                raise Stopped
            if code == 0:
                if problem := self._task.problem():
                    return problem
                if self._is_whole():
                    self._clock.learn(self._task.kind, self._seconds)
                    return ""
                stuck = 0
                continue
            if code in _HOPELESS:
                return said
            if rounds > before:
                stuck, since_s = 0, time.monotonic()
            stuck += 1
            patient = code == SurroundingsError.exit_code
            waited_s = time.monotonic() - since_s
            if (not patient and stuck > _STUCK_MAX) or (patient and waited_s > live.wait_s):
                return said
            self._view.noted(self._task, f"{said}; it is resumed after round {rounds}")
            self._pause(_AGAIN_S[min(stuck, len(_AGAIN_S)) - 1])

    def _prepare(self) -> None:
        """The boards are there, rested and cool."""
        fleet, config = self._fleet, self._config
        quorum = config.rounds.quorum or config.fleet.devices // 2 + 1
        missing = self._boards.await_members(self._members, quorum)
        ended_s = fleet.since_last_run_s(self._folder.parent)
        if self._folder.exists() and finished_rounds(self._folder):
            ended_s = None  # it goes on, its boards rested before
        warm = self._boards.rest(self._members, ended_s)
        if missing:
            self._view.noted(self._task, f"begins without {', '.join(missing)}")
        hot = [f"{name} {c:.0f} °C" for name, c in warm.items() if c > fleet._live.cool_to_c > 0]
        if hot:
            self._view.noted(self._task, f"begins although boards are warm: {', '.join(hot)}")
        fleet._journal.note(
            "began",
            self._task.name,
            after_round=finished_rounds(self._folder),
            missing=missing,
            temperatures_c=warm,
        )

    def _drive(self, command: CommandLine) -> tuple[int, str]:
        """Run the process to its end; its exit code, and what is wrong for good, in a sentence."""
        task, began_s = self._task, time.monotonic()
        looked_s, wrong = began_s, ""
        child = self._start(command.arguments, task.log)
        node = _Node(self) if self._needs_node else None
        try:
            while child.code is None and not self._stop.is_set() and not wrong:
                if node is not None:
                    wrong = node.keep_up()
                now_s = time.monotonic()
                running = [(task, now_s - began_s)]
                self._view.tick(running, self._left_s(running))
                if now_s - looked_s > _LOOK_AT_STORE_S:
                    looked_s = now_s
                    wrong = wrong or self._refused()
                self._stop.wait(_LOOK_S)
        finally:
            child.end(GRACE_S + 5.0)
            if node is not None:  # the last one: the coordinator tells it that the run is over
                node.end()
            self._seconds += time.monotonic() - began_s
        code = child.code
        return (0 if code is None else code), wrong or self._refused()

    @property
    def _needs_node(self) -> bool:
        strategy = STRATEGIES[self._config.run.strategy]
        return self._fleet._generator and strategy.needs_images

    def _start(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> children.Child:
        log.parent.mkdir(parents=True, exist_ok=True)
        return children.start(
            "fimi.testbed.child",
            arguments=(*logs.arguments(), *arguments),
            log=log,
            keeps_output=False,
            keep_open=self._fleet._keep_open,
            environment=environment or self._fleet._environment,
        )

    def _refused(self) -> str:
        if finished_rounds(self._folder):
            return ""
        found = refusals(self._folder)
        return "; ".join(f"{device} cannot take part: {why}" for device, why in found.items())

    def _is_whole(self) -> bool:
        """Whether a finished run counts; if not, it is set aside to be made again."""
        fleet, live, name = self._fleet, self._fleet._live, self._task.name
        found = lost(self._folder, self._members)
        if found.share <= live.lost_max:
            return True
        attempts = len(fleet._aside.of(name))
        if attempts < live.repeats:
            where = fleet._aside.set_aside(self._folder)
            fleet._journal.note("repeats", name, lost=found.rounds, where=str(where))
            self._view.noted(
                self._task, f"repeated, {100 * found.share:.0f} % was lost: {found}; kept: {where}"
            )
            return False
        least = fleet._aside.best(self._folder, self._members)
        self._view.noted(
            self._task,
            f"kept although {100 * least.share:.0f} % was lost in the best of {attempts + 1} "
            f"attempts: {least}",
        )
        return True

    def _left_s(self, running: Sequence[tuple[Task, float]]) -> float | None:
        left_s = self._clock.left_s(self._rest, running, 1)
        return None if left_s is None else left_s + len(self._rest) * self._fleet._live.rest_s

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped


class _Node:
    """The generator node beside a run."""

    def __init__(self, course: _Course) -> None:
        self._course = course
        name = course._task.name
        file = course._fleet._folder / "cells" / f"{name}.toml"
        self._log = course._task.log.with_name(f"{name}.generator.log")
        self._arguments = ("generator", "run", "--config", str(file))
        if url := os.environ.get(GENERATOR_VARIABLE):
            self._environment = {**os.environ, BROKER_VARIABLE: url}
        else:
            self._environment = course._fleet._environment
        self._starts = 1
        self._child = self._start()

    def keep_up(self) -> str:
        """Start it again if it has ended; why not, if it ends each time."""
        if (code := self._child.code) is None:
            return ""
        said = f"its generator node ended: {last_words(self._log, code)}"
        if self._starts > _STUCK_MAX or code in _HOPELESS:
            return f"{said}; start one by hand, without --generator"
        self._course._view.noted(self._course._task, f"{said}; it is started again")
        self._starts += 1
        self._child = self._start()
        return ""

    def end(self) -> None:
        """End it."""
        self._child.end(GRACE_S)

    def _start(self) -> children.Child:
        return self._course._start(self._arguments, self._log, self._environment)

"""One run on boards, from its first attempt to the one that is whole.

* :class:`Study`     what all runs of a study share
* :class:`Attempts`  one run: boards, process, verdict, and again if need be
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fimi.coordinator.gathering import REFUSES
from fimi.coordinator.strategies import STRATEGIES
from fimi.errors import FimiError, InputError, NoPlanError, SurroundingsError
from fimi.record.reader import STORE_NAME
from fimi.testbed.experiment.cells import finished_rounds
from fimi.testbed.experiment.definition import LiveStudy
from fimi.testbed.experiment.engines.base import (
    GRACE_S,
    CommandLine,
    Stopped,
    Task,
    TaskTimes,
    View,
    last_line,
    last_words,
)
from fimi.testbed.experiment.engines.beginning import beginning, wait_until_unused
from fimi.testbed.experiment.live.boards import Boards, Look
from fimi.testbed.experiment.live.journal import StudyJournal
from fimi.testbed.experiment.live.loss import LostRuns, lost, refusals
from fimi.testbed.experiment.live.processes import NodeBeside, Starter

_LOOK_S = 0.25
_LOOK_AT_STORE_S = 2.0
_STUCK_MAX = 3
"""How often a run may end early one after another without a further round."""
_HOPELESS = (InputError.exit_code, NoPlanError.exit_code)
_AGAIN_S = (1.0, 5.0, 15.0, 30.0)
"""Time before an attempt after one, two, three … without a further round, s."""


class Study:
    """What all runs of a study share.

    Args:
        live: how runs follow one another.
        look: gives the boards of the fleet.
        folder: of the study.
        starter: starts the processes of runs.
        generator: whether a generator node runs here beside each run that needs images.
        require_held: raises an error if the fleet is no longer this study's.
        has_node: whether there is a generator node in the fleet.

    Attributes:
        gone: who was waited for in vain, and has not come since.
        rest_s: how long boards rested and cooled down before the last run, s.
    """

    def __init__(
        self,
        live: LiveStudy,
        look: Look,
        folder: Path,
        starter: Starter,
        *,
        generator: bool = False,
        require_held: Callable[[], None] = lambda: None,
        has_node: Callable[[], bool] = lambda: True,
    ) -> None:
        self.live = live
        self.look = look
        self.starter = starter
        self.generator = generator
        self.require_held = require_held
        self.has_node = has_node
        self.cells = folder / "cells"
        self.journal = StudyJournal(folder / "journal.jsonl")
        self._lost = folder / "lost"
        self.aside = LostRuns(self._lost)
        self.gone: set[str] = set()
        self.rest_s = 0.0
        self._runs = folder / "runs"
        self._ended_s: float | None = None

    def run_ended(self) -> None:
        """The boards have just worked in a run."""
        self._ended_s = time.monotonic()

    @property
    def since_last_run_s(self) -> float | None:
        """How long ago the boards have worked in a run of this study, s; ``None``: never."""
        if self._ended_s is not None:
            return time.monotonic() - self._ended_s
        # By an earlier process of the study. What a killed one wrote last is beside the store.
        stores = (STORE_NAME, f"{STORE_NAME}-wal")
        written = [
            status.st_mtime
            for folder in (self._runs, self._lost)
            for store in stores
            for path in folder.glob(f"*/{store}")
            if (status := path.stat()).st_size
        ]
        return max(0.0, time.time() - max(written)) if written else None


class Attempts:
    """One task from its first attempt to its last.

    Args:
        study: what all runs share.
        task: the run.
        rest: tasks that follow it.
        clock: durations of runs.
        view: shows progress.
        stop: ends the study.
    """

    def __init__(
        self,
        study: Study,
        task: Task,
        rest: Sequence[Task],
        clock: TaskTimes,
        view: View,
        stop: threading.Event,
    ) -> None:
        assert task.folder is not None
        assert task.config is not None
        self._study, self._task, self._rest = study, task, rest
        self._clock, self._view, self._stop = clock, view, stop
        self._folder, self._config = task.folder, task.config
        self._boards = Boards(study.look, study.live, stop, view.waiting, study.gone)
        self._members = self._config.fleet.members
        self._seconds = 0.0

    def complete(self) -> str:
        """Run it until it is whole; returns what is wrong, or an empty string.

        Raises:
            Stopped: the study was stopped.
        """
        study, live, name = self._study, self._study.live, self._task.name
        stuck, stuck_since_s = 0, math.inf
        while True:
            before = finished_rounds(self._folder)
            try:
                self._prepare()
                self._forget_refusals()
                command = beginning(
                    self._folder,
                    study.cells / f"{name}.toml",
                    self._config,
                    "coordinator run",
                    discard=study.aside.discard,
                )
            except FimiError as error:
                return str(error)
            if command.note:
                self._view.noted(self._task, command.note)
            study.require_held()
            code, wrong = self._drive(command)
            study.run_ended()
            rounds = finished_rounds(self._folder)
            said = "" if code == 0 else last_words(self._task.log, code)
            study.journal.note("ended", name, code=code, rounds=rounds, said=said)
            if wrong:
                return wrong
            if code == 0:
                if problem := self._task.problem():
                    return problem
                if self._is_whole():
                    self._clock.learn(self._task.kind, self._seconds)
                    return ""
            if self._stop.is_set():
                raise Stopped
            if code == 0:
                stuck, stuck_since_s = 0, math.inf
                continue
            if code in _HOPELESS or REFUSES in said:
                return said
            if rounds > before:
                stuck, stuck_since_s = 0, math.inf
            stuck, stuck_since_s = stuck + 1, min(stuck_since_s, time.monotonic())
            patient = code == SurroundingsError.exit_code
            waited_s = time.monotonic() - stuck_since_s
            if (not patient and stuck > _STUCK_MAX) or (patient and waited_s > live.wait_s):
                return said
            self._view.noted(self._task, f"{said}; it is resumed after round {rounds}")
            self._pause(_AGAIN_S[min(stuck, len(_AGAIN_S)) - 1])

    def _prepare(self) -> None:
        """The boards are there, rested and cool."""
        study, config = self._study, self._config
        quorum = config.rounds.quorum or config.fleet.devices // 2 + 1
        stored = finished_rounds(self._folder)
        missing = self._boards.await_members(self._members, quorum)
        if self._needs_images and not study.generator and not stored:
            self._boards.await_node(study.has_node)
        # A run that goes on: its boards rested before.
        ended_s = None if stored else study.since_last_run_s
        began_s = time.monotonic()
        warm = self._boards.rest(self._members, ended_s)
        if ended_s is not None:
            study.rest_s = time.monotonic() - began_s
        if missing:
            self._view.noted(self._task, f"begins without {', '.join(missing)}")
        hot = [f"{name} {c:.0f} °C" for name, c in warm.items() if c > study.live.cool_to_c > 0]
        if hot:
            self._view.noted(self._task, f"begins although boards are warm: {', '.join(hot)}")
        study.journal.note(
            "began",
            self._task.name,
            after_round=stored,
            missing=missing,
            temperatures_c=warm,
        )

    def _drive(self, command: CommandLine) -> tuple[int, str]:
        """Run the process to its end; its exit code, and what is wrong for good, in a sentence."""
        task, began_s = self._task, time.monotonic()
        looked_s, wrong = began_s, ""
        child = self._study.starter.start(command.arguments, task.log)
        node = None
        try:
            node = self._node() if self._study.generator and self._needs_images else None
            while child.code is None and not self._stop.is_set() and not wrong:
                if node is not None:
                    wrong = node.keep_up()
                now_s = time.monotonic()
                running = [(task, now_s - began_s)]
                self._view.tick(running, self._left_s(running))
                if now_s - looked_s > _LOOK_AT_STORE_S:
                    looked_s = now_s
                    self._view.doing(last_line(task.log))
                    wrong = wrong or self._refused()
                self._stop.wait(_LOOK_S)
        finally:
            self._view.doing("")
            child.end(GRACE_S + 5.0)
            if node is not None:  # the last one: the coordinator tells it that the run is over
                node.end()
            self._seconds += time.monotonic() - began_s
        code = child.code
        return (0 if code is None else code), wrong or self._refused()

    @property
    def _needs_images(self) -> bool:
        return STRATEGIES[self._config.run.strategy].needs_images

    def _node(self) -> NodeBeside:
        study, task = self._study, self._task
        return NodeBeside(
            study.starter,
            study.cells / f"{task.name}.toml",
            task.log.with_name(f"{task.name}.generator.log"),
            lambda note: self._view.noted(task, note),
        )

    def _refused(self) -> str:
        if finished_rounds(self._folder):
            return ""
        found = refusals(self._folder)
        return "; ".join(f"{device} {REFUSES}: {why}" for device, why in found.items())

    def _forget_refusals(self) -> None:
        """What boards refused an earlier attempt for may be mended: they are asked anew."""
        if self._refused():
            wait_until_unused(self._folder)
            self._study.aside.discard(self._folder)

    def _is_whole(self) -> bool:
        """Whether a finished run counts; if not, it is set aside to be made again."""
        study, live, name = self._study, self._study.live, self._task.name
        found = lost(self._folder, self._members)
        if found.share <= live.lost_max:
            return True
        attempts = len(study.aside.of(name))
        if attempts < live.repeats:
            where = study.aside.set_aside(self._folder)
            study.journal.note("repeats", name, lost=found.rounds, where=str(where))
            self._view.noted(
                self._task, f"repeated, {100 * found.share:.0f} % was lost: {found}; kept: {where}"
            )
            return False
        least = study.aside.best(self._folder, self._members)
        self._view.noted(
            self._task,
            f"kept although {100 * least.share:.0f} % was lost in the best of {attempts + 1} "
            f"attempts: {least}",
        )
        return True

    def _left_s(self, running: Sequence[tuple[Task, float]]) -> float | None:
        left_s = self._clock.left_s(self._rest, running, 1)
        return None if left_s is None else left_s + len(self._rest) * self._study.rest_s

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped

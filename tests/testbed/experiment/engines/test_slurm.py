"""Jobs that end before their run has, and what Slurm refuses. Whole runs: test_engines.py."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fimi.errors import SurroundingsError
from fimi.testbed.experiment.definition import SlurmRequest
from fimi.testbed.experiment.engines import slurm as module
from fimi.testbed.experiment.engines.base import CommandLine, Task, TaskTimes, View
from fimi.testbed.experiment.engines.worker import TaskEnd

pytest.importorskip("submitit", reason="submitit is not installed (pip install submitit)")


class Run:
    """A task of which rounds are stored, and its job, by hand."""

    def __init__(self, folder: Path) -> None:
        self.stored = 0
        self.task = Task(
            name="tfl-seed0",
            kind="tfl",
            command=lambda: CommandLine(arguments=()),
            log=folder / "log",
            done=lambda: self.stored,
        )
        self.element = module._Element(self.task, folder)
        self._folder = folder
        self._jobs = 0
        self.submit()

    def submit(self) -> None:
        self._jobs += 1
        paths = SimpleNamespace(
            folder=self._folder,
            result_pickle=self._folder / f"{self._jobs}.pkl",
            stderr=self._folder / f"{self._jobs}.err",
        )
        given: Callable[[], Any] = lambda: pickle.loads(paths.result_pickle.read_bytes())  # noqa: E731, S301
        self.job = SimpleNamespace(job_id=f"{self._jobs}_0", paths=paths, result=given)
        self.element.submitted(self.job)

    def gives(self, ended: TaskEnd) -> None:
        self.job.paths.result_pickle.write_bytes(pickle.dumps(ended))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    return Run(tmp_path)


def test_one_that_ends_well_is_over_before_its_job(run: Run) -> None:
    assert not run.element.is_over("RUNNING")
    run.gives(TaskEnd(code=0))
    assert run.element.is_over("RUNNING")
    assert run.element.end("RUNNING") == ("", False)


def test_one_that_fails_is_not_submitted_again(run: Run) -> None:
    run.gives(TaskEnd(code=4, problem="no plan (exit code 4)"))
    assert not run.element.is_over("RUNNING")  # something from outside may have ended it
    assert run.element.is_over("COMPLETED")
    assert run.element.end("COMPLETED") == ("no plan (exit code 4)", False)


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("COMPLETED", TaskEnd(code=-9, problem="killed")),
        ("COMPLETED", TaskEnd(code=130, problem="stopped")),
        ("PREEMPTED", TaskEnd(code=5, problem="a device has ended")),
        ("NODE_FAIL", None),
    ],
)
def test_one_that_was_cut_short_is_submitted_again(
    run: Run, state: str, ended: TaskEnd | None
) -> None:
    if ended is not None:
        run.gives(ended)
    run.element.is_over(state)
    problem, again = run.element.end(state)
    assert again
    assert problem.startswith(f"job 1_0, {state}: ")


def test_as_long_as_rounds_are_finished(run: Run) -> None:
    for stored in (1, 2, 3, 4, 5):
        run.stored = stored
        assert run.element.end("TIMEOUT")[1]
        run.submit()
    assert run.element.end("TIMEOUT")[1]
    run.job.paths.stderr.write_text("slurmstepd: error: CANCELLED DUE TO TIME LIMIT\n")
    problem, again = run.element.end("TIMEOUT")
    assert not again
    assert "DUE TO TIME LIMIT; raise time_min" in problem


def test_a_folder_that_the_nodes_do_not_see_is_said(run: Run) -> None:
    assert "a disk that the nodes share?" in run.element.end("FAILED")[0]


@pytest.mark.usefixtures("slurm")
class TestWithSlurm:
    def test_what_slurm_refuses_is_said(self, tmp_path: Path, run: Run) -> None:
        engine = module.SlurmArray(tmp_path, SlurmRequest(partition="nowhere"))
        with pytest.raises(SurroundingsError, match="Invalid partition"):
            self.conduct(engine, run.task)

    def test_jobs_that_a_killed_call_has_left_are_cancelled(self, tmp_path: Path, run: Run) -> None:
        left = subprocess.run(
            ["sbatch", "--parsable", f"--output={tmp_path}/out", "--wrap", "sleep 600"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        (tmp_path / "slurm").mkdir()
        (tmp_path / "slurm" / "jobs.txt").write_text(left)
        with pytest.raises(SurroundingsError):
            self.conduct(module.SlurmArray(tmp_path, SlurmRequest(partition="nowhere")), run.task)
        assert module._ask([left]) == {left: "CANCELLED"}
        assert module._ask(["999999_0"]) == {"999999_0": module._GONE}

    def conduct(self, engine: module.SlurmArray, task: Task) -> None:
        from threading import Event

        engine.run([task], clock=TaskTimes(), view=View(), stop=Event())

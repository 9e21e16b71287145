"""What every engine promises: the same table to the last digit, whatever happens meanwhile.

One small experiment, in a folder with odd characters: two strategies, one of which has a run that
was killed after its first round, and one that no plan can meet. The undisturbed reference is run by
the local pool.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import slurm_here
from commandline import PATIENCE_S, run_value, wait_until
from msgspec.structs import replace
from same_record import differences

from fimi.testbed.experiment import run
from fimi.testbed.experiment.definition import Experiment, SlurmRequest
from fimi.testbed.experiment.engines.base import Engine, Outcome, Task, View
from fimi.testbed.experiment.engines.pool import LocalPool
from fimi.testbed.experiment.file import read_experiment

TEXT = """
strategies = ["tfl", "fimi", "bad"]
seeds = 1
[base]
fleet.devices = 2
rounds.count = 2
plan.error_max = 0.1
training.backend = "torch"
deployment.export = false
[overrides.bad]
run.strategy = "fimi"
plan.error_max = 0.0271
"""
ODD = "Bögen, 'Äste' & $HOME; \"x\""
METERED = ("generator_j", "server_j", "total_j", "total_at_least")
"""How columns begin whose joules are metered, where this machine has a meter."""

KILLED = """
import os, signal, sys
from fimi.testbed.cli import main
from fimi.testbed.run_folder import RunFolder
RunFolder.accept = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "fimi"
main()
"""
"""The program, killed when it has stored its first round, and not yet the model."""

Make = Callable[[Path], Engine]


class Heard(View):
    """A view that remembers, and does what it is told when a task has begun."""

    def __init__(self, at_start: Callable[[Task], object] = lambda task: None) -> None:
        self.at_start = at_start
        self.begun: list[str] = []
        self.ended: dict[str, str] = {}
        self.notes: list[str] = []

    def started(self, task: Task) -> None:
        self.begun.append(task.name)
        self.at_start(task)

    def noted(self, task: Task, note: str) -> None:
        self.notes.append(note)

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        self.ended[task.name] = problem


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("engines")
    (folder / "e.toml").write_text(TEXT)
    return read_experiment(folder / "e.toml")


@pytest.fixture(scope="module")
def reference(asked: Experiment) -> Experiment:
    """Run by the local pool, undisturbed."""
    there = replace(asked, directory=asked.path.parent / "reference")
    conduct(there, LocalPool(2), Heard())
    run.summarise(there)
    return there


@pytest.fixture(scope="module")
def killed(asked: Experiment) -> Path:
    """The folder of a run of FIMI that was killed after its first round."""
    there = replace(asked, directory=asked.path.parent / "killed")
    (task,) = [task for task in run.tasks(run.plan(there)) if task.name == "fimi-seed0"]
    arguments = task.command().arguments
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], timeout=PATIENCE_S, capture_output=True
    )
    assert ended.returncode < 0, ended.stderr
    assert task.folder is not None
    wait_until(lambda: not children_at(there.folder), "its children have ended")
    assert task.done() == 1
    return task.folder


def _pool(folder: Path) -> Engine:
    return LocalPool(2)


def _ray(folder: Path) -> Engine:
    from fimi.testbed.experiment.engines.ray import RayCluster

    return RayCluster(folder)


def _ray_apart(folder: Path) -> Engine:
    from fimi.testbed.experiment.engines.ray import RayCluster

    return RayCluster(folder, apart=True)


def _slurm(folder: Path) -> Engine:
    from fimi.testbed.experiment.engines.slurm import SlurmArray

    return SlurmArray(folder, SlurmRequest(parallel=2, time_min=10))


def _submitit(folder: Path) -> Engine:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install submitit)")
    from fimi.testbed.experiment.engines.slurm import SlurmArray

    return SlurmArray(folder, SlurmRequest(time_min=10), cluster="local")


ENGINES: dict[str, tuple[str, Make]] = {
    "pool": ("", _pool),
    "ray": ("ray_here", _ray),
    "ray-apart": ("ray_here", _ray_apart),
    "slurm": ("slurm", _slurm),
    "submitit": ("", _submitit),
}
ARRAY = "submitit" if slurm_here.lacking() else "slurm"
"""Slurm, or the same engine with submitit's processes in its place."""


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Make:
    """Makes the engine that a test asks for."""
    needs, make = ENGINES[request.param]
    if needs:
        request.getfixturevalue(needs)
    return make


def conduct(
    asked: Experiment, engine: Engine, view: View, stop: threading.Event | None = None
) -> Outcome:
    with run.alone(asked.folder):
        work = run.plan(asked)
        return run.conduct(work, engine=engine, view=view, stop=stop or threading.Event())


def children_at(folder: Path) -> list[psutil.Process]:
    """Commands that run with a configuration in an experiment's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "fimi.testbed.child" in words and any(str(folder) in word for word in words):
            found.append(process)
    return found


def table(experiment: Experiment) -> dict[str, dict[str, str]]:
    """The lines of ``results.csv`` by run, without what is metered on this machine."""
    with (experiment.folder / "results.csv").open() as file:
        return {
            row["run"]: {k: v for k, v in row.items() if not k.startswith(METERED)}
            for row in csv.DictReader(file)
        }


def in_all(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("make", names, indirect=True)


@in_all("pool", "ray", "ray-apart", "slurm", "submitit")
@pytest.mark.timeout(300)  # three dry runs
def test_the_table_is_that_of_undisturbed_runs_in_the_local_pool(
    make: Make,
    asked: Experiment,
    reference: Experiment,
    killed: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    there = replace(asked, directory=tmp_path / ODD)
    shutil.copytree(killed, there.folder / "runs" / "fimi-seed0")
    heard = Heard()
    outcome = conduct(there, make(there.folder), heard)
    run.summarise(there)
    assert not outcome.interrupted
    assert list(outcome.failures) == ["bad-seed0"]
    assert "error_max" in outcome.failures["bad-seed0"]
    assert "(exit code 4)" in outcome.failures["bad-seed0"]
    assert sorted(heard.begun) == ["bad-seed0", "fimi-seed0", "tfl-seed0"]
    assert heard.ended == {"tfl-seed0": "", "fimi-seed0": ""} | outcome.failures
    assert heard.notes == []
    assert table(there) == table(reference)
    for name in ("tfl-seed0", "fimi-seed0"):
        mine, whole = (each.folder / "runs" / name for each in (there, reference))
        assert differences(whole, mine) == []
        assert (mine / "model.safetensors").read_bytes() == (
            whole / "model.safetensors"
        ).read_bytes()
    apart = "ray-apart" in request.node.name  # the worker does not see the run that was killed
    resumed = run_value(there.folder / "runs" / "fimi-seed0", "resumed")
    assert resumed == (0 if apart else 1)
    assert [each.name for each in there.folder.glob(".ray-*")] == []
    assert [task.name for task in run.tasks(run.plan(there))] == ["bad-seed0"]


@in_all("pool", "ray", "ray-apart", ARRAY)
@pytest.mark.timeout(300)
def test_what_runs_is_ended_when_it_is_stopped(
    make: Make, asked: Experiment, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    there = replace(
        asked,
        directory=tmp_path / ODD,
        strategies=("tfl",),
        base={**asked.base, "rounds.count": 100_000},
    )
    stop = threading.Event()
    place = there.folder if "apart" not in request.node.name else Path("fimi-cell-")

    def stop_it(task: Task) -> None:
        wait_until(lambda: children_at(place), "its process runs")
        stop.set()

    outcome = conduct(there, make(there.folder), Heard(stop_it), stop)
    assert outcome == Outcome(failures={}, interrupted=True)
    wait_until(lambda: not children_at(place), "all processes have ended", 10.0)


@in_all("ray", ARRAY)
@pytest.mark.timeout(300)
def test_a_run_whose_worker_was_lost_goes_on_with_another(
    make: Make, asked: Experiment, reference: Experiment, tmp_path: Path
) -> None:
    there = replace(asked, directory=tmp_path / ODD, strategies=("tfl",))
    lost: list[int] = []

    def lose(task: Task) -> None:
        (child,) = wait_until(lambda: children_at(there.folder), "its process runs")
        lost.append(child.ppid())
        psutil.Process(child.ppid()).kill()

    heard = Heard(lose)
    outcome = conduct(there, make(there.folder), heard)
    assert outcome == Outcome(failures={}, interrupted=False)
    assert len(lost) == 1
    (note,) = heard.notes
    assert "lost" in note or "submitted again" in note
    mine, whole = (each.folder / "runs" / "tfl-seed0" for each in (there, reference))
    assert differences(whole, mine) == []

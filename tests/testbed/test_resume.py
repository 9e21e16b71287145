"""A dry run that is killed and gone on with ends with the numbers of one that was not disturbed.

Moments are told by the run store or by what the program calls, never by time. A kill that comes
later than meant, on a machine under load, hits another moment: the numbers are the same all the
same. ``benchmarks/resume.py`` does it at random moments.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from commandline import PATIENCE_S, SMALL, SharedRun, Workplace, finish, rows, wait_until
from same_record import differences

from fimi.record.recount import recount

KILLED_IN = """
import os, signal, sys
from fimi.testbed.cli import main
from {module} import {owner}
plain, calls = {owner}.{name}, []
def call(*arguments, **options):
    calls.append(1)
    if len(calls) == {nth}:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*arguments, **options)
{owner}.{name} = call
sys.argv[0] = "fimi"
main()
"""
"""The program, killed when it calls something for the nth time."""

GENFL = ("--strategy", "genfl", "--devices", "2", "--rounds", "2", "--set", "data.alpha=1.0")
SEMI = (
    *("--strategy", "semi", "--devices", "3", "--rounds", "2"),
    *("--set", "rounds.participants=2", "--set", "rounds.insight_every=1"),
)


def kill_all(place: Workplace) -> None:
    """As a power cut does."""
    for process in place.processes():
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    wait_until(lambda: not place.processes(), "all are dead")


def kill_when(place: Workplace, query: str, *arguments: str) -> None:
    """Begin or go on with the run ``mine``, and kill everybody once its store answers a query."""
    process = place.start("dry-run", *arguments, stdout=subprocess.DEVNULL)

    wait_until(lambda: process.poll() is not None or has(place, query), query)
    kill_all(place)
    process.communicate()


def kill_in(place: Workplace, module: str, what: str, nth: int, *arguments: str) -> None:
    """Begin the run ``mine``; its command is killed in a call, and its children notice it."""
    owner, name = what.split(".")
    code = KILLED_IN.format(module=module, owner=owner, name=name, nth=nth)
    killed = subprocess.run(
        [sys.executable, "-c", code, "dry-run", *arguments],
        cwd=place.folder,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def has(place: Workplace, query: str) -> bool:
    """Whether the store of the run ``mine`` answers a query with a row."""
    try:
        return bool(rows(store_of(place), query))
    except sqlite3.Error:
        return False  # it is just being made


def store_of(place: Workplace) -> Path:
    return place.folder / "runs" / "mine" / "run.sqlite"


def go_on(place: Workplace, *options: str) -> subprocess.CompletedProcess[str]:
    done = place.run("dry-run", "--resume", "mine", *options)
    assert done.returncode == 0 or "is completed" in done.stderr, done.stderr
    return done


def as_whole(place: Workplace, whole: Path) -> None:
    """The run is complete, the same as one that was not disturbed, and nothing is left over."""
    mine = store_of(place).parent
    assert differences(whole, mine) == []
    again = recount(mine)
    assert again.holds and again.of("holds"), [each.why for each in again.phases]
    assert rows(mine / "run.sqlite", "PRAGMA integrity_check") == [("ok",)]
    assert not (mine / "work").exists()
    for name in ("model.safetensors", "model.onnx", "model-int8.onnx"):
        assert (mine / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.fixture
def options(repeated: SharedRun) -> tuple[str, ...]:
    """Of a run like the undisturbed one."""
    ((kind,),) = rows(
        repeated.run_folder / "run.sqlite", "SELECT config ->> '$.\"broker.kind\"' FROM run"
    )
    return (*SMALL, "--broker-kind", kind, "--name", "mine")


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("SELECT 1 FROM plan", id="the plan is stored"),
        pytest.param("SELECT 1 FROM device_plan", id="plans are announced"),
        pytest.param(
            "SELECT 1 FROM event WHERE event = 'round-started' AND body ->> '$.round' = 2",
            id="a round",
        ),
    ],
)
def test_everybody_is_killed(
    place: Workplace, repeated: SharedRun, options: tuple[str, ...], query: str
) -> None:
    kill_when(place, query, *options)
    done = go_on(place)
    assert "resumed" in done.stdout
    as_whole(place, repeated.run_folder)


@pytest.mark.parametrize(
    ("module", "what", "nth"),
    [
        pytest.param("fimi.testbed.run_folder", "RunFolder.accept", 2, id="store and model"),
        pytest.param("fimi.coordinator.deployment", "Deployments._try", 1, id="trial"),
        pytest.param("fimi.record.store", "RunStore.close", 1, id="end"),
    ],
)
def test_the_command_is_killed(
    place: Workplace,
    repeated: SharedRun,
    options: tuple[str, ...],
    module: str,
    what: str,
    nth: int,
) -> None:
    kill_in(place, module, what, nth, *options)
    go_on(place)
    as_whole(place, repeated.run_folder)


def test_interrupted_it_says_how_to_go_on_and_does(
    place: Workplace, repeated: SharedRun, options: tuple[str, ...]
) -> None:
    """Ctrl-C exports the model of the moment, which is no part of the run when it goes on."""
    process = place.start("dry-run", *options)
    wait_until(
        lambda: process.poll() is not None or has(place, "SELECT 1 FROM round"),
        "a round is stored",
    )
    os.kill(process.pid, signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130, done.stderr
    assert "go on with it: fimi dry-run --resume mine" in done.stderr
    assert rows(store_of(place), "SELECT count(*) FROM model_file") != [(0,)]
    go_on(place)
    as_whole(place, repeated.run_folder)


def test_killed_again_while_it_goes_on(
    place: Workplace, repeated: SharedRun, options: tuple[str, ...]
) -> None:
    kill_when(place, "SELECT 1 FROM round WHERE number = 1", *options)
    kill_when(place, "SELECT 1 FROM round WHERE number = 2", "--resume", "mine")
    go_on(place)
    as_whole(place, repeated.run_folder)


@pytest.mark.parametrize("arguments", [GENFL, SEMI], ids=["genfl", "semi"])
def test_other_strategies(
    place: Workplace, shared_run: Callable[..., SharedRun], arguments: tuple[str, ...]
) -> None:
    whole = shared_run(f"whole-{arguments[1]}", *arguments).run_folder
    kill_when(place, "SELECT 1 FROM round", *SMALL, *arguments, "--name", "mine")
    go_on(place)
    as_whole(place, whole)


def test_a_command_that_began_elsewhere_is_not_disturbed(
    place: Workplace, options: tuple[str, ...]
) -> None:
    """Two commands for one run: the second is told who has it, and the first one goes on."""
    process = place.start("dry-run", *options)
    wait_until(lambda: has(place, "SELECT 1 FROM plan"), "a plan is stored")
    done = place.run("dry-run", "--resume", "mine")
    assert done.returncode == 3
    assert f"is written by process {process.pid}" in done.stderr
    assert finish(process).returncode == 0

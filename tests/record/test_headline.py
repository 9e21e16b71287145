"""A run in one line says what its summary says, and how it stands."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from random_values import structs

from fimi.energy.joules import Energy
from fimi.record.events import Intervened, InterventionAsked
from fimi.record.headline import headline
from fimi.record.interventions import GoOn, PauseRun, Request, SetDeadline
from fimi.record.reader import ReportError, read_run
from fimi.record.record import RunInfo
from fimi.record.results import DeviceRound, Preparation, RoundResult
from fimi.record.store import RunStore
from fimi.record.summary import summarise

NAMES = st.sampled_from(["a", "b", "c"])


def entries(kind: type) -> st.SearchStrategy[Any]:
    """Random ones; without evidence, which is of dynamic energy alone and may overflow there."""
    some = structs(kind, device=NAMES, evidence=st.just(()))
    return st.lists(some, max_size=3, unique_by=lambda e: e.device)


def alike(ours: Energy | None, theirs: Energy | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return (ours.value_j, ours.kind, ours.scope, ours.source) == (
        theirs.value_j,
        theirs.kind,
        theirs.scope,
        theirs.source,
    ) and ours.uncertainty_j == pytest.approx(theirs.uncertainty_j, rel=1e-9, abs=1e-12)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    before=entries(Preparation),
    rounds=st.lists(entries(DeviceRound), max_size=3),
    last=st.floats(0, 1),
)
def test_joules_are_those_of_the_summary_to_the_last_digit(
    before: list[Preparation], rounds: list[list[DeviceRound]], last: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "run.sqlite", RunInfo(run="r"))
        for each in before:
            store.write_preparation(each)
        for number, devices in enumerate(rounds, 1):
            store.write_round(
                RoundResult(
                    number=number,
                    start_s=0.0,
                    duration_s=1.0,
                    evaluation=_judged(last / number),
                    devices=tuple(devices),
                )
            )
        store.close()
        found = headline(Path(folder))
        summary = summarise(run := read_run(folder))
    assert found.whole == (summary.energy.value is not None)
    assert alike(found.energy, summary.energy.known)
    assert found.devices == len(run.devices)
    assert found.rounds == len(run.rounds)
    assert found.accuracy == (run.rounds[-1].evaluation.accuracy if run.rounds else None)


def _judged(accuracy: float) -> Any:
    from fimi.learning.training.trainer import Evaluation

    return Evaluation(accuracy=accuracy, loss=1.0, class_accuracy=(None,), samples=4)


def test_it_says_what_the_store_says(run_dir: Path) -> None:
    found = headline(run_dir)
    assert (found.run, found.strategy, found.data, found.seed) == ("a-run", "fimi", "digits", 3)
    assert (found.devices, found.rounds, found.rounds_asked, found.accuracy) == (2, 3, 3, 0.7)
    assert found.standing == "completed"
    assert found.energy == summarise(read_run(run_dir)).energy.value


def test_a_gap_makes_the_sum_a_part(tmp_path: Path, build: Any) -> None:
    gone = [build.device_round("device-0", unread=("upload",)), build.device_round("device-1")]
    build.write(tmp_path / "r", rounds=[build.round_result(1, gone, 0.5)])
    found = headline(tmp_path / "r")
    assert not found.whole
    assert found.energy == summarise(read_run(tmp_path / "r")).energy.known


WRITES = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from stored_runs import write_run
store = write_run(Path(sys.argv[1]), about={{"strategy": "tfl"}}, close=False)
print("written", flush=True)
time.sleep(60)
"""


def test_a_run_is_running_as_long_as_its_process_lives_and_killed_after_that(
    tmp_path: Path,
) -> None:
    code = WRITES.format(path=[str(Path(__file__).parent)])
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "r")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        while_it_lives = headline(tmp_path / "r")
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        after = headline(tmp_path / "r")
    assert (while_it_lives.standing, while_it_lives.rounds) == ("running", 3)
    assert after.standing == "killed"


def test_a_run_pauses_from_when_that_is_served_until_it_goes_on(tmp_path: Path, build: Any) -> None:
    def served(request: Request, done: bool = True) -> Intervened:
        return Intervened(
            round=1, number=1, request=request, by="anna", asked_at=1.0, done=done, words="so it is"
        )

    store = build.write(tmp_path / "r", about={"status": "running"}, close=False)
    steps = [
        (InterventionAsked(number=1, request=PauseRun(), by="anna", asked_at=1.0), False),
        (served(PauseRun()), True),
        (served(SetDeadline(deadline_s=9.0)), True),
        (served(GoOn(), done=False), True),
        (served(GoOn()), False),
        (served(PauseRun(), done=False), False),
        (served(PauseRun()), True),
    ]
    for event, pauses in steps:
        store.write_event(event)
        found = headline(tmp_path / "r")
        assert (found.standing, found.paused) == ("running", pauses), event
    store.close()
    after = headline(tmp_path / "r")
    assert (after.standing, after.paused) == ("killed", False)


def test_what_is_cut_off_in_the_middle_is_an_error_that_names_the_store(run_dir: Path) -> None:
    store = run_dir / "run.sqlite"
    whole = store.read_bytes()
    for part in (0, 50, len(whole) // 10, len(whole) // 2, len(whole) - 5000):
        store.write_bytes(whole[:part])
        with pytest.raises(ReportError, match=str(store)):
            headline(run_dir)
    db = sqlite3.connect(store)
    db.close()

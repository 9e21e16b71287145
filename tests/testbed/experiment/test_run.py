"""From an experiment to its results, with run stores made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from stored_cells import better_with, store

from fimi.testbed.experiment import run
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.file import read_experiment

TEXT = """
strategies = ["tfl", "fimi"]
seeds = [0, 1]
equal_compute = 7
[tune]
seeds = [100]
[tune.grid]
training.learning_rate = [0.2, 0.3]
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    path = tmp_path / "e.toml"
    path.write_text(TEXT)
    return replace(read_experiment(path), directory=tmp_path)


def test_nothing_is_chosen_before_all_have_ended(experiment: Experiment) -> None:
    *most, last = run.plan(experiment).of("tuning")
    for cell in most:
        store(cell, accuracy=better_with(0.3, cell))
    work = run.plan(experiment)
    assert (work.choices, work.of("tuned"), work.to_come) == ((), [], 4)
    store(last, status="interrupted")
    assert run.plan(experiment).choices == ()


def test_then_what_was_chosen_is_to_be_run(experiment: Experiment) -> None:
    for cell in run.plan(experiment).of("tuning"):
        store(cell, accuracy=better_with(0.3 if cell.label == "fimi" else 0.2, cell))
    work = run.plan(experiment)
    rates = {c.label: c.config.training.learning_rate for c in work.of("tuned")}
    assert rates == {"tfl": 0.2, "fimi": 0.3}
    assert work.to_come == 0
    # TFL's runs with 0.2 are those as configured: 4 of these, and 2 of FIMI's with 0.3
    assert len(work.having("absent")) == 4 + 2
    assert work.left_s == pytest.approx(6 * 30.0)
    assert work.strangers == []


def test_a_run_that_failed_ends_the_tuning_too(experiment: Experiment) -> None:
    for cell in run.plan(experiment).of("tuning"):
        fails = cell.label == "tfl" and cell.config.training.learning_rate == 0.3
        store(cell, status="failed" if fails else "completed", accuracy=better_with(0.3, cell))
    taken = {c.label: c.taken and c.taken.settings for c in run.plan(experiment).choices}
    assert taken == {
        "tfl": {"training.learning_rate": 0.2},
        "fimi": {"training.learning_rate": 0.3},
    }


def test_notes_of_all_runs_are_told(experiment: Experiment) -> None:
    for cell in run.plan(experiment).of("tuning"):
        fails = cell.label == "tfl" and cell.config.training.learning_rate == 0.3
        store(cell, status="failed" if fails else "completed", accuracy=better_with(0.3, cell))
    found = run.summarise(experiment)
    # seeds 0 and 1 of both, but TFL's with 0.2 as tuned are those as configured
    kinds = [note.partition(": ")[0] for note in found.notes[1:]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "as configured": 4,
        "to tune with": 1,
        "tuned": 4,
    }
    table = (experiment.folder / "table.md").read_text()
    assert "| tfl | 0.3 | missing | – | – |  |" in table.splitlines()


def test_how_long_it_takes_is_not_known_before_a_run_has_ended(experiment: Experiment) -> None:
    work = run.plan(experiment)
    assert work.left_s is None
    assert work.to_come == 4
    store(work.of("tuning")[0])
    # 4 as configured, 3 to tune with, at most 4 with what is chosen
    assert run.plan(experiment).left_s == pytest.approx(11 * 30.0)


def test_both_sides_and_equal_compute_are_in_the_results(experiment: Experiment) -> None:
    for cell in run.plan(experiment).of("tuning"):
        store(cell, accuracy=better_with(0.3, cell))
    for cell in run.plan(experiment).having("absent"):
        store(cell, accuracy=better_with(0.3, cell))
    found = run.summarise(experiment)
    assert found.tuned is not None
    assert {r.target for r in found.records} == {0.5}
    assert {r.target for r in found.tuned.records} == {0.9}
    assert found.notes[0].startswith("equal compute: every device trains 7 steps")
    assert "settings on the tuning seeds" in (experiment.folder / "table.md").read_text()
